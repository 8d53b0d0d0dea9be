//! Accounts that the CA denies, refuses to make, or can't be asked for (A27, A36, A37).

use renewd::acme::AccountAction;
use renewd::plan::Renewal;

use crate::ca::{CaOptions, How, Step, Times};
use crate::world::{DAY, HOUR, MINUTE, Setting, World};

/// Does `action` to the account, and says whether that was done.
async fn tend(world: &World, action: AccountAction) -> bool {
    world.agent.tend_account(&"lab".parse().unwrap(), action).await.unwrap().is_ok()
}

/// A27: trouble of the CA while a forgotten account is made anew is waited out by the usual ladder,
/// with the same key, and leads to one account.
#[tokio::test]
async fn trouble_while_a_forgotten_account_is_made_anew_is_no_verdict_on_it() {
    for how in [How::status(503), How::Closed, How::DoneThenClosed, How::page(200, "<html>")] {
        // At the look for it by its key, and at the making of another.
        for first in [0, 1] {
            let world = World::start().await;
            world.renewed().await;
            world.clock.advance(62 * DAY);
            let what = format!("{how:?} after {first}");
            let how = how.clone();
            let forget = How::after(move |ca| {
                ca.accounts.clear();
                let right = How::after(|_| {});
                let faults = (0..first).map(|_| right.clone()).chain([how.clone()]);
                ca.faults.extend(faults.map(|how| {
                    let (at, times) = (Some(Step::NewAccount), Times::Count(1));
                    crate::ca::Fault { at, how, times }
                }));
            });
            world.ca.fault(Step::NewOrder, forget, Times::Count(1));
            let before = world.ca.issued();
            world.live(HOUR).await;
            assert_eq!(world.ca.issued(), before + 1, "{what}: {:#?}", world.told.all());
            assert_eq!(world.ca.with(|it| it.accounts.len()), 1, "{what}");
            assert!(world.ca.count(Step::NewAccount) <= 6, "{what}");
        }
    }
}

/// A36: a CA that makes no other account leaves us the one that there is.
#[tokio::test]
async fn an_account_that_is_not_replaced_is_used_on_also_after_a_restart() {
    for how in [How::problem(403, "unauthorized"), How::problem(429, "rateLimited")] {
        let world = World::start().await;
        world.renewed().await;
        world.ca.fault(Step::NewAccount, how, Times::Always);
        assert!(!tend(&world, AccountAction::Replace).await);
        let world = world.restart().await;
        world.clock.advance(62 * DAY);
        world.renewed().await;
        assert_eq!(world.ca.with(|it| it.accounts.len()), 1);
        world.ca.mend();
        assert!(tend(&world, AccountAction::Replace).await);
        let world = world.restart().await;
        world.clock.advance(62 * DAY);
        world.renewed().await;
        assert_eq!(world.ca.with(|it| it.accounts.len()), 2);
    }
}

/// A36: where the answer is lost, the CA says which account there is.
#[tokio::test]
async fn a_replacement_without_an_answer_is_settled_by_the_key_that_the_ca_knows() {
    for (how, accounts) in
        [(How::DoneThenClosed, 2), (How::Closed, 1), (How::status(503), 1), (How::Cut, 2)]
    {
        let what = format!("{how:?}");
        let world = World::start().await;
        world.renewed().await;
        world.ca.fault(Step::NewAccount, how, Times::Count(1));
        assert!(!tend(&world, AccountAction::Replace).await, "{what}");
        let world = world.restart().await;
        world.clock.advance(62 * DAY);
        world.renewed().await;
        assert_eq!(world.ca.with(|it| it.accounts.len()), accounts, "{what}");
        let last = world.ca.with(|it| *it.accounts.keys().last().unwrap());
        let kept = world.path("state/private/accounts/lab/account.json");
        let kept = std::fs::read_to_string(kept).unwrap();
        assert!(kept.contains(&format!("/account/{last}\"")), "{what}: {kept}");
        // What there was is kept.
        let folder = std::fs::read_dir(world.path("state/private/accounts")).unwrap();
        assert_eq!(folder.count(), accounts, "{what}");
    }
}

/// A37: a wrong key for the external account binding is told as that, and a right one is tried at
/// once.
#[tokio::test]
async fn a_binding_that_was_put_right_is_tried_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hmac");
    let keep = |text: &str| {
        crate::support::write(&file, text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).unwrap();
    };
    keep("d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I");
    let right = "cmlnaHQtcmlnaHQtcmlnaHQtcmlnaHQtcmlnaHQtcmk";
    let binding = Some(("kid-1".to_owned(), right.to_owned()));
    let tables = format!("eab_kid = \"kid-1\"\neab_hmac_file = {file:?}\n");
    let ca = CaOptions { binding, ..CaOptions::default() };
    let world = World::with(Setting { ca, tables, ..Setting::default() }).await;
    let failure = world.failed().await;
    assert_eq!(failure.code, "acme.account_refused", "{failure:?}");
    assert!(failure.hint.as_ref().is_some_and(|it| it.contains("eab_hmac_file")), "{failure:?}");
    assert!(matches!(world.work().await.plan.renewal, Renewal::Blocked { .. }));
    // Nothing was changed: nothing is tried.
    let world = world.restart().await;
    world.clock.advance(10 * MINUTE);
    assert!(world.work().await.failures.is_empty());
    keep(right);
    let world = world.restart().await;
    world.renewed().await;
}

/// A01: while the account at one CA takes its time to be made, none waits that is made at another.
#[tokio::test]
async fn an_account_that_is_being_made_at_one_ca_keeps_no_other_ca_waiting() {
    let world = World::start().await;
    let registering = &world.agent.lifecycle.issuer.registering;
    assert!(registering.len() > 2, "there are CAs that are known by themselves");
    let mut held = Vec::new();
    for (ca, one) in registering {
        if ca.as_str() != "lab" {
            held.push(one.lock().await);
        }
    }
    let renewed = tokio::time::timeout(std::time::Duration::from_secs(60), world.renewed()).await;
    renewed.expect("it waited for another CA");
}
