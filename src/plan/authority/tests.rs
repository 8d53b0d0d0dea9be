use std::time::Duration;

use crate::model::{Failure, Retry};

use super::*;

/// The life is so long that a 24th of it is a hundred seconds.
const LIFE: u64 = 2400;

fn at(seconds: u64) -> Timestamp {
    Timestamp::EPOCH.saturating_add(Duration::from_secs(seconds))
}

fn ca(name: &str) -> WantedCa {
    WantedCa {
        name: name.parse().unwrap(),
        directory: format!("https://{name}/dir"),
        test: false,
        wants_proof: name != "three",
    }
}

/// A certificate of use, of which the warning share begins at 1800 and the last sixth at 2000.
fn alive() -> Stakes<'static> {
    let life = Validity { not_before: at(0), not_after: at(LIFE) };
    let pauses = Pauses::Heeded;
    Stakes { life: Some(life), warning: Share::new(1, 4), pauses, unproven: None }
}

fn nothing_of_use() -> Stakes<'static> {
    Stakes { life: None, ..alive() }
}

/// Failed at each of `times`, which say `fault`, with pauses of ten seconds.
fn failed(fault: Fault, times: &[u64]) -> CaState {
    let mut attempts = Attempts::default();
    for time in times {
        attempts.fail(failure(*time), Retry::BackOff, Duration::from_secs(10));
    }
    CaState { attempts, fault: Some(fault), ..CaState::default() }
}

/// Said at `time` that it is not to be asked before `until`.
fn told_to_wait(time: u64, until: u64) -> CaState {
    let mut attempts = Attempts::default();
    attempts.fail(failure(time), Retry::NotBefore(at(until)), Duration::from_secs(10));
    CaState { attempts, fault: Some(Fault::Outage), ..CaState::default() }
}

fn failure(time: u64) -> Failure {
    Failure { at: at(time), code: "acme.failed".into(), message: "failed".into(), hint: None }
}

struct World {
    states: [Option<CaState>; 3],
    refused_until: Option<Timestamp>,
    order_at: Option<usize>,
    just_asked: Option<usize>,
}

/// Three CAs, of which the third wants no proof. The first has this record, the others were not
/// asked.
fn first(state: CaState) -> World {
    World { states: [Some(state), None, None], ..fresh() }
}

fn fresh() -> World {
    World { states: [None, None, None], refused_until: None, order_at: None, just_asked: None }
}

fn decided(world: &World, stakes: &Stakes<'_>, now: u64) -> Turn {
    let cas = ["one", "two", "three"].map(ca);
    let candidates: Vec<Candidate<'_>> = cas
        .iter()
        .zip(&world.states)
        .enumerate()
        .map(|(index, (ca, known))| Candidate {
            ca,
            known: known.as_ref(),
            refused_until: world.refused_until.filter(|_| index == 0),
            has_order: world.order_at == Some(index),
            was_just_asked: world.just_asked == Some(index),
        })
        .collect();
    turn(&candidates, stakes, at(now)).unwrap()
}

#[track_caller]
fn check_asked(world: &World, stakes: &Stakes<'_>, now: u64, name: &str, why: Option<Why>) {
    let passed = why.map(|why| PassedBy { ca: "one".parse().unwrap(), why });
    let choice = Choice { ca: name.parse().unwrap(), stands_in: passed };
    assert_eq!(decided(world, stakes, now), Turn::Ask(choice), "at {now}");
}

#[track_caller]
fn check_waits(world: &World, stakes: &Stakes<'_>, now: u64, until: u64) {
    let waits = Turn::Wait { until: at(until), needs_change: false };
    assert_eq!(decided(world, stakes, now), waits, "at {now}");
}

#[test]
fn the_first_is_asked_first_and_again_whenever_its_pause_is_over() {
    check_asked(&fresh(), &alive(), 1200, "one", None);
    let failing = first(failed(Fault::Outage, &[1200]));
    check_waits(&failing, &alive(), 1209, 1210);
    check_asked(&failing, &alive(), 1210, "one", None);
    // Also when its turn has been over for long.
    check_asked(&failing, &alive(), 1790, "one", None);
}

#[test]
fn an_outage_and_a_refusal_end_the_turn_after_a_24th_of_the_life() {
    for fault in [Fault::Outage, Fault::Refusal] {
        let world = first(failed(fault, &[1200, 1295]));
        check_waits(&world, &alive(), 1299, 1300);
        check_asked(&world, &alive(), 1300, "two", Some(Why::FailingSince(at(1200))));
    }
}

#[test]
fn little_life_left_ends_the_turn_at_once() {
    let world = first(failed(Fault::Outage, &[1795]));
    check_waits(&world, &alive(), 1799, 1800);
    check_asked(&world, &alive(), 1800, "two", Some(Why::LittleLifeLeft));
    // Who is warned late is not late: the last sixth counts too.
    let stakes = Stakes { warning: Share::new(1, 100), ..alive() };
    let world = first(failed(Fault::Outage, &[1995]));
    check_waits(&world, &stakes, 1999, 2000);
    check_asked(&world, &stakes, 2000, "two", Some(Why::LittleLifeLeft));
}

#[test]
fn a_failed_proof_is_no_reason_to_ask_another_until_little_life_is_left() {
    let world = first(failed(Fault::Proof, &[1200, 1790]));
    check_waits(&world, &alive(), 1795, 1800);
    let world = first(failed(Fault::Proof, &[1200, 1799]));
    check_asked(&world, &alive(), 1800, "two", Some(Why::LittleLifeLeft));
}

#[test]
fn whom_the_cas_word_takes_past_its_turn_has_lost_it_at_once() {
    check_asked(
        &first(told_to_wait(1200, 1300)),
        &alive(),
        1200,
        "two",
        Some(Why::NotBefore(at(1300))),
    );
    check_waits(&first(told_to_wait(1200, 1299)), &alive(), 1200, 1299);
    // The same by what is known of its limits, where it has not failed at all.
    let known = |until| World { refused_until: Some(at(until)), ..fresh() };
    check_asked(&known(1300), &alive(), 1200, "two", Some(Why::NotBefore(at(1300))));
    check_waits(&known(1299), &alive(), 1200, 1299);
    check_asked(&known(1200), &alive(), 1200, "one", None);
}

#[test]
fn without_a_certificate_the_number_of_failures_ends_the_turn_by_their_kind() {
    let stakes = nothing_of_use();
    for (fault, enough) in [(Fault::Refusal, 1), (Fault::Outage, 2), (Fault::Proof, 4)] {
        let times = [100, 110, 120, 130];
        let world = first(failed(fault, &times[..enough]));
        check_asked(&world, &stakes, times[enough - 1], "two", Some(Why::NothingOfUse));
        if enough > 1 {
            let before = enough - 2;
            let world = first(failed(fault, &times[..=before]));
            check_waits(&world, &stakes, times[before], times[before] + 10);
        }
    }
}

#[test]
fn without_a_certificate_a_word_that_is_longer_than_our_pause_ends_the_turn_at_once() {
    let stakes = nothing_of_use();
    let world = first(told_to_wait(100, 110));
    check_asked(&world, &stakes, 100, "two", Some(Why::NotBefore(at(110))));
    check_waits(&first(told_to_wait(100, 109)), &stakes, 100, 110);
    let known = World { refused_until: Some(at(101)), ..fresh() };
    check_asked(&known, &stakes, 100, "two", Some(Why::NotBefore(at(101))));
}

#[test]
fn the_word_of_one_ca_binds_no_other_and_all_pauses_end_with_the_earliest() {
    let mut world = first(told_to_wait(1200, 2000));
    world.states[1] = Some(failed(Fault::Outage, &[1200]));
    check_waits(&world, &alive(), 1201, 1210);
    check_asked(&world, &alive(), 1210, "two", Some(Why::NotBefore(at(2000))));
    // When the second has failed for long enough as well, the third is asked.
    world.states[1] = Some(failed(Fault::Outage, &[1200, 1300]));
    check_asked(&world, &alive(), 1300, "three", Some(Why::NotBefore(at(2000))));
    world.states[2] = Some(failed(Fault::Outage, &[1300]));
    check_waits(&world, &alive(), 1301, 1310);
}

#[test]
fn a_human_who_names_it_passes_by_pauses_and_not_by_what_this_run_has_tried() {
    let stakes = Stakes { pauses: Pauses::PassedBy, ..nothing_of_use() };
    let mut world = first(failed(Fault::Outage, &[100, 110]));
    check_asked(&world, &stakes, 110, "one", None);
    world.just_asked = Some(0);
    check_asked(&world, &stakes, 110, "two", Some(Why::NothingOfUse));
    let world = first(told_to_wait(100, 200));
    check_asked(&world, &stakes, 100, "two", Some(Why::NotBefore(at(200))));
}

#[test]
fn failures_of_another_wish_end_no_turn() {
    let stakes = Stakes { pauses: Pauses::OfAnotherWish, ..nothing_of_use() };
    check_asked(&first(failed(Fault::Refusal, &[100, 110])), &stakes, 110, "one", None);
}

#[test]
fn an_order_that_is_under_way_goes_first_until_its_ca_has_lost_its_turn() {
    let mut world = World { order_at: Some(1), ..fresh() };
    check_asked(&world, &alive(), 1200, "two", None);
    world.states[1] = Some(failed(Fault::Outage, &[1200, 1300]));
    let turn = decided(&world, &alive(), 1300);
    let Turn::Ask(choice) = turn else { panic!("{turn:?}") };
    assert_eq!(choice.ca.as_str(), "one");
    assert_eq!(choice.stands_in.unwrap().ca.as_str(), "two");
}

#[test]
fn while_no_proof_can_be_shown_a_ca_that_wants_none_is_asked_when_little_life_is_left() {
    let ours = failed(Fault::Solver, &[1200, 1795, 1805]).attempts;
    let stakes = Stakes { unproven: Some(&ours), ..alive() };
    check_waits(&fresh(), &stakes, 1799, 1800);
    check_asked(&fresh(), &stakes, 1806, "three", Some(Why::Unproven(at(1200))));
    // When our pause is over, the first is asked first.
    check_asked(&fresh(), &stakes, 1815, "one", None);
    // The word of another CA is no reason to ask it before.
    let mut world = first(told_to_wait(1200, 1900));
    check_waits(&world, &stakes, 1799, 1800);
    // One that has failed for long by itself has lost its turn all the same.
    world = first(failed(Fault::Outage, &[1300]));
    world.states[1] = Some(failed(Fault::Outage, &[1350]));
    check_asked(&world, &stakes, 1799, "three", Some(Why::FailingSince(at(1300))));
    assert_eq!(decided(&fresh(), &Stakes { unproven: None, ..stakes }, 1799), asked("one"));
}

#[test]
fn while_no_proof_can_be_shown_and_nothing_is_of_use_the_fourth_failure_ends_all_turns_but_those() {
    let times = [100, 110, 120, 130];
    let ours = failed(Fault::Solver, &times[..3]).attempts;
    let stakes = Stakes { unproven: Some(&ours), ..nothing_of_use() };
    check_waits(&fresh(), &stakes, 125, 130);
    let ours = failed(Fault::Solver, &times).attempts;
    let stakes = Stakes { unproven: Some(&ours), ..nothing_of_use() };
    check_asked(&fresh(), &stakes, 131, "three", Some(Why::Unproven(at(100))));
    let world = World { states: [None, None, Some(failed(Fault::Outage, &[131]))], ..fresh() };
    check_waits(&world, &stakes, 132, 140);
}

#[test]
fn a_proof_that_only_a_human_can_have_shown_is_waited_for_as_such() {
    let mut ours = Attempts::default();
    ours.fail(failure(1200), Retry::AfterChange, Duration::from_secs(10));
    let stakes = Stakes { unproven: Some(&ours), ..alive() };
    let waits = Turn::Wait { until: at(1210), needs_change: true };
    assert_eq!(decided(&fresh(), &stakes, 1201), waits);
}

fn asked(name: &str) -> Turn {
    Turn::Ask(Choice { ca: name.parse().unwrap(), stands_in: None })
}

#[test]
fn only_if_nobody_can_be_expected_to_help_a_human_is_waited_for() {
    let refused = |time| {
        let mut state = failed(Fault::Refusal, &[]);
        state.attempts.fail(failure(time), Retry::AfterChange, Duration::from_secs(10));
        state
    };
    let stakes = nothing_of_use();
    let mut world = first(refused(100));
    world.states[1] = Some(refused(100));
    world.states[2] = Some(refused(105));
    let waits = |needs_change| Turn::Wait { until: at(110), needs_change };
    assert_eq!(decided(&world, &stakes, 106), waits(true));
    world.states[2] = Some(failed(Fault::Outage, &[105]));
    assert_eq!(decided(&world, &stakes, 106), waits(false));
}

#[test]
fn nobody_is_waited_for_whose_turn_never_comes() {
    let one = ca("one");
    let known = failed(Fault::Outage, &[1200]);
    let candidate = Candidate {
        ca: &one,
        known: Some(&known),
        refused_until: None,
        has_order: false,
        was_just_asked: false,
    };
    let mut long = known.clone();
    long.attempts.next_attempt_at = Some(at(1700));
    let alone = Candidate { known: Some(&long), ..candidate };
    let waits = Turn::Wait { until: at(1700), needs_change: false };
    assert_eq!(turn(&[alone], &alive(), at(1201)), Some(waits), "there is nobody after it");
    assert_eq!(turn(&[], &alive(), at(1201)), None);
}

#[test]
fn each_reason_names_the_ca_that_is_passed_by() {
    let text = |why| PassedBy { ca: "one".parse().unwrap(), why }.to_string();
    assert_eq!(text(Why::NotBefore(at(60))), "one can't be asked before 1970-01-01T00:01:00Z");
    assert_eq!(text(Why::FailingSince(at(60))), "one has failed since 1970-01-01T00:01:00Z");
    assert_eq!(text(Why::LittleLifeLeft), "one failed, and little of the life is left");
    let nothing = "one failed, and there is no certificate to wait with";
    assert_eq!(text(Why::NothingOfUse), nothing);
    let unproven = "no proof could be shown to one since 1970-01-01T00:01:00Z";
    assert_eq!(text(Why::Unproven(at(60))), unproven);
}
