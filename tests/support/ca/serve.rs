//! The CA on the network: hyper on loopback, and every way to answer badly.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use renewd::model::Timestamp;
use time::OffsetDateTime;
use tokio::net::TcpListener;

use super::clock::VirtualClock;
use super::fault::{How, Step, take};
use super::model::{Asked, Model};
use super::reply::Reply;

type Body = BoxBody<Bytes, io::Error>;

/// Longer than any client of ours waits for an answer.
const PATIENCE: Duration = Duration::from_secs(61);
/// A body without end comes in pieces of this size.
const PIECE: usize = 64 * 1024;

/// What the connections share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) model: Arc<Mutex<Model>>,
    pub(super) clock: Arc<VirtualClock>,
    /// How many bytes of endless bodies were sent.
    pub(super) poured: Arc<std::sync::atomic::AtomicU64>,
}

pub(super) async fn serve(listener: TcpListener, shared: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        let answering = hyper::service::service_fn(move |request| answer(request, shared.clone()));
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answering);
        // A client that hangs up is no fault of the test.
        drop(tokio::spawn(async move { drop(connection.await) }));
    }
}

async fn answer(request: Request<Incoming>, shared: Shared) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let content_type = parts.headers.get(http::header::CONTENT_TYPE);
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        content_type: content_type.and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned(),
        body: body.collect().await.map(|it| it.to_bytes()).unwrap_or_default(),
    };
    let how = {
        let mut model = shared.model.lock().unwrap();
        let step = model.step(&asked.path);
        model.note(step, &asked);
        let now = model.now();
        let Model { faults, random, .. } = &mut *model;
        take(faults, step, now, random)
    };
    misbehave(how, &asked, &shared).await
}

/// Answers `asked`, in the way that `how` says.
async fn misbehave(how: Option<How>, asked: &Asked, shared: &Shared) -> io::Result<Response<Body>> {
    let gone = || io::Error::from(io::ErrorKind::ConnectionAborted);
    let sent = match how {
        None => carry_out(asked, shared).await,
        Some(How::Instead(reply)) => reply,
        Some(How::Changed(change)) => {
            let mut reply = carry_out(asked, shared).await;
            change(&mut reply);
            reply
        }
        Some(How::After(deed)) => {
            deed(&mut shared.model.lock().unwrap());
            carry_out(asked, shared).await
        }
        Some(How::Closed) => return Err(gone()),
        Some(How::DoneThenClosed) => {
            carry_out(asked, shared).await;
            return Err(gone());
        }
        Some(How::Silent) => return silence(shared).await,
        Some(How::DoneThenSilent) => {
            carry_out(asked, shared).await;
            return silence(shared).await;
        }
        Some(How::Dripping) => {
            let reply = carry_out(asked, shared).await;
            let body = dripping(reply.body.clone(), Arc::clone(&shared.clock));
            return Ok(head(&reply, shared).body(body).unwrap());
        }
        Some(How::Cut) => {
            let reply = carry_out(asked, shared).await;
            let half = reply.body.slice(..reply.body.len() / 2);
            let frames = [Ok(Frame::data(half)), Err(gone())];
            let body = StreamBody::new(stream::iter(frames)).boxed();
            return Ok(head(&reply, shared).body(body).unwrap());
        }
        Some(How::Endless) => {
            let reply = Reply::text(200, "application/json", "");
            let poured = Arc::clone(&shared.poured);
            let body = stream::repeat_with(move || {
                poured.fetch_add(PIECE as u64, std::sync::atomic::Ordering::Relaxed);
                Ok(Frame::data(Bytes::from_static(&[b'['; PIECE])))
            });
            return Ok(head(&reply, shared).body(StreamBody::new(body).boxed()).unwrap());
        }
    };
    let body = Full::new(sent.body.clone()).map_err(|never: Infallible| match never {}).boxed();
    Ok(head(&sent, shared).body(body).unwrap())
}

/// The right answer.
async fn carry_out(asked: &Asked, shared: &Shared) -> Reply {
    let (reply, validation, proofs) = {
        let mut model = shared.model.lock().unwrap();
        let (reply, validation) = model.answer(asked);
        (reply, validation, model.options.proofs.clone())
    };
    if let Some(validation) = validation {
        let found = validation.look(&proofs).await;
        let mut model = shared.model.lock().unwrap();
        let refused = model.refused.get(&validation.identifier);
        let refused = refused.map(|kind| super::reply::problem(kind, "as scripted"));
        model.validated(&validation, refused.or(found));
    }
    reply
}

/// Says nothing until the client has given up.
async fn silence(shared: &Shared) -> io::Result<Response<Body>> {
    shared.clock.let_pass(PATIENCE).await;
    pending().await
}

fn dripping(body: Bytes, clock: Arc<VirtualClock>) -> Body {
    let drops = stream::unfold((body, clock), |(body, clock)| async move {
        if body.is_empty() {
            return None;
        }
        clock.let_pass(Duration::from_secs(1)).await;
        let (one, rest) = (body.slice(..1), body.slice(1..));
        Some((Ok(Frame::data(one)), (rest, clock)))
    });
    // A stream that is polled by one connection alone need not be shared.
    StreamBody::new(sync_wrapped(drops)).boxed()
}

/// [`BoxBody`] wants what could be shared; a stream of futures can't, and need not be.
fn sync_wrapped(
    drops: impl stream::Stream<Item = Result<Frame<Bytes>, io::Error>> + Send + 'static,
) -> impl stream::Stream<Item = Result<Frame<Bytes>, io::Error>> + Send + Sync {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    drop(tokio::spawn(async move {
        let mut drops = std::pin::pin!(drops);
        while let Some(next) = stream::StreamExt::next(&mut drops).await {
            if sender.send(next).await.is_err() {
                break;
            }
        }
    }));
    stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|next| (next, receiver))
    })
}

fn head(reply: &Reply, shared: &Shared) -> http::response::Builder {
    let mut builder = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        builder = builder.header(name, value);
    }
    if reply.header("date").is_none() {
        let model = shared.model.lock().unwrap();
        builder = builder.header("date", http_date(model.now(), model.options.date_skew));
    }
    builder
}

/// A moment in the form of RFC 9110 §5.6.7, `skew` seconds later.
#[must_use]
pub fn http_date(moment: Timestamp, skew: i64) -> String {
    let seconds = moment.unix_seconds().cast_signed() + skew;
    let moment = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let (day, month) = (moment.weekday().to_string(), moment.month().to_string());
    let (hour, minute, second) = moment.to_hms();
    format!(
        "{}, {:02} {} {} {hour:02}:{minute:02}:{second:02} GMT",
        &day[..3],
        moment.day(),
        &month[..3],
        moment.year()
    )
}

/// Kinds of requests that belong to an order.
pub(super) const ORDER_FLOW: [Step; 7] = [
    Step::NewOrder,
    Step::Order,
    Step::Authorization,
    Step::Challenge,
    Step::Finalize,
    Step::Certificate,
    Step::Alternate,
];
