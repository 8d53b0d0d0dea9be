//! A TSIG key as BIND writes it (`tsig-keygen`, `/etc/bind/rndc.key`).
//!
//! Not here: signing with it ([`super::rfc2136`]).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::model::Secret;

/// How messages are signed (RFC 8945 §6), as far as nobody advises against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

/// A key that two parties know.
#[derive(Clone, Debug)]
pub(super) struct TsigKey {
    /// Its name, which both must call it by.
    pub(super) name: String,
    pub(super) algorithm: Algorithm,
    /// Base64.
    secret: Secret,
}

/// A text is no key in BIND's form. No message holds any part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TsigKeyError {
    /// Not `key "NAME" { … };`.
    #[error(
        "is not a key in BIND's form: key \"NAME\" {{ algorithm hmac-sha256; secret \"…\"; }};"
    )]
    Form,
    /// Not one of those that are supported.
    #[error("has an algorithm that is not hmac-sha256, hmac-sha384 or hmac-sha512")]
    Algorithm,
    /// Not base64.
    #[error("has a secret that is not base64")]
    Secret,
}

impl TsigKey {
    /// Reads the one key of `text`: comments and white space are as BIND allows them.
    ///
    /// # Errors
    ///
    /// Says what is wrong, without a word of the secret.
    pub(super) fn parse(text: &str) -> Result<Self, TsigKeyError> {
        let text = Zeroizing::new(without_comments(text));
        let rest = text.trim().strip_prefix("key").ok_or(TsigKeyError::Form)?;
        let (name, rest) = rest.split_once('{').ok_or(TsigKeyError::Form)?;
        let (body, _) = rest.split_once('}').ok_or(TsigKeyError::Form)?;
        let name = unquoted(name);
        let is_name = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(TsigKeyError::Form);
        }
        let value = |key: &str| {
            let lines = body.split(';').map(str::trim);
            let mut found = lines
                .filter_map(|it| it.strip_prefix(key))
                .filter(|it| it.starts_with(|it: char| it.is_ascii_whitespace() || it == '"'));
            found.next().map(unquoted)
        };
        let algorithm = match value("algorithm").ok_or(TsigKeyError::Form)?.to_lowercase().as_str()
        {
            "hmac-sha256" => Algorithm::HmacSha256,
            "hmac-sha384" => Algorithm::HmacSha384,
            "hmac-sha512" => Algorithm::HmacSha512,
            _ => return Err(TsigKeyError::Algorithm),
        };
        let secret = Secret::new(value("secret").ok_or(TsigKeyError::Form)?.to_owned());
        let key = Self { name: name.to_owned(), algorithm, secret };
        if key.bytes().is_none_or(|it| it.is_empty()) {
            return Err(TsigKeyError::Secret);
        }
        Ok(key)
    }

    /// The secret itself; none if it is not base64, which parsing has seen to.
    pub(super) fn bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        BASE64_STANDARD.decode(self.secret.reveal()).ok().map(Zeroizing::new)
    }
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches('"').trim_end_matches('.')
}

/// `text` without lines that are comments, and without what follows `//` or `#`; a secret in base64
/// may hold a slash, but what is in quotes is left alone.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let mut is_quoted = false;
        let end = line.char_indices().find(|(at, it)| {
            is_quoted ^= *it == '"';
            let rest = line.get(*at..).unwrap_or_default();
            !is_quoted && (*it == '#' || rest.starts_with("//"))
        });
        kept.push_str(end.and_then(|(at, _)| line.get(..at)).unwrap_or(line));
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_bind_writes_it() {
        let text = "// made by tsig-keygen\nkey \"Renewd-Key.\" {\n\talgorithm hmac-sha512; # strong\n\
                    \tsecret \"Y2FuYXJ5//9h\";\n};\n";
        let key = TsigKey::parse(text).unwrap();
        assert_eq!((key.name.as_str(), key.algorithm), ("Renewd-Key", Algorithm::HmacSha512));
        assert_eq!(key.bytes().unwrap().len(), 9);
        assert!(!format!("{key:?}").contains("Y2FuYXJ5"));
        assert!(TsigKey::parse("key k{algorithm \"HMAC-SHA256\";secret \"YQ==\";};").is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused_without_a_word_of_it() {
        let refused = |text: &str| TsigKey::parse(text).unwrap_err();
        assert_eq!(refused("Y2FuYXJ5"), TsigKeyError::Form);
        assert_eq!(
            refused("key \"a b\" { algorithm hmac-sha256; secret \"YQ==\"; };"),
            TsigKeyError::Form
        );
        assert_eq!(refused("key k { secret \"YQ==\"; };"), TsigKeyError::Form);
        assert_eq!(refused("key k { algorithm hmac-sha256; };"), TsigKeyError::Form);
        assert_eq!(
            refused("key k { algorithm hmac-md5; secret \"YQ==\"; };"),
            TsigKeyError::Algorithm
        );
        assert_eq!(
            refused("key k { algorithm hmac-sha256; secret \"?\"; };"),
            TsigKeyError::Secret
        );
        assert_eq!(refused("key k { algorithm hmac-sha256; secret \"\"; };"), TsigKeyError::Secret);
    }
}
