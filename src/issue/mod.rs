//! From a spec to an issued certificate.
