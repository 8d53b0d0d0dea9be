//! The words that everything else is said in, without I/O.
//!
//! What a certificate is for ([`Identifier`]), what is wanted ([`CertificateSpec`]), what is held
//! ([`Held`], [`Leaf`]), what went wrong ([`Failure`]), how it all stands ([`StatusDocument`]); and
//! the ports that other modules need and [`crate::store`] fulfils.
//!
//! Not here: any decision ([`crate::plan`]), and anything that touches the machine.

mod ca_state;
mod caa;
mod chain_order;
mod challenge;
mod clock;
mod crl;
mod event;
mod failure;
mod fitness;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod generation;
mod identifier;
mod key;
mod leaf;
mod ledger;
mod name;
pub mod pem;
mod ports;
mod request;
mod revocation;
mod spec;
mod standing;
mod standing_watch;
mod state;
mod status;
mod suggestion;
mod timestamp;
mod validity;

pub use ca_state::{CaState, Fault, StandIn};
pub use caa::{CaaCandidate, CaaFault, CaaRecord, caa_fault};
pub use challenge::{ChallengeType, KeyAuthorization, Proof, Token, TokenError, TxtRecord};
pub use clock::{CLOCK_WRONG, ClockDoubt, ClockRecord, Uptime};
pub use crl::{Listed, Listing, RevocationListError, look_up, revocation_list_urls};
pub use event::Event;
pub use failure::{Attempts, Explain, Failure, Retry, chain_text, escaped};
pub use fitness::{Fitness, StandInStatus};
pub use generation::{Generation, GenerationError, Held, IssuedCertificate, Origin};
pub use identifier::{Identifier, IdentifierError};
pub use key::{KeyError, KeyFamily, KeyType, KeyTypeError, PrivateKey, Secret};
pub use leaf::{
    Chain, ChainError, Fingerprint, FingerprintError, Leaf, LeafError, MAX_CHAIN_LENGTH,
};
pub use ledger::{
    AllowanceStatus, Closure, Counted, LIMIT_OF_CA, LedgerRecord, Limit, LimitStatus, Limits,
    OWN_CAP, OrderEnd, OrderKind, OrderWish, PastOrder, Rate, RateError, Refusal, RefusedStep,
    Said, Spent, rough,
};
pub use name::{
    CaName, CertificateName, GroupName, MAX_NAME_LENGTH, NameError, SolverName, TargetName,
};
pub use ports::{
    AccountRecord, AuthorityLabel, AuthorityLabelError, AuthorityRecord, AuthorityRole,
    AuthorityVault, Journal, KeyVault, Ledger, Observer, OrderRecord, Outbox, PresentedRecord,
    SettledKey, StorageError,
};
pub use request::{CertificateRequest, MAX_REQUEST_BYTES, RequestError};
pub use revocation::{
    KeptList, ListError, PendingRevocation, Revocation, RevocationCheck, RevocationKey,
    RevocationReason, RevocationReasonError, RevocationRequest, RevokedBy,
};
pub use spec::{CertificateSpec, KeySource};
pub use standing::{StandingRecord, StandingState};
pub use standing_watch::{
    ChangedRecord, FoundRecord, StandingAccount, StandingFinding, StandingTerms, StandingWatch,
    WatchedRecord,
};
pub use state::{CertificateState, EndpointCondition, EndpointState, TargetState};
pub use status::{
    AGENT_BEHIND, CA_UNFIT, CertificateStatus, Condition, Health, Notice, REVOCATION_NOT_DONE,
    RecordCondition, RecordStatus, RenewalCondition, RevocationCondition, RevocationStatus,
    STATE_UNUSABLE, STATUS_FORMAT, StatusDocument, TargetStatus,
};
pub use suggestion::{CertificateId, RenewalInfo, SuggestedWindow, Suggestion};
pub use timestamp::{Timestamp, TimestampError};
pub use validity::{Share, ShareError, Validity};
