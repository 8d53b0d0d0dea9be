//! Documents that are cut off, empty, garbage or in the form of a newer version: what is held is
//! served on, nothing is ordered for it, and what could not be understood is kept beside what has
//! taken its place.

use std::fs;
use std::path::{Path, PathBuf};

use crate::site::{NAME, Site};
use crate::support::{Endpoint, write_secret};

/// Documents that there are only now and then, below `state/private`.
const SELDOM: [&str; 8] = [
    "accounts/lab/next_key.pem",
    "certificates/site/order.json",
    "certificates/site/next/privkey.pem",
    "certificates/site/revocation.json",
    "crl/0badcafe/list.der",
    "crl/0badcafe/meta.json",
    "dns/0badcafe.json",
    "previous/nginx/site/journal.json",
];

/// Fields of ours, each of another kind than it is today.
const NEWER: &str = r#"{"format":99,"min_reader":1,"attempts":[1],"ca":7,"directory":7,"fencing":"x",
    "open":7,"orders":"x","phase":"later","request":7,"sha256":7,"solver":7,"targets":7,"url":7}"#;

/// D11: a state file that is broken, empty, or of a newer version.
#[test]
fn no_damaged_document_makes_us_order_what_is_held() {
    let site = Site::start();
    assert_eq!(site.renewd(&["renew"]).code, 0);
    let documents = documents(&site);
    assert!(documents.len() >= SELDOM.len() + 8, "{documents:?}");
    for document in &documents {
        damage(document, "garbage");
        check(&site, &format!("{} is garbage", document.display()));
    }
    for kind in ["cut off", "empty", "garbage", "newer"] {
        documents.iter().for_each(|it| damage(it, kind));
        check(&site, &format!("everything is {kind}"));
    }
    let kept = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(site.workspace.path().join(folder)).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    };
    for (folder, document) in [
        ("state/private", "version.corrupt-2"),
        ("state/private/certificates/site", "state.json.corrupt-2"),
        ("state/private/certificates/site", "order.json.corrupt-2"),
        ("state/private/certificates/site", "revocation.json.corrupt-2"),
        ("state/private/targets/nginx", "site.json.corrupt-2"),
        ("state/private/alerts", "outbox.json.corrupt-2"),
        ("state/private/dns", "0badcafe.json.corrupt-2"),
        ("state/private/previous/nginx/site", "journal.corrupt"),
        ("state/certs/site/0001", "meta.json.corrupt"),
    ] {
        let names = kept(folder);
        assert!(names.iter().any(|it| it.starts_with(document)), "{document}: {names:?}");
    }
}

#[test]
fn an_account_is_found_again_by_its_key_and_made_anew_only_where_the_key_is_lost() {
    let site = Site::start();
    assert_eq!(site.renewd(&["renew"]).code, 0);
    let folder = site.workspace.path().join("state/private/accounts/lab");
    let accounts = || site.pebble.log().matches(" accounts in memory").count();
    for (document, kind, made) in [
        ("account.json", "cut off", 1),
        ("account.json", "empty", 1),
        ("account.json", "newer", 1),
        ("next_key.pem", "garbage", 1),
        ("key.pem", "cut off", 2),
    ] {
        damage(&folder.join(document), kind);
        let done = site.renewd(&["renew", "--force", NAME]);
        assert_eq!(done.code, 0, "{document} {kind}: {done}");
        assert_eq!(accounts(), made, "{document} {kind}: {}", site.pebble.log());
    }
}

/// All documents that there are, and those of [`SELDOM`].
fn documents(site: &Site) -> Vec<PathBuf> {
    let state = site.workspace.path().join("state");
    let mut documents: Vec<PathBuf> = SELDOM.map(|it| state.join("private").join(it)).to_vec();
    documents.push(state.join("certs/site/0001/meta.json"));
    let mut pending = vec![state.join("private")];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                pending.push(path);
            } else if path.extension().is_some() || path.ends_with("version") {
                documents.push(path);
            }
        }
    }
    documents.sort();
    documents.dedup();
    documents
}

fn damage(document: &Path, kind: &str) {
    let found = fs::read_to_string(document).unwrap_or_else(|_none| NEWER.to_owned());
    let content = match kind {
        "cut off" => found.chars().take(found.len() / 2).collect(),
        "empty" => String::new(),
        "garbage" => "\0\u{1b}[31m}{ garbage".to_owned(),
        _ => NEWER.to_owned(),
    };
    fs::create_dir_all(document.parent().unwrap()).unwrap();
    write_secret(document, content, 0o600);
}

/// The next run goes well, orders nothing, and what is held is served.
#[track_caller]
fn check(site: &Site, when: &str) {
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{when}: {done}");
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 1, "{when}: {done}");
    let status = site.status();
    assert_eq!(
        (&status["condition"], &status["health"]),
        (&"served".into(), &"ok".into()),
        "{when}: {status:#}"
    );
    assert_eq!(site.current().as_deref(), Some("0001"), "{when}");
}
