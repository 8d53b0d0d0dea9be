//! All certificates, for as long as the process runs.
