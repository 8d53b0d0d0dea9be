//! What the configuration says of a solver that does dns-01, and what each provider needs of it.
//!
//! Not here: the keys and files that these values come from ([`crate::config`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::Secret;

use super::catalogue::{KINDS, Kind, Need};
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

/// Who changes DNS, with all it needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSettings {
    /// Its name, as the configuration writes it.
    pub name: String,
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
        KINDS.iter().map(|it| it.name).collect()
    }

    /// What each provider needs, a line each.
    #[must_use]
    pub fn reference() -> Vec<String> {
        KINDS.iter().map(|it| format!("{}: {}", it.name, needed(it))).collect()
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
        let mut faults = Vec::new();
        let has_secret = |key: &str| self.secrets.contains_key(key);
        let has_value = |key: &str| self.values.contains_key(key);
        faults.extend(missing(kind, kind.secrets, "_file", has_secret));
        faults.extend(missing(kind, kind.values, "", has_value));
        for (key, suffix, needs) in (self.secrets.keys().map(|it| (it, "_file", kind.secrets)))
            .chain(self.values.keys().map(|it| (it, "", kind.values)))
        {
            if !needs.iter().any(|it| it.key == key) {
                let hint = format!("take it out; {} needs {}", kind.name, needed(kind));
                let message = format!("means nothing to the provider {}", kind.name);
                faults.push(ProviderFault { key: Some(format!("{key}{suffix}")), message, hint });
            }
        }
        faults.extend(self.fault_of_form());
        faults
    }

    fn kind(&self) -> Option<&'static Kind> {
        KINDS.iter().find(|it| it.name == self.name)
    }

    /// What can be seen without asking anybody.
    fn fault_of_form(&self) -> Option<ProviderFault> {
        let of = |key: &str, message: String, hint: &str| ProviderFault {
            key: Some(key.to_owned()),
            message,
            hint: hint.to_owned(),
        };
        if self.name != super::RFC2136 {
            return None;
        }
        if let Some(server) = self.values.get("server").filter(|it| host_and_port(it).is_none()) {
            let message = format!("{server:?} is not a host, host:port or [address]:port");
            return Some(of("server", message, "write \"ns1.example.com\" or \"192.0.2.1:53\""));
        }
        let key = self.secrets.get("key")?;
        let error = TsigKey::parse(key.reveal()).err()?;
        Some(of("key_file", error.to_string(), "make one: tsig-keygen -a hmac-sha256 renewd"))
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

fn missing(
    kind: &Kind,
    needs: &[Need],
    suffix: &str,
    has: impl Fn(&str) -> bool,
) -> Vec<ProviderFault> {
    let missing = needs.iter().filter(|it| it.required && !has(it.key));
    let fault = |it: &Need| ProviderFault {
        key: None,
        message: format!("there is no `{}{suffix}`, which {} needs", it.key, kind.name),
        hint: format!("{}{suffix}: {}", it.key, it.about),
    };
    missing.map(fault).collect()
}

/// The keys of `kind`, for people.
pub(super) fn needed(kind: &Kind) -> String {
    let secrets = kind.secrets.iter().map(|it| (it, "_file"));
    let all = secrets.chain(kind.values.iter().map(|it| (it, "")));
    let words = all.map(|(it, suffix)| {
        let mark = if it.required { "" } else { ", optional" };
        format!("{}{suffix} ({}{mark})", it.key, it.about)
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc2136(server: &str, key: &str) -> ProviderSettings {
        ProviderSettings {
            name: "rfc2136".to_owned(),
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
        assert_eq!(rfc2136("ns1", "canary").faults()[0].key.as_deref(), Some("key_file"));
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
