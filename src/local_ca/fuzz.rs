//! What fuzzing feeds to this module: the certificates of a built-in CA, as a disk may have left
//! them.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use super::hierarchy::{Hierarchy, Step};
use super::{Authority, LocalCaSettings, NewRoot};
use crate::model::{AuthorityLabel, AuthorityRecord, AuthorityRole, CaName, Timestamp};

/// Where one certificate ends and the next one begins.
const END: &str = "-----END CERTIFICATE-----";

/// Reads `text` as the certificates of a CA, a root first and intermediates behind it, and decides
/// what is to be done next.
pub fn kept(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let Ok(name) = "inside".parse::<CaName>() else { return };
    let (mut settings, mut moments) = (LocalCaSettings::new(name), vec![Timestamp::MAX]);
    let mut records = Vec::new();
    for (number, certificate) in (1..9).zip(text.split_inclusive(END)) {
        let role = if number == 1 { AuthorityRole::Root } else { AuthorityRole::Intermediate };
        let label = AuthorityLabel { role, number };
        let certificate = Some(certificate.as_bytes().to_vec());
        records.push(AuthorityRecord { label, certificate, has_key: true });
    }
    for authority in records.iter().filter_map(|it| Authority::parse(it).ok()) {
        let validity = authority.facts.validity;
        moments.extend([validity.not_before, validity.not_after]);
        settings.permitted = authority.permitted;
    }
    let Ok(hierarchy) = Hierarchy::of(&records) else { return };
    for (now, new_root) in
        moments.iter().flat_map(|it| [(*it, NewRoot::InTime), (*it, NewRoot::ByHand)])
    {
        let _anchors = hierarchy.trust_anchors(&settings, now);
        if let Ok(Step::Sign { signer, root }) = hierarchy.next_step(&settings, new_root, now) {
            let valid =
                |label| hierarchy.get(label).is_some_and(|it| it.facts.validity.contains(now));
            assert!(valid(signer) && valid(root), "{signer} signs below {root} at {now}");
        }
    }
}
