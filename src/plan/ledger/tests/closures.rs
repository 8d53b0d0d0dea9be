//! What several orders hear of the same door.

use super::*;

/// Says something else than what it is said of.
const GUESSED: &str = "slow down";
const KNOWN: &str = "too many certificates (50) already issued for \"a.example\" in the last 168h";

/// Has the CA say `text` to an order for `www.a.example`, which binds until `until`.
fn hear_until(record: &mut LedgerRecord, text: &str, until: Timestamp, now: Timestamp) {
    let said = Said { step: RefusedStep::Order, status: 429, text, until };
    note_refusal(record, &names(&["www.a.example"]), &said, now);
}

/// Until when an order for a sibling would be refused, and with which words.
fn closed_until(record: &LedgerRecord, now: Timestamp) -> Option<(Timestamp, String)> {
    let sibling = names(&["mail.a.example"]);
    let refusal = refusal(record, &Limits::default(), &wish(&sibling, BY_HAND), now)?;
    Some((refusal.until, refusal.said.unwrap()))
}

/// Has the CA say each of `said` at once, and compares.
#[track_caller]
fn check(said: &[(&str, u64)], expected: (&str, u64)) {
    let mut record = LedgerRecord::default();
    for (text, hours) in said {
        hear_until(&mut record, text, at(hours * HOUR), at(0));
    }
    let (text, hours) = expected;
    assert_eq!(closed_until(&record, at(1)), Some((at(hours * HOUR), text.to_owned())), "{said:?}");
}

/// A02: orders that were under way together are each told something.
#[test]
fn of_two_refusals_of_one_door_the_longer_one_holds() {
    let other = "too many certificates (51) already issued for \"a.example\" in the last 168h";
    check(&[(KNOWN, 24), (other, 1)], (KNOWN, 24));
    check(&[(KNOWN, 1), (other, 24)], (other, 24));
    check(&[(GUESSED, 24), ("no", 1)], (GUESSED, 24));
    check(&[("no", 1), (GUESSED, 24)], (GUESSED, 24));
}

/// A02: what it did not say is guessed, and what it says later is so.
#[test]
fn the_cas_own_word_ends_a_guess_and_no_guess_ends_its_word() {
    check(&[(GUESSED, 24), (KNOWN, 1)], (KNOWN, 1));
    check(&[(KNOWN, 24), (GUESSED, 1)], (KNOWN, 24));
    check(&[(KNOWN, 2), (GUESSED, 2)], (KNOWN, 2));
    check(&[(GUESSED, 2), (KNOWN, 2)], (KNOWN, 2));
    // Whoever is told to wait longer does, and what it said before is no guess by that.
    check(&[(KNOWN, 2), (GUESSED, 24), (KNOWN, 1)], (GUESSED, 24));
}

#[test]
fn a_door_that_is_open_again_is_closed_for_as_long_as_the_ca_says_then() {
    let mut record = LedgerRecord::default();
    hear_until(&mut record, KNOWN, at(24 * HOUR), at(0));
    hear_until(&mut record, GUESSED, at(25 * HOUR), at(24 * HOUR));
    assert_eq!(closed_until(&record, at(24 * HOUR)), Some((at(25 * HOUR), GUESSED.to_owned())));
    hear_until(&mut record, KNOWN, at(24 * HOUR + 60), at(24 * HOUR + 1));
    let until = at(24 * HOUR + 60);
    assert_eq!(closed_until(&record, at(24 * HOUR + 1)), Some((until, KNOWN.to_owned())));
    assert_eq!(closed_until(&record, until), None);
}

proptest! {
    /// In whatever order it is heard, what the CA said itself is waited for to its end, and nobody
    /// waits longer than for the longest of all that was said.
    #[test]
    fn no_order_of_refusals_opens_a_door_before_the_ca_does(
        heard in proptest::collection::vec((any::<bool>(), 1_u64..8 * DAY), 1..8),
    ) {
        let mut record = LedgerRecord::default();
        let end = |seconds: u64| at(seconds.min(7 * DAY));
        for (is_guess, seconds) in &heard {
            let text = if *is_guess { GUESSED } else { KNOWN };
            hear_until(&mut record, text, at(*seconds), at(0));
        }
        let (until, _) = closed_until(&record, at(0)).unwrap();
        let known = heard.iter().filter(|(is_guess, _)| !is_guess).map(|(_, it)| end(*it)).max();
        prop_assert!(known.is_none_or(|it| until >= it));
        let longest = heard.iter().map(|(_, it)| end(*it)).max().unwrap();
        prop_assert!(until <= longest);
        prop_assert!(known.is_some() || until == longest);
    }
}
