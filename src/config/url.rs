//! Which URLs are fit to be asked: https, or http to this machine itself.

use std::net::IpAddr;

use http::Uri;

/// Checks that `text` is a URL that may be asked; else says what is wrong, without the URL.
///
/// http is for loopback alone: what is asked elsewhere must be authenticated (CVE-2025-54799).
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    let uri: Uri = text.parse().map_err(|_refused| "is not a URL")?;
    let host = uri.host().filter(|it| !it.is_empty()).ok_or("is not a URL with a host")?;
    if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err("holds a user name or password");
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback(host) => Ok(()),
        Some("http") => Err("is http, which is for loopback alone: write https"),
        _ => Err("is not an https URL"),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_loopback_alone() {
        for fine in [
            "https://ca.example/dir",
            "http://localhost:14000/dir",
            "http://127.0.0.2/dir",
            "http://[::1]:14000/dir",
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for wrong in [
            "http://ca.example/dir",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "http://10.0.0.1/",
            "ftp://localhost/",
            "https://user:word@ca.example/",
            "ca.example",
            "https://",
            "",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
