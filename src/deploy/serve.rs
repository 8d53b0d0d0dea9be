//! The deployer's side of its socket: who may ask, how much, and how long it may take.
//!
//! One user may ask, by the kernel's word, one request for each connection. Sixteen connections are
//! served at once; more wait in the system's queue. A request has to come within five seconds, and
//! at once when all sixteen are taken: so connections that say nothing hold up nobody.
//!
//! Nothing is done for long for somebody who has gone: what is under way for him has twenty seconds
//! more, and its place is another's. What takes long is told while it does.
//!
//! Every call is logged, until there are so many that they would fill the journal: those are
//! counted, and the count is logged.
//!
//! Not here: what is allowed ([`super::client`]), what is done ([`super::direct`]), and where the
//! socket comes from.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::wire::{self, Complaint, LineError, MAX_REQUEST, Outcome, Request, Verb};
use super::{DeployError, Deployer};
use crate::model::chain_text;
use crate::sys::clock::Clock;

/// How many connections are served at once.
const MAX_CONNECTIONS: usize = 16;
/// How long a request may take to come, and an answer to be fetched.
const LINE_LIMIT: Duration = Duration::from_secs(5);
/// How long it may take where all connections are taken. A client's line waits for us, as a rule.
const CROWDED_LIMIT: Duration = Duration::from_millis(100);
/// How long what is being done may take when we are told to end.
const END_LIMIT: Duration = Duration::from_secs(20);
/// How long what is being done may take when whoever asked for it has gone: as a rule it ends well.
const GONE_LIMIT: Duration = END_LIMIT;
/// How often it is looked at whether he has.
const GONE_TICK: Duration = Duration::from_secs(1);
/// What takes longer is told before its end.
const SLOW: Duration = Duration::from_secs(15);
/// How often it is looked at whether there is nothing to do, and told what was not logged.
const TICK: Duration = Duration::from_secs(5);
/// How long no connection is accepted after the system refused one.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// Says who does the work: asked for each request, so that a changed configuration holds at once.
#[async_trait]
pub trait Authority: Send + Sync {
    /// The deployer for what the configuration says now.
    ///
    /// # Errors
    ///
    /// Why nothing is done for anybody.
    async fn deployer(&self) -> Result<Arc<dyn Deployer>, Complaint>;
}

/// A deployer's socket, and what is needed to serve it.
pub struct DeployServer {
    /// The socket.
    pub listener: tokio::net::UnixListener,
    /// The number of the one user who may ask.
    pub user: u32,
    /// Who does the work.
    pub authority: Arc<dyn Authority>,
    /// How long to go on without a connection; `None`: for ever.
    pub idle: Option<Duration>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for DeployServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeployServer").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What every call needs.
struct Shared {
    user: u32,
    authority: Arc<dyn Authority>,
    clock: Arc<dyn Clock>,
    slots: Arc<Semaphore>,
    log: Log,
}

impl DeployServer {
    /// Serves until `end` is done, or there was no connection for as long as [`Self::idle`] says.
    /// What is being done then may take twenty seconds.
    pub async fn serve(self, end: impl Future<Output = ()>) {
        let Self { listener, user, authority, idle, clock } = self;
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let log = Log::new();
        let shared = Arc::new(Shared { user, authority, clock, slots, log });
        let clock = &shared.clock;
        let mut calls = JoinSet::new();
        let mut busy_at = clock.monotonic();
        let tick = idle.map_or(TICK, |it| it.clamp(CROWDED_LIMIT, TICK));
        let mut end = std::pin::pin!(end);
        loop {
            let accepting = async {
                let slot = Arc::clone(&shared.slots).acquire_owned().await;
                (slot, listener.accept().await)
            };
            let is_busy = tokio::select! {
                () = &mut end => break,
                accepted = accepting => match accepted {
                    (Ok(slot), Ok((stream, _address))) => {
                        calls.spawn(answer(Arc::clone(&shared), stream, slot));
                        true
                    }
                    (_, Err(error)) => {
                        tracing::warn!(%error, "the system refuses a connection");
                        clock.sleep(AFTER_REFUSAL).await;
                        true
                    }
                    (Err(_closed), _) => break,
                },
                Some(ended) = calls.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a call broke off");
                    }
                    true
                },
                () = clock.sleep(tick) => {
                    shared.log.tell_unlogged(clock.monotonic());
                    !calls.is_empty()
                }
            };
            let now = clock.monotonic();
            if is_busy {
                busy_at = now;
            }
            if idle.is_some_and(|it| now.saturating_sub(busy_at) >= it) {
                tracing::debug!("nobody asks: ended until somebody does");
                break;
            }
        }
        drop(listener);
        let all = async { while calls.join_next().await.is_some() {} };
        if timeout(END_LIMIT, all).await.is_err() {
            tracing::warn!("ended in the middle of something; the next start repairs it");
        }
        shared.log.tell_unlogged(clock.monotonic());
    }
}

/// Answers one connection. The slot is free again when this ends.
async fn answer(shared: Arc<Shared>, mut stream: UnixStream, slot: OwnedSemaphorePermit) {
    let started = shared.clock.monotonic();
    let peer = stream.peer_cred().ok();
    let (request, outcome) = match receive(&shared, &mut stream, peer.as_ref()).await {
        Ok(request) => {
            let outcome = attend(&shared, &stream, &request).await;
            (Some(request), outcome)
        }
        Err(Refusal::Gone) => return,
        Err(Refusal::Because(complaint)) => (None, Outcome::Failed(complaint)),
    };
    let now = shared.clock.monotonic();
    shared.log.call(peer.as_ref(), request.as_ref(), &outcome, now, now.saturating_sub(started));
    let written = async {
        let line = wire::answer(outcome).map_err(io::Error::other)?;
        stream.write_all(&line).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = timeout(LINE_LIMIT, written).await {
        tracing::debug!(%error, "the answer was not fetched");
    }
    drop(slot);
}

/// A connection brings no request that is carried out.
enum Refusal {
    /// It was closed without a word, as by somebody who only looks whether we are there.
    Gone,
    /// For this reason.
    Because(Complaint),
}

impl Refusal {
    fn because(message: &str) -> Self {
        Self::Because(Complaint::refusal(message, "daemon and deployer are to be of one version"))
    }
}

/// The request that comes over `stream`, if `peer` may make any.
async fn receive(
    shared: &Shared,
    stream: &mut UnixStream,
    peer: Option<&UCred>,
) -> Result<Request, Refusal> {
    if peer.map(UCred::uid) != Some(shared.user) {
        let hint = "the socket is to belong to the user of the daemon alone";
        let message = format!("only the user {} may ask", shared.user);
        return Err(Refusal::Because(Complaint::refusal(&message, hint)));
    }
    let mut reading = std::pin::pin!(wire::read::<Request>(stream, MAX_REQUEST));
    let started = shared.clock.monotonic();
    let read = loop {
        if let Ok(read) = timeout(CROWDED_LIMIT, &mut reading).await {
            break read;
        }
        let waited = shared.clock.monotonic().saturating_sub(started);
        if waited >= LINE_LIMIT || shared.slots.available_permits() == 0 {
            return Err(Refusal::because("the request did not come in time"));
        }
    };
    match read {
        Ok(request) if request.version == wire::VERSION => Ok(request),
        Ok(request) => Err(Refusal::because(&chain_text(&LineError::Version(request.version)))),
        Err(LineError::Nothing) => Err(Refusal::Gone),
        Err(error) => Err(Refusal::because(&chain_text(&error))),
    }
}

/// What comes of `request`, or that whoever is at the other end of `stream` did not wait for it.
async fn attend(shared: &Shared, stream: &UnixStream, request: &Request) -> Outcome {
    let clock = &shared.clock;
    let mut performing = std::pin::pin!(perform(&*shared.authority, request));
    let mut left_alone = std::pin::pin!(async {
        gone(stream, &**clock).await;
        clock.sleep(GONE_LIMIT).await;
    });
    let mut slow = std::pin::pin!(clock.sleep(SLOW));
    let mut is_told = false;
    loop {
        tokio::select! {
            biased;
            outcome = &mut performing => return outcome,
            () = &mut left_alone => {
                let hint = "whoever asked asks again; the target says then what it waits for";
                let complaint = Complaint::refusal("given up, since whoever asked has gone", hint);
                return Outcome::Failed(complaint);
            }
            () = &mut slow, if !is_told => {
                is_told = true;
                shared.log.slow(request, clock.monotonic());
            }
        }
    }
}

/// Ends when nobody is at the other end of `stream` any more. Whoever has closed his side for
/// writing alone waits for an answer.
async fn gone(stream: &UnixStream, clock: &dyn Clock) {
    loop {
        let ended = stream.readable().await;
        let ready = stream.ready(Interest::READABLE | Interest::WRITABLE).await;
        if ended.is_err() || ready.is_ok_and(|it| it.is_write_closed()) {
            return;
        }
        clock.sleep(GONE_TICK).await;
    }
}

async fn perform(authority: &dyn Authority, request: &Request) -> Outcome {
    let deployer = match authority.deployer().await {
        Ok(deployer) => deployer,
        Err(complaint) => return Outcome::Failed(complaint),
    };
    let wanted = request.deploy_request();
    let done = |result: Result<(), DeployError>| result.map(|()| Outcome::Done);
    let result = match request.verb {
        Verb::Check => done(deployer.check(&wanted.certificate, &wanted.target).await),
        Verb::Install => deployer.install(&wanted).await.map(Outcome::Installed),
        Verb::Test => done(deployer.test(&wanted).await),
        Verb::Reload => done(deployer.reload(&wanted).await),
        Verb::PutBack => done(deployer.put_back(&wanted).await),
    };
    result.unwrap_or_else(|error| Outcome::Failed(Complaint::of(&error)))
}

/// The log of calls, with its bound.
struct Log {
    budget: Mutex<Budget>,
}

/// How many calls may still be logged.
#[derive(Debug)]
struct Budget {
    left: u32,
    /// When the last one was added.
    refilled_at: Duration,
    unlogged: u64,
}

/// How many calls may be logged in a row: those of a daemon that starts with a hundred
/// certificates.
const BURST: u32 = 400;
/// How long it takes until one more may be.
const REFILL: Duration = Duration::from_millis(500);
/// The longest reason that is logged, in characters.
const MAX_REASON: usize = 400;

impl Log {
    const fn new() -> Self {
        let budget = Budget { left: BURST, refilled_at: Duration::ZERO, unlogged: 0 };
        Self { budget: Mutex::new(budget) }
    }

    fn call(
        &self,
        peer: Option<&UCred>,
        request: Option<&Request>,
        outcome: &Outcome,
        now: Duration,
        took: Duration,
    ) {
        let (is_allowed, unlogged) = self.locked().take(now);
        if !is_allowed {
            return;
        }
        tell(unlogged);
        let (user, process) = (peer.map(UCred::uid), peer.and_then(UCred::pid));
        let verb = request.map(|it| it.verb.as_str());
        let certificate = request.map(|it| it.certificate.as_str());
        let generation = request.map(|it| it.generation.0);
        let target = request.map(|it| it.target.as_str());
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match outcome {
            Outcome::Installed(_) | Outcome::Done => {
                let outcome =
                    if let Outcome::Installed(it) = outcome { it.as_str() } else { "done" };
                tracing::info!(
                    verb,
                    certificate,
                    generation,
                    target,
                    user,
                    process,
                    outcome,
                    milliseconds,
                    "called"
                );
            }
            Outcome::Failed(Complaint { code, message, .. }) => {
                let outcome = if request.is_some() { "failed" } else { "refused" };
                let reason: String = message.chars().take(MAX_REASON).collect();
                tracing::warn!(
                    verb,
                    certificate,
                    generation,
                    target,
                    user,
                    process,
                    outcome,
                    milliseconds,
                    code,
                    reason,
                    "called in vain"
                );
            }
        }
    }

    /// Tells that what is done for `request` takes long.
    fn slow(&self, request: &Request, now: Duration) {
        let (is_allowed, unlogged) = self.locked().take(now);
        if !is_allowed {
            return;
        }
        tell(unlogged);
        tracing::warn!(
            verb = request.verb.as_str(),
            certificate = request.certificate.as_str(),
            target = request.target.as_str(),
            seconds = SLOW.as_secs(),
            "a call takes long: its program, or a mount that its target's files are on"
        );
    }

    /// Tells how many calls were not logged, if there are any.
    fn tell_unlogged(&self, now: Duration) {
        let unlogged = {
            let mut budget = self.locked();
            if budget.unlogged == 0 {
                return;
            }
            budget.take(now).1
        };
        tell(unlogged);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Budget {
    /// Whether something may be logged at `now`, and how many calls were not before it.
    fn take(&mut self, now: Duration) -> (bool, u64) {
        let passed = now.saturating_sub(self.refilled_at);
        let more = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(BURST);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.refilled_at = now;
        }
        if self.left == 0 {
            self.unlogged = self.unlogged.saturating_add(1);
            return (false, 0);
        }
        self.left -= 1;
        (true, std::mem::take(&mut self.unlogged))
    }
}

fn tell(unlogged: u64) {
    if unlogged > 0 {
        tracing::warn!(calls = unlogged, "there were too many calls to log them all");
    }
}

#[cfg(test)]
mod tests;
