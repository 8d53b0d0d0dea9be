//! Files that a test lays out before anything runs.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::{fs, io::Write};

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

/// Writes `content` to `path` with mode 0644, with the folders above it.
#[track_caller]
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    write_secret(path, content, 0o644);
}

/// Writes `content` to `path` with `mode`, whatever the umask is, with the folders above it.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "fixtures need not survive a crash")]
pub fn write_secret(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
    file.write_all(content.as_ref()).unwrap();
}

/// Changes the JSON document at `path`, which keeps its mode.
#[track_caller]
pub fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut document = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut document);
    let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
    write_secret(path, document.to_string(), mode);
}

/// Makes the file at `path` seem `length` bytes long, which takes no room.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "fixtures need not survive a crash")]
pub fn grow(path: &Path, length: u64) {
    let file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

/// Writes a fresh self-signed certificate for `name` and its key, for a server to start with.
#[track_caller]
pub fn self_signed(name: &str, fullchain: &Path, privkey: &Path) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    write(fullchain, certificate.pem());
    write_secret(privkey, key.serialize_pem(), 0o600);
}
