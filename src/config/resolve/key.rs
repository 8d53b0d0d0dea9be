//! The kinds of a certificate's key: one, or a pair, for which there are two certificates.
//!
//! # Rules
//!
//! 1. Two kinds, one of each family, make two certificates for the same identifiers. Whatever
//!    stands first, the ECDSA one keeps the name, and the RSA one has [`RSA_SUFFIX`] behind it.
//! 2. Two kinds of one family are a fault, since a server shows no client but one of them; so are
//!    more than two.
//! 3. So is a name that gets too long by the suffix.
//! 4. A key that is elsewhere (`csr_file`) is one key, of the kind that its request says.
//!
//! Not here: that no two certificates have one name ([`super::claims`]).

use crate::config::fault::Fault;
use crate::config::field::{At, OneOrMany};
use crate::config::raw::RawCertificate;
use crate::model::{CertificateName, CertificateRequest, KeyFamily, KeyType, MAX_NAME_LENGTH};

/// What the name of the RSA one of a pair ends in.
const RSA_SUFFIX: &str = ".rsa";

/// One certificate that an entry stands for.
#[derive(Clone, Debug)]
pub(super) struct One {
    pub(super) name: CertificateName,
    pub(super) key_type: KeyType,
    /// The request of its key, where that is elsewhere.
    pub(super) request: Option<At<CertificateRequest>>,
    /// The other one of the pair.
    pub(super) paired_with: Option<CertificateName>,
    /// What is shown as its `key`.
    pub(super) shown: Option<At<OneOrMany<KeyType>>>,
}

impl One {
    /// Whether its name was made of that of the other.
    pub(super) fn is_second(&self) -> bool {
        self.paired_with.is_some() && self.key_type.family() == KeyFamily::Rsa
    }
}

/// The certificates of an entry called `name`: one, or a pair. None if the name could not be read.
pub(super) fn each(
    name: Option<CertificateName>,
    layered: &RawCertificate,
    request: Option<At<CertificateRequest>>,
    faults: &mut Vec<Fault>,
) -> Vec<One> {
    let pair = if request.is_none() { pair(layered, faults) } else { None };
    let Some(name) = name else { return Vec::new() };
    let one = |name, key: &At<KeyType>, paired_with| One {
        name,
        key_type: key.value,
        request: request.clone(),
        paired_with,
        shown: Some(key.with(OneOrMany(vec![key.clone()]))),
    };
    if let Some(request) = &request {
        return vec![one(name, &request.with(request.value.key_type), None)];
    }
    let Some([ecdsa, rsa]) = pair else {
        let first = layered.key.as_ref().and_then(|it| it.value.0.first());
        let key_type = first.map_or_else(KeyType::default, |it| it.value);
        let shown = layered.key.clone();
        return vec![One { name, key_type, request, paired_with: None, shown }];
    };
    let Ok(second) = format!("{name}{RSA_SUFFIX}").parse::<CertificateName>() else {
        let longest = MAX_NAME_LENGTH - RSA_SUFFIX.len();
        let message = format!(
            "{name}{RSA_SUFFIX}, which is the RSA one of the pair, is longer than names may be"
        );
        let hint = format!("give it a `name` of at most {longest} characters");
        faults.extend(layered.key.as_ref().map(|it| it.fault(message).hint(hint)));
        return vec![one(name, &ecdsa, None)];
    };
    vec![one(name.clone(), &ecdsa, Some(second.clone())), one(second, &rsa, Some(name))]
}

/// The two kinds of a pair, ECDSA first; `None` where there is one kind, or a fault.
fn pair(layered: &RawCertificate, faults: &mut Vec<Fault>) -> Option<[At<KeyType>; 2]> {
    let at = layered.key.as_ref()?;
    let pair = [KeyType::P256, KeyType::Rsa2048].map(|it| format!("\"{it}\"")).join(", ");
    let hint = format!("write one kind, or a pair such as key = [{pair}]");
    match at.value.0.as_slice() {
        [_] => None,
        [] => {
            faults.push(at.fault("names no kind of key"));
            None
        }
        [one, other] => match (one.value.family(), other.value.family()) {
            (KeyFamily::Ecdsa, KeyFamily::Rsa) => Some([one.clone(), other.clone()]),
            (KeyFamily::Rsa, KeyFamily::Ecdsa) => Some([other.clone(), one.clone()]),
            (family, _) => {
                let message = format!(
                    "{} and {} are both {family}: a pair is one ECDSA and one RSA key",
                    one.value, other.value
                );
                faults.push(other.fault(message).hint(hint));
                None
            }
        },
        more => {
            let message =
                format!("names {} kinds of key: a certificate has one, or a pair", more.len());
            faults.push(at.fault(message).hint(hint));
            None
        }
    }
}
