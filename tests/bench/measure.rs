//! Counts what one run of `renewd renew` asks of a friendly Pebble: no refused nonce, no reused
//! authorization, validation at once.
//!
//! Shared by the bench, which prints it, and by `tests/it/requests.rs`, which holds the limits.

use std::fmt::Write;

use crate::site::{ProofBy, Site, SiteOptions, Tls};
use crate::support::{Endpoint, Requests};

/// Orders `certificates` certificates for `names` names each, in one run with an empty state
/// directory, and returns the requests that it made.
///
/// # Panics
///
/// If one of them was not issued.
#[track_caller]
pub(crate) fn measure(certificates: usize, names: usize) -> Requests {
    let identifiers = |certificate: usize| -> Vec<String> {
        (0..names).map(|name| format!("n{name}.c{certificate}.example")).collect()
    };
    let mut further = String::new();
    for certificate in 1..certificates {
        let identifiers = identifiers(certificate);
        writeln!(further, "[[certificate]]\nname = \"c{certificate}\"\ndomains = {identifiers:?}")
            .unwrap();
        writeln!(further, "targets = []\nsolver = \"web-port\"").unwrap();
    }
    let site = Site::with(&SiteOptions {
        identifiers: identifiers(0),
        certificate: further,
        proof: ProofBy::Listener,
        tls: Tls::Later,
        ..SiteOptions::default()
    });
    // Whoever waits for Pebble's start asks for its directory too.
    let before = site.pebble.requests().0.len();
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    let requests = Requests(site.pebble.requests().0.split_off(before));
    assert!(requests.count(Endpoint::Certificate) >= certificates, "{done}");
    requests
}

/// The least that the order flow for `names` names takes at a CA that, as Pebble, neither
/// validates nor issues before it has answered: the order, each authorization and the answer to its
/// challenge, a look that finds the order ready, finalize, a look that finds it valid, the
/// download.
pub(crate) const fn least(names: usize) -> usize {
    2 * names + 5
}
