//! Signs a webhook as Standard Webhooks says: HMAC-SHA256 over `id.timestamp.body`.
//!
//! The secret is `whsec_` and Base64, or Base64 alone; what is neither counts as raw bytes, so that
//! any secret signs. White space around it is no part of it.
//!
//! Not here: verifying, which is the receiver's.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::model::{Secret, Timestamp};

/// The value of `webhook-signature`.
pub(super) fn signature(secret: &Secret, id: &str, at: Timestamp, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key_bytes(secret));
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{id}.{}.", at.unix_seconds()).as_bytes());
    context.update(body);
    format!("v1,{}", STANDARD.encode(context.sign()))
}

fn key_bytes(secret: &Secret) -> zeroize::Zeroizing<Vec<u8>> {
    let text = secret.reveal().trim();
    let encoded = text.strip_prefix("whsec_").unwrap_or(text);
    let bytes = match STANDARD.decode(encoded) {
        Ok(bytes) if !bytes.is_empty() => bytes,
        _ => text.as_bytes().to_vec(),
    };
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(secret: &str) -> String {
        let at = Timestamp::from_unix_seconds(1_614_265_330);
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        signature(&Secret::new(secret.into()), id, at, br#"{"test": 2432232314}"#)
    }

    #[test]
    fn the_published_example_is_signed_as_published() {
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), expected);
        assert_eq!(signed("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"), expected);
    }

    #[test]
    fn a_secret_that_is_no_base64_signs_by_its_bytes() {
        let theirs = standardwebhooks::Webhook::from_bytes(b"not base64!".to_vec()).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let expected = theirs.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
        assert_eq!(signed("not base64!"), expected);
    }
}
