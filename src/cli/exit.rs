//! The exit codes; scripts rely on them.

use std::process::ExitCode;

use crate::model::Health;

/// How a command ended. The numbers are part of the contract and in the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As wanted: nothing due, or done, or routine work under way.
    AsWanted = 0,
    /// Something that was asked for failed, or there is an open warning.
    Failed = 1,
    /// The command line can't be understood.
    Usage = 2,
    /// The configuration has faults.
    Configuration = 3,
    /// Waited for another process in vain.
    Waited = 4,
    /// The state directory can't be used.
    State = 5,
    /// What is served is wrong, expired, or within the critical share of its life.
    Critical = 6,
}

impl Exit {
    /// The exit code of `health` where a warning counts.
    #[must_use]
    pub const fn of(health: Health) -> Self {
        match health {
            Health::Ok => Self::AsWanted,
            Health::Warning => Self::Failed,
            Health::Critical => Self::Critical,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
