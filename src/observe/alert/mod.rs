//! Alerts: who must be told of what, and that they really are.
//!
//! [`troubles`] says what is wrong in this moment, from the status document and nothing else;
//! [`AlertBook`] compares that with what has been told and makes a [`Message`] of each difference;
//! [`Alerts`] keeps the book on disk and brings the messages to their receivers.
//!
//! Not here: any effect on a renewal. Whoever calls waits for no network.

mod alertmanager;
mod book;
mod deliver;
mod message;
mod reconcile;
mod signature;
mod trouble;
mod undelivered;
mod wording;

pub use book::{AlertBook, BookError, Fault, MAX_QUEUE, OpenAlert, Queue, Queued};
pub use deliver::{Alerts, DeliveryError};
pub use message::{Affected, AlertType, Message, Resolved};
pub use reconcile::{MAX_SINGLE_MESSAGES, Unsettled, reconcile, renewals, retell};
pub use trouble::{ACCOUNT_CODES, CA_CODES, Trouble, troubles};
pub use undelivered::{ALERTS_UNDELIVERED, ALERTS_UNKEPT};

#[cfg(test)]
pub(crate) mod testing;
