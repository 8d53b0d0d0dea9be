//! http-01 (RFC 8555 §8.3): a resource below `/.well-known/acme-challenge/` whose name is the token
//! and whose content is the key authorization.
//!
//! Two ways: files that a web server shows ([`Webroot`]), and a small web server of our own
//! ([`super::listener`]), whose words are here.

mod answer;
mod request;
mod webroot;

pub(super) use answer::converse;
pub use webroot::Webroot;
