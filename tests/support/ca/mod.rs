//! A CA in this process: right by RFC 8555 and RFC 9773, and wrong on request, at any step and in
//! any way.
//!
//! ```text
//! let ca = ScriptedCa::start(CaOptions::default()).await;
//! ca.fault(Step::Finalize, How::DoneThenSilent, Times::Count(1));
//! … order at ca.directory() with ca.clock() …
//! assert_eq!(ca.issued(), 1);
//! ```
//!
//! Its time is that of a [`VirtualClock`], which is to be the client's too. It speaks plain HTTP on
//! loopback, checks what RFC 8555 §6 lets a server check (signatures, nonces used once, the URL
//! that was signed, key or account), makes real certificates, and counts by its own limits. It is
//! written from the RFCs and shares no code with the program; `tests/catalogue/honest.rs` puts the
//! same questions to it and to Pebble.
//!
//! Silence and drip need a runtime of one thread (`#[tokio::test]` as it is): see [`clock`].

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic, and so may its helpers"
)]

mod account;
mod authority;
mod authorization;
mod certificate;
mod clock;
mod fault;
mod jws;
mod limits;
mod model;
mod objects;
mod options;
mod order;
mod reply;
mod serve;
mod validate;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use renewd::model::Timestamp;
use tokio::task::JoinHandle;

pub use authority::{Forgery, pem};
pub use clock::VirtualClock;
pub use fault::{Fault, How, Step, Times};
pub use limits::{Allowance, Buckets, Limit, Limits};
pub use model::{Model, Seen};
pub use objects::{Account, Advice, Authorization, Certificate, Challenge, Named, Order, Outcome};
pub use options::{CaOptions, Profile, Proofs};
pub use reply::{Reply, problem};
pub use serve::http_date;

/// When the story of each test begins.
pub const STARTED: &str = "2026-11-23T10:00:00Z";

/// A running CA; it ends with this value.
#[derive(Debug)]
pub struct ScriptedCa {
    base: String,
    shared: serve::Shared,
    server: JoinHandle<()>,
}

impl ScriptedCa {
    /// Starts one with a clock of its own, which stands at [`STARTED`].
    pub async fn start(options: CaOptions) -> Self {
        Self::start_at(options, VirtualClock::new(STARTED.parse().unwrap())).await
    }

    /// Starts one that lives by `clock`.
    pub async fn start_at(options: CaOptions, clock: Arc<VirtualClock>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let model = Model::new(options, base.clone(), Arc::clone(&clock));
        let model = Arc::new(Mutex::new(model));
        let shared = serve::Shared { model, clock, poured: Arc::default() };
        let server = tokio::spawn(serve::serve(listener, shared.clone()));
        Self { base, shared, server }
    }

    /// The URL of its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        self.at("/dir")
    }

    /// The URL of `path`.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The clock that it lives by.
    #[must_use]
    pub fn clock(&self) -> Arc<VirtualClock> {
        Arc::clone(&self.shared.clock)
    }

    /// Misbehaves at `step`.
    pub fn fault(&self, step: Step, how: How, times: Times) {
        self.with(|it| it.faults.push(Fault { at: Some(step), how, times }));
    }

    /// Misbehaves at every step.
    pub fn fault_everywhere(&self, how: How, times: Times) {
        self.with(|it| it.faults.push(Fault { at: None, how, times }));
    }

    /// Behaves again.
    pub fn mend(&self) {
        self.with(|it| it.faults.clear());
    }

    /// Looks at, or changes, what it knows.
    pub fn with<T>(&self, look: impl FnOnce(&mut Model) -> T) -> T {
        look(&mut self.shared.model.lock().unwrap())
    }

    /// How many requests of this kind there were.
    #[must_use]
    pub fn count(&self, step: Step) -> u64 {
        self.with(|it| it.counts.get(&step).copied().unwrap_or_default())
    }

    /// How many requests there were.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.with(|it| it.counts.values().sum())
    }

    /// How many requests there were for accounts and orders.
    #[must_use]
    pub fn order_flow(&self) -> u64 {
        serve::ORDER_FLOW.iter().map(|it| self.count(*it)).sum()
    }

    /// The requests of this kind, the last 10,000 of all.
    #[must_use]
    pub fn seen(&self, step: Step) -> Vec<Seen> {
        self.with(|it| it.log.iter().filter(|it| it.step == step).cloned().collect())
    }

    /// How many certificates it made.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.with(|it| it.issued)
    }

    /// How many bytes of endless answers it sent.
    #[must_use]
    pub fn poured(&self) -> u64 {
        self.shared.poured.load(Ordering::Relaxed)
    }

    /// Its first root, as PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        self.with(|it| it.authority.root_pem(0))
    }

    /// Its intermediate as the root number `index` signed it, as PEM.
    #[must_use]
    pub fn intermediate_pem(&self, index: usize) -> String {
        self.with(|it| it.authority.intermediate_pem(index))
    }

    /// Advises all certificates to be renewed between two moments, counted from now in seconds.
    pub fn advise_all(&self, from: i64, until: i64) {
        let now = shifted(self.with(|it| it.now()), 0);
        let advice = Advice::between(shifted(now, from), shifted(now, until));
        self.with(|it| it.advice_for_all = Some(advice));
    }
}

fn shifted(moment: Timestamp, seconds: i64) -> Timestamp {
    let span = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { moment.saturating_sub(span) } else { moment.saturating_add(span) }
}

impl Drop for ScriptedCa {
    fn drop(&mut self) {
        self.server.abort();
    }
}
