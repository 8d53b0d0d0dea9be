//! The ACME protocol (RFC 8555): instant-acme behind our own client and transport.
//!
//! [`AcmeClient`] stands for one CA, [`Order`] for one order with it. The steps of an order are
//! instant-acme's; what it sends runs through our `tap`, which shares nonces and the directory,
//! keeps what a CA says beside its JSON, and survives what that crate does not know.
//!
//! Not here: who proves control and how ([`crate::solver`]); when to ask ([`crate::plan`]).

mod account;
mod authorization;
mod client;
mod error;
mod explain;
mod ext;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod header;
mod hint;
mod nonce;
mod object;
mod order;
mod poll;
mod problem;
mod renewal_info;
mod settings;
mod tap;
mod wire;

pub use account::{AccountAction, AccountReport};
pub use authorization::{Authorization, Challenge};
pub use client::{AcmeClient, OrderRequest, Readiness};
pub use error::{AcmeError, Place, Step};
pub use ext::jws::AccountKeyError;
pub use header::{MAX_RETRY_AFTER, MIN_RETRY_AFTER, retry_after};
pub use object::{AuthorizationStatus, ChallengeStatus, OrderStatus};
pub use order::Order;
pub use problem::{Problem, ProblemKind, Subproblem};
pub use settings::{CaSettings, ExternalAccountBinding};
pub use wire::Traffic;

#[cfg(test)]
mod tests;
