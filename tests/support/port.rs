//! Ports on loopback that nobody uses.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Below the range that Linux takes the ports of outgoing connections from, so that a connection
/// of another test cannot take the port between this choice and its use.
const RANGE: std::ops::Range<u16> = 10_000..32_000;

/// So many ports are taken hold of at once.
const BLOCK: u16 = 100;

/// What this process has not given out yet, of blocks that it holds until it ends.
static HELD: Mutex<Held> = Mutex::new(Held { blocks: Vec::new(), ports: RANGE.start..RANGE.start });

struct Held {
    /// Names that only one process can have; the kernel takes them back.
    blocks: Vec<UnixListener>,
    ports: std::ops::Range<u16>,
}

/// A port of 127.0.0.1 that is free for TCP and UDP, and not given out twice by this process, nor
/// by another one that runs these tests beside it.
///
/// Another program can still take it first: who starts a peer on it looks for that and tries
/// another one.
#[must_use]
pub fn free_port() -> u16 {
    let mut held = HELD.lock().unwrap();
    for _ in 0..10_000 {
        let Some(port) = held.ports.next() else {
            held.take_block();
            continue;
        };
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1 in {RANGE:?}");
}

impl Held {
    /// Takes hold of another block, if one that is chosen at random is free.
    fn take_block(&mut self) {
        let first = RANGE.start + fastrand::u16(..(RANGE.end - RANGE.start) / BLOCK) * BLOCK;
        let name = format!("renewd-tests-ports-{first}");
        let name = SocketAddr::from_abstract_name(name).unwrap();
        if let Ok(block) = UnixListener::bind_addr(&name) {
            self.blocks.push(block);
            self.ports = first..first + BLOCK;
        }
    }
}
