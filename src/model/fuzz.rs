//! What fuzzing feeds to this module: PEM, certificates, lists of revoked ones, and names.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{
    AuthorityLabel, CertificateId, CertificateName, Chain, Fingerprint, Generation, Identifier,
    KeyType, Leaf, MAX_CHAIN_LENGTH, PrivateKey, Share, StandingRecord, Timestamp, Token, escaped,
    look_up, pem, revocation_list_urls,
};

/// Reads `text` as a chain and as a key, and writes both anew.
pub fn pem_chain(text: &[u8]) {
    let theirs: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_slice_iter(text).collect();
    if let (Ok(ours), Ok(theirs)) = (pem::parse_certificates(text), theirs) {
        assert_eq!(ours, theirs, "both parsers read the same");
    }
    let chain = Chain::parse_pem(text).ok();
    if let Some(chain) = &chain {
        assert!(chain.certificates().len() <= MAX_CHAIN_LENGTH);
        assert_eq!(chain.issuer_names().len(), chain.certificates().len());
        assert_eq!(chain.leaf_pem() + &chain.issuers_pem(), chain.full_pem());
        let again = Chain::parse_pem(chain.full_pem().as_bytes());
        assert_eq!(again.ok().as_ref(), Some(chain), "what is written is read as the same");
    }
    let Ok(key) = PrivateKey::from_pem(text) else { return };
    let fits = key.public_key().is_ok_and(|it| chain.is_some_and(|one| one.leaf.public_key == it));
    // The deployer judges by one reading of the text and writes another.
    let written = key.secret_der().map(|it| pem::write_private_key(&it));
    let again = written.ok().and_then(|it| PrivateKey::from_pem(it.as_bytes()).ok());
    assert_eq!(again.and_then(|it| it.public_key().ok()), key.public_key().ok(), "fits: {fits}");
}

/// Reads a certificate; or, behind a first byte that is odd, a list, a certificate and its
/// issuer's, the first two with two bytes of length in front.
pub fn certificate(input: &[u8]) {
    match input.split_first() {
        Some((kind, rest)) if kind % 2 == 1 => {
            let (list, rest) = part(rest);
            let (certificate, issuer) = part(rest);
            if let Ok(listing) = look_up(list, certificate, issuer) {
                assert!(listing.listed.is_none_or(|it| !it.reason.is_empty()));
            }
        }
        Some((_, der)) => check_certificate(der),
        None => {}
    }
}

fn part(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return (bytes, &[]) };
    rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()))
}

fn check_certificate(der: &[u8]) {
    drop(revocation_list_urls(der));
    let Ok(leaf) = Leaf::parse(der) else { return };
    for identifier in &leaf.identifiers {
        assert_eq!(identifier.value().parse().as_ref(), Ok(identifier), "in normal form");
        assert!(leaf.covers(identifier));
        check_name(&CertificateName::for_identifier(identifier));
    }
    if let Some(id) = CertificateId::of(&leaf) {
        let parts: Option<Vec<Vec<u8>>> =
            id.as_str().split('.').map(|it| BASE64_URL_SAFE_NO_PAD.decode(it).ok()).collect();
        let expected =
            leaf.authority_key_identifier.clone().map(|it| vec![it, leaf.serial.clone()]);
        assert_eq!(parts, expected, "RFC 9773 §4.1");
    }
    assert!(leaf.serial_text().bytes().all(|it| it.is_ascii_hexdigit()));
    let (first, last) = (leaf.validity.not_before, leaf.validity.not_after);
    assert!(leaf.validity.life_left(Timestamp::EPOCH) <= leaf.validity.lifetime());
    assert_eq!(last.since(first), leaf.validity.lifetime());
    let chain = Chain::from_der(vec![CertificateDer::from(der.to_vec())]);
    let chain = chain.ok().filter(|it| it.leaf == leaf);
    assert!(chain.is_some(), "one certificate is a chain");
    let _exactly = chain.map(|it| it.is_for_exactly(&leaf.identifiers));
}

/// Reads `text` as each of the names that strangers give, or that become part of a path.
pub fn names(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let text = text.as_ref();
    if let Ok(identifier) = text.parse::<Identifier>() {
        let normal = identifier.value();
        assert_eq!(normal.parse().as_ref(), Ok(&identifier), "normal form is final");
        assert!(normal.len() <= 255 && normal.is_ascii(), "{normal}");
        assert!(!normal.contains(['/', '\\', '\0', ' ']) && !normal.starts_with('.'), "{normal}");
        check_name(&CertificateName::for_identifier(&identifier));
    }
    if let Ok(name) = text.parse::<CertificateName>() {
        check_name(&name);
    }
    if let Ok(token) = text.parse::<Token>() {
        assert!(!token.as_str().contains(['/', '.']));
    }
    if let Ok(generation) = text.parse::<Generation>() {
        assert_eq!(generation.to_string(), text);
    }
    if let Ok(label) = text.parse::<AuthorityLabel>() {
        assert_eq!(label.to_string(), text);
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        assert!(moment <= Timestamp::MAX);
        assert_eq!(moment.to_string().parse::<Timestamp>().ok(), Some(moment));
    }
    if let Ok(share) = text.parse::<Share>() {
        assert!(share.of(std::time::Duration::MAX) <= std::time::Duration::from_millis(u64::MAX));
    }
    if let Ok(fingerprint) = Fingerprint::try_from(text.to_owned()) {
        assert_eq!(fingerprint.to_string(), text.to_ascii_lowercase());
    }
    drop(text.parse::<KeyType>());
    let safe = escaped(text);
    assert!(!safe.contains(char::is_control), "{safe:?}");
    let standing = StandingRecord::plain(vec!["ca.example".into()], "https://ca.example/1", true);
    let _state = standing.judge(text.lines(), Timestamp::EPOCH);
}

/// A name is one folder, and no other.
#[track_caller]
fn check_name(name: &CertificateName) {
    let text = name.as_str();
    assert_eq!(text.parse::<CertificateName>().as_ref(), Ok(name));
    let path = std::path::Path::new(text);
    let parts: Vec<_> = path.components().collect();
    assert!(matches!(parts[..], [std::path::Component::Normal(one)] if one == text), "{text:?}");
}
