//! Named points at which a test may kill the process, to see that the next one goes on from there.
//!
//! `RENEWD_CRASH_AT` says where to die, in one of three ways:
//!
//! - `issue.account`: where the point of this name is passed first;
//! - `atomic.renamed:next/privkey.pem`: where it is first passed for a file whose path ends so;
//! - `17`: at the seventeenth point that is passed, whichever it is.
//!
//! With `panic:` before it, it panics there instead, whenever it passes.
//!
//! `RENEWD_CRASH_TRACE` names a file to which each point is added as it is passed, a line for each.
//!
//! Without the feature `crash-points`, which no release has, a point is nothing.
//!
//! Not here: which points there are; each stands where it is passed. `tests/it/crash` has a row for
//! each of them.

use std::path::Path;

/// Dies here if `RENEWD_CRASH_AT` says so.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    armed::pass(name, None);
}

/// As [`point`], for a step that is taken for many files, here for `path`.
#[cfg(feature = "crash-points")]
pub fn point_at(name: &str, path: &Path) {
    armed::pass(name, Some(path));
}

/// Does nothing: this program was built without the feature `crash-points`.
#[cfg(not(feature = "crash-points"))]
pub const fn point(_name: &str) {}

/// Does nothing: this program was built without the feature `crash-points`.
#[cfg(not(feature = "crash-points"))]
pub const fn point_at(_name: &str, _path: &Path) {}

#[cfg(feature = "crash-points")]
mod armed {
    #![expect(
        clippy::disallowed_methods,
        reason = "a trace is written as it comes, for tests alone"
    )]

    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The variable that says where to die.
    const AT: &str = "RENEWD_CRASH_AT";

    /// The variable that names the file for what was passed.
    const TRACE: &str = "RENEWD_CRASH_TRACE";

    /// How many points this process has passed.
    static PASSED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn pass(name: &str, path: Option<&Path>) {
        let number = PASSED.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        trace(name, path);
        let Ok(wanted) = std::env::var(AT) else { return };
        let panics = wanted.strip_prefix("panic:");
        if !is_meant(panics.unwrap_or(&wanted), name, path, number) {
            return;
        }
        assert!(panics.is_none(), "at {name}, as it was told to");
        die();
    }

    /// Whether `wanted` means the point `name`, passed for `path` as the `number`-th of all.
    pub(super) fn is_meant(wanted: &str, name: &str, path: Option<&Path>, number: u64) -> bool {
        if let Ok(wanted) = wanted.parse::<u64>() {
            return wanted == number;
        }
        match wanted.split_once(':') {
            Some((wanted, end)) => wanted == name && path.is_some_and(|it| it.ends_with(end)),
            None => wanted == name,
        }
    }

    fn trace(name: &str, path: Option<&Path>) {
        let Some(file) = std::env::var_os(TRACE) else { return };
        let line =
            path.map_or_else(|| format!("{name}\n"), |it| format!("{name}:{}\n", it.display()));
        // One write, so that lines of several threads and processes do not mix.
        let opened = OpenOptions::new().create(true).append(true).open(file);
        drop(opened.and_then(|mut it| it.write_all(line.as_bytes())));
    }

    fn die() {
        // KILL, not exit: no destructor, no flush and no handler may tidy up, as in a power cut.
        let killed =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal may arrive a moment later; nothing must happen in that moment.
        while killed.is_ok() {
            std::thread::park();
        }
    }
}

#[cfg(all(test, feature = "crash-points"))]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_meant_by_its_name_its_file_or_its_number() {
        let path = Path::new("/state/private/certificates/site/next/privkey.pem");
        let check = |wanted: &str, is_meant: bool| {
            assert_eq!(
                armed::is_meant(wanted, "atomic.renamed", Some(path), 7),
                is_meant,
                "{wanted}"
            );
        };
        check("atomic.renamed", true);
        check("atomic.renamed:privkey.pem", true);
        check("atomic.renamed:next/privkey.pem", true);
        check("7", true);
        for wanted in
            ["atomic.renamed:key.pem", "atomic.written", "atomic.written:privkey.pem", "6", ""]
        {
            check(wanted, false);
        }
        assert!(!armed::is_meant("issue.account:privkey.pem", "issue.account", None, 7));
    }
}
