//! Asks a server which certificate it serves.
//!
//! Not here: whether that is the right one ([`crate::deploy`]).

mod starttls;

pub use starttls::{StartTls, StartTlsError};
