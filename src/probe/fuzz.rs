//! What fuzzing feeds to this module: what a server may say before TLS begins.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use super::{StartTls, dialogue};
use crate::sys::fuzz::block_on;

const PROTOCOLS: [StartTls; 6] = [
    StartTls::Smtp,
    StartTls::Imap,
    StartTls::Pop3,
    StartTls::Ftp,
    StartTls::Ldap,
    StartTls::Postgresql,
];

/// Has a dialogue with a server that says `words`, behind a first byte that chooses the protocol.
pub fn dialogue(words: &[u8]) {
    let Some((first, mut unread)) = words.split_first() else { return };
    let Some(protocol) = PROTOCOLS.get(usize::from(first % 6)) else { return };
    let mut said = Vec::new();
    let mut stream = tokio::io::join(&mut unread, &mut said);
    if let Err(error) = block_on(dialogue::upgrade(&mut stream, *protocol)) {
        let text = error.to_string();
        assert!(text.len() < 1024 && !text.contains(char::is_control), "{text:?}");
    }
    assert!(said.len() < 64, "we say little: {said:?}");
}
