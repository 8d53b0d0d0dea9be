//! What instant-acme lacks: signing with a key that was on disk first, and accounts made with it.
//!
//! Not here: the transport ([`super::wire`]); orders, which are instant-acme's.

pub(in crate::acme) mod account;
pub(in crate::acme) mod jws;
pub(in crate::acme) mod revocation;
