//! The client against a scripted CA on loopback, for what no real CA does on request.
//!
//! Not here: the friendly way, which `tests/acme.rs` goes with a real Pebble.

mod account;
mod order;
mod renewal_info;
mod scripted;
mod wire;
