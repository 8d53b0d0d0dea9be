//! What fuzzing feeds to this module: what programs may print. And the runtime in which the targets
//! of other modules run what waits.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::process::{Ended, MAX_OUTPUT, drain, ended_text, text_of};

/// Far longer than anything takes that waits for nobody, also on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

#[expect(clippy::expect_used, reason = "without a runtime nothing can be tried")]
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_all().build().expect("the system gives a runtime")
});

/// What `future` comes to. One that does not end is a finding.
#[expect(clippy::expect_used, reason = "a panic is a finding")]
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(async { tokio::time::timeout(LIMIT, future).await.expect("it ends") })
}

/// Takes `bytes` for what a program printed: up to the first 0xff on its standard output, and the
/// rest on its standard error.
pub fn output(bytes: &[u8]) {
    let mut streams = bytes.splitn(2, |it| *it == 0xff);
    let mut kept = (Vec::new(), Vec::new());
    block_on(async {
        drain(streams.next(), &mut kept.0).await;
        drain(streams.next(), &mut kept.1).await;
    });
    assert!(kept.0.len() <= MAX_OUTPUT && kept.1.len() <= MAX_OUTPUT);
    let text = text_of(&kept.0, &kept.1);
    assert!(text.len() <= MAX_OUTPUT, "{} bytes", text.len());
    let said = |it: &[u8]| it.iter().any(|byte| byte.is_ascii_graphic());
    assert_eq!(text.is_empty(), text.trim().is_empty());
    assert!(!text.is_empty() || !said(&kept.0) && !said(&kept.1), "what it said is lost");
    let told = ended_text(&Ended::Code(1), &text);
    assert!(!told.contains(char::is_control), "{told:?}");
}
