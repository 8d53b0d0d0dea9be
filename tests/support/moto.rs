//! moto, a stand-in for Amazon's services that implements the API of Route 53.
//!
//! Its zones answer no DNS: what stands in them is read back by the same API.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::curl::curl;
use super::port::free_port;
use super::process::Running;
use super::programs::Peers;
use super::wait::eventually;

/// How long it may take to answer after its start: it is a large program in Python.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running moto on loopback.
#[derive(Debug)]
pub struct Moto {
    _process: Running,
    address: SocketAddr,
    _folder: TempDir,
}

impl Moto {
    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        (1..5).find_map(|_| Self::try_start()).unwrap_or_else(|| {
            panic!("no port for moto in several tries");
        })
    }

    #[track_caller]
    fn try_start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = Command::new(Peers::locate().moto_server);
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        let mut process = Running::start("moto", &mut command, &folder.path().join("moto.log"));
        let started = eventually(START_LIMIT, "moto listens", || {
            if process.ended().is_some() {
                assert!(process.log().contains("in use"), "{}", process.log());
                return Ok(false);
            }
            TcpStream::connect(address).map(|_| true)
        });
        started.then_some(Self { _process: process, address, _folder: folder })
    }

    /// Where its API is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes the zone `name`; returns its id.
    #[must_use]
    #[track_caller]
    pub fn make_zone(&self, name: &str) -> String {
        let body = format!(
            "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <Name>{name}.</Name><CallerReference>{name}</CallerReference>\
             </CreateHostedZoneRequest>"
        );
        let answer = self.ask(&["-d", &body], "hostedzone");
        let id = between(&answer, "<Id>/hostedzone/", "</Id>").next();
        id.unwrap_or_else(|| panic!("no zone id in {answer}")).to_owned()
    }

    /// Sets the TXT record `name` of the zone `id` to `values`.
    #[track_caller]
    pub fn set_txt(&self, id: &str, name: &str, values: &[&str]) {
        let values: String = values
            .iter()
            .map(|it| format!("<ResourceRecord><Value>\"{it}\"</Value></ResourceRecord>"))
            .collect();
        let body = format!(
            "<ChangeResourceRecordSetsRequest \
             xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch><Changes>\
             <Change><Action>UPSERT</Action><ResourceRecordSet><Name>{name}.</Name>\
             <Type>TXT</Type><TTL>60</TTL><ResourceRecords>{values}</ResourceRecords>\
             </ResourceRecordSet></Change></Changes></ChangeBatch>\
             </ChangeResourceRecordSetsRequest>"
        );
        self.ask(&["-d", &body], &format!("hostedzone/{id}/rrset/"));
    }

    /// All values in the zone `id` that stand in quotes: those of its TXT records.
    #[must_use]
    #[track_caller]
    pub fn txt_values(&self, id: &str) -> Vec<String> {
        let answer = self.ask(&[], &format!("hostedzone/{id}/rrset"));
        let values = between(&answer, "<Value>", "</Value>");
        let quoted = values.filter(|it| it.contains('"') || it.contains("&quot;"));
        quoted.map(|it| it.replace("&quot;", "").replace('"', "")).collect()
    }

    #[track_caller]
    fn ask(&self, args: &[&str], path: &str) -> String {
        let url = format!("{}/2013-04-01/{path}", self.url());
        // moto takes any signature, but looks for the service in it.
        let login = "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/route53/\
                     aws4_request, SignedHeaders=host, Signature=00";
        let args =
            [&["-H", login, "-H", "Content-Type: application/xml"], args, &[url.as_str()]].concat();
        curl(&args).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// Each text of `document` from `open` to the next `close`.
fn between<'a>(document: &'a str, open: &'a str, close: &str) -> impl Iterator<Item = &'a str> {
    let close = close.to_owned();
    document.split(open).skip(1).filter_map(move |it| it.split(&close).next())
}
