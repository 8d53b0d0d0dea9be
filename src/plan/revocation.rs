//! When the CA's list of revoked certificates is looked at.
//!
//! # Rules
//!
//! 1. a certificate is first looked up six hours after it came: it can't be on a list before, and a
//!    CA that revoked whatever it issues would else have us order without end
//! 2. then every six hours, whether there was a list or not: a list that is valid for days is made
//!    anew more often, and nobody is asked more often than that
//! 3. never before it came, nor after its end
//!
//! Not here: looking ([`crate::lifecycle`]).

use std::time::Duration;

use crate::model::{Held, RevocationCheck, Timestamp};

/// Between two looks at a list.
pub const INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);

/// When the lists of `held` are looked at next; `None` if they are not.
#[must_use]
pub fn next_check_at(
    held: &Held,
    last: Option<&RevocationCheck>,
    now: Timestamp,
) -> Option<Timestamp> {
    if held.is_placeholder() || held.leaf.validity.has_expired(now) {
        return None;
    }
    // A moment in the future is one of a clock that was put right since.
    let last = last.filter(|it| it.certificate == held.fingerprint() && it.checked_at <= now);
    let issued_at = held.origin.as_ref()?.issued_at;
    // What came in the future came by such a clock too. Its own word is the next best: with `now`
    // in its place the look would be put off for ever.
    let came_at = if issued_at <= now { issued_at } else { held.leaf.validity.not_before.min(now) };
    let from = last.map_or(came_at, |it| it.checked_at);
    Some(from.saturating_add(INTERVAL))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{Fingerprint, Generation, KeyType, Leaf, Origin, Validity};

    fn hour(hours: u64) -> Timestamp {
        Timestamp::EPOCH.saturating_add(Duration::from_secs(hours * 3600))
    }

    /// It came at the hour 100, and ends at the hour 1000.
    fn held() -> Held {
        let leaf = Leaf {
            sha256: Fingerprint::of(b"leaf"),
            serial: vec![1],
            identifiers: BTreeSet::new(),
            validity: Validity { not_before: hour(99), not_after: hour(1000) },
            issuer: String::new(),
            issuer_der: Vec::new(),
            subject_der: Vec::new(),
            public_key: Vec::new(),
            key_type: None,
            authority_key_identifier: None,
            is_ca: false,
        };
        let origin = Origin {
            ca: "lab".parse().unwrap(),
            directory: "https://ca.example/dir".into(),
            profile: None,
            key_type: KeyType::P256,
            csr: None,
            issued_at: hour(100),
            order_url: None,
            test: false,
            preferred_chain: None,
        };
        let directory = "/certs/site/0001".into();
        let (generation, origin) = (Some(Generation(1)), Some(origin));
        Held { generation, leaf, needs_issuer: false, origin, directory }
    }

    fn checked(at: u64) -> RevocationCheck {
        RevocationCheck { certificate: Fingerprint::of(b"leaf"), checked_at: hour(at) }
    }

    #[test]
    fn a_list_is_looked_at_every_six_hours_from_the_sixth_on() {
        let held = held();
        assert_eq!(next_check_at(&held, None, hour(100)), Some(hour(106)));
        assert_eq!(next_check_at(&held, Some(&checked(106)), hour(107)), Some(hour(112)));
        let other = RevocationCheck { certificate: Fingerprint::of(b"x"), ..checked(106) };
        assert_eq!(next_check_at(&held, Some(&other), hour(107)), Some(hour(106)));
    }

    #[test]
    fn a_clock_that_went_back_delays_it_by_no_more_than_six_hours() {
        let held = held();
        assert_eq!(next_check_at(&held, Some(&checked(900)), hour(200)), Some(hour(106)));
        assert_eq!(next_check_at(&held, None, hour(50)), Some(hour(56)));
    }

    #[test]
    fn what_came_in_the_future_is_looked_up_all_the_same() {
        let mut held = held();
        held.leaf.validity.not_before = hour(10);
        for now in [20, 60, 99] {
            assert_eq!(next_check_at(&held, None, hour(now)), Some(hour(16)));
        }
        assert_eq!(next_check_at(&held, None, hour(100)), Some(hour(106)));
    }

    #[test]
    fn what_has_ended_or_came_from_nowhere_is_not_looked_up() {
        assert_eq!(next_check_at(&held(), None, hour(1001)), None);
        let placeholder = Held { generation: None, ..held() };
        assert_eq!(next_check_at(&placeholder, None, hour(200)), None);
    }
}
