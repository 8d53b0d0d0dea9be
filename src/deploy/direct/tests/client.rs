//! What a client gets done by a deployer that has more rights than he has, and what not.

use super::*;
use crate::model::{CertificateRequest, KeySource, PrivateKey};

/// The world's deployer as it works for a user that it does not trust, who may ask for `names`.
fn on_behalf_of(world: &World, user: u32, names: &[&str]) -> DirectDeployer {
    with_key_of(world, user, names, KeySource::Fresh)
}

/// As [`on_behalf_of`], where the certificate's key comes from `key_source`.
fn with_key_of(world: &World, user: u32, names: &[&str], key_source: KeySource) -> DirectDeployer {
    let identifiers: Vec<Identifier> = names.iter().map(|it| it.parse().unwrap()).collect();
    let spec = CertificateSpec {
        preferred_chain: None,
        name: "site".parse().unwrap(),
        identifiers,
        cas: Vec::new(),
        key_type: KeyType::P256,
        paired_with: None,
        key_source,
        profile: None,
        solvers: BTreeMap::new(),
        targets: vec!["web".parse().unwrap()],
        verify_names: Vec::new(),
        verify: true,
        read_group: None,
        placeholder: true,
        source: PathBuf::new(),
    };
    world.deployer().on_behalf_of(Client::new(user, &[spec]))
}

/// That the key of `certified` is elsewhere.
fn elsewhere(certified: &Certified) -> KeySource {
    let key = PrivateKey::from_pem(certified.key_pem.as_bytes()).unwrap();
    let mut parameters = rcgen::CertificateParams::new(["example.com".to_owned()]).unwrap();
    // rcgen's own default is no name that could be certified.
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    let request = parameters.serialize_request(&key.pair().unwrap()).unwrap();
    KeySource::Elsewhere(CertificateRequest::parse(request.der()).unwrap())
}

/// Nobody is called so, and nobody trusts him.
const STRANGER: u32 = 54_321;

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What is said before anything is ordered.
async fn check(deployer: &DirectDeployer) -> Result<(), DeployError> {
    let DeployRequest { certificate, target, .. } = request(1);
    deployer.check(&certificate, &target).await
}

#[tokio::test]
async fn a_client_gets_what_the_configuration_lists_and_nothing_else() {
    let mut world = World::new();
    let target = world.settings.clone();
    let deployer = on_behalf_of(&world, own(), &["example.com"]);
    assert_eq!(deployer.install(&request(1)).await.unwrap(), Installed::Changed);
    let unknown = DeployRequest { certificate: "other".parse().unwrap(), ..request(1) };
    let error = deployer.install(&unknown).await.unwrap_err();
    assert!(matches!(error, DeployError::UnknownCertificate { .. }), "{error}");
    let error = deployer.check(&unknown.certificate, &unknown.target).await.unwrap_err();
    assert!(matches!(error, DeployError::UnknownCertificate { .. }), "{error}");
    // There is such a target, and the certificate does not go there.
    world.settings = TargetSettings { name: "mail".parse().unwrap(), ..target };
    let deployer = on_behalf_of(&world, own(), &["example.com"]);
    let unlisted = DeployRequest { target: "mail".parse().unwrap(), ..request(1) };
    for result in [
        deployer.install(&unlisted).await.map(drop),
        deployer.test(&unlisted).await,
        deployer.reload(&unlisted).await,
        deployer.put_back(&unlisted).await,
        deployer.check(&unlisted.certificate, &unlisted.target).await,
    ] {
        assert!(matches!(result, Err(DeployError::NotListed { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn a_clients_certificate_is_for_exactly_the_names_of_the_configuration() {
    let world = World::new();
    world.store(1, &Certified::new(&["example.com", "*.example.com", "192.0.2.7"]));
    let install = async |names: &[&str]| {
        on_behalf_of(&world, own(), names).install(&request(1)).await.map(drop)
    };
    for names in [
        &["example.com"][..],
        &["example.com", "*.example.com"],
        &["example.com", "*.example.com", "192.0.2.8"],
        &["example.com", "*.example.com", "192.0.2.7", "www.example.com"],
    ] {
        let error = install(names).await.unwrap_err();
        assert!(chain_text(&error).contains("exactly the names"), "{error}");
    }
    install(&["192.0.2.7", "example.com", "*.example.com"]).await.unwrap();
}

#[tokio::test]
async fn a_certificate_whose_key_is_elsewhere_is_for_the_key_of_the_request() {
    let mut world = World::new();
    let key_file = world.settings.install.pop().unwrap();
    let certified = Certified::new(&["example.com"]);
    world.store(1, &certified);
    fs::remove_file(world.generation(1).join("privkey.pem")).unwrap();
    let install = async |world: &World, source| {
        with_key_of(world, own(), &["example.com"], source).install(&request(1)).await
    };
    assert_eq!(install(&world, elsewhere(&certified)).await.unwrap(), Installed::Changed);
    assert_eq!(world.read("etc/site.pem"), certified.certificate_pem);
    let other = elsewhere(&Certified::new(&["example.com"]));
    for (source, phrase) in [(other, "not for the key"), (KeySource::Fresh, "cannot open")] {
        let error = install(&world, source).await.unwrap_err();
        assert!(chain_text(&error).contains(phrase), "{error}");
    }
    assert_eq!(world.deployer().install(&request(1)).await.unwrap(), Installed::Unchanged);

    world.settings.install.push(key_file);
    for error in [
        install(&world, elsewhere(&certified)).await.unwrap_err(),
        world.deployer().install(&request(1)).await.unwrap_err(),
    ] {
        assert!(chain_text(&error).contains("there is no private key"), "{error}");
    }
}

#[tokio::test]
async fn a_clients_files_are_his_own_and_reached_through_no_link() {
    let world = World::new();
    let refusal = async |user: u32| {
        let deployer = on_behalf_of(&world, user, &["example.com"]);
        let error = deployer.install(&request(1)).await.unwrap_err();
        chain_text(&error)
    };
    assert!(refusal(own() + 1).await.contains("does not belong"));
    // The folder of all certificates is the client's too: he could make it a link.
    atomic::rename(&world.path("certs"), &world.path("elsewhere")).unwrap();
    symlink(world.path("elsewhere"), world.path("certs")).unwrap();
    assert!(refusal(own()).await.contains("cannot open the folder"));
    assert!(world.deployer().install(&request(1)).await.is_ok(), "it is the operator's own");
}

#[tokio::test]
async fn a_server_is_not_told_of_a_clients_generation_that_is_not_what_it_should_be() {
    let mut world = World::new();
    world.settings.install.clear();
    world.reload_by("/bin/true", &[]);
    world.settings.test = Some(program_of("/bin/true", &[]));
    world.store(1, &Certified::new(&["foreign.example"]));
    let deployer = on_behalf_of(&world, own(), &["example.com"]);
    for result in [
        deployer.install(&request(1)).await.map(drop),
        deployer.test(&request(1)).await,
        deployer.reload(&request(1)).await,
    ] {
        assert!(matches!(result, Err(DeployError::Source { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn for_a_client_no_program_is_run_that_others_could_have_put_there() {
    let mut world = World::new();
    let script = world.path("etc/reload");
    atomic::write(&script, b"#!/bin/sh\necho told\n", Access::mode(0o775)).unwrap();
    let script_text = script.display().to_string();
    world.reload_by(&script_text, &[]);
    world.settings.test = Some(program_of(&script_text, &[]));
    let deployer = on_behalf_of(&world, own(), &["example.com"]);
    for error in [
        deployer.reload(&request(1)).await.unwrap_err(),
        deployer.test(&request(1)).await.unwrap_err(),
        check(&deployer).await.unwrap_err(),
    ] {
        assert_eq!(error.hint().unwrap(), format!("chmod go-w {script_text}"), "{error}");
    }
    // A program that another test starts just now may still have it open for writing.
    let is_busy = |it: &DeployError| chain_text(it).contains("Text file busy");
    let mut reloaded = world.deployer().reload(&request(1)).await;
    for _ in 0..200 {
        if !reloaded.as_ref().is_err_and(is_busy) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        reloaded = world.deployer().reload(&request(1)).await;
    }
    reloaded.unwrap();
    check(&world.deployer()).await.unwrap();
}

/// Gives `path` and all below it to [`STRANGER`], which only root can.
fn give_to_stranger(path: &Path) {
    lchown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    for entry in fs::read_dir(path).into_iter().flatten() {
        give_to_stranger(&entry.unwrap().path());
    }
}

#[tokio::test]
async fn a_client_can_not_choose_whom_a_signal_reaches() {
    if own() != 0 {
        return;
    }
    let mut world = World::new();
    give_to_stranger(&world.path("certs"));
    let folder = world.path("run");
    atomic::directory(&folder, Access::mode(0o755)).unwrap();
    let pid_file = folder.join("server.pid");
    let signal = |pid_file| ReloadSettings::Signal { signal: "HUP".into(), pid_file };
    world.settings.reload = Some(signal(pid_file.clone()));
    let started = world.path("started");
    let script = format!(
        "trap 'exit 3' HUP; echo $$ >{0}.new; mv {0}.new {0}; while :; do sleep 0.01; done",
        started.display()
    );
    world.settings.test = Some(program_of("sh", &["-c", &script]));
    let other = world.deployer();
    let running = tokio::spawn(async move { other.test(&request(1)).await });
    wait_for(&started).await;
    let deployer = on_behalf_of(&world, STRANGER, &["example.com"]);
    let refused = async |what: &str| {
        let error = deployer.reload(&request(1)).await.unwrap_err();
        assert!(chain_text(&error).contains(what), "{error}");
        assert!(error.hint().is_some(), "{error}");
        assert!(!running.is_finished(), "it was signalled");
    };

    let number = fs::read(&started).unwrap();
    refused("cannot read the pid file").await;
    check(&deployer).await.unwrap();
    atomic::write(&pid_file, &number, Access::mode(0o644)).unwrap();
    give_to_stranger(&pid_file);
    refused("belongs to the user 54321").await;
    assert_eq!(check(&deployer).await.unwrap_err().code(), "deploy.reload");
    atomic::write(&pid_file, &number, Access::mode(0o666)).unwrap();
    refused("can be written by the user 54321").await;
    atomic::write(&pid_file, &number, Access::mode(0o644)).unwrap();
    lchown(&folder, Some(STRANGER), None).unwrap();
    refused("belongs to the user 54321").await;
    lchown(&folder, Some(0), None).unwrap();
    deployer.reload(&request(1)).await.unwrap();
    assert!(running.await.unwrap().unwrap_err().to_string().contains("test"));
}

#[tokio::test]
async fn no_interpreter_is_given_what_a_client_can_change() {
    if own() != 0 {
        return;
    }
    let mut world = World::new();
    give_to_stranger(&world.path("certs"));
    let (script, told) = (world.path("etc/reload"), world.path("told"));
    let text = format!("touch {}", told.display());
    atomic::write(&script, text.as_bytes(), Access::mode(0o644)).unwrap();
    let link = world.path("etc/link");
    symlink(&script, &link).unwrap();
    let missing = world.path("etc/missing").display().to_string();
    world.reload_by("/bin/sh", &[&link.display().to_string(), &missing]);
    let deployer = on_behalf_of(&world, STRANGER, &["example.com"]);
    check(&deployer).await.unwrap();
    for path in [&script, &link, &world.path("etc")] {
        lchown(path, Some(STRANGER), None).unwrap();
        let error = deployer.reload(&request(1)).await.unwrap_err();
        assert!(chain_text(&error).contains("belongs to the user 54321"), "{error}");
        assert!(error.hint().unwrap().contains("RENEWD_PRIVKEY"), "{error}");
        let code = check(&deployer).await.unwrap_err().code();
        let is_folder = path.ends_with("etc");
        assert_eq!(
            code,
            if is_folder { "deploy.install" } else { "deploy.reload" },
            "known before"
        );
        lchown(path, Some(0), None).unwrap();
    }
    assert!(!told.exists());
    deployer.reload(&request(1)).await.unwrap();
    assert!(told.exists());
}

#[tokio::test]
async fn what_a_program_reads_as_root_can_not_be_exchanged_by_a_client() {
    if own() != 0 {
        return;
    }
    let mut world = World::new();
    give_to_stranger(&world.path("certs"));
    let script = "cd \"$RENEWD_DIRECTORY\"; pwd -P >$0; cat privkey.pem >>$0; \
                  cmp \"$RENEWD_PRIVKEY\" privkey.pem; cmp \"$RENEWD_FULLCHAIN\" fullchain.pem";
    let seen = world.path("seen");
    world.reload_by("/bin/sh", &["-ec", script, &seen.display().to_string()]);
    let deployer = on_behalf_of(&world, STRANGER, &["example.com"]);
    deployer.reload(&request(1)).await.unwrap();
    let text = world.read("seen");
    let (place, key) = text.split_once('\n').unwrap();
    assert_eq!(Path::new(place), world.path("lent/web/site/0001").as_path());
    assert_eq!(key, world.read("certs/site/0001/privkey.pem"));
    assert!(!Path::new(place).exists());
    assert_eq!(world.mode("lent"), 0o700);
    // Whoever is trusted with everything anyway sees the store.
    world.deployer().reload(&request(1)).await.unwrap();
    assert!(world.read("seen").starts_with(&world.generation(1).display().to_string()));
}
