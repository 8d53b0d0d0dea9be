//! What a CA's refusal is about, by its words.
//!
//! Not here: what is closed therefore, and for how long ([`super`]).

use std::collections::BTreeSet;

use crate::model::{Identifier, LedgerRecord, Limit, RefusedStep, Said, Timestamp};

use super::step_back;
use super::subject::{proven_names, registered_name, registered_names, set_key};

/// What the CA spoke of, and whether that is a guess. Its words are those of Let's Encrypt, the one
/// CA that is known to say it.
pub(super) fn scope(identifiers: &[Identifier], said: &Said<'_>) -> (Vec<(Limit, String)>, bool) {
    let text = said.text.to_ascii_lowercase();
    let has = |word: &str| text.contains(word);
    let known = |doors| (doors, false);
    if said.step == RefusedStep::Before
        || said.status == 503
        || has("service busy")
        || has("too many requests")
    {
        return known(vec![(Limit::Requests, String::new())]);
    }
    if said.step == RefusedStep::Account || has("registrations") {
        return known(vec![(Limit::NewAccounts, String::new())]);
    }
    if has("exact set") {
        return known(vec![(Limit::CertificatesPerSet, set_key(identifiers))]);
    }
    let quoted = quoted(&text);
    if has("failed authorizations") || has("failed validations") {
        let mut names = proven_names(identifiers);
        if names.iter().any(|it| quoted.contains(&it.as_str())) {
            names.retain(|it| quoted.contains(&it.as_str()));
        }
        return known(names.into_iter().map(|it| (Limit::FailedAuthorizations, it)).collect());
    }
    if has("new orders") || has("this account") {
        return known(vec![(Limit::NewOrders, String::new())]);
    }
    let names = registered_names(identifiers);
    let per_name = |it: String| (Limit::CertificatesPerName, it);
    if has("certificates") {
        let quoted: BTreeSet<String> = quoted.into_iter().map(registered_name).collect();
        let meant: Vec<String> = names.intersection(&quoted).cloned().collect();
        if !meant.is_empty() {
            return known(meant.into_iter().map(per_name).collect());
        }
    }
    (names.into_iter().map(per_name).collect(), true)
}

/// Whether the CA has refused something else than `doors` without saying what.
pub(super) fn guessed_elsewhere(
    record: &LedgerRecord,
    doors: &[(Limit, String)],
    now: Timestamp,
) -> bool {
    let guesses = record.closed.get(Limit::CertificatesPerName.as_str()).into_iter().flatten();
    let step_back = step_back(record, now);
    guesses
        .filter(|(_, it)| it.is_guess && it.until.saturating_sub(step_back) > now)
        .any(|(key, _)| !doors.iter().any(|(_, it)| it == key))
}

/// What stands between quotation marks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}
