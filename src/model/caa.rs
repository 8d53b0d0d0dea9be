//! Which CAs may issue for a name, as its CAA records say (RFC 8659, RFC 8657).
//!
//! Not here: asking DNS for them ([`crate::solver`]).

use std::fmt;

use super::ChallengeType;

/// One CAA record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaaRecord {
    /// Whether a CA that does not know the tag must not issue.
    pub is_critical: bool,
    /// What it is about: `issue`, `issuewild` and others.
    pub tag: String,
    /// For these, a CA's name and what it is bound to.
    pub value: String,
}

/// A CA that would be asked.
#[derive(Clone, Copy, Debug)]
pub struct CaaCandidate<'a> {
    /// The names by which it goes in CAA records (RFC 8555 §7.1.1); empty if it does not say.
    pub identities: &'a [String],
    /// The account that would ask it, if there is one.
    pub account_url: Option<&'a str>,
    /// How control would be proven.
    pub method: ChallengeType,
}

/// Why a CA may not issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaaFault {
    /// Others may, and it may not; nobody, if these are none.
    Issuer(Vec<String>),
    /// It may for another account (RFC 8657 §3).
    Account,
    /// It may for another kind of challenge (RFC 8657 §4).
    Method(ChallengeType),
    /// A critical record has a tag that is not known.
    UnknownTag(String),
}

impl fmt::Display for CaaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issuer(allowed) if allowed.is_empty() => f.write_str("no CA may issue"),
            Self::Issuer(allowed) => write!(f, "only {} may issue", allowed.join(", ")),
            Self::Account => f.write_str("it may issue for another account alone (accounturi)"),
            Self::Method(method) => {
                write!(f, "it may not issue by {method} (validationmethods)")
            }
            Self::UnknownTag(tag) => write!(f, "the tag {tag} is critical and not known"),
        }
    }
}

/// Tags that say nothing of certificates for servers, or are told apart here.
const KNOWN_TAGS: [&str; 7] =
    ["issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone"];

/// Why `candidate` may not issue for a name, or for the wildcard below it, that has `records`;
/// `None` if it may, or does not say by which names it goes.
#[must_use]
pub fn caa_fault(
    records: &[CaaRecord],
    is_wildcard: bool,
    candidate: &CaaCandidate<'_>,
) -> Option<CaaFault> {
    let has_tag = |record: &&CaaRecord, tag: &str| record.tag.eq_ignore_ascii_case(tag);
    let is_known = |it: &&CaaRecord| KNOWN_TAGS.iter().any(|tag| has_tag(it, tag));
    if let Some(record) = records.iter().find(|it| it.is_critical && !is_known(it)) {
        return Some(CaaFault::UnknownTag(record.tag.clone()));
    }
    let tagged = |tag| records.iter().filter(move |it| has_tag(it, tag)).collect::<Vec<_>>();
    let for_wildcards = tagged("issuewild");
    let relevant =
        if is_wildcard && !for_wildcards.is_empty() { for_wildcards } else { tagged("issue") };
    if relevant.is_empty() || candidate.identities.is_empty() {
        return None;
    }
    let mut allowed = Vec::new();
    let mut bound = None;
    for record in relevant {
        let mut parts = record.value.split(';').map(str::trim);
        let issuer = parts.next().unwrap_or_default();
        if !candidate.identities.iter().any(|it| it.eq_ignore_ascii_case(issuer)) {
            allowed.extend(Some(issuer.to_owned()).filter(|it| !it.is_empty()));
            continue;
        }
        match fault_of(parts, candidate) {
            Some(fault) => bound = Some(fault),
            None => return None,
        }
    }
    Some(bound.unwrap_or(CaaFault::Issuer(allowed)))
}

/// What of `parameters` keeps `candidate` from issuing.
fn fault_of<'a>(
    parameters: impl Iterator<Item = &'a str>,
    candidate: &CaaCandidate<'_>,
) -> Option<CaaFault> {
    for (name, value) in parameters.filter_map(|it| it.split_once('=')) {
        match name.trim() {
            "accounturi" if candidate.account_url != Some(value.trim()) => {
                return Some(CaaFault::Account);
            }
            "validationmethods"
                if !value.split(',').any(|it| it.trim() == candidate.method.as_str()) =>
            {
                return Some(CaaFault::Method(candidate.method));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(texts: &[&str]) -> Vec<CaaRecord> {
        let record = |text: &&str| {
            let (is_critical, text) =
                text.strip_prefix('!').map_or((false, *text), |it| (true, it));
            let (tag, value) = text.split_once(' ').unwrap();
            CaaRecord { is_critical, tag: tag.to_owned(), value: value.to_owned() }
        };
        texts.iter().map(record).collect()
    }

    /// What keeps `ca.example`, where we have the account `https://ca.example/1`, from issuing by
    /// http-01.
    fn fault(texts: &[&str], is_wildcard: bool) -> Option<CaaFault> {
        let candidate = CaaCandidate {
            identities: &["ca.example".to_owned()],
            account_url: Some("https://ca.example/1"),
            method: ChallengeType::Http01,
        };
        caa_fault(&records(texts), is_wildcard, &candidate)
    }

    fn only(names: &[&str]) -> Option<CaaFault> {
        Some(CaaFault::Issuer(names.iter().map(|it| (*it).to_owned()).collect()))
    }

    #[test]
    fn without_records_that_are_about_it_any_ca_may_issue() {
        assert_eq!(fault(&[], false), None);
        assert_eq!(fault(&["iodef mailto:x@example", "issuemail other.example"], false), None);
        assert_eq!(fault(&["issuewild other.example"], false), None);
    }

    #[test]
    fn only_who_is_named_may_issue_in_whatever_case() {
        assert_eq!(fault(&["issue other.example", "Issue CA.Example"], false), None);
        assert_eq!(fault(&["issue other.example"], false), only(&["other.example"]));
        assert_eq!(fault(&["issue ;"], false), only(&[]));
    }

    #[test]
    fn a_wildcard_has_records_of_its_own_if_there_are_any() {
        assert_eq!(fault(&["issue ca.example", "issuewild other.example"], false), None);
        let wild = fault(&["issue ca.example", "issuewild other.example"], true);
        assert_eq!(wild, only(&["other.example"]));
        assert_eq!(fault(&["issue other.example"], true), only(&["other.example"]));
    }

    #[test]
    fn parameters_bind_it_to_an_account_and_a_kind_of_challenge() {
        let here =
            "issue ca.example; accounturi=https://ca.example/1; validationmethods=dns-01,http-01";
        assert_eq!(fault(&[here], false), None);
        let other = "issue ca.example; accounturi=https://ca.example/2";
        assert_eq!(fault(&[other], false), Some(CaaFault::Account));
        let by_dns = "issue ca.example; validationmethods=dns-01";
        assert_eq!(fault(&[by_dns], false), Some(CaaFault::Method(ChallengeType::Http01)));
        assert_eq!(fault(&[other, here], false), None, "one that fits is enough");
    }

    #[test]
    fn a_critical_tag_that_nobody_knows_forbids_all() {
        let unknown = Some(CaaFault::UnknownTag("future".to_owned()));
        assert_eq!(fault(&["!future x", "issue ca.example"], false), unknown);
        assert_eq!(fault(&["future x", "!issue ca.example"], false), None);
    }

    #[test]
    fn a_ca_that_does_not_say_its_names_can_not_be_judged() {
        let candidate =
            CaaCandidate { identities: &[], account_url: None, method: ChallengeType::Http01 };
        assert_eq!(caa_fault(&records(&["issue other.example"]), false, &candidate), None);
    }
}
