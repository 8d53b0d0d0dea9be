//! Kills the program at every single passing of every point, in every flow, and at many random
//! moments; prints what held: `cargo bench --profile dev --all-features --bench crash_matrix`.
//!
//! `CRASH_MOMENTS` is how many random moments there are in each flow (200), `CRASH_SEED` what they
//! come from, `CRASH_FLOWS` which flows are wanted (`first,renewal,daemon,rollover`). Ends with 1
//! if anything did not hold. What is checked after each kill stands in `tests/it/crash/scene.rs`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench may panic, and prints"
)]

#[expect(dead_code, reason = "helpers that tests alone need")]
#[path = "../it/site.rs"]
mod site;
#[path = "../support/mod.rs"]
pub mod support;

#[path = "../it/crash/paid.rs"]
mod paid;
#[path = "../it/crash/reader.rs"]
mod reader;
#[path = "../it/crash/scene.rs"]
mod scene;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use scene::{Flow, Scene, Strike, When};
use site::ProofBy;

/// The flows by the names that `CRASH_FLOWS` has for them.
const FLOWS: [(&str, Flow); 4] = [
    ("first", Flow::First),
    ("renewal", Flow::Renewal),
    ("daemon", Flow::Daemon),
    ("rollover", Flow::RollOver),
];

/// What came of the kills at one point in one flow.
#[derive(Default)]
struct Count {
    passings: usize,
    kills: usize,
    violations: Vec<String>,
}

impl Count {
    fn add(&mut self, strike: Strike) {
        self.passings += 1;
        self.kills += usize::from(strike.was_killed);
        self.violations.extend(strike.violations);
    }
}

fn main() -> ExitCode {
    let wanted = std::env::var("CRASH_FLOWS").unwrap_or_default();
    let moments = number("CRASH_MOMENTS", 200);
    let mut random = fastrand::Rng::with_seed(number("CRASH_SEED", 1));
    let mut total = Count::default();
    println!("{:<9} {:<46} {:>8} {:>6} {:>10}", "flow", "point", "passings", "kills", "violations");
    for (name, flow) in FLOWS.iter().filter(|it| wanted.is_empty() || wanted.contains(it.0)) {
        let mut scene = Scene::new(ProofBy::Webroot, false);
        if *flow != Flow::First {
            scene.begin();
        }
        let mut counts = at_every_passing(&mut scene, *flow);
        counts.insert(
            "(a random moment)".to_owned(),
            at_random(&mut scene, *flow, moments, &mut random),
        );
        for (point, count) in counts {
            let Count { passings, kills, violations } = count;
            println!("{name:<9} {point:<46} {passings:>8} {kills:>6} {:>10}", violations.len());
            violations.iter().for_each(|it| println!("    {it}"));
            total.passings += passings;
            total.kills += kills;
            total.violations.extend(violations);
        }
    }
    let Count { passings, kills, violations } = total;
    println!("{:<9} {:<46} {passings:>8} {kills:>6} {:>10}", "all", "", violations.len());
    ExitCode::from(u8::from(!violations.is_empty()))
}

/// By point: a kill at each of its passings.
fn at_every_passing(scene: &mut Scene, flow: Flow) -> BTreeMap<String, Count> {
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let passed = scene.trace(flow);
    for (number, point) in (1..).zip(&passed) {
        scene.forget_what_was_spent();
        let strike = scene.strike(flow, When::At(&format!("{number}")));
        counts.entry(shortened(point)).or_default().add(strike);
    }
    counts
}

fn at_random(scene: &mut Scene, flow: Flow, count: u64, random: &mut fastrand::Rng) -> Count {
    let mut moments = Count::default();
    if flow == Flow::RollOver {
        return moments;
    }
    if flow == Flow::First {
        scene.forget();
        scene.begin();
    }
    let length = scene.length();
    for _ in 0..count {
        let delay = length.mul_f64(random.f64());
        scene.forget_what_was_spent();
        moments.add(scene.strike(flow, When::After(delay.max(Duration::from_millis(1)))));
    }
    moments
}

/// `point` with no more of its path than tells documents apart.
fn shortened(point: &str) -> String {
    let Some((name, path)) = point.split_once(':') else { return point.to_owned() };
    let parts: Vec<&str> = path.rsplit('/').take(2).collect();
    let (file, folder) = (parts[0], parts.get(1).copied().unwrap_or_default());
    if file.starts_with(".renewd") {
        return format!("{name}:(waiting)");
    }
    if folder.starts_with(".renewd") || folder.starts_with("kept-") || folder.len() == 4 {
        return format!("{name}:{file}");
    }
    format!("{name}:{folder}/{file}")
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|it| it.parse().ok()).unwrap_or(otherwise)
}
