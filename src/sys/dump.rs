//! No image of this process's memory, which holds keys and passwords, is written to disk when it
//! dies, and no other process of its user can read it.
//!
//! Not here: swap, which is the machine's to encrypt; programs that are started, which hold none of
//! it and may dump what they like.

use rustix::process::{DumpableBehavior, Resource, getrlimit, set_dumpable_behavior, setrlimit};

/// From now on this process leaves no core dump. Best effort: a system that refuses is no reason
/// not to renew certificates.
pub fn prevent() {
    let limit = getrlimit(Resource::Core);
    let limited = setrlimit(Resource::Core, rustix::process::Rlimit { current: Some(0), ..limit });
    // The limit alone does not hold back a program that the kernel hands dumps to (core(5)).
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    for error in [limited.err(), hidden.err()].into_iter().flatten() {
        tracing::debug!(%error, "core dumps can't be prevented");
    }
}
