//! Somebody who reads what renewd keeps, all the time and whatever is killed meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use renewd::model::{Chain, PrivateKey};

/// Resolves `current` again and again, and reads chain and key where it leads.
#[derive(Debug)]
pub(crate) struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u32, String>>,
}

impl Reader {
    /// Begins to read below the folder `certificate`.
    #[must_use]
    pub(crate) fn start(certificate: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut reads = 0;
            while !is_over.load(Ordering::Relaxed) {
                match fs::read_link(certificate.join("current")) {
                    Ok(target) => {
                        check_pair(&certificate.join(&target))
                            .map_err(|fault| format!("{}: {fault}", target.display()))?;
                        reads += 1;
                    }
                    // Before the first placeholder there is none; later there always is.
                    Err(error) if reads > 0 => return Err(format!("current: {error}")),
                    Err(_) => {}
                }
                pause(Duration::from_millis(10));
            }
            Ok(reads)
        });
        Self { stop, thread }
    }

    /// How often it read and found a pair; or the first time that it found anything else.
    pub(crate) fn stop(self) -> Result<u32, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Does nothing for about `delay`: what happens meanwhile is the point.
pub(crate) fn pause(delay: Duration) {
    thread::park_timeout(delay);
}

/// Whether the chain and the key in `folder` belong together.
fn check_pair(folder: &Path) -> Result<(), String> {
    check_files(&folder.join("fullchain.pem"), &folder.join("privkey.pem"))
}

/// Whether the chain in one file and the key in the other belong together.
pub(crate) fn check_files(chain: &Path, key: &Path) -> Result<(), String> {
    let read = |path: &Path| fs::read(path).map_err(|it| format!("{}: {it}", path.display()));
    let (chain, key) = (read(chain)?, read(key)?);
    let chain = Chain::parse_pem(&chain).map_err(|it| format!("fullchain.pem: {it}"))?;
    let key = PrivateKey::from_pem(&key).and_then(|it| it.public_key());
    let key = key.map_err(|it| format!("privkey.pem: {it}"))?;
    if key == chain.leaf.public_key { Ok(()) } else { Err("no pair".to_owned()) }
}
