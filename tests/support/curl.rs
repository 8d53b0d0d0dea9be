//! Asking a peer over HTTP, with a client that is not ours.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

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
