//! Which points there are, and in which flow each is passed.
//!
//! A point stands in the code as `crash::point("NAME")`, or as `crash::point_at("NAME", path)`
//! where it is passed for many files; then each document has a row of its own, `NAME:END OF ITS
//! PATH`. `every_point_of_the_code_has_its_row` holds the two to each other.

use super::scene::Flow;

/// One kill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// What `RENEWD_CRASH_AT` is.
    pub(crate) at: &'static str,
    /// What is being done.
    pub(crate) flow: Flow,
}

const fn row(flow: Flow, at: &'static str) -> Row {
    Row { at, flow }
}

/// In the order in which they are passed.
pub(crate) const ROWS: &[Row] = &[
    row(Flow::First, "atomic.folder_made:private"),
    row(Flow::First, "atomic.renamed:locks/state.json"),
    row(Flow::First, "atomic.renamed:version"),
    row(Flow::First, "atomic.moved:placeholder"),
    row(Flow::First, "atomic.linked:current"),
    row(Flow::First, "atomic.renamed:lab/key.pem"),
    row(Flow::First, "atomic.renamed:lab/account.json"),
    row(Flow::First, "acme.registered"),
    row(Flow::First, "issue.account"),
    row(Flow::First, "atomic.renamed:private/clock.json"),
    row(Flow::First, "atomic.renamed:ledger/lab.json"),
    row(Flow::First, "issue.ordered"),
    row(Flow::First, "atomic.flushed:order.json"),
    row(Flow::First, "issue.shown"),
    row(Flow::First, "issue.after_finalize"),
    row(Flow::First, "store.generation"),
    row(Flow::First, "atomic.moved:installed/site.pem"),
    row(Flow::First, "atomic.renamed:nginx/site.json"),
    row(Flow::First, "atomic.renamed:outbox.json"),
    row(Flow::Renewal, "issue.account"),
    row(Flow::Renewal, "store.removed:next/privkey.pem"),
    row(Flow::Renewal, "atomic.written:next/privkey.pem"),
    row(Flow::Renewal, "atomic.flushed:next/privkey.pem"),
    row(Flow::Renewal, "atomic.renamed:next/privkey.pem"),
    row(Flow::Renewal, "atomic.renamed:ledger/lab.json"),
    row(Flow::Renewal, "issue.ordered"),
    row(Flow::Renewal, "atomic.written:order.json"),
    row(Flow::Renewal, "atomic.renamed:order.json"),
    row(Flow::Renewal, "issue.shown"),
    row(Flow::Renewal, "issue.presented"),
    row(Flow::Renewal, "issue.answered"),
    row(Flow::Renewal, "issue.proven"),
    row(Flow::Renewal, "issue.before_finalize"),
    row(Flow::Renewal, "issue.after_finalize"),
    row(Flow::Renewal, "issue.downloaded"),
    row(Flow::Renewal, "atomic.renamed:fullchain.pem"),
    row(Flow::Renewal, "atomic.renamed:meta.json"),
    row(Flow::Renewal, "store.generation"),
    row(Flow::Renewal, "atomic.link_made:current"),
    row(Flow::Renewal, "atomic.linked:current"),
    row(Flow::Renewal, "store.current"),
    row(Flow::Renewal, "lifecycle.stored"),
    row(Flow::Renewal, "store.removed:order.json"),
    row(Flow::Renewal, "atomic.flushed:site/state.json"),
    row(Flow::Renewal, "atomic.renamed:site/state.json"),
    row(Flow::Renewal, "atomic.renamed:history.jsonl"),
    row(Flow::Renewal, "atomic.renamed:site/accepted.json"),
    row(Flow::Renewal, "atomic.renamed:journal.json"),
    row(Flow::Renewal, "atomic.renamed:files.json"),
    row(Flow::Renewal, "atomic.created"),
    row(Flow::Renewal, "atomic.moved:installed/site.pem"),
    row(Flow::Renewal, "atomic.moved:installed/site.key"),
    row(Flow::Renewal, "atomic.linked:previous"),
    row(Flow::Renewal, "deploy.removed:journal.json"),
    row(Flow::Renewal, "deploy.installed"),
    row(Flow::Renewal, "deploy.before_reload"),
    row(Flow::Renewal, "deploy.removed:site/previous"),
    row(Flow::Renewal, "deploy.reloaded"),
    row(Flow::Renewal, "deploy.verified"),
    row(Flow::Renewal, "atomic.renamed:nginx/site.json"),
    row(Flow::Renewal, "atomic.flushed:outbox.json"),
    row(Flow::Renewal, "atomic.renamed:outbox.json"),
    row(Flow::Renewal, "alerts.sent"),
    row(Flow::RollOver, "atomic.renamed:lab/next_key.pem"),
    row(Flow::RollOver, "acme.rollover_kept"),
    row(Flow::RollOver, "acme.rollover_done"),
    row(Flow::RollOver, "atomic.renamed:lab/former_key.pem"),
    row(Flow::RollOver, "store.account_key"),
    row(Flow::RollOver, "store.removed:lab/next_key.pem"),
    row(Flow::Daemon, "lifecycle.stored"),
    row(Flow::Daemon, "atomic.flushed:status.json"),
    row(Flow::Daemon, "atomic.renamed:status.json"),
];

/// Points of the code that a site at an ACME CA never passes; `killed_while_it_makes_its_own_ca`
/// has them.
pub(crate) const OF_THE_BUILT_IN_CA: &[&str] = &[
    "local_ca.key",
    "atomic.renamed:root-0001/cert.pem",
    "atomic.renamed:intermediate-0001/key.pem",
    "atomic.renamed:intermediate-0001/cert.pem",
];

/// Points that a test of revocation kills at.
pub(crate) const OF_REVOCATION: &[&str] =
    &["lifecycle.revocation_asked", "lifecycle.revocation_done", "lifecycle.revocation_noted"];

/// Points between two CAs, which a test of stand-ins kills at.
pub(crate) const OF_STAND_INS: &[&str] = &["store.order_set_aside", "store.order_taken_up"];
