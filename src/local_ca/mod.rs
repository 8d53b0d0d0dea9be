//! Certificates that we sign ourselves, by rcgen.
