//! The ACME protocol (RFC 8555): instant-acme behind our own client and transport.
//!
//! Not here: who proves control and how ([`crate::solver`]); when to ask ([`crate::plan`]).

mod settings;

pub use settings::{CaSettings, ExternalAccountBinding};
