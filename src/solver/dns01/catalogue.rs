//! What each provider is called in the configuration, which keys it needs, and what makes it.
//!
//! Not here: the rows themselves, beside those of our own: dns-update's are in `providers_a_to_h`
//! and `providers_i_to_z`, and only in builds with the feature `dns-providers`.

#[cfg(feature = "dns-providers")]
use dns_update::DnsUpdater;

#[cfg(feature = "dns-providers")]
use super::settings::Given;
#[cfg(feature = "dns-providers")]
use super::{providers_a_to_h, providers_i_to_z};

/// One provider.
#[derive(Debug)]
pub(super) struct Kind {
    /// As the configuration writes it.
    pub(super) name: &'static str,
    /// Its keys.
    pub(super) needs: &'static [Need],
    /// What to know before it is chosen; empty if there is nothing.
    pub(super) note: &'static str,
    /// What makes it.
    pub(super) make: Make,
}

/// One key of a provider.
#[derive(Debug)]
pub(super) struct Need {
    /// Of a secret, its first part.
    pub(super) key: &'static str,
    /// What the provider calls it.
    pub(super) about: &'static str,
    pub(super) required: bool,
}

/// How many values can stand at one name.
#[cfg(feature = "dns-providers")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Any number; each is added and removed for itself.
    Many,
    /// One: the next takes its place.
    One,
}

/// What makes a provider.
#[derive(Debug)]
pub(super) enum Make {
    /// [`super::rfc2136`].
    Rfc2136,
    /// [`super::httpreq`].
    HttpRequest,
    /// [`super::acme_dns`].
    AcmeDns,
    /// [`super::program`].
    Program,
    /// `super::update`, with a client of dns-update's.
    #[cfg(feature = "dns-providers")]
    Update(Values, fn(Given<'_>) -> dns_update::Result<DnsUpdater>),
}

/// Of those whose interface takes whole zones alone, which their clients make of what they read.
#[cfg(feature = "dns-providers")]
macro_rules! whole_zones {
    () => {
        "it can only write a zone as a whole, and its client does not check what it read before: \
         other records may be lost by an answer that is not whole, or with others' changes at the \
         same time; safer is an alias (CNAME) of _acme-challenge into a zone for proofs alone"
    };
}

/// Makes rows for dns-update: name, required keys, optional keys, how many values, a note if there
/// is something to know, constructor.
#[cfg(feature = "dns-providers")]
macro_rules! updaters {
    ($table:ident: $(
        $name:literal
        { $($key:ident: $about:literal),* $(,)? } [ $($more:ident: $word:literal),* $(,)? ]
        $values:ident $(($note:expr))? |$it:ident| $make:expr;
    )*) => {
        /// The rows.
        pub(super) const $table: &[Kind] = &[$(Kind {
            name: $name,
            needs: &[
                $(Need { key: stringify!($key), about: $about, required: true },)*
                $(Need { key: stringify!($more), about: $word, required: false },)*
            ],
            note: concat!($($note)?),
            make: Make::Update(Values::$values, |$it| $make),
        },)*];
    };
}

#[cfg(feature = "dns-providers")]
pub(super) use {updaters, whole_zones};

const fn need(key: &'static str, about: &'static str) -> Need {
    Need { key, about, required: true }
}

const fn may(key: &'static str, about: &'static str) -> Need {
    Need { key, about, required: false }
}

/// Those that are not dns-update's.
const OWN: &[Kind] = &[
    Kind {
        name: "rfc2136",
        needs: &[
            need("server", "the primary name server"),
            need("key", "the TSIG key as tsig-keygen writes it"),
        ],
        note: "",
        make: Make::Rfc2136,
    },
    Kind {
        name: "httpreq",
        needs: &[
            need("url", "who takes /present and /cleanup, as lego's httpreq sends them"),
            may("user", "a user"),
            may("password", "with the password"),
        ],
        note: "",
        make: Make::HttpRequest,
    },
    Kind {
        name: "acme-dns",
        needs: &[
            need("url", "the acme-dns server"),
            need("key", "a JSON object: each name and the registration that /register gave"),
        ],
        note: "",
        make: Make::AcmeDns,
    },
    Kind {
        name: "program",
        needs: &[
            need(
                "program",
                "with its arguments; behind them come add or remove, name, value, zone",
            ),
            may("key", "lines NAME=value for its environment, where options would show secrets"),
        ],
        note: "",
        make: Make::Program,
    },
];

/// All providers.
pub(super) fn kinds() -> impl Iterator<Item = &'static Kind> {
    #[cfg(feature = "dns-providers")]
    let more = providers_a_to_h::A_TO_H.iter().chain(providers_i_to_z::I_TO_Z);
    #[cfg(not(feature = "dns-providers"))]
    let more = std::iter::empty();
    OWN.iter().chain(more)
}
