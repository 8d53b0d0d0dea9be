use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;

use crate::model::{Fingerprint, Generation};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);

fn day(number: u64) -> Timestamp {
    Timestamp::EPOCH.saturating_add(DAY * u32::try_from(number).unwrap())
}

fn leaf_of(validity: Validity) -> Leaf {
    Leaf {
        sha256: Fingerprint::of(b"leaf"),
        serial: vec![1],
        identifiers: BTreeSet::new(),
        validity,
        issuer: String::new(),
        issuer_der: vec![1],
        subject_der: vec![2],
        public_key: Vec::new(),
        key_type: None,
        authority_key_identifier: Some(vec![7]),
        is_ca: false,
    }
}

/// Valid from day 1000 for 90 days: its reserve begins on day 1075.
fn leaf() -> Leaf {
    leaf_of(Validity { not_before: day(1000), not_after: day(1090) })
}

fn id() -> CertificateId {
    CertificateId::of(&leaf()).unwrap()
}

fn advice(from: u64, to: u64) -> RenewalInfo {
    RenewalInfo {
        suggested_window: SuggestedWindow::new(day(from), day(to)),
        explanation_url: None,
        poll_after: None,
    }
}

fn learnt(known: Option<&Suggestion>, info: &RenewalInfo, luck: f64, now: Timestamp) -> Learnt {
    learn(id(), known, info, &leaf(), Jitter::new(luck), now)
}

#[test]
fn a_moment_is_chosen_in_the_window_and_kept_while_the_window_stays() {
    let first = learnt(None, &advice(1050, 1060), 0.0, day(1000));
    assert!(first.is_new);
    assert_eq!(first.suggestion.selected_renewal, Some(day(1055)));
    let again = learnt(Some(&first.suggestion), &advice(1050, 1060), 1.0, day(1001));
    assert!(!again.is_new);
    assert_eq!(again.suggestion.selected_renewal, Some(day(1055)), "chosen once");
    let moved = learnt(Some(&first.suggestion), &advice(1020, 1030), 1.0, day(1001));
    assert!(moved.is_new && !moved.is_unsteady);
    assert_eq!(moved.suggestion.selected_renewal, Some(day(1030)));
}

#[test]
fn a_window_in_the_past_means_now_and_centuries_mean_the_usual_moment() {
    let past = select(advice(900, 950).suggested_window.unwrap(), leaf().validity, Jitter::NONE);
    assert!(past <= day(1000));
    let centuries = SuggestedWindow::new(Timestamp::EPOCH, Timestamp::MAX).unwrap();
    for luck in [-1.0, 1.0] {
        let chosen = select(centuries, leaf().validity, Jitter::new(luck));
        assert_eq!(chosen, day(1060), "as without advice");
    }
    let from_then = SuggestedWindow::new(day(1070), Timestamp::MAX).unwrap();
    assert_eq!(select(from_then, leaf().validity, Jitter::NONE), day(1070));
    let across = SuggestedWindow::new(day(1040), day(1120)).unwrap();
    for (luck, expected) in [(-1.0, day(1040)), (1.0, day(1075))] {
        assert_eq!(select(across, leaf().validity, Jitter::new(luck)), expected);
    }
    let late = select(advice(1200, 1300).suggested_window.unwrap(), leaf().validity, Jitter::NONE);
    assert_eq!(late, day(1200), "the reserve overrules it, not the choice");
}

#[test]
fn advice_for_another_certificate_counts_for_nothing() {
    let first = learnt(None, &advice(1050, 1060), 0.0, day(1000)).suggestion;
    let mut other = leaf();
    other.serial = vec![2];
    let other = CertificateId::of(&other).unwrap();
    assert_eq!(selected_renewal(&id(), Some(&first)), Some(day(1055)));
    assert_eq!(selected_renewal(&other, Some(&first)), None);
    assert_eq!(next_poll_at(&other, Some(&first), day(1000)), Timestamp::EPOCH);
    let learnt = learn(other, Some(&first), &advice(1050, 1060), &leaf(), Jitter::NONE, day(1000));
    assert!(learnt.is_new && learnt.suggestion.changed_at.is_empty());
}

#[test]
fn a_window_that_flaps_is_not_followed_and_the_earliest_moment_stays() {
    let mut known = learnt(None, &advice(1050, 1060), 0.0, day(1000)).suggestion;
    let mut seen = Vec::new();
    for (number, info) in
        [advice(1030, 1040), advice(1050, 1060)].iter().cycle().take(6).enumerate()
    {
        let now = day(1001 + number as u64);
        let learnt = learnt(Some(&known), info, 0.0, now);
        seen.push((learnt.is_unsteady, learnt.suggestion.selected_renewal.unwrap()));
        known = learnt.suggestion;
    }
    let (early, late) = (day(1035), day(1055));
    let expected = [
        (false, early),
        (false, late),
        (false, early),
        (true, early),
        (true, early),
        (true, early),
    ];
    assert_eq!(seen, expected);
    // After a third of the life the changes are forgotten.
    let calm = learnt(Some(&known), &advice(1061, 1062), -1.0, day(1040));
    assert_eq!((calm.is_unsteady, calm.suggestion.selected_renewal), (false, Some(day(1061))));
}

#[test]
fn no_advice_for_this_certificate_ends_what_was_advised_and_silence_does_not() {
    let known = learnt(None, &advice(1050, 1060), 0.0, day(1000)).suggestion;
    let none = RenewalInfo { suggested_window: None, explanation_url: None, poll_after: None };
    let ended = learnt(Some(&known), &none, 0.0, day(1001)).suggestion;
    assert_eq!((ended.selected_renewal, ended.window), (None, None));
    let silent = miss(id(), Some(&known), &leaf(), true, None, day(1001));
    assert_eq!(silent.selected_renewal, known.selected_renewal);
}

#[test]
fn trouble_that_passes_is_tried_again_soon_and_other_in_six_hours() {
    let mut known = None;
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let missed = miss(id(), known.as_ref(), &leaf(), true, None, day(1000));
        pauses.push(missed.next_poll_at.since(day(1000)).as_secs() / 60);
        known = Some(missed);
    }
    assert_eq!(pauses, [1, 10, 100, 360, 360]);
    let lasting = miss(id(), known.as_ref(), &leaf(), false, None, day(1000));
    assert_eq!(lasting.next_poll_at.since(day(1000)), USUAL_POLL);
    let asked = Some(day(1000).saturating_add(HOUR));
    let told = miss(id(), None, &leaf(), true, asked, day(1000));
    assert_eq!(told.next_poll_at.since(day(1000)), HOUR);
    let answered = learnt(known.as_ref(), &advice(1050, 1060), 0.0, day(1000)).suggestion;
    assert_eq!(answered.failures, 0);
}

#[test]
fn the_ca_is_asked_every_tenth_of_the_life_and_never_more_than_once_a_minute() {
    let wait = |poll_after, days: u64| {
        let leaf = leaf_of(Validity { not_before: day(1000), not_after: day(1000 + days) });
        let info = RenewalInfo { poll_after: Some(poll_after), ..advice(1000, 1001) };
        let learnt = learn(id(), None, &info, &leaf, Jitter::NONE, day(1000));
        learnt.suggestion.next_poll_at.since(day(1000))
    };
    assert_eq!(wait(6 * HOUR, 90), 6 * HOUR);
    assert_eq!(wait(DAY * 7, 90), DAY);
    assert_eq!(wait(DAY, 5), 12 * HOUR);
    assert_eq!(wait(Duration::ZERO, 90), Duration::from_secs(60));
    assert_eq!(wait(DAY, 0), Duration::from_secs(60));
}

#[test]
fn a_poll_that_a_wrong_clock_put_far_ahead_is_made_now() {
    let known = learnt(None, &advice(1050, 1060), 0.0, day(3000)).suggestion;
    assert_eq!(next_poll_at(&id(), Some(&known), day(1001)), Timestamp::EPOCH);
    let known = learnt(None, &advice(1050, 1060), 0.0, day(1000)).suggestion;
    assert_eq!(next_poll_at(&id(), Some(&known), day(1000)), known.next_poll_at);
}

#[test]
fn nobody_is_asked_about_a_placeholder_or_what_has_expired_or_lives_for_minutes() {
    let held = |generation, leaf| Held {
        generation,
        leaf,
        needs_issuer: false,
        origin: None,
        directory: PathBuf::new(),
    };
    let real = held(Some(Generation(1)), leaf());
    assert_eq!(asked_about(&real, day(1090)), Some(id()));
    assert_eq!(asked_about(&real, day(1091)), None);
    assert_eq!(asked_about(&held(None, leaf()), day(1001)), None);
    let living_for = |seconds| {
        let not_after = day(1000).saturating_add(Duration::from_secs(seconds));
        let leaf = leaf_of(Validity { not_before: day(1000), not_after });
        asked_about(&held(Some(Generation(1)), leaf), day(1000))
    };
    assert_eq!((living_for(599), living_for(600)), (None, Some(id())));
}

#[test]
fn only_what_is_wanted_now_and_before_its_time_is_early() {
    assert!(is_early(&leaf(), day(1010), day(1010)));
    assert!(!is_early(&leaf(), day(1011), day(1010)));
    assert!(!is_early(&leaf(), day(1010), day(1060)), "due by its life");
}

fn any_moment() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        Just(Timestamp::EPOCH),
        Just(Timestamp::MAX),
        (0_i64..253_402_300_800).prop_map(Timestamp::from_unix_seconds),
        (1_700_000_000_i64..1_900_000_000).prop_map(Timestamp::from_unix_seconds),
    ]
}

proptest! {
    #[test]
    fn whatever_times_a_ca_sends_the_moment_lies_in_its_window_and_life(
        times in [any_moment(), any_moment(), any_moment(), any_moment(), any_moment()],
        luck in any::<f64>(), poll_after in any::<Option<u64>>(),
    ) {
        let [start, end, not_before, not_after, now] = times;
        let validity = Validity { not_before, not_after };
        let leaf = leaf_of(validity);
        let info = RenewalInfo {
            suggested_window: SuggestedWindow::new(start, end),
            explanation_url: None,
            poll_after: poll_after.map(Duration::from_secs),
        };
        let known = learn(id(), None, &info, &leaf, Jitter::new(luck), now).suggestion;
        let wait = known.next_poll_at.since(now);
        prop_assert!(wait >= SHORTEST_POLL || known.next_poll_at == Timestamp::MAX);
        prop_assert!(wait <= LONGEST_POLL);
        if let Some(selected) = known.selected_renewal {
            prop_assert!(start <= selected && selected <= end);
            if not_before <= not_after && start <= reserve_at(validity) {
                prop_assert!(selected <= reserve_at(validity));
            }
        }
        prop_assert_eq!(known.selected_renewal.is_some(), end > start);
        let _missed = miss(id(), Some(&known), &leaf, true, Some(end), now);
    }
}
