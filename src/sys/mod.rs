//! The machine's edge: the only place that replaces files, starts programs, reads the clock,
//! asks for users and speaks HTTP.
//!
//! Not here: what any of it is for.

pub mod activation;
pub mod atomic;
pub mod beneath;
pub mod clock;
pub mod crash;
pub mod dump;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
pub mod host;
pub mod http;
pub mod notify;
pub mod process;
pub mod signal;
pub mod signals;
pub mod socket;
pub mod transient;
pub mod trust;
pub mod user;
pub mod volume;
