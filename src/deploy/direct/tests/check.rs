//! What is said of a target before anything is ordered for it.

use super::*;

async fn check(world: &World) -> Result<(), DeployError> {
    let DeployRequest { certificate, target, .. } = request(1);
    world.deployer().check(&certificate, &target).await
}

#[tokio::test]
async fn a_target_is_ready_if_its_folders_and_programs_are_there_and_nothing_is_changed() {
    let mut world = World::new();
    world.settings.test = Some(program_of("true", &[]));
    world.reload_by("/bin/sh", &["-c", "exit 1"]);
    check(&world).await.unwrap();
    assert_eq!(fs::read_dir(world.path("etc")).unwrap().count(), 0);
    assert!(!world.path("previous").exists());

    let pid_file = world.path("not-running.pid");
    world.settings.reload = Some(ReloadSettings::Signal { signal: "HUP".into(), pid_file });
    check(&world).await.unwrap();
}

#[tokio::test]
async fn a_target_that_is_not_ready_is_told_as_it_would_fail_with_what_to_do() {
    let mut world = World::new();
    world.settings.test = Some(program_of("/no/such/program", &[]));
    let error = check(&world).await.unwrap_err();
    assert_eq!(error.code(), "deploy.test");

    world.settings.test = None;
    let script = world.path("script");
    atomic::write(&script, b"#!/bin/sh\n", Access::mode(0o644)).unwrap();
    world.reload_by(script.to_str().unwrap(), &[]);
    let error = check(&world).await.unwrap_err();
    assert_eq!(error.code(), "deploy.reload");
    assert!(error.hint().unwrap().contains("installed and executable"), "{error}");

    world.settings.install[0].owner = Some("nobody-of-this-name".into());
    assert_eq!(check(&world).await.unwrap_err().code(), "deploy.install");
    fs::remove_dir(world.path("etc")).unwrap();
    let error = check(&world).await.unwrap_err();
    assert_eq!(error.code(), "deploy.install");
    assert!(error.hint().unwrap().starts_with("make it with the rights you want"), "{error}");

    let unknown = world.deployer().check(&request(1).certificate, &"mail".parse().unwrap()).await;
    assert_eq!(unknown.unwrap_err().code(), "deploy.unknown_target");
}
