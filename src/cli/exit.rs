//! The exit codes; scripts rely on them.

use std::process::ExitCode;

use crate::model::{Failure, Health};

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

    /// The exit code of what ended with `failures`.
    #[must_use]
    pub fn of_failures(failures: &[Failure]) -> Self {
        if failures.iter().any(|it| OF_THE_STATE.contains(&it.code.as_str())) {
            Self::State
        } else if failures.is_empty() {
            Self::AsWanted
        } else {
            Self::Failed
        }
    }
}

/// The codes of failures to read or write the state directory, or to find room in it.
const OF_THE_STATE: [&str; 3] = ["store.failed", "store.not_ready", "acme.account_not_kept"];

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn a_state_directory_that_can_not_be_used_outweighs_whatever_else_failed() {
        let exit = |codes: &[&str]| {
            let failure = |code: &&str| Failure {
                at: Timestamp::EPOCH,
                code: (*code).to_owned(),
                message: String::new(),
                hint: None,
            };
            Exit::of_failures(&codes.iter().map(failure).collect::<Vec<_>>())
        };
        assert_eq!(exit(&[]), Exit::AsWanted);
        assert_eq!(exit(&["acme.caa"]), Exit::Failed);
        for code in OF_THE_STATE {
            assert_eq!(exit(&["acme.caa", code, "deploy.test"]), Exit::State);
        }
    }
}
