//! What fuzzing feeds to this module: bodies and headers as a CA may send them.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::de::DeserializeOwned;

use super::authorization::{self, Prover};
use super::ext::account::AccountObject;
use super::header::{self, MAX_RETRY_AFTER, MIN_RETRY_AFTER};
use super::object::{self, AuthorizationObject, Directory, OrderObject};
use super::problem::Problem;
use super::renewal_info;
use super::wire::Answer;
use crate::model::{Identifier, Timestamp, Token};

const PROVER: Prover<'_> = Prover {
    account_url: "https://ca.example/acct/1",
    thumbprint: "print",
    account_hash_prefix: Some("https://ca.example/hash/"),
};

/// Reads `body` as each of the CA's objects, and in instant-acme's words.
pub fn objects(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    check_problem(&Problem::of_answer(StatusCode::BAD_REQUEST, &body));
    if let Some(directory) = read::<Directory>(&body) {
        let shown = serde_json::to_vec(&directory).unwrap_or_default();
        assert!(read::<Directory>(&shown).is_some(), "what is shown of it is one");
    }
    if let Some(order) = read::<OrderObject>(&body) {
        order.problem().iter().for_each(check_problem);
        assert_printable(&order.status.to_string());
        for identifier in order.identifiers.iter().filter_map(|it| it.identifier()) {
            assert_eq!(identifier.value().parse().as_ref(), Ok(&identifier));
        }
    }
    if let Some(authorization) = read::<AuthorizationObject>(&body) {
        check_authorization(&authorization);
    }
    drop(read::<AccountObject>(&body));
    for replaces in [None, Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")] {
        let shown = object::shown(&body, replaces);
        drop(read::<instant_acme::OrderState>(&shown));
        drop(read::<instant_acme::AuthorizationState>(&shown));
        drop(read::<instant_acme::Challenge>(&shown));
    }
    check_renewal_info(&Answer { url: String::new(), headers: HeaderMap::new(), body });
}

/// Reads `lines` as the headers of an answer.
pub fn headers(lines: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in lines.split(|it| *it == b'\n').take(100) {
        let mut parts = line.splitn(2, |it| *it == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let value = HeaderValue::from_bytes(value.trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            headers.append(name, value);
        }
    }
    for now in [Timestamp::EPOCH, Timestamp::from_unix_seconds(1_795_000_000), Timestamp::MAX] {
        if let Some(wait) = header::retry_after(&headers, now) {
            assert!((MIN_RETRY_AFTER..=MAX_RETRY_AFTER).contains(&wait), "{wait:?}");
        }
    }
    for target in ["alternate", "index", "terms-of-service"].map(|it| header::links(&headers, it)) {
        assert!(target.iter().all(|it| !it.contains(['<', '>'])), "{target:?}");
    }
    if let Some(nonce) = header::nonce(&headers) {
        assert!(nonce.parse::<HeaderValue>().is_ok(), "it is sent back");
    }
    assert!(header::date(&headers).is_none_or(|it| it <= Timestamp::MAX));
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

fn check_problem(problem: &Problem) {
    let text = problem.to_string();
    assert!(text.len() < 64 * 1024, "{} bytes", text.len());
    assert_printable(&text);
    assert_printable(problem.instance.as_deref().unwrap_or_default());
}

/// Nothing is shown but for what was ordered, and under nothing but a token.
fn check_authorization(object: &AuthorizationObject) {
    let Some(named) = object.identifier.identifier() else { return };
    let wildcard = Identifier::Dns(format!("*.{named}"));
    let ordered = [named, wildcard];
    for failure in authorization::failures(std::iter::once(object)) {
        check_problem(&failure.problem);
        assert_printable(&failure.challenge);
    }
    let Ok(read) = authorization::read(object, &ordered, PROVER) else { return };
    assert!(ordered.contains(&read.ordered_identifier()));
    read.offered.iter().for_each(|it| assert_printable(it));
    for challenge in &read.challenges {
        assert!(challenge.token.as_str().parse::<Token>().is_ok());
        let shown = format!("{}.{}", challenge.token, PROVER.thumbprint);
        assert_eq!(challenge.key_authorization.as_str(), shown);
        assert_printable(&challenge.standing.as_ref().map(|it| it.value()).unwrap_or_default());
    }
    assert!(authorization::read(object, &[], PROVER).is_err());
}

fn check_renewal_info(answer: &Answer) {
    let now = Timestamp::from_unix_seconds(1_795_000_000);
    let Ok(info) = renewal_info::read(answer, now) else { return };
    assert!(info.suggested_window.is_some_and(|it| it.start < it.end));
    assert_printable(info.explanation_url.as_deref().unwrap_or_default());
}

#[track_caller]
fn assert_printable(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
}
