//! What a request to our listener asks for, and for which host.
//!
//! Only the one form that a CA sends is understood: GET or HEAD of exactly
//! `/.well-known/acme-challenge/<token>`, without a query, with one `Host`. Nothing is decoded or
//! put in normal form, so there are no two ways to write a path.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::{Method, Request, header};

use crate::model::{Identifier, Token};

/// Where proofs are below a host (RFC 8555 §8.3).
const PREFIX: &str = "/.well-known/acme-challenge/";

/// The proof that a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    pub(super) token: Token,
    pub(super) host: Host<'a>,
}

impl<'a> Asked<'a> {
    /// What `request` asks for; `None` if it is not of the form that a CA sends.
    pub(super) fn parse<B>(request: &'a Request<B>) -> Option<Self> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let uri = request.uri();
        if uri.authority().is_some() || uri.query().is_some() {
            return None;
        }
        let token = uri.path().strip_prefix(PREFIX)?.parse().ok()?;
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (host, None) = (hosts.next()?, hosts.next()) else { return None };
        Some(Self { token, host: Host::parse(host.to_str().ok()?)? })
    }
}

/// The host of a `Host` header, without its port (RFC 9110 §7.2).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host<'a> {
    /// A name, as written.
    Name(&'a str),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                (Self::V6(address.parse().ok()?), port)
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                let (name, port) = text.split_at_checked(end)?;
                (name.parse().map_or(Self::Name(name), Self::V4), port)
            }
        };
        let port = port.strip_prefix(':').unwrap_or(port);
        port.bytes().all(|it| it.is_ascii_digit()).then_some(host)
    }

    /// Whether this is `identifier`.
    pub(super) fn is(&self, identifier: &Identifier) -> bool {
        match (self, identifier) {
            (Self::Name(name), Identifier::Dns(identifier)) => {
                name.eq_ignore_ascii_case(identifier)
            }
            (Self::V4(address), Identifier::Ip(identifier)) => identifier == address,
            (Self::V6(address), Identifier::Ip(identifier)) => identifier == address,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, hosts: &[&str]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(path);
        for host in hosts {
            request = request.header("host", *host);
        }
        request.body(()).unwrap()
    }

    #[track_caller]
    fn is_for(host: &str, identifier: &str) -> bool {
        Host::parse(host).is_some_and(|it| it.is(&identifier.parse().unwrap()))
    }

    #[test]
    fn a_get_and_a_head_of_a_token_are_understood() {
        for method in ["GET", "HEAD"] {
            let request = request(method, "/.well-known/acme-challenge/a-B_9", &["example.com"]);
            let asked = Asked::parse(&request).unwrap();
            assert_eq!(asked.token.as_str(), "a-B_9");
            assert_eq!(asked.host, Host::Name("example.com"));
        }
    }

    #[test]
    fn every_other_form_is_not() {
        let right = "/.well-known/acme-challenge/abc";
        let refused = |method, path, hosts: &[&str]| {
            assert_eq!(Asked::parse(&request(method, path, hosts)), None, "{method} {path}");
        };
        for method in ["POST", "PUT", "OPTIONS", "DELETE", "get"] {
            refused(method, right, &["example.com"]);
        }
        for path in [
            "/",
            "/abc",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/abc/",
            "/.well-known/acme-challenge/abc?",
            "/.well-known/acme-challenge/abc?x=1",
            "/.well-known/acme-challenge/../acme-challenge/abc",
            "/.well-known/acme-challenge/%61bc",
            "/.well-known/acme-challenge/%2e%2e/abc",
            "/.well-known//acme-challenge/abc",
            "/.Well-Known/acme-challenge/abc",
            "http://example.com/.well-known/acme-challenge/abc",
        ] {
            refused("GET", path, &["example.com"]);
        }
        refused("GET", right, &[]);
        refused("GET", right, &["example.com", "example.com"]);
    }

    #[test]
    fn a_host_is_compared_without_case_and_port() {
        assert!(is_for("example.com", "example.com"));
        assert!(is_for("EXAMPLE.com:80", "example.com"));
        assert!(is_for("example.com:", "example.com"));
        assert!(is_for("192.0.2.7:80", "192.0.2.7"));
        assert!(is_for("[2001:DB8:0::1]:80", "2001:db8::1"));
        assert!(is_for("[2001:db8::1]", "2001:db8::1"));
    }

    #[test]
    fn another_host_is_another_host() {
        assert!(!is_for("www.example.com", "example.com"));
        assert!(!is_for("example.com.evil.example", "example.com"));
        assert!(!is_for("example.com:80:80", "example.com"));
        assert!(!is_for("example.com:x", "example.com"));
        assert!(!is_for("", "example.com"));
        assert!(!is_for("2001:db8::1", "2001:db8::1"), "brackets are needed");
        assert!(!is_for("[2001:db8::1", "2001:db8::1"));
        assert!(!is_for("[2001:db8::1]80", "example.com"));
        assert!(!is_for("[::ffff:192.0.2.7]", "192.0.2.7"));
    }
}
