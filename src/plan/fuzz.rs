//! What fuzzing feeds to this module: times that certificates and CAs may hold, and records of the
//! ledger and the clock, as a disk or another version may have left them.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use std::time::Duration;

use super::backoff::{Jitter, after_ca_failure, after_local_failure};
use super::renewal::{reserve_at, usual_at};
use super::{clock, ledger, suggestion};
use crate::model::{
    CertificateId, ClockRecord, Identifier, Leaf, LedgerRecord, Limit, Limits, OrderKind,
    OrderWish, Rate, RenewalInfo, SuggestedWindow, Timestamp, Uptime, Validity,
};

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

/// Reads `text` as the record of a ledger and of the clock, and decides by them.
pub fn kept(text: &[u8]) {
    let seen = Timestamp::from_unix_seconds(1_800_000_000);
    if let Ok(record) = serde_json::from_slice::<LedgerRecord>(text) {
        let written = record.written_at.unwrap_or(seen);
        for now in [Timestamp::EPOCH, written, seen, Timestamp::MAX] {
            check_ledger(record.clone(), now);
        }
    }
    if let Ok(record) = serde_json::from_slice::<ClockRecord>(text) {
        let elapsed = Duration::from_millis(record.elapsed_ms);
        let uptime = Uptime { boot: record.boot.clone(), elapsed };
        let found = clock::standing(Some(&record), record.right_at, &uptime);
        assert_eq!(found, clock::Standing::Steady, "it was right then");
        for now in [Timestamp::EPOCH, seen, Timestamp::MAX] {
            let _noted = clock::is_to_be_noted(Some(&record), now, &uptime);
        }
    }
}

/// Spends, gives back and tidies at `now`: nothing is held back for longer than the ledger may.
fn check_ledger(mut record: LedgerRecord, now: Timestamp) {
    const DAY: u64 = 86_400;
    let rate = Rate { count: 5, per: Duration::from_secs(7 * DAY) };
    let limits = Limits {
        directory: record.directory.clone().unwrap_or_default(),
        rates: Limit::ALL.into_iter().filter(|it| !it.is_own()).map(|it| (it, rate)).collect(),
        exempts_replacements: true,
        exempts_renewals: true,
    };
    let identifiers = [Identifier::Dns("www.example.com".into())];
    let kind = OrderKind::default();
    // A life that a file holds is as good as any other.
    let lifetime = ledger::known_lifetime(&record, &identifiers)
        .or_else(|| record.lifetimes.values().next().copied().map(Duration::from_secs));
    let wish = OrderWish { identifiers: &identifiers, kind, lifetime };
    for allowance in ledger::left(&record, &limits, &wish, now) {
        assert!(allowance.left <= allowance.of, "{allowance:?}");
    }
    if let Some(refusal) = ledger::refusal(&record, &limits, &wish, now) {
        assert!(refusal.until >= now, "{refusal:?}");
    }
    ledger::spend_account(&mut record, &limits, now);
    ledger::give_account_back(&mut record, &limits, now);
    ledger::spend_order(&mut record, &limits, &wish, now);
    ledger::spend_proof(&mut record, &limits, &identifiers, lifetime, now);
    ledger::give_proof_back(&mut record, &limits, &identifiers, lifetime, now, now);
    ledger::turn_to(&mut record, "https://another.example/dir");
    ledger::turn_to(&mut record, &limits.directory);
    ledger::tidy(&mut record, now);
    assert_eq!(record.written_at, Some(now));
    let again = record.clone();
    ledger::tidy(&mut record, now);
    assert_eq!(record, again, "what is tidy stays as it is");
}
