//! `renewd ca`: the roots of a built-in CA, for trust stores.
//!
//! Standard output is PEM and nothing else, so that it can go into a file as it is; what there is
//! to know of each root is told on standard error, or stands in the JSON.
//!
//! Not here: putting a root into any trust store.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::config::{Ca, Config};
use crate::local_ca::{Authority, LocalCa, LocalCaError, LocalCaSettings, NewRoot};
use crate::model::pem::write_certificates;
use crate::model::{CaName, Explain, Fingerprint, Timestamp, chain_text};
use crate::store::Store;
use crate::sys::clock::{Clock, SystemClock};

use super::arguments::Global;
use super::context::{Context, Ended};
use super::exit::Exit;
use super::output;

/// One root, as JSON tells it.
#[derive(Debug, Serialize)]
struct RootDocument {
    ca: CaName,
    name: String,
    subject: String,
    not_before: Timestamp,
    not_after: Timestamp,
    sha256: Fingerprint,
    permitted: Vec<String>,
    pem: String,
}

/// Prints the roots of the CA `name`, or of the only one. Makes nothing, also beside a daemon.
pub(super) async fn root(global: &Global, name: Option<&CaName>) -> Result<Exit, Ended> {
    let context = Context::load_to_look(global)?;
    let settings = chosen(&context.config, name)?;
    let roots = look(&context.config, settings).await.map_err(|error| ended(&error))?;
    show(global, &settings.name, &roots);
    Ok(Exit::AsWanted)
}

/// Makes what the CA `name`, or the only one, needs to sign, if there is no root; prints the roots.
pub(super) async fn init(
    global: &Global,
    name: Option<&CaName>,
    wait: Option<Duration>,
) -> Result<Exit, Ended> {
    let context = Context::load(global)?;
    let settings = chosen(&context.config, name)?.clone();
    // Where there is nothing to make, a daemon at work is in nobody's way.
    if let Ok(roots) = look(&context.config, &settings).await {
        show(global, &settings.name, &roots);
        return Ok(Exit::AsWanted);
    }
    let (base, _agent, deployer) = context.open(wait).await?;
    let (ca, now) = (LocalCa::new(settings, base.store), base.clock.now());
    ca.prepare(NewRoot::ByHand, now).await.map_err(|error| ended(&error))?;
    let roots = ca.roots(now).await.map_err(|error| ended(&error))?;
    show(global, &ca.settings().name, &roots);
    deployer.end().await;
    Ok(Exit::AsWanted)
}

/// The roots of the CA of `settings`, as they are.
async fn look(config: &Config, settings: &LocalCaSettings) -> Result<Vec<Authority>, LocalCaError> {
    let store = Arc::new(Store::open_read_only(&config.store));
    LocalCa::new(settings.clone(), store).roots(SystemClock::new().now()).await
}

/// The CA that is meant.
fn chosen<'a>(config: &'a Config, name: Option<&CaName>) -> Result<&'a LocalCaSettings, Ended> {
    let local = config.cas.values().filter_map(|it| match it {
        Ca::Local(settings) => Some(settings),
        Ca::Acme(_) => None,
    });
    let local: Vec<&LocalCaSettings> = local.collect();
    let names: Vec<&str> = local.iter().map(|it| it.name.as_str()).collect();
    let (message, hint) = match (name, local.as_slice()) {
        (None, [only]) => return Ok(only),
        (_, []) => (
            "the configuration has no built-in CA".to_owned(),
            "add one: [ca.inside] with type = \"local\"".to_owned(),
        ),
        (Some(name), all) => match all.iter().find(|it| it.name == *name) {
            Some(settings) => return Ok(settings),
            None => {
                let hint = format!("the built-in CAs are: {}", names.join(", "));
                (format!("there is no built-in CA named {name}"), hint)
            }
        },
        (None, _) => {
            ("there are several built-in CAs".to_owned(), format!("name one: {}", names.join(", ")))
        }
    };
    output::problem(&message, Some(&hint));
    Err(Ended(Exit::Usage))
}

fn show(global: &Global, ca: &CaName, roots: &[Authority]) {
    let documents = roots.iter().map(|root| RootDocument {
        ca: ca.clone(),
        name: root.label.to_string(),
        // A root's issuer is itself.
        subject: root.facts.issuer.clone(),
        not_before: root.facts.validity.not_before,
        not_after: root.facts.validity.not_after,
        sha256: root.facts.sha256,
        permitted: root.permitted.iter().map(ToString::to_string).collect(),
        pem: write_certificates([&root.certificate]),
    });
    if global.json {
        output::json(&documents.collect::<Vec<_>>());
        return;
    }
    for root in documents {
        output::data(&root.pem);
        output::talk(&format!(
            "{}: {}, until {}, SHA-256 {}",
            root.name, root.subject, root.not_after, root.sha256
        ));
    }
    if roots.len() > 1 {
        output::talk("the last one will sign soon: put all of them into every trust store");
    }
}

fn ended(error: &LocalCaError) -> Ended {
    output::problem(&chain_text(error), error.hint().as_deref());
    Ended(match error {
        LocalCaError::Storage(_) => Exit::State,
        _ => Exit::Failed,
    })
}
