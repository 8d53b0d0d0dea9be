//! Which CA is asked: what one for tests may replace, and who stands in for whom.

use super::*;

/// C05: from a test CA to a real one; another CA or key.
#[test]
fn a_test_ca_never_replaces_a_real_certificate() {
    let staging = vec![WantedCa { test: true, name: "staging".parse().unwrap(), ..lab() }];
    let real = World { cas: staging.clone(), ..world(Some(held_for(90))) };
    let blocked =
        Renewal::Blocked { until: None, reason: Reason::TestCa("staging".parse().unwrap()) };
    check(&real, day(80), &blocked);
    assert_eq!(decided(&real, Asked::Forced, day(80)), blocked);
    let unknown = Held { origin: None, ..held_for(90) };
    check(&World { cas: staging.clone(), ..world(Some(unknown)) }, day(80), &blocked);

    let mut held = held_for(90);
    held.origin.as_mut().unwrap().test = true;
    let other_way = world(Some(held.clone()));
    let renewed = decided(&World { cas: vec![lab()], ..other_way }, Asked::ByTime, day(80));
    assert_eq!(renewed, issue(Reason::LifePassed));
    let placeholder = Held { generation: None, ..held };
    check(&World { cas: staging, ..world(Some(placeholder)) }, day(1), &issue(Reason::Placeholder));
}

#[test]
fn a_human_can_let_a_test_ca_replace_a_real_certificate() {
    let staging = vec![WantedCa { test: true, name: "staging".parse().unwrap(), ..lab() }];
    let real = World { cas: staging, ..world(Some(held_for(90))) };
    let changed = Reason::CaChanged("staging".parse().unwrap());
    for asked in [Asked::Untrusted, Asked::ForcedUntrusted] {
        assert_eq!(decided(&real, asked, day(1)), issue(changed.clone()));
        assert_eq!(chosen(&real, asked, day(1)).as_deref(), Some("staging"));
    }
    let same = world(Some(held_for(90)));
    assert_eq!(decided(&same, Asked::ForcedUntrusted, day(1)), issue(Reason::Forced));
    let kept = decided(&same, Asked::Untrusted, day(1));
    assert!(matches!(kept, Renewal::Keep { .. }), "nothing is forced: {kept:?}");
}

#[test]
fn a_test_ca_stands_in_for_a_real_one_only_where_nothing_real_would_be_replaced() {
    let staging = WantedCa { test: true, name: "staging".parse().unwrap(), ..lab() };
    let attempts = failed(Retry::NotBefore(day(100)), 1);
    let cas = vec![lab(), staging.clone()];
    let real = World { cas, attempts, ..world(Some(held_for(90))) };
    let waits = Renewal::BackOff { until: day(100), reason: Reason::LifePassed };
    check(&real, day(80), &waits);
    check(&real, day(95), &waits);
    assert_eq!(chosen(&real, Asked::ByTime, day(80)), None);
    assert_eq!(chosen(&real, Asked::Untrusted, day(80)).as_deref(), Some("staging"));
    let nothing = World { held: None, ..real };
    assert_eq!(chosen(&nothing, Asked::ByTime, day(80)).as_deref(), Some("staging"));
    // One that is first does not keep a real one from being asked.
    let turned = World { cas: vec![staging, lab()], ..world(Some(held_for(90))) };
    check(&turned, day(60), &issue(Reason::LifePassed));
    assert_eq!(chosen(&turned, Asked::ByTime, day(60)).as_deref(), Some("lab"));
}

#[test]
fn a_certificate_of_a_stand_in_is_kept_and_the_first_is_asked_when_it_is_due() {
    let other = WantedCa { name: "other".parse().unwrap(), ..lab() };
    let mut held = held_for(90);
    held.origin.as_mut().unwrap().ca = other.name.clone();
    let world = World { cas: vec![lab(), other], ..world(Some(held)) };
    check(&world, day(59), &Renewal::Keep { renew_at: day(60), reason: Reason::LifePassed });
    check(&world, day(60), &issue(Reason::LifePassed));
    assert_eq!(chosen(&world, Asked::ByTime, day(60)).as_deref(), Some("lab"));
}

#[test]
fn a_certificate_that_is_of_no_use_is_not_waited_with() {
    let other = WantedCa { name: "other".parse().unwrap(), ..lab() };
    let mut attempts = failed(Retry::BackOff, 0);
    attempts.fail(attempts.last.clone().unwrap(), Retry::BackOff, Duration::from_secs(86_400));
    let of_use = World { cas: vec![lab(), other], attempts, ..world(Some(held_for(90))) };
    let at = day(60);
    assert_eq!(chosen(&of_use, Asked::ByTime, at), None);
    let mut lacks_one = held_for(90);
    lacks_one.leaf.identifiers = ["example.com".parse().unwrap()].into();
    let mut has_expired = held_for(90);
    has_expired.leaf.validity.not_after = day(59);
    let placeholder = Held { generation: None, ..held_for(90) };
    for held in [None, Some(lacks_one), Some(has_expired), Some(placeholder)] {
        let world = World {
            held,
            cas: of_use.cas.clone(),
            attempts: of_use.attempts.clone(),
            ..world(None)
        };
        assert_eq!(chosen(&world, Asked::ByTime, at).as_deref(), Some("other"), "{:?}", world.held);
    }
    let revoked = World { withdrawn: Some(Withdrawn::Revoked), ..of_use };
    assert_eq!(chosen(&revoked, Asked::ByTime, at).as_deref(), Some("other"));
}
