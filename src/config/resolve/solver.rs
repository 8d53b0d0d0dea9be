//! `[solver.*]`: how they work, and which of them is for an identifier.

use std::collections::BTreeMap;

use crate::config::fault::Fault;
use crate::config::field::{At, Item};
use crate::config::raw::RawSolver;
use crate::config::show::Topic;
use crate::config::text::SolverType;
use crate::config::tree::Place;
use crate::model::{Identifier, SolverName};
use crate::solver::{SolverMethod, SolverSettings};
use crate::store::StoreSettings;

use super::World;
use super::registry::{Registry, named};

/// The name of the solver that is there without a table.
const WEB: &str = "web";

/// All solvers, and what they are for.
#[derive(Debug)]
pub(super) struct Solvers {
    pub(super) all: Registry<SolverName, SolverSettings>,
    /// Those of refused solvers too: what they are for must not silently become another's.
    patterns: Vec<(Identifier, SolverName)>,
}

/// All solvers: those of `items`, and `web` unless one of them has its name.
pub(super) fn resolve(
    items: Vec<Item<RawSolver>>,
    store: &StoreSettings,
    world: &mut World<'_>,
) -> Solvers {
    let mut solvers = Registry::new();
    let mut patterns = Vec::new();
    if let Ok(name) = WEB.parse::<SolverName>() {
        let method = SolverMethod::Webroot { directory: store.challenge_dir(), flat: true };
        solvers.insert(name.clone(), SolverSettings { name, method, identifiers: Vec::new() });
    }
    let mut claims: BTreeMap<Identifier, (SolverName, Place)> = BTreeMap::new();
    for (name, mut item) in named::<SolverName, _>(items, world) {
        world.show(Topic::Solver(name.clone()), &item.shape);
        let method = method(&mut item);
        let identifiers = item.shape.r#for.take().map(|it| it.value).unwrap_or_default();
        for at in &identifiers {
            if let Some((other, place)) = claims.get(&at.value) {
                let message = format!("{} is already for solver {other} at {place}", at.value);
                item.faults.push(at.fault(message).hint("keep it at one of them"));
            } else {
                claims.insert(at.value.clone(), (name.clone(), at.place.clone()));
            }
        }
        patterns.extend(identifiers.iter().map(|it| (it.value.clone(), name.clone())));
        let identifiers = identifiers.into_iter().map(|it| it.value).collect();
        match (world.settle(item.faults), method) {
            (true, Some(method)) => {
                solvers.insert(name.clone(), SolverSettings { name, method, identifiers });
            }
            _ => solvers.refuse(name),
        }
    }
    Solvers { all: solvers, patterns }
}

fn method(item: &mut Item<RawSolver>) -> Option<SolverMethod> {
    let shape = item.shape.clone();
    let Some(kind) = &shape.r#type else {
        if !item.has("type") {
            let hint = "write type = \"http-01\"";
            item.faults.push(item.fault("there is no `type`").hint(hint));
        }
        return None;
    };
    if kind.value != SolverType::Http01 {
        let word = if kind.value == SolverType::Dns01 { "dns-01" } else { "tls-alpn-01" };
        let message = format!("{word:?} comes with a later version");
        // Its other keys are unknown here, which is no fault of the operator's.
        item.faults = vec![kind.fault(message).hint("this version has type = \"http-01\"")];
        return None;
    }
    match (&shape.webroot, &shape.listen) {
        (Some(webroot), None) => {
            Some(SolverMethod::Webroot { directory: webroot.value.0.clone(), flat: false })
        }
        (None, Some(listen)) => {
            let addresses: Vec<_> = listen.value.0.iter().map(|it| it.value).collect();
            if addresses.is_empty() {
                item.faults.push(listen.fault("names no address"));
            }
            Some(SolverMethod::Listener { addresses })
        }
        (Some(_), Some(listen)) => {
            let message = "`webroot` and `listen` are two ways; a solver has one";
            item.faults.push(listen.fault(message).hint("make two solvers of it"));
            None
        }
        (None, None) => {
            if !item.has("webroot") && !item.has("listen") {
                let hint = "write webroot = \"/var/www/html\" or listen = \"127.0.0.1:8402\"";
                item.faults.push(item.fault("there is no `webroot` and no `listen`").hint(hint));
            }
            None
        }
    }
}

/// Which solver proves each of `identifiers`: `chosen` if given, else the most specific.
pub(super) fn choose(
    identifiers: &[At<Identifier>],
    chosen: Option<&At<SolverName>>,
    solvers: &Solvers,
    world: &World<'_>,
    faults: &mut Vec<Fault>,
) -> BTreeMap<Identifier, SolverName> {
    let mut choice = BTreeMap::new();
    for at in identifiers {
        let named = match chosen {
            Some(chosen) => chosen.clone(),
            None => match best(&at.value, solvers) {
                Some(name) => at.with(name),
                None => continue,
            },
        };
        if solvers.all.get(&named.value).is_none() {
            faults.push(solvers.all.fault("solver", &named, world));
            continue;
        }
        let name = named.value;
        if at.value.is_wildcard() {
            let message = format!(
                "{} is a wildcard, which solver {name} cannot prove: it does http-01",
                at.value
            );
            let hint = "only dns-01 proves wildcards (RFC 8555 §7.1.3), and it comes with a later \
                        version: list the names one by one";
            faults.push(at.fault(message).hint(hint));
        }
        choice.insert(at.value.clone(), name);
    }
    choice
}

/// The solver whose `for` fits `identifier` most closely, else `web`.
fn best(identifier: &Identifier, solvers: &Solvers) -> Option<SolverName> {
    solvers
        .patterns
        .iter()
        .map(|(pattern, name)| (fit(pattern, identifier), name))
        .filter(|(fit, _)| *fit > 0)
        .max_by_key(|(fit, _)| *fit)
        .map(|(_, name)| name.clone())
        .or_else(|| WEB.parse().ok())
}

/// How closely `pattern` fits: 0 not at all, more the longer it is, most if it is the identifier.
fn fit(pattern: &Identifier, identifier: &Identifier) -> usize {
    if pattern == identifier {
        return usize::MAX;
    }
    let (Identifier::Dns(pattern), Identifier::Dns(name)) = (pattern, identifier) else { return 0 };
    match pattern.strip_prefix('*') {
        Some(suffix) if name.ends_with(suffix) => suffix.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_most_specific_pattern_fits_best() {
        let fit = |pattern: &str, name: &str| {
            super::fit(&pattern.parse().unwrap(), &name.parse().unwrap())
        };
        assert_eq!(fit("*.example.net", "example.net"), 0);
        assert_eq!(fit("example.net", "a.example.net"), 0);
        assert_eq!(fit("*.example.net", "aexample.net"), 0);
        assert_eq!(fit("*.example.net", "192.0.2.1"), 0);
        assert!(fit("*.example.net", "a.b.example.net") > 0);
        assert!(
            fit("*.b.example.net", "a.b.example.net") > fit("*.example.net", "a.b.example.net")
        );
        assert!(
            fit("a.b.example.net", "a.b.example.net") > fit("*.b.example.net", "a.b.example.net")
        );
        assert!(fit("192.0.2.1", "192.0.2.1") > 0);
    }
}
