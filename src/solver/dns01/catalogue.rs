//! What each provider is called in the configuration, and which keys it needs.
//!
//! Not here: making one of them ([`super::build`]).

/// One provider.
#[derive(Debug)]
pub(super) struct Kind {
    /// As the configuration writes it.
    pub(super) name: &'static str,
    /// Its secrets, each a key with `_file`, `_credential` or `_env`.
    pub(super) secrets: &'static [Need],
    /// Its other keys.
    pub(super) values: &'static [Need],
}

/// One key of a provider.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) key: &'static str,
    /// What the provider calls it.
    pub(super) about: &'static str,
    pub(super) required: bool,
}

const fn need(key: &'static str, about: &'static str) -> Need {
    Need { key, about, required: true }
}

/// All providers.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: super::RFC2136,
    secrets: &[need("key", "the TSIG key as tsig-keygen writes it")],
    values: &[need("server", "the primary name server")],
}];
