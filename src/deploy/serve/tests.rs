//! Tests of the deployer's side of its socket, with a deployer that says yes to nearly all.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use tokio::sync::{Notify, oneshot};
use tracing::Dispatch;

use super::*;
use crate::deploy::{DeployRequest, Installed};
use crate::model::{CertificateName, TargetName};
use crate::sys::clock::SystemClock;

/// Counts what it is asked for; a reload waits until it is let go.
#[derive(Default)]
struct Yes {
    asked: AtomicUsize,
    go: Notify,
}

#[async_trait]
impl Deployer for Yes {
    async fn repair(&self) -> Result<(), DeployError> {
        Ok(())
    }

    async fn check(&self, _: &CertificateName, target: &TargetName) -> Result<(), DeployError> {
        let unknown = || DeployError::UnknownTarget { target: target.clone() };
        if target.as_str() == "down" { Err(unknown()) } else { Ok(()) }
    }

    async fn install(&self, _request: &DeployRequest) -> Result<Installed, DeployError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(Installed::Changed)
    }

    async fn test(&self, request: &DeployRequest) -> Result<(), DeployError> {
        Err(DeployError::UnknownTarget { target: request.target.clone() })
    }

    async fn reload(&self, _request: &DeployRequest) -> Result<(), DeployError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.go.notified().await;
        Ok(())
    }

    async fn put_back(&self, _request: &DeployRequest) -> Result<(), DeployError> {
        Ok(())
    }
}

/// Hands out one deployer, whatever the configuration.
struct Same(Arc<Yes>);

#[async_trait]
impl Authority for Same {
    async fn deployer(&self) -> Result<Arc<dyn Deployer>, Complaint> {
        Ok(Arc::clone(&self.0) as Arc<dyn Deployer>)
    }
}

/// A deployer that serves until this is dropped.
struct Served {
    folder: tempfile::TempDir,
    deployer: Arc<Yes>,
    end: Option<oneshot::Sender<()>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Served {
    fn start(user: u32, idle: Option<Duration>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let deployer = Arc::new(Yes::default());
        let authority = Arc::new(Same(Arc::clone(&deployer)));
        let clock = Arc::new(SystemClock::new());
        let server = DeployServer { listener, user, authority, idle, clock };
        let (end, ended) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async { drop(ended.await) }));
        Self { folder, deployer, end: Some(end), serving }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("s")).await.unwrap()
    }

    /// What is answered to `line`, as text.
    async fn ask(&self, line: &str) -> String {
        let mut stream = self.connect().await;
        // Who is refused at once may not even be able to say it.
        drop(stream.write_all(line.as_bytes()).await);
        let mut answer = Vec::new();
        // A line that was not read to its end ends the connection with an error, after the answer.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8(answer).unwrap()
    }
}

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn line(verb: &str) -> String {
    format!(
        "{{\"version\":1,\"verb\":\"{verb}\",\"certificate\":\"site\",\"generation\":1,\
         \"target\":\"web\"}}\n"
    )
}

#[tokio::test]
async fn a_request_is_carried_out_and_an_error_is_told_with_its_code_and_hint() {
    let served = Served::start(own(), None);
    let answer = served.ask(&line("install")).await;
    assert_eq!(answer, "{\"version\":1,\"result\":{\"installed\":\"changed\"}}\n");
    let answer = served.ask(&line("test")).await;
    assert!(answer.contains("deploy.unknown_target") && answer.contains("hint"), "{answer}");
    assert!(served.ask(&line("put_back")).await.contains("done"));
    assert!(served.ask(&line("check")).await.contains("done"));
    let answer = served.ask(&line("check").replace("web", "down")).await;
    assert!(answer.contains("deploy.unknown_target"), "{answer}");
}

#[tokio::test]
async fn another_user_is_refused_before_anything_is_read() {
    let served = Served::start(own() + 1, None);
    let answer = served.ask(&line("install")).await;
    assert!(answer.contains("only the user"), "{answer}");
    assert_eq!(served.deployer.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_carried_out_in_no_part() {
    let served = Served::start(own(), None);
    let install = line("install");
    for wrong in [
        line("exec"),
        install.replace("site", "../site"),
        install.replace("\"version\":1", "\"version\":2"),
        format!("{install}{install}"),
        "x".repeat(5000),
    ] {
        let answer = served.ask(&wrong).await;
        assert!(answer.contains("deploy.refused"), "{wrong}: {answer}");
    }
    assert_eq!(served.deployer.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn connections_that_say_nothing_hold_up_nobody() {
    let served = Served::start(own(), None);
    let mut silent = Vec::new();
    for _ in 0..3 * MAX_CONNECTIONS {
        silent.push(served.connect().await);
    }
    let asked = timeout(LINE_LIMIT, served.ask(&line("install"))).await;
    assert!(asked.unwrap().contains("changed"));
}

impl Served {
    /// Asks for a reload, which waits until it is let go.
    async fn begin(&self) -> UnixStream {
        let before = self.deployer.asked.load(Ordering::SeqCst);
        let mut stream = self.connect().await;
        stream.write_all(line("reload").as_bytes()).await.unwrap();
        while self.deployer.asked.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
        stream
    }
}

/// Kept beside the one that a test sets for its thread: where there is but one, tracing asks the
/// subscriber of whichever thread comes by a line first whether it is wanted, for all of them.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

#[tokio::test]
async fn whoever_goes_away_gives_his_place_to_others_and_what_takes_long_is_told() {
    LazyLock::force(&SECOND);
    let log = Written::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let served = Served::start(own(), None);
    let mut streams = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        streams.push(served.begin().await);
    }
    let began = served.deployer.asked.load(Ordering::SeqCst);
    assert!(!log.text().contains("a call takes long"), "{}", log.text());
    // From here on time passes when nothing else happens.
    tokio::time::pause();
    tokio::time::sleep(SLOW + Duration::from_secs(1)).await;
    assert_eq!(log.text().matches("a call takes long").count(), MAX_CONNECTIONS);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(log.text().matches("a call takes long").count(), MAX_CONNECTIONS);
    assert!(!log.text().contains("given up"), "they wait for their answers");

    drop(streams);
    tokio::time::sleep(GONE_LIMIT - Duration::from_secs(1)).await;
    assert!(!log.text().contains("given up"), "most of it ends well by itself");
    let answer = timeout(GONE_LIMIT, served.ask(&line("install"))).await;
    assert!(answer.expect("there is a place").contains("changed"));
    assert_eq!(served.deployer.asked.load(Ordering::SeqCst), began + 1);
}

#[tokio::test]
async fn whoever_has_said_all_waits_for_his_answer() {
    let served = Served::start(own(), None);
    let mut stream = served.begin().await;
    stream.shutdown().await.unwrap();
    tokio::time::pause();
    tokio::time::sleep(GONE_LIMIT * 3).await;
    served.deployer.go.notify_one();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("done"), "{answer}");
}

/// What is logged.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn told_to_end_it_finishes_what_it_does_first() {
    let mut served = Served::start(own(), None);
    let mut stream = served.connect().await;
    stream.write_all(line("reload").as_bytes()).await.unwrap();
    while served.deployer.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(served.end.take());
    served.deployer.go.notify_one();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("done"), "{answer}");
    served.serving.await.unwrap();
}

#[tokio::test]
async fn it_ends_by_itself_when_nobody_asks() {
    let served = Served::start(own(), Some(Duration::ZERO));
    timeout(TICK * 4, served.serving).await.unwrap().unwrap();
}

#[test]
fn calls_are_logged_up_to_a_bound_and_the_rest_is_counted() {
    let mut budget = Budget { left: BURST, refilled_at: Duration::ZERO, unlogged: 0 };
    let now = Duration::from_millis(100);
    let logged = (0..1000).filter(|_| budget.take(now).0).count();
    assert_eq!(logged, BURST as usize);
    assert_eq!(budget.take(now + REFILL), (true, 600));
    assert_eq!(budget.take(now + REFILL), (false, 0));
    assert_eq!(budget.take(now + REFILL * 2), (true, 1));
}
