//! `limits` of `[ca.*]`: how much a CA allows.
//!
//! What is known of a CA holds key by key where its table says nothing else, also under another
//! name: it is its directory that it is known by.

use crate::config::field::At;
use crate::config::raw::{RawCa, RawLimits};
use crate::config::shape::Shape;
use crate::config::text::Exempt;
use crate::model::{Limit, Limits};

use super::ca::presets;

/// The limits of the table, key by key, else those that are known of the CA with this `directory`.
pub(super) fn merged(
    own: Option<At<RawLimits>>,
    directory: Option<&String>,
) -> Option<At<RawLimits>> {
    let is_it = |it: &RawCa| it.directory.as_ref().map(|it| &it.value) == directory;
    let known = presets().into_values().find(is_it).and_then(|it| it.limits);
    match (own, known) {
        (Some(own), Some(known)) => Some(own.with(own.value.clone().or(known.value))),
        (own, known) => own.or(known),
    }
}

/// The limits of the CA with this `directory`, as the ledger takes them.
pub(super) fn resolve(raw: Option<&RawLimits>, directory: &str) -> Limits {
    let unknown = Limits { directory: directory.to_owned(), ..Limits::default() };
    let Some(raw) = raw else { return unknown };
    let rates = [
        (Limit::NewAccounts, &raw.new_accounts),
        (Limit::NewOrders, &raw.new_orders),
        (Limit::CertificatesPerName, &raw.certificates_per_domain),
        (Limit::CertificatesPerSet, &raw.certificates_per_set),
        (Limit::FailedAuthorizations, &raw.failed_authorizations),
        (Limit::ConsecutiveFailures, &raw.consecutive_failures),
    ];
    let rates = rates.into_iter().filter_map(|(limit, at)| Some((limit, at.as_ref()?.value.0?)));
    let exempt: Vec<Exempt> =
        raw.exempt.iter().flat_map(|it| &it.value).map(|it| it.value).collect();
    Limits {
        rates: rates.collect(),
        exempts_replacements: exempt.contains(&Exempt::Replacements),
        exempts_renewals: exempt.contains(&Exempt::Renewals),
        ..unknown
    }
}
