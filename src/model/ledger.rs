//! What a CA allows, what was spent of it, and what is refused therefore: the words of the ledger.
//!
//! Not here: what follows from them ([`crate::plan::ledger`]), and where it is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CaName, Identifier, Timestamp};

/// A limit: of a CA's, or one of our own that holds for every CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// Requests of any kind.
    Requests,
    /// New accounts of one address.
    NewAccounts,
    /// New orders of one account.
    NewOrders,
    /// Certificates for one registered name, IPv4 address or IPv6 network.
    CertificatesPerName,
    /// Certificates for one exact set of identifiers.
    CertificatesPerSet,
    /// Failed authorizations of one identifier.
    FailedAuthorizations,
    /// Failed authorizations of one identifier without a success between them.
    ConsecutiveFailures,
    /// Our own: certificates for one set that nobody asked for by hand.
    OwnRenewals,
    /// Our own: certificates for one set, whoever asks.
    OwnCertificates,
    /// Our own: failed authorizations of one identifier in an hour.
    OwnFailuresPerHour,
    /// Our own: failed authorizations of one identifier in a day.
    OwnFailuresPerDay,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Requests,
        Self::NewAccounts,
        Self::NewOrders,
        Self::CertificatesPerName,
        Self::CertificatesPerSet,
        Self::FailedAuthorizations,
        Self::ConsecutiveFailures,
        Self::OwnRenewals,
        Self::OwnCertificates,
        Self::OwnFailuresPerHour,
        Self::OwnFailuresPerDay,
    ];

    /// The stable word of it, as on disk and in `status --json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::NewAccounts => "new_accounts",
            Self::NewOrders => "new_orders",
            Self::CertificatesPerName => "certificates_per_domain",
            Self::CertificatesPerSet => "certificates_per_set",
            Self::FailedAuthorizations => "failed_authorizations",
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::OwnRenewals => "own_renewals",
            Self::OwnCertificates => "own_certificates",
            Self::OwnFailuresPerHour => "own_failures_per_hour",
            Self::OwnFailuresPerDay => "own_failures_per_day",
        }
    }

    /// Whether it is one that we set ourselves.
    #[must_use]
    pub const fn is_own(self) -> bool {
        matches!(
            self,
            Self::OwnRenewals
                | Self::OwnCertificates
                | Self::OwnFailuresPerHour
                | Self::OwnFailuresPerDay
        )
    }

    /// What it counts, in words; `about` says of whom.
    #[must_use]
    pub fn counted(self, about: &str) -> String {
        match self {
            Self::Requests => "requests".to_owned(),
            Self::NewAccounts => "new accounts".to_owned(),
            Self::NewOrders => "new orders".to_owned(),
            Self::CertificatesPerName => format!("certificates for {about} and names below it"),
            Self::CertificatesPerSet => "certificates for this set of names".to_owned(),
            Self::OwnRenewals => "renewals of this set of names".to_owned(),
            Self::OwnCertificates => "certificates for this set of names".to_owned(),
            Self::FailedAuthorizations | Self::OwnFailuresPerHour | Self::OwnFailuresPerDay => {
                format!("failed authorizations of {about}")
            }
            Self::ConsecutiveFailures => format!("failed authorizations of {about} in a row"),
        }
    }
}

/// So many of something in a span, given back evenly over it: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at once; at least one.
    pub count: u32,
    /// How long until all of them are there again.
    pub per: Duration,
}

impl Rate {
    /// After how long one more is given.
    #[must_use]
    pub fn interval(self) -> Duration {
        (self.per / self.count.max(1)).max(Duration::from_millis(1))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.per.as_secs();
        let unit = UNITS.iter().find(|(it, _)| seconds.is_multiple_of(*it));
        let (size, unit) = unit.copied().unwrap_or((1, "s"));
        write!(f, "{}/{}{unit}", self.count, seconds / size)
    }
}

/// A text is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a number and a span with its unit, such as \"50/7d\"")]
pub struct RateError;

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (count, per) = text.split_once('/').ok_or(RateError)?;
        let count = count.trim().parse().map_err(|_not_a_number| RateError)?;
        let per = humantime::parse_duration(per.trim()).map_err(|_not_a_span| RateError)?;
        let fits = per >= Duration::from_secs(1) && per <= MAX_PER && count > 0;
        if fits { Ok(Self { count, per }) } else { Err(RateError) }
    }
}

/// `span` in the largest unit that says it, if only roughly: `7d`, `1h`, `36h`.
#[must_use]
pub fn rough(span: Duration) -> String {
    let seconds = span.as_secs();
    let says = |size: u64| seconds >= 2 * size || seconds == size;
    let unit = UNITS.iter().find(|(size, _)| says(*size));
    let (size, unit) = unit.copied().unwrap_or((1, "s"));
    format!("{}{unit}", seconds / size)
}

const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "m")];

/// The longest span of a rate: ten years.
const MAX_PER: Duration = Duration::from_secs(10 * 366 * 86_400);

/// What one CA allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The URL of its directory: what it is known by, whatever it is named here.
    pub directory: String,
    /// Its limits, as far as they are known.
    pub rates: BTreeMap<Limit, Rate>,
    /// Whether an order that replaces a certificate on the CA's advice (RFC 9773 §5) counts
    /// against none of them.
    pub exempts_replacements: bool,
    /// Whether an order for the same set of identifiers as an earlier certificate counts against
    /// [`Limit::CertificatesPerSet`] alone.
    pub exempts_renewals: bool,
}

/// An order, as the ledger sees it.
#[derive(Clone, Copy, Debug)]
pub struct OrderWish<'a> {
    /// What it is for.
    pub identifiers: &'a [Identifier],
    /// How it is counted.
    pub kind: OrderKind,
    /// How long a certificate for it lives, as far as known.
    pub lifetime: Option<Duration>,
}

/// How an order is counted.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says one thing, and is on disk by its name"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderKind {
    /// Whether it replaces a certificate by name (RFC 9773 §5), within the window that the CA
    /// suggests for that: at another time it counts as any other.
    #[serde(default)]
    pub replaces: bool,
    /// Whether the same CA has certified the same set before.
    #[serde(default)]
    pub renews: bool,
    /// Whether a human asked for it.
    #[serde(default)]
    pub by_hand: bool,
}

/// An order that is known by the certificate that came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastOrder {
    /// What it was for.
    pub identifiers: Vec<Identifier>,
    /// When its certificate came.
    pub issued_at: Timestamp,
    /// How long that lives.
    pub lifetime: Duration,
    /// Whether there was a certificate of the same set before.
    pub renews: bool,
}

/// What was spent at one CA: `private/ledger/<ca>.json`.
///
/// Each limit is kept as the moment at which all of it will be there again, which says all: what
/// is left follows from it and the limit's rate; at another rate, as much is spent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRecord {
    /// When it was last written, by the clock of then.
    #[serde(default)]
    pub written_at: Option<Timestamp>,
    /// The directory of the CA that it is about.
    #[serde(default)]
    pub directory: Option<String>,
    /// By the word of the limit, and whom it is about.
    #[serde(default)]
    pub spent: BTreeMap<String, BTreeMap<String, Spent>>,
    /// By the word of the limit, and whom it is about: what the CA said no to.
    #[serde(default)]
    pub closed: BTreeMap<String, BTreeMap<String, Closure>>,
    /// By set: how long its last certificate lived, in seconds.
    #[serde(default)]
    pub lifetimes: BTreeMap<String, u64>,
    /// By directory: what was counted there while the CA's name stood for it.
    #[serde(default)]
    pub elsewhere: BTreeMap<String, Counted>,
}

/// What was spent and refused at a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// As [`LedgerRecord::spent`].
    #[serde(default)]
    pub spent: BTreeMap<String, BTreeMap<String, Spent>>,
    /// As [`LedgerRecord::closed`].
    #[serde(default)]
    pub closed: BTreeMap<String, BTreeMap<String, Closure>>,
}

/// What is spent of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// When all of it is there again.
    pub whole_at: Timestamp,
    /// After how long one of it is there again, in milliseconds.
    pub interval_ms: u64,
}

/// What the CA said no to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// Until when.
    pub until: Timestamp,
    /// Its words.
    #[serde(default)]
    pub said: String,
    /// Whether it did not say what of, so that this is our guess.
    #[serde(default)]
    pub is_guess: bool,
}

/// In which part of its work a CA refused more than it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedStep {
    /// Before anything that is counted: at its directory, or where it gives out nonces.
    Before,
    /// Finding or making the account.
    Account,
    /// Anything of an order.
    Order,
}

/// What a CA said with a refusal of more than it allows.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// In which step.
    pub step: RefusedStep,
    /// The status of HTTP.
    pub status: u16,
    /// Its words.
    pub text: &'a str,
    /// Until when it wants to be left in peace.
    pub until: Timestamp,
}

/// What became of an order that ended without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderEnd {
    /// The CA did not take it.
    NotPlaced,
    /// The CA took it, or may have.
    MaybePlaced,
}

/// Why something is not asked of a CA now, and from when on it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// By which limit.
    pub limit: Limit,
    /// Whom that is about; empty where it is about the account, or the set.
    pub about: String,
    /// What is allowed, where we know.
    pub rate: Option<Rate>,
    /// Until when.
    pub until: Timestamp,
    /// The words of the CA, if it has said so itself.
    pub said: Option<String>,
}

impl Refusal {
    /// The stable word of it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        if self.limit.is_own() { OWN_CAP } else { LIMIT_OF_CA }
    }

    /// What a human can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self.limit {
            Limit::OwnRenewals => {
                "find out why it is renewed so often (`renewd show`, the log); `renewd renew NAME` \
                 orders one more by hand"
            }
            Limit::OwnCertificates => "find out what asks for it so often; the log says who asked",
            Limit::OwnFailuresPerHour | Limit::OwnFailuresPerDay => {
                "mend what the last failure names; it is tried again by itself then"
            }
            _ if self.said.is_some() => "wait: nothing of it is asked for before then",
            _ => {
                "wait: it is not asked for before then; if the CA allows you more, say so with \
                 `limits` in its table"
            }
        }
    }
}

/// The code of a cap of our own.
pub const OWN_CAP: &str = "ledger.cap";
/// The code of a limit of the CA's.
pub const LIMIT_OF_CA: &str = "ledger.limit";

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, about, rate, until, said } = self;
        let counted = limit.counted(about);
        match (said, rate) {
            (Some(said), _) => write!(f, "the CA refuses {counted} until {until}: {said}"),
            (None, Some(rate)) => {
                let (count, per) = (rate.count, rough(rate.per));
                if limit.is_own() {
                    write!(f, "held back until {until}: {count} {counted} in {per} is our own cap")
                } else {
                    write!(f, "would be refused until {until}: {count} {counted} in {per}")
                }
            }
            (None, None) => write!(f, "would be refused until {until}: {counted}"),
        }
    }
}

/// How much is left of what a CA allows for one certificate, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowanceStatus {
    /// At which CA.
    pub ca: CaName,
    /// Until when an order would be refused now, if it would be.
    #[serde(default)]
    pub refused_until: Option<Timestamp>,
    /// Why, in words.
    #[serde(default)]
    pub refused_by: Option<String>,
    /// What is left of each limit.
    #[serde(default)]
    pub limits: Vec<LimitStatus>,
}

/// How much is left of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// Its word.
    pub limit: String,
    /// Whom it is about; empty where it is about the account, or the set.
    #[serde(default)]
    pub about: String,
    /// How many are left.
    pub left: u32,
    /// Of how many.
    pub of: u32,
    /// In which span.
    pub per: String,
    /// When there is one more, if some are spent.
    #[serde(default)]
    pub next_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_and_written_with_its_unit() {
        for text in ["50/7days", "300/3h", "1/36s", "1152/3years55days"] {
            assert!(text.parse::<Rate>().is_ok(), "{text}");
        }
        let rate: Rate = "5 / 7d".parse().unwrap();
        assert_eq!((rate.count, rate.interval()), (5, Duration::from_secs(7 * 86_400 / 5)));
        assert_eq!(rate.to_string(), "5/7d");
        assert_eq!("1/90s".parse::<Rate>().unwrap().to_string(), "1/90s");
        assert_eq!(
            [60, 90, 3600, 7200, 36 * 3600, 86_400 * 45 + 9].map(Duration::from_secs).map(rough),
            ["1m", "90s", "1h", "2h", "36h", "45d"]
        );
        for wrong in ["", "5", "5/7", "0/7d", "-1/7d", "5/", "5/0s", "5/99999years", "x/7d"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
