//! The request body on its way from the client to hyper: exactly the bytes of the framing that the gate checked, one
//! piece at a time. Afterwards it watches whether the client leaves.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use super::outcome::Break;
use super::rewrite::{self, Nominated};
use super::track::Track;
use crate::session::http::changes::Changes;
use crate::transport::allowance::Allowance;
use crate::transport::held::read::read_bulk;
use crate::transport::held::{Kind, Lease};
use crate::transport::tls;
use crate::wire::head::{BodyFollower, Framing, Piece};
use crate::words::outcome::{Ending, Reason};

/// Bytes of one read.
const READ_SIZE: usize = 32 * 1024;
/// Most bytes of pipelined requests that are held while a response is in progress.
const MAX_AHEAD: usize = 16 * 1024;
/// More fields would not fit in the largest trailer section.
const MAX_TRAILER_FIELDS: usize = 64;

pub(super) enum Part {
    Data(Bytes),
    /// Boxed, because a channel has room for many from its beginning.
    Trailers(Box<HeaderMap>),
    /// Without it the body is cut off, and hyper must not end it as if it were complete.
    End,
}

/// The body as hyper takes it.
#[derive(Debug)]
pub(super) struct UploadBody {
    parts: Option<mpsc::Receiver<Part>>,
    /// By `Content-Length`; `None` for a chunked body.
    remaining: Option<u64>,
}

/// The client's body did not end.
#[derive(Debug, thiserror::Error)]
#[error("the request body was cut off")]
pub(super) struct CutOff;

impl UploadBody {
    /// The end that [`upload`] fills, and the end that hyper reads. There is at most one piece between them.
    pub(super) fn new(framing: Framing) -> (Option<mpsc::Sender<Part>>, Self) {
        let remaining = match framing {
            Framing::None | Framing::Length(0) => return (None, UploadBody::empty()),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        let (sender, receiver) = mpsc::channel(1);
        (Some(sender), UploadBody { parts: Some(receiver), remaining })
    }

    /// A body that is there already.
    pub(super) fn whole(bytes: Bytes) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        let remaining = Some(bytes.len() as u64);
        // There is room for one.
        let _ = sender.try_send(Part::Data(bytes));
        UploadBody { parts: Some(receiver), remaining }
    }

    pub(super) fn empty() -> Self {
        UploadBody { parts: None, remaining: Some(0) }
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let Some(parts) = &mut self.parts else { return Poll::Ready(None) };
        Poll::Ready(match std::task::ready!(parts.poll_recv(cx)) {
            Some(Part::Data(bytes)) => {
                self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(bytes.len() as u64));
                Some(Ok(Frame::data(bytes)))
            }
            Some(Part::Trailers(trailers)) => Some(Ok(Frame::trailers(*trailers))),
            Some(Part::End) => {
                self.parts = None;
                None
            }
            None => Some(Err(CutOff)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_none() || self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What the body's form depends on.
pub(super) struct Sending<'h> {
    pub(super) framing: Framing,
    /// Of the head.
    pub(super) nominated: &'h Nominated,
}

/// Moves the body, then watches the client. Returns only when the exchange must be broken off. A piece is read only
/// when hyper has taken the one before, so that a slow target slows the client.
pub(super) async fn upload<R: AsyncRead + Unpin>(
    mut reader: R,
    mut sent: Sent<'_>,
    (head, changes): (&Sending<'_>, &Changes),
    parts: Option<mpsc::Sender<Part>>,
    track: &Track<'_>,
    allowance: &mut Allowance,
) -> Break {
    if let Some(parts) = parts
        && let Err(end) = body(&mut reader, &mut sent, (head, changes), &parts, track, allowance).await
    {
        return end;
    }
    track.complete_request();
    loop {
        if sent.buffer.len() >= MAX_AHEAD {
            track.leaves_unread(true);
            pending::<()>().await;
        }
        if let Err(end) = sent.read_from(&mut reader).await {
            return end;
        }
    }
}

async fn body<R: AsyncRead + Unpin>(
    reader: &mut R,
    sent: &mut Sent<'_>,
    (head, changes): (&Sending<'_>, &Changes),
    parts: &mpsc::Sender<Part>,
    track: &Track<'_>,
    allowance: &mut Allowance,
) -> Result<(), Break> {
    let mut follower = BodyFollower::new(head.framing);
    let mut trailers = BytesMut::new();
    let mut of_trailers = Lease::new(sent.lease.holder(), Kind::Body);
    // What TLS with the target has encrypted and the target does not take.
    let mut of_tls = Lease::new(sent.lease.holder(), Kind::Body);
    let ahead = if changes.inspected { tls::AHEAD } else { 0 };
    while !follower.is_done() {
        track.leaves_unread(true);
        let mut reserving = pin!(parts.reserve());
        let reserved = poll_fn(|cx| {
            let reserved = reserving.as_mut().poll(cx);
            of_tls.set(if reserved.is_pending() { ahead } else { 0 });
            reserved
        });
        let Ok(place) = reserved.await else {
            // hyper wants no more of it: the response, or its absence, says why.
            return pending().await;
        };
        track.leaves_unread(false);
        loop {
            // Where it is not granted, what is there may be enough for the next piece.
            let _ = allowance.secure(sent.buffer.len()).await;
            let granted = allowance.take(sent.buffer.len());
            let piece =
                follower.step(sent.buffer.get(..granted).unwrap_or_default()).map_err(Break::Malformed)?;
            allowance.put_back(granted - piece.map_or(0, Piece::len));
            let Some(piece) = piece else {
                if !sent.buffer.is_empty() {
                    // There is more, and the allowance grants none of it.
                    return Err(Break::Spent(allowance.refuses(1).unwrap_or(Reason::UploadBudget)));
                }
                track.client_owes_body(true);
                sent.detach();
                sent.read_from(reader).await?;
                track.client_owes_body(false);
                continue;
            };
            track.sent(piece.len());
            match piece {
                Piece::Framing(length) => sent.buffer.advance(length),
                Piece::Trailers(length) => {
                    trailers.extend_from_slice(&sent.buffer.split_to(length));
                    of_trailers.set(trailers.capacity());
                }
                Piece::Data(length) => {
                    place.send(Part::Data(sent.piece(length)));
                    break;
                }
            }
            if follower.is_done() {
                // Only chunked bodies get here: their trailers, if any, and their end.
                track.complete_request();
                let mut trailers = parse_trailers(&trailers, head.nominated);
                changes.request_trailers(&mut trailers);
                if !trailers.is_empty() {
                    place.send(Part::Trailers(Box::new(trailers)));
                } else {
                    place.send(Part::End);
                    return Ok(());
                }
                break;
            }
        }
    }
    if head.framing == Framing::Chunked {
        // hyper may be done after the trailers: then it does not take this part, and does not need it.
        let _ = parts.send(Part::End).await;
    }
    Ok(())
}

/// What the client has sent and was not taken yet, under a lease.
pub(super) struct Sent<'b> {
    pub(super) buffer: &'b mut BytesMut,
    pub(super) lease: &'b mut Lease,
    /// Whether the last read was a full one.
    pub(super) bulk: bool,
}

impl Sent<'_> {
    async fn read_from<R: AsyncRead + Unpin>(&mut self, reader: &mut R) -> Result<(), Break> {
        let Sent { buffer, lease, bulk } = self;
        match read_bulk(reader, buffer, lease, bulk, READ_SIZE).await {
            Ok(1..) => Ok(()),
            Ok(0) => Err(Break::Ended(Ending::ClientClosed)),
            // A client that left its TLS without a goodbye.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Break::Ended(Ending::ClientClosed))
            }
            Err(_) => Err(Break::Ended(Ending::ClientReset)),
        }
    }

    /// What is left, which is a part of a chunk's framing, goes to a buffer of its own: it would keep all that was read with it.
    fn detach(&mut self) {
        *self.buffer = BytesMut::from(&self.buffer[..]);
        self.lease.set(self.buffer.capacity());
    }

    /// The next bytes, which hyper may hold until the target takes them.
    fn piece(&mut self, length: usize) -> Bytes {
        let mut bytes = self.buffer.split_to(length);
        if self.buffer.is_empty() {
            // It keeps the room behind it, too, unless little came: then a copy is cheaper than an almost empty buffer.
            bytes.unsplit(std::mem::take(self.buffer));
            if bytes.capacity() / 2 > length {
                bytes = BytesMut::from(&bytes[..]);
            }
        }
        let lease = Lease::of(self.lease.holder(), Kind::Body, bytes.capacity());
        self.lease.set(self.buffer.capacity());
        Bytes::from_owner(OwnedPiece { bytes, _lease: lease })
    }
}

struct OwnedPiece {
    bytes: BytesMut,
    _lease: Lease,
}

impl AsRef<[u8]> for OwnedPiece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The follower has checked their form; here they are only split. Fields that cannot be parsed are dropped, which is
/// allowed for trailers (RFC 9110 §6.5.1).
fn parse_trailers(section: &[u8], nominated: &Nominated) -> HeaderMap {
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(section, &mut fields) else {
        return HeaderMap::new();
    };
    let mut trailers = HeaderMap::new();
    for field in fields {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(field.name.as_bytes()), HeaderValue::from_bytes(field.value))
        {
            trailers.append(name, value);
        }
    }
    rewrite::trailers(trailers, nominated)
}
