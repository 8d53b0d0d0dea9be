//! What a certificate costs the CA. The bench prints the same for more cases.

use crate::measure::{least, measure};
use crate::support::{Endpoint, Requests};

#[test]
fn one_name_takes_seven_requests_one_nonce_and_one_directory() {
    assert_eq!(least(1), 7);
    // Where the machine or the CA stands still for a second, one look more is made: once of three.
    let requests = (0..3).map(|_| measure(1, 1)).find(|it| it.order_flow() <= least(1));
    let requests = requests.unwrap_or_else(|| panic!("more than {} each time", least(1)));
    assert!(requests.count(Endpoint::NewNonce) <= 1, "{:#?}", requests.0);
    assert!(requests.count(Endpoint::Directory) <= 1, "{:#?}", requests.0);
    assert_eq!(requests.count(Endpoint::NewAccount), 1, "{:#?}", requests.0);
}

#[test]
fn four_side_by_side_take_at_most_one_nonce_and_directory_each() {
    let requests = measure(4, 1);
    assert!(requests.count(Endpoint::NewNonce) <= 4, "{:#?}", requests.0);
    assert!(requests.count(Endpoint::Directory) <= 4, "{:#?}", requests.0);
    assert_eq!(requests.count(Endpoint::NewAccount), 1, "{:#?}", requests.0);
    // One may look a moment too early while the machine is busy with the others.
    assert!(requests.order_flow() <= 4 * (least(1) + 2), "{:#?}", requests.0);
}

/// The harness's own: what Pebble refuses by a fault of its own is no cost.
#[test]
fn an_order_that_pebble_could_not_place_for_its_own_fault_is_not_counted() {
    let log = |serial: &str| {
        let asked = "Pebble POST /order-plz -> calling handler()\n";
        let added = "Pebble Added order \"a\" to the db\n";
        format!(
            "{asked}{added}Pebble Issued certificate serial {serial} for order a\n{asked}{asked}{added}"
        )
    };
    for (serial, orders) in [("a703c3f101fc4d", 2), ("719c2649a0d40729", 3), ("a03c3f101fc4d", 3)] {
        assert_eq!(Requests::read(&log(serial)).count(Endpoint::NewOrder), orders, "{serial}");
    }
}
