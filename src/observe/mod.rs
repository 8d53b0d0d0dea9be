//! Tells people and programs how things stand: log, status file, alerts. Causes nothing.
//!
//! Not here: how things stand, which [`crate::lifecycle`] finds out.

pub mod alert;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod journal;
pub mod log;
mod settings;
pub mod span;
pub mod status_file;
pub mod text;

pub use alert::{Alerts, DeliveryError};
pub use log::{LogFormat, LogObserver};
pub use settings::{AlertSettings, Channel, ReceiverSettings};
