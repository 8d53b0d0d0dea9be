//! The status document: what `renewd status --json` prints and `status.json` holds (format 1).
//!
//! It is made from what is wanted, held and served in this moment ([`crate::lifecycle`]), and
//! alerts are decided from it and nothing else. No secret ever stands in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    AllowanceStatus, CaName, CertificateName, EndpointCondition, EndpointState, Fingerprint,
    Identifier, StandIn, StandInStatus, TargetName, Timestamp,
};

/// The number of this form; a field may be added without a new one, never taken away.
pub const STATUS_FORMAT: u32 = 1;

/// The code of the notice that the state directory can't be used.
pub const STATE_UNUSABLE: &str = "agent.storage";
/// The code of the notice that certificates wait for their turn.
pub const AGENT_BEHIND: &str = "agent.behind";
/// The code of the notice that a CA could not stand in; its words begin with the CA's name.
pub const CA_UNFIT: &str = "ca.unfit";
/// The code of the notice that a revocation needs a human; its words begin with the certificate's
/// name and a colon.
pub const REVOCATION_NOT_DONE: &str = "revocation.not_done";

/// All certificates of one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusDocument {
    /// [`STATUS_FORMAT`].
    pub format: u32,
    /// The machine's host name.
    pub host: String,
    /// When it was written.
    pub written_at: Timestamp,
    /// Faults of the agent itself: configuration refused, nobody to alert, state not writable.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// One entry for each wanted certificate, in the configuration's order.
    pub certificates: Vec<CertificateStatus>,
}

impl StatusDocument {
    /// Adds a notice for each cause that keeps a CA from standing in.
    pub fn note_unfit_stand_ins(&mut self) {
        let mut causes: BTreeMap<(&CaName, Option<&str>), Vec<&StandInStatus>> = BTreeMap::new();
        for stand_in in self.certificates.iter().flat_map(|it| &it.stand_ins).filter(|it| !it.fit) {
            causes
                .entry((&stand_in.ca, stand_in.error_code.as_deref()))
                .or_default()
                .push(stand_in);
        }
        let notices = causes.into_iter().filter_map(|((ca, _), unfit)| {
            let first = unfit.first()?;
            let why = first.last_error.as_deref().unwrap_or_default();
            Some(Notice {
                code: CA_UNFIT.to_owned(),
                health: Health::Warning,
                message: format!("{ca} could not stand in (certificates: {}): {why}", unfit.len()),
                since: unfit.iter().filter_map(|it| it.since).min().unwrap_or(first.checked_at),
                hint: first.hint.clone(),
            })
        });
        let notices: Vec<Notice> = notices.collect();
        self.notices.extend(notices);
    }

    /// Adds a notice for each revocation that needs a human.
    pub fn note_revocations(&mut self) {
        let notices = self.certificates.iter().filter_map(|it| {
            let revocation = it.revocation.as_ref()?;
            Some(Notice {
                code: REVOCATION_NOT_DONE.to_owned(),
                health: Health::Warning,
                message: revocation.trouble(&it.name)?,
                since: revocation.since.unwrap_or(self.written_at),
                hint: revocation.hint.clone(),
            })
        });
        let notices: Vec<Notice> = notices.collect();
        self.notices.extend(notices);
    }

    /// The worst health of all, [`Health::Ok`] where there is nothing.
    #[must_use]
    pub fn health(&self) -> Health {
        let of_certificates = self.certificates.iter().map(|it| it.health);
        of_certificates.chain(self.notices.iter().map(|it| it.health)).max().unwrap_or(Health::Ok)
    }
}

/// Something that is wrong with the agent itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// A stable word, such as `config.rejected`, `agent.degraded`, `agent.alerts_undelivered`.
    pub code: String,
    /// How bad it is.
    pub health: Health,
    /// What is wrong, in one line.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// What a human can do.
    #[serde(default)]
    pub hint: Option<String>,
}

/// How a certificate stands as a whole. Ordered: worse is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As wanted, or routine work under way.
    #[default]
    Ok,
    /// A human should look.
    Warning,
    /// What is served is wrong, expired, or within the critical share of its life.
    Critical,
}

/// What is held and served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing is held.
    Missing,
    /// Only the self-signed stand-in is held.
    Placeholder,
    /// Held, and no server is to serve it.
    Held,
    /// Every target serves what is held.
    Served,
    /// Held, and some target does not serve it.
    NotServed,
    /// Held, and past its end.
    Expired,
    /// Held, and revoked by its CA.
    Revoked,
    /// Found, not wanted: not in the configuration any more.
    Unmanaged,
}

/// How the renewal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewalCondition {
    /// Nothing to do.
    Idle,
    /// To be done now.
    Due,
    /// Being done.
    Running,
    /// Waiting after a failure.
    BackingOff,
    /// Waiting for a human.
    Blocked,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Its name.
    pub name: CertificateName,
    /// What it is wanted for.
    pub domains: Vec<Identifier>,
    /// How it stands as a whole.
    pub health: Health,
    /// What is held and served.
    pub condition: Condition,
    /// How the renewal stands.
    pub renewal: RenewalCondition,
    /// Why it is due, or kept, in words.
    pub reason: String,
    /// The first moment of the held certificate.
    pub not_before: Option<Timestamp>,
    /// The last moment of the held certificate.
    pub not_after: Option<Timestamp>,
    /// The share of its life that is left, from 1 to 0.
    pub life_left: Option<f64>,
    /// The serial number, as OpenSSL prints it.
    pub serial: Option<String>,
    /// The identity of the held certificate.
    pub sha256: Option<Fingerprint>,
    /// Who signed it.
    pub issuer: Option<String>,
    /// The CA it came from.
    pub ca: Option<CaName>,
    /// The CA that last failed to give another, if one did.
    #[serde(default)]
    pub failing_ca: Option<CaName>,
    /// Why it did not come from the first CA of the list, if it did not.
    #[serde(default)]
    pub stand_in: Option<StandIn>,
    /// Whether each stand-in would issue if it were asked; those that were looked at.
    #[serde(default)]
    pub stand_ins: Vec<StandInStatus>,
    /// Its label in the store.
    pub generation: Option<String>,
    /// When it becomes due.
    pub renew_at: Option<Timestamp>,
    /// Where the CA says why it suggests the moment, if it does.
    #[serde(default)]
    pub explanation_url: Option<String>,
    /// When something is tried next, by itself.
    pub next_attempt_at: Option<Timestamp>,
    /// Failed renewals in a row.
    pub failures: u32,
    /// Since when it is in trouble.
    pub since: Option<Timestamp>,
    /// The last failure, of the renewal or of a target.
    pub last_error: Option<String>,
    /// A stable word for it.
    pub error_code: Option<String>,
    /// What a human can do.
    pub hint: Option<String>,
    /// What is left for it of what its CA allows, where anything is counted.
    #[serde(default)]
    pub allowance: Option<AllowanceStatus>,
    /// Its targets.
    pub targets: Vec<TargetStatus>,
    /// The standing records in DNS that its renewal needs (dns-persist-01).
    #[serde(default)]
    pub records: Vec<RecordStatus>,
    /// The revocation that was asked for and is not done, if there is one.
    #[serde(default)]
    pub revocation: Option<RevocationStatus>,
}

/// A revocation that was asked for and is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationStatus {
    /// How it stands.
    pub state: RevocationCondition,
    /// Of which certificate, if that is known.
    pub sha256: Option<Fingerprint>,
    /// Why, in the RFC's word.
    pub reason: Option<String>,
    /// Since when it is wanted, if that is known.
    pub since: Option<Timestamp>,
    /// How often the CA was asked in vain.
    pub failures: u32,
    /// When it is asked again; `None` if it waits for another certificate, or is not asked any
    /// more.
    pub next_attempt_at: Option<Timestamp>,
    /// Why it is not done.
    pub last_error: Option<String>,
    /// A stable word for it.
    pub error_code: Option<String>,
    /// What a human can do.
    pub hint: Option<String>,
}

impl RevocationStatus {
    /// What is wrong with that of the certificate `name`, in one line; `None` while there is hope
    /// that it is done by itself.
    #[must_use]
    pub fn trouble(&self, name: &CertificateName) -> Option<String> {
        let why = self.last_error.as_deref().unwrap_or_default();
        let sha256 = self.sha256.map(|it| format!(" {it}")).unwrap_or_default();
        match self.state {
            RevocationCondition::Pending if self.failures < Self::FAILURES_TOLD => None,
            RevocationCondition::Pending => {
                Some(format!("{name}: the certificate{sha256} is still not revoked: {why}"))
            }
            RevocationCondition::Refused => {
                Some(format!("{name}: the CA does not revoke the certificate{sha256}: {why}"))
            }
            RevocationCondition::Unreadable => Some(format!(
                "{name}: it was to be revoked, and what was kept of that can't be read: {why}"
            )),
        }
    }

    /// From so many failures on somebody is told: two may pass by themselves.
    const FAILURES_TOLD: u32 = 3;
}

/// How a revocation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationCondition {
    /// It is done when its time has come, or tried again.
    Pending,
    /// The CA said no.
    Refused,
    /// What was asked for is not known any more.
    Unreadable,
}

/// One standing record in DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordStatus {
    /// What it is for.
    pub identifier: Identifier,
    /// Its name in DNS.
    pub name: String,
    /// What it has to be.
    pub value: String,
    /// How it stands.
    pub state: RecordCondition,
    /// Its last moment, if it has one.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Since when it has been seen to be so.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// When it was last looked at.
    #[serde(default)]
    pub checked_at: Option<Timestamp>,
}

impl RecordStatus {
    /// The stable word for what is wrong with a record, also where it fails a renewal.
    pub const ERROR_CODE: &str = "dns.persist";

    /// What is wrong with it, in one line; `None` if nothing is known to be.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let what = match (self.state, self.until) {
            (RecordCondition::Unknown | RecordCondition::Right, _) => return None,
            (RecordCondition::Missing, _) => "is not there".to_owned(),
            (RecordCondition::Unreadable, _) => "can't be read".to_owned(),
            (RecordCondition::OtherAccount, _) => {
                "names another account, or an earlier key of it".to_owned()
            }
            (RecordCondition::NotForWildcards, _) => "is not for wildcards".to_owned(),
            (RecordCondition::Ended, None) => "has ended".to_owned(),
            (RecordCondition::Ended, Some(until)) => format!("ended at {until}"),
            (RecordCondition::EndsSoon, None) => "ends before the certificate".to_owned(),
            (RecordCondition::EndsSoon, Some(until)) => {
                format!("ends at {until}, before the certificate")
            }
        };
        Some(format!("the TXT record {} {what}: a renewal needs it", self.name))
    }

    /// What a human can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let later = match self.state {
            RecordCondition::Ended | RecordCondition::EndsSoon => {
                ", with a later persistUntil or none"
            }
            _ => "",
        };
        format!("set it for good: {}. IN TXT \"{}\"{later}", self.name, self.value)
    }
}

/// How a standing record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordCondition {
    /// Nobody has looked yet.
    Unknown,
    /// As the CA wants it.
    Right,
    /// None is for this CA.
    Missing,
    /// It can't be read.
    Unreadable,
    /// It names another account, or this one with an earlier key.
    OtherAccount,
    /// It is not for wildcards.
    NotForWildcards,
    /// Its time is over.
    Ended,
    /// Its time is over before that of the certificate.
    EndsSoon,
}

/// One target of one certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Its name.
    pub name: TargetName,
    /// How it stands.
    pub state: EndpointCondition,
    /// When the next try comes.
    pub next_attempt_at: Option<Timestamp>,
    /// The last failure.
    pub last_error: Option<String>,
    /// A stable word for it.
    #[serde(default)]
    pub error_code: Option<String>,
    /// What a human can do.
    #[serde(default)]
    pub hint: Option<String>,
    /// Failed tries in a row.
    #[serde(default)]
    pub failures: u32,
    /// The first of them.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// What each endpoint answered.
    pub endpoints: Vec<EndpointState>,
}
