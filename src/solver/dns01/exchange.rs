//! One question to one DNS server, or one update: sent, answered, bounded.
//!
//! Who answers is not trusted: an answer counts only if it has the number and the question of what
//! was asked; whatever else arrives is passed over until the time is up. Nothing is cached.
//!
//! Not here: which server to ask, and what an answer means.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query};
use hickory_proto::rr::{Name, RecordType};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one try may take. A server that is well answers in a fraction of it.
const TRY_LIMIT: Duration = Duration::from_secs(2);

/// How often a datagram is sent: one may be lost.
const TRIES: u8 = 2;

/// The largest datagram that is asked for: what no path cuts into pieces.
const MAX_DATAGRAM: u16 = 1232;

/// Whether the server is to ask others on our behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recursion {
    /// A resolver is asked.
    Desired,
    /// An authoritative server is asked for what it knows itself.
    Off,
}

/// A server gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// It can't be reached.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// Nothing usable came in time.
    #[error("no answer within the time limit")]
    TimedOut,
    /// What came is not an answer to what was asked.
    #[error("the answer can't be read")]
    Malformed,
    /// It has an answer, but not for us.
    #[error("the server answered {0}")]
    Code(String),
}

impl ExchangeError {
    /// Whether this machine has no way to the server, such as to an IPv6 address where there is
    /// IPv4 alone: that says nothing of the server, and does not change by waiting.
    pub(super) fn is_without_a_way(&self) -> bool {
        let Self::Io(error) = self else { return false };
        let errno = Errno::from_io_error(error);
        matches!(errno, Some(Errno::NETUNREACH | Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
    }
}

/// Asks `server` for the records of `kind` at `name`: by datagrams, and by TCP if the answer does
/// not fit into one.
///
/// # Errors
///
/// If no answer to this question came in time, whatever it says.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    recursion: Recursion,
) -> Result<Message, ExchangeError> {
    let query = Query::query(name.clone(), kind);
    let mut request = Message::query();
    request.metadata.recursion_desired = recursion == Recursion::Desired;
    request.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_DATAGRAM);
    request.set_edns(edns);
    let bytes = request.to_vec().map_err(|_name_too_long| ExchangeError::Malformed)?;

    let fits = |it: &Message| {
        it.id == request.id
            && it.message_type == MessageType::Response
            && it.queries.first() == Some(&query)
    };
    let mut last = ExchangeError::TimedOut;
    for _ in 0..TRIES {
        match timeout(TRY_LIMIT, by_datagram(server, &bytes, &fits)).await {
            Ok(Ok(answer)) if answer.truncation => break,
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = ExchangeError::TimedOut,
        }
    }
    if !matches!(last, ExchangeError::TimedOut) {
        return Err(last);
    }
    // Cut short, or datagrams do not get through.
    let answer = by_tcp(server, &bytes).await?;
    let answer = Message::from_vec(&answer).map_err(|_garbage| ExchangeError::Malformed)?;
    if fits(&answer) { Ok(answer) } else { Err(ExchangeError::Malformed) }
}

async fn by_datagram(
    server: SocketAddr,
    request: &[u8],
    fits: impl Fn(&Message) -> bool,
) -> Result<Message, ExchangeError> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // The system then drops what others send, and tells of a closed port.
    socket.connect(server).await?;
    socket.send(request).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if let Some(answer) = Message::from_vec(bytes).ok().filter(&fits) {
            return Ok(answer);
        }
    }
}

/// Sends `request` to `server` over a connection, and reads one message.
///
/// # Errors
///
/// If there is no connection, or no whole message in time.
pub(super) async fn by_tcp(server: SocketAddr, request: &[u8]) -> Result<Vec<u8>, ExchangeError> {
    let exchange = async {
        let length = u16::try_from(request.len()).map_err(|_too_long| ExchangeError::Malformed)?;
        let mut stream = TcpStream::connect(server).await?;
        let framed = [&length.to_be_bytes()[..], request].concat();
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    timeout(2 * TRY_LIMIT, exchange).await.unwrap_or(Err(ExchangeError::TimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N14: what is told of by an error of its own.
    #[test]
    fn only_a_missing_way_is_no_silence_of_the_server() {
        for errno in [Errno::NETUNREACH, Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT] {
            assert!(ExchangeError::Io(errno.into()).is_without_a_way(), "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::PERM, Errno::MFILE] {
            assert!(!ExchangeError::Io(errno.into()).is_without_a_way(), "{errno}");
        }
        assert!(!ExchangeError::TimedOut.is_without_a_way());
    }
}
