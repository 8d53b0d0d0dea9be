//! What is found out before an order is placed: a certificate that nobody could take is not
//! ordered.

use serde_json::Value;

use crate::site::{NAME, ProofBy, Site, SiteOptions, Tls};
use crate::support::{Endpoint, write, write_secret};

/// A site whose certificate goes to the targets of `tables`, named in `targets`.
fn site(targets: &str, tables: &str) -> Site {
    let site = Site::with(&SiteOptions {
        tls: Tls::Later,
        proof: ProofBy::Listener,
        tables: tables.to_owned(),
        ..SiteOptions::default()
    });
    let file = site.workspace.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    write(&file, text.replace("targets = []", &format!("targets = {targets}")));
    site
}

#[track_caller]
fn check_nothing_was_asked(site: &Site) {
    let asked = site.pebble.requests();
    for endpoint in [Endpoint::NewAccount, Endpoint::NewOrder] {
        assert_eq!(asked.count(endpoint), 0, "{endpoint:?}");
    }
}

const FILES: &str = "[target.files]\ntype = \"other\"\n\
                     install = [{ file = \"fullchain\", path = \"etc/{name}.pem\" }]\n";

#[test]
fn what_no_target_could_take_is_not_ordered_and_costs_the_ca_nothing() {
    let site = site("[\"files\"]", FILES);
    let refused = site.renewd(&["renew"]);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("so nothing was ordered"), "{refused}");
    assert!(refused.stderr.contains("install -d -m 0755 "), "{refused}");
    check_nothing_was_asked(&site);

    let status = site.status();
    let shown = ["error_code", "failures"].map(|it| status[it].clone());
    let expected: [Value; 2] = ["deploy.not_ready".into(), 1.into()];
    assert_eq!(shown, expected, "{status:#}");
    // On a slow machine the pause of five seconds may be over by now.
    let renewal = status["renewal"].as_str().unwrap_or_default();
    assert!(["backing_off", "due"].contains(&renewal), "{status:#}");
    let plan = site.renewd(&["plan"]);
    assert!(plan.stdout.contains(NAME), "{plan}");

    // By time it waits for the short ladder of our own side; by hand it is tried at once.
    std::fs::create_dir(site.workspace.path().join("etc")).unwrap();
    let renewed = site.renewd(&["renew", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}");
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 1);
    assert!(site.workspace.path().join("etc/site.pem").exists());
}

#[test]
fn a_target_whose_program_is_missing_takes_nothing_until_it_is_there() {
    let reload = "[target.own]\ntype = \"command\"\nverify = []\n\
                  reload = { command = [\"PROGRAM\"] }\n";
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("after-renewal");
    let site = site("[\"own\"]", &reload.replace("PROGRAM", program.to_str().unwrap()));
    for (mode, words) in [(None, "cannot start"), (Some(0o644), "cannot start")] {
        if let Some(mode) = mode {
            write_secret(&program, "#!/bin/sh\n", mode);
        }
        let refused = site.renewd(&["renew", NAME]);
        assert_eq!(refused.code, 1, "{refused}");
        assert!(refused.stderr.contains(words), "{refused}");
        assert!(refused.stderr.contains("installed and executable?"), "{refused}");
        check_nothing_was_asked(&site);
    }
    write_secret(&program, "#!/bin/sh\n", 0o755);
    let renewed = site.renewd(&["renew", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}");
}

#[test]
fn one_target_that_can_take_it_is_enough_and_the_other_fails_by_itself() {
    let broken = FILES.replace("files", "gone").replace("etc/", "gone/");
    let site = site("[\"gone\", \"files\"]", &format!("{FILES}{broken}"));
    std::fs::create_dir(site.workspace.path().join("etc")).unwrap();
    let renewed = site.renewd(&["renew"]);
    assert_eq!(renewed.code, 1, "{renewed}");
    let status = site.status();
    let states = [0, 1].map(|it| status["targets"][it]["state"].clone());
    assert_eq!(states, ["failed", "installed"], "{status:#}");
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 1);
}
