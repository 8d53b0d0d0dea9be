//! What a certificate costs the CA. The bench prints the same for more cases.

use crate::measure::{least, measure};
use crate::support::Endpoint;

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
