//! Asks the CA when a certificate is to be renewed (RFC 9773), and remembers what it said.
//!
//! Advice is never waited for: targets are served first, a CA that does not answer costs seconds,
//! and what it does not say is decided by the life of the certificate.
//!
//! Not here: what follows from an answer ([`crate::plan::suggestion`]).

use std::time::Duration;

use crate::model::{
    CaName, CertificateId, CertificateSpec, Event, Explain, Failure, Held, Leaf, RenewalInfo,
    Retry, StorageError, Timestamp,
};
use crate::plan::suggestion::{self, Learnt};

use super::Lifecycle;
use super::facts::Facts;

/// How long an answer may take: others wait for the slot.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// For so long after that nobody asks about another certificate: less than the shortest pause, so
/// that no certificate's own next try falls into it.
const SILENCE: Duration = Duration::from_secs(40);

/// Whom to ask, and about what.
struct Question<'a> {
    id: CertificateId,
    ca: &'a CaName,
    leaf: &'a Leaf,
}

impl Lifecycle {
    /// When the CA is asked about what is held for `spec`; `None` if it is not.
    pub(super) fn poll_at(&self, spec: &CertificateSpec, facts: &Facts) -> Option<Timestamp> {
        let now = self.clock.now();
        let question = self.question(spec, facts, now)?;
        Some(suggestion::next_poll_at(&question.id, facts.state.suggestion.as_ref(), now))
    }

    /// Asks the CA about what is held for `spec`, if that is due; what it says is in `facts` then,
    /// and on disk. What it does not say is no failure.
    pub(super) async fn ask_for_suggestion(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
    ) -> Result<(), StorageError> {
        let now = self.clock.now();
        let Some(question) = self.question(spec, facts, now) else { return Ok(()) };
        let known = facts.state.suggestion.as_ref();
        if suggestion::next_poll_at(&question.id, known, now) > now {
            return Ok(());
        }
        let Some(client) = self.issuer.clients.get(question.ca) else { return Ok(()) };
        let whom = format!("renewalInfo of {}", question.ca);
        let is_silent = self.silences.has(&whom, self.clock.monotonic());
        let asked = tokio::time::timeout(ANSWER_LIMIT, client.renewal_info(&question.id));
        let answer = if is_silent { None } else { asked.await.ok() };
        let is_unheard = match &answer {
            Some(Err(error)) => error.code() == "acme.unreachable",
            Some(Ok(_)) => false,
            None => true,
        };
        if !is_silent && is_unheard {
            self.silences.note(&whom, self.clock.monotonic(), SILENCE);
        }
        let now = self.clock.now();
        let known = match answer {
            Some(Ok(info)) => self.take_advice(spec, facts, &question, &info, now),
            Some(Err(error)) => {
                let miss = Miss {
                    failure: error.failure(now),
                    is_transient: error.is_transient(),
                    retry_at: retry_at(error.retry()),
                };
                self.do_without(spec, facts, &question, miss, now)
            }
            None => {
                let failure = Failure {
                    at: now,
                    code: "acme.unreachable".to_owned(),
                    message: format!(
                        "{}: no answer in {ANSWER_LIMIT:?}, now or just before",
                        question.ca
                    ),
                    hint: None,
                };
                let miss = Miss { failure, is_transient: true, retry_at: None };
                self.do_without(spec, facts, &question, miss, now)
            }
        };
        facts.state.suggestion = Some(known);
        self.store.save_certificate_state(&spec.name, &facts.state).await
    }

    /// What the CA is asked at `now`; `None` if what is held is no live certificate of a CA that is
    /// still wanted and speaks ACME.
    fn question<'a>(
        &self,
        spec: &CertificateSpec,
        facts: &'a Facts,
        now: Timestamp,
    ) -> Option<Question<'a>> {
        let held = facts.held()?;
        let ca = self.ca_of(spec, held)?;
        let id = suggestion::asked_about(held, now)?;
        Some(Question { id, ca, leaf: &held.leaf })
    }

    /// The CA that `held` came from, if it is still wanted for `spec` and the same.
    pub(super) fn ca_of<'a>(&self, spec: &CertificateSpec, held: &'a Held) -> Option<&'a CaName> {
        let origin = held.origin.as_ref()?;
        let client = self.issuer.clients.get(&origin.ca)?;
        let is_same = client.settings().directory == origin.directory;
        (is_same && spec.cas.contains(&origin.ca)).then_some(&origin.ca)
    }

    fn take_advice(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
        question: &Question<'_>,
        info: &RenewalInfo,
        now: Timestamp,
    ) -> crate::model::Suggestion {
        let known = facts.state.suggestion.as_ref();
        let luck = (self.jitter)();
        let Learnt { suggestion, is_new, is_unsteady } =
            suggestion::learn(question.id.clone(), known, info, question.leaf, luck, now);
        let certificate = spec.name.clone();
        if let Some(selected_renewal) = suggestion.selected_renewal.filter(|_| is_new) {
            self.observer.observe(&if is_unsteady {
                Event::SuggestionUnsteady { certificate, selected_renewal }
            } else {
                Event::RenewalSuggested {
                    certificate,
                    selected_renewal,
                    explanation_url: suggestion.explanation_url.clone(),
                    is_early: suggestion::is_early(question.leaf, selected_renewal, now),
                }
            });
        }
        suggestion
    }

    fn do_without(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
        question: &Question<'_>,
        miss: Miss,
        now: Timestamp,
    ) -> crate::model::Suggestion {
        let known = facts.state.suggestion.as_ref();
        let (id, leaf) = (question.id.clone(), question.leaf);
        let suggestion = suggestion::miss(id, known, leaf, miss.is_transient, miss.retry_at, now);
        self.observer.observe(&Event::SuggestionMissing {
            certificate: spec.name.clone(),
            failure: miss.failure,
            retry_at: suggestion.next_poll_at,
        });
        suggestion
    }
}

/// Why there was no usable answer.
struct Miss {
    failure: Failure,
    is_transient: bool,
    retry_at: Option<Timestamp>,
}

const fn retry_at(retry: Retry) -> Option<Timestamp> {
    if let Retry::NotBefore(moment) = retry { Some(moment) } else { None }
}
