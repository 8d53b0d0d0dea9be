//! Who changes DNS: one trait, behind it each way to do so.
//!
//! Not here: the ways themselves; which record, and when ([`super::shown`]).

use std::fmt;
use std::io;

use async_trait::async_trait;
use http::StatusCode;

use crate::model::{Retry, Secret, TxtRecord};
use crate::sys::http::HttpError;

use super::exchange::ExchangeError;

/// How much of a provider's message is kept, in characters.
const MAX_MESSAGE: usize = 300;

/// Adds and removes single values. Values of others stay as they are.
#[async_trait]
pub(super) trait DnsProvider: fmt::Debug + Send + Sync {
    /// Finds out whether it could be asked at all, and asks nobody.
    ///
    /// # Errors
    ///
    /// Says what stands in the way.
    async fn check(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Adds the value; it being there already is fine.
    ///
    /// # Errors
    ///
    /// Says why not. It may have been added all the same: the answer can be lost.
    async fn add(&self, record: &TxtRecord) -> Result<(), ProviderError>;

    /// Removes this value alone; it not being there is fine.
    ///
    /// # Errors
    ///
    /// Says why not.
    async fn remove(&self, record: &TxtRecord) -> Result<(), ProviderError>;
}

/// DNS could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The server's name can't be resolved.
    #[error("cannot find the address of {server}")]
    Resolve {
        /// As configured.
        server: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server gave no usable answer.
    #[error("{server} can't be asked to change {zone}")]
    Exchange {
        /// As configured.
        server: String,
        /// The zone that was to be changed.
        zone: String,
        /// What went wrong.
        #[source]
        source: ExchangeError,
    },
    /// The server refuses (RFC 2136 §2.2, RFC 8945 §5.3).
    #[error("{server} refuses to change {zone}: {refusal}")]
    Refused {
        /// As configured.
        server: String,
        /// The zone that was to be changed.
        zone: String,
        /// The server's word.
        refusal: Refusal,
    },
    /// The answer is not signed with our key: it may be anybody's.
    #[error("the answer of {server} is not signed by the key")]
    Unsigned {
        /// As configured.
        server: String,
    },
    /// The provider's interface says no.
    #[error("{provider} does not change {zone}: {message}")]
    Api {
        /// Its name.
        provider: String,
        /// The zone that was to be changed.
        zone: String,
        /// What kind of a no it is.
        failure: Failure,
        /// What its client says, without any secret.
        message: String,
    },
    /// The exchange did not take place.
    #[error("{provider} can't be asked to change {zone}")]
    Http {
        /// Its name.
        provider: &'static str,
        /// The zone that was to be changed.
        zone: String,
        /// Why not.
        #[source]
        source: HttpError,
    },
    /// Only one value can stand at a name there.
    #[error("{provider} holds one value at {name}, and another proof needs it now")]
    OneValue {
        /// The provider.
        provider: String,
        /// The record.
        name: String,
    },
    /// The alias leads to nothing that is registered.
    #[error("no registration at acme-dns is for {name}")]
    NotRegistered {
        /// Where the alias leads.
        name: String,
    },
    /// Programs are not run here.
    #[error("beside a deployer renewd runs no program that changes DNS")]
    NoPrograms,
    /// Its client would ask a proxy, and say its credentials in plain text on the way there.
    #[error("{provider} is asked by plain http to {host}, which would go through a proxy")]
    BehindProxy {
        /// Its name.
        provider: String,
        /// The host of its URL.
        host: String,
    },
    /// A program should not be handed it.
    #[error("{name} is handed to no program: it has other characters than letters, digits, - . _")]
    NotPlain {
        /// The record.
        name: String,
    },
    /// No end within the time limit.
    #[error("no end within {limit:?}")]
    TimedOut {
        /// The limit.
        limit: std::time::Duration,
    },
}

/// How the interface of a provider says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The credentials do not hold, or not for this.
    Unauthorized,
    /// The zone is not there, for these credentials.
    NotFound,
    /// Anything else.
    Other,
}

/// How a server says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// REFUSED.
    Refused,
    /// NOTAUTH, without a word on the key.
    NotAuthoritative,
    /// NOTZONE.
    NotInZone,
    /// BADKEY: the key is not known there.
    BadKey,
    /// BADSIG: the key has another secret there.
    BadSignature,
    /// BADTIME: the clocks differ.
    BadTime,
    /// Any other code.
    Other(u16),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("REFUSED"),
            Self::NotAuthoritative => f.write_str("NOTAUTH"),
            Self::NotInZone => f.write_str("NOTZONE"),
            Self::BadKey => f.write_str("BADKEY"),
            Self::BadSignature => f.write_str("BADSIG"),
            Self::BadTime => f.write_str("BADTIME"),
            Self::Other(code) => write!(f, "response code {code}"),
        }
    }
}

impl ProviderError {
    /// What `status` says of a request to change `record`; none: it could not even be written.
    pub(super) fn http(record: &TxtRecord, provider: &str, status: Option<StatusCode>) -> Self {
        let failure = match status {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Failure::Unauthorized,
            Some(StatusCode::NOT_FOUND) => Failure::NotFound,
            _ => Failure::Other,
        };
        let message = status.map_or_else(
            || "the URL or a credential can't be sent".to_owned(),
            |it| format!("it answered {it}"),
        );
        Self::Api { provider: provider.to_owned(), zone: record.zone.clone(), failure, message }
    }

    /// Whether it is certain that nothing was changed.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Resolve { .. }
                | Self::Refused { .. }
                | Self::Api { failure: Failure::Unauthorized, .. }
                | Self::OneValue { .. }
                | Self::NotRegistered { .. }
                | Self::NoPrograms
                | Self::BehindProxy { .. }
                | Self::NotPlain { .. }
        )
    }

    /// When to try again.
    pub(super) const fn retry(&self) -> Retry {
        match self {
            // Who says REFUSED or SERVFAIL may just be reloading; a key does not change by itself.
            Self::Refused {
                refusal: Refusal::BadKey | Refusal::BadSignature | Refusal::NotInZone,
                ..
            } => Retry::AfterChange,
            Self::Api { failure: Failure::Unauthorized, .. }
            | Self::OneValue { .. }
            | Self::NotRegistered { .. }
            | Self::NoPrograms
            | Self::BehindProxy { .. }
            | Self::NotPlain { .. } => Retry::AfterChange,
            _ => Retry::BackOff,
        }
    }

    /// What a human can do.
    pub(super) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Resolve { server, .. } => {
                format!("write the server's IP address, or see why {server} has none here")
            }
            Self::Exchange { server, .. } => {
                format!("see that TCP to {server} gets through, and that a name server listens")
            }
            Self::Refused { server, zone, refusal } => match refusal {
                Refusal::Refused => format!(
                    "let the key change {zone} at {server}; in BIND: update-policy {{ grant KEY \
                     name _acme-challenge.NAME. TXT; }};"
                ),
                Refusal::NotAuthoritative => {
                    format!("{server} is not the primary of {zone}: set server to the one that is")
                }
                Refusal::NotInZone => {
                    format!("{server} has the zones cut otherwise than the resolver: set resolvers")
                }
                Refusal::BadKey => format!(
                    "{server} has no key of this name and algorithm: put the same key file there"
                ),
                Refusal::BadSignature => {
                    format!("{server} has another secret for this key: copy its key file anew")
                }
                Refusal::BadTime => {
                    format!("the clocks of this machine and {server} differ: set them by NTP")
                }
                Refusal::Other(_) => format!("see the log of {server}"),
            },
            Self::Unsigned { server } => {
                format!("see that {server} knows the key, and that nobody stands between")
            }
            Self::Api { provider, zone, failure, .. } => match failure {
                Failure::Unauthorized => format!(
                    "see that the credentials of {provider} are right and may change {zone}"
                ),
                Failure::NotFound => format!("see that {provider} holds {zone} in this account"),
                Failure::Other => format!(
                    "see the message; `renewd dns test` tries {provider} again without a CA"
                ),
            },
            Self::Http { provider, .. } => format!("see that the url of {provider} answers"),
            Self::OneValue { provider, .. } => format!(
                "{provider} can't prove a name and its wildcard in one certificate: make two of it"
            ),
            Self::NotRegistered { name } => format!(
                "add the registration whose fulldomain is {name} to the key, or mend the alias"
            ),
            Self::NoPrograms => "choose another provider; or let one process do all: deployer = \
                                 \"direct\""
                .into(),
            Self::BehindProxy { host, .. } => format!(
                "except it from the proxy in the environment of renewd, NO_PROXY={host}, and start \
                 it again"
            ),
            Self::NotPlain { name } => format!("see where the alias {name} comes from"),
            Self::TimedOut { .. } => return None,
        })
    }
}

/// `message` without any of `secrets` and without the queries of URLs, cut to what fits a line.
pub(super) fn redacted(message: &str, secrets: &[Secret]) -> String {
    let mut text = message.to_owned();
    for line in secrets.iter().flat_map(|it| it.reveal().lines()) {
        // What is shorter than this is a bracket of JSON rather than a secret.
        if line.trim().len() >= 4 {
            text = text.replace(line.trim(), "(secret)");
        }
    }
    let words = text.split_whitespace().map(|word| match word.split_once('?') {
        Some((before, _)) if before.contains("://") => format!("{before}?…"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ").chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_of_a_provider_holds_a_secret() {
        let secrets = [Secret::new("canary".to_owned()), Secret::new("{\nline-one\n}".to_owned())];
        let message = "Client error: error sending request for url \
                       (https://api.example/update?token=can%61ry&txt=): bad header canary line-one";
        let text = redacted(message, &secrets);
        assert!(!text.contains("canary") && !text.contains("can%61ry"), "{text}");
        assert!(!text.contains("line-one"), "{text}");
        assert!(text.starts_with("Client error:") && text.contains("https://api.example/update?…"));
        assert_eq!(redacted(&"x".repeat(1000), &[]).len(), MAX_MESSAGE);
    }
}
