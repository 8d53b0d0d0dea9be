//! Orders (RFC 8555 §7.4).

use std::collections::BTreeSet;
use std::time::Duration;

use renewd::model::Timestamp;
use serde_json::Value;

use super::account::limited;
use super::authority::{names_of, read_csr};
use super::jws::{Jws, decoded};
use super::limits::{Limit, registered};
use super::model::{Model, malformed, not_found};
use super::objects::{Certificate, Named, Order};
use super::reply::{Reply, problem};

impl Model {
    /// newOrder (RFC 8555 §7.4, RFC 9773 §5, draft-ietf-acme-profiles).
    pub(super) fn new_order(&mut self, jws: &Jws, account: u64) -> Result<Reply, Reply> {
        let wanted = jws.value();
        let identifiers = identifiers(&wanted)?;
        let profile = wanted["profile"].as_str().map(str::to_owned);
        let known = |name: &String| self.options.profiles.iter().find(|it| it.name == *name);
        let chosen = match &profile {
            Some(name) => known(name)
                .ok_or_else(|| Reply::problem(400, "invalidProfile", "no such profile"))?,
            None => &self.options.profiles[0],
        };
        if identifiers.len() > chosen.max_names {
            return Err(malformed("too many identifiers"));
        }
        let replaces = wanted["replaces"].as_str().map(str::to_owned);
        let replaced = match &replaces {
            Some(id) => Some(self.replaceable(id, &identifiers, account)?),
            None => None,
        };
        let now = self.now();
        if self.options.reuse_orders
            && let Some(number) = self.open_order(&identifiers, &profile, account, now)
        {
            return Ok(self.order_reply(200, number));
        }
        // Let's Encrypt exempts replacements at the time that it suggests for them, and no others.
        let exempt = replaced.is_some_and(|it| self.is_to_be_renewed(it));
        self.check_limits(&identifiers, account, exempt, now)?;
        let authorizations =
            identifiers.iter().map(|it| self.authorization_for(it, account, now)).collect();
        let number = self.new_number();
        let expires = now.saturating_add(self.options.order_lifetime);
        let order = Order {
            account,
            identifiers,
            profile,
            replaces,
            authorizations,
            status: "pending",
            expires,
            valid_at: Timestamp::MAX,
            certificate: None,
            error: None,
        };
        self.orders.insert(number, order);
        if let Some(certificate) = replaced.and_then(|it| self.certificates.get_mut(&it)) {
            certificate.replaced_by = Some(number);
        }
        self.refresh(number);
        Ok(self.order_reply(201, number))
    }

    /// The certificate that an order may replace (RFC 9773 §5).
    fn replaceable(&self, id: &str, wanted: &[Named], account: u64) -> Result<u64, Reply> {
        let found = self.certificates.iter().find(|(_, it)| it.id == id);
        let Some((number, certificate)) = found else {
            return Err(Reply::problem(404, "malformed", "replaces names no certificate of ours"));
        };
        if certificate.account != account {
            return Err(Reply::problem(403, "unauthorized", "it is another account's"));
        }
        if !wanted.iter().any(|it| certificate.names.contains(&it.value)) {
            return Err(malformed("the certificates share no identifier"));
        }
        let by = certificate.replaced_by.and_then(|it| self.orders.get(&it));
        if certificate.replaced_by.is_some() && by.is_none_or(|it| it.status != "invalid") {
            return Err(Reply::problem(409, "alreadyReplaced", "another order replaces it"));
        }
        Ok(*number)
    }

    fn open_order(
        &mut self,
        identifiers: &[Named],
        profile: &Option<String>,
        account: u64,
        now: Timestamp,
    ) -> Option<u64> {
        let numbers: Vec<u64> = self.orders.keys().copied().collect();
        numbers.into_iter().find(|number| {
            self.refresh(*number);
            let order = &self.orders[number];
            order.account == account
                && matches!(order.status, "pending" | "ready")
                && order.identifiers == *identifiers
                && order.profile == *profile
                && now < order.expires
        })
    }

    fn check_limits(
        &mut self,
        identifiers: &[Named],
        account: u64,
        exempt: bool,
        now: Timestamp,
    ) -> Result<(), Reply> {
        let limits = self.options.limits.clone();
        for named in identifiers {
            let subject = format!("{account} {}", named.value);
            if let Some(wait) = self.buckets.wait(&limits, Limit::Failures, &subject, now) {
                return Err(limited("too many failed authorizations", wait));
            }
        }
        if exempt {
            return Ok(());
        }
        let set = set_of(identifiers);
        if let Some(wait) = self.buckets.wait(&limits, Limit::PerSet, &set, now) {
            return Err(limited("too many certificates for this exact set", wait));
        }
        if self.sets_issued.contains(&set) {
            return Ok(());
        }
        let orders = account.to_string();
        if let Some(wait) = self.buckets.wait(&limits, Limit::Orders, &orders, now) {
            return Err(limited("too many new orders", wait));
        }
        let names: BTreeSet<String> = identifiers.iter().map(|it| registered(&it.value)).collect();
        for name in names {
            if let Some(wait) = self.buckets.wait(&limits, Limit::PerRegisteredName, &name, now) {
                return Err(limited("too many certificates for this registered name", wait));
            }
        }
        self.buckets.take(&limits, Limit::Orders, &orders, now);
        Ok(())
    }

    /// A look at an order.
    pub(super) fn order(&mut self, jws: &Jws, number: u64, account: u64) -> Result<Reply, Reply> {
        self.own_order(jws, number, account)?;
        self.refresh(number);
        Ok(self.order_reply(200, number))
    }

    fn own_order(&self, jws: &Jws, number: u64, account: u64) -> Result<(), Reply> {
        let order = self.orders.get(&number).ok_or_else(not_found)?;
        if order.account != account {
            return Err(Reply::problem(403, "unauthorized", "not your order"));
        }
        post_as_get(jws)
    }

    /// Brings the state of an order up to date (RFC 8555 §7.1.6).
    fn refresh(&mut self, number: u64) {
        let now = self.now();
        let Some(order) = self.orders.get(&number) else { return };
        let authorizations = order.authorizations.clone();
        for authorization in authorizations.iter().copied() {
            self.settle(authorization);
        }
        let states: Vec<&str> = (authorizations.iter())
            .map(|it| self.authorizations.get(it).map_or("expired", |it| it.status))
            .collect();
        let Some(order) = self.orders.get_mut(&number) else { return };
        match order.status {
            "pending" | "ready" if order.expires <= now => {
                order.status = "invalid";
                order.error = Some(problem("malformed", "the order has expired"));
            }
            "pending" if states.iter().any(|it| !matches!(*it, "pending" | "valid")) => {
                order.status = "invalid";
                if states.contains(&"invalid") {
                    order.error = Some(problem("unauthorized", "an authorization failed"));
                }
            }
            "pending" if states.iter().all(|it| *it == "valid") => order.status = "ready",
            "processing" if order.valid_at <= now => order.status = "valid",
            _ => {}
        }
    }

    /// finalize (RFC 8555 §7.4).
    pub(super) fn finalize(
        &mut self,
        jws: &Jws,
        number: u64,
        account: u64,
    ) -> Result<Reply, Reply> {
        let order = self.orders.get(&number).ok_or_else(not_found)?;
        if order.account != account {
            return Err(Reply::problem(403, "unauthorized", "not your order"));
        }
        self.refresh(number);
        let order = self.orders[&number].clone();
        if order.status != "ready" {
            return Err(Reply::problem(403, "orderNotReady", "the order is not ready"));
        }
        let wanted = jws.value();
        let csr = wanted["csr"].as_str().and_then(decoded);
        let csr = read_csr(&csr.ok_or_else(|| malformed("no CSR"))?)
            .map_err(|it| Reply::problem(400, "badCSR", it))?;
        let mut names: Vec<String> = order.identifiers.iter().map(|it| it.value.clone()).collect();
        names.sort();
        if names_of(&csr) != names {
            return Err(Reply::problem(400, "badCSR", "the CSR is for other names"));
        }
        let profile = self.profile_of(&order);
        let now = self.now();
        let not_before = now.saturating_sub(profile.backdated);
        let not_after = not_before.saturating_add(profile.lifetime - Duration::from_secs(1));
        let made = self.authority.issue(&csr, (not_before, not_after), self.forgery);
        let made = made.map_err(|it| Reply::problem(400, "badCSR", it))?;
        self.issued += 1;
        self.spend(&order, now);
        let certificate = self.new_number();
        let (der, id) = (made.der, made.id);
        self.certificates.insert(
            certificate,
            Certificate {
                account,
                der,
                id,
                names,
                not_before,
                not_after,
                replaced_by: None,
                revoked: false,
            },
        );
        let valid_at = now.saturating_add(self.options.issuing_takes);
        let order = self.orders.get_mut(&number).ok_or_else(not_found)?;
        order.certificate = Some(certificate);
        (order.status, order.valid_at) = ("processing", valid_at);
        self.refresh(number);
        Ok(self.order_reply(200, number))
    }

    fn profile_of(&self, order: &Order) -> super::options::Profile {
        let named = order.profile.as_ref();
        let found = self.options.profiles.iter().find(|it| Some(&it.name) == named);
        found.unwrap_or(&self.options.profiles[0]).clone()
    }

    /// Counts a certificate against the limits, also one whose order was exempt, as Boulder does.
    fn spend(&mut self, order: &Order, now: Timestamp) {
        let set = set_of(&order.identifiers);
        let is_renewal = !self.sets_issued.insert(set.clone());
        let limits = self.options.limits.clone();
        self.buckets.take(&limits, Limit::PerSet, &set, now);
        if !is_renewal {
            let names = order.identifiers.iter().map(|it| registered(&it.value));
            for name in names.collect::<BTreeSet<_>>() {
                self.buckets.take(&limits, Limit::PerRegisteredName, &name, now);
            }
        }
    }

    fn order_reply(&self, status: u16, number: u64) -> Reply {
        Reply::json(status, &self.order_json(number))
            .with("location", self.at(&format!("/order/{number}")))
    }
}

pub(super) fn post_as_get(jws: &Jws) -> Result<(), Reply> {
    let empty = jws.payload.is_empty();
    empty.then_some(()).ok_or_else(|| malformed("POST-as-GET has an empty payload"))
}

fn set_of(identifiers: &[Named]) -> String {
    let mut names: Vec<&str> = identifiers.iter().map(|it| it.value.as_str()).collect();
    names.sort_unstable();
    names.join(" ")
}

fn identifiers(wanted: &Value) -> Result<Vec<Named>, Reply> {
    let list = wanted["identifiers"].as_array().filter(|it| !it.is_empty());
    let list = list.ok_or_else(|| malformed("no identifiers"))?;
    let mut found: Vec<Named> = Vec::new();
    for identifier in list {
        let text = |key: &str| identifier[key].as_str().unwrap_or_default().to_owned();
        let named = Named { kind: text("type"), value: text("value") };
        let fits = match named.kind.as_str() {
            "dns" => {
                let bare = named.value.strip_prefix("*.").unwrap_or(&named.value);
                let fits = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
                bare.contains('.')
                    && bare.split('.').all(|it| !it.is_empty() && it.chars().all(fits))
            }
            "ip" => named.value.parse::<std::net::IpAddr>().is_ok(),
            _ => return Err(Reply::problem(400, "unsupportedIdentifier", "neither dns nor ip")),
        };
        if !fits {
            return Err(Reply::problem(400, "rejectedIdentifier", "not an identifier"));
        }
        if !found.contains(&named) {
            found.push(named);
        }
    }
    Ok(found)
}
