//! Keeps the book on disk and brings its messages to their receivers.
//!
//! [`Alerts::pass`] decides and saves, and touches no network; [`Alerts::deliver`] and
//! [`Alerts::run`] do the rest. Receivers are served apart: one that is slow or dead delays no
//! other and nobody who calls `pass`.
//!
//! Delivery is at least once: a crash between the answer and the note of it sends a message again,
//! under the same id.
//!
//! # Not here
//!
//! What is told ([`super::reconcile()`]) and how long is waited ([`super::book`]).

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::timeout;

use crate::model::{
    Event, Explain, Failure, Notice, Observer, Outbox, StatusDocument, StorageError, Timestamp,
    chain_text,
};
use crate::observe::{AlertSettings, Channel, ReceiverSettings};
use crate::sys::clock::Clock;
use crate::sys::crash;

use super::alertmanager;
use super::book::{AlertBook, Fault, OpenAlert, wants};
use super::message::{AlertType, Message};
use super::reconcile::{Unsettled, reconcile, renewals, retell};
use super::trouble::{troubles, unit_failed};
use super::undelivered;

mod channel;

pub use channel::DeliveryError;
use channel::Parcel;

/// How long one exchange with a receiver may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one [`Alerts::deliver`] goes on with one receiver; the rest waits for the next.
const DELIVER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the loop sleeps at most, so that a clock that was stepped does not hold it.
const MAX_SLEEP: Duration = Duration::from_secs(5 * 60);

/// Tells receivers of trouble.
pub struct Alerts {
    settings: watch::Sender<Arc<AlertSettings>>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    host: String,
    exchange_timeout: Duration,
    state: AsyncMutex<Option<State>>,
    /// Counts the changes of the queues, to wake the loop.
    changes: watch::Sender<u64>,
    /// Whom messages do not reach, and whether the book can't be kept, as last known.
    notices: watch::Sender<Vec<Notice>>,
    /// The receivers that are being told something right now.
    in_flight: Mutex<BTreeSet<String>>,
}

/// The book and its bytes on disk.
#[derive(Default)]
struct State {
    book: AlertBook,
    saved: Option<Vec<u8>>,
    /// What is on disk could not be read, and is not to be written over: it may be read later.
    unread: Option<StorageError>,
    /// That the book can't be kept, since when it can't.
    unkept: Option<Notice>,
}

impl Alerts {
    /// Ready to tell those in `settings`; `host` is what tests of the way and renewals are signed
    /// with, and `observer` hears what could not be delivered or kept.
    #[must_use]
    pub fn new(
        settings: AlertSettings,
        outbox: Arc<dyn Outbox>,
        clock: Arc<dyn Clock>,
        host: String,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            settings: watch::Sender::new(Arc::new(settings)),
            outbox,
            clock,
            observer,
            host,
            exchange_timeout: EXCHANGE_TIMEOUT,
            state: AsyncMutex::new(None),
            changes: watch::Sender::new(0),
            notices: watch::Sender::new(Vec::new()),
            in_flight: Mutex::new(BTreeSet::new()),
        }
    }

    /// From now on tells those in `settings`. What waits for a receiver that keeps its name still
    /// goes to it.
    pub fn reconfigure(&self, settings: AlertSettings) {
        self.settings.send_replace(Arc::new(settings));
    }

    /// Decides what is to be told now, and keeps it. Waits for the disk, never for the network.
    ///
    /// If it can't be kept, the observer hears of it and the messages go out all the same.
    pub async fn pass(&self, status: &StatusDocument) {
        let now = self.clock.now();
        let settings = self.settings();
        let troubles = troubles(status, &settings, now);

        // The lock is held while the book is saved: two saves must not overtake each other.
        let mut guard = self.state.lock().await;
        let state = self.loaded(&mut guard).await;
        let unsettled = Unsettled::of(status, &settings, &state.book, now);
        let mut messages = reconcile(&mut state.book, &troubles, &unsettled, now);
        messages.extend(renewals(&mut state.book, status, now));
        let dropped = state.book.enqueue(&messages, &settings, now);
        retell(&mut state.book, &settings.receivers, now);
        for (receiver, count) in dropped {
            let message = format!("{count} undelivered alerts made room for newer ones");
            self.undelivered(
                &receiver,
                Failure {
                    at: now,
                    code: "alerts.dropped".to_owned(),
                    message,
                    hint: Some(
                        "put the receiver right: renewd alert test; it is told what it missed then"
                            .to_owned(),
                    ),
                },
                None,
            );
        }
        self.save(state).await;
        drop(guard);
        self.changes.send_modify(|it| *it = it.wrapping_add(1));
    }

    /// Whom messages do not reach, and whether the record of them can't be kept, as last known: for
    /// the status, and to wait for a change of it.
    #[must_use]
    pub fn notices(&self) -> watch::Receiver<Vec<Notice>> {
        self.notices.subscribe()
    }

    /// Says in `status` whom messages do not reach, and whether the record of them can't be kept.
    pub async fn note_undelivered(&self, status: &mut StatusDocument) {
        let mut guard = self.state.lock().await;
        let state = self.loaded(&mut guard).await;
        status.notices.extend(self.notices_of(state));
    }

    /// Tells every receiver what is due for it, all of them at once; returns when each is told or
    /// could not be, after little more than a minute at most.
    pub async fn deliver(&self) {
        let settings = self.settings();
        join_all(settings.receivers.iter().map(|it| self.deliver_to(it, None))).await;
    }

    /// The same, and no exchange goes on for longer than `limit`: one that would has failed.
    pub async fn deliver_within(&self, limit: Duration) {
        let settings = self.settings();
        join_all(settings.receivers.iter().map(|it| self.deliver_to(it, Some(limit)))).await;
    }

    /// Delivers until `shutdown`: whenever [`Alerts::pass`] brings something and whenever a pause
    /// is over. A delivery that shutdown interrupts is made again after the next start.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let mut settings = self.settings.subscribe();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let current = Arc::clone(&settings.borrow_and_update());
            let serving = async {
                join_all(current.receivers.iter().map(|it| self.serve(it))).await;
                // Nobody to serve: only a change of the settings goes on from here.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = &mut shutdown => return,
                changed = settings.changed() => if changed.is_err() { return },
                () = serving => {}
            }
        }
    }

    /// Sends an `alert.test` to every receiver, past all queues, and says what came of it; in the
    /// order of the configuration.
    pub async fn test(&self) -> Vec<(String, Result<(), DeliveryError>)> {
        let (now, settings) = (self.clock.now(), self.settings());
        let title = format!("a test: alerts of renewd on {} arrive here", self.host);
        let message = Message::plain(AlertType::AlertTest, &self.host, title, now);
        let alerts = alertmanager::alerts(
            &AlertBook::default(),
            std::slice::from_ref(&message),
            |_| true,
            now,
        );
        self.send_at_once(settings.receivers.iter(), Parcel { messages: vec![message], alerts })
            .await
    }

    /// Tells every receiver of warnings that the systemd unit `unit` failed, past all queues and
    /// with nothing kept: for when the daemon, which would keep and repeat it, is what failed.
    /// `how` is systemd's word for it. Says what came of it, in the order of the configuration.
    pub async fn unit_failed(
        &self,
        unit: &str,
        how: &str,
    ) -> Vec<(String, Result<(), DeliveryError>)> {
        let (now, settings) = (self.clock.now(), self.settings());
        let message = Message::of_trouble(&unit_failed(&self.host, unit, how), now);
        let mut book = AlertBook::default();
        let open = OpenAlert { opened_at: now, message: message.clone() };
        let severity = message.severity;
        book.open.insert(message.dedup_key.clone(), open);
        let alerts = alertmanager::alerts(&book, &[], |_| true, now);
        let told = settings.receivers.iter().filter(|it| it.min_severity <= severity);
        self.send_at_once(told, Parcel { messages: vec![message], alerts }).await
    }

    /// Sends `parcel` to `receivers`, all of them at once, and says what came of it.
    async fn send_at_once(
        &self,
        receivers: impl Iterator<Item = &ReceiverSettings>,
        parcel: Parcel,
    ) -> Vec<(String, Result<(), DeliveryError>)> {
        let (now, parcel) = (self.clock.now(), &parcel);
        let tries = receivers.map(|receiver| async move {
            let sent = channel::send(&receiver.channel, parcel, now, self.exchange_timeout).await;
            (receiver.name.clone(), sent)
        });
        join_all(tries).await
    }

    /// Fetches the heartbeat's URL, if one is configured; the observer hears of a failure. Only for
    /// the end of a whole pass over all certificates with a writable store: what watches for it
    /// takes its silence for trouble. That the store is writable is seen by writing to it.
    pub async fn heartbeat(&self) {
        let settings = self.settings();
        let Some(url) = &settings.heartbeat_url else { return };
        if !self.is_kept_anew().await {
            return;
        }
        if let Err(error) = channel::get(url, self.exchange_timeout).await {
            self.undelivered("heartbeat", error.failure(self.clock.now()), None);
        }
    }

    fn settings(&self) -> Arc<AlertSettings> {
        Arc::clone(&self.settings.borrow())
    }

    /// Delivers to one receiver for ever.
    async fn serve(&self, receiver: &ReceiverSettings) {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            self.deliver_to(receiver, None).await;
            let pause = self.pause(receiver).await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    /// How long until `receiver` is to be told something again.
    async fn pause(&self, receiver: &ReceiverSettings) -> Duration {
        /// Between two looks at a queue that is in somebody else's hands.
        const SHORTEST: Duration = Duration::from_secs(1);

        let now = self.clock.now();
        let mut guard = self.state.lock().await;
        let state = self.loaded(&mut guard).await;
        let waits = state.book.wait(&receiver.name, now).unwrap_or(MAX_SLEEP);
        waits.clamp(SHORTEST, MAX_SLEEP)
    }

    async fn deliver_to(&self, receiver: &ReceiverSettings, limit: Option<Duration>) {
        let Some(_alone) = InFlight::begin(self, &receiver.name) else { return };
        let deadline = self.clock.monotonic() + limit.unwrap_or(DELIVER_TIMEOUT);
        let mut needed = Duration::ZERO;
        while self.clock.monotonic() < deadline {
            let Some(parcel) = self.parcel(receiver).await else { return };
            let ids = parcel.ids();
            let now = self.clock.now();
            let sending = channel::send(&receiver.channel, &parcel, now, self.exchange_timeout);
            let left = limit.map(|_| deadline.saturating_sub(self.clock.monotonic()));
            // Only the first is cut off: it may have been taken, and is told again then.
            if left.is_some_and(|it| it < needed) {
                return;
            }
            needed = receiver.channel.longest(self.exchange_timeout);
            let sent = match left {
                Some(left) => timeout(left, sending).await.unwrap_or(Err(DeliveryError::OutOfTime)),
                None => sending.await,
            };
            crash::point("alerts.sent");
            let goes_on = match sent {
                Ok(()) => self.note_delivered(receiver, &ids).await,
                Err(error) => self.note_failed(receiver, &ids, &error).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// What `receiver` is to be sent now.
    async fn parcel(&self, receiver: &ReceiverSettings) -> Option<Parcel> {
        let now = self.clock.now();
        let mut guard = self.state.lock().await;
        let state = self.loaded(&mut guard).await;
        if !is_alertmanager(receiver) {
            let message = state.book.due(&receiver.name, now)?.clone();
            return Some(Parcel { messages: vec![message], alerts: Vec::new() });
        }
        let book = &state.book;
        let queue = book.queues.get(&receiver.name).filter(|it| it.may_be_tried(now))?;
        let repeat_due = queue
            .repeated_at
            .is_none_or(|it| it > now || now.since(it) >= alertmanager::REPEAT_AFTER);
        let messages: Vec<Message> = queue.messages.iter().map(|it| it.message.clone()).collect();
        let alerts = alertmanager::alerts(book, &messages, |it| wants(receiver, it), now);
        if messages.is_empty() && alerts.is_empty() {
            if queue.is_noted {
                // Nothing will show any more whether it is there.
                state.book.delivered(&receiver.name, &[]);
                self.save(state).await;
            }
            return None;
        }
        let nothing_to_say = messages.is_empty() && !repeat_due;
        (!nothing_to_say).then_some(Parcel { messages, alerts })
    }

    /// Whether to go on with this receiver.
    async fn note_delivered(&self, receiver: &ReceiverSettings, ids: &[String]) -> bool {
        let now = self.clock.now();
        let mut guard = self.state.lock().await;
        let state = self.loaded(&mut guard).await;
        state.book.delivered(&receiver.name, ids);
        if is_alertmanager(receiver)
            && let Some(queue) = state.book.queues.get_mut(&receiver.name)
        {
            queue.repeated_at = Some(now);
        }
        self.save(state).await;
        true
    }

    /// Whether to go on with this receiver.
    async fn note_failed(
        &self,
        receiver: &ReceiverSettings,
        ids: &[String],
        error: &DeliveryError,
    ) -> bool {
        let now = self.clock.now();
        // All that is open goes to an Alertmanager in one request, so there is no next to go on to.
        let whose = if is_alertmanager(receiver) { Fault::Receiver } else { error.fault() };
        let mut guard = self.state.lock().await;
        let state = self.loaded(&mut guard).await;
        // Not its causes: a program's output is among them.
        let why = error.to_string();
        let retry_at = state.book.failed(&receiver.name, ids, whose, &why, now);
        self.save(state).await;
        drop(guard);
        self.undelivered(&receiver.name, error.failure(now), retry_at);
        whose == Fault::Message
    }

    async fn loaded<'a>(&self, guard: &'a mut Option<State>) -> &'a mut State {
        if guard.as_ref().is_none_or(|it| it.unread.is_some()) {
            let mut read = self.load().await;
            match (&read.unread, guard.is_some()) {
                (None, _) => {}
                (Some(error), false) => self.degraded("alerts.unreadable", chain_text(error)),
                (Some(_), true) => return guard.get_or_insert_default(),
            }
            // It was told without what is on disk, rather than not at all.
            if let Some(told_meanwhile) = guard.take() {
                read.book.take_in(told_meanwhile.book);
                // Until it is kept.
                read.unkept = told_meanwhile.unkept;
            }
            self.show(&read);
            *guard = Some(read);
        }
        guard.get_or_insert_default()
    }

    async fn load(&self) -> State {
        let document = match self.outbox.load_alerts().await {
            Ok(Some(document)) => document,
            Ok(None) => return State::default(),
            Err(error) => {
                let unkept = Some(undelivered::unkept(&chain_text(&error), self.clock.now()));
                return State { unread: Some(error), unkept, ..State::default() };
            }
        };
        match AlertBook::parse(&document) {
            Ok(book) => State { book, saved: Some(document), ..State::default() },
            Err(error) => {
                self.degraded("alerts.damaged", chain_text(&error));
                if let Err(error) = self.outbox.set_alerts_aside(&error).await {
                    self.degraded("alerts.not_kept", chain_text(&error));
                }
                State::default()
            }
        }
    }

    /// Shows whom messages do not reach, and whether they can't be kept, and wakes who waits for a
    /// change of that.
    fn show(&self, state: &State) {
        let notices = self.notices_of(state);
        self.notices.send_if_modified(|shown| {
            let is_changed = *shown != notices;
            *shown = notices;
            is_changed
        });
    }

    fn notices_of(&self, state: &State) -> Vec<Notice> {
        let mut notices = state.book.undelivered(&self.settings().receivers);
        notices.extend(state.unkept.clone());
        notices
    }

    /// Keeps the book, if it is not what is kept already; that it can't is told.
    async fn save(&self, state: &mut State) {
        match self.keep(state).await {
            Ok(()) => state.unkept = None,
            Err(why) => {
                let now = self.clock.now();
                state.unkept.get_or_insert_with(|| undelivered::unkept(&why, now));
                self.degraded("alerts.not_kept", why);
            }
        }
        self.show(state);
    }

    async fn keep(&self, state: &mut State) -> Result<(), String> {
        if let Some(error) = &state.unread {
            return Err(chain_text(error));
        }
        let document = state.book.to_bytes().map_err(|it| chain_text(&it))?;
        if state.saved.as_ref() != Some(&document) {
            self.outbox.save_alerts(&document).await.map_err(|it| chain_text(&it))?;
            state.saved = Some(document);
        }
        Ok(())
    }

    /// Writes the book once more; whether that went well.
    async fn is_kept_anew(&self) -> bool {
        let mut guard = self.state.lock().await;
        let state = self.loaded(&mut guard).await;
        state.saved = None;
        self.save(state).await;
        state.saved.is_some()
    }

    fn degraded(&self, code: &str, message: String) {
        let failure = Failure {
            at: self.clock.now(),
            code: code.to_owned(),
            message,
            hint: Some(undelivered::UNKEPT_HINT.to_owned()),
        };
        self.observer.observe(&Event::Degraded { failure });
    }

    fn undelivered(&self, receiver: &str, failure: Failure, retry_at: Option<Timestamp>) {
        let mut failure = failure;
        if let Some(retry_at) = retry_at {
            failure.message.push_str(&format!("; tried again at {retry_at}"));
        }
        let receiver = receiver.to_owned();
        self.observer.observe(&Event::AlertUndelivered { receiver, failure });
    }
}

const fn is_alertmanager(receiver: &ReceiverSettings) -> bool {
    matches!(receiver.channel, Channel::Alertmanager { .. })
}

/// Keeps two deliveries to one receiver from sending the same message twice.
struct InFlight<'a> {
    alerts: &'a Alerts,
    receiver: String,
}

impl<'a> InFlight<'a> {
    fn begin(alerts: &'a Alerts, receiver: &str) -> Option<Self> {
        let mut names = alerts.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = names.insert(receiver.to_owned());
        is_first.then(|| Self { alerts, receiver: receiver.to_owned() })
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut names = self.alerts.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        names.remove(&self.receiver);
    }
}

#[cfg(test)]
mod tests;
