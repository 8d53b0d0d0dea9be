//! A CA that is down, slow, in the way, or says nothing of use (A01 to A11).

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use renewd::acme::{AcmeClient, OrderRequest};
use renewd::model::Explain;
use renewd::plan::Asked;
use renewd::sys::clock::Clock;
use serde_json::Value;

use crate::ca::{CaOptions, How, Reply, STARTED, ScriptedCa, Step, Times, VirtualClock, http_date};
use crate::world::{DAY, HOUR, MINUTE, World};

/// Each step of a first order, in its order.
const STEPS: [Step; 9] = [
    Step::Directory,
    Step::NewNonce,
    Step::NewAccount,
    Step::NewOrder,
    Step::Authorization,
    Step::Challenge,
    Step::Order,
    Step::Finalize,
    Step::Certificate,
];

/// Lives on until there is a certificate; it must not take longer than an hour, nor many requests.
#[track_caller]
fn comes_through(world: &World, what: &str) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        world.live(HOUR).await;
        let told = world.told.all();
        assert!(world.held().is_some(), "at {caller}: {what}: {told:#?}");
        assert!(world.proofs().is_empty(), "at {caller}: {what}: {:?}", world.proofs());
        assert!(world.ca.requests() < 60, "at {caller}: {what}: {}", world.ca.requests());
    }
}

/// A01: 500, 502 and 503 at each step once. The order is kept, and one certificate is made.
#[tokio::test]
async fn trouble_of_the_ca_at_any_step_costs_a_pause_and_no_second_order() {
    for step in STEPS {
        for status in [500, 502, 503] {
            let world = World::start().await;
            world.ca.fault(step, How::page(status, "<html>down\x1b[31m"), Times::Count(1));
            let what = format!("{status} at {step:?}");
            comes_through(&world, &what).await;
            let asked_again = u64::from(step == Step::NewOrder);
            assert_eq!((world.ca.issued(), world.orders()), (1, 1 + asked_again), "{what}");
        }
    }
}

/// A01: the same for a day. What failed is told with its step and URL, and tried by the ladder.
#[tokio::test]
async fn a_ca_that_is_in_trouble_for_a_day_is_asked_a_few_times() {
    for step in STEPS {
        let world = World::start().await;
        world.ca.fault(step, How::page(503, "<html>down"), Times::Always);
        let failure = world.failed().await;
        assert!(failure.message.contains(&world.ca.at("/")), "{failure:?}");
        assert!(failure.message.contains("lab: cannot "), "{failure:?}");
        let status = world.work().await.status;
        assert!(status.next_attempt_at.is_some() && status.failures > 0, "{status:?}");
        world.live(DAY).await;
        // Five tries at most, each with 15 looks.
        assert!(world.ca.count(step) <= 80, "{step:?}: {}", world.ca.count(step));
        assert!(world.orders() <= 5, "{step:?}: {}", world.orders());
        world.ca.mend();
        world.live(2 * DAY).await;
        assert!(world.held().is_some() && world.ca.issued() == 1, "{step:?}");
    }
}

/// A02: 429 with seconds. Nothing is asked before, by nobody's wish, also after a restart.
#[tokio::test]
async fn a_limits_end_is_waited_for_by_everybody_and_over_a_restart() {
    let world = World::start().await;
    let limited = How::problem(429, "rateLimited").with("retry-after", "7200");
    world.ca.fault(Step::NewOrder, limited, Times::Count(1));
    assert_eq!(world.failed().await.code, "acme.rate_limited");
    let world = world.restart().await;
    let before = world.ca.requests();
    for asked in [Asked::ByTime, Asked::ByName, Asked::Forced] {
        let outcome = world.work_asked(asked).await;
        let told: Vec<&str> = outcome.failures.iter().map(|it| it.code.as_str()).collect();
        let wanted = if asked == Asked::ByTime { vec![] } else { vec!["acme.rate_limited"] };
        assert!(!outcome.renewed && told == wanted, "{outcome:?}");
        world.clock.advance(30 * MINUTE);
    }
    assert_eq!(world.ca.requests(), before);
    world.clock.advance(30 * MINUTE + Duration::from_secs(1));
    world.renewed().await;
}

/// A03: 429 with a date. One that is past or none means the ladder.
#[tokio::test]
async fn a_date_is_waited_for_unless_it_is_past_or_none() {
    let now = STARTED.parse().unwrap();
    for (value, least) in [
        (http_date(now, 1800), Duration::from_secs(1799)),
        (http_date(now, -1800), 48 * Duration::from_secs(1)),
        ("Mon, 99 Foo 2026 10:00:00 GMT".into(), 48 * Duration::from_secs(1)),
        ("tomorrow".into(), 48 * Duration::from_secs(1)),
    ] {
        let world = World::start().await;
        let limited = How::problem(429, "rateLimited").with("retry-after", &value);
        world.ca.fault(Step::NewOrder, limited, Times::Count(1));
        world.failed().await;
        let at = world.work().await.status.next_attempt_at.unwrap();
        let wait = at.since(world.now());
        assert!(wait >= least && wait <= least + 30 * Duration::from_secs(1), "{value}: {wait:?}");
        world.clock.advance_to(at);
        world.renewed().await;
    }
}

/// A04: numbers without sense. Waits stay between a second and a week, and nothing loops.
#[tokio::test]
async fn no_retry_after_makes_us_hurry_or_wait_for_ever() {
    let values: [&[&str]; 7] = [
        &["0"],
        &["-1"],
        &["1e30"],
        &["18446744073709551615"],
        &["9223372036854775807"],
        &["5", "1200"],
        &[""],
    ];
    for value in values {
        let world = World::start().await;
        let mut limited = Reply::problem(429, "rateLimited", "as scripted");
        for value in value {
            limited = limited.with("retry-after", *value);
        }
        world.ca.fault(Step::NewOrder, How::Instead(limited), Times::Always);
        world.failed().await;
        let wait = world.work().await.status.next_attempt_at.unwrap().since(world.now());
        assert!(wait >= Duration::from_secs(1) && wait <= 7 * DAY, "{value:?}: {wait:?}");
        if value.len() == 2 {
            assert!(wait > Duration::from_secs(1100), "of two the longer: {wait:?}");
        }
        world.live(DAY).await;
        assert!(world.orders() <= 20, "{value:?}: {}", world.orders());

        // And while an order is polled.
        let world = World::start().await;
        for step in [Step::Order, Step::Challenge, Step::Finalize] {
            world.ca.fault(step, How::header("retry-after", value), Times::Always);
        }
        world.ca.with(|it| it.options.issuing_takes = MINUTE);
        world.ca.with(|it| it.options.validation_takes = MINUTE);
        world.live(HOUR).await;
        assert!(world.ca.count(Step::Order) <= 400, "{value:?}: {}", world.ca.count(Step::Order));
        world.ca.mend();
        world.live(8 * DAY).await;
        assert!(world.held().is_some(), "{value:?}");
        assert_eq!(world.ca.issued(), 1, "{value:?}");
    }
}

/// A05: a CA that takes the connection and says nothing, at each step.
#[tokio::test]
async fn silence_ends_after_a_minute_and_is_tried_again_by_the_ladder() {
    for step in STEPS {
        let world = World::start().await;
        world.ca.fault(step, How::Silent, Times::Count(1));
        let outcome = world.work().await;
        let waited = world.now().since(STARTED.parse().unwrap());
        assert!(waited >= MINUTE && waited <= 3 * MINUTE, "{step:?}: {waited:?}");
        if let [failure] = outcome.failures.as_slice() {
            assert_eq!(failure.code, "acme.unreachable", "{step:?}");
            assert!(failure.message.contains("no complete answer"), "{}", failure.message);
            assert!(failure.message.contains(&world.ca.at("/")), "{}", failure.message);
        }
        comes_through(&world, &format!("silence at {step:?}")).await;
        assert_eq!(world.ca.issued(), 1, "{step:?}");
    }
}

/// A05: no connection comes about.
#[tokio::test]
async fn a_connection_that_does_not_come_about_is_given_up_after_ten_seconds() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // Nobody accepts, and there is no room to wait: the system leaves further ones unanswered.
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let _waiting = tokio::net::TcpStream::connect(address).await.unwrap();

    let world = World::start().await;
    let lab = &world.agent.lifecycle.issuer.clients[&"lab".parse().unwrap()];
    let mut settings = lab.settings().clone();
    settings.directory = format!("http://{address}/dir");
    let clock = VirtualClock::new(STARTED.parse().unwrap());
    let client = AcmeClient::new(settings, world.base.store.clone(), clock.clone()).unwrap();
    // With a profile it begins with the directory, and has nothing to do but that.
    let identifiers = vec!["site.example".parse().unwrap()];
    let request = OrderRequest { identifiers, profile: Some("any".into()), replaces: None };
    let mut asking = Box::pin(client.new_order(&request));
    let error = loop {
        tokio::select! {
            biased;
            done = &mut asking => break done.unwrap_err(),
            () = clock.let_pass(Duration::from_secs(1)) => {}
        }
        assert!(clock.monotonic() < Duration::from_secs(30));
    };
    assert_eq!(error.code(), "acme.unreachable");
    assert!(clock.monotonic() >= Duration::from_secs(9), "{:?}", clock.monotonic());
    assert!(clock.monotonic() <= Duration::from_secs(13), "{:?}", clock.monotonic());
}

/// A06: answers that end in the middle, or come a byte a second: nothing of them is used.
#[tokio::test]
async fn half_an_answer_is_none() {
    for step in
        [Step::Directory, Step::NewOrder, Step::Authorization, Step::Order, Step::Certificate]
    {
        for how in [How::Cut, How::Dripping] {
            let world = World::start().await;
            let what = format!("{how:?} at {step:?}");
            world.ca.fault(step, how, Times::Count(1));
            world.work().await;
            let waited = world.now().since(STARTED.parse().unwrap());
            assert!(waited <= 3 * MINUTE, "{what}: {waited:?}");
            comes_through(&world, &what).await;
            let asked_again = u64::from(step == Step::NewOrder);
            assert_eq!(world.orders(), 1 + asked_again, "{what}");
        }
    }
}

/// A07: JSON that is cut off, of other types, deep, or doubled.
#[tokio::test]
async fn json_that_makes_no_sense_is_told_with_step_and_url() {
    let deep = "[".repeat(200_000);
    let bodies = [
        "{\"status\":\"val".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{\"status\":5,\"identifiers\":{},\"newNonce\":[]}".to_owned(),
        format!("{{\"status\":{deep}"),
        deep,
        "{\"status\":\"pending\",\"status\":\"valid\",\"newNonce\":\"a\",\"newNonce\":\"b\"}"
            .to_owned(),
    ];
    for step in [Step::Directory, Step::NewOrder, Step::Authorization, Step::Order, Step::Finalize]
    {
        for body in &bodies {
            let world = World::start().await;
            world.ca.fault(step, How::body(body.clone()), Times::Count(1));
            let outcome = world.work().await;
            let what = format!("{step:?} {}", body.get(..20).unwrap_or(body));
            match outcome.failures.as_slice() {
                // A finalize that is not understood is looked after, and a look is made again.
                [] => assert!([Step::Finalize, Step::Order].contains(&step), "{what}"),
                [failure] => {
                    assert_eq!(failure.code, "acme.not_understood", "{what}: {failure:?}");
                    assert!(failure.message.contains(&world.ca.at("/")), "{what}: {failure:?}");
                    assert!(failure.message.len() < 2000, "{what}: {failure:?}");
                }
                more => panic!("{what}: {more:?}"),
            }
            comes_through(&world, &what).await;
        }
    }
}

/// A07: no advice that can't be understood harms a renewal.
#[tokio::test]
async fn advice_that_makes_no_sense_is_no_failure() {
    for body in ["{\"suggestedWindow\":", "[]", "{\"suggestedWindow\":{\"start\":5}}", "<html>"] {
        let world = World::start().await;
        world.ca.fault(Step::RenewalInfo, How::body(body), Times::Always);
        world.renewed().await;
        world.live(DAY).await;
        assert!(world.ca.count(Step::RenewalInfo) <= 6, "{}", world.ca.count(Step::RenewalInfo));
        assert_eq!(world.state()["attempts"]["failures"], 0);
    }
}

/// A08: a page for people, or an error with status 200; what is shown of it can't write to a
/// terminal.
#[tokio::test]
async fn a_page_in_place_of_an_answer_is_shown_by_its_beginning() {
    let page = How::page(200, "<html>\x1b[2J<title>Sign in\x07</title>");
    let trouble = How::Instead(Reply::problem(200, "serverInternal", "as \x1b[31mscripted"));
    for step in
        [Step::Directory, Step::NewAccount, Step::NewOrder, Step::Authorization, Step::Certificate]
    {
        for how in [page.clone(), trouble.clone()] {
            let world = World::start().await;
            world.ca.fault(step, how, Times::Count(1));
            let failure = world.failed().await;
            assert_eq!(failure.code, "acme.not_understood", "{step:?}: {failure:?}");
            assert!(failure.message.contains(&world.ca.at("/")), "{step:?}: {failure:?}");
            assert!(failure.message.contains("it begins with"), "{step:?}: {failure:?}");
            assert!(!failure.message.contains(['\x1b', '\x07']), "{step:?}: {failure:?}");
            comes_through(&world, &format!("{step:?}")).await;
        }
    }
}

/// 100 KiB of zeros, packed by gzip.
const PACKED: &str =
    "H4sIAAAAAAACA+3BMQEAAADCoPVPbQsvoAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A09: bodies without end, and packed ones.
#[tokio::test]
async fn a_body_without_end_is_cut_off_and_nothing_is_unpacked() {
    for step in [Step::Directory, Step::NewOrder, Step::Order, Step::Certificate] {
        let world = World::start().await;
        world.ca.fault(step, How::Endless, Times::Count(1));
        let outcome = world.work().await;
        for failure in &outcome.failures {
            assert!(failure.message.contains("larger than 1048576 bytes"), "{failure:?}");
        }
        comes_through(&world, &format!("{step:?}")).await;
        let poured = world.ca.poured();
        assert!(poured > 0 && poured < 16 << 20, "{step:?}: {poured}");
    }
    let world = World::start().await;
    let packed = BASE64_STANDARD.decode(PACKED).unwrap();
    let packed = Reply::text(200, "application/json", packed).with("content-encoding", "gzip");
    world.ca.fault(Step::NewOrder, How::Instead(packed), Times::Count(1));
    let failure = world.failed().await;
    assert!(failure.message.contains("it begins with \"\\u{1f}"), "{failure:?}");
}

/// A10: a POST is sent nowhere else; a GET within the same origin alone.
#[tokio::test]
async fn nobody_is_led_elsewhere() {
    let elsewhere = ScriptedCa::start(CaOptions::default()).await;
    for status in [301, 302, 307, 308] {
        for to in [elsewhere.directory(), "http://169.254.169.254/latest".into()] {
            for step in [Step::Directory, Step::NewOrder, Step::Finalize, Step::RenewalInfo] {
                let world = World::start().await;
                world.ca.fault(step, How::redirect(status, &to), Times::Count(2));
                let outcome = world.work().await;
                assert_eq!(outcome.renewed, step == Step::RenewalInfo, "{status} {step:?}");
                for failure in &outcome.failures {
                    assert!(failure.message.contains(&status.to_string()), "{failure:?}");
                }
                comes_through(&world, &format!("{status} at {step:?} to {to}")).await;
            }
        }
        // Not even to itself is a POST sent again; a GET is.
        let world = World::start().await;
        world.ca.fault(Step::NewOrder, How::redirect(status, "/acme-1/new-order"), Times::Count(1));
        world.ca.fault(Step::Directory, How::redirect(status, "/dir"), Times::Count(1));
        world.failed().await;
        assert_eq!((world.orders(), world.ca.count(Step::Directory)), (1, 2));
    }
    assert_eq!(elsewhere.requests(), 0);
}

/// A11: no nonce is good: ten tries, then the ladder.
#[tokio::test]
async fn a_ca_that_refuses_each_nonce_is_asked_ten_times_at_once() {
    let world = World::start().await;
    world.ca.fault(Step::NewOrder, How::problem(400, "badNonce"), Times::Always);
    let failure = world.failed().await;
    assert_eq!((failure.code.as_str(), world.orders()), ("acme.bad_nonce", 10));
    assert!(failure.message.contains("/new-order"), "{failure:?}");
    world.live(HOUR).await;
    assert!(world.orders() <= 40, "{}", world.orders());
    world.ca.mend();
    world.live(DAY).await;
    assert!(world.held().is_some());
}

/// A11: answers without a nonce, or with one that can't be one.
#[tokio::test]
async fn a_missing_nonce_is_fetched_and_a_wrong_one_left_alone() {
    for values in [&[][..], &["not base64!"], &[""]] {
        let world = World::start().await;
        for step in STEPS.into_iter().filter(|it| *it != Step::NewNonce) {
            world.ca.fault(step, How::header("replay-nonce", values), Times::Always);
        }
        world.renewed().await;
        let signed: u64 = world.ca.requests() - world.ca.count(Step::Directory);
        assert!(world.ca.count(Step::NewNonce) <= signed / 2, "one for each: {signed}");

        let world = World::start().await;
        world.ca.fault_everywhere(How::header("replay-nonce", values), Times::Always);
        let failure = world.failed().await;
        assert!(failure.message.contains("holds no nonce"), "{failure:?}");
        assert!(world.ca.requests() <= 3, "{}", world.ca.requests());
    }
}

/// What is remembered of a failure is what is told of it: cause, and next try (I6).
#[tokio::test]
async fn a_failure_is_remembered_with_its_cause_and_the_next_try() {
    let world = World::start().await;
    world.ca.fault(Step::NewOrder, How::status(500), Times::Always);
    world.failed().await;
    let state: Value = world.state();
    assert_eq!(state["attempts"]["last"]["code"], "acme.unavailable", "{state:#}");
    assert!(state["attempts"]["next_attempt_at"].is_string(), "{state:#}");
    assert_eq!(state["cas"]["lab"]["attempts"]["failures"], 1, "{state:#}");
}
