//! Refusing: records the verdict, tells the client, and closes the connection so that the reply arrives. Every
//! refusal of a request leaves here: as an HTTP reply, as a 407 on a connection that goes on, as a TLS alert after the `200`.

pub mod bounded;
pub mod reply;
pub(crate) mod socks;
pub mod unanswered;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use self::reply::Reply;
use self::unanswered::Unanswered;
use crate::outbound::route::Route;
use crate::rules::{self, Denial};
use crate::session::request::{Answer, Request};
use crate::state::listener::flood::Who;
use crate::state::proof::Lost;
use crate::transport::close;
use crate::transport::keep_alive::KeepAlive;
use crate::words::outcome::{Class, Reason};
use crate::words::target::Target;

/// A refusal on its way to the client.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    /// One line that a person can act on.
    pub(crate) advice: String,
    /// What the rules said, if they refuse the request.
    pub(crate) denial: Option<Box<Denial>>,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Refused::new(reason, reply::advice(reason))
    }
}

impl From<Lost> for Refused {
    fn from(lost: Lost) -> Self {
        Refused::new(lost.reason, lost.why.as_ref())
    }
}

impl Refused {
    /// With what a person can do about it.
    pub(crate) fn new(reason: Reason, advice: impl Into<String>) -> Self {
        Refused { reason, advice: advice.into(), denial: None }
    }

    /// A failure on the way to the target: with a parent proxy in between, it is mostly not the target's fault.
    pub(crate) fn on_the_way(reason: Reason, route: &Route, target: &Target) -> Self {
        let of_parent =
            route.parent(target).and_then(|_| reply::advice_for_parent(reason)).map(str::to_owned);
        let advice = of_parent.or_else(|| rules::on_the_way(reason, target));
        Refused::new(reason, advice.unwrap_or_else(|| reply::advice(reason).to_owned()))
    }
}

/// Records the verdict, tells the client, and closes so that the reply arrives. `body`: whether the reply may have
/// one.
pub(crate) async fn refuse<S>(stream: S, request: Request<'_>, refused: Refused, body: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Of a 407: the client cannot answer it any more, and its record comes when the connection is closed.
    let (bytes, _unanswered) = record(request, &refused, body, None);
    match bytes {
        Some(bytes) => close::close_with(stream, &bytes).await,
        None => close::linger(stream).await,
    }
}

/// Records the verdict, and tells it by these bytes: before there is a request, the answers of SOCKS5 have other forms.
pub(crate) async fn refuse_with<S>(stream: S, mut request: Request<'_>, refused: Refused, bytes: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    request.answered(reply::status(refused.reason), bytes.len());
    verdict(request, &refused);
    close::close_with(stream, bytes).await;
}

/// Records the verdict if there is one, and tells the client, which may ask again on this connection within `keep`: `unanswered`
/// is what it then has to answer. `None`: the client does not read, or is gone.
pub(crate) async fn challenge<S>(
    stream: &mut S,
    request: Request<'_>,
    refused: Refused,
    body: bool,
    keep: KeepAlive,
    unanswered: &mut Option<Unanswered>,
) -> Option<()>
where
    S: AsyncWrite + Unpin,
{
    let (bytes, asked) = record(request, &refused, body, Some(keep));
    *unanswered = asked;
    let bytes = bytes?;
    let telling = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    tokio::time::timeout(close::LINGER_TIME, telling).await.ok()?.ok()
}

/// Tells the client after the `200` about a verdict that is already recorded: by the reason's TLS alert, if it has
/// one.
pub(crate) async fn in_tunnel<S: AsyncRead + AsyncWrite + Unpin>(stream: S, reason: Reason) {
    close::close_tunnel(stream, reply::alert(reason)).await;
}

/// Ends a request whose client is told nothing more: its connection is reset.
pub(crate) fn unanswered(mut request: Request<'_>, reason: Reason) {
    bound(&mut request, reason);
    request.refuse(reason);
}

/// Records the verdict on a request whose client is told it by an answer of status 200, of so many bytes: git prints no other.
pub(crate) fn record_printed(mut request: Request<'_>, refused: &Refused, bytes: usize) {
    request.answered(Some(200), bytes);
    request.told_why(&refused.advice, refused.denial.as_deref());
    bound(&mut request, refused.reason);
    request.refuse(refused.reason);
}

/// Ends the request, and returns the bytes of the reply. The records of a client that guesses or asks without end are
/// bounded here, so that it does not fill the log.
///
/// Asking for credentials ends nothing: what is returned then has its record some time after its connection ends.
fn record(
    mut request: Request<'_>,
    refused: &Refused,
    body: bool,
    keep: Option<KeepAlive>,
) -> (Option<Vec<u8>>, Option<Unanswered>) {
    let (id, reason) = (request.id(), refused.reason);
    let (inside, shows) = request.answered_how();
    let answer = request.answer();
    let reply = match answer {
        Answer::Http => Reply { reason, id, advice: &refused.advice, body, keep, inside, shows }.to_bytes(),
        Answer::Socks5 => socks::refused(reason),
        Answer::Alert => reply::alert(reason).map(|alert| alert.record().to_vec()),
        Answer::Nothing => None,
    };
    let bytes = reply.as_ref().map(Vec::len);
    match (answer, bytes) {
        (Answer::Http | Answer::Socks5, None) => {}
        (Answer::Http | Answer::Socks5, Some(bytes)) => request.answered(reply::status(reason), bytes),
        // A client that has no `200` and reads no status: the record has the one that HTTP has for it, as over SOCKS5.
        (Answer::Alert | Answer::Nothing, _) => {
            request.hears(reply::status(reason), bytes.unwrap_or(0));
        }
    }
    if reason.class() == Class::Challenge && answer == Answer::Http {
        return (reply, Some(Unanswered::new(request)));
    }
    verdict(request, refused);
    (reply, None)
}

/// Ends the request.
fn verdict(mut request: Request<'_>, refused: &Refused) {
    let (id, reason) = (request.id(), refused.reason);
    request.told_why(&refused.advice, refused.denial.as_deref());
    match bound(&mut request, reason) {
        // What is wrong with credentials stands in a body that no client shows.
        true if reason.class() == Class::Credentials => tracing::info!(
            %id, "listener {}: {} refused, {reason}: {}", request.listener(), request.client().peer, refused.advice
        ),
        _ => {}
    }
    request.refuse(reason);
}

/// Whether the record is written; if not, one later stands for many.
fn bound(request: &mut Request<'_>, reason: Reason) -> bool {
    if reason.class() == Class::Connection {
        // A request on a connection whose certificate is no longer good: one for each connection, and clients that
        // cannot connect must not hide it.
        return true;
    }
    let who = Who { peer: request.client().peer, client: Some(request.client().address) };
    let is_written = bounded::has_place(request.accepted_by(), request.shared(), reason, who);
    if !is_written {
        request.leave_unwritten();
    }
    is_written
}
