//! What we read of an answer's headers, purely: Retry-After, Date, Link, Replay-Nonce.
//!
//! All of them come from a stranger, so every number is clamped before anything is added to it.
//!
//! Not here: what is done with them ([`super::error`] for refusals, [`super::order`] for polling).

use std::time::Duration;

use http::{HeaderMap, header};

use crate::model::Timestamp;

/// The shortest wait that a CA can ask for: a Retry-After of 0 must not make a hot loop.
pub const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The longest wait that a CA can ask for: none of the known limits lasts longer.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// The longest wait for what is no limit: something that is out of order, or not ready yet. A short
/// certificate would not outlive more, and who meant it says it again.
pub(super) const MAX_PAUSE: Duration = Duration::from_hours(24);

/// How long the CA asks us to wait (RFC 8555 §6.6), between [`MIN_RETRY_AFTER`] and
/// [`MAX_RETRY_AFTER`].
///
/// `None` if it does not say, says it wrongly, or names a moment in the past. Of two headers the
/// longer one counts. A moment is one of the CA's clock, and lies so far ahead of the answer's own
/// Date; only where there is none, of `now`.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let answered_at = date(headers).unwrap_or(now);
    headers
        .get_all(header::RETRY_AFTER)
        .iter()
        .filter_map(|value| span(value.to_str().ok()?.trim(), answered_at))
        .max()
        .map(|wait| wait.clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER))
}

fn span(value: &str, answered_at: Timestamp) -> Option<Duration> {
    if !value.is_empty() && value.bytes().all(|it| it.is_ascii_digit()) {
        // More digits than a number holds is still a number, and longer than any wait.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let moment = http_date(value)?;
    if moment > answered_at { Some(moment.since(answered_at)) } else { None }
}

/// The moment at which the answer was made, by the clock of whoever made it.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(headers.get(header::DATE)?.to_str().ok()?)
}

/// The nonce of an answer (RFC 8555 §6.5.1): one that is not base64url is ignored.
pub(super) fn nonce(headers: &HeaderMap) -> Option<String> {
    let nonce = headers.get("replay-nonce")?.to_str().ok()?;
    let fits = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
    let is_nonce = (1..=MAX_NONCE_LENGTH).contains(&nonce.len()) && nonce.bytes().all(fits);
    is_nonce.then(|| nonce.to_owned())
}

/// The targets of the links of kind `relation` (RFC 8288), in their order.
pub(super) fn links(headers: &HeaderMap, relation: &str) -> Vec<String> {
    let mut found = Vec::new();
    for value in headers.get_all(header::LINK).iter().filter_map(|it| it.to_str().ok()) {
        // A target holds no '<', so each '<' begins the next link.
        for link in value.split('<').skip(1) {
            let Some((target, parameters)) = link.split_once('>') else { continue };
            if parameters.split([';', ',']).any(|it| is_relation(it, relation)) {
                found.push(target.to_owned());
            }
        }
    }
    found
}

fn is_relation(parameter: &str, relation: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let value = value.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("rel")
        && value.split_ascii_whitespace().any(|it| it.eq_ignore_ascii_case(relation))
}

/// An HTTP date in the one form that is still sent (RFC 9110 §5.6.7, IMF-fixdate).
fn http_date(text: &str) -> Option<Timestamp> {
    let parts: Vec<&str> = text.trim().split(' ').collect();
    let [_, day, month, year, time, "GMT"] = parts.as_slice() else { return None };
    let month = MONTHS.iter().position(|it| it == month)? + 1;
    format!("{year}-{month:02}-{day}T{time}Z").parse().ok()
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Known CAs use less than 100; a longer one would only be carried back and forth.
const MAX_NONCE_LENGTH: usize = 1024;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "2026-11-23T10:00:00Z";

    #[track_caller]
    fn asked(values: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        }
        retry_after(&headers, NOW.parse().unwrap()).map(|it| it.as_secs())
    }

    #[test]
    fn seconds_are_clamped_before_anything_is_added() {
        let week = 7 * 24 * 3600;
        assert_eq!(asked(&["120"]), Some(120));
        assert_eq!(asked(&["0"]), Some(1));
        assert_eq!(asked(&["604800"]), Some(week));
        assert_eq!(asked(&["604801"]), Some(week));
        assert_eq!(asked(&["18446744073709551615"]), Some(week));
        assert_eq!(asked(&["99999999999999999999999999"]), Some(week));
    }

    #[test]
    fn dates_in_the_future_count_and_those_in_the_past_do_not() {
        assert_eq!(asked(&["Mon, 23 Nov 2026 10:01:30 GMT"]), Some(90));
        assert_eq!(asked(&["Mon, 23 Nov 2026 10:00:00 GMT"]), None);
        assert_eq!(asked(&["Sun, 06 Nov 1994 08:49:37 GMT"]), None);
        assert_eq!(asked(&["Fri, 31 Dec 9999 23:59:59 GMT"]), Some(7 * 24 * 3600));
    }

    /// A03, A32: neither clock has to be right for the span between two of its moments.
    #[test]
    fn a_date_is_measured_from_the_answers_own() {
        let asked = |date: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::DATE, HeaderValue::from_static(date));
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&headers, NOW.parse().unwrap()).map(|it| it.as_secs())
        };
        let behind = "Mon, 23 Nov 2026 09:50:00 GMT";
        assert_eq!(asked(behind, "Mon, 23 Nov 2026 09:55:00 GMT"), Some(300));
        assert_eq!(asked(behind, "Mon, 23 Nov 2026 09:50:00 GMT"), None);
        assert_eq!(asked(behind, "120"), Some(120));
        let ahead = "Mon, 23 Nov 2026 10:30:00 GMT";
        assert_eq!(asked(ahead, "Mon, 23 Nov 2026 10:31:00 GMT"), Some(60));
        assert_eq!(asked(ahead, "Mon, 23 Nov 2026 10:29:59 GMT"), None);
        assert_eq!(asked("some day", "Mon, 23 Nov 2026 10:01:00 GMT"), Some(60));
    }

    #[test]
    fn what_is_neither_is_as_if_nothing_had_been_said() {
        let garbage =
            ["", "-1", "1e30", "1.5", "soon", "Mon, 99 Nov 2026 10:00:00 GMT", "Mon, 23 Foo 2026"];
        for garbage in garbage {
            assert_eq!(asked(&[garbage]), None, "{garbage:?}");
        }
        assert_eq!(asked(&[]), None);
    }

    #[test]
    fn of_two_headers_the_longer_wait_counts() {
        assert_eq!(asked(&["10", "Mon, 23 Nov 2026 10:01:00 GMT", "garbage"]), Some(60));
    }

    #[test]
    fn links_are_told_apart_by_their_relation() {
        let mut headers = HeaderMap::new();
        let both = r#"<https://ca/dir>;rel="index", <https://ca/cert/1>; rel="alternate""#;
        headers.append(header::LINK, HeaderValue::from_static(both));
        let more = r#"<https://ca/cert/2,x>;title="a";REL=alternate"#;
        headers.append(header::LINK, HeaderValue::from_static(more));
        assert_eq!(links(&headers, "alternate"), ["https://ca/cert/1", "https://ca/cert/2,x"]);
        assert_eq!(links(&headers, "index"), ["https://ca/dir"]);
        assert!(links(&headers, "up").is_empty());
    }

    #[test]
    fn only_base64url_is_a_nonce() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("replay-nonce", HeaderValue::from_static(value));
            nonce(&headers)
        };
        assert_eq!(read("oFvnlFP1wIhRlYS2jTaXbA").as_deref(), Some("oFvnlFP1wIhRlYS2jTaXbA"));
        for wrong in ["", "a b", "a=", "a+b", "a/b", "\"a\""] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    /// `moment` as an IMF-fixdate (RFC 9110 §5.6.7).
    fn imf_fixdate(moment: Timestamp) -> String {
        let text = moment.to_string();
        let (date, time) = text.trim_end_matches('Z').split_once('T').unwrap();
        let [year, month, day] = date.split('-').collect::<Vec<_>>().try_into().unwrap();
        let month = MONTHS[month.parse::<usize>().unwrap() - 1];
        format!("Day, {day} {month} {year} {time} GMT")
    }

    proptest! {
        #[test]
        fn every_wait_is_the_one_asked_for_within_its_bounds(
            now in 0_u32..4_000_000_000, seconds in prop_oneof![0_u64..1_000_000, any::<u64>()],
        ) {
            let wait = Duration::from_secs(seconds).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER);
            let now = Timestamp::from_unix_seconds(now.into());
            let read = |value: String| {
                let mut headers = HeaderMap::new();
                headers.insert(header::RETRY_AFTER, HeaderValue::from_str(&value).unwrap());
                retry_after(&headers, now)
            };
            prop_assert_eq!(read(seconds.to_string()), Some(wait));
            let moment = now.saturating_add(Duration::from_secs(seconds.min(1 << 33)));
            let expected = (moment > now).then_some(wait);
            prop_assert_eq!(read(imf_fixdate(moment)), expected);
        }

        #[test]
        fn links_are_found_whatever_stands_around_them(
            links in proptest::collection::vec(
                ("https://ca/[a-z0-9/,;=?]{0,12}", "alternate|index|up", "|; title=\"a, b\"|;x", any::<bool>()), 0..6,
            ),
            in_one in any::<bool>(),
        ) {
            let written = links.iter().map(|(target, relation, more, quoted)| {
                let quote = if *quoted { "\"" } else { "" };
                format!("<{target}>{more};rel={quote}{relation}{quote}")
            });
            let written: Vec<String> = written.collect();
            let values = if in_one { vec![written.join(", ")] } else { written };
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::LINK, HeaderValue::from_str(&value).unwrap());
            }
            for relation in ["alternate", "index", "up"] {
                let of_it = links.iter().filter(|it| it.1 == relation);
                let expected: Vec<String> = of_it.map(|it| it.0.clone()).collect();
                prop_assert_eq!(super::links(&headers, relation), expected);
            }
        }

        #[test]
        fn no_header_makes_us_panic(value in "[ -~]{0,80}") {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(&value).unwrap());
            headers.insert(header::LINK, HeaderValue::from_str(&value).unwrap());
            headers.insert(header::DATE, HeaderValue::from_str(&value).unwrap());
            if let Some(wait) = retry_after(&headers, Timestamp::MAX) {
                prop_assert!((MIN_RETRY_AFTER..=MAX_RETRY_AFTER).contains(&wait));
            }
            let _read = (links(&headers, "up"), date(&headers));
        }
    }
}
