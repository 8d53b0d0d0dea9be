//! What fuzzing feeds to this module: times that certificates and CAs may hold.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use std::time::Duration;

use super::backoff::{Jitter, after_ca_failure, after_local_failure};
use super::renewal::{reserve_at, usual_at};
use super::suggestion;
use crate::model::{CertificateId, Leaf, RenewalInfo, SuggestedWindow, Timestamp, Validity};

/// Learns what one CA says of one certificate over a while, from `numbers` of eight bytes each: the
/// first two are its life, and then each four are an answer.
pub fn advice(numbers: &[u8]) {
    let mut numbers =
        numbers.chunks_exact(8).map(|it| it.iter().fold(0, |n, it| n << 8 | u64::from(*it)));
    let (Some(first), Some(last)) = (numbers.next(), numbers.next()) else { return };
    let validity = Validity { not_before: moment(first), not_after: moment(last) };
    let leaf = Leaf {
        sha256: crate::model::Fingerprint::of(&[]),
        serial: vec![1],
        identifiers: std::collections::BTreeSet::new(),
        validity,
        issuer: String::new(),
        issuer_der: Vec::new(),
        subject_der: Vec::new(),
        public_key: Vec::new(),
        key_type: None,
        authority_key_identifier: Some(vec![1]),
        is_ca: false,
    };
    let Some(id) = CertificateId::of(&leaf) else { return };
    assert!(usual_at(validity) <= validity.not_after.max(validity.not_before));
    assert!(reserve_at(validity) <= validity.not_after);
    let mut known = None;
    while let (Some(start), Some(end), Some(now), Some(luck)) =
        (numbers.next(), numbers.next(), numbers.next(), numbers.next())
    {
        let now = moment(now);
        let window = SuggestedWindow::new(moment(start), moment(end));
        let luck_of = Jitter::new(f64::from_bits(luck));
        check_pauses(luck, validity.life_left(now), luck_of);
        let info = RenewalInfo {
            suggested_window: window,
            explanation_url: None,
            poll_after: (luck % 2 == 0).then(|| Duration::from_secs(luck)),
        };
        let learnt = suggestion::learn(id.clone(), known.as_ref(), &info, &leaf, luck_of, now);
        check_learnt(&learnt, window, now);
        let selected = learnt.suggestion.selected_renewal;
        let _early = selected.map(|it| suggestion::is_early(&leaf, it, now));
        let missed = suggestion::miss(
            id.clone(),
            Some(&learnt.suggestion),
            &leaf,
            luck % 3 == 0,
            (luck % 5 == 0).then(|| moment(luck)),
            now,
        );
        assert_eq!(missed.selected_renewal, selected, "what was advised before holds");
        known = Some(if luck % 7 == 0 { missed } else { learnt.suggestion });
    }
}

/// Small numbers are seconds as they are; larger ones lie in the years that clocks show.
fn moment(number: u64) -> Timestamp {
    let seconds = number & 0xff_ffff_ffff;
    Timestamp::from_unix_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn check_learnt(learnt: &suggestion::Learnt, window: Option<SuggestedWindow>, now: Timestamp) {
    let suggestion = &learnt.suggestion;
    let wait = suggestion.next_poll_at.since(now);
    let shortest = Duration::from_secs(60);
    assert!(wait >= shortest || suggestion.next_poll_at == Timestamp::MAX, "{wait:?}");
    assert!(wait <= Duration::from_secs(24 * 3600), "{wait:?}");
    assert_eq!(suggestion.window, window);
    assert_eq!(suggestion.selected_renewal.is_some(), window.is_some());
    assert!(suggestion.changed_at.len() <= 4, "{:?}", suggestion.changed_at);
    if let (Some(window), Some(selected), false) =
        (window, suggestion.selected_renewal, learnt.is_unsteady)
    {
        assert!(!learnt.is_new || window.start <= selected && selected <= window.end);
    }
}

fn check_pauses(number: u64, left: Duration, luck: Jitter) {
    let failures = u32::try_from(number % (1 << 32)).unwrap_or(u32::MAX);
    for left in [None, Some(left)] {
        let pause = after_ca_failure(failures, left, luck).as_secs();
        assert!((8..=103_680).contains(&pause), "{pause}");
    }
    assert!((4..=330).contains(&after_local_failure(failures, luck).as_secs()));
}
