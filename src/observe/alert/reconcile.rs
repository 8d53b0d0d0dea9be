//! Compares what is wrong with what has been told, and says what is to be told now.
//!
//! # Rules
//!
//! - A trouble that is new is told; one that is told already only when its severity rises.
//! - A trouble that is gone is told as resolved, unless it went on as a worse one or found its
//!   cause (expiring, then expired): then both are resolved together.
//! - What is there and is not told yet, or no longer (a clock was set), does not end what was told.
//! - Of a certificate that is wanted and could not be looked at nothing is known: what is open
//!   stays. While a part of the configuration is refused, any that was told of may be wanted.
//! - What a receiver missed, since its queue was full, waits for it anew as soon as there is room.
//! - More than [`MAX_SINGLE_MESSAGES`] at once: the worst singly, the rest as one summary for each
//!   kind and severity.
//!
//! # Not here
//!
//! Who gets which message: [`AlertBook::enqueue`].

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{CertificateName, Condition, Fingerprint, Health, StatusDocument, Timestamp};
use crate::observe::{AlertSettings, ReceiverSettings};

use super::book::{AlertBook, MAX_QUEUE, OpenAlert, wants};
use super::message::{AlertType, Message, Resolved, severity_text};
use super::trouble::{Trouble, present};
use super::undelivered;

/// How many messages one pass makes singly.
pub const MAX_SINGLE_MESSAGES: usize = 20;

/// What is neither to be told nor over.
#[derive(Debug, Default)]
pub struct Unsettled {
    /// The keys of all that is wrong, however short a time.
    present: BTreeSet<String>,
    /// The certificates that are wanted, or may be, and could not be looked at.
    unseen: BTreeSet<CertificateName>,
}

impl Unsettled {
    /// What it is at `now`, with what was told in `book`.
    #[must_use]
    pub fn of(
        status: &StatusDocument,
        settings: &AlertSettings,
        book: &AlertBook,
        now: Timestamp,
    ) -> Self {
        let seen: BTreeSet<_> = status.certificates.iter().map(|it| &it.name).collect();
        let told = book.open.values().filter(|_| settings.is_partial);
        let wanted = settings.wanted.iter().chain(told.flat_map(|it| &it.message.certificates));
        Self {
            present: present(status, settings, now),
            unseen: wanted.filter(|it| !seen.contains(it)).cloned().collect(),
        }
    }
}

/// What is to be told at `now`, with `troubles` being all that is wrong for long enough, and
/// `unsettled` what else may be; afterwards `book` says that it was told.
#[must_use = "what is in the book counts as told"]
pub fn reconcile(
    book: &mut AlertBook,
    troubles: &[Trouble],
    unsettled: &Unsettled,
    now: Timestamp,
) -> Vec<Message> {
    let mut messages = over(book, troubles, unsettled, now);
    for trouble in troubles {
        messages.extend(news(book, trouble, now));
    }
    // The worst first, for the limit cuts at the end.
    messages.sort_by_key(|it| std::cmp::Reverse(it.worst()));
    grouped(messages, now)
}

/// The message that `trouble` is worth, if it is new or worse than told.
fn news(book: &mut AlertBook, trouble: &Trouble, now: Timestamp) -> Option<Message> {
    let Some(open) = book.open.get_mut(&trouble.key) else {
        let message = Message::of_trouble(trouble, now);
        let open = OpenAlert { opened_at: now, message: message.clone() };
        book.open.insert(trouble.key.clone(), open);
        return Some(message);
    };
    open.message.certificates.clone_from(&trouble.affected);
    if trouble.severity <= open.message.severity {
        return None;
    }
    // The machine may have a new name by now; the receiver knows the trouble by the old one.
    let known = Trouble { host: open.message.host.clone(), ..trouble.clone() };
    open.message = Message::of_trouble(&known, now);
    Some(open.message.clone())
}

/// Takes out of the book what is over, and says so.
fn over(
    book: &mut AlertBook,
    troubles: &[Trouble],
    unsettled: &Unsettled,
    now: Timestamp,
) -> Vec<Message> {
    let is_told = |key: &str| troubles.iter().any(|it| it.key == key);
    let is_there = |key: &str| is_told(key) || unsettled.present.contains(key);
    let may_be_there = |open: &OpenAlert| {
        let of = &open.message.certificates;
        !of.is_empty() && of.iter().all(|it| unsettled.unseen.contains(it))
    };
    let ended: Vec<String> = book
        .open
        .iter()
        .filter(|(key, open)| !is_there(key) && !may_be_there(open) && !goes_on(open, troubles))
        .map(|(key, _)| key.clone())
        .collect();
    let ended = ended.iter().filter_map(|key| book.open.remove(key));
    ended.map(|open| open.message.resolved(now)).collect()
}

fn goes_on(open: &OpenAlert, troubles: &[Trouble]) -> bool {
    let Some(certificate) = &open.message.certificate else { return false };
    troubles
        .iter()
        .any(|it| open.message.kind.continues_as(it.kind) && it.affected.contains(certificate))
}

/// Lets wait anew for each of `receivers` what it missed and is not over, where there is room now.
pub fn retell(book: &mut AlertBook, receivers: &[ReceiverSettings], now: Timestamp) {
    /// For the single messages, and as many summaries as there can be.
    const ROOM: usize = 2 * MAX_SINGLE_MESSAGES;

    for receiver in receivers {
        let Some(queue) = book.queues.get_mut(&receiver.name) else { continue };
        if queue.missed.is_empty() || queue.messages.len().saturating_add(ROOM) > MAX_QUEUE {
            continue;
        }
        let keys = std::mem::take(&mut queue.missed);
        let open = book.open.values().map(|it| &it.message);
        let missed = open.filter(|it| keys.contains(&it.dedup_key) && wants(receiver, it));
        let mut missed: Vec<Message> = missed.cloned().collect();
        missed.sort_by_key(|it| std::cmp::Reverse(it.worst()));
        grouped(missed, now).into_iter().for_each(|it| queue.push(it));
    }
}

/// `messages`, with what is beyond the limit made into summaries.
fn grouped(mut messages: Vec<Message>, now: Timestamp) -> Vec<Message> {
    if messages.len() <= MAX_SINGLE_MESSAGES {
        return messages;
    }
    let rest = messages.split_off(MAX_SINGLE_MESSAGES);
    // Not for all of those that a summary is for.
    let (alone, rest): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|it| undelivered::is_of_any(&it.dedup_key));
    messages.extend(alone);
    let mut groups: BTreeMap<(AlertType, Option<AlertType>, Health), Vec<Message>> =
        BTreeMap::new();
    for message in rest {
        let ended = message.resolves.map(|it| it.kind);
        groups.entry((message.kind, ended, message.worst())).or_default().push(message);
    }
    messages.extend(groups.into_values().filter_map(|members| summary(members, now)));
    messages
}

fn summary(members: Vec<Message>, now: Timestamp) -> Option<Message> {
    if members.len() < 2 {
        return members.into_iter().next();
    }
    let first = members.first()?;
    let what = first.kind;
    let mut message = Message {
        severity: first.severity,
        since: members.iter().filter_map(|it| it.since).min(),
        attempts: members.iter().map(|it| it.attempts).max().unwrap_or_default(),
        not_after: members.iter().filter_map(|it| it.not_after).min(),
        next_attempt_at: members.iter().filter_map(|it| it.next_attempt_at).min(),
        resolves: first.resolves.map(|it| Resolved { severity: first.worst(), ..it }),
        dedup_key: format!("{}/{}/summary-{}", first.host, group(first), now.unix_seconds()),
        ..Message::plain(
            what,
            &first.host,
            format!("{} more alerts of the type {what}{}", members.len(), names(&members)),
            now,
        )
    };
    for member in &members {
        for name in &member.certificates {
            if !message.certificates.contains(name) {
                message.certificates.push(name.clone());
            }
        }
    }
    message.alerts = members.iter().map(Message::as_affected).collect();
    Some(message.with_id())
}

/// What the members of one summary have in common, as a part of its key.
fn group(first: &Message) -> String {
    let ended = first.resolves.map(|it| format!("-of-{}", it.kind));
    format!("{}{}-{}", first.kind, ended.unwrap_or_default(), severity_text(first.worst()))
}

/// The first few names of those in `members`, and how many more there are.
fn names(members: &[Message]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = members
        .iter()
        .filter_map(|it| it.certificate.as_ref().map(CertificateName::as_str))
        .take(SHOWN)
        .collect();
    match members.len().saturating_sub(shown.len()) {
        _ if shown.is_empty() => String::new(),
        0 => format!(": {}", shown.join(", ")),
        rest => format!(": {} and {rest} more", shown.join(", ")),
    }
}

/// The certificates renewed since `book` last saw them; afterwards it knows the new ones.
///
/// A certificate that the book never saw is only taken note of: after a lost book nothing was
/// renewed.
#[must_use = "what is in the book counts as told"]
pub fn renewals(book: &mut AlertBook, status: &StatusDocument, now: Timestamp) -> Vec<Message> {
    let held: BTreeMap<CertificateName, Option<Fingerprint>> =
        status.certificates.iter().map(|it| (it.name.clone(), held(it))).collect();
    let mut messages = Vec::new();
    for certificate in &status.certificates {
        let is_new = match (book.held.get(&certificate.name), held.get(&certificate.name)) {
            (Some(before), Some(Some(now_held))) => before.as_ref() != Some(now_held),
            _ => false,
        };
        if is_new {
            let end = certificate.not_after.map_or_else(String::new, |it| format!(" until {it}"));
            let title = format!("{} was renewed and is valid{end}", certificate.name);
            let plain = Message::plain(AlertType::CertificateRenewed, &status.host, title, now);
            let message = Message {
                dedup_key: format!("{}/{}", plain.dedup_key, certificate.name),
                certificate: Some(certificate.name.clone()),
                certificates: vec![certificate.name.clone()],
                ca: certificate.ca.clone(),
                not_after: certificate.not_after,
                command: format!("renewd status {}", certificate.name),
                ..plain
            };
            messages.push(message.with_id());
        }
    }
    book.held = held;
    grouped(messages, now)
}

/// The identity of the real certificate that is held, if one is.
fn held(certificate: &crate::model::CertificateStatus) -> Option<Fingerprint> {
    match certificate.condition {
        Condition::Missing | Condition::Placeholder => None,
        _ => certificate.sha256,
    }
}

#[cfg(test)]
mod tests;
