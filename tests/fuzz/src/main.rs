//! One program for all targets, so that there is one to link: `RENEWD_FUZZ_TARGET` names the one
//! that is fed. `tests/fuzz.sh` builds and runs it.

#![no_main]

mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

fuzz_target!(
    init: {
        let wanted = std::env::var("RENEWD_FUZZ_TARGET").expect("RENEWD_FUZZ_TARGET names a target");
        let found = targets::TARGETS.iter().find(|(name, _)| *name == wanted);
        let (_, target) = found.expect("RENEWD_FUZZ_TARGET names one of the targets");
        // What a target sets up once takes none of an input's time.
        target(&[]);
        TARGET.set(*target).expect("this is done once");
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(data);
        }
    }
);
