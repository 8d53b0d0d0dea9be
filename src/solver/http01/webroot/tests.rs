//! The files of a webroot, in folders of their own.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::Duration;

use futures_util::FutureExt;

use super::*;
use crate::model::{Explain, chain_text};
use crate::solver::tests::proof;
use crate::sys::atomic;
use crate::sys::process::{self, Program};

const FOLDER: &str = ".well-known/acme-challenge";

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

fn write(path: &Path) {
    atomic::write(path, b"from a run that crashed", atomic::Access::mode(0o600)).unwrap();
}

fn make(path: &Path) {
    atomic::directory(path, atomic::Access::mode(0o755)).unwrap();
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// How long work that nobody waits for may take, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Waits until nobody shows or removes anything.
async fn work_is_done(solver: &Webroot) {
    work_is_done_beside(solver, 0).await;
}

/// The same, where so many files are `shown` still.
async fn work_is_done_beside(solver: &Webroot, shown: usize) {
    let done = async {
        while Arc::strong_count(&solver.files) > 1 + shown {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, done).await.unwrap();
}

#[tokio::test]
async fn a_proof_is_a_file_for_all_to_read_until_it_is_cleaned_up() {
    let root = tempfile::tempdir().unwrap();
    let solver = Webroot::new(root.path().to_owned(), false);
    let presented = solver.present(&proof("example.com", "abc")).await.unwrap();
    let file = root.path().join(FOLDER).join("abc");
    assert_eq!(fs::read(&file).unwrap(), b"abc.thumbprint");
    assert_eq!(mode(&file), 0o644);
    assert_eq!(mode(&root.path().join(FOLDER)), 0o755);
    assert_eq!(mode(&root.path().join(".well-known")), 0o755);
    presented.clean_up().await.unwrap();
    assert!(!is_there(&file) && root.path().join(FOLDER).is_dir());
}

/// The umask belongs to the whole process, so the test before this one runs in one of its own.
#[tokio::test]
async fn the_umask_makes_no_difference() {
    let this = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    let name = "a_proof_is_a_file_for_all_to_read_until_it_is_cleaned_up";
    let script = "umask 077 && exec \"$0\" \"$1\"";
    let arguments = ["sh", "-c", script, &this, name].map(str::to_owned).to_vec();
    let program = Program {
        arguments,
        environment: vec![],
        input: vec![],
        directory: None,
        timeout: Duration::from_secs(60),
    };
    let output = process::run(&program).await.unwrap().output;
    assert!(output.contains("1 passed"), "{output}");
}

#[tokio::test]
async fn a_flat_folder_holds_the_file_itself_and_is_made() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("run/acme-challenge");
    let solver = Webroot::new(folder.clone(), true);
    solver.check().await.unwrap();
    assert!(!is_there(&folder), "a check changes nothing");
    let presented = solver.present(&proof("example.com", "abc")).await.unwrap();
    assert_eq!(fs::read(folder.join("abc")).unwrap(), b"abc.thumbprint");
    assert_eq!(mode(&folder), 0o755);
    presented.clean_up().await.unwrap();
    assert!(!is_there(&folder.join("abc")));
}

#[tokio::test]
async fn a_document_root_that_is_not_there_is_a_fault_and_not_made() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("html");
    let solver = Webroot::new(missing.clone(), false);
    let checked = solver.check().await.unwrap_err();
    let presented = solver.present(&proof("example.com", "abc")).await.unwrap_err();
    for error in [checked, presented] {
        assert_eq!(error.code(), "solver.webroot");
        assert!(chain_text(&error).contains("cannot open the folder"), "{}", chain_text(&error));
        assert!(error.hint().unwrap().starts_with("make the folder "));
    }
    assert!(!is_there(&missing));
}

#[tokio::test]
async fn a_check_of_a_document_root_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    Webroot::new(root.path().to_owned(), false).check().await.unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    make(&root.path().join(FOLDER));
    Webroot::new(root.path().to_owned(), false).check().await.unwrap();
    assert_eq!(fs::read_dir(root.path().join(FOLDER)).unwrap().count(), 0);
}

#[tokio::test]
async fn a_planted_link_in_place_of_a_folder_is_refused_with_a_hint() {
    for planted in [".well-known", FOLDER] {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(root.path().join(planted).parent().unwrap());
        symlink(elsewhere.path(), root.path().join(planted)).unwrap();
        let solver = Webroot::new(root.path().to_owned(), false);
        assert!(solver.check().await.is_err());
        let error = solver.present(&proof("example.com", "abc")).await.unwrap_err();
        assert!(error.hint().unwrap().contains("links"), "{:?}", error.hint());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn the_document_root_itself_may_be_a_link() {
    let root = tempfile::tempdir().unwrap();
    make(&root.path().join("real"));
    symlink("real", root.path().join("link")).unwrap();
    let solver = Webroot::new(root.path().join("link"), false);
    let _presented = solver.present(&proof("example.com", "abc")).await.unwrap();
    assert!(root.path().join("real").join(FOLDER).join("abc").is_file());
}

#[tokio::test]
async fn what_a_crashed_run_left_is_replaced_and_whatever_a_link_leads_to_is_spared() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(FOLDER);
    make(&folder);
    write(&folder.join("abc"));
    let victim = root.path().join("victim");
    write(&victim);
    symlink(&victim, folder.join("def")).unwrap();

    let solver = Webroot::new(root.path().to_owned(), false);
    for token in ["abc", "def"] {
        let presented = solver.present(&proof("example.com", token)).await.unwrap();
        let file = folder.join(token);
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{token}.thumbprint"));
        assert_eq!((mode(&file), file.is_symlink()), (0o644, false));
        presented.clean_up().await.unwrap();
        assert!(!is_there(&file));
    }
    assert_eq!(fs::read(&victim).unwrap(), b"from a run that crashed");
}

#[tokio::test]
async fn leftovers_go_and_where_there_are_none_all_is_fine() {
    let root = tempfile::tempdir().unwrap();
    let name = "example.com".parse().unwrap();
    let clean_up = async |directory: &Path| {
        let solver = Webroot::new(directory.to_owned(), false);
        solver.clean_up_leftover(&name, &"abc".parse().unwrap()).await
    };
    clean_up(&root.path().join("missing")).await.unwrap();
    clean_up(root.path()).await.unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);

    let folder = root.path().join(FOLDER);
    make(&folder);
    clean_up(root.path()).await.unwrap();
    write(&folder.join("abc"));
    write(&folder.join("other"));
    clean_up(root.path()).await.unwrap();
    assert!(!is_there(&folder.join("abc")) && is_there(&folder.join("other")));
}

#[tokio::test]
async fn a_token_of_two_orders_stays_until_both_are_done() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("abc");
    let solver = Webroot::new(root.path().to_owned(), true);
    let proof = proof("example.com", "abc");
    let first = solver.present(&proof).await.unwrap();
    let second = solver.present(&proof).await.unwrap();
    first.clean_up().await.unwrap();
    assert!(is_there(&file));
    solver.clean_up_leftover(&proof.identifier, &proof.token).await.unwrap();
    assert!(is_there(&file), "what is shown is no leftover");
    drop(second);
    work_is_done(&solver).await;
    assert!(!is_there(&file));
}

#[tokio::test]
async fn a_token_with_another_content_is_shown_with_the_last_one() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("abc");
    let solver = Webroot::new(root.path().to_owned(), true);
    let old = solver.present(&proof("example.com", "abc")).await.unwrap();
    let key_authorization = KeyAuthorization::new("abc.another".into());
    let changed = Proof { key_authorization, ..proof("example.com", "abc") };
    let new = solver.present(&changed).await.unwrap();
    drop(old);
    work_is_done_beside(&solver, 1).await;
    assert_eq!(fs::read(&file).unwrap(), b"abc.another");
    drop(new);
    work_is_done(&solver).await;
    assert!(!is_there(&file));
}

#[tokio::test]
async fn a_panic_takes_the_file_away() {
    let root = tempfile::tempdir().unwrap();
    let solver = Webroot::new(root.path().to_owned(), true);
    let presented = solver.present(&proof("example.com", "abc")).await.unwrap();
    let task = tokio::spawn(async move {
        let _presented = presented;
        panic!("as a test");
    });
    assert!(task.await.unwrap_err().is_panic());
    work_is_done(&solver).await;
    assert!(!is_there(&root.path().join("abc")));
}

#[tokio::test]
async fn a_present_that_is_given_up_leaves_no_file() {
    let root = tempfile::tempdir().unwrap();
    let solver = Webroot::new(root.path().to_owned(), true);
    let proof = proof("example.com", "abc");
    for _ in 0..50 {
        // Polled once, so that the work is under way, and dropped.
        drop(solver.present(&proof).now_or_never());
    }
    work_is_done(&solver).await;
    assert!(!is_there(&root.path().join("abc")));
}

/// D09: a mount that hangs. Somebody who holds the lock for as long as a removal takes stands in
/// for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_drops_a_proof_does_not_wait_for_a_folder_that_hangs() {
    let root = tempfile::tempdir().unwrap();
    let solver = Webroot::new(root.path().to_owned(), true);
    let presented = solver.present(&proof("example.com", "abc")).await.unwrap();
    let files = Arc::clone(&solver.files);
    let (begun, hangs) = tokio::sync::oneshot::channel();
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let hanging = tokio::task::spawn_blocking(move || {
        let _shown = files.shown.lock().unwrap();
        begun.send(()).unwrap();
        held.recv().unwrap();
    });
    hangs.await.unwrap();
    let dropped = tokio::spawn(async move { drop(presented) });
    let dropped = tokio::time::timeout(LIMIT, dropped).await;
    let_go.send(()).unwrap();
    hanging.await.unwrap();
    assert!(dropped.is_ok(), "a thread of the runtime waits");
    work_is_done(&solver).await;
    assert!(!is_there(&root.path().join("abc")));
}

#[test]
fn without_a_runtime_the_file_is_gone_at_once() {
    let root = tempfile::tempdir().unwrap();
    let solver = Webroot::new(root.path().to_owned(), true);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let presented = runtime.block_on(solver.present(&proof("example.com", "abc"))).unwrap();
    drop(presented);
    assert!(!is_there(&root.path().join("abc")));
}

#[tokio::test]
async fn a_file_that_can_not_be_removed_is_told_of() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("abc");
    let solver = Webroot::new(root.path().to_owned(), true);
    let presented = solver.present(&proof("example.com", "abc")).await.unwrap();
    fs::remove_file(&file).unwrap();
    make(&file);
    let error = presented.clean_up().await.unwrap_err();
    assert!(chain_text(&error).contains("cannot remove "), "{}", chain_text(&error));
}
