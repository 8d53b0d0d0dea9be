//! Certificates that we sign ourselves, by rcgen: placeholders, and those of the built-in CA.
//!
//! The built-in CA ([`LocalCa`]) is a root, intermediates below it and leafs below these. What is
//! to be made next is a pure decision (`hierarchy`), making it is a pure function of keys, time and
//! serial number (`sign`), and `authority` carries both out, one document after the other, so that
//! a kill at any moment only costs what was not yet on disk.
//!
//! Not here: where keys and certificates are kept ([`crate::model::AuthorityVault`]), and when a
//! certificate is wanted.

mod authority;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod hierarchy;
mod placeholder;
mod settings;
mod sign;
mod subtree;

pub use authority::{LeafRequest, LocalCa};
pub use error::{LocalCaError, LostKeyError};
pub use hierarchy::{Authority, AuthorityError, NewRoot};
pub use placeholder::{PlaceholderError, placeholder};
pub use settings::LocalCaSettings;
pub use sign::{Serial, SignError, sign_leaf};
pub use subtree::{Subtree, SubtreeError};

#[cfg(test)]
mod tests;
