//! Servers whose own test refuses what is installed: which files stay, and which come back.
//!
//! Not here: what a test that passes leads to (`deploy`), and programs that do not end (`processes`).

use std::collections::BTreeSet;

use crate::site::{LIMIT, NAME};
use crate::support::{Workspace, run, write};

/// A certificate of the built-in CA that is installed in `installed` and whose target's own test is
/// `script`; it is held and installed, and the script's folder is that of the workspace.
fn installed(script: &str) -> Workspace {
    let workspace = Workspace::new();
    let script = workspace.write_secret("own-test", &format!("#!/bin/sh\n{script}\n"), 0o755);
    std::fs::create_dir(workspace.path().join("installed")).unwrap();
    workspace.write_config(&format!(
        "default_ca = \"inside\"\n[ca.inside]\ntype = \"local\"\n\
         [target.own]\ntype = \"other\"\nverify = []\ntest = [{script:?}]\n\
         install = [{{ file = \"fullchain\", path = \"installed/{{name}}.pem\" }},\
                    {{ file = \"privkey\", path = \"installed/{{name}}.key\" }}]\n\
         [[certificate]]\nname = \"site\"\ndomains = [\"site.example\"]\ntargets = [\"own\"]\n"
    ));
    let first = workspace.renewd(&["renew"]);
    assert_eq!(first.code, 0, "{first}");
    workspace
}

/// The chain and the key that are installed, and the chain that is current.
fn chains(workspace: &Workspace) -> [Vec<u8>; 3] {
    let current = workspace.certificate(NAME).join("current/fullchain.pem");
    let installed =
        ["pem", "key"].map(|it| workspace.path().join("installed/site").with_extension(it));
    let [chain, key] = installed.map(|it| std::fs::read(it).unwrap());
    [chain, key, std::fs::read(current).unwrap()]
}

/// P09: a server that takes its old files and not the new ones keeps the old ones, both of them;
/// the new certificate is held, its failure told, and installed once the server takes it.
#[test]
fn what_only_the_new_files_fail_at_has_the_old_ones_put_back() {
    let workspace =
        installed("cd \"${0%/*}\" && { [ ! -e good ] || cmp good installed/site.pem; }");
    let [old_chain, old_key, _] = chains(&workspace);
    write(&workspace.path().join("good"), &old_chain);
    let refused = workspace.renewd(&["renew", "--force", NAME]);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("differ"), "the test's own words: {refused}");
    let [chain, key, current] = chains(&workspace);
    assert!(chain == old_chain && key == old_key && current != old_chain, "{refused}");

    std::fs::remove_file(workspace.path().join("good")).unwrap();
    let again = workspace.renewd(&["deploy", NAME]);
    assert_eq!(again.code, 0, "{again}");
    let [chain, key, current] = chains(&workspace);
    assert!(chain == current && key != old_key, "{again}");
}

/// P09: where the server's test fails with the old files too, these are not at fault: the new ones
/// stay for when its configuration is mended.
#[test]
fn what_the_old_files_fail_at_too_leaves_the_new_ones_in_place() {
    let workspace =
        installed("cd \"${0%/*}\" && cksum < installed/site.pem >> seen && [ ! -e broken ]");
    let [old_chain, old_key, _] = chains(&workspace);
    write(&workspace.path().join("broken"), "");
    let refused = workspace.renewd(&["renew", "--force", NAME]);
    assert_eq!(refused.code, 1, "{refused}");
    let [chain, key, current] = chains(&workspace);
    assert!(chain == current && chain != old_chain && key != old_key, "{refused}");

    // Nothing is new at the next try: nobody is shown the old ones again for a moment.
    let seen = workspace.path().join("seen");
    std::fs::remove_file(&seen).unwrap();
    let refused = workspace.renewd(&["deploy", NAME]);
    assert_eq!(refused.code, 1, "{refused}");
    let files = std::fs::read_to_string(&seen).unwrap();
    assert_eq!(files.lines().collect::<BTreeSet<_>>().len(), 1, "{files}\n{refused}");
}

/// P09: two faults at once. The new files stay where the server's configuration is broken too, also
/// those of a second renewal; when that is mended, it is found out that they are at fault, and the
/// old ones come back: those that it last took.
#[test]
fn new_files_that_fail_still_when_the_configuration_is_mended_give_way_to_the_old_ones() {
    let workspace = installed(
        "cd \"${0%/*}\" && [ ! -e broken ] && { [ ! -e good ] || cmp good installed/site.pem; }",
    );
    let [old_chain, old_key, _] = chains(&workspace);
    write(&workspace.path().join("good"), &old_chain);
    write(&workspace.path().join("broken"), "");
    for _ in 0..2 {
        let refused = workspace.renewd(&["renew", "--force", NAME]);
        assert_eq!(refused.code, 1, "{refused}");
        let [chain, _, current] = chains(&workspace);
        assert!(chain == current && chain != old_chain, "{refused}");
    }

    std::fs::remove_file(workspace.path().join("broken")).unwrap();
    let refused = workspace.renewd(&["deploy", NAME]);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("differ"), "the test's own words: {refused}");
    let [chain, key, _] = chains(&workspace);
    assert!(chain == old_chain && key == old_key, "{refused}");

    std::fs::remove_file(workspace.path().join("good")).unwrap();
    let again = workspace.renewd(&["deploy", NAME]);
    assert_eq!(again.code, 0, "{again}");
    let [chain, _, current] = chains(&workspace);
    assert_eq!(chain, current, "{again}");
}

/// P09: a process that dies after it put files in place has not heard the server's test: the next
/// one has it judge them, though it finds them there.
#[test]
fn files_that_a_crash_left_without_a_verdict_give_way_where_they_alone_are_refused() {
    let workspace =
        installed("cd \"${0%/*}\" && { [ ! -e good ] || cmp good installed/site.pem; }");
    let [old_chain, old_key, _] = chains(&workspace);
    write(&workspace.path().join("good"), &old_chain);
    let mut renewing = workspace.command(&["renew", "--force", NAME]);
    let killed = run(renewing.env("RENEWD_CRASH_AT", "deploy.removed:site/journal.json"), LIMIT);
    assert_eq!(killed.code, -1, "{killed}");
    let [chain, _, current] = chains(&workspace);
    assert!(chain == current && chain != old_chain, "{killed}");

    let refused = workspace.renewd(&["deploy", NAME]);
    assert_eq!(refused.code, 1, "{refused}");
    let [chain, key, _] = chains(&workspace);
    assert!(chain == old_chain && key == old_key, "{refused}");
}

/// P09: a test that says the same whatever is wrong does not tell that the configuration is mended:
/// it is asked of the earlier files again now and then, not at each try.
#[test]
fn a_test_of_few_words_judges_the_old_files_again_after_a_dozen_tries() {
    let workspace = installed(
        "cd \"${0%/*}\"; echo no; \
         [ ! -e broken ] && { [ ! -e good ] || cmp -s good installed/site.pem; }",
    );
    let [old_chain, old_key, _] = chains(&workspace);
    write(&workspace.path().join("good"), &old_chain);
    write(&workspace.path().join("broken"), "");
    let refused = workspace.renewd(&["renew", "--force", NAME]);
    assert_eq!(refused.code, 1, "{refused}");
    std::fs::remove_file(workspace.path().join("broken")).unwrap();
    let is_back = |_: &usize| {
        let refused = workspace.renewd(&["deploy", NAME]);
        assert_eq!(refused.code, 1, "{refused}");
        let [chain, key, _] = chains(&workspace);
        chain == old_chain && key == old_key
    };
    let tries = (1..=12).find(is_back);
    assert!(tries.is_some_and(|it| it > 1), "{tries:?}");
}
