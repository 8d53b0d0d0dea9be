//! The targets by name. `main.rs` feeds them what libFuzzer makes up, and `tests/seeds.rs`, which
//! takes this file in, what is kept in `seeds/`.

use renewd::{
    acme, api, config, deploy, local_ca, model, observe, plan, probe, solver, store, sys,
};

/// What a target is fed with.
pub(crate) type Target = fn(&[u8]);

/// Everything that reads what a stranger sent, a crash left or a tenant wrote.
pub(crate) const TARGETS: [(&str, Target); 14] = [
    ("acme_objects", acme::fuzz::objects),
    ("pem_chain", model::fuzz::pem_chain),
    ("certificate", model::fuzz::certificate),
    ("config", config::fuzz::file),
    ("dns_message", solver::fuzz::dns_message),
    ("state_documents", state_documents),
    ("client_hello", solver::fuzz::client_hello),
    ("http01_request", solver::fuzz::http01_request),
    ("api", api::fuzz::control),
    ("deployer_line", deploy::fuzz::line),
    ("names", model::fuzz::names),
    ("headers", acme::fuzz::headers),
    ("advice", plan::fuzz::advice),
    ("printed", printed),
];

fn state_documents(text: &[u8]) {
    store::fuzz::documents(text);
    observe::fuzz::alert_book(text);
    plan::fuzz::kept(text);
    deploy::fuzz::kept(text);
    local_ca::fuzz::kept(text);
}

/// What programs and servers say in plain words.
fn printed(bytes: &[u8]) {
    sys::fuzz::output(bytes);
    probe::fuzz::dialogue(bytes);
}
