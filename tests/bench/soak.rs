//! Runs fleets of certificates for 400 days of virtual time and prints what came of it: ten
//! thousand by what renewd decides by, three hundred by the whole of it.
//!
//! `cargo bench --profile dev --all-features --bench soak -- [SEED [CERTIFICATES STACK DAYS]]`; of
//! none, the part is left out. It fails if a certificate expired while its CA was there, if one of
//! the CA's limits was run into, or if memory or descriptors grew.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench may panic, and prints"
)]

#[path = "../support/ca/mod.rs"]
pub mod ca;
#[path = "soak/mod.rs"]
mod soak;
#[path = "../support/mod.rs"]
pub mod support;

use renewd::sys::clock::{Clock, SystemClock};
use soak::{Fate, Figures};

fn main() {
    // Cargo says --bench, which is not for us.
    let numbers: Vec<u64> = std::env::args().filter_map(|it| it.parse().ok()).collect();
    let number = |index: usize, otherwise| numbers.get(index).copied().unwrap_or(otherwise);
    let seed = number(0, 1);
    let certificates = usize::try_from(number(1, 10_000)).unwrap();
    let stack = usize::try_from(number(2, 300)).unwrap();
    let days = u32::try_from(number(3, 400)).unwrap();
    let (outage, incident) = (days / 2, days / 4);
    let fate = Fate { certificates, days, seed, outage, incident };

    let clock = SystemClock::new();
    if fate.certificates > 0 {
        let figures = soak::decisions::live(fate, |_, _| {});
        print(&format!("decisions: {fate:?}"), &figures, &clock);
    }

    let fate = Fate { certificates: stack, ..fate };
    if fate.certificates > 0 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let figures = runtime.block_on(soak::stack::live(fate, |day, figures| {
            if day % 20 == 0 {
                println!("  day {day}: {} works, {:?}", figures.works, clock.monotonic());
            }
        }));
        print(&format!("whole: {fate:?}"), &figures, &clock);
    }
}

fn print(what: &str, figures: &Figures, clock: &SystemClock) {
    println!("{what}, after {:?}\n{figures}", clock.monotonic());
    figures.check();
    check_footprint(figures);
}

/// The second half of the time needs no more room than the first.
fn check_footprint(figures: &Figures) {
    let (early, late) = figures.footprint.split_at(figures.footprint.len() / 2);
    let most = |part: &[(u32, u64, usize)]| {
        let memory = part.iter().map(|it| it.1).max().unwrap_or_default();
        (memory, part.iter().map(|it| it.2).max().unwrap_or_default())
    };
    let ((memory, descriptors), (late_memory, late_descriptors)) = (most(early), most(late));
    assert!(late_memory <= memory + memory / 5 + 8192, "memory grows\n{figures}");
    assert!(late_descriptors <= descriptors + 16, "descriptors grow\n{figures}");
}
