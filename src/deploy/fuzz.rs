//! What fuzzing feeds to this module: lines on the deployer's socket, and what an install keeps.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::placement::{Journal, KeptFile};
use super::wire::{self, Answer, MAX_ANSWER, MAX_REQUEST, Request};
use crate::sys::fuzz::block_on;

/// Reads `bytes` as a request and as an answer.
pub fn line(bytes: &[u8]) {
    if let Ok(request) = block_on(wire::read::<Request>(&mut &bytes[..], MAX_REQUEST)) {
        assert!(bytes.len() <= MAX_REQUEST);
        let again = wire::line(&request).unwrap_or_default();
        let again = block_on(wire::read::<Request>(&mut &again[..], MAX_REQUEST));
        assert_eq!(again.ok(), Some(request));
    }
    if let Ok(answer) = block_on(wire::read::<Answer>(&mut &bytes[..], MAX_ANSWER)) {
        let again = wire::answer(answer.result).unwrap_or_default();
        assert!(!again.is_empty() && again.len() <= MAX_ANSWER, "{} bytes", again.len());
    }
}

/// Reads `text` as the journal of an install and as its list of copies. Nothing is done of what
/// they say: it would be done to this machine.
pub fn kept(text: &[u8]) {
    read_again::<Journal>(text);
    read_again::<Vec<KeptFile>>(text);
}

fn read_again<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) {
    let Ok(document) = serde_json::from_slice::<T>(text) else { return };
    let written = serde_json::to_vec(&document).unwrap_or_default();
    let again = serde_json::from_slice(&written);
    assert_eq!(again.ok(), Some(document), "what is written is read as the same");
}
