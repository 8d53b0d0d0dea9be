//! `renewd dns persist`: the records that dns-persist-01 wants, and what is there.
//!
//! Only a challenge says for certain which record a CA wants, and in the form of which draft: an
//! order is placed to see its challenges, and given up again, unless it is one that is under way.

use serde::Serialize;

use crate::acme::{Authorization, Challenge, OrderRequest};
use crate::assemble::{Agent, Base};
use crate::config::Ca;
use crate::issue::{AskError, Bookkeeper, IssueError, Request};
use crate::model::{
    CaName, CertificateName, CertificateSpec, ChallengeType, Explain, Journal, StandingState,
    chain_text, escaped,
};
use crate::solver::{DnsPersist01, DnsPersist01Settings, SolverMethod};

use super::arguments::Global;
use super::context::{Context, Ended, selected};
use super::exit::Exit;
use super::output;

/// One record, as it is told.
#[derive(Debug, Serialize)]
struct Record {
    identifier: String,
    name: String,
    value: String,
    found: String,
    is_right: bool,
}

/// Prints the record of each name of the certificate `name` that is proven by dns-persist-01, or of
/// all its names if none is yet. Ends with 1 while one of them is not there.
pub(super) async fn persist(global: &Global, name: &CertificateName) -> Result<Exit, Ended> {
    let context = Context::load(global)?;
    let spec = selected(&context.config, std::slice::from_ref(name))?.into_iter().next();
    let Some(spec) = spec else { return Err(Ended(Exit::Usage)) };
    let has_daemon = context.daemon().is_some();
    // The account may have to be made, and kept, which a daemon at work does alone.
    let (base, agent) = if has_daemon {
        context.open_read_only()?
    } else {
        let (base, agent, deployer) = context.open(None).await?;
        // Nothing is deployed.
        deployer.end().await;
        (base, agent)
    };
    let ca = spec.cas.iter().find(|it| matches!(agent.config.cas.get(it), Some(Ca::Acme(_))));
    let Some(ca) = ca else {
        let message = format!("{name} is of no CA that wants proofs");
        output::problem(&message, Some("name a certificate whose CA speaks ACME"));
        return Err(Ended(Exit::Usage));
    };
    let authorizations = match authorizations(&base, &agent, &spec, ca, has_daemon).await {
        Ok(authorizations) => authorizations,
        Err(error) => {
            output::problem(&chain_text(&error), error.hint().as_deref());
            return Ok(Exit::Failed);
        }
    };
    let mut records = Vec::new();
    for authorization in authorizations.iter().filter(|it| is_meant(it, &spec, &agent)) {
        let wanted = ChallengeType::DnsPersist01;
        let challenge = authorization.challenges.iter().find(|it| it.challenge_type == wanted);
        if let Some(record) = challenge.map(|it| record(it, authorization, &spec, &agent)) {
            records.extend(record.await);
        }
    }
    Ok(tell(global, ca, &records))
}

/// The authorizations of an order that is given up at once, unless it is one that is under way
/// here: a CA gives the same again while nobody has met its challenges.
async fn authorizations(
    base: &Base,
    agent: &Agent,
    spec: &CertificateSpec,
    ca: &CaName,
    has_daemon: bool,
) -> Result<Vec<Authorization>, IssueError> {
    let lifecycle = &agent.lifecycle;
    let Some(client) = lifecycle.issuer.clients.get(ca) else { return Ok(Vec::new()) };
    lifecycle.books.open(ca).await?;
    match lifecycle.books.ask(ca, Request::Glance).await {
        // A daemon at work keeps the books; this one order it does not see.
        Err(AskError::Storage(_)) if has_daemon => {}
        asked => asked?,
    }
    if !has_daemon {
        lifecycle.issuer.account(spec, client).await?;
    }
    let request = OrderRequest {
        identifiers: spec.identifiers.clone(),
        profile: spec.profile.clone(),
        replaces: None,
    };
    let mut order = client.new_order(&request).await?;
    let authorizations = order.authorizations().await;
    if !is_under_way(base, agent, order.url()).await {
        order.abandon().await;
    }
    Ok(authorizations?)
}

/// Whether the order at `url` is journalled, as far as that can be found out.
async fn is_under_way(base: &Base, agent: &Agent, url: &str) -> bool {
    for spec in &agent.config.certificates {
        match base.store.load_order(&spec.name).await {
            Ok(Some((record, _))) if record.order_url.as_deref() == Some(url) => return true,
            Ok(_) => {}
            Err(_unreadable) => return true,
        }
    }
    false
}

fn is_persist(method: &SolverMethod) -> bool {
    method.challenge_type() == ChallengeType::DnsPersist01
}

/// Whether its record is to be printed.
fn is_meant(authorization: &Authorization, spec: &CertificateSpec, agent: &Agent) -> bool {
    let solvers = &agent.config.solvers;
    let uses = |it| solvers.get(it).is_some_and(|it| is_persist(&it.method));
    if !spec.solvers.values().any(uses) {
        return true;
    }
    spec.solvers.get(&authorization.ordered_identifier()).is_some_and(uses)
}

/// The record that `challenge` wants, and what is there.
async fn record(
    challenge: &Challenge,
    authorization: &Authorization,
    spec: &CertificateSpec,
    agent: &Agent,
) -> Option<Record> {
    let identifier = authorization.ordered_identifier();
    let wanted = challenge.standing.as_ref()?;
    let solver = spec.solvers.get(&identifier).and_then(|it| agent.config.solvers.get(it));
    let settings = match solver.map(|it| &it.method) {
        Some(SolverMethod::DnsPersist01(settings)) => settings.clone(),
        _ => DnsPersist01Settings::default(),
    };
    let looked = DnsPersist01::new(&settings).look(&authorization.identifier, wanted).await;
    let (found, is_right) = match looked {
        Ok(Some(it)) => {
            let is_right = matches!(it.state, StandingState::Fits(_));
            (format!("{} (at {})", it.state, it.servers), is_right)
        }
        Ok(None) => ("no name server answers".to_owned(), false),
        Err(error) => (chain_text(&error), false),
    };
    let name = DnsPersist01::record_name(&authorization.identifier).ok()?;
    let (identifier, value) = (identifier.to_string(), wanted.value());
    Some(Record { identifier, name, value, found, is_right })
}

fn tell(global: &Global, ca: &CaName, records: &[Record]) -> Exit {
    if records.is_empty() {
        let message = format!("{ca} offers no {} for it", ChallengeType::DnsPersist01);
        output::problem(&message, Some("prove it by another kind of challenge"));
        return Exit::Failed;
    }
    if global.json {
        output::json(&records);
    } else {
        for record in records {
            let (name, value) = (escaped(&record.name), escaped(&record.value));
            output::data(&format!("{name}. IN TXT \"{value}\""));
            output::talk(&format!("{}: {}", record.identifier, record.found));
        }
    }
    if records.iter().all(|it| it.is_right) { Exit::AsWanted } else { Exit::Failed }
}
