//! What stands between an agent and a real CA: it lets everything through, is not there, or answers
//! by itself as a CA in trouble does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use super::port::free_port;
use super::wait::eventually;

/// How long its port may take to be free again.
const LIMIT: Duration = Duration::from_secs(20);

/// How it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The CA answers.
    Open,
    /// Connections are refused.
    Closed,
    /// Each request is answered with this status and head, and a problem of this type (RFC 8555
    /// §6.7).
    Answering {
        /// The status.
        status: u16,
        /// A line of the head, such as `Retry-After: 3600`; empty for none.
        head: String,
        /// The last part of the problem's type.
        problem: String,
    },
}

/// A front before a CA whose address is `behind`.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    behind: SocketAddr,
    tls: Arc<ServerConfig>,
    open: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    ends: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    listening: JoinHandle<()>,
}

impl Front {
    /// Stands before the CA at `behind`, open; what it answers by itself it answers with the
    /// certificate `server.pem` and the key `server.key` in `folder`.
    #[must_use]
    #[track_caller]
    pub fn start(behind: SocketAddr, folder: &Path) -> Self {
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(folder.join("server.pem"))
                .unwrap()
                .map(Result::unwrap)
                .collect();
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
        let address = (Ipv4Addr::LOCALHOST, free_port()).into();
        let mut front = Self { address, behind, tls: Arc::new(tls), open: None };
        front.be(&Manner::Open);
        front
    }

    /// The directory URL through it.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.address.port())
    }

    /// Behaves as `manner` says from now on; connections that there are end.
    #[track_caller]
    pub fn be(&mut self, manner: &Manner) {
        self.close();
        if *manner == Manner::Closed {
            return;
        }
        // A child that another test forks at this moment has our listener until it becomes a
        // program.
        let listener = eventually(LIMIT, "the port of the front is free again", || {
            TcpListener::bind(self.address)
        });
        let (ends, streams) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let opened = Opening {
            ends: Arc::clone(&ends),
            streams: Arc::clone(&streams),
            behind: self.behind,
            tls: Arc::clone(&self.tls),
            manner: manner.clone(),
        };
        let listening = thread::spawn(move || opened.listen(&listener));
        self.open = Some(Opened { ends, streams, listening });
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        open.ends.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        drop(open.listening.join());
        for stream in open.streams.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the thread needs that listens.
struct Opening {
    ends: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    behind: SocketAddr,
    tls: Arc<ServerConfig>,
    manner: Manner,
}

impl Opening {
    fn listen(&self, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            if self.ends.load(Ordering::SeqCst) {
                return;
            }
            self.streams.lock().unwrap().extend(stream.try_clone());
            match &self.manner {
                Manner::Answering { status, head, problem } => {
                    let tls = Arc::clone(&self.tls);
                    let answer = answer(*status, head, problem);
                    thread::spawn(move || refuse(stream, tls, &answer));
                }
                _ => self.pass(&stream),
            }
        }
    }

    /// Joins `stream` with the CA, both ways.
    fn pass(&self, stream: &TcpStream) {
        let Ok(behind) = TcpStream::connect(self.behind) else { return };
        self.streams.lock().unwrap().extend(behind.try_clone());
        let ways =
            [(stream.try_clone(), behind.try_clone()), (behind.try_clone(), stream.try_clone())];
        for way in ways {
            let (Ok(mut from), Ok(mut to)) = way else { return };
            thread::spawn(move || {
                drop(std::io::copy(&mut from, &mut to));
                drop(to.shutdown(Shutdown::Write));
            });
        }
    }
}

fn answer(status: u16, head: &str, problem: &str) -> String {
    let body = format!(
        "{{\"type\":\"urn:ietf:params:acme:error:{problem}\",\"detail\":\"as the test says\"}}"
    );
    let head = if head.is_empty() { String::new() } else { format!("{head}\r\n") };
    format!(
        "HTTP/1.1 {status} Refused\r\nContent-Type: application/problem+json\r\n{head}\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Reads the head of one request and answers it.
fn refuse(mut stream: TcpStream, tls: Arc<ServerConfig>, answer: &str) {
    drop(stream.set_read_timeout(Some(Duration::from_secs(10))));
    let Ok(mut connection) = ServerConnection::new(tls) else { return };
    let mut tls = Stream::new(&mut connection, &mut stream);
    let (mut request, mut part) = (Vec::<u8>::new(), [0_u8; 4096]);
    while !request.windows(4).any(|it| it == b"\r\n\r\n") {
        match tls.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend(part.iter().take(count)),
        }
    }
    drop(tls.write_all(answer.as_bytes()));
    tls.conn.send_close_notify();
    drop(tls.flush());
}
