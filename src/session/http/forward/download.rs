//! The response on its way to the client: informational heads as they come, the head without the fields of the other
//! hop, the body as it comes, in a framing that the client can read.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Buf, BufMut, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::upgrade::Upgraded;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::informational::{Informational, Told};
use super::outcome::Finish;
use super::rewrite::{self, Nominated};
use super::terms::Terms;
use super::track::Track;
use super::written::{Own, size, write_fields, write_head};
use crate::outbound::origin::WANTS_CERTIFICATE;
use crate::transport::held::{Kind, Lease};
use crate::transport::response_buffer::ResponseBuffer;
use crate::transport::target_io::PIECE;
use crate::transport::tls;
use crate::wire::head::{Head, Version};
use crate::words::outcome::{Ending, Reason};

const X_REQUEST_ID: &str = "x-request-id";

/// Most bytes that are gathered into one write. A larger piece is written as it is.
const TOGETHER: usize = 4096;

/// Why the client did not get a whole response.
#[derive(Debug)]
pub(super) enum Failure {
    /// The target gave no response that can be passed on; nothing was written.
    Upstream {
        detail: Cow<'static, str>,
        /// Closed without a byte, as happens with a kept connection that was about to be closed.
        stale: bool,
    },
    /// The parent proxy did not let it pass; nothing was written.
    ParentRefused,
    /// The target refused credentials that are kept here; nothing was written.
    CredentialsRefused,
    /// The target broke off in the middle of its response.
    BrokenOff { ending: Ending, malformed: bool },
    /// The client broke off.
    Client(io::Error),
}

impl Failure {
    pub(super) fn upstream(detail: &'static str) -> Self {
        Failure::Upstream { detail: detail.into(), stale: false }
    }

    fn before_response(error: &hyper::Error) -> Self {
        if wants_certificate(error) {
            return Failure::upstream(WANTS_CERTIFICATE);
        }
        let (detail, stale) = match error {
            _ if error.is_parse_too_large() => ("the head of the target's response is too large", false),
            _ if error.is_parse() => ("the target did not answer in well-formed HTTP/1", false),
            _ => ("the target closed the connection before it answered", true),
        };
        Failure::Upstream { detail: detail.into(), stale }
    }

    fn within_response(error: &hyper::Error) -> Self {
        let mut source = std::error::Error::source(error);
        let mut reset = false;
        let mut malformed = error.is_parse();
        while let Some(error) = source {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            reset |= matches!(kind, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe));
            // What hyper reports for a malformed chunk.
            malformed |= matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData));
            source = error.source();
        }
        let ending = if reset { Ending::UpstreamReset } else { Ending::UpstreamClosed };
        Failure::BrokenOff { ending, malformed }
    }
}

/// Whether the target ended TLS because it wants a certificate of its client.
fn wants_certificate(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.downcast_ref::<io::Error>().is_some_and(tls::origin::wants_certificate) {
            return true;
        }
        source = error.source();
    }
    false
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Client(error)
    }
}

impl From<Failure> for Finish {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Upstream { detail, .. } => {
                Finish::Refused { reason: Reason::UpstreamBadResponse, detail }
            }
            Failure::ParentRefused => Finish::Refused {
                reason: Reason::UpstreamProxyRefused,
                detail: Cow::Borrowed("the parent proxy asks for different credentials"),
            },
            Failure::CredentialsRefused => {
                Finish::Refused { reason: Reason::UpstreamCredentialsRefused, detail: Cow::Borrowed("") }
            }
            Failure::BrokenOff { ending, malformed } => {
                Finish::Broken { ending, reason: malformed.then_some(Reason::UpstreamBadResponse) }
            }
            Failure::Client(error) if error.kind() == io::ErrorKind::TimedOut => {
                Finish::Broken { ending: Ending::ClientLost, reason: None }
            }
            Failure::Client(_) => Finish::Broken { ending: Ending::ClientReset, reason: None },
        }
    }
}

/// How the client learns where the body ends (RFC 9112 §6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Coding {
    /// By method or status: HEAD, 204, 304.
    None,
    Length(u64),
    Chunked,
    /// For an HTTP/1.0 client, if the length is not known.
    Close,
}

/// What becomes of both connections.
pub(super) enum Then {
    /// They can go on.
    GoOn,
    /// They end with this response.
    Close,
    /// They are a WebSocket now.
    Switch(Box<Upgraded>),
}

/// Writes the response from `sending`.
pub(super) async fn download<W: AsyncWrite + Unpin>(
    sending: impl Future<Output = hyper::Result<Response<Incoming>>>,
    told: Told,
    buffer: &ResponseBuffer,
    head: &Head,
    client: &mut W,
    track: &Track<'_>,
    terms: &Terms<'_>,
) -> Result<Then, Failure> {
    let mut sending = std::pin::pin!(sending);
    let response = loop {
        tokio::select! {
            biased;
            informational = told.next() => inform(informational, head, client, track).await?,
            response = &mut sending => break response.map_err(|error| Failure::before_response(&error))?,
        }
    };
    while let Some(informational) = told.take() {
        inform(informational, head, client, track).await?;
    }
    buffer.answered(size(response.headers()));
    // Only a proxy asks for a proxy's password, and the client has none for this proxy.
    if terms.parent.is_some() && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Err(Failure::ParentRefused);
    }
    if let Some(detail) = rewrite::unfit(&response, terms.changes.websocket) {
        return Err(Failure::upstream(detail));
    }
    if terms.changes.are_refused(response.status()) {
        return Err(Failure::CredentialsRefused);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Box::pin(switch(response, client, track, terms)).await;
    }

    let (mut parts, mut body) = response.into_parts();
    let coding = coding(head, parts.status, &body);
    if parts.status == StatusCode::NO_CONTENT {
        // A client that believed it would take the next response for the body of this one.
        parts.headers.remove(CONTENT_LENGTH);
    }
    // A client that is still sending is told to stop: nobody will read the rest.
    let may_go_on = head.keep_alive && track.request_is_complete() && coding != Coding::Close;
    let keep = may_go_on.then(terms.keep).flatten();
    let nominated = Nominated::by(&parts.headers);
    nominated.strip(&mut parts.headers);
    terms.changes.response(&mut parts.headers);
    frame(&mut parts.headers, coding);
    parts.headers.remove(X_REQUEST_ID);
    let reason = parts.extensions.get::<hyper::ext::ReasonPhrase>().map(hyper::ext::ReasonPhrase::as_bytes);
    track.answering(parts.status.as_u16(), parts.headers.get(CONTENT_TYPE));
    let own = Own { request_id: terms.request_id, keep };
    let head = write_head(parts.status, reason, &parts.headers, Some(&own));
    // Each value in them keeps the whole buffer of the head.
    drop(parts);
    let mut trailers = HeaderMap::new();
    let mut end = if coding == Coding::None {
        head
    } else {
        let waiting = pass(&mut body, coding, head, client, track, &mut trailers).await?;
        terms.changes.response(&mut trailers);
        waiting
    };
    if coding == Coding::Chunked {
        end.put_slice(b"0\r\n");
        write_fields(&mut end, &rewrite::trailers(trailers, &nominated));
        end.put_slice(b"\r\n");
    }
    if !end.is_empty() {
        write(client, track, end).await?;
    }
    Ok(if keep.is_some() { Then::GoOn } else { Then::Close })
}

/// Writes `waiting`, which is the head, and the body. What comes together with the head and is small goes out together with it: a small
/// answer is one record and one packet. Returns what is still to be written.
async fn pass<W: AsyncWrite + Unpin>(
    body: &mut Incoming,
    coding: Coding,
    mut waiting: BytesMut,
    client: &mut W,
    track: &Track<'_>,
    trailers: &mut HeaderMap,
) -> Result<BytesMut, Failure> {
    loop {
        let mut has_asked = waiting.is_empty();
        let here = poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending if has_asked => Poll::Ready(None),
            Poll::Pending => {
                // Each frame that is taken lets hyper read on: what it has read already may be the next one.
                has_asked = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        });
        let frame = match here.await {
            Some(Some(Ok(frame))) => frame,
            Some(None) => return Ok(waiting),
            // Nothing waits for bytes that may take long, and a body that breaks off does so after its head.
            other => {
                if !waiting.is_empty() {
                    write(client, track, std::mem::take(&mut waiting)).await?;
                }
                let frame = match other {
                    Some(frame) => frame,
                    None => body.frame().await,
                };
                match frame {
                    Some(frame) => frame.map_err(|error| Failure::within_response(&error))?,
                    None => return Ok(waiting),
                }
            }
        };
        track.upstream_moved();
        let data = match frame.into_data() {
            Ok(data) if data.is_empty() => continue,
            Ok(data) => data,
            Err(frame) => {
                trailers.extend(frame.into_trailers().unwrap_or_default());
                continue;
            }
        };
        let end: &[u8] = if coding == Coding::Chunked {
            waiting.put_slice(format!("{:x}\r\n", data.len()).as_bytes());
            b"\r\n"
        } else {
            b""
        };
        if waiting.len() + data.len() <= TOGETHER {
            waiting.put_slice(&data);
            waiting.put_slice(end);
        } else {
            write(client, track, std::mem::take(&mut waiting).chain(data).chain(end)).await?;
        }
    }
}

/// Passes a `101` on that the request asked for. From here on there is no HTTP.
async fn switch<W: AsyncWrite + Unpin>(
    mut response: Response<Incoming>,
    client: &mut W,
    track: &Track<'_>,
    terms: &Terms<'_>,
) -> Result<Then, Failure> {
    let upgrading = hyper::upgrade::on(&mut response);
    let headers = response.headers_mut();
    Nominated::by(headers).strip(headers);
    terms.changes.response(headers);
    headers.remove(CONTENT_LENGTH);
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(id) = HeaderValue::from_str(terms.request_id) {
        headers.insert(X_REQUEST_ID, id);
    }
    let head = write_head(StatusCode::SWITCHING_PROTOCOLS, None, headers, None);
    let upgraded = upgrading
        .await
        .map_err(|_| Failure::upstream("the target closed the connection when it became a WebSocket"))?;
    track.answering(StatusCode::SWITCHING_PROTOCOLS.as_u16(), None);
    write(client, track, head).await?;
    Ok(Then::Switch(Box::new(upgraded)))
}

fn coding(head: &Head, status: StatusCode, body: &Incoming) -> Coding {
    if head.method == Method::HEAD || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status) {
        return Coding::None;
    }
    match (body.size_hint().exact(), head.version) {
        (Some(length), _) => Coding::Length(length),
        (None, Version::Http11) => Coding::Chunked,
        (None, Version::Http10) => Coding::Close,
    }
}

/// The framing fields of our own framing; without a body, `Content-Length` states the length that there would be (RFC
/// 9110 §8.6).
fn frame(headers: &mut HeaderMap, coding: Coding) {
    let told = headers.remove(CONTENT_LENGTH);
    match (coding, told) {
        (Coding::None, Some(length)) if length.as_bytes().iter().all(u8::is_ascii_digit) => {
            headers.insert(CONTENT_LENGTH, length);
        }
        (Coding::Length(length), _) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        (Coding::Chunked, _) => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        (Coding::None | Coding::Close, _) => {}
    }
}

/// Passes a 1xx on (RFC 9110 §15.2): never to HTTP/1.0, and `100` only to a client that waits for it.
async fn inform<W: AsyncWrite + Unpin>(
    informational: Informational,
    head: &Head,
    client: &mut W,
    track: &Track<'_>,
) -> Result<(), Failure> {
    let Informational { status, head: bytes, lease, _room } = informational;
    let wanted = match status {
        StatusCode::CONTINUE => track.take_expecting(),
        _ => head.version == Version::Http11,
    };
    if !wanted {
        return Ok(());
    }
    // Writing leases what waits.
    drop(lease);
    write_counted(client, track, bytes, Track::informed).await
}

/// The piece that is written, and the next one. Not their bytes: a piece keeps its buffer until its last byte has left.
const WAITING: usize = 2 * PIECE;

/// Writes everything, and counts bytes when the client's socket takes them. What waits for a client that does not read is leased:
/// these bytes, and the next piece, which hyper has read ahead.
async fn write<W: AsyncWrite + Unpin>(
    client: &mut W,
    track: &Track<'_>,
    bytes: impl Buf,
) -> Result<(), Failure> {
    write_counted(client, track, bytes, Track::received).await
}

async fn write_counted<'t, W: AsyncWrite + Unpin>(
    client: &mut W,
    track: &Track<'t>,
    mut bytes: impl Buf,
    count: fn(&Track<'t>, usize),
) -> Result<(), Failure> {
    track.client_owes_read(true);
    let mut lease = Lease::new(track.holder(), Kind::Body);
    while bytes.has_remaining() {
        let mut writing = std::pin::pin!(client.write_buf(&mut bytes));
        let written = poll_fn(|cx| {
            let written = writing.as_mut().poll(cx);
            if written.is_pending() {
                lease.set(WAITING);
            }
            written
        });
        match written.await? {
            0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            written => count(track, written),
        }
    }
    // A TLS stream holds bytes back until it is flushed.
    let mut flushing = std::pin::pin!(client.flush());
    let flushed = poll_fn(|cx| {
        let flushed = flushing.as_mut().poll(cx);
        if flushed.is_pending() {
            lease.set(WAITING);
        }
        flushed
    });
    flushed.await?;
    track.client_owes_read(false);
    Ok(())
}
