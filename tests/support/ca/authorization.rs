//! Authorizations and challenges (RFC 8555 §7.5).

use renewd::model::Timestamp;
use serde_json::{Value, json};

use super::jws::{Jws, thumbprint};
use super::limits::Limit;
use super::model::{Model, malformed, not_found};
use super::objects::{Authorization, Challenge, Named, Outcome};
use super::order::post_as_get;
use super::reply::Reply;
use super::validate::Validation;

impl Model {
    /// An authorization of `account` for `named`: a valid one if there is one, else a new one.
    pub(super) fn authorization_for(&mut self, named: &Named, account: u64, now: Timestamp) -> u64 {
        let bare = named.value.trim_start_matches("*.").to_owned();
        let wildcard = bare != named.value;
        let identifier = Named { kind: named.kind.clone(), value: bare };
        if !self.options.reuse_authorizations.is_zero() {
            let valid = self.authorizations.iter().find(|(_, it)| {
                it.account == account
                    && it.identifier == identifier
                    && it.wildcard == wildcard
                    && it.status == "valid"
                    && now < it.expires
            });
            if let Some((number, _)) = valid {
                return *number;
            }
        }
        let kinds: &[&'static str] = match (named.kind.as_str(), wildcard) {
            ("ip", _) => &["http-01", "tls-alpn-01"],
            (_, true) => &["dns-01"],
            _ => &["http-01", "dns-01", "tls-alpn-01"],
        };
        let mut challenges = Vec::new();
        for kind in kinds {
            let token = self.new_token();
            challenges.push(Challenge { kind, token, status: "pending", error: None });
        }
        let number = self.new_number();
        let expires = now.saturating_add(self.options.order_lifetime);
        let status = "pending";
        self.authorizations.insert(
            number,
            Authorization {
                account,
                identifier,
                wildcard,
                status,
                expires,
                challenges,
                outcome: None,
            },
        );
        number
    }

    /// A look at an authorization, or its deactivation (RFC 8555 §7.5.2).
    pub(super) fn authorization(
        &mut self,
        jws: &Jws,
        number: u64,
        account: u64,
    ) -> Result<Reply, Reply> {
        self.settle(number);
        let authorization = self.authorizations.get_mut(&number).ok_or_else(not_found)?;
        if authorization.account != account {
            return Err(Reply::problem(403, "unauthorized", "not your authorization"));
        }
        if jws.value()["status"] == "deactivated" {
            authorization.status = "deactivated";
        } else {
            post_as_get(jws)?;
        }
        Ok(Reply::json(200, &self.authorization_json(number)))
    }

    /// The answer to a challenge (RFC 8555 §7.5.1), and what is to be looked for.
    pub(super) fn challenge(
        &mut self,
        jws: &Jws,
        number: u64,
        index: u64,
        account: u64,
    ) -> Result<(Reply, Option<Validation>), Reply> {
        self.settle(number);
        let index = usize::try_from(index).map_err(|_huge| not_found())?;
        let key = thumbprint(&self.accounts[&account].key);
        let up = format!("<{}>;rel=\"up\"", self.at(&format!("/authorization/{number}")));
        let authorization = self.authorizations.get_mut(&number).ok_or_else(not_found)?;
        if authorization.account != account {
            return Err(Reply::problem(403, "unauthorized", "not your challenge"));
        }
        let challenge = authorization.challenges.get_mut(index).ok_or_else(not_found)?;
        let mut validation = None;
        if !jws.payload.is_empty() {
            if jws.value() != json!({}) {
                return Err(malformed("the answer to a challenge is {}"));
            }
            if authorization.status != "pending" || challenge.status != "pending" {
                return Err(malformed("there is nothing to be answered any more"));
            }
            challenge.status = "processing";
            validation = Some(Validation {
                authorization: number,
                challenge: index,
                identifier: authorization.identifier.value.clone(),
                kind: challenge.kind,
                key_authorization: format!("{}.{key}", challenge.token),
                token: challenge.token.clone(),
            });
        }
        Ok((Reply::json(200, &self.challenge_json(number, index)).with("link", up), validation))
    }

    /// Notes what came of a look for a proof.
    pub(super) fn validated(&mut self, validation: &Validation, problem: Option<Value>) {
        let at = self.now().saturating_add(self.options.validation_takes);
        let Some(it) = self.authorizations.get_mut(&validation.authorization) else { return };
        it.outcome = Some(Outcome { at, challenge: validation.challenge, problem });
    }

    /// Lets the outcome of an answered challenge be seen, if its time has come.
    pub(super) fn settle(&mut self, number: u64) {
        let now = self.now();
        let (reuse, limits) = (self.options.reuse_authorizations, self.options.limits.clone());
        let Some(it) = self.authorizations.get_mut(&number) else { return };
        if it.status == "valid" && it.expires <= now {
            it.status = "expired";
        }
        let Some(outcome) = it.outcome.take_if(|it| it.at <= now) else { return };
        if it.status != "pending" {
            return;
        }
        let challenge = &mut it.challenges[outcome.challenge];
        let state = if outcome.problem.is_some() { "invalid" } else { "valid" };
        (challenge.status, it.status) = (state, state);
        challenge.error.clone_from(&outcome.problem);
        if outcome.problem.is_some() {
            let subject = format!("{} {}", it.account, it.identifier.value);
            self.buckets.take(&limits, Limit::Failures, &subject, now);
        } else {
            // Long enough for the order that it was made for.
            it.expires = it.expires.max(now.saturating_add(reuse));
        }
    }
}
