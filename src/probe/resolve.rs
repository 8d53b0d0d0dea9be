//! From the text of an endpoint to the socket addresses behind it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::ProbeError;

/// How many addresses of one host name are asked; a name has no use for more on one machine.
pub const MAX_ADDRESSES: usize = 16;

/// The addresses that `address` (`host:port`, `[ipv6]:port`) stands for, without duplicates,
/// sorted, at most [`MAX_ADDRESSES`]; never empty.
///
/// # Errors
///
/// [`ProbeError::NotAnAddress`], [`ProbeError::Resolve`], or [`ProbeError::TimedOut`] after
/// `limit`.
pub async fn resolve(address: &str, limit: Duration) -> Result<Vec<SocketAddr>, ProbeError> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none() {
        return Err(ProbeError::NotAnAddress { address: address.to_owned() });
    }
    let Ok(found) = timeout(limit, lookup_host(address)).await else {
        return Err(ProbeError::TimedOut { address: address.to_owned(), limit });
    };
    let failed = |source| ProbeError::Resolve { address: address.to_owned(), source };
    let mut addresses: Vec<SocketAddr> = found.map_err(failed)?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    if addresses.is_empty() {
        return Err(failed(std::io::Error::other("the name has no address")));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn an_address_stands_for_itself_and_a_name_for_all_it_has() {
        let found = resolve("[::1]:443", LIMIT).await.unwrap();
        assert_eq!(found, ["[::1]:443".parse::<SocketAddr>().unwrap()]);
        let found = resolve("localhost:8443", LIMIT).await.unwrap();
        assert!(!found.is_empty() && found.iter().all(|it| it.ip().is_loopback()));
    }

    #[tokio::test]
    async fn what_has_no_port_is_no_address() {
        for wrong in ["", "localhost", ":443", "localhost:", "localhost:https", "localhost:99999"] {
            let error = resolve(wrong, LIMIT).await.unwrap_err();
            assert!(matches!(error, ProbeError::NotAnAddress { .. }), "{wrong}: {error}");
        }
    }
}
