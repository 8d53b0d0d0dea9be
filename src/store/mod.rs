//! Everything below the state directory.
//!
//! Not here: what is kept and why; files that servers read elsewhere ([`crate::deploy`]).

mod settings;

pub use settings::StoreSettings;
