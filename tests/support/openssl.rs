//! What a server serves, in the eyes of a TLS stack that is not ours.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::files::write;
use super::process::run;
use super::programs::Peers;

/// How long one run of openssl may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The leaf that the server at `address` serves for `name`, as PEM; none if there is no handshake.
///
/// Without a name no SNI is sent. The chain is not verified: tests look at which certificate it is.
#[must_use]
#[track_caller]
pub fn served_certificate(address: SocketAddr, name: Option<&str>) -> Option<String> {
    served_certificate_to(address, name, &[])
}

/// As [`served_certificate`], to a client that is started with `options` besides.
#[must_use]
#[track_caller]
pub fn served_certificate_to(
    address: SocketAddr,
    name: Option<&str>,
    options: &[&str],
) -> Option<String> {
    let mut client = Command::new(Peers::locate().openssl);
    client.args(["s_client", "-connect", &address.to_string()]).args(options);
    match name {
        Some(name) => client.args(["-servername", name]),
        None => client.arg("-noservername"),
    };
    let output = run(&mut client, LIMIT).stdout;
    let start = output.find("-----BEGIN CERTIFICATE-----")?;
    let (leaf, _) = output.get(start..)?.split_once("-----END CERTIFICATE-----")?;
    Some(format!("{leaf}-----END CERTIFICATE-----\n"))
}

/// The serial number of the leaf that the server at `address` serves for `name`, in upper-case hex
/// as openssl prints it; none if there is no handshake.
#[must_use]
#[track_caller]
pub fn served_serial(address: SocketAddr, name: Option<&str>) -> Option<String> {
    let leaf = served_certificate(address, name)?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leaf.pem");
    write(&file, leaf);
    let mut x509 = Command::new(Peers::locate().openssl);
    x509.args(["x509", "-noout", "-serial", "-in"]).arg(&file);
    let done = run(&mut x509, LIMIT);
    assert_eq!(done.code, 0, "openssl cannot read what the server sent: {done}");
    Some(done.stdout.trim().strip_prefix("serial=").unwrap_or_default().to_owned())
}

/// The alternative names of the certificate in `file`, as openssl prints them.
#[must_use]
#[track_caller]
pub fn alternative_names(file: &Path) -> String {
    let mut x509 = Command::new(Peers::locate().openssl);
    x509.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(file);
    let done = run(&mut x509, LIMIT);
    assert_eq!(done.code, 0, "openssl cannot read {}: {done}", file.display());
    done.stdout
}
