//! Tests of the deployer's side of its socket, with a deployer that says yes to nearly all.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use tokio::sync::{Notify, oneshot};

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
