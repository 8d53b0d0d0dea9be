//! Lines for systemd's journal, by its native protocol: a datagram for each, with all fields.
//!
//! `journalctl` shows the field `MESSAGE` alone. So the values that a line varies by stand in it as
//! well, as in the text form; as fields of their own (`RENEWD_CERTIFICATE=…`) they can be searched.
//!
//! Not here: which form is used when ([`super::log`]).

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// The longest value of a field, in bytes: what we log is bounded, and a datagram has to fit the
/// kernel's buffer.
const MAX_VALUE: usize = 16 * 1024;

/// Sends each event to the journal. What the journal does not take is lost: there is nobody left to
/// tell.
#[derive(Debug)]
pub(super) struct JournalLayer {
    socket: UnixDatagram,
    path: PathBuf,
}

impl JournalLayer {
    /// To the journal of this machine.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub(super) fn new() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    /// To the journal at `path`; it is addressed anew for each line, so that it may be started
    /// anew.
    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A journal that has stopped reading must not stop us.
        socket.set_nonblocking(true)?;
        socket.send_to(&[], path)?;
        Ok(Self { socket, path: path.to_owned() })
    }
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let entry = line.entry(*event.metadata().level());
        let _sent_or_lost = self.socket.send_to(&entry, &self.path);
    }
}

/// What an event says.
#[derive(Debug, Default)]
struct Line {
    sentence: String,
    /// The same as in `fields`, for people.
    values: String,
    fields: Vec<u8>,
}

impl Line {
    /// The datagram for it.
    fn entry(mut self, level: Level) -> Vec<u8> {
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            Level::DEBUG | Level::TRACE => "7",
        };
        let mut entry = std::mem::take(&mut self.fields);
        put(&mut entry, "MESSAGE", &format!("{}{}", self.sentence, self.values));
        put(&mut entry, "PRIORITY", priority);
        put(&mut entry, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
        entry
    }

    /// Takes the value of `field`: `plain` as a field, `shown` within the sentence.
    fn add(&mut self, field: &Field, plain: &str, shown: fmt::Arguments<'_>) {
        if field.name() == "message" {
            self.sentence.push_str(plain);
            return;
        }
        // Writing to a string can't fail.
        let _always_ok = write!(self.values, " {}={shown}", field.name());
        let name = format!("RENEWD_{}", field.name().to_ascii_uppercase().replace('.', "_"));
        put(&mut self.fields, &name, plain);
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, format_args!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.add(field, &text, format_args!("{text}"));
    }
}

/// Adds a field in the form that bears every value: its name, the length, its bytes.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    let end = value.floor_char_boundary(MAX_VALUE.min(value.len()));
    let value = value.get(..end).unwrap_or_default().as_bytes();
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use tracing::{info, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What the journal gets of what `log` logs: a list of fields for each line.
    fn received(log: impl FnOnce()) -> Vec<Vec<(String, String)>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_nonblocking(true).unwrap();
        let layer = JournalLayer::at(&path).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let mut buffer = vec![0; 256 * 1024];
        let mut entries = Vec::new();
        while let Ok(length) = journal.recv(&mut buffer) {
            entries.push(fields(&buffer[..length]));
        }
        // The first one is empty: it asked whether the journal is there.
        assert!(entries.remove(0).is_empty());
        entries
    }

    fn fields(mut entry: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while let Some(end) = entry.iter().position(|it| *it == b'\n') {
            let name = String::from_utf8(entry[..end].to_vec()).unwrap();
            let (length, rest) = entry[end + 1..].split_at(8);
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            fields.push((name, String::from_utf8(rest[..length].to_vec()).unwrap()));
            assert_eq!(rest[length], b'\n');
            entry = &rest[length + 1..];
        }
        fields
    }

    #[track_caller]
    fn field<'a>(entry: &'a [(String, String)], name: &str) -> &'a str {
        &entry.iter().find(|it| it.0 == name).unwrap_or_else(|| panic!("no {name}: {entry:?}")).1
    }

    #[test]
    fn a_line_says_its_values_to_people_and_has_them_as_fields() {
        let entries = received(|| {
            warn!(certificate = %"site", reason = "the CA is away", attempts = 3, "renewal failed");
            info!("configuration in force");
        });
        let [failed, loaded] = &entries[..] else { panic!("{entries:?}") };
        let message = r#"renewal failed certificate=site reason="the CA is away" attempts=3"#;
        assert_eq!(field(failed, "MESSAGE"), message);
        assert_eq!(field(failed, "RENEWD_CERTIFICATE"), "site");
        assert_eq!(field(failed, "RENEWD_REASON"), "the CA is away");
        assert_eq!(field(failed, "RENEWD_ATTEMPTS"), "3");
        assert_eq!(field(failed, "PRIORITY"), "4");
        assert_eq!(field(failed, "SYSLOG_IDENTIFIER"), "renewd");
        assert_eq!(field(loaded, "MESSAGE"), "configuration in force");
        assert_eq!(field(loaded, "PRIORITY"), "6");
    }

    #[test]
    fn a_value_can_add_neither_a_field_nor_a_line() {
        let entries = received(|| info!(reason = "x\nPRIORITY=0\nMESSAGE=all is well", "told"));
        assert_eq!(entries.len(), 1);
        assert_eq!(field(&entries[0], "PRIORITY"), "6");
        assert_eq!(
            field(&entries[0], "MESSAGE"),
            r#"told reason="x\nPRIORITY=0\nMESSAGE=all is well""#
        );
    }

    #[test]
    fn a_value_without_end_is_cut_between_two_characters() {
        let endless = "ä".repeat(100_000);
        let entries = received(|| info!(reason = endless.as_str(), "told"));
        assert_eq!(field(&entries[0], "RENEWD_REASON").len(), MAX_VALUE);
        assert!(field(&entries[0], "MESSAGE").starts_with("told reason=\"ää"));
    }

    #[test]
    fn no_journal_is_an_error_and_one_that_went_away_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(JournalLayer::at(&path).is_err());
        let journal = UnixDatagram::bind(&path).unwrap();
        let layer = JournalLayer::at(&path).unwrap();
        drop(journal);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || info!("nobody hears this"));
    }
}
