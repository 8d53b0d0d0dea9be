//! The one line that says to people what is wrong; no longer than a line should be.
//!
//! Not here: the words for programs, which are types, codes and keys.

use std::time::Duration;

use crate::model::{
    AGENT_BEHIND, CA_UNFIT, CLOCK_WRONG, CaName, CertificateName, CertificateStatus,
    EndpointCondition, Notice, REVOCATION_NOT_DONE, STATE_UNUSABLE, TargetStatus, Timestamp,
    escaped,
};

use super::message::AlertType;
use super::undelivered::{ALERTS_UNDELIVERED, ALERTS_UNKEPT, subject};

/// The longest cause that is quoted, in characters.
const MAX_CAUSE: usize = 300;

/// The line for a trouble of one certificate.
pub(super) fn of_certificate(
    kind: AlertType,
    status: &CertificateStatus,
    now: Timestamp,
) -> String {
    let name = &status.name;
    let end = status.not_after.map_or_else(String::new, |it| format!(" at {it}"));
    let cause = because(status.last_error.as_deref());
    match kind {
        AlertType::CertificateExpired => format!("{name} expired{end}{cause}"),
        AlertType::CertificateExpiring => {
            let left = status.not_after.map_or(Duration::ZERO, |it| it.since(now));
            format!("{name} expires in {}{end}{cause}", span_text(left))
        }
        AlertType::CertificateRevoked => format!("{name} was revoked by its CA{cause}"),
        AlertType::CertificateMissing => format!("{name} has no certificate yet{cause}"),
        AlertType::RenewalFailed => {
            format!("{name} is not renewed{}{cause}", failing_for(status.since, now))
        }
        _ => format!("{name}{cause}"),
    }
}

/// The line for a target that does not serve.
pub(super) fn deploy_failed(
    name: &CertificateName,
    target: &TargetStatus,
    since: Option<Timestamp>,
    now: Timestamp,
) -> String {
    let cause = because(target.last_error.as_deref());
    let does_not = match target.state {
        EndpointCondition::Unproven => "was never seen to serve",
        _ => "does not serve",
    };
    format!("{} {does_not} {name}{}{cause}", target.name, failing_for(since, now))
}

/// The line for a standing record that is not right, beside `more` others of `name`.
pub(super) fn record_wrong(name: &CertificateName, trouble: &str, more: usize) -> String {
    let others = match more {
        0 => String::new(),
        1 => ", and 1 more record".to_owned(),
        more => format!(", and {more} more records"),
    };
    format!("{name} can't be renewed as it is: {}{others}", cut(trouble))
}

/// The line for a trouble that `count` certificates have with their CA.
pub(super) fn of_ca(
    kind: AlertType,
    ca: Option<&CaName>,
    count: usize,
    last_error: Option<&str>,
) -> String {
    let ca = ca.map_or_else(|| "a CA".to_owned(), |it| format!("the CA {it}"));
    let wait = if count == 1 {
        "1 certificate waits".into()
    } else {
        format!("{count} certificates wait")
    };
    let cause = because(last_error);
    match kind {
        AlertType::AccountActionRequired => {
            format!("the account with {ca} needs a human; {wait}{cause}")
        }
        _ => format!("{ca} is not available; {wait}{cause}"),
    }
}

/// The line for a notice.
pub(super) fn of_notice(notice: &Notice) -> String {
    cut(&notice.message)
}

/// A short word for the cause that a notice names, which is the same for as long as it lasts: while
/// only numbers in its message change, or what was said last of the same subject.
pub(super) fn cause_of(notice: &Notice) -> String {
    let until = |end: char| notice.message.split(end).next().unwrap_or_default().to_owned();
    let words: String = match notice.code.as_str() {
        ALERTS_UNDELIVERED => subject(&notice.message).to_owned(),
        // There is but one of each, whoever meets it first.
        STATE_UNUSABLE | CLOCK_WRONG | AGENT_BEHIND | ALERTS_UNKEPT => String::new(),
        REVOCATION_NOT_DONE => until(':'),
        CA_UNFIT => until(' '),
        _ => notice.message.chars().filter(|it| !it.is_ascii_digit()).collect(),
    };
    cause(&notice.code, &words)
}

/// The short word for what `code` says by `words`.
pub(super) fn cause(code: &str, words: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, words.as_bytes());
    let short: String = digest.as_ref().iter().take(4).map(|it| format!("{it:02x}")).collect();
    format!("{code}-{short}")
}

/// `span` in its two largest units, such as `6d 3h`.
pub(super) fn span_text(span: Duration) -> String {
    crate::observe::span::text(span)
}

fn failing_for(since: Option<Timestamp>, now: Timestamp) -> String {
    since.map_or_else(String::new, |it| format!(", failing for {}", span_text(now.since(it))))
}

fn because(last_error: Option<&str>) -> String {
    last_error.map_or_else(String::new, |it| format!(": {}", cut(it)))
}

fn cut(text: &str) -> String {
    let text = escaped(text);
    if text.chars().count() <= MAX_CAUSE {
        return text;
    }
    let kept: String = text.chars().take(MAX_CAUSE).collect();
    format!("{kept}…")
}
