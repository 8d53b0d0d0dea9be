//! Certificates and chains that are not what was ordered (A18 to A20), or not any more what was
//! stored (D10).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use renewd::model::{Chain, Event, Observer};

use crate::ca::{CaOptions, Forgery, How, Step, Times};
use crate::world::{DAY, HOUR, Setting, World};

/// How many certificates the ladder leads to in a day: after 0, 1, 11 and 111 minutes, and a day.
const TRIES_A_DAY: u64 = 5;

/// A world whose certificate has become due.
async fn due(ca: CaOptions, certificate: &str) -> World {
    let setting = Setting { ca, certificate: certificate.into(), ..Setting::default() };
    let world = World::with(setting).await;
    world.renewed().await;
    world.clock.advance(62 * DAY);
    world
}

/// A18: for another key, for other names, over, of a CA. What is held stays.
#[tokio::test]
async fn a_wrong_certificate_is_not_used_and_not_ordered_again_in_a_hurry() {
    for forgery in [
        Forgery::OtherKey,
        Forgery::OtherNames,
        Forgery::NameMissing,
        Forgery::Expired,
        Forgery::OfACa,
    ] {
        let world = due(CaOptions::default(), "").await;
        let held = world.held();
        world.ca.with(|it| it.forgery = Some(forgery));
        let failure = world.failed().await;
        assert_eq!(failure.code, "issue.unusable_certificate", "{forgery:?}: {failure:?}");
        assert!(failure.hint.is_some(), "{failure:?}");
        world.live(DAY).await;
        assert_eq!(world.held(), held, "{forgery:?}");
        assert!(world.ca.issued() <= 1 + TRIES_A_DAY, "{forgery:?}: {}", world.ca.issued());
        world.ca.with(|it| it.forgery = None);
        world.live(2 * DAY).await;
        assert_ne!(world.held(), held, "{forgery:?}");
    }
}

/// A18: of tomorrow. What is held stays until then, and nothing else is ordered.
#[tokio::test]
async fn a_certificate_of_tomorrow_is_waited_for() {
    let world = due(CaOptions::default(), "").await;
    let held = world.held();
    world.ca.with(|it| it.forgery = Some(Forgery::Tomorrow));
    let failure = world.failed().await;
    assert_eq!(failure.code, "issue.unusable_certificate", "{failure:?}");
    let requests = world.ca.requests();
    world.live(DAY / 2).await;
    assert_eq!((world.held(), world.ca.issued()), (held, 2));
    assert!(world.ca.requests() - requests <= 20, "{}", world.ca.requests() - requests);
    world.live(DAY).await;
    assert_ne!(world.held(), held, "{:#?}", world.told.all());
    assert_eq!(world.ca.issued(), 2);
}

/// What the CA sends in place of the chain in `pem`.
type Mangled = fn(&str) -> String;

/// The certificates of `pem`, each as PEM.
fn parts(pem: &str) -> Vec<String> {
    let end = "-----END CERTIFICATE-----\n";
    pem.split_inclusive(end).map(str::to_owned).collect()
}

/// A19: chains that can't be used. The old pair stays, and is replaced when the CA is well again.
#[tokio::test]
async fn a_chain_that_is_none_is_refused_and_the_old_one_stays() {
    let mangled: [(&str, Mangled); 7] = [
        ("garbage", |_| "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
        ("no end", |pem| pem.replace("-----END CERTIFICATE-----", "")),
        ("no leaf", |pem| parts(pem)[1..].concat()),
        ("nothing", |_| String::new()),
        ("500 of them", |pem| format!("{pem}{}", parts(pem)[1].repeat(499))),
        ("a cycle", |pem| format!("{pem}{pem}")),
        ("zeros", |_| "\0".repeat(5000)),
    ];
    for (what, mangle) in mangled {
        let world = due(CaOptions::default(), "").await;
        let held = world.held();
        let how = How::change(move |reply| {
            let pem = String::from_utf8(reply.body.to_vec()).unwrap();
            reply.body = mangle(&pem).into();
        });
        world.ca.fault(Step::Certificate, how, Times::Always);
        let failure = world.failed().await;
        let codes = ["issue.chain", "issue.unusable_certificate", "acme.not_understood"];
        assert!(codes.contains(&failure.code.as_str()), "{what}: {failure:?}");
        world.live(DAY).await;
        assert_eq!(world.held(), held, "{what}");
        assert!(world.ca.issued() <= 1 + TRIES_A_DAY, "{what}: {}", world.ca.issued());
        world.ca.mend();
        world.live(2 * DAY).await;
        assert_ne!(world.held(), held, "{what}");
    }
}

/// A19: chains that only are out of order, or have text between. They are put right.
#[tokio::test]
async fn a_chain_out_of_order_is_put_right() {
    let mangled: [(&str, Mangled); 2] = [
        ("text between", |pem| format!("a word\n{}\nanother\r\n{}", parts(pem)[0], parts(pem)[1])),
        ("carriage returns", |pem| pem.replace('\n', "\r\n")),
    ];
    for (what, mangle) in mangled {
        let world = World::start().await;
        let how = How::change(move |reply| {
            let pem = String::from_utf8(reply.body.to_vec()).unwrap();
            reply.body = mangle(&pem).into();
        });
        world.ca.fault(Step::Certificate, how, Times::Always);
        world.renewed().await;
        let file = world.path("state/certs/site/current/fullchain.pem");
        let pem = std::fs::read(file).unwrap();
        assert!(!String::from_utf8_lossy(&pem).contains("word"), "{what}");
        assert_eq!(Chain::parse_pem(&pem).unwrap().certificates().len(), 2, "{what}");
    }
    // The root comes before the intermediate.
    let world = World::start().await;
    let root = world.ca.root_pem();
    let how = How::change(move |reply| {
        let pem = String::from_utf8(reply.body.to_vec()).unwrap();
        let parts = parts(&pem);
        reply.body = format!("{}{root}{}", parts[0], parts[1]).into();
    });
    world.ca.fault(Step::Certificate, how, Times::Always);
    world.renewed().await;
    let pem = std::fs::read(world.path("state/certs/site/current/fullchain.pem")).unwrap();
    let chain = Chain::parse_pem(&pem).unwrap();
    assert_eq!(
        chain.issuer_names(),
        ["Scripted Intermediate", "Scripted Root 0", "Scripted Root 0"]
    );
}

/// A20: the preferred chain is offered and can't be had, in every way that it can't.
#[tokio::test]
async fn a_preferred_chain_that_cannot_be_had_is_done_without() {
    let prefer = "preferred_chain = \"Scripted Root 1\"\n";
    let one = CaOptions { alternates: 1, ..CaOptions::default() };
    let setting = |ca| Setting { ca, certificate: prefer.into(), ..Setting::default() };
    let world = World::with(setting(one.clone())).await;
    world.renewed().await;
    let not_offered = |it: &Event| matches!(it, Event::ChainNotOffered { .. });
    assert!(!world.told.all().iter().any(not_offered));

    for how in [
        How::status(404),
        How::status(500),
        How::page(200, "<html>"),
        How::Cut,
        How::Endless,
        How::Silent,
        How::body("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        let what = format!("{how:?}");
        let world = World::with(setting(one.clone())).await;
        world.ca.fault(Step::Alternate, how, Times::Always);
        world.renewed().await;
        assert!(world.told.all().iter().any(not_offered), "{what}");
        world.live(HOUR).await;
        assert_eq!(world.ca.issued(), 1, "{what}");
    }
}

/// D10: who takes a file away just when it was put back is mended again, and costs no order.
#[tokio::test]
async fn a_file_that_goes_away_between_mending_and_looking_costs_no_order() {
    let mut world = World::start().await;
    world.renewed().await;
    let held = world.held();
    let key = world.path("state/certs/site/current/privkey.pem");
    std::fs::remove_file(&key).unwrap();
    let thief = Arc::new(Thief { file: key.clone(), thefts: AtomicU32::new(1) });
    Arc::get_mut(&mut world.agent.lifecycle).unwrap().observer = thief.clone();
    let outcome = world.work().await;
    assert_eq!(thief.thefts.load(Ordering::Relaxed), 0, "it was put back");
    assert_eq!((world.held(), world.orders()), (held, 1), "{outcome:#?}");
    assert!(outcome.failures.is_empty() && key.exists(), "{outcome:#?}");
}

/// Takes `file` away whenever something was put right, so many times.
struct Thief {
    file: PathBuf,
    thefts: AtomicU32,
}

impl Observer for Thief {
    fn observe(&self, event: &Event) {
        let one_less = |it: u32| it.checked_sub(1);
        if matches!(event, Event::DriftRepaired { .. })
            && self.thefts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
        {
            std::fs::remove_file(&self.file).unwrap();
        }
    }
}
