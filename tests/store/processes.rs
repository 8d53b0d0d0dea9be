//! The state directory as processes of other users find it, and as those that are killed leave it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use renewd::model::{Explain, Generation};
use renewd::store::GroupError;
use renewd::sys::atomic::{self, Access};
#[cfg(feature = "crash-points")]
use renewd::sys::process::Ended;
use renewd::sys::process::{self, ProcessError, Program};
use renewd::sys::user;

use crate::{World, issued, name, open, rights, served};

/// Set for a test that plays a process which becomes the owner of the state directory.
const HEIR: &str = "RENEWD_TEST_HEIR";

/// Set for a test that plays the process to be killed.
const VICTIM: &str = "RENEWD_TEST_VICTIM";

/// Not a test of its own: what root, or anybody, does with the state directory of another user.
#[tokio::test]
async fn heir() {
    let Some(state_dir) = std::env::var_os(HEIR) else { return };
    let was_root = user::own_user_id() == 0;
    let became = user::become_owner_of(Path::new(&state_dir)).unwrap();
    assert_eq!(became.is_some(), was_root);
    assert_ne!(user::own_user_id(), 0);

    let store = open(Path::new(&state_dir)).await;
    let error = store.add(&name(), &issued(1), Some("root")).await.unwrap_err();
    assert!(error.source.is::<GroupError>(), "{error:?}");
    assert!(error.hint().unwrap().contains("usermod -aG root renewd"), "{error:?}");
    assert_eq!(store.held(&name()).await.unwrap(), None);
    store.add(&name(), &issued(1), None).await.unwrap();
}

#[tokio::test]
async fn root_becomes_the_owner_and_then_may_not_give_files_to_strange_groups() {
    let folder = tempfile::tempdir().unwrap();
    // Root plays a user that no machine knows by name; anybody else plays themselves.
    let id = if user::own_user_id() == 0 { 54_321 } else { user::own_user_id() };
    let group = if id == 54_321 { id } else { user::own_group_id() };
    let access = Access { mode: 0o711, owner: Some(id), group: Some(group) };
    atomic::directory(folder.path(), access).unwrap();
    let program = child("heir", (HEIR, folder.path()), Duration::from_secs(60));
    let ended = process::run(&program).await;
    assert!(ended.is_ok(), "{}", ended.unwrap_err());
    let held = folder.path().join("certs/example.com/0001");
    assert_eq!(rights(&held.join("privkey.pem")), (0o600, id, group));
    assert_eq!(rights(&folder.path().join("private/locks/state")), (0o600, id, group));
}

/// Not a test of its own: the process that the next tests kill.
#[tokio::test]
async fn victim() {
    let Some(state_dir) = std::env::var_os(VICTIM) else { return };
    let store = open(Path::new(&state_dir)).await;
    for day in 1.. {
        store.add(&name(), &issued(day), None).await.unwrap();
        store.prune(&name(), &BTreeSet::new()).await.unwrap();
    }
}

/// The test `name` of this file as a process of its own, with `variable` set.
fn child(name: &str, variable: (&str, &Path), timeout: Duration) -> Program {
    let this = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let (variable, value) = variable;
    Program {
        arguments: vec![this, "--exact".into(), format!("processes::{name}")],
        environment: vec![(variable.to_owned(), value.as_os_str().to_owned())],
        input: Vec::new(),
        directory: None,
        timeout,
    }
}

#[tokio::test]
async fn whenever_the_process_dies_the_old_or_the_new_pair_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World { store: open(folder.path()).await, folder };
    world.add(&issued(0)).await;
    let mut life = Duration::from_millis(60);
    for round in 1..=24 {
        let World { store, folder } = world;
        drop(store);
        let ended = process::run(&child("victim", (VICTIM, folder.path()), life)).await;
        assert!(matches!(ended, Err(ProcessError::TimedOut { .. })), "{ended:?}");
        let found = served(&folder.path().join("certs/example.com"));
        world = World { store: open(folder.path()).await, folder };
        assert_eq!(world.held().await.fingerprint(), found);
        assert!(!world.names().iter().any(|it| it.starts_with('.')), "{:?}", world.names());
        assert_eq!(world.repair().await, None);
        let highest = world.store.generations(&name()).await.unwrap().last().unwrap().0;
        let has_added = highest > Generation(1);
        if has_added && round >= 12 {
            return;
        }
        // A busy machine may need longer to start it.
        life = if has_added { life + Duration::from_millis(37) } else { life * 4 / 3 };
    }
    panic!("the victim never came to add anything in {life:?}");
}

#[cfg(feature = "crash-points")]
#[tokio::test]
async fn killed_between_folder_and_link_the_old_one_is_held_and_killed_after_it_the_new_one() {
    for (point, before) in [("store.generation", 1), ("store.current", 2)] {
        let world = World::new().await;
        world.add(&issued(0)).await;
        let World { store, folder } = world;
        drop(store);
        let mut program = child("victim", (VICTIM, folder.path()), Duration::from_secs(60));
        program.environment.push(("RENEWD_CRASH_AT".to_owned(), point.into()));
        let ended = process::run(&program).await;
        let killed = matches!(ended, Err(ProcessError::Failed { ended: Ended::Signal(9), .. }));
        assert!(killed, "{ended:?}");
        let world = World { store: open(folder.path()).await, folder };
        assert_eq!(world.held().await.generation, Some(Generation(before)), "{point}");
        assert_eq!(world.names(), ["0001", "0002", "current"], "{point}");
    }
}
