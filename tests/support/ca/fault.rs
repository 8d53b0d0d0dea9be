//! How the CA misbehaves, at which step, and how often.

use std::fmt;
use std::sync::Arc;

use renewd::model::Timestamp;
use serde_json::Value;

use super::model::Model;
use super::reply::Reply;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The directory.
    Directory,
    /// newNonce.
    NewNonce,
    /// newAccount.
    NewAccount,
    /// An account.
    Account,
    /// keyChange.
    KeyChange,
    /// newOrder.
    NewOrder,
    /// A look at an order.
    Order,
    /// A look at an authorization, or its deactivation.
    Authorization,
    /// The answer to a challenge.
    Challenge,
    /// finalize.
    Finalize,
    /// The certificate with its default chain.
    Certificate,
    /// Another chain.
    Alternate,
    /// renewalInfo (RFC 9773).
    RenewalInfo,
    /// revokeCert.
    Revoke,
    /// What is nothing of all that.
    Elsewhere,
}

/// How often, or when, a fault happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Times {
    /// So many times, then no more.
    Count(u32),
    /// Each time, until [`super::ScriptedCa::mend`].
    Always,
    /// From the first moment to before the second.
    Between(Timestamp, Timestamp),
    /// By chance, this share of the requests.
    Share(f64),
}

/// What a fault changes in an answer that is otherwise right.
pub(super) type Change = Arc<dyn Fn(&mut Reply) + Send + Sync>;
/// What happens at the CA before a request is looked at.
pub(super) type Deed = Arc<dyn Fn(&mut Model) + Send + Sync>;

/// What happens in place of the right answer.
#[derive(Clone)]
pub enum How {
    /// The request is not looked at, and answered so.
    Instead(Reply),
    /// The request is carried out, and its answer changed.
    Changed(Change),
    /// Something happens first; then the request is carried out.
    After(Deed),
    /// The request is not looked at; the connection ends without an answer.
    Closed,
    /// The request is not looked at; no answer comes, ever.
    Silent,
    /// The request is carried out; the connection ends without an answer.
    DoneThenClosed,
    /// The request is carried out; no answer comes, ever.
    DoneThenSilent,
    /// The request is carried out; the answer comes a byte a second.
    Dripping,
    /// The request is carried out; the answer ends in the middle of its body.
    Cut,
    /// The answer has no end.
    Endless,
}

impl How {
    /// An empty answer with `status`.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Instead(Reply::empty(status))
    }

    /// A problem document.
    #[must_use]
    pub fn problem(status: u16, kind: &str) -> Self {
        Self::Instead(Reply::problem(status, kind, "as scripted"))
    }

    /// A page such as a proxy's.
    #[must_use]
    pub fn page(status: u16, body: &'static str) -> Self {
        Self::Instead(Reply::text(status, "text/html", body))
    }

    /// Another body, of the right content type.
    #[must_use]
    pub fn body(body: impl Into<bytes::Bytes>) -> Self {
        let body = body.into();
        Self::Changed(Arc::new(move |reply| reply.body = body.clone()))
    }

    /// Sends the client elsewhere.
    #[must_use]
    pub fn redirect(status: u16, to: &str) -> Self {
        Self::Instead(Reply::empty(status).with("location", to))
    }

    /// Changes the JSON of the right answer.
    #[must_use]
    pub fn edit(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::Changed(Arc::new(move |reply| reply.edit(&change)))
    }

    /// Changes the right answer.
    #[must_use]
    pub fn change(change: impl Fn(&mut Reply) + Send + Sync + 'static) -> Self {
        Self::Changed(Arc::new(change))
    }

    /// The right answer with other values of one header; none takes it away.
    #[must_use]
    pub fn header(name: &'static str, values: &[&str]) -> Self {
        let values: Vec<String> = values.iter().map(|&it| it.to_owned()).collect();
        Self::change(move |reply| {
            reply.headers.retain(|(it, _)| it != name);
            reply.headers.extend(values.iter().map(|it| (name.to_owned(), it.clone())));
        })
    }

    /// Something happens at the CA first.
    #[must_use]
    pub fn after(deed: impl Fn(&mut Model) + Send + Sync + 'static) -> Self {
        Self::After(Arc::new(deed))
    }

    /// The same with a header more, where it is an answer in place of the right one.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        match self {
            Self::Instead(reply) => Self::Instead(reply.with(name, value)),
            other => other,
        }
    }
}

impl fmt::Debug for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instead(_) => "Instead",
            Self::Changed(_) => "Changed",
            Self::After(_) => "After",
            Self::Closed => "Closed",
            Self::Silent => "Silent",
            Self::DoneThenClosed => "DoneThenClosed",
            Self::DoneThenSilent => "DoneThenSilent",
            Self::Dripping => "Dripping",
            Self::Cut => "Cut",
            Self::Endless => "Endless",
        })
    }
}

/// One kind of misbehaviour.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Where; `None` for everywhere.
    pub at: Option<Step>,
    /// What.
    pub how: How,
    /// How often.
    pub times: Times,
}

/// Takes the fault that happens to a request at `step`, if one does.
pub(super) fn take(
    faults: &mut Vec<Fault>,
    step: Step,
    now: Timestamp,
    random: &mut fastrand::Rng,
) -> Option<How> {
    let position = faults.iter().position(|it| {
        it.at.is_none_or(|at| at == step)
            && match it.times {
                Times::Count(left) => left > 0,
                Times::Always => true,
                Times::Between(from, until) => from <= now && now < until,
                Times::Share(share) => random.f64() < share,
            }
    })?;
    let fault = &mut faults[position];
    let how = fault.how.clone();
    if let Times::Count(left) = &mut fault.times {
        *left -= 1;
        if *left == 0 {
            faults.remove(position);
        }
    }
    Some(how)
}
