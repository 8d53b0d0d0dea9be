//! Chooses among the chains that a CA offers for one certificate (RFC 8555 §7.4.2).
//!
//! # Rules
//!
//! - A chain that ends at the preferred issuer is better than one that only passes it.
//! - Of several that are as good, the CA's own choice comes first.
//! - An alternate that does not come, is no chain or is for another certificate is passed over;
//!   where none fits, the CA's own choice is taken, with a warning.
//!
//! Not here: fetching them ([`crate::acme::Order`]).

use crate::acme::Order;
use crate::model::{CertificateSpec, Chain, Event, chain_text, escaped};

use super::Issuer;

impl Issuer {
    /// Of the chains of `order`, whose own choice is `default`, the one that `spec` prefers.
    pub(super) async fn preferred(
        &self,
        spec: &CertificateSpec,
        order: &Order,
        default: Chain,
    ) -> Chain {
        let Some(preferred) = &spec.preferred_chain else { return default };
        if ends_at(&default, preferred) {
            return default;
        }
        let mut chains = vec![default.clone()];
        for url in order.alternates() {
            match alternate(order, url, &default).await {
                Ok(chain) => chains.push(chain),
                Err(error) => {
                    tracing::warn!(certificate = %spec.name, url, error, "alternate chain not used");
                }
            }
        }
        if let Some(chain) = choose(&chains, preferred) {
            return chain.clone();
        }
        let offered = chains.iter().filter_map(|it| it.issuer_names().pop());
        self.observer.observe(&Event::ChainNotOffered {
            certificate: spec.name.clone(),
            preferred: preferred.clone(),
            offered: offered.map(|it| escaped(&it)).collect(),
        });
        default
    }
}

/// The chain at `url`, which must be for the certificate of `default`.
async fn alternate(order: &Order, url: &str, default: &Chain) -> Result<Chain, String> {
    let pem = order.download_alternate(url).await.map_err(|it| chain_text(&it))?;
    let chain = Chain::parse_pem(pem.as_bytes()).map_err(|it| chain_text(&it))?;
    if chain.leaf.sha256 == default.leaf.sha256 {
        Ok(chain)
    } else {
        Err("it is for another certificate".to_owned())
    }
}

/// The first of `chains` that ends at an issuer called `preferred`, else the first that passes one.
fn choose<'a>(chains: &'a [Chain], preferred: &str) -> Option<&'a Chain> {
    let passes = |it: &&Chain| it.issuer_names().iter().any(|name| name == preferred);
    chains.iter().find(|it| ends_at(it, preferred)).or_else(|| chains.iter().find(passes))
}

fn ends_at(chain: &Chain, preferred: &str) -> bool {
    chain.issuer_names().last().is_some_and(|it| it == preferred)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SigningKey,
    };

    use super::*;

    fn authority(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn leaf_of(issuer: &CertifiedIssuer<'_, impl SigningKey>) -> rcgen::Certificate {
        let params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap()
    }

    /// A chain that ends at Old Root by way of New Root, and one that ends at New Root.
    fn long_and_short() -> [Chain; 2] {
        let key = || KeyPair::generate().unwrap();
        let old = CertifiedIssuer::self_signed(authority("Old Root"), key()).unwrap();
        let new = CertifiedIssuer::signed_by(authority("New Root"), key(), &old).unwrap();
        let inter = CertifiedIssuer::signed_by(authority("Intermediate"), key(), &new).unwrap();
        let leaf = leaf_of(&inter);
        let short = vec![leaf.der().clone(), inter.der().clone()];
        let long = [short.clone(), vec![new.der().clone()]].concat();
        [long, short].map(|it| Chain::from_der(it).unwrap())
    }

    #[test]
    fn a_chain_that_ends_at_the_preferred_issuer_is_better_than_one_that_passes_it() {
        let both = long_and_short();
        let [long, short] = &both;
        assert_eq!(choose(&both, "New Root"), Some(short));
        assert_eq!(choose(&both, "Old Root"), Some(long));
        assert_eq!(choose(&both, "Intermediate"), Some(long), "both pass it: the first");
        assert_eq!(choose(&both, "Nobody"), None);
        assert_eq!(choose(&both, ""), None);
    }

    #[test]
    fn the_issuers_of_a_chain_are_named_from_the_leaf_up() {
        let [long, short] = long_and_short();
        assert_eq!(long.issuer_names(), ["Intermediate", "New Root", "Old Root"]);
        assert_eq!(short.issuer_names(), ["Intermediate", "New Root"]);
    }
}
