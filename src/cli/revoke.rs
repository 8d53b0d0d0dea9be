//! `renewd revoke`: has the CA revoke a certificate, and says what happens next.
//!
//! Beside a running daemon it is asked; without one the work is done here. Both do the same.
//!
//! Not here: in which order it is done ([`crate::lifecycle`]).

use std::time::Duration;

use crate::api::RevokeRequest;
use crate::assemble::{RevokeReport, report};
use crate::daemon::RevokeOutcome;
use crate::model::{CertificateName, Explain, RevocationKey, RevocationReason, RevocationRequest};
use crate::plan::Asked;

use super::arguments::{Global, RevokeArguments, RevokeKey};
use super::context::{Context, Ended, selected};
use super::exit::Exit;
use super::output;
use super::renew::{alert, ended, exit_of, show, spinner};

/// Revokes one certificate.
pub(super) async fn revoke(global: &Global, arguments: RevokeArguments) -> Result<Exit, Ended> {
    let context = Context::load_to_look(global)?;
    selected(&context.config, std::slice::from_ref(&arguments.name))?;
    let request = request(&arguments);
    if !arguments.yes {
        let message = "a revocation can't be taken back, and nothing was done";
        output::problem(message, Some("repeat the command with --yes to do it"));
        return Err(Ended(Exit::Usage));
    }
    let name = arguments.name;
    let outcome = match context.daemon_at_work(arguments.wait)? {
        Some(daemon) => {
            let bar = spinner("the daemon is at work");
            let answer = daemon.revoke(&RevokeRequest { name, request }).await;
            bar.finish_and_clear();
            answer.map_err(|error| ended(&error))?
        }
        None => do_it(Context::load(global)?, &name, request, arguments.wait).await?,
    };
    Ok(match outcome {
        Ok(done) => tell(global, &request, &done),
        Err(failure) => {
            output::problem(&failure.message, failure.hint.as_deref());
            Exit::of_failures(&[failure])
        }
    })
}

fn request(arguments: &RevokeArguments) -> RevocationRequest {
    let reissue = match (arguments.successor.reissue, arguments.successor.no_reissue) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let key = match arguments.key {
        RevokeKey::Account => RevocationKey::Account,
        RevokeKey::Certificate => RevocationKey::Certificate,
    };
    RevocationRequest { reason: arguments.reason, key, reissue }
}

/// Does it here, as the only writer of the state directory.
async fn do_it(
    context: Context,
    name: &CertificateName,
    request: RevocationRequest,
    wait: Option<Duration>,
) -> Result<RevokeOutcome, Ended> {
    let (base, agent, deployer) = context.open(wait).await?;
    agent.lifecycle.repair_targets().await;
    // `selected` has seen that it is there.
    let Some(spec) = agent.spec(name) else { return Err(Ended(Exit::Usage)) };
    if let Err(error) = agent.lifecycle.ask_to_revoke(spec, request).await {
        return Ok(Err(error.failure(base.clock.now())));
    }
    let worked = agent.lifecycle.work(spec, Asked::ByName).await;
    let report = report(name, worked, base.clock.now());
    let pending = agent.lifecycle.awaits_revocation(spec).await.unwrap_or(true);
    alert(&agent, &base, std::slice::from_ref(&report)).await;
    deployer.end().await;
    Ok(Ok(RevokeReport { report, pending }))
}

/// Says what was done and what happens next.
fn tell(global: &Global, request: &RevocationRequest, done: &RevokeReport) -> Exit {
    if global.json {
        output::json(done);
    } else {
        show(&done.report);
        output::talk(what_next(request, done));
    }
    if !done.report.failures.is_empty() {
        return Exit::of_failures(&done.report.failures);
    }
    if done.pending {
        return Exit::Failed;
    }
    // That a revoked certificate is critical is what was asked for.
    if request.reissues() { exit_of(&done.report) } else { Exit::AsWanted }
}

fn what_next(request: &RevocationRequest, done: &RevokeReport) -> &'static str {
    match (done.pending, request.reissues(), done.report.renewed) {
        (true, true, _) if !request.revokes_first() => {
            "the old certificate is revoked by itself as soon as another is served everywhere"
        }
        (true, _, _) => "the revocation is tried again by itself",
        (false, _, _) if !done.report.failures.is_empty() => {
            "what failed is above; see `renewd status` for what is tried again by itself"
        }
        (false, true, true) if request.reason == RevocationReason::KeyCompromise => {
            "it is revoked, and replaced by one with a new key"
        }
        (false, true, _) => "the old certificate is revoked, and replaced",
        (false, false, _) => {
            "it is revoked; servers that have it go on serving it until it is replaced: see \
             `renewd renew --force`"
        }
    }
}
