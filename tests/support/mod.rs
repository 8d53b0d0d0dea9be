//! The world that tests run in: real peers on loopback, a folder with a configuration, the built
//! program, and one way to wait.
//!
//! Everything a test starts here ends with the value that stands for it, by the process id it was
//! started with. A test reads like this:
//!
//! ```text
//! let workspace = Workspace::new();
//! let pebble = Pebble::start(&PebbleOptions { http_port, ..PebbleOptions::default() });
//! workspace.write_config(&format!("…", pebble.directory()));
//! let done = workspace.renewd(&["renew", "site"]);
//! assert_eq!(done.code, 0, "{done}");
//! ```
//!
//! Helpers panic with what they waited for and the peer's log. Each of them is used by
//! `tests/it/peers.rs`, which shows how.
//!
//! Not here: the scripted CA (`ca/`, for those tests that want it), and anything that asserts how
//! renewd behaves.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic, and so may its helpers")]

mod alertmanager;
mod bind;
mod curl;
mod failing;
mod files;
mod front;
mod httpreq;
mod knot;
mod moto;
mod mounts;
mod nginx;
mod openssl;
mod pebble;
mod port;
mod power;
mod powerdns;
mod process;
mod programs;
mod requests;
mod supervisor;
mod wait;
mod workspace;

pub use alertmanager::Alertmanager;
pub use bind::{Bind, BindOptions, Lag, txt_values};
pub use curl::{curl, curl_as};
pub use failing::{Call, FailingDisk, Failure};
pub use files::{edit_json, grow, self_signed, write, write_secret};
pub use front::{Front, Manner};
pub use httpreq::HttpRequests;
pub use knot::Knot;
pub use moto::Moto;
pub use mounts::Mounts;
pub use nginx::{Nginx, NginxOptions, TlsServer};
pub use openssl::{alternative_names, served_certificate, served_certificate_to, served_serial};
pub use pebble::{Pebble, PebbleOptions};
pub use port::free_port;
pub use power::{Change, Disk, Kept};
pub use powerdns::PowerDns;
pub use process::{Finished, Running, program, run};
pub use programs::Peers;
pub use requests::{Endpoint, Request, Requests};
pub use supervisor::Supervisor;
pub use wait::{eventually, eventually_async};
pub use workspace::Workspace;
