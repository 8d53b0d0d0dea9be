//! What fuzzing feeds to this module: documents of the state directory, as a crash, a disk or
//! another version may have left them.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Key;
use super::directory::Holder;
use super::generation::Meta;
use super::opening::Version;
use crate::model::{
    AccountRecord, CertificateState, ClockRecord, KeptList, LedgerRecord, OrderRecord,
    PendingRevocation, PresentedRecord, StandingWatch, StatusDocument, TargetState, Timestamp,
};

/// Reads `text` as each document there is, and what is written of it again.
pub fn documents(text: &[u8]) {
    if let Some(state) = kept::<CertificateState>(text) {
        let _waits = state.attempts.waits_until(Timestamp::EPOCH);
        let _forbidden = state.attempts.forbidden_until(Timestamp::MAX);
    }
    kept::<TargetState>(text);
    kept::<AccountRecord>(text);
    kept::<OrderRecord>(text);
    kept::<PresentedRecord>(text);
    kept::<PendingRevocation>(text);
    kept::<KeptList>(text);
    kept::<StandingWatch>(text);
    kept::<LedgerRecord>(text);
    kept::<ClockRecord>(text);
    kept::<Holder>(text);
    kept::<Version>(text);
    drop(serde_json::from_slice::<Meta>(text));
    drop(serde_json::from_slice::<StatusDocument>(text));
    if let Some(key) = Key::parse(&String::from_utf8_lossy(text)) {
        let path = std::path::Path::new(key.as_str());
        let is_below = |it| matches!(it, std::path::Component::Normal(_));
        assert!(path.components().all(is_below) && !path.as_os_str().is_empty(), "{key}");
    }
}

fn kept<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) -> Option<T> {
    let document: T = serde_json::from_slice(text).ok()?;
    let written = serde_json::to_vec_pretty(&document).unwrap_or_default();
    let again = serde_json::from_slice(&written);
    assert_eq!(again.ok().as_ref(), Some(&document), "what is written is read as the same");
    Some(document)
}
