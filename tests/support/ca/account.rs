//! Accounts (RFC 8555 §7.3): made, found, updated, given another key, deactivated.

use serde_json::{Value, json};

use super::jws::{Jws, decoded, thumbprint};
use super::limits::Limit;
use super::model::{Model, malformed, not_found};
use super::objects::Account;
use super::reply::{Reply, problem};

impl Model {
    /// newAccount (RFC 8555 §7.3).
    pub(super) fn new_account(&mut self, jws: &Jws, key: &Value) -> Result<Reply, Reply> {
        let wanted = jws.value();
        if let Some(number) = self.account_with(key) {
            if self.accounts[&number].status != "valid" {
                return Err(Reply::problem(401, "unauthorized", "the account is deactivated"));
            }
            return Ok(self.account_reply(200, number));
        }
        if wanted["onlyReturnExisting"] == true {
            return Err(Reply::problem(400, "accountDoesNotExist", "no account with this key"));
        }
        if wanted["termsOfServiceAgreed"] != true {
            let refused = Reply::problem(403, "userActionRequired", "agree to the terms first");
            let link = format!("<{}>;rel=\"terms-of-service\"", self.options.terms);
            return Err(refused.with("link", link));
        }
        self.check_binding(&wanted["externalAccountBinding"], key)?;
        let now = self.now();
        let limits = self.options.limits.clone();
        if let Some(wait) = self.buckets.wait(&limits, Limit::NewAccounts, "all", now) {
            return Err(limited("too many new accounts", wait));
        }
        self.buckets.take(&limits, Limit::NewAccounts, "all", now);
        let number = self.new_number();
        let contact = wanted.get("contact").cloned().unwrap_or_else(|| json!([]));
        self.accounts.insert(number, Account { key: key.clone(), status: "valid", contact });
        Ok(self.account_reply(201, number))
    }

    fn check_binding(&self, binding: &Value, key: &Value) -> Result<(), Reply> {
        let Some((key_id, hmac_key)) = &self.options.binding else { return Ok(()) };
        let required = || Reply::problem(403, "externalAccountRequired", "no binding");
        let binding = Jws::parse(binding.to_string().as_bytes()).ok_or_else(required)?;
        let url = self.new_account_url();
        let holds = binding.text("kid") == Some(key_id)
            && binding.text("url") == Some(&url)
            && !binding.header.contains_key("nonce")
            && binding.value() == *key
            && binding.is_tagged_by(&decoded(hmac_key).unwrap_or_default());
        if holds { Ok(()) } else { Err(Reply::problem(401, "unauthorized", "a wrong binding")) }
    }

    fn new_account_url(&self) -> String {
        // Whoever was led here by the directory signed the URL that stands there now.
        let directory = self.directory_value();
        directory["newAccount"].as_str().unwrap_or_default().to_owned()
    }

    /// A look at an account, other contacts, its end (RFC 8555 §7.3.2, §7.3.6).
    pub(super) fn account(&mut self, jws: &Jws, number: u64, own: u64) -> Result<Reply, Reply> {
        if number != own {
            return Err(Reply::problem(401, "unauthorized", "not your account"));
        }
        let wanted = jws.value();
        let account = self.accounts.get_mut(&number).ok_or_else(not_found)?;
        if wanted["status"] == "deactivated" {
            account.status = "deactivated";
        } else if let Some(contact) = wanted.get("contact") {
            account.contact = contact.clone();
        }
        Ok(self.account_reply(200, number))
    }

    /// keyChange (RFC 8555 §7.3.5).
    pub(super) fn change_key(&mut self, jws: &Jws, number: u64) -> Result<Reply, Reply> {
        let inner = Jws::parse(&jws.payload).ok_or_else(|| malformed("the inner JWS is none"))?;
        let key = inner.header.get("jwk").cloned().ok_or_else(|| malformed("no inner jwk"))?;
        if !inner.is_signed_by(&key)
            || inner.text("url") != jws.text("url")
            || inner.header.contains_key("nonce")
        {
            return Err(malformed("the inner JWS does not hold"));
        }
        let change = inner.value();
        let old = &self.accounts[&number].key;
        let account = self.at(&format!("/account/{number}"));
        if change["account"] != account || thumbprint(&change["oldKey"]) != thumbprint(old) {
            return Err(malformed("not the account, or not its old key"));
        }
        if let Some(other) = self.account_with(&key) {
            let location = self.at(&format!("/account/{other}"));
            let conflict = problem("conflict", "the key is in use").to_string();
            return Err(
                Reply::text(409, "application/problem+json", conflict).with("location", location)
            );
        }
        let account = self.accounts.get_mut(&number).ok_or_else(not_found)?;
        account.key = key;
        Ok(self.account_reply(200, number))
    }

    fn account_with(&self, key: &Value) -> Option<u64> {
        let wanted = thumbprint(key);
        let mut accounts = self.accounts.iter();
        accounts.find(|(_, it)| thumbprint(&it.key) == wanted).map(|(number, _)| *number)
    }

    fn account_reply(&self, status: u16, number: u64) -> Reply {
        let account = &self.accounts[&number];
        let body = json!({ "status": account.status, "contact": account.contact });
        Reply::json(status, &body).with("location", self.at(&format!("/account/{number}")))
    }
}

/// A limit was run into (RFC 8555 §6.6).
pub(super) fn limited(detail: &str, wait: std::time::Duration) -> Reply {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Reply::problem(429, "rateLimited", detail).with("retry-after", seconds.to_string())
}
