//! What can go wrong with showing a proof, and what to do about it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::model::{ChallengeType, Explain, Identifier, Retry};
use crate::sys::beneath::BeneathError;

use super::dns01::DnsError;

/// A proof can't be shown or taken away.
#[derive(Debug, thiserror::Error)]
pub enum SolverError {
    /// A file of a webroot could not be made or removed.
    #[error("challenge files can't be kept in {}", directory.display())]
    Webroot {
        /// The folder, as configured.
        directory: PathBuf,
        /// What failed, and where below it.
        #[source]
        source: BeneathError,
    },
    /// An address could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address, as configured.
        address: SocketAddr,
        /// What would be proven there.
        challenge_type: ChallengeType,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A listener is configured without any address.
    #[error("the solver has no address to listen on")]
    NoAddress,
    /// The solver was asked for what it can't prove.
    #[error("the solver can't prove {identifier} by {challenge_type}")]
    Unsuited {
        /// What was to be proven.
        identifier: Identifier,
        /// By which kind of challenge.
        challenge_type: ChallengeType,
    },
    /// No certificate could be made for a proof.
    #[error("no certificate can be made to prove {identifier}: {reason}")]
    Certificate {
        /// What was to be proven.
        identifier: Identifier,
        /// What the libraries said.
        reason: String,
    },
    /// Another order shows its proof for the same name just now, and only one can be shown.
    #[error("another order is proving {identifier} just now")]
    Busy {
        /// What was to be proven.
        identifier: Identifier,
    },
    /// DNS could not be changed, or does not show it.
    #[error(transparent)]
    Dns(Box<DnsError>),
    /// The process is ending.
    #[error("the process is ending")]
    Interrupted,
}

impl From<DnsError> for SolverError {
    fn from(error: DnsError) -> Self {
        Self::Dns(Box::new(error))
    }
}

impl Explain for SolverError {
    fn code(&self) -> &'static str {
        match self {
            Self::Webroot { .. } => "solver.webroot",
            Self::Listen { .. } | Self::NoAddress => "solver.listen",
            Self::Unsuited { .. } => "solver.unsuited",
            Self::Certificate { .. } => "solver.certificate",
            Self::Busy { .. } => "solver.busy",
            Self::Dns(source) => source.code(),
            Self::Interrupted => "solver.interrupted",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Webroot { .. }
            | Self::Listen { .. }
            | Self::Certificate { .. }
            | Self::Busy { .. }
            | Self::Interrupted => Retry::BackOff,
            Self::NoAddress | Self::Unsuited { .. } => Retry::AfterChange,
            Self::Dns(source) => source.retry(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Webroot { directory, source } => webroot_hint(directory, source.io_error()),
            Self::Listen { address, challenge_type, source } => {
                listen_hint(*address, *challenge_type, source)
            }
            Self::NoAddress => Some("name an address in `listen`".into()),
            Self::Unsuited { .. } => Some(
                "choose another solver for it by solver = or for = in the configuration".into(),
            ),
            Self::Dns(source) => source.hint(),
            Self::Busy { .. } => Some(
                "nothing: it is tried again in seconds; one certificate for both avoids it".into(),
            ),
            Self::Certificate { .. } | Self::Interrupted => None,
        }
    }
}

fn webroot_hint(directory: &std::path::Path, error: &io::Error) -> Option<String> {
    let directory = directory.display();
    if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
        return Some(format!(
            "links below {directory} are not followed: set webroot to the folder that really \
             holds .well-known"
        ));
    }
    match error.kind() {
        ErrorKind::NotFound => Some(format!(
            "make the folder {directory}, or set webroot to the folder that the web server shows"
        )),
        ErrorKind::NotADirectory => Some(format!(
            "{directory}, and .well-known and acme-challenge below it, must be folders, not files \
             or links"
        )),
        ErrorKind::PermissionDenied => Some(format!(
            "let the user that renewd runs as write to {directory}; a systemd unit with \
             ProtectSystem= needs ReadWritePaths= for it"
        )),
        ErrorKind::ReadOnlyFilesystem => Some(format!(
            "a systemd unit with ProtectSystem= needs ReadWritePaths= for {directory}; else the \
             file system is mounted read-only"
        )),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some(format!("free space where {directory} is: see `df -h` and `df -i` of it"))
        }
        _ => None,
    }
}

fn listen_hint(
    address: SocketAddr,
    challenge_type: ChallengeType,
    error: &io::Error,
) -> Option<String> {
    let port = address.port();
    let forward = if challenge_type == ChallengeType::TlsAlpn01 {
        "pass TLS connections with the ALPN protocol acme-tls/1 on to it unopened"
    } else {
        "forward /.well-known/acme-challenge/ to it"
    };
    let instead = if challenge_type == ChallengeType::TlsAlpn01 {
        "use http-01"
    } else {
        "let that server show a webroot"
    };
    match error.kind() {
        ErrorKind::AddrInUse => Some(format!(
            "port {port} is taken by another program: `ss -ltnp 'sport = :{port}'` says which; \
             {instead}, or listen on another port and let that server {forward}"
        )),
        ErrorKind::PermissionDenied => Some(format!(
            "port {port} needs the capability CAP_NET_BIND_SERVICE (in a systemd unit: \
             AmbientCapabilities=); or listen on a port above 1023 and let the server in front \
             {forward}"
        )),
        ErrorKind::AddrNotAvailable => Some(format!(
            "no interface of this machine has the address {}: see `ip address`",
            address.ip()
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_the_address_and_how_to_find_who_holds_it() {
        let address = "[::1]:80".parse().unwrap();
        let error = SolverError::Listen {
            address,
            challenge_type: ChallengeType::Http01,
            source: Errno::ADDRINUSE.into(),
        };
        assert_eq!(error.to_string(), "cannot listen on [::1]:80");
        assert_eq!(error.code(), "solver.listen");
        assert!(error.hint().unwrap().contains("ss -ltnp 'sport = :80'"));
    }

    #[test]
    fn each_usual_fault_of_an_address_has_a_hint() {
        let address = "192.0.2.1:443".parse().unwrap();
        for errno in [Errno::ADDRINUSE, Errno::ACCESS, Errno::ADDRNOTAVAIL] {
            for challenge_type in [ChallengeType::Http01, ChallengeType::TlsAlpn01] {
                let error = SolverError::Listen { address, challenge_type, source: errno.into() };
                assert!(error.hint().is_some(), "{errno}");
            }
        }
        let challenge_type = ChallengeType::TlsAlpn01;
        let source = Errno::ACCESS.into();
        let hint = SolverError::Listen { address, challenge_type, source }.hint().unwrap();
        assert!(hint.contains("443") && hint.contains("acme-tls/1"), "{hint}");
    }

    #[test]
    fn each_usual_fault_of_a_folder_has_a_hint() {
        use Errno as E;
        for errno in [E::NOENT, E::NOTDIR, E::LOOP, E::ACCESS, E::ROFS, E::NOSPC, E::DQUOT] {
            let hint = webroot_hint(std::path::Path::new("/srv/web"), &errno.into());
            assert!(hint.unwrap().contains("/srv/web"), "{errno}");
        }
    }
}
