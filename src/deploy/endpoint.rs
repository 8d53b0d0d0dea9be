//! One question to one endpoint for one name, and what its answer means.
//!
//! Not here: asking all of them, and again ([`super::verify()`]).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::VerifySettings;
use crate::model::{Identifier, KeyFamily, Leaf, Timestamp};
use crate::probe::{self, Approach, ProbeError, Served};
use crate::sys::clock::Clock;

/// How long a name may take to resolve, and one handshake to be made.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// From one handshake to the next in a row. nginx lets old and new workers accept side by side for
/// 100 ms (and longer on a loaded machine): handshakes made at once may all meet a new one while
/// the next client meets an old one.
const BETWEEN_HANDSHAKES: Duration = Duration::from_millis(200);

/// How long one endpoint may take for one name in all, whatever its name resolves to.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);

/// How much of a stranger's serial number is repeated, in characters: twice what RFC 5280 §4.1.2.2
/// allows.
const MAX_SERIAL_LENGTH: usize = 80;

/// An endpoint did not serve the certificate.
#[derive(Debug, thiserror::Error)]
pub enum EndpointFault {
    /// It showed no certificate.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// It shows nothing to a client that takes keys of one family alone.
    #[error("{address} shows no certificate to a client that takes {family} keys alone")]
    NoneOfFamily {
        /// Which of the endpoint's addresses.
        address: SocketAddr,
        /// What the client takes.
        family: KeyFamily,
        /// How the handshake ended.
        #[source]
        source: Box<ProbeError>,
    },
    /// It serves another certificate for the name.
    #[error("{address} serves another one for it: serial {serial}, valid until {not_after}")]
    Another {
        /// Which of the endpoint's addresses.
        address: SocketAddr,
        /// The serial number of what it serves.
        serial: String,
        /// Its last moment.
        not_after: Timestamp,
    },
    /// It serves a certificate that is not for the name.
    #[error(
        "{address} serves a certificate for {}: serial {serial}, valid until {not_after}",
        names.as_deref().unwrap_or("no name")
    )]
    Foreign {
        /// Which of the endpoint's addresses.
        address: SocketAddr,
        /// Some of the names of what it serves.
        names: Option<String>,
        /// The serial number of what it serves.
        serial: String,
        /// Its last moment.
        not_after: Timestamp,
    },
    /// It shows the certificate, and none whose holder signed it.
    #[error("{address} shows the certificate without the one that it was signed with ({issuer})")]
    IssuerMissing {
        /// Which of the endpoint's addresses.
        address: SocketAddr,
        /// The issuer's name.
        issuer: String,
    },
    /// It shows the certificate and can't prove that it holds the key.
    #[error("{address} shows the certificate and does not prove that it holds the key")]
    KeyNotProven {
        /// Which of the endpoint's addresses.
        address: SocketAddr,
    },
}

impl EndpointFault {
    /// What a human can do about it at the endpoint `address`.
    #[must_use]
    pub fn hint(&self, address: &str) -> String {
        match self {
            Self::Probe(ProbeError::Connect { .. } | ProbeError::TimedOut { .. }) => format!(
                "is the server running, and does it listen at {address}? If not, correct verify \
                 of the target"
            ),
            Self::Probe(_) => format!("does {address} speak TLS? Correct verify of the target"),
            Self::NoneOfFamily { address, .. } => format!(
                "the certificate is one of a pair: has the server at {address} both? `renewd show` \
                 prints the lines"
            ),
            Self::KeyNotProven { .. } => format!(
                "does the server at {address} read the files that `renewd show` names, and does \
                 the target's reload make it read them again?"
            ),
            Self::Another { .. } => format!(
                "have the server at {address} use the files that `renewd show` names, and the \
                 target's reload make it read them again. If it is not to show this certificate, \
                 take the target out, or say in its verify, or in verify_names, what to ask for"
            ),
            Self::IssuerMissing { .. } => format!(
                "clients that lack that one refuse the connection: have the server at {address} \
                 use fullchain.pem or combined.pem, which `renewd show` names, instead of \
                 cert.pem or a chain file of its own"
            ),
            Self::Foreign { .. } => format!(
                "is there a server for that name at {address}? If not, correct domains, \
                 verify_names, or verify of the target"
            ),
        }
    }

    /// Whether clients that ask for the name are shown a certificate for it, and not as it should
    /// be: who shows one serves the name.
    pub(super) const fn is_of_the_name(&self) -> bool {
        matches!(
            self,
            Self::Another { .. } | Self::IssuerMissing { .. } | Self::KeyNotProven { .. }
        )
    }

    /// Whether somebody is there who knows the other certificate of the pair at most.
    pub(super) const fn lacks_family(&self) -> bool {
        matches!(self, Self::NoneOfFamily { .. })
    }

    /// Whether nobody was there to answer.
    pub(super) const fn is_absence(&self) -> bool {
        matches!(self, Self::Probe(ProbeError::Connect { .. } | ProbeError::Resolve { .. }))
    }
}

/// What an endpoint answered, at the last of its addresses that was asked.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// What it served, if anything.
    pub(super) served: Option<Leaf>,
    /// Why that is not what is wanted.
    pub(super) fault: Option<EndpointFault>,
}

impl Answer {
    /// The serial number of what was served.
    pub(super) fn serial(&self) -> Option<String> {
        self.served.as_ref().map(serial)
    }
}

/// What is asked, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inquiry<'a> {
    /// The certificate that is to be served.
    pub(super) wanted: &'a Leaf,
    /// Whether its issuer has to be shown with it.
    pub(super) needs_issuer: bool,
    /// The only keys that the client takes, if not all.
    pub(super) only: Option<KeyFamily>,
    /// How many handshakes in a row have to show it.
    pub(super) times: usize,
    /// Tells how long to wait between them.
    pub(super) clock: &'a dyn Clock,
}

/// Asks `endpoint` for `name`, as often as `inquiry` says at each of its addresses, until one
/// answer is not what is wanted. Ends within [`QUESTION_LIMIT`].
pub(super) async fn ask(
    endpoint: &VerifySettings,
    name: &Identifier,
    inquiry: Inquiry<'_>,
) -> Answer {
    let asking = async {
        match probe::resolve(&endpoint.address, HANDSHAKE_LIMIT).await {
            Ok(addresses) => {
                let approach = Approach { starttls: endpoint.starttls, only: inquiry.only };
                ask_each(&addresses, approach, name, inquiry).await
            }
            Err(error) => error.into(),
        }
    };
    timeout(QUESTION_LIMIT, asking).await.unwrap_or_else(|_elapsed| {
        let address = endpoint.address.clone();
        ProbeError::TimedOut { address, limit: QUESTION_LIMIT }.into()
    })
}

async fn ask_each(
    addresses: &[SocketAddr],
    approach: Approach,
    name: &Identifier,
    inquiry: Inquiry<'_>,
) -> Answer {
    let mut answer = Answer::default();
    for address in addresses {
        for turn in 0..inquiry.times {
            if turn > 0 {
                inquiry.clock.sleep(BETWEEN_HANDSHAKES).await;
            }
            match probe::ask_at(*address, name, approach, HANDSHAKE_LIMIT).await {
                Ok(served) => {
                    answer.fault = fault(&served, name, inquiry);
                    answer.served = Some(served.leaf);
                }
                Err(error) => {
                    answer = Answer { served: None, fault: Some(no_answer(error, approach)) };
                }
            }
            if answer.fault.is_some() {
                return answer;
            }
        }
    }
    answer
}

impl From<ProbeError> for Answer {
    fn from(error: ProbeError) -> Self {
        Self { served: None, fault: Some(error.into()) }
    }
}

fn no_answer(error: ProbeError, approach: Approach) -> EndpointFault {
    match (error, approach.only) {
        (source @ ProbeError::Handshake { address, .. }, Some(family)) => {
            EndpointFault::NoneOfFamily { address, family, source: Box::new(source) }
        }
        (error, _) => error.into(),
    }
}

fn fault(served: &Served, name: &Identifier, inquiry: Inquiry<'_>) -> Option<EndpointFault> {
    let Served { leaf, address, .. } = served;
    let (address, serial, not_after) = (*address, serial(leaf), leaf.validity.not_after);
    if leaf.sha256 == inquiry.wanted.sha256 {
        if !served.key_proven {
            return Some(EndpointFault::KeyNotProven { address });
        }
        let is_incomplete = inquiry.needs_issuer && !shows_issuer(served);
        let issuer = inquiry.wanted.issuer.clone();
        return is_incomplete.then_some(EndpointFault::IssuerMissing { address, issuer });
    }
    if leaf.covers(name) {
        return Some(EndpointFault::Another { address, serial, not_after });
    }
    let names: Vec<String> = leaf.identifiers.iter().take(3).map(ToString::to_string).collect();
    let names = (!names.is_empty()).then(|| names.join(", "));
    Some(EndpointFault::Foreign { address, names, serial, not_after })
}

/// Whether the leaf's issuer was shown with it. By name, at any place (RFC 8446 §4.4.2), and
/// whoever signed it in turn: one that is cross-signed serves as well.
fn shows_issuer(served: &Served) -> bool {
    let issuers = served.chain.iter().skip(1).filter_map(|it| Leaf::parse(it).ok());
    issuers.map(|it| it.subject_der).any(|it| it == served.leaf.issuer_der)
}

fn serial(leaf: &Leaf) -> String {
    leaf.serial_text().chars().take(MAX_SERIAL_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;

    use super::*;
    use crate::probe::test_server::{Certified, TestServer};
    use crate::sys::clock::SystemClock;

    #[test]
    fn a_certificate_that_is_shown_without_its_key_is_not_served() {
        let Certified { leaf, .. } = Certified::new(&["example.com"]);
        let name = "example.com".parse().unwrap();
        let address = "127.0.0.1:443".parse().unwrap();
        let clock = SystemClock::new();
        let inquiry = inquiry(&leaf, &clock);
        let served =
            |key_proven| Served { leaf: leaf.clone(), chain: Vec::new(), key_proven, address };
        let found = fault(&served(false), &name, inquiry);
        assert!(matches!(found, Some(EndpointFault::KeyNotProven { .. })), "{found:?}");
        assert!(fault(&served(true), &name, inquiry).is_none());
    }

    fn inquiry<'a>(wanted: &'a Leaf, clock: &'a dyn Clock) -> Inquiry<'a> {
        Inquiry { wanted, needs_issuer: false, only: None, times: 3, clock }
    }

    #[test]
    fn the_issuer_is_to_be_shown_with_the_certificate_at_any_place_whoever_signed_it() {
        let own = Certified::issued_by("Intermediate 1", &["example.com"]);
        let [cross_signed, other] = ["Intermediate 1", "Intermediate 2"]
            .map(|it| Certified::issued_by(it, &["example.com"]).chain[1].clone());
        let (name, clock) = ("example.com".parse().unwrap(), SystemClock::new());
        let found = |issuers: &[&CertificateDer<'static>], needs_issuer| {
            let issuers = issuers.iter().map(|it| (*it).clone());
            let chain = own.chain.iter().take(1).cloned().chain(issuers).collect();
            let address = "127.0.0.1:443".parse().unwrap();
            let served = Served { leaf: own.leaf.clone(), chain, key_proven: true, address };
            fault(&served, &name, Inquiry { needs_issuer, ..inquiry(&own.leaf, &clock) })
        };
        let garbage = CertificateDer::from(vec![0x30, 0]);
        for complete in [&[&own.chain[1]][..], &[&other, &garbage, &own.chain[1]], &[&cross_signed]]
        {
            assert!(found(complete, true).is_none(), "{complete:?}");
        }
        for incomplete in [&[][..], &[&other], &[&garbage], &[&own.chain[0]]] {
            let fault = found(incomplete, true).unwrap();
            assert!(fault.to_string().contains("(CN=Intermediate 1)"), "{fault}");
            assert!(fault.hint("web:443").contains("web:443 use fullchain.pem"), "{fault:?}");
            assert!(found(incomplete, false).is_none(), "there is none to be shown");
        }
    }

    #[tokio::test]
    async fn every_address_of_a_host_name_has_to_serve_it() {
        let [old, new] = [(); 2].map(|()| Certified::new(&["example.com"]));
        let name = "example.com".parse().unwrap();
        let servers = [TestServer::start(&new), TestServer::start(&old)];
        let addresses: Vec<_> = servers.iter().map(|it| it.address).collect();
        let clock = SystemClock::new();
        let inquiry = inquiry(&new.leaf, &clock);
        let approach = Approach::default();
        let answer = ask_each(&addresses, approach, &name, inquiry).await;
        let Some(EndpointFault::Another { address, .. }) = answer.fault else {
            panic!("{answer:?}")
        };
        assert_eq!(address, servers[1].address);
        assert_eq!((servers[0].accepted(), servers[1].accepted()), (3, 1));
        servers[1].show(&[&new]);
        assert!(ask_each(&addresses, approach, &name, inquiry).await.fault.is_none());
    }
}
