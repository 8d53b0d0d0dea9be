//! Revocations that do not come about (A35, D11).

use renewd::lifecycle::Outcome;
use renewd::model::{
    Chain, Event, RevocationCondition, RevocationReason, RevocationRequest, STATUS_FORMAT,
    StatusDocument,
};
use renewd::plan::Asked;
use serde_json::{Value, json};

use crate::ca::{How, Step, Times};
use crate::support::write;
use crate::world::{DAY, HOUR, MINUTE, Setting, World};

/// A world that holds a certificate whose key it would use again.
async fn world() -> World {
    let setting = Setting { certificate: "reuse_key = true\n".into(), ..Setting::default() };
    let world = World::with(setting).await;
    world.renewed().await;
    world
}

async fn ask(world: &World, reason: RevocationReason) {
    let request = RevocationRequest { reason, ..RevocationRequest::default() };
    world.agent.lifecycle.ask_to_revoke(&world.spec(), request).await.unwrap();
}

fn key(world: &World) -> String {
    std::fs::read_to_string(world.path("state/certs/site/current/privkey.pem")).unwrap()
}

/// The codes of what people are told beside the certificate's own troubles.
fn notices(world: &World, outcome: &Outcome) -> Vec<String> {
    let mut document = StatusDocument {
        format: STATUS_FORMAT,
        host: "host.example".into(),
        written_at: world.now(),
        notices: Vec::new(),
        certificates: vec![outcome.status.clone()],
    };
    document.note_revocations();
    document.notices.into_iter().map(|it| it.code).collect()
}

/// A35: the key is in other hands, and the CA revokes nothing. It is replaced all the same, with
/// another key, and it is told for as long as the old one is valid.
#[tokio::test]
async fn a_key_in_other_hands_is_replaced_also_where_the_ca_refuses_to_revoke() {
    let world = world().await;
    let (held, old_key) = (world.held(), key(&world));
    world.ca.fault(Step::Revoke, How::problem(403, "unauthorized"), Times::Always);
    ask(&world, RevocationReason::KeyCompromise).await;
    let outcome = world.work().await;
    assert!(outcome.renewed && outcome.failures.len() == 1, "{outcome:#?}");
    assert_ne!((world.held(), key(&world)), (held, old_key.clone()));
    assert_ne!(key(&world), old_key);
    assert_eq!(world.ca.count(Step::Revoke), 2, "by the account, and by its own key");
    assert!(!world.agent.lifecycle.awaits_revocation(&world.spec()).await.unwrap());

    let world = world.restart().await;
    let outcome = world.work().await;
    let revocation = outcome.status.revocation.clone().unwrap();
    assert_eq!((revocation.state, revocation.sha256), (RevocationCondition::Refused, held));
    assert!(revocation.hint.is_some() && revocation.next_attempt_at.is_none(), "{revocation:?}");
    assert_eq!(notices(&world, &outcome), ["revocation.not_done"]);
    world.live(85 * DAY).await;
    assert_eq!(notices(&world, &world.work().await).len(), 1, "it is valid still");
    world.live(10 * DAY).await;
    assert_eq!(world.work().await.status.revocation, None);
    assert_eq!((world.ca.count(Step::Revoke), world.ca.issued()), (2, 3));
}

/// A35: what is in other hands is replaced although no target could take what comes, unlike all
/// else.
#[tokio::test]
async fn a_key_in_other_hands_is_replaced_also_where_no_target_is_ready() {
    let target = "[target.files]\ntype = \"other\"\n\
                  install = [{ file = \"fullchain\", path = \"nowhere/site.pem\" }]\n";
    let with_target =
        |text: &str| format!("{}{target}", text.replace("targets = []", "targets = [\"files\"]"));
    let world = world().await.reconfigured(with_target).await;
    let held = world.held();
    let refused = world.work_asked(Asked::Forced).await;
    assert_eq!(refused.failures[0].code, "deploy.not_ready", "{refused:#?}");
    assert_eq!((world.held(), world.orders()), (held, 1));
    ask(&world, RevocationReason::KeyCompromise).await;
    world.clock.advance(MINUTE);
    let outcome = world.work().await;
    assert!(outcome.renewed && world.held() != held, "{outcome:#?}");
    assert_eq!((world.orders(), world.ca.count(Step::Revoke)), (2, 1));
}

/// A35: the account is another by now, or unknown. The certificate's own key can ask too.
#[tokio::test]
async fn what_is_refused_to_the_account_is_asked_for_by_the_certificates_key() {
    for kind in ["unauthorized", "accountDoesNotExist"] {
        let world = world().await;
        world.ca.fault(Step::Revoke, How::problem(403, kind), Times::Count(1));
        ask(&world, RevocationReason::Superseded).await;
        let outcome = world.work().await;
        assert!(outcome.failures.is_empty(), "{kind}: {outcome:#?}");
        assert!(world.ca.with(|it| it.certificates.values().all(|it| it.revoked)), "{kind}");
        assert_eq!((world.ca.count(Step::Revoke), outcome.status.revocation), (2, None));
    }
}

/// A35: another certificate is to be revoked while the CA revokes the one that it replaced. What
/// came of the first says nothing of the second.
#[tokio::test]
async fn what_is_to_be_revoked_while_another_is_being_revoked_is_not_forgotten() {
    let world = world().await;
    let folder = world.path("state");
    let asked_meanwhile = move |_: &mut _| {
        let chain = std::fs::read(folder.join("certs/site/current/fullchain.pem")).unwrap();
        let file = folder.join("private/certificates/site/revocation.json");
        let mut pending: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        pending["certificate"] = json!(Chain::parse_pem(&chain).unwrap().leaf.sha256);
        pending["request"] = json!({ "reason": RevocationReason::KeyCompromise });
        write(&file, pending.to_string());
    };
    world.ca.fault(Step::Revoke, How::after(asked_meanwhile), Times::Count(1));
    let superseded = RevocationReason::Superseded;
    let replaced = RevocationRequest {
        reason: superseded,
        reissue: Some(true),
        ..RevocationRequest::default()
    };
    world.agent.lifecycle.ask_to_revoke(&world.spec(), replaced).await.unwrap();
    let outcome = world.work().await;
    assert!(outcome.renewed && outcome.failures.is_empty(), "{outcome:#?}");
    assert!(world.agent.lifecycle.awaits_revocation(&world.spec()).await.unwrap());
    let (held, old_key) = (world.held(), key(&world));

    let outcome = world.work().await;
    assert!(outcome.renewed && outcome.failures.is_empty(), "{outcome:#?}");
    assert!(world.held() != held && key(&world) != old_key);
    assert!(!world.agent.lifecycle.awaits_revocation(&world.spec()).await.unwrap());
    let revoked = world.ca.with(|it| it.certificates.values().filter(|it| it.revoked).count());
    assert_eq!((revoked, world.ca.count(Step::Revoke)), (2, 2));
}

/// A35: a page of a proxy and a URL that leads nowhere are not the CA's word.
#[tokio::test]
async fn what_the_ca_did_not_say_itself_does_not_end_a_revocation() {
    for how in [How::page(403, "<h1>Forbidden</h1>"), How::problem(404, "malformed")] {
        let world = world().await;
        world.ca.fault(Step::Revoke, how, Times::Always);
        ask(&world, RevocationReason::CessationOfOperation).await;
        world.live(3 * HOUR).await;
        let outcome = world.work().await;
        let revocation = outcome.status.revocation.clone().unwrap();
        assert_eq!(revocation.state, RevocationCondition::Pending, "{revocation:?}");
        assert_eq!(notices(&world, &outcome), ["revocation.not_done"], "{revocation:?}");
        world.ca.mend();
        world.live(2 * DAY).await;
        let outcome = world.work().await;
        // The scripted CA advises to renew what is revoked.
        let is_revoked = world.ca.with(|it| it.certificates.values().any(|it| it.revoked));
        assert!(is_revoked, "{outcome:#?} {:#?}", world.told.all());
        assert_eq!(world.work().await.status.revocation, None);
    }
}

/// A35: the CA is not in the configuration for a while. It has refused nothing: it is asked when it
/// is there again.
#[tokio::test]
async fn a_revocation_outlives_that_its_ca_is_out_of_the_configuration() {
    let world = world().await.reconfigured(|it| it.replace("lab", "attic")).await;
    ask(&world, RevocationReason::KeyCompromise).await;
    let outcome = world.work().await;
    assert_eq!(outcome.failures[0].code, "revoke.unknown_ca", "{outcome:#?}");
    let revocation = outcome.status.revocation.unwrap();
    assert_eq!(revocation.state, RevocationCondition::Pending, "{revocation:?}");
    assert!(revocation.hint.unwrap().contains("[ca.lab]"));
    world.live(DAY).await;
    let told = world.told.all();
    let failed = told.iter().filter(|it| matches!(it, Event::RevocationFailed { .. }));
    assert_eq!((failed.count(), world.ca.count(Step::Revoke)), (1, 0));
    let world = world.reconfigured(|it| it.replace("attic", "lab")).await;
    world.live(HOUR).await;
    assert!(world.ca.with(|it| it.certificates.values().any(|it| it.revoked)));
    assert_eq!(world.work().await.status.revocation, None);
}

/// D11: what was asked for can't be read any more. A human is told until he has looked.
#[tokio::test]
async fn a_request_to_revoke_that_can_not_be_read_is_told() {
    let world = world().await;
    let file = "state/private/certificates/site/revocation.json";
    write(&world.path(file), "{");
    let outcome = world.work().await;
    let revocation = outcome.status.revocation.clone().unwrap();
    assert_eq!(revocation.state, RevocationCondition::Unreadable);
    assert_eq!(notices(&world, &outcome), ["revocation.not_done"]);
    let copy = revocation.last_error.unwrap();
    assert!(copy.contains(".corrupt-"), "{copy}");
    std::fs::remove_file(world.path("state/private").join(copy)).unwrap();
    assert_eq!(world.work().await.status.revocation, None);
}
