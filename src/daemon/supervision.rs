//! What the service manager hears of the daemon: that it is ready, reloads, ends, is alive, and one
//! line for people.
//!
//! # Rules
//!
//! 1. A sign of life goes from the scheduler's loop through the store and back to it, at half the
//!    time that is allowed. A loop that does not turn sends none, nor one whose store hangs.
//! 2. The line is told when it changes, and at most once a second.
//!
//! Not here: how it is told ([`crate::sys::notify`]).

use std::time::Duration;

use tokio::task::JoinSet;

use crate::model::{Condition, Health, StatusDocument, chain_text};
use crate::sys::notify::{Message, Supervisor};

/// The least time between two lines.
const BETWEEN_LINES: Duration = Duration::from_secs(1);
/// A failed message is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// The last line.
const ENDING: &str = "ending: work under way may finish";
/// How many troubled certificates are named.
const NAMED: usize = 5;

/// The scheduler's words to the service manager.
#[derive(Debug)]
pub(super) struct Supervision {
    supervisor: Supervisor,
    /// What is still to be told of the state, where that failed.
    owed: Option<Word>,
    line: String,
    told_line: String,
    /// By the monotonic clock, as all moments here.
    tell_at: Duration,
    pulse: JoinSet<()>,
    pulse_at: Duration,
}

/// What must reach the service manager, sooner or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The start or a reload is over.
    Ready,
    /// A reload has begun.
    Reloading,
    /// The end has begun.
    Stopping,
}

impl Supervision {
    /// Nothing has been told to `supervisor` yet.
    pub(super) fn new(supervisor: Supervisor) -> Self {
        Self {
            supervisor,
            owed: None,
            line: String::new(),
            told_line: String::new(),
            tell_at: Duration::ZERO,
            pulse: JoinSet::new(),
            pulse_at: Duration::ZERO,
        }
    }

    /// Tells `word`, with the line as it is now where it is the truth again. What does not get
    /// through is told later.
    pub(super) fn tell(&mut self, word: Word, now: Duration) {
        let told = match word {
            Word::Ready => self.supervisor.tell(&[Message::Ready, Message::Status(&self.line)]),
            Word::Reloading => self.supervisor.tell(&[Message::Reloading]),
            Word::Stopping => self.supervisor.tell(&[Message::Stopping, Message::Status(ENDING)]),
        };
        self.tell_at = now.saturating_add(BETWEEN_LINES);
        match told {
            Ok(()) => {
                self.owed = None;
                if word == Word::Ready {
                    self.told_line.clone_from(&self.line);
                }
            }
            Err(error) => {
                if self.owed.is_none() {
                    tracing::warn!(error = chain_text(&error), "the service manager was not told");
                }
                self.owed = Some(word);
            }
        }
    }

    /// How everything stands, from now on.
    pub(super) fn show(&mut self, document: &StatusDocument) {
        self.line = line(document);
    }

    /// To be called at each turn of the loop: tells what is to be told, and has `pulse` begun where
    /// a sign of life is due.
    pub(super) fn turn<Pulse>(&mut self, now: Duration, pulse: impl FnOnce() -> Pulse)
    where
        Pulse: Future<Output = ()> + Send + 'static,
    {
        if now >= self.tell_at {
            match self.owed {
                Some(word) => self.tell(word, now),
                None if self.line != self.told_line => self.tell_line(now),
                None => {}
            }
        }
        let Some(interval) = self.interval() else { return };
        if now >= self.pulse_at && self.pulse.is_empty() {
            self.pulse_at = now.saturating_add(interval);
            self.pulse.spawn(pulse());
        }
    }

    fn tell_line(&mut self, now: Duration) {
        // A line that gets lost is told again when it changes.
        drop(self.supervisor.tell(&[Message::Status(&self.line)]));
        self.told_line.clone_from(&self.line);
        self.tell_at = now.saturating_add(BETWEEN_LINES);
    }

    /// Ends when what [`Supervision::turn`] began came back: then [`Supervision::alive`] may be
    /// told. `None` at once where nothing is under way, and where it panicked.
    pub(super) async fn pulsed(&mut self) -> Option<()> {
        self.pulse.join_next().await?.ok()
    }

    /// Tells that the loop turns and the store answers.
    pub(super) fn alive(&mut self, now: Duration) {
        if let Err(error) = self.supervisor.tell(&[Message::Alive]) {
            tracing::warn!(error = chain_text(&error), "the service manager was not told");
            self.pulse_at = self.pulse_at.min(now.saturating_add(RETRY));
        }
    }

    /// How long until [`Supervision::turn`] has something to do; never longer than `longest`.
    pub(super) fn sleep(&self, now: Duration, longest: Duration) -> Duration {
        let is_line_due = self.owed.is_some() || self.line != self.told_line;
        let line = is_line_due.then_some(self.tell_at);
        let pulse = self.interval().filter(|_| self.pulse.is_empty()).map(|_| self.pulse_at);
        let next = line.into_iter().chain(pulse).min();
        next.map_or(longest, |it| it.saturating_sub(now).min(longest))
    }

    fn interval(&self) -> Option<Duration> {
        self.supervisor.watchdog().map(|it| it / 2)
    }
}

/// `document` in one line.
fn line(document: &StatusDocument) -> String {
    let certificates = &document.certificates;
    let all = certificates.len();
    let noun = if all == 1 { "certificate" } else { "certificates" };
    let count = |wanted: Condition| certificates.iter().filter(|it| it.condition == wanted).count();
    let mut line = format!("{all} {noun}, {} served", count(Condition::Served));
    let held = count(Condition::Held);
    if held > 0 {
        line.push_str(&format!(", {held} held"));
    }
    if let Some(next) = certificates.iter().filter_map(|it| it.next_attempt_at).min() {
        line.push_str(&format!(", next at {next}"));
    }
    let failing = certificates.iter().filter(|it| it.health != Health::Ok);
    let failing: Vec<&str> = failing.map(|it| it.name.as_str()).collect();
    if !failing.is_empty() {
        let named = failing.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = failing.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        line.push_str(&format!("; {} failing: {named}{more}", failing.len()));
    }
    for notice in document.notices.iter().filter(|it| it.health != Health::Ok) {
        line.push_str("; ");
        line.push_str(&notice.message);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::model::{STATUS_FORMAT, Timestamp};

    const WATCHDOG: u64 = 10;

    /// What a service manager hears.
    struct Heard(UnixDatagram, tempfile::TempDir);

    impl Heard {
        fn new() -> (Self, Supervision) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            let address = path.to_str().unwrap().to_owned();
            let supervisor = Supervisor::from_variables(|name| match name {
                "NOTIFY_SOCKET" => Some(address.clone()),
                "WATCHDOG_USEC" => Some((WATCHDOG * 1_000_000).to_string()),
                _ => None,
            });
            (Self(socket, folder), Supervision::new(supervisor.unwrap()))
        }

        fn all(&self) -> Vec<String> {
            let mut messages = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(count) = self.0.recv(&mut buffer) {
                messages.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
            }
            messages
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn document(notices: &[&str]) -> StatusDocument {
        let notice = |message: &&str| crate::model::Notice {
            code: "config.rejected".to_owned(),
            health: Health::Warning,
            message: (*message).to_owned(),
            since: Timestamp::EPOCH,
            hint: None,
        };
        StatusDocument {
            format: STATUS_FORMAT,
            host: "test".to_owned(),
            written_at: Timestamp::EPOCH,
            notices: notices.iter().map(notice).collect(),
            certificates: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_sign_of_life_is_sent_at_half_the_time_for_as_long_as_pulses_come_back() {
        let (heard, mut supervision) = Heard::new();
        for now in 0..20 {
            supervision.turn(seconds(now), || ready(()));
            if now % 5 == 0 {
                supervision.pulsed().await.unwrap();
                supervision.alive(seconds(now));
            }
            assert!(supervision.sleep(seconds(now), seconds(99)) <= seconds(5));
        }
        assert_eq!(heard.all(), ["WATCHDOG=1"; 4]);
    }

    #[tokio::test]
    async fn a_pulse_that_does_not_come_back_is_the_last() {
        let (heard, mut supervision) = Heard::new();
        let mut begun = 0;
        for now in 0..100 {
            supervision.turn(seconds(now), || {
                begun += 1;
                pending()
            });
            let pulsed = supervision.pulsed();
            assert!(futures_util::FutureExt::now_or_never(pulsed).is_none());
        }
        assert_eq!(begun, 1);
        assert_eq!(heard.all().len(), 0);
    }

    #[tokio::test]
    async fn the_line_is_told_when_it_changes_and_at_most_once_a_second() {
        let (heard, mut supervision) = Heard::new();
        supervision.show(&document(&[]));
        supervision.tell(Word::Ready, seconds(0));
        assert_eq!(heard.all(), ["READY=1\nSTATUS=0 certificates, 0 served"]);
        for milliseconds in 0..1500 {
            let changing = format!("change {milliseconds}");
            supervision.show(&document(&[&changing]));
            supervision.turn(Duration::from_millis(milliseconds), || ready(()));
        }
        assert_eq!(heard.all(), ["STATUS=0 certificates, 0 served; change 1000"]);
        assert_eq!(supervision.sleep(Duration::from_millis(1500), seconds(99)), seconds(1) / 2);
        supervision.turn(seconds(2), || ready(()));
        supervision.turn(seconds(4), || ready(()));
        assert_eq!(heard.all(), ["STATUS=0 certificates, 0 served; change 1499"]);
    }

    #[tokio::test]
    async fn a_word_that_was_not_heard_is_told_again() {
        let (heard, mut supervision) = Heard::new();
        let path = heard.1.path().join("notify");
        std::fs::remove_file(&path).unwrap();
        supervision.tell(Word::Ready, seconds(0));
        let again = Heard(UnixDatagram::bind(&path).unwrap(), heard.1);
        again.0.set_nonblocking(true).unwrap();
        assert_eq!(supervision.sleep(seconds(0), seconds(99)), seconds(0));
        supervision.turn(seconds(1), || ready(()));
        assert_eq!(again.all(), ["READY=1\nSTATUS="]);
    }
}
