//! The server's side of the control socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Json, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

use crate::daemon::{Handle, Refused};
use crate::model::StatusDocument;
use crate::sys::user;

use super::{ErrorBody, PlanEntry, Reloaded, WorkRequest};

/// The group whose members may ask for things, beside root and the daemon's own user.
const ADMIN_GROUP: &str = "renewd-admin";
/// The largest request body, in bytes.
const MAX_BODY: usize = 64 * 1024;

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
    /// Makes the Unix socket `path`, for root, the present user and the administrators' group.
    ///
    /// A socket that another process left is replaced: its caller holds the lock of the state
    /// directory, so nobody can be listening there.
    ///
    /// # Errors
    ///
    /// If the socket can't be made.
    pub fn bind(path: &Path) -> Result<Self, ServeError> {
        let failed = |step| move |source| ServeError { step, path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove the old socket")(source));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
        // Who may connect is decided by this mode and group first, and by the credentials of each
        // peer in any case.
        let group = user::group_id(ADMIN_GROUP).ok();
        if let Some(group) = group {
            // Without the right to change it, members of the group are let in by nobody but the
            // mode.
            drop(std::os::unix::fs::chown(path, None, Some(group)));
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
            .map_err(failed("set the mode of"))?;
        let admins = Admins { own: rustix::process::geteuid().as_raw(), group };
        Ok(Self { listener, admins, path: Removed(path.to_owned()) })
    }

    /// Answers for `handle` until `end` is done.
    ///
    /// # Errors
    ///
    /// If the system refuses to go on.
    pub async fn serve(
        self,
        handle: Handle,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let service = router(handle, self.admins).into_make_service_with_connect_info::<Peer>();
        let serving = axum::serve(self.listener, service).with_graceful_shutdown(end);
        let path = self.path;
        serving.await.map_err(|source| ServeError {
            step: "serve on",
            path: path.0.clone(),
            source,
        })
    }
}

/// Who may ask for things.
#[derive(Clone, Copy, Debug)]
struct Admins {
    own: u32,
    group: Option<u32>,
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
struct Peer {
    user: Option<u32>,
    group: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Self {
            user: credentials.as_ref().map(tokio::net::unix::UCred::uid),
            group: credentials.as_ref().map(tokio::net::unix::UCred::gid),
        }
    }
}

fn router(handle: Handle, admins: Admins) -> Router {
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
        .route("/v1/reload", post(reload))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "not_found", "there is nothing here") })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(guard))
        .with_state(handle)
}

async fn status(State(handle): State<Handle>) -> Json<StatusDocument> {
    Json(handle.status())
}

async fn plan(
    State(handle): State<Handle>,
    body: Result<Json<WorkRequest>, JsonRejection>,
) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return rejected(&rejection),
    };
    match handle.plan(request.names).await {
        Ok(plans) => {
            let entries: Vec<_> =
                plans.iter().map(|(name, plan)| PlanEntry::of(name, plan)).collect();
            Json(entries).into_response()
        }
        Err(refused) => refused_by_daemon(&refused),
    }
}

async fn work(
    State(handle): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<WorkRequest>, JsonRejection>,
) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return rejected(&rejection),
    };
    tracing::info!(user = peer.user, scope = ?request.scope, certificates = ?request.names, force = request.force, "an administrator asked for work");
    let asked = request.asked();
    match handle.work(request.names, asked).await {
        Ok(reports) => Json(reports).into_response(),
        Err(refused) => refused_by_daemon(&refused),
    }
}

async fn reload(State(handle): State<Handle>, ConnectInfo(peer): ConnectInfo<Peer>) -> Response {
    tracing::info!(user = peer.user, "an administrator asked for a reload");
    match handle.reload().await {
        Ok(certificates) => Json(Reloaded { certificates }).into_response(),
        Err(refused) => refused_by_daemon(&refused),
    }
}

fn rejected(rejection: &JsonRejection) -> Response {
    refusal(rejection.status(), "bad_request", &rejection.body_text())
}

fn refused_by_daemon(refused: &Refused) -> Response {
    let (status, code) = match refused {
        Refused::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_certificate"),
        Refused::Faulty(_) => (StatusCode::UNPROCESSABLE_ENTITY, "config_rejected"),
        Refused::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        Refused::Ending => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
    };
    refusal(status, code, &refused.to_string())
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
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
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(socket);
        assert!(!path.exists());
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
