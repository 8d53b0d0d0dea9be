//! Reads signed requests as RFC 8555 §6.2 wants them, and says no to all else.
//!
//! Written from the RFC and on its own: nothing of the code under test is used.

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// A request taken apart; its signature is not yet verified.
#[derive(Clone, Debug)]
pub(super) struct Jws {
    /// The protected header.
    pub header: Map<String, Value>,
    /// The payload; empty for POST-as-GET.
    pub payload: Vec<u8>,
    signed: String,
    signature: Vec<u8>,
}

impl Jws {
    /// Reads the flattened serialization (RFC 7515 §7.2.2) with exactly its three members.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
        if body.len() != 3 {
            return None;
        }
        let text = |key: &str| body.get(key)?.as_str();
        let (protected, payload) = (text("protected")?, text("payload")?);
        Some(Self {
            header: serde_json::from_slice(&decoded(protected)?).ok()?,
            payload: decoded(payload)?,
            signed: format!("{protected}.{payload}"),
            signature: decoded(text("signature")?)?,
        })
    }

    /// A text of the header.
    #[must_use]
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.header.get(key)?.as_str()
    }

    /// The payload as JSON; null if it is none.
    #[must_use]
    pub(super) fn value(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }

    /// Whether the signature is that of `key` (a JWK), by the algorithm that the header names.
    #[must_use]
    pub(super) fn is_signed_by(&self, key: &Value) -> bool {
        let part = |name: &str| key.get(name).and_then(Value::as_str).and_then(decoded);
        let point = || Some([vec![4], part("x")?, part("y")?].concat());
        let elliptic = |algorithm: &'static dyn VerificationAlgorithm| {
            point().is_some_and(|it| {
                let key = UnparsedPublicKey::new(algorithm, it);
                key.verify(self.signed.as_bytes(), &self.signature).is_ok()
            })
        };
        let curve = key.get("crv").and_then(Value::as_str);
        match (self.text("alg"), curve) {
            (Some("ES256"), Some("P-256")) => elliptic(&ECDSA_P256_SHA256_FIXED),
            (Some("ES384"), Some("P-384")) => elliptic(&ECDSA_P384_SHA384_FIXED),
            (Some("RS256"), None) => {
                let (Some(n), Some(e)) = (part("n"), part("e")) else { return false };
                let key = PublicKeyComponents { n, e };
                let signed = self.signed.as_bytes();
                key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, &self.signature).is_ok()
            }
            _ => false,
        }
    }

    /// Whether the tag is that of `key`, as an external account binding has one.
    #[must_use]
    pub(super) fn is_tagged_by(&self, key: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        self.text("alg") == Some("HS256")
            && hmac::verify(&key, self.signed.as_bytes(), &self.signature).is_ok()
    }
}

/// The thumbprint of a JWK (RFC 7638).
#[must_use]
pub(super) fn thumbprint(key: &Value) -> String {
    let members: &[&str] = match key.get("kty").and_then(Value::as_str) {
        Some("RSA") => &["e", "kty", "n"],
        _ => &["crv", "kty", "x", "y"],
    };
    let member = |name: &&str| format!("\"{name}\":{}", key.get(*name).unwrap_or(&Value::Null));
    let canonical: Vec<String> = members.iter().map(member).collect();
    encoded(digest::digest(&digest::SHA256, format!("{{{}}}", canonical.join(",")).as_bytes()))
}

/// base64url without padding, and nothing else (RFC 8555 §6.1).
#[must_use]
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// The same the other way.
#[must_use]
pub(super) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
