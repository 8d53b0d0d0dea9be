//! How long the work on one certificate may take before it is taken for one that never ends.
//!
//! Each part of it has its own limit, so work that goes on for longer than all of them together
//! hangs by a fault: its slot is wanted for others. What is dropped goes on where it was at the
//! next try, but for what a server is just being told; so the sums are rounded up, by a factor of
//! two at least.
//!
//! Not here: what becomes of it then ([`super::scheduler`]).

use std::time::Duration;

use crate::config::Config;
use crate::deploy::{ReloadSettings, TargetSettings};
use crate::model::CertificateSpec;
use crate::solver::SolverMethod;

/// For each CA that is asked: an account and an order (60 s a request, some of them repeated),
/// until it is ready and again until it is issued (5 min each), the chain and eight others (60 s
/// each), proofs of an earlier order and of this one taken away (2 min each), and before all that
/// the order of another certificate for the same names waited for (10 min).
const ORDER: Duration = Duration::from_hours(1);

/// For each identifier: its authorization (60 s), where its record goes (60 s), its zone waited for
/// and changed (2 min each), the challenge answered (5 min).
const PROOF: Duration = Duration::from_mins(30);

/// Once: advice, fitness, lists of revoked certificates and standing records are asked for (15 to
/// 60 s each), endpoints are looked at (5 s a handshake), a revocation (60 s a request).
const REST: Duration = Duration::from_hours(1);

/// How many programs of a target's run at most: the test of the new files, that of the old ones and
/// the reload, and one to spare; each with its margin at the deployer (60 s).
const PROGRAMS: u32 = 4;
const MARGIN: Duration = Duration::from_mins(1);

/// How long the work on `spec` may take under `config`.
pub(super) fn longest(config: &Config, spec: &CertificateSpec) -> Duration {
    let identifiers = u32::try_from(spec.identifiers.len()).unwrap_or(u32::MAX);
    let proofs = PROOF.saturating_mul(identifiers);
    // All are waited for one solver after the other.
    let visible = spec.solvers.values().filter_map(|it| config.solvers.get(it));
    let visible = sum(visible.map(|it| propagation(&it.method)));
    let cas = u32::try_from(spec.cas.len()).unwrap_or(u32::MAX).max(1);
    let orders = sum([ORDER, proofs, visible]).saturating_mul(cas);
    // Targets are served side by side; of one that all certificates go to each waits for all
    // before.
    let targets = spec.targets.iter().filter_map(|it| config.targets.get(it));
    let target = targets.map(served).max().unwrap_or_default();
    let others = u32::try_from(config.parallel).unwrap_or(u32::MAX).max(1);
    sum([REST, orders, target.saturating_mul(others)])
}

fn propagation(method: &SolverMethod) -> Duration {
    match method {
        SolverMethod::Dns01(settings) | SolverMethod::DnsAccount01(settings) => {
            settings.propagation_timeout
        }
        SolverMethod::DnsPersist01(settings) => settings.propagation_timeout,
        SolverMethod::Webroot { .. }
        | SolverMethod::Listener { .. }
        | SolverMethod::TlsAlpn01 { .. } => Duration::ZERO,
    }
}

fn served(target: &TargetSettings) -> Duration {
    let test = target.test.as_ref().map(|it| it.timeout);
    let reload = target.reload.as_ref().and_then(|it| match it {
        ReloadSettings::Systemd { timeout, .. } => Some(*timeout),
        ReloadSettings::Signal { .. } => None,
        ReloadSettings::Command(program) => Some(program.timeout),
    });
    let program = test.max(reload).unwrap_or_default().saturating_add(MARGIN);
    program.saturating_mul(PROGRAMS).saturating_add(target.verify_timeout)
}

fn sum(spans: impl IntoIterator<Item = Duration>) -> Duration {
    spans.into_iter().fold(Duration::ZERO, Duration::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};
    use crate::sys::atomic::{self, Access};

    fn longest_of(text: &str) -> Duration {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("renewd.toml");
        let text = format!("parallel = 2\nterms_of_service_agreed = true\n{text}");
        atomic::write(&file, text.as_bytes(), Access::mode(0o600)).unwrap();
        let config = config::load(&file, &Environment::default()).unwrap();
        longest(&config, &config.certificates[0])
    }

    #[test]
    fn it_grows_with_whatever_takes_longer_and_never_ends_in_a_panic() {
        let with = |head: &str, certificate: &str, tables: &str| {
            longest_of(&format!(
                "{head}[[certificate]]\ndomains = [\"a.example\"{certificate}\n{tables}"
            ))
        };
        let hours = |count: u64| Duration::from_hours(count);
        let plain = with("", "]", "");
        assert_eq!(plain, hours(2) + Duration::from_mins(30));
        let two = with("", ", \"b.example\"]", "");
        assert_eq!(two, hours(3));
        let two_cas = with(
            "",
            "]\nca = [\"letsencrypt\", \"lab\"]",
            "[ca.lab]\ndirectory = \"https://ca.example/dir\"",
        );
        assert_eq!(two_cas, hours(4));
        let patient = "[solver.dns]\ntype = \"dns-01\"\nprovider = \"program\"\nprogram = [\"/bin/true\"]\n\
                       propagation_timeout = \"7h\"";
        assert_eq!(with("", "]\nsolver = \"dns\"", patient), plain + hours(7));
        let slow = "[target.own]\ntype = \"command\"\nverify = []\ntimeout = \"59m\"\n\
                    verify_timeout = \"1h\"\nreload = { command = [\"/bin/true\"] }";
        // Four programs with their margins and the wait for endpoints, behind that of one other.
        assert_eq!(with("", "]\ntargets = [\"own\"]", slow), plain + hours(5) * 2);
    }
}
