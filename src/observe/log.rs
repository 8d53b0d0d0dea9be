//! The log: one line for each [`Event`], on standard error or in the journal.
//!
//! A message is a constant sentence; what varies are fields, named as everywhere (`certificate`,
//! `ca`, `target`, `reason`, `retry_at`, `not_after`). Levels say what the operator must do: INFO
//! nothing, WARN nothing yet (it is handled), ERROR something.
//!
//! Not here: what is told to people who do not read logs ([`super::alert`]).

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;

use tracing::field::display;
use tracing::{Subscriber, debug, error, info, warn};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;

use super::journal::JournalLayer;
use crate::model::{Event, Observer};
use crate::sys::clock::{Clock, SystemClock};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// Straight to systemd's journal, with fields.
    Journald,
}

impl LogFormat {
    /// The form that fits where this process's standard error goes: text on a terminal, the
    /// journal's own where it is the journal, JSON elsewhere.
    #[must_use]
    pub fn here() -> Self {
        let stderr = io::stderr();
        let identity = rustix::fs::fstat(stderr.as_fd()).ok().map(|it| (it.st_dev, it.st_ino));
        let journal = std::env::var("JOURNAL_STREAM").ok();
        Self::detect(io::IsTerminal::is_terminal(&stderr), identity, journal.as_deref())
    }

    /// As [`LogFormat::here`], from facts: whether standard error is a terminal, its device and
    /// inode, and `JOURNAL_STREAM`, which systemd sets to those of the journal's stream. A program
    /// whose output was sent elsewhere inherits the variable, so it is compared.
    #[must_use]
    pub fn detect(
        stderr_is_terminal: bool,
        stderr: Option<(u64, u64)>,
        journal_stream: Option<&str>,
    ) -> Self {
        if stderr_is_terminal {
            return Self::Text;
        }
        let stderr = stderr.map(|(device, inode)| format!("{device}:{inode}"));
        if stderr.is_some() && stderr.as_deref() == journal_stream {
            Self::Journald
        } else {
            Self::Json
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        })
    }
}

/// The log can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The format is none that there is.
    #[error("not a log format: text, json or journald")]
    Format,
    /// The level is none that there is.
    #[error("not a log level: error, warn, info, debug or trace, or filter directives")]
    Level(#[source] ParseError),
    /// The journal does not answer.
    #[error("cannot reach the journal")]
    Journal(#[source] io::Error),
    /// It was set up before.
    #[error("the log is set up already")]
    Twice,
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "journald" => Ok(Self::Journald),
            _ => Err(LogError::Format),
        }
    }
}

/// From now on this process logs in `format` what `level` lets through, in colour if `color`.
///
/// A bare level is for our own lines; those of libraries come from WARN on. Directives of
/// tracing's filter are taken as they are.
///
/// # Errors
///
/// If the level is none, the journal is asked for and not there, or this was done before.
pub fn init(format: LogFormat, level: &str, color: bool) -> Result<(), LogError> {
    let twice = |_set_before| LogError::Twice;
    if format == LogFormat::Journald {
        let journal = JournalLayer::new().map_err(LogError::Journal)?;
        let subscriber = tracing_subscriber::registry().with(filter(level)?).with(journal);
        return tracing::subscriber::set_global_default(subscriber).map_err(twice);
    }
    let subscriber = lines(format, level, color, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(twice)
}

/// What writes lines in `format` to `writer`.
fn lines<W>(
    format: LogFormat,
    level: &str,
    color: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_timer(Utc(SystemClock::new()))
        .with_target(false)
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(filter(level)?);
    Ok(if format == LogFormat::Json {
        let json = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
        Box::new(registry.with(json.with_ansi(false)))
    } else {
        Box::new(registry.with(layer.compact().with_ansi(color)))
    })
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let is_bare = level.chars().all(|it| it.is_ascii_alphabetic());
    let directives = if is_bare {
        format!("warn,{}={}", env!("CARGO_PKG_NAME"), level.to_ascii_lowercase())
    } else {
        level.to_owned()
    };
    EnvFilter::try_new(directives).map_err(LogError::Level)
}

/// The time of a line: UTC, to the second.
struct Utc(SystemClock);

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.now().unix_seconds()).unwrap_or(i64::MAX);
        write!(writer, "{}", crate::model::Timestamp::from_unix_seconds(seconds))
    }
}

/// Makes a log line of every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogObserver;

impl Observer for LogObserver {
    fn observe(&self, event: &Event) {
        match event {
            Event::RenewalStarted { .. }
            | Event::StandInAsked { .. }
            | Event::StandInUnfit { .. }
            | Event::StandInFit { .. }
            | Event::OrderResumed { .. }
            | Event::Proven { .. }
            | Event::Renewed { .. }
            | Event::RenewalFailed { .. } => log_renewal(event),
            Event::RenewalSuggested { .. }
            | Event::SuggestionUnsteady { .. }
            | Event::SuggestionMissing { .. }
            | Event::ChainNotOffered { .. }
            | Event::KeyNotReused { .. }
            | Event::RecordChanged { .. } => log_advice(event),
            Event::Revoked { .. }
            | Event::RevocationFailed { .. }
            | Event::RevocationUnknown { .. } => log_revocation(event),
            Event::Served { .. } | Event::Installed { .. } | Event::DeployFailed { .. } => {
                log_deployment(event);
            }
            Event::DriftRepaired { .. }
            | Event::ConfigLoaded { .. }
            | Event::ConfigRejected { .. }
            | Event::Panicked { .. }
            | Event::Degraded { .. }
            | Event::AlertUndelivered { .. } => log_agent(event),
        }
    }
}

fn log_revocation(event: &Event) {
    match event {
        Event::Revoked { certificate, serial, reason, by } => {
            let (serial, reason) = (serial.as_str(), reason.as_deref());
            warn!(%certificate, serial, reason, ?by, "certificate is revoked");
        }
        Event::RevocationFailed { certificate, failure, retry_at } => {
            let (code, reason) = (failure.code.as_str(), failure.message.as_str());
            let (hint, retry_at) = (failure.hint.as_deref(), retry_at.map(display));
            warn!(%certificate, code, reason, hint, retry_at, "certificate not revoked");
        }
        Event::RevocationUnknown { certificate, failure } => {
            let reason = failure.message.as_str();
            info!(%certificate, reason, "whether the certificate is revoked is not known");
        }
        _ => {}
    }
}

fn log_renewal(event: &Event) {
    match event {
        Event::RenewalStarted { certificate, ca, reason } => {
            info!(%certificate, %ca, reason = reason.as_str(), "renewal begins");
        }
        Event::StandInAsked { certificate, ca, stands_in_for, reason } => {
            let reason = reason.as_str();
            warn!(%certificate, %ca, %stands_in_for, reason, "a stand-in is asked");
        }
        Event::StandInUnfit { certificate, ca, failure } => {
            let (code, reason) = (failure.code.as_str(), failure.message.as_str());
            let hint = failure.hint.as_deref();
            warn!(%certificate, %ca, code, reason, hint, "a stand-in is not fit");
        }
        Event::StandInFit { certificate, ca } => {
            info!(%certificate, %ca, "a stand-in is fit again");
        }
        Event::OrderResumed { certificate, order_url } => {
            info!(%certificate, order_url = order_url.as_str(), "order of an earlier run goes on");
        }
        Event::Proven { certificate, proofs } => {
            for (identifier, solver, challenge_type) in proofs {
                debug!(%certificate, %identifier, %solver, %challenge_type, "control is proven");
            }
        }
        Event::Renewed { certificate, ca, generation, sha256, not_after } => {
            info!(%certificate, %ca, %generation, %sha256, %not_after, "certificate renewed");
        }
        Event::RenewalFailed { certificate, failure, retry_at } => {
            let (code, reason) = (failure.code.as_str(), failure.message.as_str());
            let hint = failure.hint.as_deref();
            // Without a next try of its own, only a human gets it going.
            match retry_at.map(display) {
                Some(retry_at) => {
                    warn!(%certificate, code, reason, hint, retry_at, "renewal failed");
                }
                None => error!(%certificate, code, reason, hint, "renewal failed"),
            }
        }
        _ => {}
    }
}

fn log_advice(event: &Event) {
    match event {
        Event::RenewalSuggested { certificate, selected_renewal, explanation_url, is_early } => {
            let explanation_url = explanation_url.as_deref();
            if *is_early {
                warn!(%certificate, explanation_url, "the CA wants this certificate replaced now");
            } else {
                let renew_at = selected_renewal;
                info!(%certificate, %renew_at, explanation_url, "the CA suggests when to renew");
            }
        }
        Event::SuggestionUnsteady { certificate, selected_renewal } => {
            let renew_at = selected_renewal;
            warn!(%certificate, %renew_at, "the CA keeps changing its advice, which is not followed");
        }
        Event::SuggestionMissing { certificate, failure, retry_at } => {
            let (code, reason) = (failure.code.as_str(), failure.message.as_str());
            info!(%certificate, code, reason, %retry_at, "the CA gives no advice when to renew");
        }
        Event::ChainNotOffered { certificate, preferred, offered } => {
            let (preferred, offered) = (preferred.as_str(), offered.join(", "));
            warn!(%certificate, preferred, offered, "the CA does not offer the preferred chain");
        }
        Event::KeyNotReused { certificate, why } => {
            let reason = why.as_str();
            warn!(%certificate, reason, "the key is not used again: what names it must be changed");
        }
        Event::RecordChanged { certificate, record, trouble, hint } => {
            let (record, hint) = (record.as_str(), hint.as_str());
            match trouble.as_deref() {
                Some(reason) => {
                    warn!(%certificate, record, reason, hint, "a standing record is not right");
                }
                None => info!(%certificate, record, "a standing record is right again"),
            }
        }
        _ => {}
    }
}

fn log_deployment(event: &Event) {
    match event {
        Event::Served { certificate, target, sha256 } => {
            info!(%certificate, %target, %sha256, "certificate is served");
        }
        Event::Installed { certificate, target } => {
            info!(%certificate, %target, "certificate is installed, and nobody is to be asked");
        }
        Event::DeployFailed { certificate, target, failure, retry_at } => {
            let (code, reason) = (failure.code.as_str(), failure.message.as_str());
            let hint = failure.hint.as_deref();
            match retry_at.map(display) {
                Some(retry_at) => {
                    warn!(%certificate, %target, code, reason, hint, retry_at, "deployment failed");
                }
                None => error!(%certificate, %target, code, reason, hint, "deployment failed"),
            }
        }
        _ => {}
    }
}

fn log_agent(event: &Event) {
    match event {
        Event::DriftRepaired { certificate, what } => {
            warn!(%certificate, reason = what.as_str(), "files changed by somebody else put right");
        }
        Event::ConfigLoaded { certificates } => info!(certificates, "configuration in force"),
        Event::ConfigRejected { faults } => {
            error!(reason = faults.as_str(), "configuration refused, the old one stays");
        }
        Event::Panicked { certificate, message } => {
            error!(%certificate, reason = message.as_str(), "work on a certificate panicked");
        }
        Event::Degraded { failure } => {
            let (code, reason) = (failure.code.as_str(), failure.message.as_str());
            error!(code, reason, hint = failure.hint.as_deref(), "agent is not as it should be");
        }
        Event::AlertUndelivered { receiver, failure } => {
            let (code, reason) = (failure.code.as_str(), failure.message.as_str());
            let hint = failure.hint.as_deref();
            warn!(receiver = receiver.as_str(), code, reason, hint, "alert not delivered yet");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::model::{Failure, Generation, Timestamp};

    /// What was written to a log.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `events` look like in `format`, without the time that each line begins with.
    fn logged(format: LogFormat, level: &str, events: &[Event]) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = lines(format, level, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            for event in events {
                LogObserver.observe(event);
            }
        });
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    fn failed(retry_at: Option<Timestamp>) -> Event {
        let failure = Failure {
            at: Timestamp::EPOCH,
            code: "acme.refused".into(),
            message: "the CA said \u{1b}[31mno".into(),
            hint: Some("ask it".into()),
        };
        Event::RenewalFailed { certificate: "api".parse().unwrap(), failure, retry_at }
    }

    #[test]
    fn a_line_for_people_has_time_level_sentence_and_fields() {
        let text = logged(LogFormat::Text, "info", &[failed(Some(Timestamp::EPOCH))]);
        let (time, line) = text.trim_end().split_once(' ').unwrap();
        assert!(time.parse::<Timestamp>().is_ok() && time.len() == 20, "{time}");
        assert_eq!(
            line.trim_start(),
            "WARN renewal failed certificate=api code=\"acme.refused\" \
             reason=\"the CA said \\u{1b}[31mno\" hint=\"ask it\" retry_at=1970-01-01T00:00:00Z"
        );
    }

    #[test]
    fn what_nobody_tries_again_is_an_error() {
        let text = logged(LogFormat::Json, "info", &[failed(None)]);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["message"], "renewal failed");
        assert_eq!(line["certificate"], "api");
        assert_eq!(line["code"], "acme.refused");
        assert_eq!(line.get("retry_at"), None);
    }

    #[test]
    fn a_renewal_is_logged_with_what_identifies_it() {
        let event = Event::Renewed {
            certificate: "api".parse().unwrap(),
            ca: "lab".parse().unwrap(),
            generation: Generation(2),
            sha256: "ab".repeat(32).try_into().unwrap(),
            not_after: Timestamp::EPOCH,
        };
        let text = logged(LogFormat::Json, "info", &[event]);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["generation"]), (&"INFO".into(), &"0002".into()));
        assert_eq!((&line["sha256"], &line["ca"]), (&"ab".repeat(32).into(), &"lab".into()));
        assert_eq!(line["not_after"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn that_a_stand_in_is_asked_is_a_warning_with_its_reason() {
        let event = Event::StandInAsked {
            certificate: "api".parse().unwrap(),
            ca: "zerossl".parse().unwrap(),
            stands_in_for: "letsencrypt".parse().unwrap(),
            reason: "letsencrypt failed, and little of the life is left".into(),
        };
        let text = logged(LogFormat::Text, "info", &[event]);
        assert_eq!(
            text.trim_end().split_once(' ').unwrap().1.trim_start(),
            "WARN a stand-in is asked certificate=api ca=zerossl stands_in_for=letsencrypt \
             reason=\"letsencrypt failed, and little of the life is left\""
        );
    }

    #[test]
    fn advice_that_is_urgent_is_a_warning_with_its_reason() {
        let advised = |is_early| Event::RenewalSuggested {
            certificate: "api".parse().unwrap(),
            selected_renewal: Timestamp::EPOCH,
            explanation_url: Some("https://ca.example/incident".into()),
            is_early,
        };
        let line = |event| {
            let text = logged(LogFormat::Json, "info", &[event]);
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        let (urgent, usual) = (line(advised(true)), line(advised(false)));
        assert_eq!((&urgent["level"], &usual["level"]), (&"WARN".into(), &"INFO".into()));
        assert_eq!(urgent["explanation_url"], "https://ca.example/incident");
        assert_eq!(usual["renew_at"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn the_level_is_for_our_own_lines() {
        let event = Event::ConfigLoaded { certificates: 3 };
        assert_eq!(logged(LogFormat::Text, "warn", std::slice::from_ref(&event)), "");
        assert!(logged(LogFormat::Text, "INFO", &[event]).contains("certificates=3"));
        assert!(matches!(filter("loud=x=y"), Err(LogError::Level(_))));
        assert!(filter("loud").is_err());
    }

    #[test]
    fn the_form_follows_from_where_standard_error_goes() {
        let journal = Some("8:77");
        assert_eq!(LogFormat::detect(true, Some((8, 77)), journal), LogFormat::Text);
        assert_eq!(LogFormat::detect(false, Some((8, 77)), journal), LogFormat::Journald);
        // Inherited, and sent to a file since.
        assert_eq!(LogFormat::detect(false, Some((9, 1)), journal), LogFormat::Json);
        assert_eq!(LogFormat::detect(false, None, None), LogFormat::Json);
        assert_eq!("journald".parse::<LogFormat>().unwrap().to_string(), "journald");
    }
}
