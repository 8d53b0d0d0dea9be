//! Changes DNS by a program of the operator's: an argument list, and no shell.
//!
//! Behind its own arguments it gets `add` or `remove`, then the record's name, the value and the
//! zone, none with a dot at its end. Exit code 0 means that it is done. It must add beside other
//! values and remove this one alone; a value that is there already, or is not there, is no failure.
//! `options` and the lines `NAME=value` of `key` are its whole environment.
//!
//! Not here: where programs may be run at all ([`crate::assemble`] decides).

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::{Secret, TxtRecord, chain_text};
use crate::sys::process::{self, Program};

use super::provider::{DnsProvider, Failure, ProviderError, redacted};
use super::settings::ProviderSettings;

/// How long it may take to add a value: a program ends before the change is given up.
const ADD_LIMIT: Duration = Duration::from_secs(100);
/// The same of its removal.
const REMOVE_LIMIT: Duration = Duration::from_secs(25);

/// Whether programs may be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Programs {
    /// They may.
    Run,
    /// They may not: a process with more rights does all that programs are needed for, or nobody.
    Refused,
}

/// A program that changes DNS.
pub(super) struct ByProgram {
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
    secrets: Vec<Secret>,
    programs: Programs,
}

impl fmt::Debug for ByProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByProgram").field("arguments", &self.arguments).finish_non_exhaustive()
    }
}

impl ByProgram {
    /// The program that `settings` name.
    pub(super) fn new(settings: &ProviderSettings, programs: Programs) -> Self {
        let plain = settings.values.iter().map(|(name, value)| (name.clone(), value.into()));
        let secrets: Vec<_> = settings.secrets.get("key").into_iter().flat_map(lines).collect();
        let secret = secrets.iter().map(|(name, value)| (name.clone(), value.reveal().into()));
        Self {
            arguments: settings.program.clone(),
            environment: plain.chain(secret).collect(),
            secrets: secrets.into_iter().map(|(_, value)| value).collect(),
            programs,
        }
    }

    async fn run(
        &self,
        action: &str,
        record: &TxtRecord,
        timeout: Duration,
    ) -> Result<(), ProviderError> {
        self.check().await?;
        let TxtRecord { name, value, zone } = record;
        // Aliases lead where others may say: no program should have to quote what they wrote.
        let is_plain =
            |it: &String| it.chars().all(|it| it.is_ascii_alphanumeric() || "-._".contains(it));
        if ![name, value, zone].into_iter().all(is_plain) {
            return Err(ProviderError::NotPlain { name: name.clone() });
        }
        let mut arguments = self.arguments.clone();
        if let Some(program) = arguments.first_mut() {
            let found = process::find_trusted(program).map_err(|it| self.failed(zone, &it))?;
            *program = found.to_string_lossy().into_owned();
        }
        arguments.extend([action, name, value, zone].map(str::to_owned));
        let program = Program {
            arguments,
            environment: self.environment.clone(),
            input: Vec::new(),
            directory: None,
            timeout,
        };
        process::run(&program).await.map(drop).map_err(|it| self.failed(zone, &it))
    }

    /// What the program printed may hold what it was given.
    fn failed(&self, zone: &str, error: &process::ProcessError) -> ProviderError {
        ProviderError::Api {
            provider: "the program".to_owned(),
            zone: zone.to_owned(),
            failure: Failure::Other,
            message: redacted(&chain_text(error), &self.secrets),
        }
    }
}

#[async_trait]
impl DnsProvider for ByProgram {
    async fn check(&self) -> Result<(), ProviderError> {
        match self.programs {
            Programs::Run => Ok(()),
            Programs::Refused => Err(ProviderError::NoPrograms),
        }
    }

    async fn add(&self, record: &TxtRecord) -> Result<(), ProviderError> {
        self.run("add", record, ADD_LIMIT).await
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), ProviderError> {
        self.run("remove", record, REMOVE_LIMIT).await
    }
}

/// The variables that `document` holds, a line each: `NAME=value`, taken as it is. Empty lines, and
/// those that begin with `#`, say nothing.
fn lines(document: &Secret) -> impl Iterator<Item = (String, Secret)> {
    let lines = document.reveal().lines().filter(|it| !says_nothing(it));
    lines.filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.trim().to_owned(), Secret::new(value.trim_end().to_owned())))
    })
}

fn says_nothing(line: &str) -> bool {
    line.trim().is_empty() || line.trim_start().starts_with('#')
}

/// Whether each line of `document` sets a variable.
pub(super) fn is_environment(document: &Secret) -> bool {
    let mut said = document.reveal().lines().filter(|it| !says_nothing(it));
    said.all(|it| it.split_once('=').is_some_and(|(name, _)| is_variable(name.trim())))
}

/// Whether `name` can be that of a variable, and is none of the two that all programs get.
pub(super) fn is_variable(name: &str) -> bool {
    let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let begins = name.chars().next().is_some_and(|it| it.is_ascii_alphabetic() || it == '_');
    begins && name.chars().all(is_part) && !["PATH", "LANG"].contains(&name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn program(script: &str, programs: Programs) -> ByProgram {
        let settings = ProviderSettings {
            name: "program".to_owned(),
            program: ["/bin/sh", "-c", script, "sh"].map(str::to_owned).to_vec(),
            values: BTreeMap::from([("PLAIN".to_owned(), "$(id) 'a'".to_owned())]),
            secrets: BTreeMap::from([(
                "key".to_owned(),
                Secret::new("# what follows is secret\n\nHIDDEN=can=ary \n".to_owned()),
            )]),
        };
        ByProgram::new(&settings, programs)
    }

    fn record(name: &str) -> TxtRecord {
        let (zone, value) = ("example.com".to_owned(), "the-value".to_owned());
        TxtRecord { zone, name: name.to_owned(), value }
    }

    #[tokio::test]
    async fn a_program_gets_action_name_value_and_zone_and_its_environment_as_it_is() {
        let expected = "remove _acme-challenge.example.com the-value example.com";
        let script = format!(
            "[ \"$*\" = '{expected}' ] && [ \"$PLAIN\" = '$(id) '\\''a'\\''' ] \
                     && [ \"$HIDDEN\" = can=ary ]"
        );
        let program = program(&script, Programs::Run);
        program.remove(&record("_acme-challenge.example.com")).await.unwrap();
        assert!(program.add(&record("_acme-challenge.example.com")).await.is_err());
    }

    #[tokio::test]
    async fn what_a_program_prints_is_told_without_secrets() {
        let program = program("echo no such zone, $HIDDEN; exit 3", Programs::Run);
        let error = chain_text(&program.add(&record("a.example.com")).await.unwrap_err());
        assert!(error.contains("no such zone, (secret)"), "{error}");
        assert!(!format!("{program:?}").contains("can=ary"));
    }

    #[tokio::test]
    async fn a_name_that_a_shell_could_misread_reaches_no_program() {
        let program = program("exit 0", Programs::Run);
        for name in ["$(id).example.com", "a b.example.com", "a;b.example.com", "`id`.example"] {
            let error = program.add(&record(name)).await.unwrap_err();
            assert!(matches!(error, ProviderError::NotPlain { .. }), "{name}");
        }
    }

    #[tokio::test]
    async fn where_programs_are_refused_none_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("was-run");
        let program = program(&format!("echo > {}", file.display()), Programs::Refused);
        for error in [program.check().await, program.add(&record("a.example.com")).await] {
            let error = error.unwrap_err();
            assert!(error.hint().unwrap().contains("deployer = \"direct\""), "{error}");
        }
        assert!(!file.exists());
    }

    #[test]
    fn variables_have_names_that_are_none_of_ours() {
        for wrong in ["", "1A", "A-B", "A B", "PATH", "LANG", "é"] {
            assert!(!is_variable(wrong), "{wrong:?}");
        }
        assert!(is_variable("NSUPDATE_SERVER"));
        assert!(is_environment(&Secret::new("A=1\n#x\n B_2=\n".to_owned())));
        assert!(!is_environment(&Secret::new("A=1\nexport B\n".to_owned())));
    }
}
