//! Makes proofs of control visible to a CA, and takes them away again.
//!
//! Not here: what is to be proven, and telling the CA to look ([`crate::issue`]).

mod settings;

pub use settings::{SolverMethod, SolverSettings};
