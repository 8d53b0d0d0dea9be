//! What fuzzing feeds to this module: requests and handshakes of strangers, answers of DNS servers.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

pub use super::dns01::fuzz::message as dns_message;
pub use super::listener::fuzz::{client_hello, http01_request};
