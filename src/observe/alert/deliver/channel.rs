//! One exchange with one receiver, under limits, and what its answer means.
//!
//! Only the status of an answer is read. No redirect of a POST is followed: a message goes where
//! the operator said, or nowhere. URLs and secrets stand in no error.
//!
//! Not here: waiting and trying again ([`crate::observe::alert::book`]).

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use serde_json::Value;

use crate::model::{Explain, Retry, Secret, Timestamp};
use crate::observe::Channel;
use crate::observe::alert::book::Fault;
use crate::observe::alert::message::{Message, severity_text};
use crate::observe::alert::signature::signature;
use crate::sys::http::{HttpClient, HttpError, HttpSettings};
use crate::sys::process::{self, ProcessError, Program};

/// The largest answer that would be read, in bytes.
const MAX_ANSWER: usize = 4 * 1024;

/// A receiver was not told.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// What is configured is no URL.
    #[error("the configured URL is not a URL")]
    NoUrl,
    /// There was no answer.
    #[error("the receiver gave no answer")]
    Unreachable(#[source] HttpError),
    /// The receiver answered, and not with success.
    #[error("the receiver answered {status}")]
    Refused {
        /// Its status.
        status: StatusCode,
    },
    /// The program did not take it.
    #[error("the program did not take the alert")]
    Command(#[source] ProcessError),
    /// A run that ends has no more time for it.
    #[error("the receiver took too long")]
    OutOfTime,
}

impl DeliveryError {
    /// Whether another message might get through where this one did not.
    pub(super) fn fault(&self) -> Fault {
        const OF_THE_CONTENT: [StatusCode; 3] = [
            StatusCode::BAD_REQUEST,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ];
        match self {
            Self::Refused { status } if OF_THE_CONTENT.contains(status) => Fault::Message,
            _ => Fault::Receiver,
        }
    }
}

impl Explain for DeliveryError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoUrl => "alert.no_url",
            Self::Unreachable(_) | Self::OutOfTime => "alert.unreachable",
            Self::Refused { .. } => "alert.refused",
            Self::Command(_) => "alert.command_failed",
        }
    }

    fn retry(&self) -> Retry {
        Retry::BackOff
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoUrl => "write the receiver's whole URL, from https:// on",
            Self::Unreachable(HttpError::NotHttps) => "give the receiver an https URL",
            Self::Unreachable(_) => {
                "see that the receiver is up and its certificate is trusted; then renewd alert test"
            }
            Self::Refused { status } if status.is_redirection() => {
                "redirects are not followed: configure the URL that it points to"
            }
            Self::Refused { status } if status.is_server_error() => {
                "the receiver has trouble of its own; the alert is kept"
            }
            Self::Refused { .. } => "see that the receiver's URL and secret are right",
            Self::OutOfTime => {
                "a run without a daemon waits for 45 s; what waits is told by the next"
            }
            Self::Command(_) => "run the program by hand with a JSON object as its input",
        };
        Some(hint.to_owned())
    }
}

/// What one exchange brings.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    /// The messages that are done with it: one, but for an Alertmanager.
    pub(super) messages: Vec<Message>,
    /// All that is open, for an Alertmanager.
    pub(super) alerts: Vec<Value>,
}

impl Parcel {
    /// The ids of the messages that are done with it.
    pub(super) fn ids(&self) -> Vec<String> {
        self.messages.iter().map(|it| it.id.clone()).collect()
    }
}

/// Brings `parcel` to its receiver, signed at `now`; an answer takes `limit` at most, a program its
/// own limit.
pub(super) async fn send(
    channel: &Channel,
    parcel: &Parcel,
    now: Timestamp,
    limit: Duration,
) -> Result<(), DeliveryError> {
    match channel {
        Channel::Webhook { url, secret } => {
            for message in &parcel.messages {
                exchange(webhook(url, secret.as_ref(), message, now)?, limit).await?;
            }
        }
        Channel::Command { arguments, timeout } => {
            for message in &parcel.messages {
                let program = program(arguments, *timeout, message);
                process::run(&program).await.map_err(DeliveryError::Command)?;
            }
        }
        // What began and ended undelivered, it need not hear of.
        Channel::Alertmanager { .. } if parcel.alerts.is_empty() => {}
        Channel::Alertmanager { url } => {
            let base = url.reveal().trim().trim_end_matches('/');
            let url = Secret::new(format!("{base}/api/v2/alerts"));
            let body = Value::from(parcel.alerts.clone()).to_string();
            exchange(post(&url, body)?, limit).await?;
        }
    }
    Ok(())
}

/// `message` as Standard Webhooks says: the id of the message, the time of this try.
fn webhook(
    url: &Secret,
    secret: Option<&Secret>,
    message: &Message,
    now: Timestamp,
) -> Result<Request<Bytes>, DeliveryError> {
    let body = message.body().to_string();
    let signature = secret.map(|it| signature(it, &message.id, now, body.as_bytes()));
    let headers = [
        ("webhook-id", Some(message.id.clone())),
        ("webhook-timestamp", Some(now.unix_seconds().to_string())),
        ("webhook-signature", signature),
    ];
    let mut request = post(url, body)?;
    for (name, value) in headers {
        // All three are letters, digits and punctuation, so they can be header values.
        if let Some(Ok(value)) = value.map(|it| header::HeaderValue::from_str(&it)) {
            request.headers_mut().insert(name, value);
        }
    }
    Ok(request)
}

fn program(arguments: &[String], timeout: Duration, message: &Message) -> Program {
    let certificate = message.certificate.as_ref().map_or_else(String::new, ToString::to_string);
    Program {
        arguments: arguments.to_vec(),
        environment: vec![
            ("RENEWD_ALERT_TYPE".to_owned(), message.kind.as_str().into()),
            ("RENEWD_ALERT_SEVERITY".to_owned(), severity_text(message.severity).into()),
            ("RENEWD_ALERT_CERTIFICATE".to_owned(), certificate.into()),
        ],
        input: message.body().to_string().into_bytes(),
        directory: None,
        timeout,
    }
}

/// Fetches `url`; any success will do.
pub(super) async fn get(url: &Secret, limit: Duration) -> Result<(), DeliveryError> {
    exchange(request(Method::GET, url, Bytes::new())?, limit).await
}

fn post(url: &Secret, body: String) -> Result<Request<Bytes>, DeliveryError> {
    let mut request = request(Method::POST, url, body.into())?;
    let json = header::HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(request)
}

fn request(method: Method, url: &Secret, body: Bytes) -> Result<Request<Bytes>, DeliveryError> {
    // The parser's error says nothing that the operator needs, and must not quote a secret.
    let uri: Uri = url.reveal().trim().parse().map_err(|_not_a_url| DeliveryError::NoUrl)?;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    Ok(request)
}

async fn exchange(request: Request<Bytes>, limit: Duration) -> Result<(), DeliveryError> {
    // Made anew each time: alerts are rare, and the system's trusted roots may have changed.
    let client = HttpClient::new(&HttpSettings {
        connect_timeout: limit,
        total_timeout: limit,
        max_body: MAX_ANSWER,
        ..HttpSettings::default()
    })
    .map_err(DeliveryError::Unreachable)?;
    let status = client.status_of(request).await.map_err(DeliveryError::Unreachable)?;
    if status.is_success() { Ok(()) } else { Err(DeliveryError::Refused { status }) }
}
