//! From a spec to an issued certificate.

pub mod check;
pub mod csr;
