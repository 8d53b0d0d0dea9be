//! Asking a peer over HTTP, with a client that is not ours.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::run;
use super::programs::Peers;

/// How long one question may take.
const CURL_LIMIT: Duration = Duration::from_secs(30);

/// Asks for a URL, with curl's own `args`.
///
/// # Errors
///
/// What curl says, also for a status of 400 and above.
pub fn curl(args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(Peers::locate().curl);
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "20"]);
    let done = run(command.args(args), CURL_LIMIT);
    if done.code == 0 { Ok(done.stdout) } else { Err(done.stderr) }
}

/// Asks over the Unix socket `socket` as the user and group `user`, with curl's own `args`; the
/// status of the answer, and what it says. Needs root.
///
/// # Errors
///
/// What curl says if there is no answer.
pub fn curl_as(user: u32, socket: &Path, args: &[&str]) -> Result<(String, String), String> {
    // By its own path, which everybody may pass through.
    let curl = std::fs::canonicalize(Peers::locate().curl).map_err(|it| it.to_string())?;
    let mut command = Command::new(curl);
    command.uid(user).gid(user).current_dir("/").arg("--unix-socket").arg(socket);
    command.args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"]);
    let done = run(command.args(args), CURL_LIMIT);
    let answer = done.stdout.rsplit_once('\n').filter(|_| done.code == 0);
    let (body, status) = answer.ok_or(done.stderr)?;
    Ok((status.to_owned(), body.to_owned()))
}
