//! Values that stand as one text: names, words, spans of time, addresses.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};

use crate::deploy::InstallContent;
use crate::local_ca::Subtree;
use crate::model::{
    CaName, CertificateName, GroupName, Health, Identifier, KeyType, Rate, RateError, Secret,
    Share, SolverName, TargetName,
};
use crate::probe::StartTls;

use super::DeployerChoice;
use super::field::{Field, Reading};
use super::suggest;
use super::tree::{Node, Value};

/// A value that stands as one text.
pub(super) trait Text: Sized {
    /// What is expected, for messages.
    const EXPECTED: &'static str;

    /// All texts there are, if they can be counted.
    fn words() -> Vec<&'static str> {
        Vec::new()
    }

    /// The value of `text`, or what is wrong with it: a clause without its subject.
    fn from_text(text: &str) -> Result<Self, String>;

    /// The text, for showing.
    fn to_text(&self) -> String;

    /// What to write instead of a bare `number`.
    fn instead_of_number(_number: &str) -> Option<String> {
        None
    }
}

impl<T: Text> Field for T {
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Number(number) => {
                reading.expected(T::EXPECTED, node, T::instead_of_number(number));
                return None;
            }
            _ => {
                reading.expected(T::EXPECTED, node, None);
                return None;
            }
        };
        match T::from_text(text) {
            Ok(value) => Some(value),
            Err(message) => {
                let hint = suggest::for_word(text, &T::words());
                reading.fault(&node.place, format!("{text:?} {message}"), hint);
                None
            }
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_text())
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        let words = T::words();
        if words.is_empty() {
            json_schema!({ "type": "string", "description": T::EXPECTED })
        } else {
            json_schema!({ "type": "string", "enum": words })
        }
    }
}

impl Text for String {
    const EXPECTED: &'static str = "a text in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("is empty or holds control characters".to_owned());
        }
        Ok(text.to_owned())
    }

    fn to_text(&self) -> String {
        format!("{self:?}")
    }
}

/// Types that parse themselves, and say what is wrong in their own words.
macro_rules! parsed {
    ($($type:ty: $expected:literal,)*) => {$(
        impl Text for $type {
            const EXPECTED: &'static str = $expected;

            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error| clause(&error))
            }

            fn to_text(&self) -> String {
                format!("\"{self}\"")
            }
        }
    )*};
}

parsed! {
    CaName: "the name of a CA",
    CertificateName: "a name",
    GroupName: "the name of a group",
    Identifier: "a host name or IP address in quotes",
    Share: "a share of a lifetime, such as \"1/4\"",
    SolverName: "the name of a solver",
    Subtree: "a host name or network in quotes",
    TargetName: "the name of a target",
}

/// The message of `error` as a clause that goes on after its subject.
fn clause(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    if text.starts_with("not ") { format!("is {text}") } else { text }
}

impl Text for SocketAddr {
    const EXPECTED: &'static str = "an address and port in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_refused| {
            "is not an address with a port, such as 127.0.0.1:8402 or [::1]:8402".to_owned()
        })
    }

    fn to_text(&self) -> String {
        format!("\"{self}\"")
    }
}

/// Types of which there are few values, each with its word.
macro_rules! words {
    ($($type:ty: $expected:literal [$($word:literal => $value:expr),* $(,)?],)*) => {$(
        impl Text for $type {
            const EXPECTED: &'static str = $expected;

            fn words() -> Vec<&'static str> {
                vec![$($word),*]
            }

            fn from_text(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($value),)*
                    _ => Err(concat!("is not ", $expected).to_owned()),
                }
            }

            fn to_text(&self) -> String {
                let words = [$(($word, $value)),*];
                let word = words.iter().find(|(_, it)| it == self).map(|(word, _)| *word);
                format!("{:?}", word.unwrap_or_default())
            }
        }
    )*};
}

/// What a CA is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaType {
    Acme,
    Local,
}

/// How a solver works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SolverType {
    Http01,
    Dns01,
    TlsAlpn01,
    DnsAccount01,
    DnsPersist01,
}

/// How a receiver of alerts is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AlertType {
    Webhook,
    Command,
    Alertmanager,
}

/// The kind of a server, which brings defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// nginx, as `nginx.service`.
    Nginx,
    /// Apache's httpd, as `apache2.service`.
    Apache,
    /// The proxy, as `haproxy.service`.
    Haproxy,
    /// Postfix, by SMTP.
    Postfix,
    /// Dovecot, by IMAP.
    Dovecot,
    /// PostgreSQL.
    Postgresql,
    /// Mosquitto, an MQTT broker.
    Mosquitto,
    /// A server that nothing is known of, with programs of the operator's own.
    Command,
    /// A server that nothing is known of.
    Other,
}

/// What a limit of a CA's allows; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed(pub(super) Option<Rate>);

impl Text for Allowed {
    const EXPECTED: &'static str = "a number and a span in quotes, such as \"50/7d\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|it| Self(Some(it))).map_err(|error: RateError| error.to_string())
    }

    fn to_text(&self) -> String {
        self.0.map_or_else(|| "\"none\"".to_owned(), |it| format!("\"{it}\""))
    }

    fn instead_of_number(number: &str) -> Option<String> {
        Some(format!("say in which span, such as \"{number}/7d\""))
    }
}

/// What counts against no limit of a CA's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exempt {
    Replacements,
    Renewals,
}

words! {
    Exempt: "a kind of order" [
        "replacements" => Self::Replacements, "renewals" => Self::Renewals,
    ],
    CaType: "a type of CA" ["acme" => Self::Acme, "local" => Self::Local],
    SolverType: "a type of solver" [
        "http-01" => Self::Http01, "dns-01" => Self::Dns01, "tls-alpn-01" => Self::TlsAlpn01,
        "dns-account-01" => Self::DnsAccount01, "dns-persist-01" => Self::DnsPersist01,
    ],
    AlertType: "a type of receiver" [
        "webhook" => Self::Webhook, "command" => Self::Command,
        "alertmanager" => Self::Alertmanager,
    ],
    TargetKind: "a kind of target" [
        "nginx" => Self::Nginx, "apache" => Self::Apache, "haproxy" => Self::Haproxy,
        "postfix" => Self::Postfix, "dovecot" => Self::Dovecot,
        "postgresql" => Self::Postgresql, "mosquitto" => Self::Mosquitto,
        "command" => Self::Command, "other" => Self::Other,
    ],
    DeployerChoice: "a way to deploy" [
        "auto" => Self::Auto, "direct" => Self::Direct, "socket" => Self::Socket,
    ],
    Health: "a severity" [
        "ok" => Self::Ok, "warning" => Self::Warning, "critical" => Self::Critical,
    ],
    InstallContent: "a file of a certificate" [
        "fullchain" => Self::FullChain, "cert" => Self::Certificate, "chain" => Self::Chain,
        "privkey" => Self::PrivateKey, "combined" => Self::Combined,
    ],
    KeyType: "a kind of key" [
        "p256" => Self::P256, "p384" => Self::P384, "rsa2048" => Self::Rsa2048,
        "rsa3072" => Self::Rsa3072, "rsa4096" => Self::Rsa4096,
    ],
    StartTls: "a protocol with STARTTLS" [
        "smtp" => Self::Smtp, "imap" => Self::Imap, "pop3" => Self::Pop3, "ftp" => Self::Ftp,
        "ldap" => Self::Ldap, "postgresql" => Self::Postgresql,
    ],
}

/// A span of time, longer than nothing and at most a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl Text for Span {
    const EXPECTED: &'static str = "a span of time in quotes, with a unit";

    fn from_text(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) {
            return Err(format!("has no unit: write \"{text}s\""));
        }
        let span = humantime::parse_duration(text)
            .map_err(|_refused| "is not a span of time: write \"30s\" or \"5m\"".to_owned())?;
        if span.is_zero() || span > Duration::from_secs(24 * 60 * 60) {
            return Err("is not between nothing and a day".to_owned());
        }
        Ok(Self(span))
    }

    fn to_text(&self) -> String {
        format!("\"{}\"", humantime::format_duration(self.0))
    }

    fn instead_of_number(number: &str) -> Option<String> {
        Some(format!("write \"{number}s\""))
    }
}

/// How long a certificate is valid, to the second: from 10 seconds, under which its renewals would
/// never rest, to 100 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime(pub(super) Duration);

/// The shortest and the longest [`Lifetime`].
const LIFETIMES: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(100 * 31_557_600);

impl Text for Lifetime {
    const EXPECTED: &'static str = "a lifetime in quotes, with a unit";

    fn from_text(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) {
            return Err(format!("has no unit: write \"{text}d\""));
        }
        let lifetime = humantime::parse_duration(text)
            .map_err(|_refused| "is not a lifetime: write \"30d\" or \"1y\"".to_owned())?;
        if !LIFETIMES.contains(&lifetime) {
            return Err("is not between 10 seconds and 100 years".to_owned());
        }
        Ok(Self(Duration::from_secs(lifetime.as_secs())))
    }

    fn to_text(&self) -> String {
        format!("\"{}\"", humantime::format_duration(self.0))
    }

    fn instead_of_number(number: &str) -> Option<String> {
        Some(format!("write \"{number}d\""))
    }
}

/// The mode of a file, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode(pub(super) u32);

impl Text for Mode {
    const EXPECTED: &'static str = "a mode in octal, in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        let is_octal =
            matches!(text.len(), 3 | 4) && text.bytes().all(|it| matches!(it, b'0'..=b'7'));
        match u32::from_str_radix(text, 8) {
            Ok(mode) if is_octal && mode <= 0o777 => Ok(Self(mode)),
            _ => Err("is not a mode in octal, such as \"0640\"".to_owned()),
        }
    }

    fn to_text(&self) -> String {
        format!("\"{:04o}\"", self.0)
    }

    fn instead_of_number(_number: &str) -> Option<String> {
        Some("write \"0640\"".to_owned())
    }
}

/// A text that may be as good as a password, such as the URL of a webhook: never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretText(pub(super) Secret);

impl Text for SecretText {
    const EXPECTED: &'static str = "a text in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self(Secret::new(text.trim().to_owned())))
    }

    fn to_text(&self) -> String {
        "(not shown)".to_owned()
    }
}
