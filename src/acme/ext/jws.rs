//! Signed requests (RFC 7515 as RFC 8555 §6.2 narrows it): ES256 with the account key, HS256 for
//! an external account binding; for a revocation, also with the key of a certificate.
//!
//! An [`Envelope`] is a request that can be signed again with another nonce, which is what a
//! badNonce asks for: also one that instant-acme has signed first.
//!
//! Not here: where nonces come from ([`crate::acme::wire`]).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Map, Value, json};

use crate::acme::settings::ExternalAccountBinding;
use crate::model::{KeyError, PrivateKey};

/// An account key can't sign.
#[derive(Debug, thiserror::Error)]
pub enum AccountKeyError {
    /// It can't be read.
    #[error("the account key can't be read")]
    Unreadable(#[source] KeyError),
    /// It is no ECDSA key on P-256, in PKCS#8.
    #[error("the account key is not a P-256 key in PKCS#8")]
    Unsuitable,
    /// The library refused to sign.
    #[error("the account key can't sign")]
    Signing,
    /// The key of the external account binding is not base64url.
    #[error("the key of the external account binding is not base64url")]
    Binding,
}

/// An account key, ready to sign; for a revocation also a certificate's key. Prints only its name.
pub(in crate::acme) struct AccountKey {
    pair: Pair,
    pkcs8: PrivatePkcs8KeyDer<'static>,
}

enum Pair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl AccountKey {
    /// The key of `stored`, which must be P-256.
    pub(in crate::acme) fn new(stored: &PrivateKey) -> Result<Self, AccountKeyError> {
        match Self::of_certificate(stored)? {
            key @ Self { pair: Pair::P256(_), .. } => Ok(key),
            _ => Err(AccountKeyError::Unsuitable),
        }
    }

    /// The key of `stored`, of any kind that certificates of ours have: for a revocation by it
    /// (RFC 8555 §7.6).
    pub(in crate::acme) fn of_certificate(stored: &PrivateKey) -> Result<Self, AccountKeyError> {
        let PrivateKeyDer::Pkcs8(pkcs8) =
            stored.secret_der().map_err(AccountKeyError::Unreadable)?
        else {
            return Err(AccountKeyError::Unsuitable);
        };
        let der = pkcs8.secret_pkcs8_der();
        let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Pair::P256);
        let p384 = || EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der);
        let pair = p256
            .or_else(|_other| p384().map(Pair::P384))
            .or_else(|_other| RsaKeyPair::from_pkcs8(der).map(Pair::Rsa))
            .map_err(|_rejected| AccountKeyError::Unsuitable)?;
        Ok(Self { pair, pkcs8 })
    }

    /// The name of its signatures (RFC 7518 §3.1).
    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// The key in the form that instant-acme takes.
    pub(in crate::acme) fn pkcs8(&self) -> PrivatePkcs8KeyDer<'_> {
        PrivatePkcs8KeyDer::from(self.pkcs8.secret_pkcs8_der())
    }

    /// The public half (RFC 7517), with the members that its thumbprint is made of.
    pub(in crate::acme) fn jwk(&self) -> Value {
        match &self.pair {
            Pair::P256(pair) => elliptic("P-256", pair.public_key().as_ref()),
            Pair::P384(pair) => elliptic("P-384", pair.public_key().as_ref()),
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                let exponent = public.exponent().big_endian_without_leading_zero();
                let modulus = public.modulus().big_endian_without_leading_zero();
                json!({ "e": encoded(exponent), "kty": "RSA", "n": encoded(modulus) })
            }
        }
    }

    /// Names the public half (RFC 7638): the same for whoever knows the key.
    pub(in crate::acme) fn thumbprint(&self) -> String {
        let canonical = self.jwk().to_string();
        encoded(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    }

    fn sign(&self, text: &str) -> Result<String, AccountKeyError> {
        let random = SystemRandom::new();
        let failed = |_failed| AccountKeyError::Signing;
        match &self.pair {
            Pair::P256(pair) | Pair::P384(pair) => {
                let signature = pair.sign(&random, text.as_bytes()).map_err(failed)?;
                Ok(encoded(signature.as_ref()))
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
                    .map_err(failed)?;
                Ok(encoded(&signature))
            }
        }
    }
}

/// The public `point` on `curve`, in SEC 1's form (§2.3.3): 04, then x and y of the same length.
fn elliptic(curve: &str, point: &[u8]) -> Value {
    let coordinates = point.get(1..).unwrap_or_default();
    let (x, y) = coordinates.split_at(coordinates.len() / 2);
    json!({ "crv": curve, "kty": "EC", "x": encoded(x), "y": encoded(y) })
}

impl std::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountKey")
    }
}

/// A request's header and payload, to be signed with one nonce after the other.
#[derive(Clone, Debug)]
pub(in crate::acme) struct Envelope {
    header: Map<String, Value>,
    payload: String,
}

impl Envelope {
    /// A request of the account `kid` to `url`; with no account, the key names itself.
    pub(in crate::acme) fn new(
        key: &AccountKey,
        kid: Option<&str>,
        url: &str,
        payload: &Value,
    ) -> Self {
        let mut header = Map::new();
        header.insert("alg".into(), key.algorithm().into());
        match kid {
            Some(kid) => header.insert("kid".into(), kid.into()),
            None => header.insert("jwk".into(), key.jwk()),
        };
        header.insert("url".into(), url.into());
        Self { header, payload: encoded(payload.to_string().as_bytes()) }
    }

    /// A request of the account `kid` for what is at `url` (RFC 8555 §6.3): without a payload.
    pub(in crate::acme) fn post_as_get(kid: &str, url: &str) -> Self {
        let mut header = Map::new();
        header.insert("alg".into(), "ES256".into());
        header.insert("kid".into(), kid.into());
        header.insert("url".into(), url.into());
        Self { header, payload: String::new() }
    }

    /// Takes a signed request apart; `None` if `body` is none.
    pub(in crate::acme) fn of_body(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let header = BASE64_URL_SAFE_NO_PAD.decode(body.get("protected")?.as_str()?).ok()?;
        Some(Self {
            header: serde_json::from_slice(&header).ok()?,
            payload: body.get("payload")?.as_str()?.to_owned(),
        })
    }

    /// The request's body, signed with `nonce`.
    pub(in crate::acme) fn sealed(
        &self,
        key: &AccountKey,
        nonce: &str,
    ) -> Result<Bytes, AccountKeyError> {
        let mut header = self.header.clone();
        header.insert("nonce".into(), nonce.into());
        Ok(self.signed(header, key)?.to_string().into())
    }

    /// What stands inside another request, signed without a nonce (RFC 8555 §7.3.5).
    pub(in crate::acme) fn sealed_within(
        &self,
        key: &AccountKey,
    ) -> Result<Value, AccountKeyError> {
        self.signed(self.header.clone(), key)
    }

    fn signed(
        &self,
        header: Map<String, Value>,
        key: &AccountKey,
    ) -> Result<Value, AccountKeyError> {
        let protected = encoded(Value::Object(header).to_string().as_bytes());
        let signature = key.sign(&format!("{protected}.{}", self.payload))?;
        Ok(body(&protected, &self.payload, &signature))
    }
}

/// Binds the account of `key` to one that the CA knows otherwise (RFC 8555 §7.3.4); for a request
/// to `url`.
pub(in crate::acme) fn external_account_binding(
    binding: &ExternalAccountBinding,
    key: &AccountKey,
    url: &str,
) -> Result<Value, AccountKeyError> {
    // Some CAs show the key in plain base64, with padding.
    let hmac_key = binding.hmac_key.reveal().trim().replace('+', "-").replace('/', "_");
    let hmac_key = BASE64_URL_SAFE_NO_PAD
        .decode(hmac_key.trim_end_matches('='))
        .map_err(|_undecodable| AccountKeyError::Binding)?;
    let header = json!({ "alg": "HS256", "kid": binding.key_id, "url": url });
    let protected = encoded(header.to_string().as_bytes());
    let payload = encoded(key.jwk().to_string().as_bytes());
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &hmac_key),
        format!("{protected}.{payload}").as_bytes(),
    );
    Ok(body(&protected, &payload, &encoded(tag.as_ref())))
}

fn body(protected: &str, payload: &str, signature: &str) -> Value {
    json!({ "protected": protected, "payload": payload, "signature": signature })
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;
    use crate::model::{KeyType, Secret};

    fn key() -> AccountKey {
        AccountKey::new(&PrivateKey::generate(KeyType::P256).unwrap()).unwrap()
    }

    fn decoded(part: &Value) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(part.as_str().unwrap()).unwrap()
    }

    #[track_caller]
    fn check_signature(key: &AccountKey, body: &Value) {
        let text = format!(
            "{}.{}",
            body["protected"].as_str().unwrap(),
            body["payload"].as_str().unwrap()
        );
        let Pair::P256(pair) = &key.pair else { unreachable!("{key:?}") };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key())
            .verify(text.as_bytes(), &decoded(&body["signature"]))
            .unwrap();
    }

    #[test]
    fn each_sealing_has_its_own_nonce_and_a_signature_that_holds() {
        let key = key();
        let envelope = Envelope::new(&key, Some("https://ca/acct/1"), "https://ca/x", &json!({}));
        for nonce in ["first", "second"] {
            let body: Value =
                serde_json::from_slice(&envelope.sealed(&key, nonce).unwrap()).unwrap();
            let header: Value = serde_json::from_slice(&decoded(&body["protected"])).unwrap();
            assert_eq!(
                header,
                json!({ "alg": "ES256", "kid": "https://ca/acct/1", "nonce": nonce, "url": "https://ca/x" })
            );
            assert_eq!(decoded(&body["payload"]), b"{}");
            check_signature(&key, &body);
        }
    }

    #[test]
    fn a_signed_request_is_taken_apart_and_signed_again() {
        let key = key();
        let first = Envelope::new(&key, None, "https://ca/x", &json!({ "a": 1 }));
        let taken = Envelope::of_body(&first.sealed(&key, "first").unwrap()).unwrap();
        let body: Value = serde_json::from_slice(&taken.sealed(&key, "second").unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&decoded(&body["protected"])).unwrap();
        assert_eq!((&header["nonce"], &header["jwk"]), (&json!("second"), &key.jwk()));
        check_signature(&key, &body);
        assert!(Envelope::of_body(b"garbage").is_none());
    }

    #[test]
    fn a_binding_is_read_in_each_spelling_of_base64() {
        let binding = |hmac_key: &str| ExternalAccountBinding {
            key_id: "kid-1".into(),
            hmac_key: Secret::new(hmac_key.into()),
        };
        let key = key();
        let made = |hmac_key| external_account_binding(&binding(hmac_key), &key, "https://ca/x");
        assert_eq!(made("-_-_AA").unwrap(), made("+/+/AA==\n").unwrap());
        assert!(matches!(made("not base64!"), Err(AccountKeyError::Binding)));
    }

    #[test]
    fn only_p_256_keys_are_account_keys() {
        let other = PrivateKey::generate(KeyType::P384).unwrap();
        assert!(matches!(AccountKey::new(&other), Err(AccountKeyError::Unsuitable)));
        assert_eq!(format!("{:?}", key()), "AccountKey");
    }
}
