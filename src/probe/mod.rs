//! Asks a server which certificate it serves.
//!
//! One question is one new connection and one full handshake: no resumption, TLS 1.2 or 1.3, the
//! protocol's STARTTLS dialogue first where there is one; by a client that takes every kind of key,
//! or one family alone, for servers that have a certificate of each. Trust is not judged:
//! certificates are recorded as they come, also where the handshake fails afterwards, as with
//! servers that demand a certificate of their clients. Servers are not trusted either: every byte
//! and wait is bounded.
//!
//! Not here: whether what is served is the right one, and asking again ([`crate::deploy`]).

mod ask;
mod dialogue;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod recorder;
mod resolve;
mod starttls;
#[cfg(test)]
pub(crate) mod test_server;

pub use ask::{Approach, ProbeError, Served, ask, ask_at};
pub use dialogue::DialogueError;
pub use resolve::{MAX_ADDRESSES, resolve};
pub use starttls::{StartTls, StartTlsError};
