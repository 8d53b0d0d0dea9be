//! Runs programs as transient units of systemd: in a control group of their own, outside of our
//! sandbox, with limits, and with nothing of them left when they end.
//!
//! Not here: machines without systemd ([`super::process`] runs programs as children), and which
//! programs.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::clock::{Clock, SystemClock};
use super::process::{self, Finished, ProcessError, Program, SEARCH_PATH};

/// Limits of every unit, beside its time. `KillMode` is the default, and stands here since that
/// nothing is left behind hangs on it.
///
/// There is no `NoNewPrivileges`: it takes nothing from a program that is root already, and where
/// the kernel confines a server's own tool by its label, it would keep the tool from that.
const PROPERTIES: [&str; 4] =
    ["KillMode=control-group", "TasksMax=512", "MemoryMax=2G", "TimeoutStopSec=5"];

/// What systemd may take to set up and tear down, beyond the program's own time.
const MARGIN: Duration = Duration::from_secs(15);

/// Whether programs can be run so: systemd is what runs this machine, and we are root.
#[must_use]
pub fn is_possible() -> bool {
    Path::new("/run/systemd/system").is_dir() && rustix::process::geteuid().is_root()
}

/// Runs `program`, whose first argument is an absolute path, to its end. Exit code 0 is the only
/// success; what it left running has been ended.
///
/// # Errors
///
/// As [`process::run`]; [`ProcessError::Start`] also where systemd can't be asked.
pub async fn run(program: &Program) -> Result<Finished, ProcessError> {
    let name = program.arguments.first().ok_or(ProcessError::Nothing)?.clone();
    let clock = SystemClock::new();
    let mut command = in_unit(program);
    if let Some(first) = command.arguments.first_mut() {
        *first = process::find_trusted(first)?.to_string_lossy().into_owned();
    }
    let ran = process::run(&command).await;
    let limit = program.timeout;
    let rename = |error| match error {
        // systemd-run says of a unit that ran out of time only that it failed.
        ProcessError::Failed { output, .. } if clock.monotonic() >= limit => {
            ProcessError::TimedOut { program: name, limit, output }
        }
        ProcessError::Failed { output, .. } if is_of_systemd_run(&output) => ProcessError::Start {
            program: name,
            source: io::Error::other(output.trim().to_owned()),
        },
        ProcessError::Failed { ended, output, .. } => {
            ProcessError::Failed { program: name, ended, output }
        }
        ProcessError::TimedOut { output, .. } => {
            ProcessError::TimedOut { program: name, limit, output }
        }
        other @ (ProcessError::Start { .. }
        | ProcessError::Nothing
        | ProcessError::Untrusted { .. }) => other,
    };
    ran.map_err(rename)
}

/// The command that has systemd run `program`.
fn in_unit(program: &Program) -> Program {
    let options = ["--wait", "--pipe", "--collect", "--quiet", "--service-type=exec"];
    let mut arguments = vec!["systemd-run".to_owned()];
    arguments.extend(options.map(str::to_owned));
    let limit = program.timeout.as_millis();
    let properties = PROPERTIES.map(str::to_owned).into_iter();
    for property in properties.chain([format!("RuntimeMaxSec={limit}ms")]) {
        arguments.extend(["-p".to_owned(), property]);
    }
    let directory = program.directory.as_deref().unwrap_or_else(|| Path::new("/"));
    arguments.push(format!("--working-directory={}", directory.display()));
    let fixed = [("PATH", SEARCH_PATH.into()), ("LANG", "C.UTF-8".into())];
    let own = program.environment.iter().map(|(key, value)| (key.as_str(), value.clone()));
    for (key, value) in fixed.into_iter().chain(own) {
        arguments.push(format!("--setenv={key}={}", value.to_string_lossy()));
    }
    arguments.push("--".to_owned());
    let (first, rest) = program.arguments.split_at(program.arguments.len().min(1));
    arguments.extend_from_slice(first);
    // systemd puts variables into arguments, and takes two dollars for one.
    arguments.extend(rest.iter().map(|it| it.replace('$', "$$")));
    Program {
        arguments,
        environment: Vec::new(),
        input: program.input.clone(),
        directory: None,
        timeout: program.timeout + MARGIN,
    }
}

/// Whether `output` is systemd-run's own complaint and not the program's.
fn is_of_systemd_run(output: &str) -> bool {
    output.starts_with("Failed to start transient service unit")
        || output.starts_with("Failed to connect to bus")
        || output.starts_with("Failed to create bus connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_handed_to_systemd_as_a_list_with_its_limits() {
        let program = Program {
            arguments: vec!["/usr/sbin/nginx".into(), "-t".into(), "a $HOME b".into()],
            environment: vec![("RENEWD_TARGET".into(), "nginx".into())],
            input: Vec::new(),
            directory: None,
            timeout: Duration::from_secs(60),
        };
        let command = in_unit(&program).arguments;
        let end = command.iter().position(|it| it == "--").unwrap();
        assert_eq!(command[end + 1..], ["/usr/sbin/nginx", "-t", "a $$HOME b"]);
        for wanted in
            ["--wait", "--collect", "RuntimeMaxSec=60000ms", "--setenv=RENEWD_TARGET=nginx"]
        {
            assert!(command[..end].iter().any(|it| it == wanted), "{wanted}");
        }
    }

    #[test]
    fn a_complaint_of_systemd_run_is_no_answer_of_the_program() {
        assert!(is_of_systemd_run("Failed to connect to bus: No such file or directory\n"));
        assert!(!is_of_systemd_run("nginx: configuration file /etc/nginx.conf test failed\n"));
    }
}
