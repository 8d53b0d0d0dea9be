//! The rows A of the fault catalogue: a CA that misbehaves, played by the scripted one, and the
//! whole of renewd in this process against it, in virtual time.
//!
//! Each test names its row. Beside the row's own outcome it asks what holds of all of them: the
//! pair that servers read stays whole, nothing is asked again in a hurry, and what failed is told
//! with its step, its URL and the next try.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "../support/ca/mod.rs"]
pub mod ca;
#[path = "../support/mod.rs"]
pub mod support;
#[path = "../support/vault.rs"]
pub mod vault;

mod accounts;
mod advice;
mod availability;
mod certificates;
mod connection;
mod control;
mod counting;
mod honest;
mod orders;
mod resumed;
mod revocation;
mod seasons;
#[path = "../bench/soak/mod.rs"]
mod soak;
mod solvers;
mod times;
mod twins;
mod unfinished;
mod world;
