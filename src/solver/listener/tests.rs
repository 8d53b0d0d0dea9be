//! The listener, speaking HTTP, asked over real sockets on ports that the system chooses.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::model::Explain;
use crate::solver::tests::proof;
use crate::sys::activation::Sockets;

/// Far longer than anything here takes, and shorter than the limits of a connection.
const SOON: Duration = Duration::from_secs(8);

const LOCAL: &str = "127.0.0.1:0";
const PATH: &str = "/.well-known/acme-challenge";

fn listener(addresses: &[&str]) -> Listener {
    let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
    Listener::new(Dialogue::Http01, addresses, &HandedSockets::default()).unwrap()
}

fn only_address(listener: &Listener) -> SocketAddr {
    let [address] = listener.bound_addresses()[..] else { panic!("not one address") };
    address
}

/// Reads to the end of the connection; what it is cut off by counts as its end.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut answer)).await;
    drop(read.expect("the connection is not closed"));
    String::from_utf8(answer).unwrap()
}

async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

async fn get(address: SocketAddr, host: &str, path: &str) -> String {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
}

#[track_caller]
fn assert_shown(answer: &str, token: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/octet-stream\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{token}.thumbprint")), "{answer}");
}

#[track_caller]
fn assert_nothing(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "says more than it should: {answer}");
}

/// Whether nobody listens at `address`. A program that another test starts just now may hold a
/// socket that was closed for a moment.
async fn is_refused(address: SocketAddr) -> bool {
    for _ in 0..200 {
        let answer = TcpStream::connect(address).await;
        if answer.is_err_and(|it| it.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn a_proof_is_shown_on_every_address_and_all_are_closed_after_it() {
    let listener = listener(&[LOCAL, LOCAL, "[::1]:0"]);
    assert!(listener.bound_addresses().is_empty());
    let presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    let addresses = listener.bound_addresses();
    assert_eq!(addresses.len(), 3);
    for &address in &addresses {
        assert_shown(&get(address, "example.com", &format!("{PATH}/abc")).await, "abc");
        assert_shown(&get(address, "EXAMPLE.COM:80", &format!("{PATH}/abc")).await, "abc");
    }
    presented.clean_up().await.unwrap();
    assert!(listener.bound_addresses().is_empty());
    for address in addresses {
        assert!(is_refused(address).await, "{address} is still open");
    }
}

#[tokio::test]
async fn only_a_known_token_on_its_host_is_answered() {
    let listener = listener(&[LOCAL]);
    let _first = listener.present(&proof("example.com", "abc")).await.unwrap();
    let _second = listener.present(&proof("2001:db8::1", "def")).await.unwrap();
    let address = only_address(&listener);

    assert_shown(&get(address, "[2001:DB8::1]:80", &format!("{PATH}/def")).await, "def");
    assert_nothing(&get(address, "example.com", &format!("{PATH}/def")).await);
    assert_nothing(&get(address, "[2001:db8::1]", &format!("{PATH}/abc")).await);
    assert_nothing(&get(address, "www.example.com", &format!("{PATH}/abc")).await);
    for path in ["/", "/x/../abc", "/%2e%2e/abc", "/abc?x", "/abc/", "/ab", "/%61bc"] {
        assert_nothing(&get(address, "example.com", &format!("{PATH}{path}")).await);
    }
    let without_host = format!("GET {PATH}/abc HTTP/1.1\r\n\r\n");
    assert_nothing(&send(address, &without_host).await);
}

#[tokio::test]
async fn a_head_gets_the_head_and_other_methods_get_nothing() {
    let listener = listener(&[LOCAL]);
    let _presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    let address = only_address(&listener);
    let head = |method| format!("{method} {PATH}/abc HTTP/1.1\r\nHost: example.com\r\n");

    let answer = send(address, &format!("{}\r\n", head("HEAD"))).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-length: 14\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_nothing(&send(address, &format!("{}\r\n", head("DELETE"))).await);
    // The body that is announced never comes, and nobody waits for it.
    let announced = format!("{}Content-Length: 1000000\r\n\r\n", head("POST"));
    assert_nothing(&send(address, &announced).await);
}

#[tokio::test]
async fn several_proofs_share_the_sockets_until_the_last_one_goes() {
    let listener = listener(&[LOCAL]);
    let first = listener.present(&proof("example.com", "abc")).await.unwrap();
    let address = only_address(&listener);
    // The same authorization may belong to two orders.
    let again = listener.present(&proof("example.com", "abc")).await.unwrap();
    let other = listener.present(&proof("example.org", "def")).await.unwrap();
    assert_eq!(only_address(&listener), address);

    first.clean_up().await.unwrap();
    assert_shown(&get(address, "example.com", &format!("{PATH}/abc")).await, "abc");
    drop(again);
    assert_nothing(&get(address, "example.com", &format!("{PATH}/abc")).await);
    assert_shown(&get(address, "example.org", &format!("{PATH}/def")).await, "def");
    drop(other);
    assert!(is_refused(address).await);
}

#[tokio::test]
async fn a_panic_takes_the_proof_away() {
    let listener = Arc::new(listener(&[LOCAL]));
    let presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    let address = only_address(&listener);
    let task = tokio::spawn(async move {
        let _presented = presented;
        panic!("as a test");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert!(is_refused(address).await);
}

#[tokio::test]
async fn the_same_port_can_be_opened_again_at_once() {
    let first = listener(&[LOCAL]);
    let presented = first.present(&proof("example.com", "abc")).await.unwrap();
    let address = only_address(&first);
    assert_shown(&get(address, "example.com", &format!("{PATH}/abc")).await, "abc");
    drop(presented);
    let listener =
        Listener::new(Dialogue::Http01, vec![address], &HandedSockets::default()).unwrap();
    for _ in 0..20 {
        let presented = listener.present(&proof("example.com", "abc")).await.unwrap();
        assert_shown(&get(address, "example.com", &format!("{PATH}/abc")).await, "abc");
        presented.clean_up().await.unwrap();
        listener.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_taken_address_is_named_and_no_other_stays_open() {
    let other = std::net::TcpListener::bind(LOCAL).unwrap();
    let taken = other.local_addr().unwrap();
    let listener = Listener::new(
        Dialogue::Http01,
        vec![LOCAL.parse().unwrap(), taken],
        &HandedSockets::default(),
    )
    .unwrap();
    let checked = listener.check().await.unwrap_err();
    let presented = listener.present(&proof("example.com", "abc")).await.unwrap_err();
    for error in [checked, presented] {
        assert_eq!(error.to_string(), format!("cannot listen on {taken}"));
        assert!(error.hint().unwrap().contains(&format!("sport = :{}", taken.port())));
    }
    assert!(listener.bound_addresses().is_empty());
}

#[tokio::test]
async fn a_check_leaves_nothing_open_and_passes_while_a_proof_is_shown() {
    let listener = listener(&[LOCAL]);
    listener.check().await.unwrap();
    assert!(listener.bound_addresses().is_empty());
    let presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    listener.check().await.unwrap();
    let address = only_address(&listener);
    assert_shown(&get(address, "example.com", &format!("{PATH}/abc")).await, "abc");
    presented.clean_up().await.unwrap();
}

#[tokio::test]
async fn what_is_not_suited_opens_nothing() {
    let listener = listener(&[LOCAL]);
    let error = listener.present(&proof("*.example.com", "abc")).await.unwrap_err();
    assert_eq!(error.code(), "solver.unsuited");
    assert!(listener.bound_addresses().is_empty());
}

#[tokio::test]
async fn any_ipv6_address_takes_ipv4_only_where_no_other_socket_does() {
    // No other test listens at this one of the loopback addresses.
    let own = Ipv4Addr::new(127, 77, 0, 1);
    let over_v4 = |bound: SocketAddr| SocketAddr::from((own, bound.port()));
    let alone = listener(&["[::]:0"]);
    let _presented = alone.present(&proof("example.com", "abc")).await.unwrap();
    let address = over_v4(only_address(&alone));
    assert_shown(&get(address, "example.com", &format!("{PATH}/abc")).await, "abc");

    let both = listener(&["[::]:0", "0.0.0.0:0"]);
    let _presented = both.present(&proof("example.com", "abc")).await.unwrap();
    let [v6, v4] = both.bound_addresses()[..] else { panic!("not two addresses") };
    assert!(is_refused(over_v4(v6)).await);
    assert_shown(&get(over_v4(v4), "example.com", &format!("{PATH}/abc")).await, "abc");
}

#[tokio::test]
async fn silent_and_dripping_clients_are_cut_off() {
    let mut listener = listener(&[LOCAL]);
    listener.limits.head = Duration::from_millis(300);
    let _presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    let mut silent = TcpStream::connect(only_address(&listener)).await.unwrap();
    let dripping = TcpStream::connect(only_address(&listener)).await.unwrap();
    let (mut reading, mut writing) = dripping.into_split();
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    let mut answer = Vec::new();
    let end = async { drop(reading.read_to_end(&mut answer).await) };
    let cut_off = async {
        tokio::select! { () = drip => {}, () = end => {} }
    };
    timeout(SOON, cut_off).await.expect("drips for ever");
    assert!(!read_all(&mut silent).await.contains("200"));
}

#[tokio::test]
async fn the_whole_connection_has_a_deadline_too() {
    let mut listener = listener(&[LOCAL]);
    listener.limits.total = Duration::from_millis(300);
    let _presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    let mut silent = TcpStream::connect(only_address(&listener)).await.unwrap();
    assert_eq!(read_all(&mut silent).await, "");
}

#[tokio::test]
async fn a_hundred_silent_clients_do_not_keep_the_ca_out() {
    let listener = listener(&[LOCAL]);
    let _presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    let address = only_address(&listener);
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // Both in less time than a silent client is borne.
    assert_shown(&get(address, "example.com", &format!("{PATH}/abc")).await, "abc");
    // 64 at once: the oldest 37 had to go for the others and for ours, and no more than these.
    for stream in &mut silent[..37] {
        assert_eq!(read_all(stream).await, "");
    }
    for stream in &silent[37..] {
        let nothing_yet = stream.try_read(&mut [0]).unwrap_err();
        assert_eq!(nothing_yet.kind(), io::ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn clients_are_cut_off_when_the_last_proof_goes() {
    let listener = listener(&[LOCAL]);
    let presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    let address = only_address(&listener);
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_shown(&get(address, "example.com", &format!("{PATH}/abc")).await, "abc");
    presented.clean_up().await.unwrap();
    assert_eq!(read_all(&mut silent).await, "");
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let listener = listener(&[LOCAL]);
    let _presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    let request =
        format!("GET {PATH}/abc HTTP/1.1\r\nHost: example.com\r\nX: {}", "x".repeat(9000));
    let answer = send(only_address(&listener), &request).await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn a_socket_that_was_handed_over_answers_always_and_is_shared_by_old_and_new_solvers() {
    let socket = std::net::TcpListener::bind(LOCAL).unwrap();
    let address = socket.local_addr().unwrap();
    let handed = HandedSockets::new(Sockets::of_tcp([socket]));
    let [old, new] =
        [(); 2].map(|()| Listener::new(Dialogue::Http01, vec![address], &handed).unwrap());
    let ask = async || get(address, "example.com", &format!("{PATH}/abc")).await;
    assert_nothing(&ask().await);
    new.check().await.unwrap();

    let presented = old.present(&proof("example.com", "abc")).await.unwrap();
    // Whoever accepts knows it.
    for _ in 0..20 {
        assert_shown(&ask().await, "abc");
    }
    let other = new.present(&proof("example.com", "other")).await.unwrap();
    assert_shown(&get(address, "example.com", &format!("{PATH}/other")).await, "other");
    other.clean_up().await.unwrap();
    drop(new);
    assert_shown(&ask().await, "abc");
    presented.clean_up().await.unwrap();
    drop(old);
    // It is systemd's: neither closed nor left to fill up.
    assert_nothing(&ask().await);
    assert!(old_and_own(&handed, address).await);
}

/// Whether a solver with an address of its own beside a handed one shows its proof on both, and
/// closes its own after it.
async fn old_and_own(handed: &HandedSockets, address: SocketAddr) -> bool {
    let listener =
        Listener::new(Dialogue::Http01, vec![address, LOCAL.parse().unwrap()], handed).unwrap();
    let presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    let own = only_address(&listener);
    for address in [address, own] {
        assert_shown(&get(address, "example.com", &format!("{PATH}/abc")).await, "abc");
    }
    presented.clean_up().await.unwrap();
    is_refused(own).await
}
