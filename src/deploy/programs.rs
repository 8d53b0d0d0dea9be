//! What is run, or signalled, to test and reload a server.
//!
//! Not here: how programs are run ([`crate::sys::process`]), and when ([`super::direct`]).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::turn::Held;
use super::{DeployRequest, InstallContent, ProgramSettings, ReloadSettings};
use crate::sys::process::{self, Finished, ProcessError, Program};
use crate::sys::signal::{SignalError, send_to_pid_file};
use crate::sys::transient;
use crate::sys::trust::{self, DistrustError, Stranger};

/// Programs that steer servers and never read our environment, by file name. One run of them serves
/// every certificate; any other program may be somebody's script that looks after the one that
/// `RENEWD_CERTIFICATE` names, and is run for each.
const STEERS_SERVERS: [&str; 25] = [
    "angie",
    "apache2ctl",
    "apachectl",
    "caddy",
    "docker",
    "doveadm",
    "dovecot",
    "haproxy",
    "httpd",
    "invoke-rc.d",
    "kill",
    "killall",
    "kubectl",
    "nginx",
    "openresty",
    "pg_ctl",
    "pkill",
    "podman",
    "postfix",
    "rc-service",
    "s6-svc",
    "service",
    "supervisorctl",
    "sv",
    "systemctl",
];

/// A server could not be told to load its files.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The program failed.
    #[error(transparent)]
    Program(#[from] ProcessError),
    /// The signal was not sent.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// systemd could not reload the unit.
    #[error("systemd can't reload {unit}")]
    Unit {
        /// The unit.
        unit: String,
        /// What systemctl said.
        #[source]
        source: ProcessError,
    },
    /// The work was broken off: the agent ends, or has a fault.
    #[error("the work was broken off")]
    BrokenOff(#[source] tokio::task::JoinError),
}

impl ReloadError {
    /// What a human can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unit { source: ProcessError::Start { .. }, .. } => {
                Some("is this a machine with systemd? Else give a command or a signal".into())
            }
            Self::Unit { unit, .. } => {
                Some(format!("`systemctl status {unit}` and `journalctl -u {unit}` say more"))
            }
            Self::Signal(SignalError::NotRunning { .. } | SignalError::PidFile { .. }) => {
                Some("is the server running, and is that its pid file?".into())
            }
            Self::Program(error) => program_hint(error),
            Self::Signal(SignalError::Untrusted { .. }) => Some(
                "have the server write its pid file where the daemon's user can't change it, or \
                 reload it by { systemd = \"UNIT\" } or a command"
                    .into(),
            ),
            Self::Signal(_) | Self::BrokenOff(_) => None,
        }
    }
}

/// What a human can do about a program that could not be run.
pub(super) fn program_hint(error: &ProcessError) -> Option<String> {
    match error {
        ProcessError::Start { program, .. } => {
            Some(format!("is {program} installed and executable? Give its whole path"))
        }
        ProcessError::Untrusted { source: DistrustError::OwnedBy { .. }, program } => {
            Some(format!(
                "name no file there, such as {program}, but one that only root can change; those \
                 of the certificate are named by RENEWD_PRIVKEY and RENEWD_FULLCHAIN"
            ))
        }
        ProcessError::Untrusted { source, .. } => source.hint(),
        ProcessError::Nothing | ProcessError::TimedOut { .. } | ProcessError::Failed { .. } => None,
    }
}

/// For whom programs are started, and how.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    for_whom: ForWhom,
    /// The target's turn, kept by whatever hangs on a mount on the way to a program.
    _turn: Option<Arc<Held>>,
}

#[derive(Clone, Debug)]
enum ForWhom {
    /// For this process, as children.
    Ourselves,
    /// For a client. Only those that nobody but root and we ourselves can change; as transient
    /// units, where systemd runs the machine and we are root, else as children.
    Client(Arc<Client>),
}

impl Launch {
    /// On behalf of `client`; `None`: for this process.
    pub(super) fn on_behalf_of(client: Option<Arc<Client>>) -> Self {
        Self { for_whom: client.map_or(ForWhom::Ourselves, ForWhom::Client), _turn: None }
    }

    /// The same in the `turn` of a target.
    pub(super) fn in_turn(self, turn: &Arc<Held>) -> Self {
        Self { _turn: Some(Arc::clone(turn)), ..self }
    }

    /// Runs `program` so.
    async fn run(&self, program: Program) -> Result<Finished, ProcessError> {
        let program = self.settled(program).await?;
        match self.for_whom {
            ForWhom::Client(_) if transient::is_possible() => transient::run(&program).await,
            ForWhom::Client(_) | ForWhom::Ourselves => process::run(&program).await,
        }
    }

    /// `program` with its name replaced by where it is, where that has to be trusted: as has what
    /// its arguments name, scripts for an interpreter among them. Else it is looked up alone: what
    /// hangs on a mount must hang here, where it stops nobody else.
    async fn settled(&self, mut program: Program) -> Result<Program, ProcessError> {
        let launch = self.clone();
        let name = program.arguments.first().ok_or(ProcessError::Nothing)?.clone();
        let settle = move || {
            match &launch.for_whom {
                ForWhom::Client(client) => {
                    let path = find_for(client, &program.arguments)?;
                    if let Some(first) = program.arguments.first_mut() {
                        *first = path.to_string_lossy().into_owned();
                    }
                }
                ForWhom::Ourselves => {
                    program.arguments.first().map(|it| process::find(it)).transpose()?;
                }
            }
            drop(launch);
            Ok(program)
        };
        let broken_off = |error| ProcessError::Start { program: name, source: error };
        let settled = tokio::task::spawn_blocking(settle).await;
        settled.map_err(std::io::Error::other).map_err(broken_off)?
    }

    /// That the program of `arguments` is there, and may be run so. Blocks.
    fn check(&self, arguments: &[String]) -> Result<(), ProcessError> {
        let name = arguments.first().ok_or(ProcessError::Nothing)?;
        process::find(name)?;
        match &self.for_whom {
            ForWhom::Client(client) => find_for(client, arguments).map(drop),
            ForWhom::Ourselves => Ok(()),
        }
    }

    /// Where `pid_file` leads to, unless a client could choose which process it names. Blocks.
    fn pid_file(&self, pid_file: &Path) -> Result<PathBuf, SignalError> {
        let stranger = match &self.for_whom {
            ForWhom::Client(client) => client.stranger(),
            ForWhom::Ourselves => None,
        };
        let path = pid_file.to_owned();
        let Some(stranger) = stranger else { return Ok(path) };
        trust::check_not_of(pid_file, &stranger).map_err(|error| match error {
            DistrustError::Unreadable { source, .. } => SignalError::PidFile { path, source },
            source => SignalError::Untrusted { path, source },
        })
    }

    /// Signals the process of `pid_file`, unless a client could choose that process. Blocks.
    fn signal(&self, signal: &str, pid_file: &Path) -> Result<(), SignalError> {
        send_to_pid_file(signal, &self.pid_file(pid_file)?)
    }
}

/// Where the program of `arguments` is, if it and what they name may be trusted on behalf of
/// `client`. Blocks.
fn find_for(client: &Client, arguments: &[String]) -> Result<PathBuf, ProcessError> {
    let (name, rest) = arguments.split_first().ok_or(ProcessError::Nothing)?;
    let path = process::find_trusted(name)?;
    if let Some(stranger) = client.stranger() {
        rest.iter().try_for_each(|it| check_argument(it, &stranger))?;
    }
    Ok(path)
}

/// That `argument` is no path to anything that `stranger` can change. What is not there yet could
/// not be made by him: the way to it has been judged.
fn check_argument(argument: &str, stranger: &Stranger) -> Result<(), ProcessError> {
    if !argument.starts_with('/') {
        return Ok(());
    }
    match trust::check_not_of(Path::new(argument), stranger) {
        Ok(_) | Err(DistrustError::Unreadable { .. }) => Ok(()),
        Err(source) => Err(ProcessError::Untrusted { program: argument.to_owned(), source }),
    }
}

/// Whether the program of `settings` is there. Blocks.
///
/// # Errors
///
/// [`ProcessError`] if it is not, or would not be run.
pub(super) fn check(settings: &ProgramSettings, launch: &Launch) -> Result<(), ProcessError> {
    launch.check(&settings.arguments)
}

/// Whether what reloads a server as `settings` say is there. A server that does not run, whose pid
/// file is missing, may run by then. Blocks.
///
/// # Errors
///
/// [`ReloadError`] if it is not, or would not be used.
pub(super) fn check_reload(settings: &ReloadSettings, launch: &Launch) -> Result<(), ReloadError> {
    match settings {
        ReloadSettings::Systemd { unit, timeout } => launch
            .check(&systemctl(unit, *timeout).arguments)
            .map_err(|source| ReloadError::Unit { unit: unit.clone(), source }),
        ReloadSettings::Signal { pid_file, .. } => match launch.pid_file(pid_file) {
            Ok(_) | Err(SignalError::PidFile { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        },
        ReloadSettings::Command(settings) => Ok(check(settings, launch)?),
    }
}

/// Runs a test of a server's configuration for `request`.
///
/// A test that complains of a mismatch is repeated once: a server that opens key and certificate
/// one after the other may have seen the switch of `current` between the two.
///
/// # Errors
///
/// [`ProcessError`] with what the program printed.
pub(super) async fn test(
    settings: &ProgramSettings,
    request: &DeployRequest,
    certs_dir: &Path,
    launch: Launch,
) -> Result<(), ProcessError> {
    let program = program(settings, request, certs_dir);
    match launch.run(program.clone()).await {
        Err(ProcessError::Failed { output, .. }) if output.contains("mismatch") => {
            launch.run(program).await.map(drop)
        }
        other => other.map(drop),
    }
}

/// Reloads a server as `settings` say, for `request`.
///
/// # Errors
///
/// [`ReloadError`]; the server may have reloaded all the same.
pub(super) async fn reload(
    settings: &ReloadSettings,
    request: &DeployRequest,
    certs_dir: &Path,
    launch: Launch,
) -> Result<(), ReloadError> {
    match settings {
        ReloadSettings::Systemd { unit, timeout } => {
            let failed = |source| ReloadError::Unit { unit: unit.clone(), source };
            let program = launch.settled(systemctl(unit, *timeout)).await.map_err(failed)?;
            // It only asks systemd for something: no unit of its own is needed for that.
            process::run(&program).await.map(drop).map_err(failed)
        }
        ReloadSettings::Signal { signal, pid_file } => {
            let (signal, pid_file) = (signal.clone(), pid_file.clone());
            let sent = tokio::task::spawn_blocking(move || launch.signal(&signal, &pid_file));
            Ok(sent.await.map_err(ReloadError::BrokenOff)??)
        }
        ReloadSettings::Command(settings) => {
            Ok(launch.run(program(settings, request, certs_dir)).await.map(drop)?)
        }
    }
}

/// Whether one reload serves every certificate of the target, whoever asked for it.
pub(super) fn serves_all(settings: &ReloadSettings) -> bool {
    match settings {
        ReloadSettings::Systemd { .. } | ReloadSettings::Signal { .. } => true,
        ReloadSettings::Command(program) => steers_servers(program),
    }
}

/// Whether `program` is known never to read the environment that it is given.
pub(super) fn steers_servers(program: &ProgramSettings) -> bool {
    let first = program.arguments.first().map(Path::new);
    let name = first.and_then(Path::file_name).and_then(|it| it.to_str());
    name.is_some_and(|it| STEERS_SERVERS.contains(&it))
}

/// A program as one would type it.
pub(super) fn command_line(settings: &ProgramSettings) -> String {
    settings.arguments.join(" ")
}

/// What `settings` have done, as one would type it or say it.
pub(super) fn reload_line(settings: &ReloadSettings) -> String {
    match settings {
        ReloadSettings::Systemd { unit, timeout } => systemctl(unit, *timeout).arguments.join(" "),
        ReloadSettings::Signal { pid_file, .. } => pid_file.display().to_string(),
        ReloadSettings::Command(program) => command_line(program),
    }
}

/// The verb reloads a unit that can reload, restarts one that can't, and leaves alone one that does
/// not run: a server that somebody stopped is not for us to start.
fn systemctl(unit: &str, timeout: Duration) -> Program {
    let arguments = ["systemctl", "--no-ask-password", "try-reload-or-restart", "--", unit];
    Program {
        arguments: arguments.map(String::from).to_vec(),
        environment: Vec::new(),
        input: Vec::new(),
        directory: None,
        timeout,
    }
}

fn program(settings: &ProgramSettings, request: &DeployRequest, certs_dir: &Path) -> Program {
    Program {
        arguments: settings.arguments.clone(),
        environment: environment(request, certs_dir),
        input: Vec::new(),
        directory: None,
        timeout: settings.timeout,
    }
}

fn environment(request: &DeployRequest, certs_dir: &Path) -> Vec<(String, OsString)> {
    let directory =
        certs_dir.join(request.certificate.as_str()).join(request.generation.to_string());
    let file = |content: InstallContent| directory.join(content.file_name()).into_os_string();
    let variables = [
        ("RENEWD_CERTIFICATE", request.certificate.as_str().into()),
        ("RENEWD_TARGET", request.target.as_str().into()),
        ("RENEWD_GENERATION", request.generation.to_string().into()),
        ("RENEWD_FULLCHAIN", file(InstallContent::FullChain)),
        ("RENEWD_PRIVKEY", file(InstallContent::PrivateKey)),
        ("RENEWD_DIRECTORY", directory.clone().into_os_string()),
    ];
    // A key that is elsewhere has no name here.
    let is_there =
        |key: &str, value: &OsString| key != "RENEWD_PRIVKEY" || Path::new(value).exists();
    let there = variables.into_iter().filter(|(key, value)| is_there(key, value));
    there.map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(program: &str) -> ReloadSettings {
        let arguments = vec![program.to_owned(), "reload".to_owned()];
        ReloadSettings::Command(ProgramSettings { arguments, timeout: Duration::from_secs(60) })
    }

    #[test]
    fn a_script_is_run_for_each_certificate_and_a_servers_own_tool_once_for_all() {
        for shared in ["nginx", "/usr/sbin/nginx", "/bin/systemctl", "docker"] {
            assert!(serves_all(&command(shared)), "{shared}");
        }
        for own in ["/usr/local/bin/after-renewal", "sh", "nginx.sh", "", "/"] {
            assert!(!serves_all(&command(own)), "{own}");
        }
    }

    #[test]
    fn a_unit_can_not_be_mistaken_for_an_option() {
        let program = systemctl("-H evil", Duration::from_secs(60));
        let end = program.arguments.iter().position(|it| it == "--").unwrap();
        assert_eq!(program.arguments[end + 1..], ["-H evil"]);
    }

    #[test]
    fn programs_are_told_what_is_deployed() {
        let request = DeployRequest {
            certificate: "site".parse().unwrap(),
            generation: crate::model::Generation(7),
            target: "nginx".parse().unwrap(),
        };
        let certs = tempfile::tempdir().unwrap();
        let lines = || -> Vec<String> {
            let variables = environment(&request, certs.path());
            let line = |(key, value): &(String, OsString)| format!("{key}={}", value.display());
            variables.iter().map(line).collect()
        };
        let folder = certs.path().join("site/0007");
        let told = |key: &str, file: &str| format!("{key}={}", folder.join(file).display());
        let mut expected = vec![
            "RENEWD_CERTIFICATE=site".to_owned(),
            "RENEWD_TARGET=nginx".to_owned(),
            "RENEWD_GENERATION=0007".to_owned(),
            told("RENEWD_FULLCHAIN", "fullchain.pem"),
            format!("RENEWD_DIRECTORY={}", folder.display()),
        ];
        assert_eq!(lines(), expected, "there is no key");
        std::fs::create_dir_all(&folder).unwrap();
        let access = crate::sys::atomic::Access::mode(0o600);
        crate::sys::atomic::write(&folder.join("privkey.pem"), b"", access).unwrap();
        expected.insert(4, told("RENEWD_PRIVKEY", "privkey.pem"));
        assert_eq!(lines(), expected);
    }
}
