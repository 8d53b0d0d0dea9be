//! Named points at which a test may kill the process, to see that the next one goes on from there.
//!
//! Without the feature `crash-points`, which no release has, a point is nothing.
//!
//! Not here: which points there are; each stands where it is passed.

/// The variable that names the point at which to die.
#[cfg(feature = "crash-points")]
const VARIABLE: &str = "RENEWD_CRASH_AT";

/// Kills this process at once if it was built with the feature `crash-points` and the environment's
/// `RENEWD_CRASH_AT` is `name`; else does nothing.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    if std::env::var_os(VARIABLE).is_none_or(|wanted| wanted != name) {
        return;
    }
    // KILL, not exit: no destructor, no flush and no handler may tidy up, as in a power cut.
    let killed =
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal may arrive a moment later; nothing must happen in that moment.
    while killed.is_ok() {
        std::thread::park();
    }
}

/// Kills this process at once if it was built with the feature `crash-points` and the environment's
/// `RENEWD_CRASH_AT` is `name`; else does nothing.
#[cfg(not(feature = "crash-points"))]
pub const fn point(_name: &str) {}
