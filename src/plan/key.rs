//! Decides which key the next certificate is for.
//!
//! # Rules
//!
//! 1. with `csr_file` the one that signed the request, unless that is in other hands
//! 2. a new one, unless the configuration says `reuse_key` and there is a certificate of a CA
//! 3. never one that is in other hands: what is held is revoked for that, or is to be
//! 4. never one of another kind than is wanted
//! 5. else the key of what is held
//!
//! Where a key was to be used again and can't be, that is told: somebody may have published it.
//!
//! Not here: the key of an order that is under way, which stays as it is; reading any key.

use std::fmt;

use super::Holding;
use crate::model::{CertificateSpec, Fingerprint, KeySource, KeyType};

/// The key of the next certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// A new one, as always.
    New,
    /// That of the held certificate with this identity.
    Same(Fingerprint),
    /// A new one, although it was to be the same.
    NewAlthough(NotReused),
    /// The one that is elsewhere.
    Elsewhere,
    /// None: the one that is elsewhere is in other hands too.
    ElsewhereCompromised,
}

/// Why a key is not used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotReused {
    /// Somebody else has it, or may have it.
    Compromised,
    /// It is not of the wanted kind.
    OtherType(KeyType),
    /// What is stored can't be used.
    Unreadable(String),
    /// The certificate is there, and its key is not.
    Missing,
}

impl fmt::Display for NotReused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compromised => f.write_str("it is in other hands"),
            Self::OtherType(wanted) => write!(f, "it is to be {wanted}"),
            Self::Unreadable(why) => write!(f, "what is stored can't be used: {why}"),
            Self::Missing => f.write_str("it is not there any more"),
        }
    }
}

/// Decides for `spec`, of which `holding` is held, whose key is or is not in other hands.
#[must_use]
pub fn decide(spec: &CertificateSpec, holding: &Holding<'_>, is_compromised: bool) -> KeyChoice {
    match (&spec.key_source, holding) {
        (KeySource::Fresh, _) => return KeyChoice::New,
        (KeySource::Elsewhere(request), Holding::Certificate(held))
            if is_compromised && held.leaf.public_key == request.public_key =>
        {
            return KeyChoice::ElsewhereCompromised;
        }
        (KeySource::Elsewhere(_), _) => return KeyChoice::Elsewhere,
        (KeySource::Kept, _) => {}
    }
    let held = match holding {
        Holding::Nothing => return KeyChoice::New,
        Holding::Unreadable(why) => {
            return KeyChoice::NewAlthough(NotReused::Unreadable((*why).to_owned()));
        }
        Holding::Certificate(held) if held.is_placeholder() => return KeyChoice::New,
        Holding::Certificate(held) => held,
    };
    if is_compromised {
        return KeyChoice::NewAlthough(NotReused::Compromised);
    }
    if held.leaf.key_type != Some(spec.key_type) {
        return KeyChoice::NewAlthough(NotReused::OtherType(spec.key_type));
    }
    KeyChoice::Same(held.fingerprint())
}

#[cfg(test)]
mod tests {
    use super::super::renewal::tests::{held_for, spec};
    use super::*;
    use crate::model::{CertificateRequest, Held, PrivateKey};

    fn kept() -> CertificateSpec {
        CertificateSpec { key_source: KeySource::Kept, ..spec() }
    }

    fn of(held: &Held, is_compromised: bool) -> KeyChoice {
        decide(&kept(), &Holding::Certificate(held), is_compromised)
    }

    #[test]
    fn a_key_is_used_again_only_where_that_is_wanted() {
        let held = held_for(90);
        assert_eq!(of(&held, false), KeyChoice::Same(held.fingerprint()));
        assert_eq!(decide(&spec(), &Holding::Certificate(&held), false), KeyChoice::New);
    }

    #[test]
    fn a_key_that_is_elsewhere_stays_unless_it_is_in_other_hands_too() {
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        let mut parameters = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        // rcgen's own default is no name that could be certified.
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        let request = parameters.serialize_request(&key.pair().unwrap()).unwrap();
        let request = CertificateRequest::parse(request.der()).unwrap();
        let mut held = held_for(90);
        held.leaf.public_key = request.public_key.clone();
        let spec = CertificateSpec { key_source: KeySource::Elsewhere(request), ..spec() };
        let of = |held: &Held, is_compromised| {
            decide(&spec, &Holding::Certificate(held), is_compromised)
        };
        assert_eq!(of(&held, false), KeyChoice::Elsewhere);
        assert_eq!(of(&held, true), KeyChoice::ElsewhereCompromised);
        held.leaf.public_key = vec![1];
        assert_eq!(of(&held, true), KeyChoice::Elsewhere, "there is a new request");
        assert_eq!(decide(&spec, &Holding::Nothing, false), KeyChoice::Elsewhere);
    }

    #[test]
    fn before_there_is_a_certificate_nobody_is_told_of_a_new_key() {
        let placeholder = Held { generation: None, ..held_for(90) };
        assert_eq!(of(&placeholder, false), KeyChoice::New);
        assert_eq!(decide(&kept(), &Holding::Nothing, false), KeyChoice::New);
    }

    #[test]
    fn a_key_in_other_hands_of_another_kind_or_that_is_lost_is_not_used_again() {
        let mut held = held_for(90);
        assert_eq!(of(&held, true), KeyChoice::NewAlthough(NotReused::Compromised));
        held.leaf.key_type = Some(KeyType::Rsa2048);
        let other = NotReused::OtherType(KeyType::P256);
        assert_eq!(of(&held, false), KeyChoice::NewAlthough(other));
        held.leaf.key_type = None;
        assert!(matches!(of(&held, false), KeyChoice::NewAlthough(NotReused::OtherType(_))));
        let broken = decide(&kept(), &Holding::Unreadable("broken"), false);
        assert_eq!(broken, KeyChoice::NewAlthough(NotReused::Unreadable("broken".into())));
    }
}
