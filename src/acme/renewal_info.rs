//! Asking a CA when a certificate is to be renewed (RFC 9773 §4): a plain GET.
//!
//! # Rules
//!
//! - A CA whose directory has no renewalInfo, or that does not know the certificate, has no advice:
//!   that is an answer, not a failure.
//! - A window that ends before it begins is no answer (RFC 9773 §4.2).
//! - An answer without Retry-After is one all the same.
//! - An explanation that can't be shown safely is left out.
//!
//! Not here: when the CA is asked again, and what follows from the answer
//! ([`crate::plan::suggestion`]).

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::AcmeClient;
use super::error::{AcmeError, Step};
use super::header;
use super::wire::{Answer, WireError};
use crate::model::{CertificateId, RenewalInfo, SuggestedWindow, Timestamp};

/// A longer explanation URL is not shown.
const MAX_URL_LENGTH: usize = 2048;

/// The answer as it stands in JSON (RFC 9773 §4.2).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RenewalInfoObject {
    suggested_window: WindowObject,
    #[serde(default, rename = "explanationURL")]
    explanation_url: Value,
}

#[derive(Debug, Deserialize)]
struct WindowObject {
    start: String,
    end: String,
}

impl AcmeClient {
    /// Asks when the certificate `id` is to be renewed (RFC 9773 §4).
    ///
    /// # Errors
    ///
    /// If there is no answer that can be used; [`AcmeError::is_transient`] says whether there may
    /// be one soon.
    pub async fn renewal_info(&self, id: &CertificateId) -> Result<RenewalInfo, AcmeError> {
        let directory = self.directory(Step::FetchRenewalInfo).await?;
        let Some(base) = &directory.renewal_info else { return Ok(no_advice()) };
        let url = format!("{}/{id}", base.trim_end_matches('/'));
        match self.wire().get(&url).await {
            Ok(answer) => {
                let now = self.wire().clock().now();
                read(&answer, now).map_err(|it| self.error(Step::FetchRenewalInfo, &url, it))
            }
            Err(WireError::Refused { problem, .. }) if is_unknown(problem.status) => {
                Ok(no_advice())
            }
            Err(fault) => Err(self.error(Step::FetchRenewalInfo, &url, fault)),
        }
    }
}

/// Whether a refusal says that the CA has nothing to say of this certificate.
fn is_unknown(status: Option<u16>) -> bool {
    let status = status.and_then(|it| StatusCode::from_u16(it).ok());
    matches!(status, Some(StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::GONE))
}

const fn no_advice() -> RenewalInfo {
    RenewalInfo { suggested_window: None, explanation_url: None, poll_after: None }
}

pub(super) fn read(answer: &Answer, now: Timestamp) -> Result<RenewalInfo, WireError> {
    let object: RenewalInfoObject = answer.read("is no renewal information")?;
    let window = object.suggested_window;
    let (Some(start), Some(end)) = (moment(&window.start), moment(&window.end)) else {
        return Err(answer.malformed("holds a window without proper times"));
    };
    let window = SuggestedWindow::new(start, end)
        .ok_or_else(|| answer.malformed("holds a window that ends before it begins"))?;
    Ok(RenewalInfo {
        suggested_window: Some(window),
        explanation_url: object
            .explanation_url
            .as_str()
            .filter(|it| is_shown(it))
            .map(str::to_owned),
        poll_after: header::retry_after(&answer.headers, now),
    })
}

/// A time of RFC 3339 in any zone; what lies before 1970 counts as 1970.
fn moment(text: &str) -> Option<Timestamp> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(Timestamp::from_unix_seconds(moment.unix_timestamp()))
}

/// Whether `url` is one that operators can be shown: https and [printable](is_printable).
fn is_shown(url: &str) -> bool {
    url.starts_with("https://") && is_printable(url)
}

/// Whether `url` can be printed: not too long, without control characters, and nothing in it could
/// end a quotation.
pub(super) fn is_printable(url: &str) -> bool {
    let fits = |it: u8| it.is_ascii_graphic() && !matches!(it, b'"' | b'\'' | b'<' | b'>' | b'\\');
    url.len() <= MAX_URL_LENGTH && url.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-11-23T10:00:00Z";

    fn answer(body: impl Into<Bytes>, retry_after: Option<&'static str>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static(value));
        }
        Answer { url: "https://ca/ari".into(), headers, body: body.into() }
    }

    fn window(start: &str, end: &str) -> Option<SuggestedWindow> {
        let body = json!({ "suggestedWindow": { "start": start, "end": end } });
        let info = read(&answer(body.to_string(), None), NOW.parse().unwrap());
        info.ok().and_then(|it| it.suggested_window)
    }

    #[test]
    fn the_example_of_rfc_9773_section_4_2_is_read_whole() {
        let body = r#"{
            "suggestedWindow": { "start": "2025-01-02T04:00:00Z", "end": "2025-01-03T04:00:00Z" },
            "explanationURL": "https://acme.example.com/docs/ari"
        }"#;
        let info = read(&answer(body, Some("21600")), NOW.parse().unwrap()).unwrap();
        let window = info.suggested_window.unwrap();
        assert_eq!(window.start, "2025-01-02T04:00:00Z".parse().unwrap());
        assert_eq!(window.end, "2025-01-03T04:00:00Z".parse().unwrap());
        assert_eq!(info.explanation_url.as_deref(), Some("https://acme.example.com/docs/ari"));
        assert_eq!(info.poll_after, Some(Duration::from_secs(21_600)));
    }

    #[test]
    fn windows_in_any_zone_and_century_are_read_and_inverted_ones_are_not() {
        let zoned = window("2026-11-23T12:00:00+02:00", "2026-11-23T08:30:00.5-04:00").unwrap();
        assert_eq!(zoned.start, "2026-11-23T10:00:00Z".parse().unwrap());
        assert_eq!(zoned.end, "2026-11-23T12:30:00Z".parse().unwrap());
        let long = window("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z").unwrap();
        assert_eq!((long.start, long.end), (Timestamp::EPOCH, Timestamp::MAX));
        let ancient = window("0001-01-01T00:00:00Z", "0002-01-01T00:00:00Z");
        assert_eq!(ancient, None, "of no use before 1970");
        assert_eq!(window("2026-11-23T10:00:00Z", "2026-11-22T10:00:00Z"), None);
        assert_eq!(window("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"), None);
        assert_eq!(window("10000-01-01T00:00:00Z", "soon"), None);
    }

    #[test]
    fn a_missing_retry_after_is_survived() {
        let body =
            r#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"2025-01-03T04:00:00Z"}}"#;
        let wait = |value| read(&answer(body, value), NOW.parse().unwrap()).unwrap().poll_after;
        assert_eq!(wait(Some("90")), Some(Duration::from_secs(90)));
        assert_eq!(wait(Some("never")), None);
        assert_eq!(wait(None), None);
    }

    #[test]
    fn an_explanation_that_is_no_plain_https_url_is_left_out() {
        let long = format!("https://ca.example/{}", "a".repeat(MAX_URL_LENGTH));
        for url in [
            "http://ca.example",
            "javascript:alert(1)",
            "https://a\n.example",
            &long,
            "",
            "https://a\"b",
        ] {
            assert!(!is_shown(url), "{url:?}");
        }
        assert!(is_shown("https://ca.example/incident?id=1#a"));
        let body = json!({
            "suggestedWindow": { "start": "2025-01-02T04:00:00Z", "end": "2025-01-03T04:00:00Z" },
            "explanationURL": { "not": "a text" }
        });
        let info = read(&answer(body.to_string(), None), NOW.parse().unwrap()).unwrap();
        assert_eq!(info.explanation_url, None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_us_panic(body in "[ -~]{0,80}", start in "[0-9TZ:+-]{0,30}") {
            let _read = read(&answer(body, None), NOW.parse().unwrap());
            let _window = window(&start, "9999-12-31T23:59:59Z");
        }
    }
}
