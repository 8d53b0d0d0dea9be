//! Prints how many requests a certificate costs the CA, beside the least that the protocol allows.
//!
//! Counts come from Pebble's log; nothing is timed, so any build profile gives the same:
//! `cargo bench --profile dev --bench requests`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench may panic, and prints"
)]

#[expect(dead_code, reason = "helpers that tests alone need")]
#[path = "../it/site.rs"]
mod site;
#[path = "../support/mod.rs"]
pub mod support;

mod measure;

use support::Endpoint;

/// Certificates in one run, and names of each.
const CASES: [(usize, usize); 5] = [(1, 1), (1, 3), (1, 10), (1, 100), (4, 1)];

fn main() {
    println!(
        "certificates  names of each  order flow of each  least  newNonce  directory  account"
    );
    for (certificates, names) in CASES {
        let requests = measure::measure(certificates, names);
        let flow = requests.order_flow();
        let each = match flow.is_multiple_of(certificates) {
            true => (flow / certificates).to_string(),
            false => format!("{flow}/{certificates}"),
        };
        println!(
            "{certificates:>12}  {names:>13}  {each:>18}  {:>5}  {:>8}  {:>9}  {:>7}",
            measure::least(names),
            requests.count(Endpoint::NewNonce),
            requests.count(Endpoint::Directory),
            requests.count(Endpoint::NewAccount),
        );
    }
}
