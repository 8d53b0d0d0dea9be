//! The status as people read it: the table of `renewd status`, and all about one certificate for
//! `renewd show`.
//!
//! Colour only repeats what a word says. Lines below the table give each trouble with its cause,
//! its next try and what to do.
//!
//! Not here: where it is printed, and the JSON form, which is [`StatusDocument`] itself.

use std::path::Path;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, ContentArrangement, Table};

use crate::model::{
    AllowanceStatus, CaName, CertificateName, CertificateStatus, Condition, EndpointCondition,
    EndpointState, Health, Limit, LimitStatus, RecordCondition, RecordStatus, RenewalCondition,
    RevocationCondition, RevocationStatus, StatusDocument, TargetStatus, Timestamp, escaped,
};

use super::span;

/// The longest text of the last column that stands in the table; all of it stands below.
const MAX_REASON: usize = 40;

/// How many certificates are told of that a CA allows little more of.
const MAX_SCARCE: usize = 10;

/// How the text is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it may have colours.
    pub color: bool,
    /// How many columns there are; lines below the table are never broken.
    pub width: u16,
}

impl Default for Look {
    fn default() -> Self {
        Self { color: false, width: 100 }
    }
}

/// The table of `renewd status`, its troubles below it.
#[must_use]
pub fn table(status: &StatusDocument, now: Timestamp, look: Look) -> String {
    let mut text = String::new();
    if status.certificates.is_empty() {
        text.push_str("No certificates are configured.\n");
    } else {
        text.push_str(&rows(status, now, look));
    }
    let troubles: Vec<String> = status
        .certificates
        .iter()
        .flat_map(|it| troubles(it, now))
        .chain(status.notices.iter().filter(|it| it.health > Health::Ok).map(|notice| {
            let hint = hint_line(notice.hint.as_deref());
            format!("{}: {}\n{hint}", word(notice.health), escaped(&notice.message))
        }))
        .collect();
    if !troubles.is_empty() {
        text.push('\n');
        text.extend(troubles);
    }
    text.push_str(&stand_ins(status));
    text.push_str(&scarce(status));
    if let Some(notice) = status.notices.iter().find(|it| it.code == "agent.deployer") {
        text.push_str(&format!("\nDeployment: {}.\n", escaped(&notice.message)));
    }
    if let Some(notice) = status.notices.iter().find(|it| it.code == "state.on_a_network") {
        text.push_str(&format!("\nNote: {}.\n", escaped(&notice.message)));
    }
    if status.notices.iter().any(|it| it.code == "agent.silent" && it.health == Health::Ok) {
        text.push_str(
            "\nNobody will be told of trouble: there is no [[alert]] and no heartbeat.\n",
        );
    }
    text
}

/// A line for each certificate that did not come from the first CA of its list.
fn stand_ins(status: &StatusDocument) -> String {
    let lines = status.certificates.iter().filter_map(|certificate| {
        let it = certificate.stand_in.as_ref()?;
        let (name, reason) = (&certificate.name, escaped(&it.reason));
        Some(format!("{name}: from the stand-in {}: {reason}\n", it.ca))
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// Lines for certificates of which a CA allows little more, the rest as a number.
fn scarce(status: &StatusDocument) -> String {
    let is_scarce = |it: &LimitStatus| it.next_at.is_some() && it.left <= it.of / 2;
    let mut lines = status.certificates.iter().filter_map(|certificate| {
        let told = certificate.allowance.as_ref()?;
        let is_worth_it = told.refused_until.is_some() || told.limits.iter().any(is_scarce);
        allowance(told).filter(|_| is_worth_it).map(|it| format!("  {}: {it}\n", certificate.name))
    });
    let shown: String = lines.by_ref().take(MAX_SCARCE).collect();
    if shown.is_empty() {
        return shown;
    }
    let more = match lines.count() {
        0 => String::new(),
        more => format!("  and {more} more: `renewd plan`\n"),
    };
    format!("\nLittle is left of what the CA allows:\n{shown}{more}")
}

fn rows(status: &StatusDocument, now: Timestamp, look: Look) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(look.width)
        .set_header(["NAME", "CONDITION", "HEALTH", "EXPIRES", "RENEWS", "TARGETS", "NEXT/REASON"]);
    if look.color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    for certificate in &status.certificates {
        let colored = |text: String| {
            let cell = Cell::new(text);
            if look.color { cell.fg(color(certificate.health)) } else { cell }
        };
        table.add_row([
            Cell::new(&certificate.name),
            Cell::new(condition_text(certificate.condition)),
            colored(word(certificate.health).to_owned()),
            Cell::new(relative(certificate.not_after, now)),
            Cell::new(renews(certificate, now)),
            Cell::new(targets_text(certificate)),
            Cell::new(next(certificate, now)),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Where servers find a certificate: the folders behind the links called `current`.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// Its own.
    pub current: &'a Path,
    /// The name of the other one of its pair, and that one's.
    pub paired: Option<(&'a CertificateName, &'a Path)>,
    /// Whether the key is there too.
    pub has_key: bool,
}

/// All about one certificate, with the lines that tell servers of `files`.
#[must_use]
pub fn show(status: &CertificateStatus, files: Files<'_>, now: Timestamp, look: Look) -> String {
    let mut text = String::new();
    let domains: Vec<String> = status.domains.iter().map(ToString::to_string).collect();
    let moment = |at: Option<Timestamp>| at.map(|it| format!("{it} ({})", relative(at, now)));
    let health = if look.color { styled(status.health) } else { word(status.health).to_owned() };
    let lines = [
        ("name", Some(status.name.to_string())),
        ("pair", files.paired.map(|(name, _)| format!("with {name}"))),
        ("domains", Some(domains.join(", "))),
        ("condition", Some(condition_text(status.condition).to_owned())),
        ("health", Some(health)),
        ("renewal", Some(renewal_text(status.renewal).to_owned())),
        ("reason", Some(escaped(&status.reason)).filter(|it| !it.is_empty())),
        ("not before", status.not_before.map(|it| it.to_string())),
        ("not after", moment(status.not_after)),
        ("renews", moment(status.renew_at)),
        ("why then", status.explanation_url.as_deref().map(escaped)),
        ("next try", moment(status.next_attempt_at)),
        ("failures", (status.failures > 0).then(|| status.failures.to_string())),
        ("since", status.since.map(|it| it.to_string())),
        ("error", status.last_error.as_deref().map(escaped)),
        ("error code", status.error_code.clone()),
        ("hint", status.hint.as_deref().map(escaped)),
        ("allowance", status.allowance.as_ref().and_then(allowance)),
        ("ca", status.ca.as_ref().map(|it| of_ca(it, status))),
        ("stand-ins", stand_ins_text(status)),
        ("issuer", status.issuer.as_deref().map(escaped)),
        ("serial", status.serial.clone()),
        ("sha256", status.sha256.map(|it| it.to_string())),
        ("generation", status.generation.clone()),
        ("revocation", status.revocation.as_ref().map(revocation_text)),
    ];
    for (label, value) in lines {
        if let Some(value) = value {
            text.push_str(&format!("{label:<12}{value}\n"));
        }
    }
    for record in &status.records {
        push_record(&mut text, record);
    }
    for target in &status.targets {
        text.push('\n');
        push_target(&mut text, target, now);
    }
    push_files(&mut text, status.condition, files);
    text
}

/// How far a revocation is.
fn revocation_text(revocation: &RevocationStatus) -> String {
    let state = match revocation.state {
        RevocationCondition::Pending => "asked for",
        RevocationCondition::Refused => "refused by the CA",
        RevocationCondition::Unreadable => "what was asked for can't be read",
    };
    let reason = revocation.reason.as_deref().map(|it| format!(" ({})", escaped(it)));
    let error = revocation.last_error.as_deref().map(|it| format!(": {}", escaped(it)));
    format!("{state}{}{}", reason.unwrap_or_default(), error.unwrap_or_default())
}

/// Each stand-in, and whether it would issue.
fn stand_ins_text(status: &CertificateStatus) -> Option<String> {
    let each = status.stand_ins.iter().map(|it| match &it.last_error {
        Some(error) => format!("{} would not issue: {}", it.ca, escaped(error)),
        None => format!("{} is fit, looked at {}", it.ca, it.checked_at),
    });
    let text = each.collect::<Vec<_>>().join("; ");
    Some(text).filter(|it| !it.is_empty())
}

/// The CA, and why it is not the first of the list, if it is not.
fn of_ca(ca: &CaName, status: &CertificateStatus) -> String {
    match &status.stand_in {
        Some(it) if it.ca == *ca => format!(
            "{ca}, a stand-in for {} since {}: {}",
            it.stands_in_for,
            it.since,
            escaped(&it.reason)
        ),
        _ => ca.to_string(),
    }
}

fn push_record(text: &mut String, record: &RecordStatus) {
    text.push_str(&format!("\nrecord for {}: {}\n", record.identifier, record_text(record.state)));
    text.push_str(&format!("  {}. IN TXT \"{}\"\n", escaped(&record.name), escaped(&record.value)));
    if let Some(until) = record.until {
        text.push_str(&format!("  until {until}\n"));
    }
    if let Some(at) = record.checked_at {
        text.push_str(&format!("  looked at {at}\n"));
    }
}

/// What is left of what a CA allows, in one line; `None` where nothing is counted.
#[must_use]
pub fn allowance(allowance: &AllowanceStatus) -> Option<String> {
    let each = allowance.limits.iter().map(|it| {
        let next = it.next_at.map(|at| format!(", one more at {at}")).unwrap_or_default();
        format!("{} of {} {} in {} left{next}", it.left, it.of, counted(it), it.per)
    });
    let refused = allowance.refused_until.map(|it| format!("would be refused until {it}"));
    let all = refused.into_iter().chain(each).collect::<Vec<_>>().join("; ");
    (!all.is_empty()).then(|| format!("{}: {all}", allowance.ca))
}

/// What a limit counts, in words.
fn counted(limit: &LimitStatus) -> String {
    let known = Limit::ALL.into_iter().find(|it| it.as_str() == limit.limit);
    known.map_or_else(|| limit.limit.clone(), |it| it.counted(&limit.about))
}

fn push_target(text: &mut String, target: &TargetStatus, now: Timestamp) {
    text.push_str(&format!("target {}: {}\n", target.name, target_text(target.state)));
    for endpoint in &target.endpoints {
        text.push_str(&format!("  {}\n", endpoint_text(endpoint)));
    }
    if let Some(error) = &target.last_error {
        text.push_str(&format!("  error: {}\n", escaped(error)));
    }
    if target.next_attempt_at.is_some() {
        text.push_str(&format!("  next try {}\n", relative(target.next_attempt_at, now)));
    }
    text.push_str(&hint_line(target.hint.as_deref()));
}

fn endpoint_text(endpoint: &EndpointState) -> String {
    let mut line =
        format!("{} as {}: {}", endpoint.address, endpoint.name, target_text(endpoint.state));
    if let Some(serial) = &endpoint.served_serial {
        line.push_str(&format!(", serves serial {}", escaped(serial)));
    }
    line.push_str(&format!(", asked at {}", endpoint.checked_at));
    if let Some(error) = &endpoint.last_error {
        line.push_str(&format!(": {}", escaped(error)));
    }
    line
}

/// The paths of the files, and what servers must be told; of a pair, of both.
fn push_files(text: &mut String, condition: Condition, files: Files<'_>) {
    if condition == Condition::Missing {
        return;
    }
    text.push_str("\nfiles\n");
    let secret: &[&str] = if files.has_key { &["privkey.pem", "combined.pem"] } else { &[] };
    for file in ["fullchain.pem", "cert.pem", "chain.pem"].iter().chain(secret) {
        text.push_str(&format!("  {}\n", files.current.join(file).display()));
    }
    if !files.has_key {
        text.push_str(
            "\nThe key is elsewhere: the server needs fullchain.pem, and its own way to that.\n",
        );
        return;
    }
    let folders = std::iter::once(files.current).chain(files.paired.map(|(_, it)| it));
    push_server_lines(text, &folders.map(Named::of).collect::<Vec<_>>());
}

/// The files of one certificate that servers are told of.
struct Named {
    chain: String,
    key: String,
    combined: String,
}

impl Named {
    fn of(current: &Path) -> Self {
        let path = |file: &str| current.join(file).display().to_string();
        Self {
            chain: path("fullchain.pem"),
            key: path("privkey.pem"),
            combined: path("combined.pem"),
        }
    }
}

/// What each server is told of `certificates`, which it has side by side.
fn push_server_lines(text: &mut String, certificates: &[Named]) {
    let each = |line: fn(&Named) -> String| certificates.iter().map(line).collect::<Vec<String>>();
    let nginx = each(|Named { chain, key, .. }| {
        format!("  ssl_certificate {chain};\n  ssl_certificate_key {key};\n")
    });
    let apache = each(|Named { chain, key, .. }| {
        format!("  SSLCertificateFile {chain}\n  SSLCertificateKeyFile {key}\n")
    });
    let haproxy = each(|it| format!(" crt {}", it.combined));
    let postfix = each(|Named { chain, key, .. }| format!("{key}, {chain}"));
    let dovecot = certificates.iter().zip(["ssl", "ssl_alt"]).map(|(it, prefix)| {
        format!("  {prefix}_cert = <{}\n  {prefix}_key = <{}\n", it.chain, it.key)
    });
    text.push_str(&format!("\nnginx\n{}", nginx.concat()));
    text.push_str(&format!("\nApache\n{}", apache.concat()));
    text.push_str(&format!("\nHAProxy\n  bind :443 ssl{}\n", haproxy.concat()));
    text.push_str(&format!("\nPostfix\n  smtpd_tls_chain_files = {}\n", postfix.join(", ")));
    text.push_str(&format!("\nDovecot\n{}", dovecot.collect::<String>()));
}

/// One entry for each thing that is wrong with `status`.
fn troubles(status: &CertificateStatus, now: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    let of_target = |target: &&TargetStatus| target.last_error.is_some();
    let targets: Vec<&TargetStatus> = status.targets.iter().filter(of_target).collect();
    let told_by_target = targets.iter().any(|it| it.last_error == status.last_error);

    if !told_by_target && (status.health > Health::Ok || status.last_error.is_some()) {
        let what = status.last_error.as_deref().unwrap_or(status.reason.as_str());
        let severity = word(status.health.max(Health::Warning));
        found.push(entry(
            &Told {
                place: format!("{severity}: {}", status.name),
                what,
                code: status.error_code.as_deref(),
                since: status.since,
                next_attempt_at: status.next_attempt_at,
                hint: status.hint.as_deref(),
            },
            now,
        ));
    }
    for target in targets {
        let severity = word(status.health.max(Health::Warning));
        found.push(entry(
            &Told {
                place: format!("{severity}: {} at {}", status.name, target.name),
                what: target.last_error.as_deref().unwrap_or_default(),
                code: target.error_code.as_deref(),
                since: target.since,
                next_attempt_at: target.next_attempt_at,
                hint: target.hint.as_deref(),
            },
            now,
        ));
    }
    found
}

/// What an entry below the table says.
struct Told<'a> {
    place: String,
    what: &'a str,
    code: Option<&'a str>,
    since: Option<Timestamp>,
    next_attempt_at: Option<Timestamp>,
    hint: Option<&'a str>,
}

fn entry(told: &Told<'_>, now: Timestamp) -> String {
    let mut text = format!("{}: {}", told.place, escaped(told.what));
    if let Some(code) = told.code {
        text.push_str(&format!(" [{code}]"));
    }
    text.push('\n');
    let since = told.since.map(|it| format!("for {}", span::text(now.since(it))));
    let next =
        told.next_attempt_at.map(|_| format!("next try {}", relative(told.next_attempt_at, now)));
    let times: Vec<String> = since.into_iter().chain(next).collect();
    if !times.is_empty() {
        text.push_str(&format!("  {}\n", times.join(", ")));
    }
    text.push_str(&hint_line(told.hint));
    text
}

fn hint_line(hint: Option<&str>) -> String {
    hint.map_or_else(String::new, |it| format!("  hint: {}\n", escaped(it)))
}

fn renews(status: &CertificateStatus, now: Timestamp) -> String {
    match status.renewal {
        RenewalCondition::Idle => relative(status.renew_at, now),
        other => renewal_text(other).to_owned(),
    }
}

/// The next try if one is coming, else why it is as it is.
fn next(status: &CertificateStatus, now: Timestamp) -> String {
    if status.failures > 0 && status.next_attempt_at.is_some() {
        return format!("next try {}", relative(status.next_attempt_at, now));
    }
    let reason = escaped(&status.reason);
    if reason.chars().count() <= MAX_REASON {
        return reason;
    }
    let kept: String = reason.chars().take(MAX_REASON - 1).collect();
    format!("{}…", kept.trim_end())
}

fn targets_text(status: &CertificateStatus) -> String {
    if status.targets.is_empty() {
        return "-".to_owned();
    }
    let each = status.targets.iter().map(|it| format!("{} {}", it.name, target_text(it.state)));
    each.collect::<Vec<_>>().join("\n")
}

/// `at` as seen from `now`: `in 6d 3h`, `now`, `2h ago`.
fn relative(at: Option<Timestamp>, now: Timestamp) -> String {
    match at {
        None => "-".to_owned(),
        Some(at) if at > now => format!("in {}", span::text(at.since(now))),
        Some(at) if at == now => "now".to_owned(),
        Some(at) => format!("{} ago", span::text(now.since(at))),
    }
}

const fn color(health: Health) -> Color {
    match health {
        Health::Ok => Color::Green,
        Health::Warning => Color::Yellow,
        Health::Critical => Color::Red,
    }
}

fn styled(health: Health) -> String {
    let code = match health {
        Health::Ok => 32,
        Health::Warning => 33,
        Health::Critical => 31,
    };
    format!("\x1b[{code}m{}\x1b[0m", word(health))
}

const fn word(health: Health) -> &'static str {
    match health {
        Health::Ok => "ok",
        Health::Warning => "warning",
        Health::Critical => "critical",
    }
}

const fn condition_text(condition: Condition) -> &'static str {
    match condition {
        Condition::Missing => "missing",
        Condition::Placeholder => "placeholder",
        Condition::Held => "held",
        Condition::Served => "served",
        Condition::NotServed => "not served",
        Condition::Expired => "expired",
        Condition::Revoked => "revoked",
        Condition::Unmanaged => "unmanaged",
    }
}

const fn renewal_text(renewal: RenewalCondition) -> &'static str {
    match renewal {
        RenewalCondition::Idle => "idle",
        RenewalCondition::Due => "due",
        RenewalCondition::Running => "running",
        RenewalCondition::BackingOff => "backing off",
        RenewalCondition::Blocked => "blocked",
    }
}

const fn record_text(state: RecordCondition) -> &'static str {
    match state {
        RecordCondition::Unknown => "not looked at yet",
        RecordCondition::Right => "right",
        RecordCondition::Missing => "missing",
        RecordCondition::Unreadable => "can't be read",
        RecordCondition::OtherAccount => "names another account or key",
        RecordCondition::NotForWildcards => "not for wildcards",
        RecordCondition::Ended => "ended",
        RecordCondition::EndsSoon => "ends before the certificate",
    }
}

const fn target_text(state: EndpointCondition) -> &'static str {
    match state {
        EndpointCondition::Waiting => "waiting",
        EndpointCondition::Installed => "installed",
        EndpointCondition::Served => "served",
        EndpointCondition::Failed => "failed",
        EndpointCondition::Unproven => "unproven",
    }
}

#[cfg(test)]
mod tests;
