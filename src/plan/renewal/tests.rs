mod choice;

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use crate::model::{CaState, Failure, Fault, Fingerprint, Generation, Retry, Validity};

use super::*;

fn day(number: u64) -> Timestamp {
    Timestamp::EPOCH.saturating_add(Duration::from_secs(number * 86_400))
}

pub(in crate::plan) fn spec() -> CertificateSpec {
    CertificateSpec {
        name: "site".parse().unwrap(),
        identifiers: vec!["example.com".parse().unwrap(), "www.example.com".parse().unwrap()],
        cas: vec!["lab".parse().unwrap()],
        key_type: KeyType::P256,
        paired_with: None,
        key_source: crate::model::KeySource::Fresh,
        profile: None,
        preferred_chain: None,
        solvers: BTreeMap::new(),
        targets: Vec::new(),
        verify_names: Vec::new(),
        verify: true,
        read_group: None,
        placeholder: true,
        source: PathBuf::new(),
    }
}

fn lab() -> WantedCa {
    let (name, directory) = ("lab".parse().unwrap(), "https://lab/dir".into());
    WantedCa { name, directory, test: false, wants_proof: true }
}

/// We hold a certificate as wanted, valid from day 0 for `days` days.
pub(in crate::plan) fn held_for(days: u64) -> Held {
    let leaf = Leaf {
        sha256: Fingerprint::of(b"leaf"),
        serial: vec![1],
        identifiers: spec().identifier_set(),
        validity: Validity { not_before: day(0), not_after: day(days) },
        issuer: String::new(),
        issuer_der: vec![1],
        subject_der: vec![2],
        public_key: Vec::new(),
        key_type: Some(KeyType::P256),
        authority_key_identifier: None,
        is_ca: false,
    };
    let origin = Origin {
        ca: lab().name,
        directory: lab().directory,
        profile: None,
        preferred_chain: None,
        key_type: KeyType::P256,
        csr: None,
        issued_at: day(0),
        order_url: None,
        test: false,
    };
    let (generation, origin, directory) = (Some(Generation(1)), Some(origin), PathBuf::new());
    Held { generation, leaf, needs_issuer: false, origin, directory }
}

/// As [`held_for`], and it came on day `number`.
fn issued_on(number: u64, days: u64) -> Held {
    let mut held = held_for(days);
    held.origin.as_mut().unwrap().issued_at = day(number);
    held
}

struct World {
    held: Option<Held>,
    cas: Vec<WantedCa>,
    /// At the first of them.
    attempts: Attempts,
    ours: Attempts,
    ours_fault: Option<Fault>,
    attempts_are_for_this: bool,
    order_under_way: bool,
    selected_renewal: Option<Timestamp>,
    preferred_chain: Option<String>,
    chain: HeldChain,
    withdrawn: Option<Withdrawn>,
    refusal: Option<Refusal>,
    /// Which of them this run has asked already.
    just_asked: Option<usize>,
    doubt: Option<ClockDoubt>,
    clock: Standing,
}

fn world(held: Option<Held>) -> World {
    World {
        held,
        cas: vec![lab()],
        attempts: Attempts::default(),
        ours: Attempts::default(),
        ours_fault: None,
        attempts_are_for_this: true,
        order_under_way: false,
        selected_renewal: None,
        preferred_chain: None,
        chain: HeldChain::Settled,
        withdrawn: None,
        refusal: None,
        just_asked: None,
        doubt: None,
        clock: Standing::Steady,
    }
}

fn decided(world: &World, asked: Asked, now: Timestamp) -> Renewal {
    observed(world, |spec, observed| decide(spec, observed, asked, now))
}

/// The CA that is asked.
fn chosen(world: &World, asked: Asked, now: Timestamp) -> Option<String> {
    observed(world, |spec, observed| choose(spec, observed, asked, now)).map(|it| it.ca.to_string())
}

fn observed<T>(world: &World, look: impl Fn(&CertificateSpec, &Observed<'_>) -> T) -> T {
    let holding = world.held.as_ref().map_or(Holding::Nothing, Holding::Certificate);
    let known = CaState {
        attempts: world.attempts.clone(),
        fault: Some(Fault::Outage),
        ..CaState::default()
    };
    let candidate = |(index, ca)| Candidate {
        ca,
        known: (index == 0).then_some(&known),
        refused_until: world.refusal.as_ref().map(|it| it.until),
        has_order: index == 0 && world.order_under_way,
        was_just_asked: world.just_asked == Some(index),
    };
    let cas: Vec<Candidate<'_>> = world.cas.iter().enumerate().map(candidate).collect();
    let refusals: Vec<_> =
        world.refusal.iter().map(|it| ("lab".parse().unwrap(), it.clone())).collect();
    let observed = Observed {
        holding,
        cas: &cas,
        ours: &world.ours,
        ours_fault: world.ours_fault,
        attempts_are_for_this: world.attempts_are_for_this,
        warning: Share::new(1, 4),
        selected_renewal: world.selected_renewal,
        chain: world.chain,
        withdrawn: world.withdrawn,
        refusals: &refusals,
        doubt: world.doubt.as_ref(),
        clock: world.clock,
    };
    let spec = CertificateSpec { preferred_chain: world.preferred_chain.clone(), ..spec() };
    look(&spec, &observed)
}

#[track_caller]
fn check(world: &World, now: Timestamp, expected: &Renewal) {
    assert_eq!(&decided(world, Asked::ByTime, now), expected);
}

fn issue(reason: Reason) -> Renewal {
    Renewal::Issue(reason)
}

#[test]
fn without_advice_a_90_day_certificate_is_kept_for_60_days() {
    let world = world(Some(held_for(90)));
    check(&world, day(59), &Renewal::Keep { renew_at: day(60), reason: Reason::LifePassed });
    check(&world, day(60), &issue(Reason::LifePassed));
}

#[test]
fn a_short_life_is_renewed_at_its_half() {
    check(
        &world(Some(held_for(6))),
        day(2),
        &Renewal::Keep { renew_at: day(3), reason: Reason::LifePassed },
    );
    check(&world(Some(held_for(6))), day(3), &issue(Reason::LifePassed));
    // Ten days are not short.
    let keep = decided(&world(Some(held_for(10))), Asked::ByTime, day(6));
    assert!(matches!(keep, Renewal::Keep { .. }), "{keep:?}");
}

#[test]
fn what_is_revoked_or_to_be_is_due_at_once_and_waits_after_failures() {
    for (withdrawn, reason) in
        [(Withdrawn::Revoked, Reason::Revoked), (Withdrawn::ToBeRevoked, Reason::ToBeRevoked)]
    {
        let mut world = World { withdrawn: Some(withdrawn), ..world(Some(issued_on(0, 90))) };
        check(&world, day(0), &issue(reason.clone()));
        world.attempts.next_attempt_at = Some(day(2));
        check(&world, day(1), &Renewal::BackOff { until: day(2), reason });
    }
}

#[test]
fn advice_counts_until_the_reserve_and_not_beyond() {
    let early = World { selected_renewal: Some(day(10)), ..world(Some(held_for(90))) };
    check(&early, day(10), &issue(Reason::SuggestedByCa));
    let late = World { selected_renewal: Some(day(89)), ..world(Some(held_for(90))) };
    check(&late, day(74), &Renewal::Keep { renew_at: day(75), reason: Reason::NearExpiry });
    check(&late, day(75), &issue(Reason::NearExpiry));
}

#[test]
fn an_expired_certificate_and_one_from_the_future_are_decided_without_panic() {
    check(&world(Some(held_for(90))), day(4000), &issue(Reason::LifePassed));
    let mut held = held_for(90);
    held.leaf.validity = Validity { not_before: Timestamp::MAX, not_after: Timestamp::MAX };
    let kept = decided(&world(Some(held)), Asked::ByTime, day(1));
    assert!(matches!(kept, Renewal::Keep { .. }), "{kept:?}");
}

#[test]
fn nothing_and_a_placeholder_are_due() {
    check(&world(None), day(1), &issue(Reason::Missing));
    let placeholder = Held { generation: None, origin: None, ..held_for(3650) };
    check(&world(Some(placeholder)), day(1), &issue(Reason::Placeholder));
}

#[test]
fn each_difference_from_what_is_wanted_is_due_at_once() {
    let due = |change: fn(&mut Held)| {
        let mut held = held_for(90);
        change(&mut held);
        decided(&world(Some(held)), Asked::ByTime, day(1))
    };
    let www = || "www.example.com".parse().unwrap();
    let old = || -> Identifier { "old.example.com".parse().unwrap() };
    assert_eq!(
        due(|it| it.leaf.identifiers = ["example.com".parse().unwrap()].into()),
        issue(Reason::IdentifierMissing(www()))
    );
    assert_eq!(
        due(|it| it.leaf.identifiers.extend(["old.example.com".parse().unwrap()])),
        issue(Reason::IdentifierUnwanted(old()))
    );
    assert_eq!(
        due(|it| it.leaf.key_type = Some(KeyType::Rsa2048)),
        issue(Reason::KeyTypeChanged(KeyType::P256))
    );
    let origin = |change: fn(&mut Origin)| {
        let mut held = held_for(90);
        change(held.origin.as_mut().unwrap());
        decided(&world(Some(held)), Asked::ByTime, day(1))
    };
    assert_eq!(origin(|it| it.ca = "old".parse().unwrap()), issue(Reason::CaChanged(lab().name)));
    assert_eq!(
        origin(|it| it.directory = "https://old/dir".into()),
        issue(Reason::DirectoryChanged)
    );
    assert_eq!(origin(|it| it.profile = Some("old".into())), issue(Reason::ProfileChanged));
}

#[test]
fn a_chain_that_is_newly_preferred_is_ordered_once() {
    let wanted = Some("Other Root".to_owned());
    let world =
        World { preferred_chain: wanted, chain: HeldChain::Other, ..world(Some(held_for(90))) };
    check(&world, day(1), &issue(Reason::ChainChanged("Other Root".into())));
    let settled = World { chain: HeldChain::Settled, ..world };
    let kept = decided(&settled, Asked::ByTime, day(1));
    assert!(matches!(kept, Renewal::Keep { .. }), "{kept:?}");
    let any = World { preferred_chain: None, chain: HeldChain::Other, ..settled };
    let kept = decided(&any, Asked::ByTime, day(1));
    assert!(matches!(kept, Renewal::Keep { .. }), "{kept:?}");
}

#[test]
fn a_certificate_whose_origin_was_lost_is_judged_by_itself() {
    let held = Held { origin: None, ..held_for(90) };
    check(
        &world(Some(held)),
        day(1),
        &Renewal::Keep { renew_at: day(60), reason: Reason::LifePassed },
    );
}

#[test]
fn our_own_failures_keep_us_from_every_ca() {
    let other = WantedCa { name: "other".parse().unwrap(), ..lab() };
    let ours = failed(Retry::BackOff, 1);
    let world = World { cas: vec![lab(), other], ours, ..world(None) };
    check(&world, day(60), &Renewal::BackOff { until: day(61), reason: Reason::Missing });
    check(&world, day(61), &issue(Reason::Missing));
    assert_eq!(decided(&world, Asked::ByName, day(60)), issue(Reason::Missing));
    let changed = World { attempts_are_for_this: false, ..world };
    check(&changed, day(60), &issue(Reason::Missing));
    let ours = failed(Retry::AfterChange, 1);
    let needs = World { ours, attempts_are_for_this: true, ..changed };
    check(&needs, day(60), &Renewal::Blocked { until: Some(day(61)), reason: Reason::Missing });
}

/// T01: the built-in CA has signed by a clock that was ahead. A CA with a clock of its own shows
/// that ours is behind.
#[test]
fn what_a_ca_of_our_own_made_by_a_clock_that_was_ahead_is_made_anew() {
    let inside = WantedCa { wants_proof: false, ..lab() };
    let mut held = held_for(90);
    held.leaf.validity.not_before = day(40);
    let of = |cas| World { cas, ..world(Some(held.clone())) };
    check(&of(vec![inside.clone()]), day(1), &issue(Reason::NotYetValid));
    let kept =
        |world: World, at| matches!(decided(&world, Asked::ByTime, at), Renewal::Keep { .. });
    let an_hour_before = day(40).saturating_sub(CLOCK_TOLERANCE);
    assert!(kept(of(vec![inside.clone()]), an_hour_before));
    assert!(!kept(of(vec![inside.clone()]), an_hour_before.saturating_sub(Duration::from_secs(1))));
    assert!(kept(of(vec![lab()]), day(1)));
    assert!(kept(World { clock: Standing::Behind, ..of(vec![inside]) }, day(1)));
}

#[test]
fn a_solver_that_fails_keeps_us_from_those_alone_that_want_proofs() {
    let other = WantedCa { name: "other".parse().unwrap(), ..lab() };
    let inside = WantedCa { name: "inside".parse().unwrap(), wants_proof: false, ..lab() };
    let mut ours = failed(Retry::BackOff, 1);
    ours.failures = 4;
    let of = |fault| World {
        cas: vec![lab(), other.clone(), inside.clone()],
        ours: ours.clone(),
        ours_fault: fault,
        ..world(None)
    };
    let asked = |world: &World, asked| chosen(world, asked, day(60));
    assert_eq!(asked(&of(Some(Fault::Solver)), Asked::ByTime).as_deref(), Some("inside"));
    check(&of(Some(Fault::Solver)), day(60), &issue(Reason::Missing));
    // Each other fault of ours, and one that an earlier version noted, keeps us from it as well.
    for fault in [Some(Fault::Ours), None] {
        let waits = Renewal::BackOff { until: day(61), reason: Reason::Missing };
        check(&of(fault), day(60), &waits);
    }
    // Who names it begins at the first, and is not led to one that wants the same proof.
    let by_name = of(Some(Fault::Solver));
    assert_eq!(asked(&by_name, Asked::ByName).as_deref(), Some("lab"));
    let next = World { just_asked: Some(0), ..by_name };
    assert_eq!(asked(&next, Asked::ByName).as_deref(), Some("inside"));
    let changed = World { attempts_are_for_this: false, ..of(Some(Fault::Solver)) };
    assert_eq!(asked(&changed, Asked::ByTime).as_deref(), Some("lab"));
}

fn failed(retry: Retry, pause_days: u64) -> Attempts {
    let mut attempts = Attempts::default();
    let failure = Failure { at: day(60), code: String::new(), message: String::new(), hint: None };
    attempts.fail(failure, retry, Duration::from_secs(pause_days * 86_400));
    attempts
}

#[test]
fn a_certificate_that_came_old_is_kept_for_a_third_of_what_it_had_left() {
    let came_old = world(Some(issued_on(81, 90)));
    check(&came_old, day(83), &Renewal::Keep { renew_at: day(84), reason: Reason::LifePassed });
    check(&came_old, day(84), &issue(Reason::LifePassed));
    // Nearly over, it is kept for ten seconds all the same.
    let came_late = world(Some(issued_on(90, 90)));
    let seconds = |count| day(90).saturating_add(Duration::from_secs(count));
    let keep = Renewal::Keep { renew_at: seconds(10), reason: Reason::LifePassed };
    check(&came_late, seconds(9), &keep);
    check(&came_late, seconds(10), &issue(Reason::LifePassed));
}

#[test]
fn advice_to_renew_at_once_is_followed_once_a_day() {
    let mut world = world(Some(issued_on(30, 90)));
    world.selected_renewal = Some(day(1));
    check(&world, day(30), &Renewal::Keep { renew_at: day(31), reason: Reason::SuggestedByCa });
    check(&world, day(31), &issue(Reason::SuggestedByCa));
}

#[test]
fn a_certificate_that_came_in_the_future_is_due_by_its_life() {
    check(&world(Some(issued_on(85, 90))), day(60), &issue(Reason::LifePassed));
    check(&world(Some(issued_on(60, 90))), day(70), &issue(Reason::LifePassed));
}

#[test]
fn after_a_failure_the_ladder_waits_and_a_human_need_not() {
    let world = World { attempts: failed(Retry::BackOff, 2), ..world(Some(held_for(90))) };
    check(&world, day(61), &Renewal::BackOff { until: day(62), reason: Reason::LifePassed });
    check(&world, day(62), &issue(Reason::LifePassed));
    assert_eq!(decided(&world, Asked::ByName, day(61)), issue(Reason::LifePassed));
    let keep = decided(&world, Asked::ByName, day(1));
    assert!(matches!(keep, Renewal::Keep { .. }), "a name alone does not make it due: {keep:?}");
}

#[test]
fn what_the_ca_said_binds_humans_too() {
    let attempts = failed(Retry::NotBefore(day(70)), 1);
    let world = World { attempts, ..world(Some(held_for(90))) };
    for asked in [Asked::ByTime, Asked::ByName, Asked::Forced] {
        let waits = decided(&world, asked, day(69));
        assert!(matches!(waits, Renewal::BackOff { until, .. } if until == day(70)), "{waits:?}");
    }
    assert_eq!(decided(&world, Asked::ByTime, day(70)), issue(Reason::LifePassed));
}

#[test]
fn what_needs_a_human_is_blocked_and_tried_again_later() {
    let world = World { attempts: failed(Retry::AfterChange, 1), ..world(Some(held_for(90))) };
    check(&world, day(60), &Renewal::Blocked { until: Some(day(61)), reason: Reason::LifePassed });
    check(&world, day(61), &issue(Reason::LifePassed));
}

#[test]
fn a_changed_wish_does_not_wait_for_failures_of_the_old_one() {
    let attempts = failed(Retry::AfterChange, 1);
    let world = World { attempts, attempts_are_for_this: false, ..world(Some(held_for(90))) };
    check(&world, day(60), &issue(Reason::LifePassed));
}

#[test]
fn an_order_under_way_goes_on_although_nothing_is_due() {
    let world = World { order_under_way: true, ..world(Some(held_for(90))) };
    check(&world, day(1), &issue(Reason::OrderUnderWay));
}

#[test]
fn force_makes_it_due_and_keeps_better_reasons() {
    assert_eq!(decided(&world(Some(held_for(90))), Asked::Forced, day(1)), issue(Reason::Forced));
    assert_eq!(decided(&world(None), Asked::Forced, day(1)), issue(Reason::Missing));
}

proptest! {
    /// Until the moment that a plan names nothing else is decided, and at that moment it is due: no
    /// wake is lost, and none comes for nothing.
    #[test]
    fn what_is_kept_is_kept_until_its_moment_and_due_then(
        not_before in 0_i64..4_000_000_000, life in 0_u64..400_000_000, came in 0_u64..500_000_000,
        selected in proptest::option::of(0_i64..5_000_000_000), passed in 0_u64..500_000_000, share in 0_f64..1.0,
    ) {
        let not_before = Timestamp::from_unix_seconds(not_before);
        let mut held = held_for(90);
        held.leaf.validity =
            Validity { not_before, not_after: not_before.saturating_add(Duration::from_secs(life)) };
        let came = not_before.saturating_add(Duration::from_secs(came));
        held.origin.as_mut().unwrap().issued_at = came;
        let selected_renewal = selected.map(Timestamp::from_unix_seconds);
        let world = World { selected_renewal, ..world(Some(held)) };
        let now = came.saturating_add(Duration::from_secs(passed));
        match decided(&world, Asked::ByTime, now) {
            Renewal::Keep { renew_at, reason } => {
                prop_assert!(now < renew_at);
                let between = now.saturating_add(renew_at.since(now).mul_f64(share));
                if between < renew_at {
                    let same = Renewal::Keep { renew_at, reason: reason.clone() };
                    prop_assert_eq!(decided(&world, Asked::ByTime, between), same);
                }
                prop_assert_eq!(decided(&world, Asked::ByTime, renew_at), Renewal::Issue(reason));
            }
            due => {
                prop_assert!(matches!(due, Renewal::Issue(_)), "{:?}", due);
                let later = now.saturating_add(Duration::from_secs(life));
                prop_assert_eq!(decided(&world, Asked::ByTime, later), due, "due stays due");
            }
        }
    }

    /// Nobody is asked before the pause is over, by time; and then somebody is.
    #[test]
    fn a_pause_ends_at_its_moment_and_no_earlier(
        failed in 0_u64..1_000_000, pause in 1_u64..100_000, ca_says in proptest::option::of(1_u64..1_000_000),
        share in 0_f64..1.0,
    ) {
        let at = day(1000).saturating_add(Duration::from_secs(failed));
        let retry = ca_says.map_or(Retry::BackOff, |it| Retry::NotBefore(at.saturating_add(Duration::from_secs(it))));
        let mut world = world(None);
        let failure = Failure { at, code: "x".into(), message: String::new(), hint: None };
        world.attempts.fail(failure, retry, Duration::from_secs(pause));
        let end = at.saturating_add(Duration::from_secs(pause.max(ca_says.unwrap_or(0))));
        let between = at.saturating_add(end.since(at).mul_f64(share));
        let waits = decided(&world, Asked::ByTime, between);
        let is_waiting = matches!(waits, Renewal::BackOff { until, .. } if until > between && until <= end);
        prop_assert!(is_waiting || between >= end, "{:?} at {} before {}", waits, between, end);
        prop_assert_eq!(decided(&world, Asked::ByTime, end), issue(Reason::Missing));
    }
}

#[test]
fn a_key_that_is_to_be_elsewhere_or_here_is_another_certificate() {
    let mut held = held_for(90);
    held.origin.as_mut().unwrap().csr = Some(Fingerprint::of(b"request"));
    let decided = decided(&world(Some(held)), Asked::ByTime, day(1));
    assert_eq!(decided, Renewal::Issue(Reason::RequestChanged));
}

/// What the ledger says no to for two days from day 60 on.
fn refusal() -> Refusal {
    Refusal {
        limit: crate::model::Limit::CertificatesPerSet,
        about: String::new(),
        rate: Some("5/7d".parse().unwrap()),
        until: day(62),
        said: None,
    }
}

#[test]
fn what_the_ledger_refuses_waits_until_it_is_allowed_whoever_asks() {
    let mut world = World { refusal: Some(refusal()), ..world(Some(held_for(90))) };
    check(&world, day(59), &Renewal::Keep { renew_at: day(60), reason: Reason::LifePassed });
    let held_back = |due| Renewal::BackOff {
        until: day(62),
        reason: Reason::HeldBack(Box::new(due), refusal()),
    };
    check(&world, day(60), &held_back(Reason::LifePassed));
    assert_eq!(decided(&world, Asked::ByName, day(60)), held_back(Reason::LifePassed));
    assert_eq!(decided(&world, Asked::Forced, day(1)), held_back(Reason::Forced));
    let text = Reason::HeldBack(Box::new(Reason::LifePassed), refusal()).to_string();
    assert!(text.contains("until 1970-03-04T00:00:00Z: 5 certificates"), "{text}");
    world.held = None;
    check(&world, day(60), &held_back(Reason::Missing));
}

/// T01: what only a clock that jumped makes due waits, and nothing else does.
#[test]
fn what_only_a_doubted_clock_makes_due_waits() {
    let doubt = |theirs, lets_pass| ClockDoubt {
        theirs: day(theirs),
        ours: day(3650),
        ca: "lab".parse().unwrap(),
        lets_pass,
    };
    let with = |doubt| World { doubt: Some(doubt), ..world(Some(held_for(90))) };
    let waits = Renewal::BackOff {
        until: day(3650).saturating_add(DOUBT_PAUSE),
        reason: Reason::ClockDoubted(Box::new(Reason::LifePassed), doubt(59, false)),
    };
    check(&with(doubt(59, false)), day(3650), &waits);
    // Due by the CA's clock as well; one of the few; asked for; not a matter of time.
    check(&with(doubt(60, false)), day(3650), &issue(Reason::LifePassed));
    check(&with(doubt(59, true)), day(3650), &issue(Reason::LifePassed));
    let decided_by = |asked| decided(&with(doubt(59, false)), asked, day(3650));
    assert_eq!(decided_by(Asked::ByName), issue(Reason::LifePassed));
    let missing = World { held: None, ..with(doubt(59, false)) };
    check(&missing, day(3650), &issue(Reason::Missing));
}

/// T07: side by side, each by its own life.
#[test]
fn lives_of_6_and_90_days_are_renewed_and_looked_at_each_by_its_own() {
    for (days, due) in [(6, 3), (90, 60)] {
        let keep = Renewal::Keep { renew_at: day(due), reason: Reason::LifePassed };
        let world = world(Some(held_for(days)));
        check(&world, day(due - 1), &keep);
        check(&world, day(due), &issue(Reason::LifePassed));
        let life = Duration::from_secs(days * 86_400);
        assert!(super::super::look_interval(world.held.as_ref().unwrap()) <= life / 20);
    }
}

/// T06: what has expired is due now, and waits after failures as all else does.
#[test]
fn what_has_expired_is_renewed_by_the_ladder() {
    let mut world = world(Some(held_for(90)));
    check(&world, day(100), &issue(Reason::LifePassed));
    let failure = Failure { at: day(100), code: String::new(), message: String::new(), hint: None };
    world.attempts.fail(failure, Retry::BackOff, Duration::from_secs(60));
    let until = day(100).saturating_add(Duration::from_secs(60));
    check(&world, day(100), &Renewal::BackOff { until, reason: Reason::LifePassed });
}
