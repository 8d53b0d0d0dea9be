//! Somebody who changes DNS when asked by HTTP, as lego's documentation of `httpreq` describes it;
//! and who does not, when a test says so.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A running server on loopback.
#[derive(Debug)]
pub struct HttpRequests {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: Mutex<Vec<(String, String)>>,
    refuses: AtomicBool,
    has_ended: AtomicBool,
}

impl HttpRequests {
    /// Starts it.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let for_thread = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_thread.has_ended.load(Ordering::SeqCst) {
                    return;
                }
                answer(stream, &for_thread);
            }
        });
        Self { address, shared }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether each `/cleanup` is refused from now on.
    pub fn refuse_cleanup(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Path and body of each request so far.
    #[must_use]
    pub fn asked(&self) -> Vec<(String, String)> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for HttpRequests {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

/// Reads one request and answers it; what is no request gets no answer.
fn answer(mut stream: TcpStream, shared: &Shared) {
    drop(stream.set_read_timeout(Some(Duration::from_secs(10))));
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let length = lower.split("content-length: ").nth(1).and_then(|it| it.lines().next());
            if body.len() >= length.and_then(|it| it.parse().ok()).unwrap_or(0) {
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let refused = path == "/cleanup" && shared.refuses.load(Ordering::SeqCst);
                let is_one = lower.starts_with("post ")
                    && lower.contains("content-type: application/json")
                    && ["/present", "/cleanup"].contains(&path.as_str());
                shared.asked.lock().unwrap().push((path, body.to_owned()));
                let status = match (is_one, refused) {
                    (true, false) => "200 OK",
                    (true, true) => "503 Service Unavailable",
                    (false, _) => "400 Bad Request",
                };
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                drop(stream.write_all(answer.as_bytes()));
                return;
            }
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend(part.iter().take(count)),
        }
    }
}
