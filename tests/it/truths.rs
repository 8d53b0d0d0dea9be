//! What containers, configuration management and other users' servers rely on: links that are
//! switched, files that come one by one, folders that are mounted, and who may read a key.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use renewd::sys::atomic;
use renewd::sys::clock::{Clock, SystemClock};
use renewd::sys::user;
use serde_json::Value;

use crate::site::{LIMIT, NAME, Site, SiteOptions};
use crate::support::{Finished, Running, Workspace, eventually, free_port, program, run, write};

/// A server's user in these tests: `nobody`, on every system.
const NOBODY: u32 = 65534;

/// A configuration with the certificate `name`, at a CA that is not there: nothing is issued.
fn config(name: &str) -> String {
    format!(
        "state_dir = \"{{folder}}/state\"\nrun_dir = \"{{folder}}/run\"\ndeployer = \"direct\"\n\
         include = [\"{{folder}}/conf.d/*.toml\"]\n\
         terms_of_service_agreed = true\ndefault_ca = \"lab\"\n\
         [ca.lab]\ndirectory = \"https://localhost:{}/dir\"\ntest = true\n{}",
        free_port(),
        certificate(name)
    )
}

fn certificate(name: &str) -> String {
    format!("[[certificate]]\nname = \"{name}\"\ndomains = [\"{name}.example\"]\ntargets = []\n")
}

/// Writes `text` at `path` of `workspace`, which it may name as `{folder}`.
#[track_caller]
fn lay(workspace: &Workspace, path: &str, text: &str) -> PathBuf {
    workspace.write(path, &text.replace("{folder}", &workspace.path().display().to_string()))
}

/// The names of the certificates that the daemon of `workspace` knows.
#[track_caller]
fn known(workspace: &Workspace) -> Vec<String> {
    let shown = workspace.renewd(&["status", "--json"]);
    let document: Value = serde_json::from_str(&shown.stdout).unwrap_or(Value::Null);
    let all = document["certificates"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|it| it["name"].as_str().map(str::to_owned)).collect()
}

/// Waits until the daemon knows just the certificate `name`.
#[track_caller]
fn await_only(workspace: &Workspace, name: &str) {
    let socket = workspace.path().join("run/control.sock");
    eventually(LIMIT, &format!("{name} is in force"), || {
        let known = known(workspace);
        if socket.exists() && known == [name] { Ok(()) } else { Err(known) }
    });
}

/// How often a configuration came into force.
fn loads(daemon: &Running) -> usize {
    daemon.log().matches("configuration in force").count()
}

#[test]
fn a_configuration_that_is_a_link_is_read_again_however_its_target_is_switched() {
    let workspace = Workspace::new();
    for (place, name) in
        [("..v1", "one"), ("..v2", "two"), ("store/a", "three"), ("store/b", "four")]
    {
        lay(&workspace, &format!("{place}/renewd.toml"), &config(name));
    }
    let folder = workspace.path();
    // A ConfigMap: the file's link never changes, that of its folder does.
    let data = folder.join("..data");
    atomic::link(&data, Path::new("..v1")).unwrap();
    atomic::link(&workspace.config_file(), Path::new("..data/renewd.toml")).unwrap();
    let daemon = workspace.spawn(&["run"]);
    await_only(&workspace, "one");

    atomic::link(&data, Path::new("..v2")).unwrap();
    fs::remove_dir_all(folder.join("..v1")).unwrap();
    await_only(&workspace, "two");

    // NixOS: the file is a link to a place in a store, and becomes one to another place.
    for (place, name) in [("store/a", "three"), ("store/b", "four")] {
        let target = folder.join(place).join("renewd.toml");
        atomic::link(&workspace.config_file(), &target).unwrap();
        await_only(&workspace, name);
    }
    assert_eq!(loads(&daemon), 4, "{}", daemon.log());
}

#[test]
fn ten_files_that_come_one_by_one_are_one_reload() {
    const FILES: usize = 10;
    // A pause of half a second ends a series; on a machine that stood still for that long, two
    // reloads are right, and another round tells.
    const SHORT: Duration = Duration::from_millis(400);

    let workspace = Workspace::new();
    let main = lay(&workspace, "renewd.toml", &config("first"));
    fs::create_dir(workspace.path().join("conf.d")).unwrap();
    let daemon = workspace.spawn(&["run", "-c", &main.display().to_string()]);
    await_only(&workspace, "first");
    eventually(LIMIT, "its start is told", || match loads(&daemon) {
        1 => Ok(()),
        _ => Err(daemon.log()),
    });

    let clock = SystemClock::new();
    for round in 1..=5 {
        let before = loads(&daemon);
        let mut longest = Duration::ZERO;
        let mut last = clock.monotonic();
        for number in 0..FILES {
            // As Ansible does it: a hidden file beside, then a rename; and an editor is open.
            let name = format!("r{round}n{number}");
            let hidden =
                workspace.write(&format!("conf.d/.ansible_tmp{name}"), &certificate(&name));
            let file = workspace.path().join(format!("conf.d/{name}.toml"));
            atomic::rename(&hidden, &file).unwrap();
            workspace.write("conf.d/.first.toml.swp", &name);
            let mut pause = 0;
            eventually(LIMIT, "a moment has passed", || {
                pause += 1;
                if pause > 2 { Ok(()) } else { Err(pause) }
            });
            let now = clock.monotonic();
            longest = longest.max(now.saturating_sub(last));
            last = now;
        }
        eventually(LIMIT, "all files are in force", || {
            let count = known(&workspace).len();
            if count == 1 + round * FILES { Ok(()) } else { Err((count, daemon.log())) }
        });
        if longest < SHORT {
            assert_eq!(loads(&daemon), before + 1, "{}", daemon.log());
            return;
        }
    }
    panic!("the machine never wrote ten files without a long pause");
}

#[test]
fn who_holds_a_certificates_folder_sees_each_new_generation_in_it() {
    let site = Site::with(&SiteOptions::held_only());
    assert_eq!(site.renewd(&["renew"]).code, 0);
    // As a bind mount does: the folder itself, whatever is renamed in it.
    let folder = File::open(site.workspace.certificate(NAME)).unwrap();
    let read = || {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let mode = rustix::fs::Mode::empty();
        let opened = rustix::fs::openat(&folder, "current/fullchain.pem", flags, mode).unwrap();
        let mut text = String::new();
        File::from(opened).read_to_string(&mut text).unwrap();
        text
    };
    let before = read();
    let renewed = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}");
    let after = read();
    assert_ne!(after, before);
    let path = site.workspace.certificate(NAME).join("current/fullchain.pem");
    assert_eq!(after, fs::read_to_string(path).unwrap());
}

/// A group that we may give files to and that is not our first: any for root, else our own second
/// one, else the first for want of another.
fn group() -> (String, u32) {
    if user::own_user_id() == 0 {
        return ("daemon".to_owned(), user::group_id("daemon").unwrap());
    }
    let listed = run(&mut program(&["id", "-G"]), LIMIT).stdout;
    let mut ids = listed.split_whitespace().filter_map(|it| it.parse().ok());
    let id = ids.find(|it| *it != user::own_group_id()).unwrap_or_else(user::own_group_id);
    (user::group_name(id), id)
}

/// Mode, owner and group.
fn rights(path: &Path) -> (u32, u32, u32) {
    let metadata = path.symlink_metadata().unwrap();
    (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}

/// Reads `path` as the user and group with these numbers, and in no other group.
#[track_caller]
fn read_as(user: u32, group: u32, path: &Path) -> Finished {
    let [user, group] = [format!("--reuid={user}"), format!("--regid={group}")];
    let path = path.display().to_string();
    run(&mut program(&["setpriv", &user, &group, "--clear-groups", "cat", &path]), LIMIT)
}

#[test]
fn the_servers_user_reads_the_key_by_its_group_and_others_do_not() {
    let is_root = user::own_user_id() == 0;
    let (group, group_id) = group();
    let installed = Workspace::new();
    let folder = installed.path();
    fs::set_permissions(folder, Permissions::from_mode(0o711)).unwrap();
    let key = folder.join("site.key");
    // Only root can give files away.
    let owner = if is_root { format!("owner = \"{NOBODY}\", ") } else { String::new() };
    let tables = format!(
        "[target.files]\ntype = \"other\"\ninstall = [{{ file = \"privkey\", path = {key:?}, \
         {owner}group = {group:?}, mode = \"0640\" }}]\n"
    );
    let certificate = format!("read_group = {group:?}\n");
    let site = Site::with(&SiteOptions { tables, certificate, ..SiteOptions::held_only() });
    let config = fs::read_to_string(site.workspace.config_file()).unwrap();
    write(&site.workspace.config_file(), config.replace("targets = []", "targets = [\"files\"]"));
    fs::set_permissions(site.workspace.path(), Permissions::from_mode(0o711)).unwrap();
    let renewed = site.renewd(&["renew"]);
    assert_eq!(renewed.code, 0, "{renewed}");

    let own = user::own_user_id();
    let certificate = site.workspace.certificate(NAME);
    for folder in [site.workspace.path().join("state"), certificate.clone()] {
        assert_eq!(rights(&folder).0, 0o711, "{}", folder.display());
    }
    let current = fs::canonicalize(certificate.join("current")).unwrap();
    assert_eq!(rights(&current), (0o750, own, group_id));
    assert_eq!(rights(&current.join("fullchain.pem")), (0o644, own, group_id));
    for secret in ["privkey.pem", "combined.pem"] {
        assert_eq!(rights(&current.join(secret)), (0o640, own, group_id), "{secret}");
    }
    let owner = if is_root { NOBODY } else { own };
    assert_eq!(rights(&key), (0o640, owner, group_id));
    let checked = site.renewd(&["check"]);
    assert_eq!(checked.code, 0, "{checked}");
    if !is_root {
        return;
    }

    let stored = certificate.join("current/privkey.pem");
    let content = fs::read_to_string(&stored).unwrap();
    let chain = certificate.join("current/fullchain.pem");
    for (user, group, path, is_allowed) in [
        (NOBODY, group_id, &stored, true),
        (NOBODY, group_id, &chain, true),
        (NOBODY, NOBODY, &stored, false),
        (NOBODY, NOBODY, &chain, false),
        (NOBODY, NOBODY, &key, true),
        (NOBODY - 1, group_id, &key, true),
        (NOBODY - 1, NOBODY, &key, false),
    ] {
        let read = read_as(user, group, path);
        assert_eq!(read.code == 0, is_allowed, "{user}:{group} {}: {read}", path.display());
        assert!(!is_allowed || path == &chain || read.stdout == content, "{read}");
    }
}

/// Runs `check` where the machine's users are root and mosquitto; `None` where the system lets
/// nobody have a view of his own.
#[track_caller]
fn check_beside_mosquitto(workspace: &Workspace) -> Option<Finished> {
    let passwd = workspace.write(
        "passwd",
        "root:x:0:0::/root:/bin/sh\nmosquitto:x:64990:64990::/:/bin/false\n\
         nobody:x:65534:65534::/:/bin/false\n",
    );
    let group = workspace.write("group", "root:x:0:\nmosquitto:x:64990:\nkeys:x:64991:\n");
    let view: &[&str] = if user::own_user_id() == 0 { &["-m"] } else { &["-r", "-m"] };
    let mut probe = program(&["unshare"]);
    if run(probe.args(view).arg("true"), LIMIT).code != 0 {
        return None;
    }
    let script = "mount --bind \"$1\" /etc/passwd && mount --bind \"$2\" /etc/group && \
                  exec \"$3\" check -c \"$4\"";
    let mut command = program(&["unshare"]);
    command.args(view).args(["sh", "-c", script, "sh"]).arg(passwd).arg(group);
    command.arg(env!("CARGO_BIN_EXE_renewd")).arg(workspace.config_file());
    Some(run(&mut command, LIMIT))
}

#[test]
fn check_says_that_a_broker_can_not_read_its_key_and_what_to_do() {
    let workspace = Workspace::new();
    let folder = workspace.path().display().to_string();
    let text = |group: &str| {
        format!(
            "terms_of_service_agreed = true\n[solver.own]\ntype = \"http-01\"\n\
             listen = [\"127.0.0.1:{}\"]\n[target.mosquitto]\n\
             reload = {{ command = [\"true\"] }}\nverify = []\n\
             [[certificate]]\nname = \"mqtt\"\ndomains = [\"mqtt.example\"]\nsolver = \"own\"\n\
             targets = [\"mosquitto\"]\n{group}",
            free_port()
        )
    };
    let key = "state/certs/mqtt/current/privkey.pem";
    workspace.write_config(&text(""));
    fs::set_permissions(workspace.path(), Permissions::from_mode(0o700)).unwrap();
    let Some(closed) = check_beside_mosquitto(&workspace) else {
        // Then the rules' own tests have to do, and what is here must not be told wrong.
        let is_here = user::user_id("mosquitto").is_ok();
        let checked = workspace.renewd(&["check"]);
        assert_eq!(checked.stdout.contains("mosquitto can't read"), is_here, "{checked}");
        return;
    };
    assert_eq!(closed.code, 1, "{closed}");
    let told = closed.stdout.replace(&folder, "/W");
    assert!(
        told.contains(&format!(
            "certificate mqtt, target mosquitto: mosquitto can't read /W/{key}: it can't enter /W "
        )),
        "{closed}"
    );
    assert!(told.contains("hint: run `chmod o+x /W`"), "{closed}");

    fs::set_permissions(workspace.path(), Permissions::from_mode(0o711)).unwrap();
    let closed = check_beside_mosquitto(&workspace).unwrap();
    let told = closed.stdout.replace(&folder, "/W");
    assert!(
        told.contains("it can't enter /W/state/certs/mqtt/current (root:root 0750)"),
        "{closed}"
    );
    assert!(told.contains("hint: write read_group = \"mosquitto\" at the certificate"), "{closed}");

    workspace.write_config(&text("read_group = \"keys\"\n"));
    let closed = check_beside_mosquitto(&workspace).unwrap();
    assert!(
        closed.stdout.contains(
            "hint: run `usermod -aG keys mosquitto`, then `systemctl restart mosquitto.service`"
        ),
        "{closed}"
    );

    workspace.write_config(&text("read_group = \"mosquitto\"\n"));
    let open = check_beside_mosquitto(&workspace).unwrap();
    assert_eq!(open.code, 0, "{open}");
}

#[test]
fn check_prints_drop_ins_that_systemd_takes() {
    let workspace = Workspace::new();
    let smallest = "terms_of_service_agreed = true\n[[certificate]]\ndomains = [\"a.example\"]\n\
                    targets = []\n";
    write(&workspace.config_file(), smallest);
    let nothing = workspace.renewd(&["check", "--systemd"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""), "{nothing}");
    assert!(nothing.stderr.contains("need nothing"), "{nothing}");

    let main = "terms_of_service_agreed = true\nstate_dir = \"/srv/renewd 100%\"\n\
                [solver.docroot]\ntype = \"http-01\"\nwebroot = \"/home/me/my \\\"site\\\"\"\n\
                for = [\"a.example\"]\n\
                [solver.own]\ntype = \"http-01\"\nlisten = [\"[::]:80\"]\nfor = [\"b.example\"]\n\
                [target.files]\ntype = \"other\"\n\
                install = [{ file = \"fullchain\", path = \"/etc/my tls/{name}.pem\" }]\n\
                [alerts]\nheartbeat_url_credential = \"heartbeat\"\n\
                [[certificate]]\ndomains = [\"a.example\", \"b.example\"]\ntargets = [\"files\"]\n\
                read_group = \"ssl-cert\"\n";
    write(&workspace.config_file(), main);
    let shown = workspace.renewd(&["check", "--systemd", "--json"]);
    assert_eq!(shown.code, 0, "{shown}");
    let document: Value = serde_json::from_str(&shown.stdout).unwrap();
    let files = document["files"].as_array().unwrap();
    let for_units: Vec<_> = files.iter().map(|it| it["unit"].as_str().unwrap()).collect();
    let wanted = [
        "renewd.service",
        "renewd-renew.service",
        "renewd-alert@.service",
        "renewd-deployer.service",
    ];
    assert_eq!(for_units, wanted, "{shown}");

    let units = workspace.path().join("units");
    for file in files {
        let (unit, path) = (file["unit"].as_str().unwrap(), file["path"].as_str().unwrap());
        let content = file["content"].as_str().unwrap();
        assert!(content.starts_with(&format!("# {path}\n")), "{content}");
        let sandbox = "[Unit]\nDescription=a unit under test\n[Service]\nExecStart=/bin/true\n\
                       ProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\n";
        write(&units.join(unit), sandbox);
        let file = Path::new(path).strip_prefix("/etc/systemd/system").unwrap();
        write(&units.join(file), content);
    }
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        // The rules of quoting have tests of their own.
        return;
    }
    let verify = |unit: &str| {
        let mut command = program(&["systemd-analyze", "verify"]);
        // The colon at its end adds systemd's own folders, for the targets that units name.
        command.env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()));
        let done = run(command.arg(units.join(unit)), LIMIT);
        format!("{}{}", done.stdout, done.stderr)
    };
    for file in files {
        let told = verify(file["unit"].as_str().unwrap());
        assert!(!told.contains("configuration.conf"), "{told}");
    }
    // It would have told.
    write(
        &units.join("renewd.service.d/configuration.conf"),
        "[Service]\nReadWritePaths=relative\n",
    );
    let told = verify("renewd.service");
    assert!(told.contains("configuration.conf"), "{told}");
}
