//! Tests of the whole: the built program and the library, against real peers.

#[path = "../support/mod.rs"]
pub mod support;

mod alerts;
mod deploy;
mod peers;
