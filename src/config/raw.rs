//! The tables of the configuration, key by key: their documentation is the reference.

use std::net::SocketAddr;

use crate::deploy::InstallContent;
use crate::local_ca::Subtree;
use crate::model::{
    CaName, CertificateName, GroupName, Health, Identifier, KeyType, Share, SolverName, TargetName,
};
use crate::probe::StartTls;

use super::DeployerChoice;
use super::field::{At, Count, Entries, FilePath, Items, Later, OneOrMany, Reading, Texts};
use super::shape::{Shape, shape};
use super::text::{
    AlertType, Allowed, CaType, Exempt, Lifetime, Mode, SecretText, SolverType, Span, TargetKind,
};
use super::tree;

shape! {
    /// The configuration of renewd. An included file holds tables only.
    RawFile {
        /// What must outlive the process: certificates, accounts, state.
        state_dir: FilePath = "/var/lib/renewd",
        /// Sockets, the status file, challenge files.
        run_dir: FilePath = "/run/renewd",
        /// Whether `state_dir` may lie where it is lost with the machine's or container's end. Each
        /// start would order anew, which the limits of a CA for real certificates soon refuse.
        ephemeral: bool = false,
        /// Who installs and reloads: `direct` is this process, `socket` the deployer behind
        /// `deployer.sock`, `auto` the deployer if its socket is there.
        deployer: DeployerChoice = "auto",
        /// Who the CA writes to (RFC 8555 §7.3).
        contact: OneOrMany<String> as ["mailto:ops@example.com"],
        /// Whether you have read and accept the terms of service of the CAs that you use.
        terms_of_service_agreed: bool as true,
        /// The CA of every certificate that names none; the variable `RENEWD_DEFAULT_CA` overrules
        /// it.
        default_ca: CaName = "letsencrypt",
        /// More files, `*.toml` or `*.json`; relative to this one.
        include: Vec<At<String>> = ["conf.d/*.toml", "conf.d/*.json"],
        /// How many certificates are worked on at once. A quarter of these slots, and one at least,
        /// is kept for certificates that did not fail when they were last tried; with one slot they
        /// take turns.
        parallel: Count = 8,
        /// What holds for every certificate that does not say otherwise.
        defaults: RawCertificate,
        /// What holds for the certificates that name this group.
        group: Entries<RawCertificate>,
        /// CAs. Known without a table: letsencrypt, letsencrypt-staging, zerossl, google,
        /// google-staging, sslcom, actalis.
        ca: Entries<RawCa>,
        /// Ways to prove control. `web` is built in.
        solver: Entries<RawSolver>,
        /// Servers that use certificates.
        target: Entries<RawTarget>,
        /// When anyone is told of trouble.
        alerts: RawAlerts,
        /// Who is told of trouble.
        alert: Items<RawAlert>,
        /// The certificates that are wanted.
        certificate: Items<RawCertificate>,
    }
}

shape! {
    /// One certificate; in `[defaults]` and `[group.*]`, what holds for several.
    RawCertificate {
        /// Its name and its folder's; by default made of its first domain.
        name: CertificateName as "api",
        /// The group whose settings it takes.
        group: GroupName as "short",
        /// Host names, wildcards and IP addresses that it is for.
        domains: Vec<At<Identifier>> as ["api.example.com"],
        /// The CA, or a list: the first and its stand-ins. By default `default_ca`.
        ca: OneOrMany<CaName> as ["letsencrypt", "zerossl"],
        /// The kind of its key: p256, p384, rsa2048, rsa3072 or rsa4096. Two of them, one ECDSA and
        /// one RSA, make two certificates for servers that show each client the one it takes: NAME,
        /// which is the ECDSA one, and NAME.rsa.
        key: OneOrMany<KeyType> = "p256",
        /// The profile to ask the CA for.
        profile: String as "shortlived",
        /// The solver for all its domains; by default the one that is for them, or `web`.
        solver: SolverName as "web",
        /// The servers that use it.
        targets: Vec<At<TargetName>> as ["nginx"],
        /// Whether the servers are asked what they serve.
        verify: bool = true,
        /// Names to ask servers for, in place of its domains: needed for wildcards.
        verify_names: Vec<At<Identifier>> as ["www.example.com"],
        /// The system's group that may read the key.
        read_group: String as "ssl-cert",
        /// Whether a self-signed stand-in is put down until the first certificate is there.
        placeholder: bool = true,
        /// Where the CA offers several chains: the common name of an issuer that it is to lead to.
        preferred_chain: String as "ISRG Root X1",
        /// Whether the next certificate is for the same key, which what is published of it names
        /// (TLSA 3 1 1, pins). One that is in other hands or of another kind is not used again.
        reuse_key: bool = false,
        /// A certificate request (PKCS#10, PEM or DER) for exactly `domains`, where the key is
        /// elsewhere: in a hardware module, in an appliance. Its key is certified each time, `key`
        /// is what it says, and nothing of the key is kept or installed. A changed request is
        /// followed at once.
        csr_file: FilePath as "site.csr",
        /// Comes with a later version.
        mode: Later,
        /// Comes with a later version.
        window: Later,
    }
}

shape! {
    /// One CA.
    RawCa {
        /// `acme`, or `local`: the built-in CA, which needs no network.
        r#type: CaType = "acme",
        /// Its directory URL (RFC 8555 §7.1.1); https, or http to loopback.
        directory: String as "https://localhost:14000/dir",
        /// A PEM file with the only roots that its own HTTPS is trusted by; else the system's.
        trust: FilePath as "lab-root.pem",
        /// Whether it is for tests: its certificates never replace those of a CA that isn't.
        test: bool = false,
        /// The key identifier of the external account binding (RFC 8555 §7.3.4).
        eab_kid: String as "abc",
        /// A file with its HMAC key, base64url as the CA gave it.
        eab_hmac_file: FilePath as "ca.hmac",
        /// Or a credential of systemd's with it.
        eab_hmac_credential: String as "ca-hmac",
        /// Or a variable of the environment with it.
        eab_hmac_env: String as "CA_HMAC",
        /// How much it allows; see below. Nothing is asked of it that it would refuse.
        limits: RawLimits as { new_orders = "300/3h" },
        /// With `local`: how long a certificate is valid; by default 30 days.
        lifetime: Lifetime as "7d",
        /// With `local`: how long an intermediate is valid; by default a year, and at least twice
        /// `lifetime`.
        intermediate_lifetime: Lifetime as "1y",
        /// With `local`: how long a root is valid; by default ten years, and at least four times
        /// `intermediate_lifetime`.
        root_lifetime: Lifetime as "10y",
        /// With `local`: the names (with all below them) and networks that it may certify, and
        /// nothing else; by default everything. A root keeps what it was made with.
        permitted: Vec<At<Subtree>> as ["internal.example", "10.0.0.0/8"],
        /// With `local`: what the names of its own certificates begin with; by default `renewd` and
        /// the CA's name.
        common_name: String as "Example internal",
        /// With `local`: the organization in the names of its own certificates.
        organization: String as "Example Ltd",
        /// With `local`: whether its certificates are for TLS clients too; by default not.
        client_auth: bool as true,
    }
}

shape! {
    /// How much a CA allows: a number and the span in which all of it is given back, or "none".
    RawLimits {
        /// New accounts.
        new_accounts: Allowed as "10/3h",
        /// New orders.
        new_orders: Allowed as "300/3h",
        /// Certificates for a registered domain with all below it, an IPv4 address or an IPv6 /64.
        certificates_per_domain: Allowed as "50/7d",
        /// Certificates for exactly the same domains.
        certificates_per_set: Allowed as "5/7d",
        /// Failed authorizations of one domain.
        failed_authorizations: Allowed as "5/1h",
        /// Failed authorizations of one domain without a success between them.
        consecutive_failures: Allowed as "1152/1152d",
        /// What counts against none of these: `replacements` on the CA's advice (RFC 9773); and
        /// `renewals` of the same domains, which count against `certificates_per_set` alone.
        exempt: Vec<At<Exempt>> as ["replacements", "renewals"],
    }
}

shape! {
    /// One way to prove control of identifiers.
    RawSolver {
        /// `http-01`, `tls-alpn-01`, `dns-01`, `dns-account-01` or `dns-persist-01`.
        r#type: SolverType as "http-01",
        /// The folder that a web server shows: files go below `.well-known/acme-challenge/`.
        webroot: FilePath as "/var/www/html",
        /// Or where renewd itself listens, while there is something to prove. With tls-alpn-01 by
        /// default `0.0.0.0:443`.
        listen: OneOrMany<SocketAddr> as ["127.0.0.1:8402", "[::1]:8402"],
        /// The identifiers that it is for; `*.example.net` is every name below. The most specific
        /// wins.
        r#for: Vec<At<Identifier>> as ["*.example.net", "example.net"],
        /// Who changes DNS; what each needs is listed at the end of this file. For dns-01.
        provider: String as "rfc2136",
        /// The program that changes DNS, with its arguments. For the provider `program`.
        program: Vec<At<String>> as ["/usr/local/lib/renewd/acme-sh-dns.sh", "dns_nsupdate"],
        /// The name server that takes updates, with its port if that is not 53. For rfc2136.
        server: String as "ns1.example.com",
        /// The provider's address, where it has not one for all. For dns-01.
        url: String as "https://dns.example.com",
        /// Who renewd is for the provider. For dns-01.
        user: String as "renewd",
        /// A file with the token of the provider. For dns-01.
        token_file: FilePath as "cloudflare.token",
        /// Or a credential of systemd's with it.
        token_credential: String as "cloudflare-token",
        /// Or a variable of the environment with it.
        token_env: String as "CLOUDFLARE_TOKEN",
        /// A file with its key: for rfc2136 as `tsig-keygen` writes it. For dns-01.
        key_file: FilePath as "renewd.key",
        /// Or a credential of systemd's with it.
        key_credential: String as "dns-key",
        /// Or a variable of the environment with it.
        key_env: String as "DNS_KEY",
        /// A file with the secret that goes with the key. For dns-01.
        secret_file: FilePath as "dns.secret",
        /// Or a credential of systemd's with it.
        secret_credential: String as "dns-secret",
        /// Or a variable of the environment with it.
        secret_env: String as "DNS_SECRET",
        /// A file with the password of `user`. For dns-01.
        password_file: FilePath as "dns.password",
        /// Or a credential of systemd's with it.
        password_credential: String as "dns-password",
        /// Or a variable of the environment with it.
        password_env: String as "DNS_PASSWORD",
        /// What else the provider needs that is no secret. For dns-01.
        options: Texts as { account_id = "1234" },
        /// The resolvers that zones are found by, where not the system's: for a view of its own.
        /// For dns-01.
        resolvers: Vec<At<SocketAddr>> as ["10.0.0.53:53"],
        /// Who is asked whether a record is there, where not the servers that the zone names; with
        /// an empty list nobody is. For dns-01.
        nameservers: Vec<At<SocketAddr>> as ["10.0.0.1:53", "10.0.0.2:53"],
        /// How long all name servers may take to have a record before the attempt ends. Those that
        /// do not answer are waited for 20 s once all others have it, this long if none answers,
        /// and then gone on without. For dns-01.
        propagation_timeout: Span = "5m",
    }
}

shape! {
    /// One server that uses certificates.
    RawTarget {
        /// Its kind, which brings defaults: nginx, apache, haproxy, postfix, dovecot, postgresql,
        /// mosquitto; command and other bring none. By default its own name.
        r#type: TargetKind as "nginx",
        /// The program that says whether the server would accept its configuration.
        test: Vec<At<String>> as ["nginx", "-t"],
        /// How the server is told to load its files again.
        reload: RawReload as { systemd = "nginx.service" },
        /// How long the programs may run before they are killed.
        timeout: Span = "60s",
        /// Where it is asked what it serves; an empty list: nowhere.
        verify: Vec<At<RawVerify>> as [{ address = "127.0.0.1:443" }],
        /// How long after a reload all addresses may take to serve the new certificate.
        verify_timeout: Span = "30s",
        /// Files to be put where the server looks, besides those of the state directory.
        install: Vec<At<RawInstall>> as [
            { file = "fullchain", path = "/etc/nginx/tls/{name}.pem" }
        ],
    }
}

shape! {
    /// How a server is told to load its files again: one of the three.
    RawReload {
        /// The unit that systemd reloads, or restarts if it can't be reloaded.
        systemd: String as "nginx.service",
        /// The signal that is sent, such as HUP, to the process of `pid_file`.
        signal: String as "HUP",
        /// The file that holds the number of the process.
        pid_file: FilePath as "/run/nginx.pid",
        /// The program that is run.
        command: Vec<At<String>> as ["nginx", "-s", "reload"],
    }
}

shape! {
    /// One address at which a server is asked what it serves.
    RawVerify {
        /// `host:port`, or `[address]:port`.
        address: String as "127.0.0.1:443",
        /// The names to ask for; by default the certificate's.
        names: Vec<At<Identifier>> as ["www.example.com"],
        /// The protocol spoken before TLS: smtp, imap, pop3, ftp, ldap or postgresql.
        starttls: StartTls as "smtp",
    }
}

shape! {
    /// One file to be put in place.
    RawInstall {
        /// What it holds: fullchain, cert, chain, privkey or combined.
        file: InstallContent as "fullchain",
        /// Where; `{name}` stands for the certificate's name.
        path: String as "/etc/nginx/tls/{name}.pem",
        /// Its owner.
        owner: String as "root",
        /// Its group.
        group: String as "www-data",
        /// Its mode; by default 0600 for what holds a key, else 0644.
        mode: Mode as "0640",
    }
}

shape! {
    /// When anyone is told of trouble.
    RawAlerts {
        /// The share of life left under which a certificate is worth a warning.
        warning: Share = "1/4",
        /// The share of life left under which it is critical.
        critical: Share = "1/8",
        /// For which share of its life a renewal must have failed before anyone is told.
        failing_for: Share = "1/12",
        /// A URL that the daemon fetches after every whole pass in which nothing was held up, for a
        /// dead man's switch; `renewd renew` of all certificates does at its end.
        heartbeat_url: SecretText as "https://watch.example.com/renewd",
        /// Or a file with it.
        heartbeat_url_file: FilePath as "heartbeat.url",
        /// Or a credential of systemd's with it.
        heartbeat_url_credential: String as "heartbeat-url",
        /// Or a variable of the environment with it.
        heartbeat_url_env: String as "HEARTBEAT_URL",
    }
}

shape! {
    /// One receiver of alerts.
    RawAlert {
        /// webhook, command or alertmanager.
        r#type: AlertType as "webhook",
        /// How messages call it; by default its type and number.
        name: String as "ops",
        /// Where to; https, or http to loopback. For webhook and alertmanager.
        url: SecretText as "https://hooks.example.com/tls",
        /// Or a file with it.
        url_file: FilePath as "webhook.url",
        /// Or a credential of systemd's with it.
        url_credential: String as "webhook-url",
        /// Or a variable of the environment with it.
        url_env: String as "WEBHOOK_URL",
        /// A file with the key that signs webhooks (Standard Webhooks: `whsec_…`).
        secret_file: FilePath as "webhook.key",
        /// Or a credential of systemd's with it.
        secret_credential: String as "webhook-key",
        /// Or a variable of the environment with it.
        secret_env: String as "WEBHOOK_KEY",
        /// The program that gets messages on its standard input. For command.
        command: Vec<At<String>> as ["/usr/local/bin/tell"],
        /// How long it may run before it is killed.
        timeout: Span = "30s",
        /// What is too little for it is not sent: warning, critical or ok.
        min_severity: Health = "warning",
        /// Whether it also hears of every renewal that went well.
        tell_renewed: bool = false,
    }
}

/// The CAs and targets that are known without a table.
pub(super) fn built_in_tables() -> RawFile {
    let table = tree::parse_built_in(include_str!("built_in.toml"));
    RawFile::read_fields(&table, &mut Reading::default())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config::field::{Item, read_shape};
    use crate::config::tree::{Node, Place, Value};
    use crate::store::StoreSettings;

    /// Reads `text` as `S`, and everything in it that faults.
    fn read<S: Shape>(text: &str) -> (S, Vec<String>) {
        let file: Arc<Path> = Arc::from(Path::new("/etc/renewd/renewd.toml"));
        let table = tree::parse_toml(text, &file).unwrap();
        let node = Node { place: Place::File(file, 1), value: Value::Table(table) };
        let mut reading = Reading::default();
        let shape = read_shape(&node, &mut reading).unwrap();
        (shape, reading.faults.iter().map(ToString::to_string).collect())
    }

    #[track_caller]
    fn check<S: Shape>() {
        for field in S::FIELDS {
            if let Some(value) = field.default.or(field.example) {
                let (shape, faults) = read::<S>(&format!("{} = {value}\n", field.key));
                assert!(faults.is_empty(), "{faults:?}");
                assert_eq!(shape.lines().len(), 1, "{}", field.key);
            }
            assert!(!field.doc.is_empty(), "{}", field.key);
        }
        let defaults = S::FIELDS.iter().filter(|it| it.default.is_some()).count();
        assert_eq!(S::built_in().lines().len(), defaults);
    }

    #[test]
    fn every_default_and_example_can_be_read() {
        check::<RawFile>();
        check::<RawCertificate>();
        check::<RawCa>();
        check::<RawLimits>();
        check::<RawSolver>();
        check::<RawTarget>();
        check::<RawReload>();
        check::<RawVerify>();
        check::<RawInstall>();
        check::<RawAlerts>();
        check::<RawAlert>();
        let built_in = RawFile::built_in();
        let store = StoreSettings::default();
        assert_eq!(built_in.state_dir.unwrap().value.0, store.state_dir);
        assert_eq!(built_in.run_dir.unwrap().value.0, store.run_dir);
    }

    #[test]
    fn the_built_in_tables_have_no_fault() {
        fn faults<T>(items: &[Item<T>]) -> usize {
            items.iter().map(|it| it.faults.len()).sum()
        }
        let (file, top_level) = read::<RawFile>(include_str!("built_in.toml"));
        let (cas, targets) = (file.ca.unwrap().value.0, file.target.unwrap().value.0);
        assert_eq!((top_level.len(), faults(&cas), faults(&targets)), (0, 0, 0));
        assert_eq!((cas.len(), targets.len()), (7, 7));
        assert_eq!(built_in_tables().ca.unwrap().value.0.len(), 7);
    }

    #[test]
    fn a_half_written_file_is_refused_or_read_and_nothing_else_happens() {
        let whole = include_str!("../../examples/full.toml");
        let file: Arc<Path> = Arc::from(Path::new("/etc/renewd/renewd.toml"));
        for (end, _) in whole.char_indices() {
            if let Ok(table) = tree::parse_toml(&whole[..end], &file) {
                RawFile::read_fields(&table, &mut Reading::default());
            }
        }
        let deep = format!("a = {}", "[".repeat(100_000));
        assert!(tree::parse_toml(&deep, &file).is_err());
    }
}
