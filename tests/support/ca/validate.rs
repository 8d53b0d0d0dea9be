//! The CA looks for a proof (RFC 8555 §8.3).

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::options::Proofs;
use super::reply::problem;

/// What is to be looked for.
#[derive(Clone, Debug)]
pub(super) struct Validation {
    pub(super) authorization: u64,
    pub(super) challenge: usize,
    pub(super) identifier: String,
    pub(super) kind: &'static str,
    pub(super) token: String,
    pub(super) key_authorization: String,
}

impl Validation {
    /// Looks; says what is wrong, if anything.
    pub(super) async fn look(&self, proofs: &Proofs) -> Option<Value> {
        if *proofs == Proofs::Accepted {
            return None;
        }
        if self.kind != "http-01" {
            return Some(problem("unauthorized", "nothing is known of such proofs here"));
        }
        let found = match proofs {
            Proofs::Accepted => return None,
            Proofs::Files(folder) => {
                let file = tokio::fs::read_to_string(folder.join(&self.token)).await;
                file.map_err(|_absent| problem("unauthorized", "404: there is no such file"))
            }
            Proofs::Port(port) => {
                let asked = tokio::time::timeout(Duration::from_secs(10), self.get(*port)).await;
                asked.ok().flatten().ok_or_else(|| problem("connection", "nobody answers"))
            }
        };
        match found {
            Err(problem) => Some(problem),
            Ok(found) if found.trim_end() == self.key_authorization => None,
            Ok(found) => {
                let found: String = found.chars().take(100).collect();
                Some(problem("incorrectResponse", &format!("found {found:?}")))
            }
        }
    }

    async fn get(&self, port: u16) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        let request = format!(
            "GET /.well-known/acme-challenge/{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.token, self.identifier
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(64 * 1024).read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }
}
