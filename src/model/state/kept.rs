//! What is remembered, written as JSON and read again: whatever it holds, and whatever a later
//! version wrote beside it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::{
    AccountRecord, Attempts, CaName, CaState, CertificateId, CertificateState, EndpointCondition,
    EndpointState, Failure, Fault, Fingerprint, Generation, Identifier, KeyType, Leaf, OrderRecord,
    PendingRevocation, PresentedRecord, Revocation, RevocationCheck, RevocationRequest, RevokedBy,
    SuggestedWindow, Suggestion, TargetState, Timestamp, TxtRecord, Validity,
};

prop_compose! {
    fn moment()(milliseconds in any::<u64>()) -> Timestamp {
        Timestamp::EPOCH.saturating_add(Duration::from_millis(milliseconds >> 16))
    }
}

prop_compose! {
    fn fingerprint()(bytes in any::<u64>()) -> Fingerprint {
        Fingerprint::of(&bytes.to_be_bytes())
    }
}

prop_compose! {
    fn failure()(at in moment(), code in any::<String>(), message in any::<String>(), hint in any::<Option<String>>()) -> Failure {
        Failure { at, code, message, hint }
    }
}

prop_compose! {
    fn attempts()(
        failures in any::<u32>(), since in option::of(moment()), last in option::of(failure()),
        next_attempt_at in option::of(moment()), held_until in option::of(moment()), not_before in option::of(moment()), needs_change in any::<bool>(),
    ) -> Attempts {
        Attempts { failures, since, last, next_attempt_at, held_until, not_before, needs_change }
    }
}

/// The name of a certificate with this serial number.
fn certificate_id(serial: u64) -> CertificateId {
    let leaf = Leaf {
        sha256: Fingerprint::of(b""),
        serial: serial.to_be_bytes().to_vec(),
        identifiers: std::collections::BTreeSet::new(),
        validity: Validity { not_before: Timestamp::EPOCH, not_after: Timestamp::MAX },
        issuer: String::new(),
        issuer_der: Vec::new(),
        subject_der: Vec::new(),
        public_key: Vec::new(),
        key_type: None,
        authority_key_identifier: Some(vec![1]),
        is_ca: false,
    };
    CertificateId::of(&leaf).unwrap()
}

prop_compose! {
    fn suggestion()(
        serial in any::<u64>(), window in option::of((moment(), moment())), selected_renewal in option::of(moment()),
        explanation_url in any::<Option<String>>(), next_poll_at in moment(), failures in any::<u32>(),
        changed_at in vec(moment(), 0..5),
    ) -> Suggestion {
        let window = window.and_then(|(start, end)| SuggestedWindow::new(start, end));
        let certificate_id = certificate_id(serial);
        Suggestion { certificate_id, window, selected_renewal, explanation_url, next_poll_at, failures, changed_at }
    }
}

fn identifier() -> impl Strategy<Value = Identifier> {
    prop_oneof!["([*][.])?[a-z]{1,9}[.]example", "[1-9][.]2[.]3[.]4", "2001:db8::[1-9a-f]"]
        .prop_map(|it| it.parse().unwrap())
}

prop_compose! {
    fn endpoint()(
        address in any::<String>(), name in identifier(), served in option::of(fingerprint()),
        checked_at in moment(), ever_served in any::<bool>(), last_error in any::<Option<String>>(),
    ) -> EndpointState {
        let served_serial = served.map(|it| it.to_string());
        let state = EndpointCondition::Unproven;
        EndpointState {
            address,
            name,
            state,
            served_serial,
            served_sha256: served,
            served_validity: None,
            served_suffices: ever_served,
            checked_at,
            ever_served,
            last_error,
        }
    }
}

prop_compose! {
    fn presented()(
        identifier in identifier(), token in "[A-Za-z0-9_-]{1,40}", record in option::of(any::<[String; 3]>()),
    ) -> PresentedRecord {
        let record = record.map(|[zone, name, value]| TxtRecord { zone, name, value });
        PresentedRecord { solver: "web".parse().unwrap(), identifier, token: token.parse().unwrap(), record }
    }
}

#[track_caller]
fn assert_kept<T: Serialize + DeserializeOwned + PartialEq + Debug>(document: &T) {
    let text = serde_json::to_vec_pretty(document).unwrap();
    assert_eq!(&serde_json::from_slice::<T>(&text).unwrap(), document);
    // The next version may have written more beside it.
    let mut later: serde_json::Value = serde_json::from_slice(&text).unwrap();
    later["a field of tomorrow"] = serde_json::json!({ "a": [1] });
    assert_eq!(&serde_json::from_value::<T>(later).unwrap(), document);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_remembered_of_a_certificate_is_read_as_it_was_written(
        attempts in attempts(), attempted_spec in any::<Option<String>>(), directory in any::<String>(),
        suggestion in option::of(suggestion()), certificate in fingerprint(), at in moment(),
        reason in any::<Option<String>>(), reissue in any::<bool>(), beside in any::<Option<u32>>(),
    ) {
        let lab: CaName = "lab".parse().unwrap();
        let known = CaState { directory, attempts: attempts.clone(), fault: Some(Fault::Refusal) };
        let revocation = Revocation { certificate, since: at, reason, by: RevokedBy::Others, reissue };
        let state = CertificateState {
            attempts: attempts.clone(),
            failed_beside: beside.map(Generation),
            attempted_spec,
            attempted_ca: Some(lab.clone()),
            ours: attempts.clone(),
            cas: BTreeMap::from([(lab, known)]),
            suggestion,
            revocation: Some(revocation),
            ..CertificateState::default()
        };
        assert_kept(&state);
        let revocation_check = Some(RevocationCheck { certificate, checked_at: at });
        assert_kept(&CertificateState { revocation_check, ..CertificateState::default() });
        let request = RevocationRequest { reissue: Some(reissue), ..RevocationRequest::default() };
        let refused = attempts.last.clone();
        assert_kept(&PendingRevocation { certificate, request, asked_at: at, attempts, refused });
    }

    #[test]
    fn what_is_remembered_of_a_target_is_read_as_it_was_written(
        attempts in attempts(), prints in any::<[bool; 6]>(), print in fingerprint(),
        checked_at in option::of(moment()), endpoints in vec(endpoint(), 0..4),
    ) {
        let [attempted, untested, without_fault, installed, reloaded, served] =
            prints.map(|it| it.then_some(print));
        let state = TargetState { attempts, attempted, untested, installed, ..TargetState::default() };
        let state = TargetState { without_fault, ..state };
        assert_kept(&TargetState { reloaded, served, checked_at, endpoints, ..state });
    }

    #[test]
    fn an_order_and_an_account_are_read_as_they_were_written(
        texts in any::<[Option<String>; 4]>(), directory in any::<String>(), at in option::of(moment()),
        identifiers in vec(identifier(), 0..4), presented in vec(presented(), 0..4), contact in any::<Vec<String>>(),
    ) {
        let [url, terms, eab_key_id, profile] = texts;
        let order = OrderRecord {
            ca: "lab".parse().unwrap(),
            directory: directory.clone(),
            order_url: url.clone(),
            identifiers,
            profile,
            key_type: KeyType::P384,
            csr: None,
            placed_at: at.unwrap_or(Timestamp::MAX),
            expires_at: None,
            stuck_since: None,
            counted: None,
            unsettled: Vec::new(),
            proofs_spent_at: None,
            presented,
        };
        assert_kept(&order);
        let (registered_at, recovered_at, deactivated_at) = (at, at, at);
        assert_kept(&AccountRecord { directory, url, contact, registered_at, terms, eab_key_id, recovered_at, deactivated_at });
    }
}
