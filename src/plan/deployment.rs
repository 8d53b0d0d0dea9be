//! Decides what is due at one target, and why.
//!
//! # Rules
//!
//! 1. a placeholder is handed to nobody: it lies where servers look for it
//! 2. the files of the held certificate are not in place, or the server was not told, or it was not
//!    seen to serve it: deploy, after failures by the ladder
//! 3. it was seen, but not lately: look again, at what it serves and at the files that were
//!    installed for it, which somebody else may have changed
//! 4. what is not valid yet, by clocks that differ, waits until it is: servers would show it to
//!    clients that refuse it
//! 5. a server that was told and never seen to serve the name, where the operator did not say that
//!    it has to, is told again three times, and then only looked at: telling it for ever may cost
//!    it more than the certificate is worth. So is one that has loaded the certificate and shows it
//!    without what belongs to it
//! 6. a server that serves a newer certificate, one that we do not keep and that is as good for
//!    every identifier, keeps it: the store was put back from a backup, and its key is gone with
//!    what came after that. The next renewal replaces both
//!
//! # Not here
//!
//! The ladder ([`super::backoff`]); doing it ([`crate::lifecycle`]).

use std::fmt;
use std::time::Duration;

use crate::model::{EndpointCondition, EndpointState, Held, TargetState, Timestamp};

/// What is served is looked at this often, at least.
const LONGEST_LOOK_INTERVAL: Duration = Duration::from_secs(300);
/// What is served is looked at this often, at most.
const SHORTEST_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A server that telling is not known to help is told this often.
const TELLS_IN_DOUBT: u32 = 4;
/// A certificate that came this long ago may be older than what is served; until then it is not.
const NEWEST_FOR: Duration = Duration::from_secs(3600);
/// A life is looked at this many times.
const LOOKS_A_LIFE: u32 = 20;

/// What is to be done at one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deployment {
    /// It serves what is held, or was told to where nobody is to be asked.
    Served {
        /// When to look again.
        look_at: Timestamp,
    },
    /// There is nothing to hand over.
    Nothing,
    /// Look now whether its files are in place, and ask it what it serves.
    Look,
    /// Install, test, reload and verify now.
    Deploy(DeployReason),
    /// As [`Deployment::Deploy`], after a pause.
    BackOff {
        /// Until then.
        until: Timestamp,
        /// Why.
        reason: DeployReason,
    },
}

/// Why a target needs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeployReason {
    /// The files of the held certificate are not in place.
    NotInstalled,
    /// The server was not told to load it.
    NotReloaded,
    /// The server was not seen to serve it.
    NotServed,
    /// A human wants it.
    Forced,
    /// It is to be deployed as soon as it is valid.
    NotYetValid,
}

impl fmt::Display for DeployReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotInstalled => "its files are not in place",
            Self::NotReloaded => "the server was not told to load it",
            Self::NotServed => "the server does not serve it",
            Self::Forced => "asked for by hand",
            Self::NotYetValid => "it is not valid yet",
        })
    }
}

/// Decides what to do about `held` at a target whose state is `state`.
///
/// `verified` says whether the target is asked what it serves; a human passes by the ladder.
#[must_use]
pub fn decide(
    held: Option<&Held>,
    state: &TargetState,
    verified: Verified,
    asked: super::Asked,
    now: Timestamp,
) -> Deployment {
    let Some(held) = held.filter(|it| !it.is_placeholder()) else { return Deployment::Nothing };
    let fingerprint = Some(held.fingerprint());
    let reason = if state.installed != fingerprint {
        DeployReason::NotInstalled
    } else if state.reloaded != fingerprint {
        DeployReason::NotReloaded
    } else if verified == Verified::ByAsking && state.served != fingerprint {
        DeployReason::NotServed
    } else if asked.redeploys() {
        DeployReason::Forced
    } else {
        return look(held, state, now);
    };
    let not_before = held.leaf.validity.not_before;
    if now < not_before && asked == super::Asked::ByTime {
        return Deployment::BackOff { until: not_before, reason: DeployReason::NotYetValid };
    }
    let waits = asked == super::Asked::ByTime && state.attempted == fingerprint;
    match state.attempts.waits_until(now).filter(|_| waits) {
        Some(until) => Deployment::BackOff { until, reason },
        None => Deployment::Deploy(reason),
    }
}

/// Whether the server of a target with `state`, which was told already, is to be told again.
/// `is_required` says of an endpoint whether the operator named it.
#[must_use]
pub fn is_told_again(state: &TargetState, is_required: impl Fn(&EndpointState) -> bool) -> bool {
    let has_loaded =
        |it: &EndpointState| it.served_sha256.is_some() && it.served_sha256 == state.reloaded;
    let may_load = |it: &EndpointState| {
        it.state != EndpointCondition::Served
            && (it.ever_served || is_required(it))
            && !has_loaded(it)
    };
    state.endpoints.iter().any(may_load) || state.attempts.failures < TELLS_IN_DOUBT
}

/// Whether what a target serves has to be looked at before it is handed `held`: it may be newer.
#[must_use]
pub fn is_looked_at_first(held: &Held, now: Timestamp) -> bool {
    held.origin.as_ref().is_none_or(|it| now.since(it.issued_at) >= NEWEST_FOR)
}

/// Whether `endpoint` was seen to serve a certificate that is newer than `held`, valid at `now`,
/// and for all that `held` is for. Whether it is one of those that we keep is another question.
#[must_use]
pub fn serves_newer(endpoint: &EndpointState, held: &Held, now: Timestamp) -> bool {
    let Some(served) = endpoint.served_validity else { return false };
    let own = held.leaf.validity;
    // CAs date back what they issue: ours was there when it came, not when it says.
    let came_at = held.origin.as_ref().map_or(own.not_before, |it| it.issued_at);
    endpoint.served_suffices
        && endpoint.served_sha256 != Some(held.fingerprint())
        && served.contains(now)
        && served.not_before > came_at.max(own.not_before)
        && served.not_after >= own.not_after
}

/// How a target is known to serve a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It is asked.
    ByAsking,
    /// It is not: that it was told to is all there is.
    NotAtAll,
}

fn look(held: &Held, state: &TargetState, now: Timestamp) -> Deployment {
    // A check in the future is one that a stepped clock made: it counts as none.
    let looked_at = state.checked_at.filter(|it| *it <= now);
    let look_at = looked_at.map(|it| it.saturating_add(look_interval(held)));
    match look_at {
        Some(moment) if now < moment => Deployment::Served { look_at: moment },
        _ => Deployment::Look,
    }
}

/// How often what is served is looked at.
#[must_use]
pub fn look_interval(held: &Held) -> Duration {
    (held.leaf.validity.lifetime() / LOOKS_A_LIFE)
        .clamp(SHORTEST_LOOK_INTERVAL, LONGEST_LOOK_INTERVAL)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::super::Asked;
    use super::*;
    use crate::model::{Failure, Fingerprint, Generation, Leaf, Retry, Validity};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn held() -> Held {
        let leaf = Leaf {
            sha256: Fingerprint::of(b"new"),
            serial: vec![1],
            identifiers: BTreeSet::new(),
            validity: Validity { not_before: at(0), not_after: at(90 * 86_400) },
            issuer: String::new(),
            issuer_der: vec![1],
            subject_der: vec![2],
            public_key: Vec::new(),
            key_type: None,
            authority_key_identifier: None,
            is_ca: false,
        };
        let (generation, directory) = (Some(Generation(2)), PathBuf::new());
        Held { generation, leaf, needs_issuer: false, origin: None, directory }
    }

    fn served_at(seconds: i64) -> TargetState {
        let fingerprint = Some(held().fingerprint());
        TargetState {
            installed: fingerprint,
            reloaded: fingerprint,
            served: fingerprint,
            attempted: fingerprint,
            checked_at: Some(at(seconds)),
            ..TargetState::default()
        }
    }

    #[track_caller]
    fn check(state: &TargetState, now: Timestamp, expected: &Deployment) {
        assert_eq!(&decide(Some(&held()), state, Verified::ByAsking, Asked::ByTime, now), expected);
    }

    /// T05: notBefore an hour ahead is held back, an hour behind is not looked at.
    #[test]
    fn what_is_not_valid_yet_is_deployed_when_it_is() {
        let mut held = held();
        held.leaf.validity.not_before = at(3600);
        let decided = |now, asked| {
            decide(Some(&held), &TargetState::default(), Verified::ByAsking, asked, now)
        };
        let waits = Deployment::BackOff { until: at(3600), reason: DeployReason::NotYetValid };
        assert_eq!(decided(at(3599), Asked::ByTime), waits);
        let deploy = Deployment::Deploy(DeployReason::NotInstalled);
        assert_eq!(decided(at(3600), Asked::ByTime), deploy);
        assert_eq!(decided(at(7200), Asked::ByTime), deploy);
        assert_eq!(decided(at(0), Asked::ByName), deploy, "who names it means it");
    }

    #[test]
    fn what_was_seen_lately_is_served_and_looked_at_again() {
        check(&served_at(1000), at(1299), &Deployment::Served { look_at: at(1300) });
        check(&served_at(1000), at(1300), &Deployment::Look);
        check(&served_at(1000), at(10), &Deployment::Look);
    }

    #[test]
    fn every_step_that_is_not_done_for_this_certificate_is_due() {
        let old = Some(Fingerprint::of(b"old"));
        let deploy =
            |state: &TargetState, reason| check(state, at(1000), &Deployment::Deploy(reason));
        deploy(&TargetState::default(), DeployReason::NotInstalled);
        deploy(&TargetState { installed: old, ..served_at(1000) }, DeployReason::NotInstalled);
        deploy(&TargetState { reloaded: old, ..served_at(1000) }, DeployReason::NotReloaded);
        deploy(&TargetState { served: old, ..served_at(1000) }, DeployReason::NotServed);
    }

    #[test]
    fn failures_wait_for_this_certificate_and_not_for_the_next_one() {
        let mut state = TargetState { served: None, ..served_at(1000) };
        let failure =
            Failure { at: at(1000), code: String::new(), message: String::new(), hint: None };
        state.attempts.fail(failure, Retry::BackOff, Duration::from_secs(30));
        let waits = Deployment::BackOff { until: at(1030), reason: DeployReason::NotServed };
        check(&state, at(1029), &waits);
        check(&state, at(1030), &Deployment::Deploy(DeployReason::NotServed));
        let by_hand = decide(Some(&held()), &state, Verified::ByAsking, Asked::ByName, at(1001));
        assert_eq!(by_hand, Deployment::Deploy(DeployReason::NotServed));
        state.attempted = Some(Fingerprint::of(b"old"));
        check(&state, at(1001), &Deployment::Deploy(DeployReason::NotServed));
    }

    /// S04: only what came after the held one, is for as much and ends no earlier is newer.
    #[test]
    fn what_is_served_is_newer_only_if_nothing_is_lost_by_keeping_it() {
        let mut held = held();
        held.origin = Some(crate::model::Origin {
            ca: "ca".parse().unwrap(),
            directory: String::new(),
            profile: None,
            preferred_chain: None,
            key_type: crate::model::KeyType::P256,
            issued_at: at(3600),
            order_url: None,
            csr: None,
            test: false,
        });
        assert!(!is_looked_at_first(&held, at(7199)));
        assert!(is_looked_at_first(&held, at(7200)));
        let (day, end) = (86_400, 90 * 86_400);
        let newer = |not_before, not_after, suffices, sha256: &[u8]| {
            let endpoint = EndpointState {
                served_sha256: Some(Fingerprint::of(sha256)),
                served_validity: Some(Validity {
                    not_before: at(not_before),
                    not_after: at(not_after),
                }),
                served_suffices: suffices,
                ..endpoint(EndpointCondition::Failed)
            };
            serves_newer(&endpoint, &held, at(10 * day))
        };
        assert!(newer(3601, end, true, b"other"));
        assert!(!newer(3600, end, true, b"other"), "not after it came");
        assert!(!newer(3601, end - 1, true, b"other"), "it ends earlier");
        assert!(!newer(11 * day, 2 * end, true, b"other"), "it is not valid yet");
        assert!(!newer(3601, end, false, b"other"), "a name is missing");
        assert!(!newer(3601, end, true, b"new"), "it is the held one");
        assert!(!serves_newer(&endpoint(EndpointCondition::Failed), &held, at(10 * day)));
    }

    fn endpoint(state: EndpointCondition) -> EndpointState {
        EndpointState {
            address: "127.0.0.1:443".to_owned(),
            name: "example.com".parse().unwrap(),
            state,
            served_serial: None,
            served_sha256: None,
            served_validity: None,
            served_suffices: false,
            checked_at: at(0),
            ever_served: false,
            last_error: None,
        }
    }

    #[test]
    fn a_server_that_never_served_the_name_is_not_told_for_ever() {
        let never = [EndpointCondition::Unproven, EndpointCondition::Failed].map(endpoint);
        let mut state = TargetState { endpoints: never.into(), ..TargetState::default() };
        state.attempts.failures = 3;
        assert!(is_told_again(&state, |_| false));
        state.attempts.failures = 4;
        assert!(!is_told_again(&state, |_| false));
        assert!(is_told_again(&state, |_| true), "the operator named it");
        state.endpoints[1].ever_served = true;
        assert!(is_told_again(&state, |_| false), "one of them once served it");
        state.endpoints[1].state = EndpointCondition::Served;
        assert!(!is_told_again(&state, |_| false), "that one serves it now");
    }

    #[test]
    fn a_server_that_has_loaded_the_certificate_is_not_told_for_ever_to_load_it() {
        let failed = EndpointState { ever_served: true, ..endpoint(EndpointCondition::Failed) };
        let mut state = TargetState { endpoints: vec![failed], ..served_at(0) };
        state.attempts.failures = 4;
        assert!(is_told_again(&state, |_| true));
        state.endpoints[0].served_sha256 = Some(Fingerprint::of(b"old"));
        assert!(is_told_again(&state, |_| true));
        state.endpoints[0].served_sha256 = state.reloaded;
        assert!(!is_told_again(&state, |_| true));
    }

    #[test]
    fn where_nobody_is_asked_told_is_enough() {
        let state = TargetState { served: None, ..served_at(5000) };
        let decided = |now| decide(Some(&held()), &state, Verified::NotAtAll, Asked::ByTime, now);
        assert_eq!(decided(at(5000)), Deployment::Served { look_at: at(5300) });
        assert_eq!(decided(at(5300)), Deployment::Look, "its files may have been changed");
    }

    #[test]
    fn a_placeholder_is_handed_to_nobody() {
        let placeholder = Held { generation: None, ..held() };
        for held in [None, Some(&placeholder)] {
            let decided =
                decide(held, &TargetState::default(), Verified::ByAsking, Asked::Forced, at(0));
            assert_eq!(decided, Deployment::Nothing);
        }
    }

    #[test]
    fn short_lives_are_looked_at_more_often() {
        let mut held = held();
        held.leaf.validity.not_after = at(30);
        assert_eq!(look_interval(&held), Duration::from_millis(1500));
        held.leaf.validity.not_after = at(0);
        assert_eq!(look_interval(&held), SHORTEST_LOOK_INTERVAL);
    }
}
