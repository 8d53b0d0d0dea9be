//! Certificates for the same names at a CA that gives an order that is still open again (A16).

use futures_util::future::join;
use renewd::plan::Asked;

use crate::ca::{CaOptions, How, Step, Times};
use crate::world::{HOUR, MINUTE, Setting, World};

/// A world of two certificates for the same names: `site` and `twin`.
async fn twins() -> World {
    let certificate = "[[certificate]]\nname = \"twin\"\ntargets = []\n\
                       domains = [\"site.example\", \"www.site.example\"]\n";
    let options = CaOptions { reuse_orders: true, ..CaOptions::default() };
    let certificate = certificate.to_owned();
    World::with(Setting { ca: options, certificate, ..Setting::default() }).await
}

fn is_held(world: &World, name: &str) -> bool {
    let current = std::fs::read_link(world.path(&format!("state/certs/{name}/current")));
    current.is_ok_and(|it| it != std::path::Path::new("placeholder"))
}

/// A16: both are due at once. They are ordered one after the other, each for its own key.
#[tokio::test]
async fn two_certificates_for_the_same_names_share_no_order() {
    let world = twins().await;
    let [site, twin] = world.agent.config.certificates.as_slice() else { panic!("not two") };
    let work = |spec| Box::pin(world.agent.lifecycle.work(spec, Asked::ByTime));
    let (site, twin) = join(work(site), work(twin)).await;
    for outcome in [site.unwrap(), twin.unwrap()] {
        assert!(outcome.renewed && outcome.failures.is_empty(), "{outcome:#?}");
    }
    assert_eq!((world.ca.with(|it| it.orders.len()), world.ca.issued()), (2, 2));
}

/// A16: the order of one is left open. The other one does not use it, and waits for its end.
#[tokio::test]
async fn an_order_that_another_certificate_has_open_is_left_to_it() {
    let world = twins().await;
    world.ca.fault(Step::Finalize, How::status(503), Times::Count(1));
    world.failed().await;
    let twin = world.agent.config.certificates.iter().find(|it| it.name.to_string() == "twin");
    let outcome = world.agent.lifecycle.work(twin.unwrap(), Asked::ByTime).await.unwrap();
    assert_eq!(outcome.failures[0].code, "issue.twin", "{outcome:#?}");
    assert!(outcome.failures[0].message.contains("site"), "{outcome:#?}");
    for _ in 0..(2 * HOUR.as_secs() / MINUTE.as_secs()) {
        world.work_all().await;
        world.clock.advance(MINUTE);
    }
    assert!(is_held(&world, "site") && is_held(&world, "twin"), "{:#?}", world.told.all());
    assert_eq!((world.ca.with(|it| it.orders.len()), world.ca.issued()), (2, 2));
}
