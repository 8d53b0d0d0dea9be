//! A CA with several chains: each can be preferred.

use x509_parser::pem::Pem;

use crate::site::{NAME, ProofBy, Site, SiteOptions, Tls};
use crate::support::{Endpoint, PebbleOptions, write};

/// A site at a CA with two alternate chains beside its own choice.
fn site() -> Site {
    Site::with(&SiteOptions {
        pebble: PebbleOptions { alternate_roots: 2, ..PebbleOptions::default() },
        proof: ProofBy::Listener,
        tls: Tls::Later,
        ..SiteOptions::default()
    })
}

/// The common names of the CA's three roots.
#[track_caller]
fn roots(site: &Site) -> Vec<String> {
    let subject = |index: u8| {
        let pem = site.pebble.management(&format!("roots/{index}"));
        let (pem, _) = Pem::read(std::io::Cursor::new(pem)).unwrap();
        let root = pem.parse_x509().unwrap();
        root.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
    };
    (0..3).map(subject).collect()
}

/// The issuer at whom the held chain ends.
#[track_caller]
fn end_of_chain(site: &Site) -> String {
    let path = site.workspace.certificate(NAME).join("current/fullchain.pem");
    let last = Pem::iter_from_buffer(&std::fs::read(path).unwrap()).last().unwrap().unwrap();
    let last = last.parse_x509().unwrap();
    last.issuer().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
}

/// Prefers the chain to `root` and renews what is due by that; returns what was said.
#[track_caller]
fn prefer(site: &Site, root: &str) -> String {
    let config = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    let others = config.lines().filter(|it| !it.starts_with("preferred_chain"));
    let config: String = others.map(|it| format!("{it}\n")).collect();
    write(&site.workspace.config_file(), format!("{config}preferred_chain = {root:?}\n"));
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    done.stderr
}

#[test]
fn each_chain_of_the_ca_can_be_preferred_and_no_order_is_placed_for_one_that_is_held() {
    let site = site();
    assert_eq!(site.renewd(&["renew"]).code, 0);
    let roots = roots(&site);
    assert_eq!(end_of_chain(&site), roots[0]);
    for (orders, root) in (1..).zip(&roots) {
        prefer(&site, root);
        assert_eq!(&end_of_chain(&site), root);
        let placed = site.pebble.requests().count(Endpoint::NewOrder);
        assert_eq!(placed, orders, "the first is held already");
        prefer(&site, root);
        assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), orders);
    }
}

#[test]
fn a_chain_that_the_ca_does_not_offer_is_done_without_and_asked_for_once() {
    let site = site();
    assert_eq!(site.renewd(&["renew"]).code, 0);
    let told = prefer(&site, "No Such Root");
    assert!(told.contains("the CA does not offer the preferred chain"), "{told}");
    let roots = roots(&site);
    assert!(roots.iter().all(|it| told.contains(it)), "{told}");
    assert_eq!(end_of_chain(&site), roots[0]);
    prefer(&site, "No Such Root");
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 2);
}
