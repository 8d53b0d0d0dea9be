//! What happened, told once by whoever did it; [`crate::observe`] makes log lines of it.

use super::{
    CaName, CertificateName, ChallengeType, Failure, Fingerprint, Generation, Identifier,
    RevokedBy, SolverName, TargetName, Timestamp,
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A renewal begins.
    RenewalStarted {
        /// Of which certificate.
        certificate: CertificateName,
        /// At which CA.
        ca: CaName,
        /// Why it is due.
        reason: String,
    },
    /// Another CA than the first of the list is asked.
    StandInAsked {
        /// For which certificate.
        certificate: CertificateName,
        /// Which one.
        ca: CaName,
        /// The one that is passed by.
        stands_in_for: CaName,
        /// Why.
        reason: String,
    },
    /// A stand-in would not issue if it were asked.
    StandInUnfit {
        /// For which certificate.
        certificate: CertificateName,
        /// Which CA.
        ca: CaName,
        /// Why not.
        failure: Failure,
    },
    /// A stand-in that would not have issued would by now.
    StandInFit {
        /// For which certificate.
        certificate: CertificateName,
        /// Which CA.
        ca: CaName,
    },
    /// An order that an earlier run began goes on.
    OrderResumed {
        /// Of which certificate.
        certificate: CertificateName,
        /// Which order.
        order_url: String,
    },
    /// Control was proven to the CA.
    Proven {
        /// For which certificate.
        certificate: CertificateName,
        /// Of what, by which solver, and how; what the CA had on record is not among them.
        proofs: Vec<(Identifier, SolverName, ChallengeType)>,
    },
    /// A new certificate is stored and `current`.
    Renewed {
        /// Which one.
        certificate: CertificateName,
        /// Where it came from.
        ca: CaName,
        /// Its label.
        generation: Generation,
        /// Its identity.
        sha256: Fingerprint,
        /// Its last moment.
        not_after: Timestamp,
    },
    /// A renewal failed.
    RenewalFailed {
        /// Of which certificate.
        certificate: CertificateName,
        /// What went wrong.
        failure: Failure,
        /// When it is tried again.
        retry_at: Option<Timestamp>,
    },
    /// The CA suggests when to renew (RFC 9773), and has not said so before.
    RenewalSuggested {
        /// Which certificate.
        certificate: CertificateName,
        /// The moment that was chosen.
        selected_renewal: Timestamp,
        /// Where the CA says why.
        explanation_url: Option<String>,
        /// Whether it is now, and before the certificate would have been due without that.
        is_early: bool,
    },
    /// The CA changes its mind too often: the earliest moment that was chosen stays.
    SuggestionUnsteady {
        /// For which certificate.
        certificate: CertificateName,
        /// The moment that stays.
        selected_renewal: Timestamp,
    },
    /// The CA gave no usable advice; nothing else waits for it.
    SuggestionMissing {
        /// For which certificate.
        certificate: CertificateName,
        /// What went wrong.
        failure: Failure,
        /// When it is asked again.
        retry_at: Timestamp,
    },
    /// The CA does not offer the preferred chain: its own choice is taken.
    ChainNotOffered {
        /// Of which certificate.
        certificate: CertificateName,
        /// As configured.
        preferred: String,
        /// The issuers at whom the chains end that it does offer.
        offered: Vec<String>,
    },
    /// A key was to be used again, and the next certificate is for a new one.
    KeyNotReused {
        /// Of which certificate.
        certificate: CertificateName,
        /// Why.
        why: String,
    },
    /// A certificate is revoked.
    Revoked {
        /// Which one.
        certificate: CertificateName,
        /// Its serial number.
        serial: String,
        /// Why, in the RFC's word.
        reason: Option<String>,
        /// On whose wish.
        by: RevokedBy,
    },
    /// The CA did not revoke a certificate.
    RevocationFailed {
        /// Which one.
        certificate: CertificateName,
        /// What went wrong.
        failure: Failure,
        /// When it is tried again; `None` if it is given up.
        retry_at: Option<Timestamp>,
    },
    /// It could not be found out whether a certificate is revoked.
    RevocationUnknown {
        /// Which one.
        certificate: CertificateName,
        /// Why.
        failure: Failure,
    },
    /// A standing record in DNS is another than when it was last looked at.
    RecordChanged {
        /// Of which certificate.
        certificate: CertificateName,
        /// Its name.
        record: String,
        /// What is wrong with it now; `None` if it is right.
        trouble: Option<String>,
        /// What a human can do about that.
        hint: String,
    },
    /// A target was seen to serve the held certificate.
    Served {
        /// Which certificate.
        certificate: CertificateName,
        /// Where.
        target: TargetName,
        /// Its identity.
        sha256: Fingerprint,
    },
    /// The files are in place and the server was told; there is nobody to ask.
    Installed {
        /// Which certificate.
        certificate: CertificateName,
        /// Where.
        target: TargetName,
    },
    /// A deployment failed.
    DeployFailed {
        /// Of which certificate.
        certificate: CertificateName,
        /// Where.
        target: TargetName,
        /// What went wrong.
        failure: Failure,
        /// When it is tried again.
        retry_at: Option<Timestamp>,
    },
    /// Files of ours were changed or removed by somebody else, and put right.
    DriftRepaired {
        /// Of which certificate.
        certificate: CertificateName,
        /// What was found.
        what: String,
    },
    /// A configuration is in force.
    ConfigLoaded {
        /// How many certificates it wants.
        certificates: usize,
    },
    /// A configuration was refused; the old one stays.
    ConfigRejected {
        /// Its faults, a line each.
        faults: String,
    },
    /// Work on one certificate panicked; nothing else ended.
    Panicked {
        /// On which one.
        certificate: CertificateName,
        /// What it said.
        message: String,
    },
    /// The agent itself is not as it should be.
    Degraded {
        /// What is wrong.
        failure: Failure,
    },
    /// An alert could not be delivered yet.
    AlertUndelivered {
        /// To whom, as the configuration's entry is called.
        receiver: String,
        /// What went wrong.
        failure: Failure,
    },
}
