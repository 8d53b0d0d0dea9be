//! `[solver.*]`: how they work, and which of them is for an identifier.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::config::fault::Fault;
use crate::config::field::{At, FilePath, Item};
use crate::config::raw::RawSolver;
use crate::config::secret::{Form, Secrets, Sources};
use crate::config::shape::Shape;
use crate::config::show::Topic;
use crate::config::text::SolverType;
use crate::config::tree::Place;
use crate::model::{ChallengeType, Identifier, SolverName};
use crate::solver::{
    Dns01Settings, DnsPersist01Settings, ProviderSettings, SolverMethod, SolverSettings,
};
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
        let method = method(&mut item, world);
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

fn method(item: &mut Item<RawSolver>, world: &mut World<'_>) -> Option<SolverMethod> {
    let Some(kind) = item.shape.r#type.clone() else {
        if !item.has("type") {
            let hint = "write type = \"http-01\", \"tls-alpn-01\" or \"dns-01\"";
            item.faults.push(item.fault("there is no `type`").hint(hint));
        }
        return None;
    };
    match kind.value {
        SolverType::Http01 => {
            refuse_keys(item, PROVIDER_KEYS, "http-01");
            refuse_keys(item, DNS_KEYS, "http-01");
            http01(item)
        }
        SolverType::Dns01 => {
            refuse_keys(item, HTTP_KEYS, "dns-01");
            dns01(item, world).map(SolverMethod::Dns01)
        }
        SolverType::DnsAccount01 => {
            refuse_keys(item, HTTP_KEYS, "dns-account-01");
            dns01(item, world).map(SolverMethod::DnsAccount01)
        }
        SolverType::DnsPersist01 => {
            refuse_keys(item, HTTP_KEYS, "dns-persist-01");
            refuse_keys(item, PROVIDER_KEYS, "dns-persist-01");
            Some(SolverMethod::DnsPersist01(dns_persist01(&item.shape)))
        }
        SolverType::TlsAlpn01 => {
            refuse_keys(item, PROVIDER_KEYS, "tls-alpn-01");
            refuse_keys(item, DNS_KEYS, "tls-alpn-01");
            refuse_keys(item, &["webroot"], "tls-alpn-01");
            Some(SolverMethod::TlsAlpn01 { addresses: tls_addresses(item) })
        }
    }
}

const HTTP_KEYS: &[&str] = &["webroot", "listen"];

/// Besides those of secrets.
const PROVIDER_KEYS: &[&str] = &["provider", "program", "server", "url", "user", "options"];

const DNS_KEYS: &[&str] = &["resolvers", "nameservers", "propagation_timeout"];

/// Faults each of `keys` that `item` holds: it would mean nothing there.
fn refuse_keys(item: &mut Item<RawSolver>, keys: &[&str], kind: &str) {
    let lines = item.shape.lines();
    for line in lines {
        let is_secret = || {
            let first = line.key.rsplit_once('_').map(|(first, _)| first);
            keys == PROVIDER_KEYS && first.is_some_and(|it| ProviderSettings::SECRETS.contains(&it))
        };
        if keys.contains(&line.key) || is_secret() {
            let fault = Fault::at(&line.place, &line.path, format!("means nothing for {kind}"));
            item.faults.push(fault.hint("take it out"));
        }
    }
}

fn http01(item: &mut Item<RawSolver>) -> Option<SolverMethod> {
    let shape = item.shape.clone();
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

/// Where a CA looks for tls-alpn-01, if nothing is written (RFC 8737 §3).
const HTTPS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 443);

fn tls_addresses(item: &mut Item<RawSolver>) -> Vec<SocketAddr> {
    let Some(listen) = item.shape.listen.clone() else { return vec![HTTPS] };
    if listen.value.0.is_empty() {
        item.faults.push(listen.fault("names no address"));
    }
    listen.value.0.iter().map(|it| it.value).collect()
}

/// How long all name servers may take, if nothing is written: as the reference says.
const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(5 * 60);

fn dns01(item: &mut Item<RawSolver>, world: &mut World<'_>) -> Option<Dns01Settings> {
    let shape = item.shape.clone();
    let Some(name) = &shape.provider else {
        if !item.has("provider") {
            let hint = format!("write one of: {}", ProviderSettings::known().join(", "));
            item.faults.push(item.fault("there is no `provider`").hint(hint));
        }
        return None;
    };
    let mut provider = ProviderSettings {
        name: name.value.clone(),
        program: Vec::new(),
        values: BTreeMap::new(),
        secrets: BTreeMap::new(),
    };
    let mut places: BTreeMap<String, At<()>> = BTreeMap::from([("provider".into(), name.with(()))]);
    let plain = [("server", &shape.server), ("url", &shape.url), ("user", &shape.user)];
    let plain = plain.into_iter().filter_map(|(key, at)| Some((key.to_owned(), at.as_ref()?)));
    let options = shape.options.iter().flat_map(|it| &it.value.0);
    for (key, at) in plain.chain(options.map(|(key, at)| (key.clone(), at))) {
        places.insert(key.clone(), at.with(()));
        provider.values.insert(key, at.value.clone());
    }
    if let Some(program) = &shape.program {
        places.insert("program".to_owned(), program.with(()));
        provider.program = program.value.iter().map(|it| it.value.clone()).collect();
    }
    let count = item.faults.len();
    for (key, form, sources) in secret_sources(&shape) {
        let (environment, watched) = (world.environment, &mut world.watched);
        let secret = sources.read_as(form, world.secrets, environment, watched, &mut item.faults);
        if let Some(at) = secret {
            places.insert(key.to_owned(), at.with(()));
            provider.secrets.insert(key.to_owned(), at.value);
        }
    }
    // A secret that was not read, whatever the reason, is not also missing.
    if world.secrets == Secrets::Read && item.faults.len() == count {
        for fault in provider.faults() {
            let place = fault.key.as_ref().and_then(|it| places.get(it));
            let message = fault.message;
            let told = place.map_or_else(|| item.fault(&message), |at| at.fault(&message));
            item.faults.push(told.hint(fault.hint));
        }
    }
    let DnsPersist01Settings { resolvers, nameservers, propagation_timeout } =
        dns_persist01(&shape);
    Some(Dns01Settings { provider, resolvers, nameservers, propagation_timeout })
}

/// Whom to ask and how long, of which there is no more to say for dns-persist-01.
fn dns_persist01(shape: &RawSolver) -> DnsPersist01Settings {
    let addresses =
        |it: &At<Vec<At<SocketAddr>>>| it.value.iter().map(|it| it.value).collect::<Vec<_>>();
    let timeout = &shape.propagation_timeout;
    DnsPersist01Settings {
        resolvers: shape.resolvers.as_ref().map(addresses).unwrap_or_default(),
        nameservers: shape.nameservers.as_ref().map(addresses),
        propagation_timeout: timeout.as_ref().map_or(PROPAGATION_TIMEOUT, |it| it.value.0),
    }
}

/// Where each secret of a provider may come from.
fn secret_sources(shape: &RawSolver) -> [(&'static str, Form, Sources<'_>); 4] {
    let RawSolver { token_file, token_credential, token_env, .. } = shape;
    let RawSolver { key_file, key_credential, key_env, .. } = shape;
    let RawSolver { secret_file, secret_credential, secret_env, .. } = shape;
    let RawSolver { password_file, password_credential, password_env, .. } = shape;
    [
        ("token", Form::Line, sources(token_file, token_credential, token_env)),
        ("key", Form::Document, sources(key_file, key_credential, key_env)),
        ("secret", Form::Line, sources(secret_file, secret_credential, secret_env)),
        ("password", Form::Line, sources(password_file, password_credential, password_env)),
    ]
}

const fn sources<'a>(
    file: &'a Option<At<FilePath>>,
    credential: &'a Option<At<String>>,
    variable: &'a Option<At<String>>,
) -> Sources<'a> {
    Sources {
        inline: None,
        file: file.as_ref(),
        credential: credential.as_ref(),
        variable: variable.as_ref(),
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
        let Some(SolverSettings { method, .. }) = solvers.all.get(&named.value) else {
            faults.push(solvers.all.fault("solver", &named, world));
            continue;
        };
        let name = named.value;
        if let Some(fault) = unsuited(at, &name, method.challenge_type()) {
            faults.push(fault);
        }
        choice.insert(at.value.clone(), name);
    }
    choice
}

/// What keeps solver `name` from proving `at` by `kind`, if anything.
fn unsuited(at: &At<Identifier>, name: &SolverName, kind: ChallengeType) -> Option<Fault> {
    let identifier = &at.value;
    if identifier.is_wildcard() && !kind.is_by_dns() {
        let message =
            format!("{identifier} is a wildcard, which solver {name} cannot prove: it does {kind}");
        let hint = "only dns-01 proves wildcards (RFC 8555 §7.1.3): add a solver of that type for \
                    it, or list the names one by one";
        return Some(at.fault(message).hint(hint));
    }
    if matches!(identifier, Identifier::Ip(_)) && kind.is_by_dns() {
        let message =
            format!("{identifier} is an address, which solver {name} cannot prove: it does {kind}");
        let hint = "addresses are proven by http-01 and tls-alpn-01 (RFC 8738 §7): name such a \
                    solver for it";
        return Some(at.fault(message).hint(hint));
    }
    None
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
