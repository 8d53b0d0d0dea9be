//! What fuzzing feeds to this module: the record of alerts, as it may lie on the disk.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use super::alert::AlertBook;

/// Reads `text` as the record of alerts, and what is written of it again.
pub fn alert_book(text: &[u8]) {
    let Ok(book) = serde_json::from_slice::<AlertBook>(text) else { return };
    let written = serde_json::to_vec(&book).unwrap_or_default();
    assert_eq!(serde_json::from_slice(&written).ok(), Some(book));
}
