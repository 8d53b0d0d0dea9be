//! The commands' side of the control socket.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::assemble::WorkReport;
use crate::daemon::{AccountOutcome, RevokeOutcome};
use crate::model::StatusDocument;
use crate::sys::http::{HttpClient, HttpError, HttpSettings};

use super::{
    AccountRequest, AlertTried, ErrorBody, PlanEntry, Reloaded, RevokeRequest, WorkRequest,
};

/// The largest answer, in bytes: the status of ten thousand certificates fits.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A running daemon, to be asked.
#[derive(Clone, Debug)]
pub struct Client {
    http: HttpClient,
}

/// The daemon did not answer, or not as wished.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No daemon listens, or it broke off.
    #[error("cannot reach the daemon")]
    Unreachable(#[source] HttpError),
    /// It did not answer in time.
    #[error("the daemon did not answer within the time given to wait")]
    TimedOut,
    /// It refused.
    #[error("{message}")]
    Refused {
        /// A stable word.
        code: String,
        /// For people.
        message: String,
    },
    /// Its answer is not understood: another version perhaps.
    #[error("the daemon's answer can't be understood; is it of another version?")]
    Strange(#[source] serde_json::Error),
}

impl Client {
    /// Asks over the socket `path`; an answer may take `wait`. Whether anybody listens is seen when
    /// something is asked.
    ///
    /// # Errors
    ///
    /// If the client can't be set up.
    pub fn new(path: &Path, wait: Duration) -> Result<Self, ApiError> {
        let settings =
            HttpSettings { total_timeout: wait, max_body: MAX_ANSWER, ..HttpSettings::default() };
        let http = HttpClient::over_unix_socket(path, &settings).map_err(ApiError::Unreachable)?;
        Ok(Self { http })
    }

    /// How everything stands.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn status(&self) -> Result<StatusDocument, ApiError> {
        self.ask(Method::GET, "/v1/status", &()).await
    }

    /// What would be done now.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn plan(&self, request: &WorkRequest) -> Result<Vec<PlanEntry>, ApiError> {
        self.ask(Method::POST, "/v1/plan", request).await
    }

    /// Does what is due, and waits for it.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn renew(&self, request: &WorkRequest) -> Result<Vec<WorkReport>, ApiError> {
        self.ask(Method::POST, "/v1/renew", request).await
    }

    /// Does something to an account, and says how it stands then; what the CA refused is in the
    /// outcome.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn account(&self, request: &AccountRequest) -> Result<AccountOutcome, ApiError> {
        self.ask(Method::POST, "/v1/account", request).await
    }

    /// Has a certificate revoked, and waits for it; what can't be revoked is in the outcome.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn revoke(&self, request: &RevokeRequest) -> Result<RevokeOutcome, ApiError> {
        self.ask(Method::POST, "/v1/revoke", request).await
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    ///
    /// [`ApiError`]; the daemon's refusal holds all faults.
    pub async fn reload(&self) -> Result<Reloaded, ApiError> {
        self.ask(Method::POST, "/v1/reload", &()).await
    }

    /// Has the daemon send a test message to every receiver of alerts, and waits for it.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn test_alerts(&self) -> Result<Vec<AlertTried>, ApiError> {
        self.ask(Method::POST, "/v1/alert-test", &()).await
    }

    async fn ask<Answer: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer, ApiError> {
        let body = if method == Method::GET {
            Bytes::new()
        } else {
            serde_json::to_vec(body).map_err(ApiError::Strange)?.into()
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        // The host means nothing on a Unix socket, but HTTP wants one.
        let url = format!("http://localhost{path}");
        *request.uri_mut() = url.parse().map_err(|_not_a_url| ApiError::TimedOut)?;
        let json = header::HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);

        let answer = self.http.send(request).await.map_err(|error| match error {
            HttpError::TimedOut => ApiError::TimedOut,
            other => ApiError::Unreachable(other),
        })?;
        if answer.status() == StatusCode::OK {
            return serde_json::from_slice(answer.body()).map_err(ApiError::Strange);
        }
        let refused: ErrorBody =
            serde_json::from_slice(answer.body()).map_err(ApiError::Strange)?;
        Err(ApiError::Refused { code: refused.code, message: refused.message })
    }
}
