//! The proof: every endpoint of a target is asked what it serves, until it is what is wanted.
//!
//! # Rules
//!
//! - An endpoint is asked for its own names that the certificate covers; if it has none of its own,
//!   for the certificate's. Wildcards are never asked for. No SNI for addresses.
//! - For a certificate of a pair it is asked by a client that takes keys of its family alone: any
//!   other might be shown either.
//! - It is *served* when [`IN_A_ROW`] fresh handshakes in a row, at every address that its host
//!   name has, a moment apart, showed the certificate and proved its key; and, where the chain that
//!   we hold has an issuer of the leaf that is no root, a certificate of that name as well.
//! - It has *failed* if it serves something else or nothing, and has to serve it, or was once seen
//!   to serve one of ours for this name, or shows a certificate for the name: whoever asks for it
//!   is shown that one. Else it is *unproven*: nobody is there, or somebody for other names.
//! - The target is failed if one endpoint has failed, served if one is served, else unproven;
//!   installed if it has no endpoints.
//! - Who does not have to serve and shows nothing for the name is not waited for once another does:
//!   not at all if nobody is there, and at most [`GUESS_LIMIT`] if somebody answers.
//!
//! At most [`MAX_PAIRS`] pairs of endpoint and name are asked, [`PARALLEL`] at a time; if there are
//! more, each endpoint is asked for as many names as all others.
//!
//! Not here: one question ([`super::endpoint`]), and when to ask ([`crate::plan`]).

use std::time::Duration;

use futures_util::stream;
use futures_util::{FutureExt, StreamExt};

use super::endpoint::{Answer, EndpointFault, Inquiry, ask};
use super::{DeployError, TargetSettings, VerifySettings};
use crate::model::{
    CertificateSpec, EndpointCondition, EndpointState, Held, Identifier, KeyFamily, KeyType, Leaf,
    Timestamp, chain_text,
};
use crate::sys::clock::Clock;

/// Fresh handshakes that make a proof: during a reload old and new workers answer side by side.
const IN_A_ROW: usize = 3;

/// Pairs of endpoint and name that are asked at most.
const MAX_PAIRS: usize = 64;

/// How many of them at a time.
const PARALLEL: usize = 8;

/// How long those that need not serve are waited for while others do.
const GUESS_LIMIT: Duration = Duration::from_secs(5);

/// The first pause between two rounds; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two rounds.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is served by a target.
#[derive(Debug)]
pub struct Verified {
    /// How the target stands as a whole.
    pub state: EndpointCondition,
    /// What each endpoint answered for each name.
    pub endpoints: Vec<EndpointState>,
    /// Why it is not served, where it is failed or unproven.
    pub error: Option<DeployError>,
}

/// What endpoints are to show, and what they are asked for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The certificate.
    pub leaf: &'a Leaf,
    /// Whether its issuer has to be shown with it.
    pub needs_issuer: bool,
    /// The names that an endpoint is asked for which has none of its own.
    pub names: Vec<Identifier>,
    /// The only keys that we take, if not all.
    pub only: Option<KeyFamily>,
}

impl<'a> Wanted<'a> {
    /// That `held` of `spec` is served: for `verify_names`, else for the identifiers without
    /// wildcards.
    #[must_use]
    pub fn of(spec: &CertificateSpec, held: &'a Held) -> Self {
        let Held { leaf, needs_issuer, .. } = held;
        let names = if spec.verify_names.is_empty() {
            spec.identifiers.iter().filter(|it| !it.is_wildcard()).cloned().collect()
        } else {
            spec.verify_names.clone()
        };
        let family = leaf.key_type.map(KeyType::family);
        let only = family.filter(|_| spec.paired_with.is_some());
        Self { leaf, needs_issuer: *needs_issuer, names, only }
    }
}

impl Wanted<'_> {
    fn inquiry<'a>(&'a self, times: usize, clock: &'a dyn Clock) -> Inquiry<'a> {
        let Self { leaf, needs_issuer, only, .. } = *self;
        Inquiry { wanted: leaf, needs_issuer, only, times, clock }
    }
}

/// Asks every endpoint of `target` until it has served `wanted` three fresh handshakes in a row, or
/// the target's `verify_timeout` has passed. Each is asked at least once.
///
/// `before` is what the last call found.
pub async fn verify(
    target: &TargetSettings,
    wanted: &Wanted<'_>,
    before: &[EndpointState],
    clock: &dyn Clock,
) -> Verified {
    let began = clock.monotonic();
    let mut questions = questions(target, wanted, before);
    let inquiry = wanted.inquiry(IN_A_ROW, clock);
    let mut pause = FIRST_PAUSE;
    loop {
        ask_round(&mut questions, |_| inquiry).await;
        let passed = clock.monotonic().saturating_sub(began);
        let left = target.verify_timeout.saturating_sub(passed);
        if left.is_zero() || is_settled(&questions, passed) {
            return verified(target, wanted.leaf, questions);
        }
        clock.sleep(pause.min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One look at every endpoint of `target`, for watching what is served between deployments: one
/// handshake where `before` says that `wanted` was served, else the three of a proof. Arguments as
/// in [`verify`].
pub async fn look(
    target: &TargetSettings,
    wanted: &Wanted<'_>,
    before: &[EndpointState],
    clock: &dyn Clock,
) -> Verified {
    let mut questions = questions(target, wanted, before);
    let (again, anew) = (wanted.inquiry(1, clock), wanted.inquiry(IN_A_ROW, clock));
    ask_round(&mut questions, |it| if it.was_served { again } else { anew }).await;
    verified(target, wanted.leaf, questions)
}

/// One endpoint, one name, and the last answer.
#[derive(Debug)]
struct Question<'a> {
    endpoint: &'a VerifySettings,
    name: &'a Identifier,
    /// Whether it was proved to serve what is wanted when it was asked before.
    was_served: bool,
    ever_served: bool,
    answer: Option<(Answer, Timestamp)>,
}

impl Question<'_> {
    fn is_served(&self) -> bool {
        self.answer.as_ref().is_some_and(|(answer, _)| answer.fault.is_none())
    }

    /// Whether it is a fault if it is not served.
    fn is_owed(&self) -> bool {
        self.endpoint.required
            || self.ever_served
            || self.fault().is_some_and(EndpointFault::is_of_the_name)
    }

    fn fault(&self) -> Option<&EndpointFault> {
        self.answer.as_ref()?.0.fault.as_ref()
    }

    fn state(&self) -> EndpointCondition {
        if self.is_served() {
            EndpointCondition::Served
        } else if self.is_owed() {
            EndpointCondition::Failed
        } else {
            EndpointCondition::Unproven
        }
    }

    fn endpoint_state(&self, wanted: &Leaf) -> Option<EndpointState> {
        let (answer, checked_at) = self.answer.as_ref()?;
        let served = answer.served.as_ref();
        let suffices = |it: &Leaf| wanted.identifiers.is_subset(&it.identifiers);
        Some(EndpointState {
            address: self.endpoint.address.clone(),
            name: self.name.clone(),
            state: self.state(),
            served_serial: answer.serial(),
            served_sha256: served.map(|it| it.sha256),
            served_validity: served.map(|it| it.validity),
            served_suffices: served.is_some_and(suffices),
            checked_at: *checked_at,
            ever_served: self.ever_served || self.is_served(),
            last_error: answer.fault.as_ref().map(|it| chain_text(it)),
        })
    }
}

/// All questions, the first name of every endpoint before the second of any.
fn questions<'a>(
    target: &'a TargetSettings,
    wanted: &'a Wanted<'_>,
    before: &[EndpointState],
) -> Vec<Question<'a>> {
    let mut of_each: Vec<_> = target
        .verify
        .iter()
        .map(|endpoint| {
            let own = if endpoint.names.is_empty() { &wanted.names } else { &endpoint.names };
            let asked = own.iter().filter(|it| !it.is_wildcard() && wanted.leaf.covers(it));
            (endpoint, asked.collect::<Vec<_>>().into_iter())
        })
        .collect();
    let mut questions = Vec::new();
    loop {
        let count = questions.len();
        for (endpoint, names) in &mut of_each {
            let Some(name) = names.next() else { continue };
            if questions.len() < MAX_PAIRS {
                let earlier =
                    before.iter().find(|it| it.address == endpoint.address && it.name == *name);
                let serves = |it: &EndpointState| {
                    it.state == EndpointCondition::Served
                        && it.served_sha256 == Some(wanted.leaf.sha256)
                };
                questions.push(Question {
                    endpoint,
                    name,
                    was_served: earlier.is_some_and(serves),
                    ever_served: earlier.is_some_and(|it| it.ever_served),
                    answer: None,
                });
            }
        }
        if questions.len() == count {
            return questions;
        }
    }
}

/// Asks again for whatever is not served yet, each as `inquiry` says.
async fn ask_round<'a>(
    questions: &mut [Question<'_>],
    inquiry: impl Fn(&Question<'_>) -> Inquiry<'a>,
) {
    let mut asking = Vec::new();
    for question in questions.iter_mut() {
        if !question.is_served() {
            let inquiry = inquiry(question);
            // Boxed: the compiler can't prove that a stream of bare futures can be sent on.
            asking.push(ask_one(question, inquiry).boxed());
        }
    }
    stream::iter(asking).buffer_unordered(PARALLEL).collect::<()>().await;
}

async fn ask_one(question: &mut Question<'_>, inquiry: Inquiry<'_>) {
    let answer = ask(question.endpoint, question.name, inquiry).await;
    question.answer = Some((answer, inquiry.clock.now()));
}

/// Whether waiting longer, after `passed`, would change nothing that counts.
fn is_settled(questions: &[Question<'_>], passed: Duration) -> bool {
    let is_absent = |it: &Question<'_>| it.fault().is_some_and(EndpointFault::is_absence);
    let somebody_serves = questions.iter().any(Question::is_served);
    questions.iter().all(|it| {
        let is_no_loss = somebody_serves && !it.is_owed();
        it.is_served() || (is_no_loss && (is_absent(it) || passed >= GUESS_LIMIT))
    })
}

fn verified(target: &TargetSettings, wanted: &Leaf, questions: Vec<Question<'_>>) -> Verified {
    let endpoints: Vec<_> = questions.iter().filter_map(|it| it.endpoint_state(wanted)).collect();
    let none = |state| Verified { state, endpoints: Vec::new(), error: None };
    if target.verify.is_empty() {
        return none(EndpointCondition::Installed);
    }
    let target = target.name.clone();
    if questions.is_empty() {
        let error = Some(DeployError::NoName { target });
        return Verified { error, ..none(EndpointCondition::Unproven) };
    }
    let states = || endpoints.iter().map(|it| it.state);
    let state = if states().any(|it| it == EndpointCondition::Failed) {
        EndpointCondition::Failed
    } else if states().any(|it| it == EndpointCondition::Served) {
        EndpointCondition::Served
    } else {
        EndpointCondition::Unproven
    };
    let error = questions.into_iter().find(|it| it.state() == state).and_then(|question| {
        let source = Box::new(question.answer?.0.fault?);
        let name = question.name.clone();
        let address = question.endpoint.address.clone();
        Some(match state {
            EndpointCondition::Unproven => DeployError::Unproven { target, name, source },
            _ => DeployError::NotServed { address, name, source },
        })
    });
    Verified { state, endpoints, error }
}

#[cfg(test)]
mod tests;
