//! Certificates once they are there: downloaded, revoked, and when to renew them (RFC 8555 §7.4.2,
//! §7.6, RFC 9773 §4).

use renewd::model::Timestamp;
use serde_json::{Value, json};

use super::authority::public_key_of;
use super::jws::{Jws, decoded};
use super::model::{Model, malformed, not_found};
use super::objects::{Advice, Certificate};
use super::reply::Reply;

impl Model {
    /// The certificate with the chain number `chain`.
    pub(super) fn certificate(
        &self,
        jws: &Jws,
        number: u64,
        chain: u64,
        account: u64,
    ) -> Result<Reply, Reply> {
        let certificate = self.certificates.get(&number).ok_or_else(not_found)?;
        if certificate.account != account || !jws.payload.is_empty() {
            return Err(Reply::problem(403, "unauthorized", "not your certificate"));
        }
        let chain = usize::try_from(chain).map_err(|_huge| not_found())?;
        if chain >= self.authority.chains() {
            return Err(not_found());
        }
        let pem = self.authority.chain(&certificate.der, chain);
        let mut reply = Reply::text(200, "application/pem-certificate-chain", pem);
        for other in (0..self.authority.chains()).filter(|it| *it != chain) {
            let path = match other {
                0 => format!("/certificate/{number}"),
                other => format!("/certificate/{number}/{other}"),
            };
            reply = reply.with("link", format!("<{}>;rel=\"alternate\"", self.at(&path)));
        }
        Ok(reply)
    }

    /// revokeCert, by an account or by the certificate's own `key`.
    pub(super) fn revoke(
        &mut self,
        jws: &Jws,
        account: Option<u64>,
        key: &Value,
    ) -> Result<Reply, Reply> {
        let wanted = jws.value();
        let der = wanted["certificate"].as_str().and_then(decoded);
        let der = der.ok_or_else(|| malformed("no certificate"))?;
        if let Some(reason) = wanted.get("reason")
            && !reason.as_u64().is_some_and(|it| matches!(it, 0..=6 | 8..=10))
        {
            return Err(Reply::problem(400, "badRevocationReason", "no such reason"));
        }
        let found = self.certificates.values_mut().find(|it| it.der.as_ref() == der);
        let certificate = found.ok_or_else(|| malformed("not a certificate of ours"))?;
        let may = match account {
            Some(account) => certificate.account == account,
            None => is_key_of(key, &certificate.der),
        };
        if !may {
            return Err(Reply::problem(403, "unauthorized", "not yours to revoke"));
        }
        if std::mem::replace(&mut certificate.revoked, true) {
            return Err(Reply::problem(400, "alreadyRevoked", "it is revoked already"));
        }
        Ok(Reply::empty(200))
    }

    /// When the certificate called `id` is to be renewed.
    pub(super) fn renewal_info(&self, id: &str) -> Result<Reply, Reply> {
        if !self.options.renewal_info {
            return Err(not_found());
        }
        let certificate =
            self.certificates.values().find(|it| it.id == id).ok_or_else(not_found)?;
        let advice = self.advice_for(certificate);
        let mut body = json!({ "suggestedWindow": { "start": advice.start, "end": advice.end } });
        if let Some(explanation) = advice.explanation {
            body["explanationURL"] = json!(explanation);
        }
        let poll_after = self.options.poll_after.as_secs().to_string();
        Ok(Reply::json(200, &body).with("retry-after", poll_after))
    }

    fn advice_for(&self, certificate: &Certificate) -> Advice {
        let advice = self.advice.get(&certificate.id).or(self.advice_for_all.as_ref()).cloned();
        advice.unwrap_or_else(|| {
            let now = self.now();
            if certificate.revoked {
                let hour = std::time::Duration::from_hours(1);
                return Advice::between(now.saturating_sub(hour * 2), now.saturating_sub(hour));
            }
            let life = certificate.not_after.since(certificate.not_before);
            let is_short = life < std::time::Duration::from_hours(10 * 24);
            let middle = if is_short { life / 2 } else { life / 3 * 2 };
            let at = |span| certificate.not_before.saturating_add(span);
            Advice::between(at(middle - life / 50), at(middle + life / 50))
        })
    }

    /// Whether the certificate `number` is to be renewed now, by the advice for it.
    pub(super) fn is_to_be_renewed(&self, number: u64) -> bool {
        let Some(certificate) = self.certificates.get(&number) else { return false };
        let advice = self.advice_for(certificate);
        let parsed = |text: &str| text.parse::<Timestamp>().ok();
        let (Some(start), Some(end)) = (parsed(&advice.start), parsed(&advice.end)) else {
            return false;
        };
        (start..end).contains(&self.now())
    }
}

/// Whether `key` (a JWK) is the public key of the certificate.
fn is_key_of(key: &Value, der: &[u8]) -> bool {
    let part = |name: &str| key[name].as_str().and_then(decoded);
    let public = public_key_of(der);
    match (part("x"), part("y"), part("n")) {
        (Some(x), Some(y), _) => public == [vec![4], x, y].concat(),
        // RSAPublicKey of RFC 8017: the modulus stands in it as it is.
        (_, _, Some(n)) => public.windows(n.len()).any(|it| it == n),
        _ => false,
    }
}
