//! PEM, read and written (RFC 7468): the only user of rustls-pemfile.
//!
//! Input is capped before it is parsed (CVE-2024-12401 was a PEM that burned time). A test holds
//! rustls-pemfile, which is no longer maintained, against `rustls_pki_types::pem`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// No PEM file of ours is larger: a chain of ten certificates with hundreds of names each fits.
pub const MAX_PEM_BYTES: usize = 512 * 1024;

/// A text is not the PEM that was expected.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// More than [`MAX_PEM_BYTES`].
    #[error("is larger than {MAX_PEM_BYTES} bytes")]
    TooLarge,
    /// A section's Base64 or end line is wrong.
    #[error("is not valid PEM")]
    Malformed(#[source] std::io::Error),
    /// There is no section of the kind asked for.
    #[error("holds no {0}")]
    Missing(&'static str),
}

/// All certificates of `pem`, in its order. Other sections are passed over.
///
/// # Errors
///
/// Says whether it is too large, malformed, or holds no certificate.
pub fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let mut pem = checked(pem)?;
    let certificates: Vec<_> =
        rustls_pemfile::certs(&mut pem).collect::<Result<_, _>>().map_err(PemError::Malformed)?;
    if certificates.is_empty() {
        return Err(PemError::Missing("certificate"));
    }
    Ok(certificates)
}

/// The first private key of `pem`, in PKCS#8, PKCS#1 or SEC1.
///
/// # Errors
///
/// Says whether it is too large, malformed, or holds no private key.
pub fn parse_private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    let mut pem = checked(pem)?;
    rustls_pemfile::private_key(&mut pem)
        .map_err(PemError::Malformed)?
        .ok_or(PemError::Missing("private key"))
}

/// The first certificate request of `pem`, as DER; also where older tools labelled it (RFC 7468
/// §7).
///
/// # Errors
///
/// Says whether it is too large, malformed, or holds no request.
pub fn parse_request(pem: &[u8]) -> Result<Vec<u8>, PemError> {
    const OLD: &str = " NEW CERTIFICATE REQUEST-----";
    const LABEL: &str = " CERTIFICATE REQUEST-----";

    let text = String::from_utf8_lossy(checked(pem)?).replace(OLD, LABEL);
    let request = rustls_pemfile::csr(&mut text.as_bytes()).map_err(PemError::Malformed)?;
    request.map(|it| it.as_ref().to_vec()).ok_or(PemError::Missing("certificate request"))
}

/// `certificates` as PEM, one after the other, lines of 64 characters.
#[must_use]
pub fn write_certificates<'a>(
    certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>,
) -> String {
    let mut pem = String::new();
    for certificate in certificates {
        push_section(&mut pem, "CERTIFICATE", certificate);
    }
    pem
}

/// `key` as PEM under the label of its form, and nothing else.
#[must_use]
pub fn write_private_key(key: &PrivateKeyDer<'_>) -> Zeroizing<String> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    // As large as it gets, so that no copy is left behind by growing.
    let mut pem = Zeroizing::new(String::with_capacity(key.secret_der().len() * 2 + 128));
    push_section(&mut pem, label, key.secret_der());
    pem
}

fn push_section(pem: &mut String, label: &str, der: &[u8]) {
    // It may be a key.
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(der));
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
}

fn checked(pem: &[u8]) -> Result<&[u8], PemError> {
    if pem.len() > MAX_PEM_BYTES { Err(PemError::TooLarge) } else { Ok(pem) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    fn certified() -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap()
    }

    #[test]
    fn both_parsers_read_the_same() {
        let (first, second) = (certified(), certified());
        let key = first.signing_key.serialize_pem();
        let texts = [
            first.cert.pem() + &second.cert.pem(),
            format!("some text\n{}\nmore text\n{}{key}", first.cert.pem(), second.cert.pem()),
            first.cert.pem().replace('\n', "\r\n"),
            format!("{key}{}", first.cert.pem()),
        ];
        for text in texts {
            let theirs: Vec<_> =
                CertificateDer::pem_slice_iter(text.as_bytes()).map(Result::unwrap).collect();
            assert_eq!(parse_certificates(text.as_bytes()).unwrap(), theirs);
            let ours = parse_private_key(text.as_bytes()).ok().map(|it| it.secret_der().to_vec());
            let theirs = PrivateKeyDer::from_pem_slice(text.as_bytes())
                .ok()
                .map(|it| it.secret_der().to_vec());
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn what_is_written_is_what_other_writers_write() {
        let certified = certified();
        assert_eq!(
            write_certificates([certified.cert.der()]),
            certified.cert.pem().replace("\r\n", "\n")
        );
    }

    #[test]
    fn a_key_is_written_anew_in_the_form_it_had_and_without_what_stood_around_it() {
        let key = certified().signing_key.serialize_pem().replace("\r\n", "\n");
        let read = parse_private_key(format!("junk\n{key}more\n{key}").as_bytes()).unwrap();
        assert_eq!(*write_private_key(&read), key);
    }

    #[test]
    fn refusals_say_why() {
        assert!(matches!(parse_certificates(b""), Err(PemError::Missing("certificate"))));
        assert!(matches!(parse_private_key(b"nothing"), Err(PemError::Missing("private key"))));
        assert!(matches!(
            parse_certificates(&vec![b'a'; MAX_PEM_BYTES + 1]),
            Err(PemError::TooLarge)
        ));
        let cut = certified().cert.pem().replace("-----END", "");
        assert!(parse_certificates(cut.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_again_whatever_stands_between(
            ders in vec(vec(any::<u8>(), 0..400), 1..5), between in "[ -,.-~\n]{0,80}",
        ) {
            let ders: Vec<CertificateDer<'_>> = ders.into_iter().map(CertificateDer::from).collect();
            let pem = write_certificates(&ders);
            prop_assert!(pem.lines().all(|it| it.len() <= 64));
            let stuffed = pem.replace("-----BEGIN", &format!("{between}\n-----BEGIN"));
            for text in [pem.replace('\n', "\r\n"), stuffed, pem] {
                prop_assert_eq!(parse_certificates(text.as_bytes()).unwrap(), ders.clone());
            }
        }

        #[test]
        fn a_key_of_any_form_is_written_and_read_as_the_same(der in vec(any::<u8>(), 1..400)) {
            for key in [
                PrivateKeyDer::Pkcs1(der.clone().into()),
                PrivateKeyDer::Sec1(der.clone().into()),
                PrivateKeyDer::Pkcs8(der.into()),
            ] {
                prop_assert_eq!(parse_private_key(write_private_key(&key).as_bytes()).unwrap(), key);
            }
        }
    }
}
