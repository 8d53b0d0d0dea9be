//! The providers: that each can be made of what it asks for, and what those say that are our own.

use std::collections::BTreeMap;
#[cfg(feature = "dns-providers")]
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};

use super::*;
use crate::model::{Explain, Retry, Secret};

/// `given` as a provider's settings: words that are no secrets' keys are values.
fn settings(name: &str, given: &[(&str, &str)]) -> ProviderSettings {
    let (mut values, mut secrets, mut program) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (key, value) in given {
        if ProviderSettings::SECRETS.contains(key) {
            secrets.insert((*key).to_owned(), Secret::new((*value).to_owned()));
        } else if *key == "program" {
            program.push((*value).to_owned());
        } else {
            values.insert((*key).to_owned(), (*value).to_owned());
        }
    }
    ProviderSettings { name: name.to_owned(), program, values, secrets }
}

fn built(settings: &ProviderSettings) -> Result<Arc<dyn DnsProvider>, DnsError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    build(settings, &clock, Programs::Run)
}

fn record() -> TxtRecord {
    TxtRecord {
        zone: "example.com".to_owned(),
        name: "_acme-challenge.example.com".to_owned(),
        value: "the-value".to_owned(),
    }
}

#[cfg(feature = "dns-providers")]
#[test]
fn every_provider_can_be_made_of_what_it_asks_for() {
    // Their keys are documents, which a word is not.
    let documents = [
        "acme-dns",
        "google_cloud_dns",
        "hurricane",
        "oraclecloud",
        "rfc2136",
        "transip",
        "program",
    ];
    let documents = documents.into_iter().chain(["yandexcloud", "joker", "cloudns"]);
    let documents: BTreeSet<&str> = documents.collect();
    // The client of each reads the roots that the system trusts.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    for kind in catalogue::kinds() {
        let given: Vec<_> = (kind.needs.iter().filter(|it| it.required))
            .map(|it| match it.key {
                "url" => (it.key, "https://dns.example"),
                "region" => (it.key, "eu-west-1"),
                "program" => (it.key, "/bin/true"),
                key => (key, "canary"),
            })
            .collect();
        let settings = settings(kind.name, &given);
        let keys = kind.needs.iter().map(|it| it.key);
        let told = ProviderSettings::reference();
        let line = told.iter().find(|it| it.starts_with(&format!("{}: ", kind.name))).unwrap();
        assert!(keys.into_iter().all(|it| line.contains(it)), "{line}");
        let takes_whole_zones = ["joker", "namecheap"].contains(&kind.name);
        assert_eq!(line.contains("(CNAME) of _acme-challenge"), takes_whole_zones, "{line}");
        match built(&settings) {
            Ok(provider) => assert!(!format!("{provider:?}").contains("canary"), "{}", kind.name),
            Err(error) => {
                assert!(documents.contains(kind.name), "{}: {}", kind.name, chain_text(&error));
                assert!(!chain_text(&error).contains("canary"), "{error}");
            }
        }
    }
    let names: BTreeSet<_> = ProviderSettings::known().into_iter().collect();
    assert_eq!((names.len(), catalogue::kinds().count()), (76, 76));
}

/// What a server was asked: path, `Authorization` and `X-Api-Key`, body.
type Asked = Arc<Mutex<Vec<(String, String, String)>>>;

/// A server that answers every request with `status`; where it is, and what it was asked.
async fn server(status: StatusCode) -> (String, Asked) {
    let asked = Asked::default();
    let answer = move |State(asked): State<Asked>, uri: Uri, headers: HeaderMap, body: String| {
        let header = |name: &str| {
            let value = headers.get(name).and_then(|it| it.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let login = format!("{}{}", header("authorization"), header("x-api-key"));
        asked.lock().unwrap().push((uri.path().to_owned(), login, body));
        async move { status }
    };
    let app = Router::new().fallback(answer).with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

#[tokio::test]
async fn httpreq_asks_as_lego_does() {
    let (url, asked) = server(StatusCode::OK).await;
    let given = [("url", url.as_str()), ("user", "u"), ("password", "canary")];
    let provider = built(&settings("httpreq", &given)).unwrap();
    provider.add(&record()).await.unwrap();
    provider.remove(&record()).await.unwrap();
    let body = r#"{"fqdn":"_acme-challenge.example.com.","value":"the-value"}"#.to_owned();
    let login = "Basic dTpjYW5hcnk=".to_owned();
    let expected = ["/present", "/cleanup"].map(|it| (it.to_owned(), login.clone(), body.clone()));
    assert_eq!(*asked.lock().unwrap(), expected);
    assert!(!format!("{provider:?}").contains("canary"));

    let (url, _) = server(StatusCode::FORBIDDEN).await;
    let provider = built(&settings("httpreq", &[("url", &url)])).unwrap();
    let source = provider.add(&record()).await.unwrap_err();
    let error = DnsError::Change { action: "add", name: record().name, source };
    assert!(chain_text(&error).ends_with("it answered 403 Forbidden"), "{}", chain_text(&error));
    assert!(error.hint().unwrap().contains("credentials of httpreq"));
}

/// N08: whatever a provider answers, what is to be done follows from it: only what a human has to
/// mend waits for him.
#[tokio::test]
async fn what_a_provider_answers_says_whether_a_human_has_to_change_something() {
    for (status, words, retry) in [
        (StatusCode::UNAUTHORIZED, "401", Retry::AfterChange),
        (StatusCode::TOO_MANY_REQUESTS, "429", Retry::BackOff),
        (StatusCode::INTERNAL_SERVER_ERROR, "500", Retry::BackOff),
        (StatusCode::SERVICE_UNAVAILABLE, "503", Retry::BackOff),
    ] {
        let (url, asked) = server(status).await;
        let given = [("url", url.as_str()), ("user", "u"), ("password", "canary")];
        let provider = built(&settings("httpreq", &given)).unwrap();
        let source = provider.add(&record()).await.unwrap_err();
        let error = DnsError::Change { action: "add", name: record().name, source };
        let text = chain_text(&error);
        assert!(text.contains(words) && !text.contains("canary"), "{text}");
        assert_eq!(error.retry(), retry, "{status}");
        assert_eq!(asked.lock().unwrap().len(), 1, "one change is one request");
    }
    // It may have been heard, though nothing came back.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await);
        }
    });
    let provider = built(&settings("httpreq", &[("url", &url)])).unwrap();
    let source = provider.add(&record()).await.unwrap_err();
    assert!(!source.is_refusal(), "{source}");
}

#[tokio::test]
async fn acme_dns_is_asked_for_the_registration_that_the_alias_leads_to() {
    let (url, asked) = server(StatusCode::OK).await;
    let key = r#"{ "example.com": { "username": "u", "password": "canary", "subdomain": "sub",
                   "fulldomain": "Sub.Auth.Example.", "allowfrom": [] } }"#;
    let provider = built(&settings("acme-dns", &[("url", &url), ("key", key)])).unwrap();
    let record = TxtRecord { name: "sub.auth.example".to_owned(), ..record() };
    provider.add(&record).await.unwrap();
    provider.remove(&record).await.unwrap();
    let body = r#"{"subdomain":"sub","txt":"the-value"}"#.to_owned();
    assert_eq!(*asked.lock().unwrap(), [("/update".to_owned(), "canary".to_owned(), body)]);
    assert!(!format!("{provider:?}").contains("canary"));

    let other = TxtRecord { name: "other.auth.example".to_owned(), ..record };
    let error = provider.add(&other).await.unwrap_err();
    assert_eq!(error.to_string(), "no registration at acme-dns is for other.auth.example");
    assert!(error.hint().is_some());
}

#[test]
fn credentials_never_leave_the_machine_in_plain_text() {
    let faults = settings("httpreq", &[("url", "http://dns.example/")]).faults();
    assert_eq!(faults[0].message, "is not a URL with https, or with http to loopback");
    assert_eq!(settings("httpreq", &[("url", "https://dns.example/")]).faults(), []);
    for (host, is_fault) in [("http://dns.example", true), ("dns.example", false)] {
        let faults = settings("infoblox", &[("host", host)]).faults();
        assert_eq!(faults.iter().any(|it| it.message == "is a URL"), is_fault, "{host}");
    }
}
