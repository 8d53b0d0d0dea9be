//! Tells people and programs how things stand: log, status file, alerts. Causes nothing.
//!
//! Not here: how things stand, which [`crate::lifecycle`] finds out.

mod settings;

pub use settings::{AlertSettings, Channel, ReceiverSettings};
