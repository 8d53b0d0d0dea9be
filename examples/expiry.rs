//! Asks a server which certificate it serves, and says how much of its life is left.
//!
//! ```text
//! cargo run --example expiry -- example.com:443
//! cargo run --example expiry -- 192.0.2.7:443 www.example.com
//! ```
//!
//! The second argument is the name to ask for; by default the host of the first. It ends with 1 if
//! under a quarter of the life is left, if the server did not prove that it holds the key, or if
//! nothing could be found out; with 2 if it was called wrongly. As everywhere in `renewd`, the
//! threshold is a share of life and no number of days.
//!
//! Not here: whether a client would trust the chain.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is there to print")]

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use renewd::model::{Identifier, Share, Timestamp, chain_text, escaped};
use renewd::probe::{self, Approach, Served};
use renewd::sys::clock::{Clock, SystemClock};

/// With less than this of its life left, a certificate should have been renewed long ago.
const LITTLE: Share = Share::new(1, 4);
/// How long the server may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
const A_DAY: f64 = 86_400.0;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((address, name)) = question(&arguments) else {
        eprintln!("usage: expiry HOST:PORT [NAME]");
        return ExitCode::from(2);
    };
    match probe::ask(address, &name, Approach::default(), LIMIT).await {
        Ok(served) => {
            let (text, verdict) = describe(&served, SystemClock::new().now());
            println!("{text}");
            if verdict == Verdict::Fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{}", chain_text(&error));
            ExitCode::FAILURE
        }
    }
}

/// The address and the name that `arguments` ask for.
pub(crate) fn question(arguments: &[String]) -> Option<(&str, Identifier)> {
    match arguments {
        [address] => {
            let (host, _port) = address.rsplit_once(':')?;
            Some((address, host.trim_matches(['[', ']']).parse().ok()?))
        }
        [address, name] => Some((address, name.parse().ok()?)),
        _ => None,
    }
}

/// Whether somebody should look after what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is time.
    Fine,
    /// There is not, or it is not really served.
    Worrying,
}

/// What `served` says of itself at `now`, and whether that is good news.
pub(crate) fn describe(served: &Served, now: Timestamp) -> (String, Verdict) {
    let leaf = &served.leaf;
    let lifetime = leaf.validity.lifetime();
    let left = leaf.validity.life_left(now);
    let share = if lifetime.is_zero() { 0.0 } else { left.as_secs_f64() / lifetime.as_secs_f64() };
    let names: Vec<String> = leaf.identifiers.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        format!("names      {}", names.join(", ")),
        // A server may put anything into a certificate, also what would write to a terminal.
        format!("issuer     {}", escaped(&leaf.issuer)),
        format!("serial     {}", leaf.serial_text()),
        format!("not after  {}", leaf.validity.not_after),
        format!(
            "left       {:.1} days, {:.0} % of its life",
            left.as_secs_f64() / A_DAY,
            share * 100.0
        ),
    ];
    if !served.key_proven {
        lines.push("the server did not prove that it holds the key".to_owned());
    }
    let is_fine = served.key_proven && left >= LITTLE.of(lifetime);
    (lines.join("\n"), if is_fine { Verdict::Fine } else { Verdict::Worrying })
}
