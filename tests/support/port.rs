//! Ports on loopback that nobody uses.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Mutex;

/// Below the range that Linux takes the ports of outgoing connections from, so that a connection
/// of another test cannot take the port between this choice and its use.
const RANGE: std::ops::Range<u16> = 10_000..32_000;

/// Given out by this process; tests run in parallel.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 that is free for TCP and UDP, and not given out twice by this process.
///
/// Another process can still take it first: who starts a peer on it looks for that and tries
/// another one.
#[must_use]
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let port = fastrand::u16(RANGE);
        let address = (Ipv4Addr::LOCALHOST, port);
        let free = TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok();
        if free && TAKEN.lock().unwrap().insert(port) {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1 in {RANGE:?}");
}
