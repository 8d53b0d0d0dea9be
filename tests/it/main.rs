//! Tests of the whole: the built program and the library, against real peers.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "../support/mod.rs"]
pub mod support;

mod accounts;
mod alert_delivery;
mod alerts;
mod ari;
mod canary;
mod chains;
mod challenges;
#[cfg(feature = "crash-points")]
mod crash;
mod damage;
mod daemon;
mod deploy;
mod deployer;
mod disks;
mod dns;
mod dry_run;
mod expiry;
mod faults;
mod issuance;
mod keys;
mod ledger;
mod local_ca;
#[path = "../bench/measure.rs"]
mod measure;
mod one_shot;
mod peers;
mod preflight;
mod processes;
mod providers;
mod proxy;
mod refusals;
mod requests;
mod revocation;
#[cfg(feature = "crash-points")]
mod revocation_crash;
mod site;
mod standing;
mod standins;
#[cfg(feature = "crash-points")]
mod standins_crash;
mod supervision;
mod truths;
