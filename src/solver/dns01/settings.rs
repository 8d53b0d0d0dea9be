//! What the configuration says of a solver that does dns-01, and what each provider needs of it.
//!
//! Not here: the keys and files that these values come from ([`crate::config`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::Secret;

use crate::sys::http::may_be_asked;

use super::catalogue::{Kind, Make, kinds};
use super::program::{is_environment, is_variable};
use super::tsig::TsigKey;

/// dns-01, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns01Settings {
    /// Who changes DNS.
    pub provider: ProviderSettings,
    /// The resolvers to find zones by; the system's if empty.
    pub resolvers: Vec<SocketAddr>,
    /// Whom to ask whether a record is there, in place of the servers that the zone names; nobody
    /// if the list is empty.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// How long the servers may take until all of them have what was added.
    pub propagation_timeout: Duration,
}

/// dns-persist-01, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsPersist01Settings {
    /// As [`Dns01Settings::resolvers`].
    pub resolvers: Vec<SocketAddr>,
    /// As [`Dns01Settings::nameservers`].
    pub nameservers: Option<Vec<SocketAddr>>,
    /// How long the servers may take until all of them have the record.
    pub propagation_timeout: Duration,
}

impl Default for DnsPersist01Settings {
    fn default() -> Self {
        let propagation_timeout = Duration::from_secs(5 * 60);
        Self { resolvers: Vec::new(), nameservers: None, propagation_timeout }
    }
}

/// Who changes DNS, with all it needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSettings {
    /// Its name, as the configuration writes it.
    pub name: String,
    /// The program that it runs, with its arguments, if it runs one.
    pub program: Vec<String>,
    /// Keys that are no secrets, by their names.
    pub values: BTreeMap<String, String>,
    /// Secrets, by the names of their keys without `_file`, `_credential` or `_env`.
    pub secrets: BTreeMap<String, Secret>,
}

/// What is wrong with a provider's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderFault {
    /// The key that it is about; `None` if one is missing.
    pub key: Option<String>,
    /// What is wrong: a clause without its subject, or a sentence if there is no key.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl ProviderSettings {
    /// The names of all providers.
    #[must_use]
    pub fn known() -> Vec<&'static str> {
        kinds().map(|it| it.name).collect()
    }

    /// What each provider needs, and what to know of it, a line each.
    #[must_use]
    pub fn reference() -> Vec<String> {
        let line = |it: &Kind| {
            let mark = if it.note.is_empty() { "" } else { "; " };
            format!("{}: {}{mark}{}", it.name, needed(it), it.note)
        };
        kinds().map(line).collect()
    }

    /// The secrets that a provider can have, as the first part of their keys.
    pub const SECRETS: [&'static str; 4] = ["token", "key", "secret", "password"];

    /// Everything that is wrong. With none found, what a provider needs is there; whether it is
    /// also true, only the provider can tell.
    #[must_use]
    pub fn faults(&self) -> Vec<ProviderFault> {
        let Some(kind) = self.kind() else {
            let message = "there is no such provider".to_owned();
            let hint = format!("write one of: {}", Self::known().join(", "));
            return vec![ProviderFault { key: Some("provider".to_owned()), message, hint }];
        };
        let program = (!self.program.is_empty()).then_some("program");
        let keys = self.secrets.keys().chain(self.values.keys()).map(String::as_str);
        let given: Vec<&str> = program.into_iter().chain(keys).collect();
        let missing = kind.needs.iter().filter(|it| it.required);
        let missing = missing.filter(|it| !given.contains(&it.key));
        let mut faults: Vec<_> = missing
            .map(|it| ProviderFault {
                key: None,
                message: format!("there is no `{}`, which {} needs", written(it.key), kind.name),
                hint: format!("{}: {}", written(it.key), it.about),
            })
            .collect();
        for key in given {
            let is_free = matches!(kind.make, Make::Program) && is_variable(key);
            if !is_free && !kind.needs.iter().any(|it| it.key == key) {
                let hint = format!("take it out; {} needs {}", kind.name, needed(kind));
                let message = format!("means nothing to the provider {}", kind.name);
                faults.push(ProviderFault { key: Some(key.to_owned()), message, hint });
            }
        }
        faults.extend(self.fault_of_form(kind));
        faults
    }

    pub(super) fn kind(&self) -> Option<&'static Kind> {
        kinds().find(|it| it.name == self.name)
    }

    /// Where the provider is asked, if that is not the one place that its client knows.
    #[cfg(feature = "dns-providers")]
    pub(super) fn url(&self) -> Option<&str> {
        let default = (self.name == "pdns").then_some(PDNS_URL);
        self.values.get("url").map(String::as_str).or(default)
    }

    /// Whether the provider may hold another zone of the same name, and was not told which one to
    /// change. The client of Route 53 takes the first that fits, private or not.
    pub(super) fn may_mistake_zone(&self) -> bool {
        self.name == "route53" && !self.values.contains_key("hosted_zone_id")
    }

    /// What can be seen without asking anybody.
    fn fault_of_form(&self, kind: &Kind) -> Option<ProviderFault> {
        let of = |key: &str, message: String, hint: &str| {
            Some(ProviderFault { key: Some(key.to_owned()), message, hint: hint.to_owned() })
        };
        if let Some(url) = self.values.get("url")
            && !url.parse().is_ok_and(|it| may_be_asked(&it))
        {
            let message = "is not a URL with https, or with http to loopback".to_owned();
            return of("url", message, "write \"https://…\": credentials are sent there");
        }
        // With a scheme its client would take plain http to wherever it is.
        if self.values.get("host").is_some_and(|it| it.contains("://")) {
            let message = "is a URL".to_owned();
            return of("host", message, "write the host alone: it is asked by https");
        }
        if matches!(kind.make, Make::Program)
            && self.secrets.get("key").is_some_and(|it| !is_environment(it))
        {
            let message = "has a line that is not NAME=value".to_owned();
            return of("key", message, "write one variable a line, without quotes or `export`");
        }
        if !matches!(kind.make, Make::Rfc2136) {
            return None;
        }
        if let Some(server) = self.values.get("server").filter(|it| host_and_port(it).is_none()) {
            let message = format!("{server:?} is not a host, host:port or [address]:port");
            return of("server", message, "write \"ns1.example.com\" or \"192.0.2.1:53\"");
        }
        let error = TsigKey::parse(self.secrets.get("key")?.reveal()).err()?;
        of("key", error.to_string(), "make one: tsig-keygen -a hmac-sha256 renewd")
    }
}

/// The API of PowerDNS on the same machine, where no other is written.
#[cfg(feature = "dns-providers")]
pub(super) const PDNS_URL: &str = "http://localhost:8081";

/// The keys that stand in the table itself; others stand in its `options`.
const IN_TABLE: [&str; 4] = ["program", "server", "url", "user"];

/// `key` as the configuration writes it.
fn written(key: &str) -> String {
    if ProviderSettings::SECRETS.contains(&key) {
        format!("{key}_file")
    } else if IN_TABLE.contains(&key) {
        key.to_owned()
    } else {
        format!("options.{key}")
    }
}

/// What is given for a provider, for whoever makes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a>(pub(super) &'a ProviderSettings);

impl<'a> Given<'a> {
    /// The value of `key`; empty if there is none.
    pub(super) fn value(self, key: &str) -> &'a str {
        self.0.values.get(key).map(String::as_str).unwrap_or_default()
    }

    /// The secret `key`; empty if there is none.
    pub(super) fn secret(self, key: &str) -> &'a str {
        self.0.secrets.get(key).map(Secret::reveal).unwrap_or_default()
    }
}

#[cfg(feature = "dns-providers")]
impl Given<'_> {
    /// The value of `key`, if there is one.
    pub(super) fn optional(self, key: &str) -> Option<String> {
        self.0.values.get(key).cloned()
    }

    /// The secret `key`, if there is one.
    pub(super) fn optional_secret(self, key: &str) -> Option<String> {
        self.0.secrets.get(key).map(|it| it.reveal().to_owned())
    }

    /// Whether `key` is `true`.
    pub(super) fn flag(self, key: &str) -> bool {
        self.value(key) == "true"
    }

    /// The number of `key`, if there is one.
    pub(super) fn number(self, key: &str) -> Option<u32> {
        self.value(key).parse().ok()
    }
}

/// `host:port` for `text`, whose port is 53 if it has none.
#[must_use]
pub(super) fn host_and_port(text: &str) -> Option<String> {
    let is_port = |it: &str| it.parse::<u16>().is_ok_and(|it| it > 0);
    let is_host = |it: &str| {
        !it.is_empty() && it.chars().all(|it| it.is_ascii_alphanumeric() || "-._".contains(it))
    };
    if text.parse::<SocketAddr>().is_ok_and(|it| it.port() > 0) {
        return Some(text.to_owned());
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse() {
        return Some(SocketAddr::new(address, 53).to_string());
    }
    match text.rsplit_once(':') {
        Some((host, port)) => (is_host(host) && is_port(port)).then(|| text.to_owned()),
        None => is_host(text).then(|| format!("{text}:53")),
    }
}

/// The keys of `kind`, for people.
fn needed(kind: &Kind) -> String {
    let words = kind.needs.iter().map(|it| {
        let mark = if it.required { "" } else { ", optional" };
        format!("{} ({}{mark})", written(it.key), it.about)
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc2136(server: &str, key: &str) -> ProviderSettings {
        ProviderSettings {
            name: "rfc2136".to_owned(),
            program: Vec::new(),
            values: BTreeMap::from([("server".to_owned(), server.to_owned())]),
            secrets: BTreeMap::from([("key".to_owned(), Secret::new(key.to_owned()))]),
        }
    }

    const KEY: &str = "key k { algorithm hmac-sha256; secret \"Y2FuYXJ5\"; };";

    #[test]
    fn what_a_provider_needs_and_does_not_know_is_told() {
        assert_eq!(rfc2136("127.0.0.1:5353", KEY).faults(), []);
        let mut wrong = rfc2136("a b", KEY);
        wrong.secrets.insert("token".to_owned(), Secret::new("canary".to_owned()));
        let messages: Vec<_> = wrong.faults().into_iter().map(|it| it.message).collect();
        assert_eq!(
            messages,
            [
                "means nothing to the provider rfc2136",
                "\"a b\" is not a host, host:port or [address]:port"
            ]
        );
        let empty = ProviderSettings { secrets: BTreeMap::new(), ..rfc2136("ns1", KEY) };
        assert_eq!(empty.faults()[0].message, "there is no `key_file`, which rfc2136 needs");
        assert_eq!(rfc2136("ns1", "canary").faults()[0].key.as_deref(), Some("key"));
        assert!(!format!("{:?}", rfc2136("ns1", "canary").faults()).contains("canary"));
    }

    #[test]
    fn a_server_without_a_port_has_that_of_dns() {
        assert_eq!(host_and_port("ns1.example").as_deref(), Some("ns1.example:53"));
        assert_eq!(host_and_port("2001:db8::1").as_deref(), Some("[2001:db8::1]:53"));
        assert_eq!(host_and_port("[2001:db8::1]:5353").as_deref(), Some("[2001:db8::1]:5353"));
        for wrong in ["", "a:0", "a:", ":53", "a:b:c", "https://a"] {
            assert_eq!(host_and_port(wrong), None, "{wrong}");
        }
    }
}
