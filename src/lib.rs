//! `renewd` keeps TLS certificates alive: orders and renews them over ACME (RFC 8555), stores them
//! so that a reader never gets half of one, makes servers load them, and proves that they do.
//!
//! The modules stand in the order of their layers, lowest first; `tests/layers.rs` holds the code
//! to it. ARCHITECTURE.md says what each is for.

pub mod model;
pub mod plan;
pub mod sys;
pub mod store;
pub mod acme;
pub mod local_ca;
pub mod solver;
pub mod probe;
pub mod deploy;
pub mod observe;
pub mod config;
pub mod issue;
pub mod lifecycle;
pub mod assemble;
pub mod daemon;
pub mod api;
pub mod cli;
