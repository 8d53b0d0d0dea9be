//! Hands a certificate to the servers that use it: install, test, reload, verify.
//!
//! Not here: when to do so ([`crate::plan`]), and what is remembered of it ([`crate::lifecycle`]).

mod settings;

pub use settings::{
    InstallContent, InstallSettings, ProgramSettings, ReloadSettings, TargetSettings,
    VerifySettings,
};
