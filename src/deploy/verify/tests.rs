//! Tests of the proof, against TLS servers in this process and a clock that waits for nobody.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::model::{Explain, Fingerprint};
use crate::probe::test_server::{Certified, Manners, TestServer, silent_socket};

/// Waiting takes no time, and moves it on.
#[derive(Debug, Default)]
struct HandClock(Mutex<Duration>);

#[async_trait]
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH.saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, span: Duration) {
        *self.0.lock().unwrap() += span;
        tokio::task::yield_now().await;
    }
}

fn endpoint(address: SocketAddr) -> VerifySettings {
    VerifySettings {
        address: address.to_string(),
        names: Vec::new(),
        starttls: None,
        required: true,
    }
}

fn guess(address: SocketAddr) -> VerifySettings {
    VerifySettings { required: false, ..endpoint(address) }
}

fn port(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn target(verify: Vec<VerifySettings>) -> TargetSettings {
    TargetSettings {
        name: "web".parse().unwrap(),
        install: Vec::new(),
        test: None,
        reload: None,
        verify,
        verify_timeout: Duration::from_secs(30),
    }
}

fn names(names: &[&str]) -> Vec<Identifier> {
    names.iter().map(|it| it.parse().unwrap()).collect()
}

/// Verifies that `verify_settings` serve `certified` for `example.com`; and how long that took.
async fn prove(
    verify_settings: Vec<VerifySettings>,
    certified: &Certified,
    before: &[EndpointState],
) -> (Verified, Duration) {
    let (target, clock) = (target(verify_settings), HandClock::default());
    let wanted = wanted(certified, &["example.com"]);
    let verified = verify(&target, &wanted, before, &clock).await;
    (verified, clock.monotonic())
}

fn wanted<'a>(certified: &'a Certified, asked: &[&str]) -> Wanted<'a> {
    let needs_issuer = certified.chain.len() > 1;
    Wanted { leaf: &certified.leaf, needs_issuer, names: names(asked), only: None }
}

fn held(certified: &Certified, needs_issuer: bool) -> Held {
    let (leaf, directory) = (certified.leaf.clone(), std::path::PathBuf::new());
    Held { generation: None, leaf, needs_issuer, origin: None, directory }
}

fn stranger() -> Certified {
    Certified::new(&["other.example"])
}

fn certified() -> Certified {
    Certified::new(&["example.com"])
}

#[tokio::test]
async fn served_is_three_handshakes_in_a_row() {
    let (old, new) = (certified(), certified());
    let server = TestServer::start(&old);
    server.show(&[&new, &new, &old, &new, &new, &new]);
    let (verified, _) = prove(vec![endpoint(server.address)], &new, &[]).await;
    assert_eq!((verified.state, server.accepted()), (EndpointCondition::Served, 6));
    let [state] = &verified.endpoints[..] else { panic!("{verified:?}") };
    assert_eq!(state.served_sha256, Some(new.leaf.sha256));
    assert_eq!(state.served_serial, Some(new.leaf.serial_text()));
    assert!(state.ever_served && state.last_error.is_none() && verified.error.is_none());
}

/// P08: a reload that changes nothing.
#[tokio::test]
async fn a_server_that_keeps_the_old_one_has_failed_and_the_old_one_is_named() {
    let (old, new) = (certified(), certified());
    let server = TestServer::start(&old);
    let (verified, waited) = prove(vec![endpoint(server.address)], &new, &[]).await;
    assert_eq!(verified.state, EndpointCondition::Failed);
    assert_eq!(waited, Duration::from_secs(30));
    let error = verified.error.unwrap();
    assert_eq!(error.code(), "deploy.not_served");
    let text = chain_text(&error);
    assert!(text.contains(&old.leaf.serial_text()), "{text}");
    assert!(text.contains(&old.leaf.validity.not_after.to_string()), "{text}");
    assert_eq!(verified.endpoints[0].served_sha256, Some(old.leaf.sha256));
}

#[tokio::test]
async fn a_certificate_for_other_names_says_so() {
    let new = certified();
    let server = TestServer::start(&stranger());
    let verified = look(
        &target(vec![endpoint(server.address)]),
        &wanted(&new, &["example.com"]),
        &[],
        &HandClock::default(),
    )
    .await;
    let text = verified.endpoints[0].last_error.clone().unwrap();
    assert!(text.contains("serves a certificate for other.example: serial "), "{text}");
    assert!(verified.error.unwrap().hint().unwrap().contains("verify_names"));
}

#[tokio::test]
async fn who_never_served_and_need_not_is_unproven_and_who_did_has_failed() {
    let new = certified();
    let server = TestServer::start(&stranger());
    let (unproven, _) = prove(vec![guess(server.address)], &new, &[]).await;
    assert_eq!(unproven.state, EndpointCondition::Unproven);
    assert_eq!(unproven.error.unwrap().code(), "deploy.unproven");

    let before = EndpointState {
        address: server.address.to_string(),
        name: "example.com".parse().unwrap(),
        state: EndpointCondition::Served,
        served_serial: None,
        served_sha256: Some(Fingerprint::of(b"earlier")),
        served_validity: None,
        served_suffices: false,
        checked_at: Timestamp::EPOCH,
        ever_served: true,
        last_error: None,
    };
    let (failed, _) = prove(vec![guess(server.address)], &new, &[before]).await;
    assert_eq!(failed.state, EndpointCondition::Failed);
    assert!(failed.endpoints[0].ever_served);
}

#[tokio::test]
async fn who_shows_another_certificate_for_the_name_has_failed_though_nobody_named_it() {
    let (old, new) = (certified(), certified());
    let server = TestServer::start(&old);
    let (failed, waited) = prove(vec![guess(server.address)], &new, &[]).await;
    assert_eq!(failed.state, EndpointCondition::Failed);
    assert_eq!(waited, Duration::from_secs(30), "it may be slow to load it");
    assert!(!failed.endpoints[0].ever_served);
    let error = failed.error.unwrap();
    assert_eq!(error.code(), "deploy.not_served");
    let hint = error.hint().unwrap();
    assert!(hint.contains("use the files that") && hint.contains("take the target out"), "{hint}");
}

/// One server of the target shows it, another keeps to files of its own: its clients are lost with
/// them.
#[tokio::test]
async fn one_served_endpoint_does_not_make_up_for_a_stranger_at_another() {
    let (foreign, new) = (certified(), certified());
    let servers = [TestServer::start(&new), TestServer::start(&foreign)];
    let both = servers.each_ref().map(|it| guess(it.address)).to_vec();
    let (failed, waited) = prove(both, &new, &[]).await;
    let states: Vec<_> = failed.endpoints.iter().map(|it| it.state).collect();
    assert_eq!(states, [EndpointCondition::Served, EndpointCondition::Failed]);
    assert_eq!(failed.state, EndpointCondition::Failed);
    assert_eq!(waited, Duration::from_secs(30));
}

#[tokio::test]
async fn a_server_that_leaves_out_the_issuer_or_keeps_an_old_one_has_failed() {
    let new = Certified::issued_by("New", &["example.com"]);
    let server = TestServer::start(&new);
    let (served, _) = prove(vec![guess(server.address)], &new, &[]).await;
    assert_eq!(served.state, EndpointCondition::Served);
    let mut stale = new.alone();
    stale.chain.extend(Certified::issued_by("Old", &["example.com"]).chain.pop());
    for incomplete in [new.alone(), stale] {
        server.show(&[&incomplete]);
        let (failed, _) = prove(vec![guess(server.address)], &new, &[]).await;
        assert_eq!(failed.state, EndpointCondition::Failed);
        assert_eq!(failed.endpoints[0].served_sha256, Some(new.leaf.sha256));
        let error = failed.error.unwrap();
        let text = chain_text(&error);
        assert!(text.contains("without the one that it was signed with (CN=New)"), "{text}");
        assert!(error.hint().unwrap().contains("fullchain.pem"), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_served_is_told_with_its_validity_and_whether_it_has_all_names() {
    let wanted = Certified::new(&["example.com", "www.example.com"]);
    let (more, less) =
        (Certified::new(&["www.example.com", "example.com", "more.example"]), certified());
    for (served, suffices) in [(&more, true), (&less, false)] {
        let server = TestServer::start(served);
        let (failed, _) = prove(vec![guess(server.address)], &wanted, &[]).await;
        let endpoint = &failed.endpoints[0];
        assert_eq!(endpoint.served_validity, Some(served.leaf.validity));
        assert_eq!(endpoint.served_suffices, suffices);
    }
}

#[tokio::test]
async fn a_guess_is_not_waited_for_once_somebody_serves() {
    let new = certified();
    let server = TestServer::start(&new);
    let nobody = silent_socket();
    let absent = vec![endpoint(server.address), guess(nobody.local_addr().unwrap())];
    let (verified, waited) = prove(absent, &new, &[]).await;
    assert_eq!(verified.state, EndpointCondition::Served);
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    assert_eq!(verified.endpoints[1].state, EndpointCondition::Unproven);

    let stranger = TestServer::start(&stranger());
    let present = vec![guess(server.address), guess(stranger.address)];
    let (verified, waited) = prove(present, &new, &[]).await;
    assert_eq!(verified.state, EndpointCondition::Served);
    assert!(waited >= GUESS_LIMIT && waited < Duration::from_secs(10), "{waited:?}");
}

#[tokio::test]
async fn one_failed_endpoint_fails_the_target() {
    let new = certified();
    let server = TestServer::start(&new);
    let nobody = silent_socket();
    let both = vec![endpoint(server.address), endpoint(nobody.local_addr().unwrap())];
    let (verified, _) = prove(both, &new, &[]).await;
    assert_eq!(verified.state, EndpointCondition::Failed);
    let states: Vec<_> = verified.endpoints.iter().map(|it| it.state).collect();
    assert_eq!(states, [EndpointCondition::Served, EndpointCondition::Failed]);
    assert!(verified.error.unwrap().hint().unwrap().contains("is the server running"));
}

#[tokio::test]
async fn a_server_that_comes_up_late_is_waited_for() {
    let new = certified();
    let socket = silent_socket();
    let target = target(vec![endpoint(socket.local_addr().unwrap())]);
    let wanted = wanted(&new, &["example.com"]);
    let clock = HandClock::default();
    let verifying = verify(&target, &wanted, &[], &clock);
    let starting = async {
        while clock.monotonic().is_zero() {
            tokio::task::yield_now().await;
        }
        TestServer::start_with(&new, Manners::default(), socket.listen(8).unwrap())
    };
    let (verified, _server) = tokio::join!(verifying, starting);
    assert_eq!(verified.state, EndpointCondition::Served);
}

#[tokio::test]
async fn a_look_at_what_was_served_is_one_handshake_and_does_not_wait() {
    let (old, new) = (certified(), certified());
    let server = TestServer::start(&new);
    let (target, clock) = (target(vec![endpoint(server.address)]), HandClock::default());
    let wanted = wanted(&new, &["example.com"]);
    let proved = look(&target, &wanted, &[], &clock).await;
    let before = clock.monotonic();
    server.show(&[&new]);
    let seen = look(&target, &wanted, &proved.endpoints, &clock).await;
    assert_eq!((seen.state, server.accepted()), (EndpointCondition::Served, 1));
    server.show(&[&old]);
    let seen = look(&target, &wanted, &seen.endpoints, &clock).await;
    assert_eq!((seen.state, server.accepted()), (EndpointCondition::Failed, 1));
    assert!(seen.endpoints[0].ever_served);
    assert_eq!(clock.monotonic(), before);
}

/// P08: old and new workers answer side by side, and one handshake happens on a new one.
#[tokio::test]
async fn a_look_at_what_was_not_seen_to_be_served_is_the_whole_proof() {
    let (old, new) = (certified(), certified());
    let server = TestServer::start(&old);
    let (target, clock) = (target(vec![endpoint(server.address)]), HandClock::default());
    let wanted = wanted(&new, &["example.com"]);
    let failed = look(&target, &wanted, &[], &clock).await;
    assert_eq!(failed.state, EndpointCondition::Failed);
    for shown in [[&new, &old, &new], [&new, &new, &old]] {
        server.show(&shown);
        let seen = look(&target, &wanted, &failed.endpoints, &clock).await;
        assert_eq!(seen.state, EndpointCondition::Failed);
    }
    server.show(&[&new, &new, &new, &old]);
    let seen = look(&target, &wanted, &failed.endpoints, &clock).await;
    assert_eq!((seen.state, server.accepted()), (EndpointCondition::Served, 3));
    // What the last one served says nothing of the next.
    let renewed = certified();
    let next = Wanted { leaf: &renewed.leaf, ..wanted };
    server.show(&[&renewed, &new]);
    let seen = look(&target, &next, &seen.endpoints, &clock).await;
    assert_eq!(seen.state, EndpointCondition::Failed);
}

#[tokio::test]
async fn nobody_to_ask_is_installed_and_no_name_to_ask_for_is_unproven() {
    let certified = Certified::new(&["*.example.com"]);
    let (clock, server) = (HandClock::default(), TestServer::start(&certified));
    let seen = verify(&target(Vec::new()), &wanted(&certified, &[]), &[], &clock).await;
    assert_eq!((seen.state, seen.error.is_none()), (EndpointCondition::Installed, true));

    let with_server = target(vec![endpoint(server.address)]);
    let wildcard = wanted(&certified, &["*.example.com"]);
    let seen = verify(&with_server, &wildcard, &[], &clock).await;
    assert_eq!(seen.state, EndpointCondition::Unproven);
    assert!(seen.error.unwrap().hint().unwrap().contains("verify_names"));

    let stated = wanted(&certified, &["www.example.com"]);
    let seen = verify(&with_server, &stated, &[], &clock).await;
    assert_eq!(seen.state, EndpointCondition::Served);
}

#[test]
fn an_endpoint_is_asked_for_its_own_names_that_the_certificate_covers() {
    let certified = Certified::new(&["example.com", "*.example.com"]);
    let own = VerifySettings {
        names: names(&["mail.example.com", "mail.example.net"]),
        ..endpoint(port(1))
    };
    let elsewhere = VerifySettings { names: names(&["mail.example.net"]), ..endpoint(port(2)) };
    let target = target(vec![own, elsewhere, endpoint(port(3))]);
    let wanted = wanted(&certified, &["example.com"]);
    let asked = questions(&target, &wanted, &[]);
    let asked: Vec<_> =
        asked.iter().map(|it| (it.endpoint.address.as_str(), it.name.to_string())).collect();
    assert_eq!(
        asked,
        [("127.0.0.1:1", "mail.example.com".to_owned()), ("127.0.0.1:3", "example.com".to_owned())]
    );
}

#[test]
fn what_the_operator_named_is_required_and_what_its_kind_brings_is_not() {
    let target = target(vec![endpoint(port(1)), guess(port(2))]);
    let required = [1, 2, 3].map(|it| target.requires(&port(it).to_string()));
    assert_eq!(required, [true, false, false]);
}

#[test]
fn many_names_are_shared_out_evenly_among_the_endpoints() {
    let many: Vec<String> = (0..100).map(|number| format!("n{number}.example.com")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let certified = Certified::new(&many);
    let endpoints = (1..=4).map(|it| endpoint(port(it))).collect();
    let (target, wanted) = (target(endpoints), wanted(&certified, &many));
    let asked = questions(&target, &wanted, &[]);
    assert_eq!(asked.len(), MAX_PAIRS);
    for endpoint in &target.verify {
        let count = asked.iter().filter(|it| it.endpoint.address == endpoint.address).count();
        assert_eq!(count, MAX_PAIRS / 4);
    }
}

#[tokio::test]
async fn a_server_without_the_one_of_a_pair_is_told_apart_from_one_that_speaks_no_tls() {
    let rsa = Certified::with_key(&["example.com"], KeyType::Rsa2048);
    let ecdsa = certified();
    let server = TestServer::start(&ecdsa);
    let of_pair = |one| Wanted { only: Some(KeyFamily::Rsa), ..wanted(one, &["example.com"]) };
    let clock = HandClock::default();
    for endpoint in [endpoint(server.address), guess(server.address)] {
        let target = target(vec![endpoint]);
        let seen = look(&target, &of_pair(&rsa), &[], &clock).await;
        let error = seen.error.unwrap();
        let text = chain_text(&error);
        assert!(text.contains("to a client that takes RSA keys alone"), "{text}");
        assert!(error.hint().unwrap().contains("one of a pair"), "{error:?}");
        server.show(&[&rsa]);
        let seen = look(&target, &of_pair(&rsa), &[], &clock).await;
        assert_eq!(seen.state, EndpointCondition::Served);
        server.show(&[&ecdsa]);
    }
}

#[test]
fn only_the_certificate_of_a_pair_is_asked_for_by_a_client_that_takes_its_family_alone() {
    let rsa = Certified::with_key(&["example.com"], KeyType::Rsa2048);
    let spec = CertificateSpec {
        name: "site.rsa".parse().unwrap(),
        identifiers: names(&["example.com", "*.example.com"]),
        cas: vec!["lab".parse().unwrap()],
        key_type: KeyType::Rsa2048,
        paired_with: None,
        key_source: crate::model::KeySource::Fresh,
        profile: None,
        preferred_chain: None,
        solvers: std::collections::BTreeMap::new(),
        targets: Vec::new(),
        verify_names: Vec::new(),
        verify: true,
        read_group: None,
        placeholder: true,
        source: std::path::PathBuf::new(),
    };
    let (complete, alone) = (held(&rsa, true), held(&rsa, false));
    let single = Wanted::of(&spec, &complete);
    assert!(single.needs_issuer && !Wanted::of(&spec, &alone).needs_issuer);
    assert_eq!((single.only, single.names), (None, names(&["example.com"])));
    let stated = CertificateSpec {
        paired_with: Some("site".parse().unwrap()),
        verify_names: names(&["www.example.com"]),
        ..spec
    };
    let paired = Wanted::of(&stated, &complete);
    assert_eq!((paired.only, paired.names), (Some(KeyFamily::Rsa), names(&["www.example.com"])));
}
