//! The server's side of the control socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Json, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::daemon::{Handle, Refused};
use crate::model::StatusDocument;
use crate::sys::user;

use super::connections::{self, Limits};
use super::{AccountRequest, AlertTried, ErrorBody, PlanEntry, RevokeRequest, WorkRequest};

/// The group whose members may ask for things, beside root and the daemon's own user.
const ADMIN_GROUP: &str = "renewd-admin";
/// How many requests for work are waited for at once: fewer than connections, so that a question
/// always finds a place.
const WORK_SLOTS: usize = 32;

/// The control socket can't be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct ServeError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The control socket, bound and not yet served. It is gone when this is dropped, or served to its
/// end.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    admins: Admins,
    path: Removed,
}

/// A path that is removed with this.
#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

impl ControlSocket {
    /// Makes the Unix socket `path`, for root, the present user and, where there is one that we may
    /// give it to, the administrators' group.
    ///
    /// A socket that another process left is replaced: its caller holds the lock of the state
    /// directory, so nobody can be listening there.
    ///
    /// # Errors
    ///
    /// If the socket can't be made.
    pub fn bind(path: &Path) -> Result<Self, ServeError> {
        Self::bind_for(path, user::group_id(ADMIN_GROUP).ok())
    }

    fn bind_for(path: &Path, group: Option<u32>) -> Result<Self, ServeError> {
        let failed = |step| move |source| ServeError { step, path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove the old socket")(source));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
        // Who may connect is decided by this mode and group first, and by the credentials of each
        // peer in any case. Without the right to give it to the group, it is for its owner alone.
        let give = |group| std::os::unix::fs::chown(path, None, Some(group));
        let mode = if group.is_some_and(|it| give(it).is_ok()) { 0o660 } else { 0o600 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(failed("set the mode of"))?;
        let admins = Admins { own: rustix::process::geteuid().as_raw(), group };
        Ok(Self { listener, admins, path: Removed(path.to_owned()) })
    }

    /// Answers for `handle` until `end` is done, and then until what was asked is answered.
    pub async fn serve(self, handle: Handle, end: impl Future<Output = ()> + Send + 'static) {
        // The socket's file goes away with this, at the end.
        let _path = self.path;
        connections::serve(self.listener, router(handle, self.admins), Limits::default(), end)
            .await;
    }
}

/// Who may ask for things.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admins {
    pub(super) own: u32,
    pub(super) group: Option<u32>,
}

impl Admins {
    fn include(self, peer: &Peer) -> bool {
        let Some(user) = peer.user else { return false };
        let in_group = || {
            self.group
                .is_some_and(|group| peer.group == Some(group) || user::is_member(user, group))
        };
        user == 0 || user == self.own || in_group()
    }
}

/// Who is at the other end, by the kernel's word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    user: Option<u32>,
    group: Option<u32>,
}

impl Peer {
    /// Whoever connected as `stream`.
    pub(super) fn of(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        Self {
            user: credentials.as_ref().map(tokio::net::unix::UCred::uid),
            group: credentials.as_ref().map(tokio::net::unix::UCred::gid),
        }
    }
}

/// What the calls are made on.
#[derive(Clone, Debug)]
struct Desk {
    handle: Handle,
    work_slots: Arc<Semaphore>,
}

pub(super) fn router(handle: Handle, admins: Admins) -> Router {
    let guard = move |ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next| async move {
        if admins.include(&peer) {
            tracing::debug!(user = peer.user, method = %request.method(), path = request.uri().path(), "control socket asked");
            next.run(request).await
        } else {
            tracing::warn!(
                user = peer.user,
                "control socket refused a user who is no administrator"
            );
            refusal(StatusCode::FORBIDDEN, "forbidden", "only root and renewd-admin may ask")
        }
    };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/plan", post(plan))
        .route("/v1/renew", post(work))
        .route("/v1/account", post(account))
        .route("/v1/revoke", post(revoke))
        .route("/v1/reload", post(reload))
        .route("/v1/alert-test", post(alert_test))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "not_found", "there is nothing here") })
        // Bodies are read, within their limit, before they come here.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(guard))
        .with_state(Desk { handle, work_slots: Arc::new(Semaphore::new(WORK_SLOTS)) })
}

async fn status(State(desk): State<Desk>) -> Json<StatusDocument> {
    Json(desk.handle.status())
}

async fn plan(
    State(desk): State<Desk>,
    body: Result<Json<WorkRequest>, JsonRejection>,
) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return rejected(&rejection),
    };
    match desk.handle.plan(request.names).await {
        Ok(plans) => {
            let entries: Vec<_> = plans.iter().map(PlanEntry::of).collect();
            Json(entries).into_response()
        }
        Err(refused) => refused_by_daemon(&refused),
    }
}

async fn work(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<WorkRequest>, JsonRejection>,
) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return rejected(&rejection),
    };
    tracing::info!(user = peer.user, scope = ?request.scope, certificates = ?request.names, force = request.force, allow_untrusted = request.allow_untrusted, "an administrator asked for work");
    let asked = request.asked();
    let Ok(_slot) = desk.work_slots.try_acquire() else {
        return refused_by_daemon(&Refused::Busy);
    };
    match desk.handle.work(request.names, asked).await {
        Ok(reports) => Json(reports).into_response(),
        Err(refused) => refused_by_daemon(&refused),
    }
}

async fn account(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<AccountRequest>, JsonRejection>,
) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return rejected(&rejection),
    };
    tracing::info!(user = peer.user, ca = %request.ca, action = ?request.action, "an administrator asked for an account");
    match desk.handle.account(request.ca, request.action).await {
        Ok(outcome) => Json(outcome).into_response(),
        Err(refused) => refused_by_daemon(&refused),
    }
}

async fn revoke(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<RevokeRequest>, JsonRejection>,
) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return rejected(&rejection),
    };
    tracing::warn!(user = peer.user, certificate = %request.name, request = ?request.request, "an administrator asked for a revocation");
    match desk.handle.revoke(request.name, request.request).await {
        Ok(outcome) => Json(outcome).into_response(),
        Err(refused) => refused_by_daemon(&refused),
    }
}

async fn reload(State(desk): State<Desk>, ConnectInfo(peer): ConnectInfo<Peer>) -> Response {
    tracing::info!(user = peer.user, "an administrator asked for a reload");
    match desk.handle.reload().await {
        Ok(reloaded) => Json(reloaded).into_response(),
        Err(refused) => refused_by_daemon(&refused),
    }
}

async fn alert_test(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Json<Vec<AlertTried>> {
    tracing::info!(user = peer.user, "an administrator asked for test alerts");
    let tried = desk.handle.test_alerts().await;
    Json(tried.iter().map(|(receiver, result)| AlertTried::of(receiver, result)).collect())
}

fn rejected(rejection: &JsonRejection) -> Response {
    refusal(rejection.status(), "bad_request", &rejection.body_text())
}

fn refused_by_daemon(refused: &Refused) -> Response {
    let (status, code) = match refused {
        Refused::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_certificate"),
        Refused::UnknownCa(_) => (StatusCode::NOT_FOUND, "unknown_ca"),
        Refused::Faulty(_) => (StatusCode::UNPROCESSABLE_ENTITY, "config_rejected"),
        Refused::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        Refused::Ending => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
    };
    refusal(status, code, &refused.to_string())
}

/// Refuses with `status`; `code` is a stable word, `message` for people.
pub(super) fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let body = ErrorBody { code: code.to_owned(), message: message.to_owned() };
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::atomic::{self, Access};

    #[tokio::test]
    async fn a_socket_that_was_left_is_replaced_and_ours_goes_away_with_us() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        // As a process that was killed leaves it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = ControlSocket::bind(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    /// H01: no credential, a wrong or an old one.
    #[tokio::test]
    async fn only_a_group_that_it_could_be_given_to_is_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let given = ControlSocket::bind_for(&path, Some(user::own_group_id())).unwrap();
        assert_eq!(mode(), 0o660);
        drop(given);
        let nobodys = ControlSocket::bind_for(&path, None).unwrap();
        assert_eq!(mode(), 0o600);
        drop(nobodys);
        // What even root can't give it to: the number that means "unchanged" is no group.
        let refused = ControlSocket::bind_for(&path, Some(u32::MAX - 1)).unwrap();
        assert_eq!(mode() == 0o660, user::own_user_id() == 0);
        drop(refused);
    }

    /// H01: no credential, a wrong or an old one.
    #[test]
    fn root_our_own_user_and_the_groups_members_are_let_in_and_nobody_else() {
        const OWN: u32 = 50_001;
        const GROUP: u32 = 50_002;
        const OTHER: u32 = 50_003;
        let peer = |user, group| Peer { user, group };
        let admins = |group| Admins { own: OWN, group };
        let everybody = admins(Some(GROUP));
        for user in [0, OWN] {
            assert!(everybody.include(&peer(Some(user), Some(OTHER))), "{user}");
            assert!(admins(None).include(&peer(Some(user), Some(OTHER))), "{user}");
        }
        assert!(everybody.include(&peer(Some(OTHER), Some(GROUP))));
        assert!(!everybody.include(&peer(Some(OTHER), Some(OTHER))));
        assert!(!admins(None).include(&peer(Some(OTHER), Some(GROUP))));
        // Whoever can't be named is nobody, whatever his group.
        assert!(!everybody.include(&peer(None, Some(GROUP))));
        // Membership by the system's lists, in whatever group the peer is just now.
        let [user, group] = [user::user_id("daemon"), user::group_id("daemon")].map(Result::unwrap);
        assert!(admins(Some(group)).include(&peer(Some(user), Some(OTHER))));
        assert!(!everybody.include(&peer(Some(user), Some(OTHER))));
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_made_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        atomic::directory(&path, Access::mode(0o700)).unwrap();
        assert!(ControlSocket::bind(&path).is_err());
        let missing = ControlSocket::bind(&folder.path().join("run/control.sock"));
        assert!(missing.is_err());
        let long = folder.path().join("x".repeat(200));
        let error = ControlSocket::bind(&long).unwrap_err();
        assert!(error.to_string().starts_with("cannot listen on"), "{error}");
    }
}
