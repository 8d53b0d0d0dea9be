//! What is remembered of a certificate and of each of its targets, between runs.
//!
//! Unknown fields are passed over and missing ones have defaults, so that version N-1 reads what
//! version N wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Attempts, CaName, CaState, Failure, Fault, Fingerprint, Fitness, Generation, Identifier, Retry,
    Revocation, RevocationCheck, StandIn, Suggestion, Timestamp, Validity,
};

/// `private/certificates/<name>/state.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateState {
    /// How the renewal goes as a whole, whichever CA was asked: what people are told. When the next
    /// try comes follows from [`Self::ours`] and [`Self::cas`]; a version that knows one CA goes by
    /// this.
    #[serde(default)]
    pub attempts: Attempts,
    /// The newest generation there was when `attempts` last failed, 0 if there was none: a newer
    /// one came after that, whatever clocks say. `None` of what an earlier version wrote.
    #[serde(default)]
    pub failed_beside: Option<Generation>,
    /// A digest of what was wanted when `attempts` failed: a changed configuration starts afresh.
    #[serde(default)]
    pub attempted_spec: Option<String>,
    /// The CA that was asked in the last of them.
    #[serde(default)]
    pub attempted_ca: Option<CaName>,
    /// Failures of our own side, which keep us from every CA.
    #[serde(default)]
    pub ours: Attempts,
    /// What the last of them says; `None` where that is not known.
    #[serde(default)]
    pub ours_fault: Option<Fault>,
    /// What is known of each CA that failed or said when not to be asked.
    #[serde(default)]
    pub cas: BTreeMap<CaName, CaState>,
    /// The certificate that came from a stand-in, if it is the held one or was.
    #[serde(default)]
    pub stand_in: Option<StandIn>,
    /// Whether each stand-in would issue if it were asked.
    #[serde(default)]
    pub fitness: BTreeMap<CaName, Fitness>,
    /// What the CA advised for the certificate that is held, or was.
    #[serde(default)]
    pub suggestion: Option<Suggestion>,
    /// The certificate that is revoked, if it is the held one or was.
    #[serde(default)]
    pub revocation: Option<Revocation>,
    /// When the CA's list was last looked at.
    #[serde(default)]
    pub revocation_check: Option<RevocationCheck>,
}

impl CertificateState {
    /// Takes over what a version wrote that knew one CA.
    pub fn adopt(&mut self) {
        if self.attempts.failures == 0 || !self.cas.is_empty() || self.ours != Attempts::default() {
            return;
        }
        match self.attempted_ca.clone() {
            Some(ca) => {
                let attempts = self.attempts.clone();
                self.cas.insert(ca, CaState { attempts, ..CaState::default() });
            }
            None => self.ours = self.attempts.clone(),
        }
    }

    /// Notes that `ca` is asked for what has the digest `spec`. If something else was wanted
    /// before, all ladders begin anew; until when each CA does not want to be asked stays.
    pub fn begin(&mut self, spec: Option<&str>, ca: Option<&CaName>) {
        if self.attempted_spec.as_deref() != spec {
            self.attempted_spec = spec.map(str::to_owned);
            self.ours = Attempts::default();
            self.ours_fault = None;
            self.cas.values_mut().for_each(CaState::begin_anew);
        }
        self.attempted_ca = ca.cloned();
    }

    /// The tries that a failure which says `fault` belongs to: those at the attempted CA, whose
    /// directory is at `directory`, or those that never came so far.
    pub fn tries(&mut self, fault: Fault, directory: &str) -> &mut Attempts {
        let Some(ca) = self.attempted_ca.clone().filter(|_| !fault.is_ours()) else {
            self.ours_fault = Some(fault);
            return &mut self.ours;
        };
        let known = self.cas.entry(ca).or_default();
        if !known.directory.is_empty() && known.directory != directory {
            *known = CaState::default();
        }
        directory.clone_into(&mut known.directory);
        known.fault = Some(fault);
        &mut known.attempts
    }

    /// Notes a failure of the tries that `fault` says, after which `pause` follows unless `retry`
    /// says otherwise.
    pub fn fail(
        &mut self,
        failure: &Failure,
        fault: Fault,
        directory: &str,
        (retry, pause): (Retry, Duration),
    ) {
        let tries = self.tries(fault, directory);
        tries.fail(failure.clone(), retry, pause);
        let latest = tries.clone();
        let failures = self.attempts.failures.saturating_add(1);
        let since = self.attempts.since.or(latest.since);
        self.attempts = Attempts { failures, since, ..latest };
    }

    /// Notes that a try at the attempted CA, whose directory is at `directory`, was held back at
    /// `now` until `until`.
    pub fn hold(&mut self, directory: &str, now: Timestamp, until: Timestamp) {
        let known = self.attempted_ca.as_ref().and_then(|it| self.cas.get(it));
        let fault = known.and_then(|it| it.fault).filter(|it| !it.is_ours());
        self.tries(fault.unwrap_or(Fault::Outage), directory).hold(now, until);
    }

    /// Makes up for what a run could not note that stored a certificate and died: whether `held`,
    /// which came from `ca` as far as known, is newer than the last failure, and so ended it.
    pub fn catch_up(&mut self, held: Generation, ca: Option<&CaName>, now: Timestamp) -> bool {
        if self.failed_beside.is_none_or(|it| held <= it) {
            return false;
        }
        self.attempted_ca = ca.cloned();
        self.succeed(now);
        true
    }

    /// Notes that the attempted CA gave a certificate: nothing is left of the failures before it,
    /// but until when another CA does not want to be asked.
    pub fn succeed(&mut self, now: Timestamp) {
        self.attempts.succeed();
        self.failed_beside = None;
        self.ours.succeed();
        self.ours_fault = None;
        if let Some(ca) = &self.attempted_ca {
            self.cas.remove(ca);
        }
        self.cas.retain(|_, it| it.attempts.forbidden_until(now).is_some());
        self.cas.values_mut().for_each(CaState::begin_anew);
    }
}

/// `private/targets/<target>/<name>.json`: how far one certificate has come at one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// How the deployment goes.
    #[serde(default)]
    pub attempts: Attempts,
    /// The certificate that `attempts` were for: a new one starts afresh.
    #[serde(default)]
    pub attempted: Option<Fingerprint>,
    /// The certificate whose files may stand in the place of others without that the server's test
    /// has passed with them; noted before they are put there.
    #[serde(default)]
    pub untested: Option<Fingerprint>,
    /// The certificate whose files stay although the test refuses them: it refuses the earlier ones
    /// too.
    #[serde(default)]
    pub without_fault: Option<Fingerprint>,
    /// The certificate whose files are in place.
    #[serde(default)]
    pub installed: Option<Fingerprint>,
    /// The certificate that the server was last told to load.
    #[serde(default)]
    pub reloaded: Option<Fingerprint>,
    /// The certificate that every endpoint was last seen to serve.
    #[serde(default)]
    pub served: Option<Fingerprint>,
    /// When the endpoints were last asked.
    #[serde(default)]
    pub checked_at: Option<Timestamp>,
    /// What each endpoint answered.
    #[serde(default)]
    pub endpoints: Vec<EndpointState>,
}

/// What one endpoint answered for one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointState {
    /// Where it listens.
    pub address: String,
    /// The name it was asked for.
    pub name: Identifier,
    /// What came of it.
    pub state: EndpointCondition,
    /// The serial number that it served.
    #[serde(default)]
    pub served_serial: Option<String>,
    /// The identity of what it served.
    #[serde(default)]
    pub served_sha256: Option<Fingerprint>,
    /// When what it served is valid.
    #[serde(default)]
    pub served_validity: Option<Validity>,
    /// Whether what it served is for every identifier of the certificate that we hold.
    #[serde(default)]
    pub served_suffices: bool,
    /// When it was asked.
    pub checked_at: Timestamp,
    /// Whether it has ever served a certificate of ours for this name.
    #[serde(default)]
    pub ever_served: bool,
    /// Why it could not be asked, or why what it serves is wrong.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// How an endpoint, or a target as a whole, stands; the words of `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointCondition {
    /// Nothing done yet for the certificate we hold.
    #[default]
    Waiting,
    /// Files in place and server told; nobody is to be asked.
    Installed,
    /// Seen to serve the certificate we hold.
    Served,
    /// Does not serve it, or could not be made to.
    Failed,
    /// Shows no certificate for this name, and was never seen to serve ours.
    Unproven,
}

#[cfg(test)]
mod kept;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn ca(name: &str) -> CaName {
        name.parse().unwrap()
    }

    /// A failure at 1000 of the CA `name`, asked for what has the digest `a`.
    fn failed(state: &mut CertificateState, name: &str, fault: Fault, retry: Retry) {
        let failure = Failure {
            at: at(1000),
            code: "acme.failed".into(),
            message: "failed".into(),
            hint: None,
        };
        state.begin(Some("a"), Some(&ca(name)));
        state.fail(&failure, fault, "https://ca/dir", (retry, Duration::from_secs(60)));
    }

    #[test]
    fn each_ca_is_remembered_by_itself_and_all_of_them_in_sum() {
        let mut state = CertificateState::default();
        failed(&mut state, "one", Fault::Outage, Retry::NotBefore(at(5000)));
        failed(&mut state, "other", Fault::Refusal, Retry::AfterChange);
        failed(&mut state, "other", Fault::Ours, Retry::BackOff);
        let (one, other) = (&state.cas[&ca("one")], &state.cas[&ca("other")]);
        assert_eq!((one.attempts.failures, one.attempts.not_before), (1, Some(at(5000))));
        assert_eq!((other.attempts.failures, other.attempts.not_before), (1, None));
        assert_eq!((other.fault, state.ours.failures), (Some(Fault::Refusal), 1));
        assert_eq!((state.attempts.failures, state.attempts.since), (3, Some(at(1000))));
        assert_eq!(state.ours_fault, Some(Fault::Ours));
        failed(&mut state, "other", Fault::Solver, Retry::BackOff);
        assert_eq!((state.ours.failures, state.ours_fault), (2, Some(Fault::Solver)));
        assert_eq!(
            state.cas[&ca("other")].fault,
            Some(Fault::Refusal),
            "nothing is said of the CA"
        );
        assert_eq!(state.attempts.not_before, None, "the last failure's");
        let done = |mut state: CertificateState| {
            state.succeed(at(2000));
            state.ours_fault
        };
        assert_eq!(done(state.clone()), None);
        state.begin(Some("b"), None);
        assert_eq!(state.ours_fault, None);
    }

    #[test]
    fn another_wish_begins_all_ladders_anew_and_the_word_of_each_ca_holds_for_any() {
        let mut state = CertificateState::default();
        failed(&mut state, "one", Fault::Outage, Retry::NotBefore(at(5000)));
        failed(&mut state, "one", Fault::Ours, Retry::BackOff);
        state.begin(Some("a"), Some(&ca("one")));
        assert_eq!((state.cas[&ca("one")].attempts.failures, state.ours.failures), (1, 1));
        state.begin(Some("b"), Some(&ca("one")));
        let attempts = &state.cas[&ca("one")].attempts;
        assert_eq!((attempts.failures, attempts.not_before), (0, Some(at(5000))));
        assert_eq!((state.ours.failures, state.attempts.failures), (0, 2));
    }

    #[test]
    fn a_ca_of_another_directory_is_another_one() {
        let mut state = CertificateState::default();
        failed(&mut state, "one", Fault::Outage, Retry::NotBefore(at(5000)));
        assert_eq!(state.tries(Fault::Outage, "https://ca/other").not_before, None);
    }

    #[test]
    fn a_success_forgets_all_but_the_word_of_the_other_cas_while_it_holds() {
        let mut state = CertificateState::default();
        failed(&mut state, "one", Fault::Outage, Retry::NotBefore(at(5000)));
        failed(&mut state, "two", Fault::Outage, Retry::BackOff);
        failed(&mut state, "three", Fault::Outage, Retry::NotBefore(at(5000)));
        let done = |mut state: CertificateState, now| {
            state.succeed(at(now));
            state
        };
        let before = done(state.clone(), 4999);
        let names: Vec<&str> = before.cas.keys().map(CaName::as_str).collect();
        assert_eq!(names, ["one"]);
        let one = &before.cas[&ca("one")];
        assert_eq!((one.attempts.failures, one.attempts.not_before), (0, Some(at(5000))));
        assert_eq!((before.attempts, before.ours), Default::default());
        assert!(done(state, 5000).cas.is_empty());
    }

    /// D04: what came after the last failure ended it, also where nobody noted that.
    #[test]
    fn a_certificate_that_is_newer_than_the_last_failure_has_ended_it() {
        let mut failing = CertificateState::default();
        failed(&mut failing, "one", Fault::Outage, Retry::NotBefore(at(5000)));
        failed(&mut failing, "two", Fault::Outage, Retry::NotBefore(at(5000)));
        let caught_up = |state: &CertificateState, held, from| {
            let mut state = state.clone();
            let is_newer = state.catch_up(Generation(held), Some(&ca(from)), at(2000));
            (is_newer, state)
        };
        let of_before = caught_up(&failing, 4, "two");
        assert_eq!(of_before, (false, failing.clone()), "an earlier version did not note it");
        failing.failed_beside = Some(Generation(3));
        assert_eq!(caught_up(&failing, 3, "two"), (false, failing.clone()));
        assert!(!caught_up(&failing, 2, "two").0, "a rollback is no success");
        for (from, other) in [("one", "two"), ("two", "one")] {
            let (is_newer, state) = caught_up(&failing, 4, from);
            assert!(is_newer);
            assert_eq!((state.attempts.failures, state.failed_beside), (0, None));
            let names: Vec<&str> = state.cas.keys().map(CaName::as_str).collect();
            assert_eq!(names, [other], "its word still holds");
        }
    }

    #[test]
    fn what_a_version_wrote_that_knew_one_ca_is_taken_over() {
        let mut written = CertificateState::default();
        failed(&mut written, "one", Fault::Outage, Retry::NotBefore(at(5000)));
        written.cas.clear();
        let mut state = written.clone();
        state.adopt();
        assert_eq!(state.cas[&ca("one")].attempts, written.attempts);
        let known = state.clone();
        state.adopt();
        assert_eq!(state, known, "once");
        let mut state = CertificateState { attempted_ca: None, ..written.clone() };
        state.adopt();
        assert_eq!(state.ours, written.attempts);
    }
}
