//! Refusing: records the verdict, tells the client, and closes the connection so that the reply arrives. Every
//! refusal of a request leaves here: as an HTTP reply, as a 407 on a connection that goes on, as a TLS alert after the `200`.

pub mod bounded;
pub mod reply;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use self::reply::Reply;
use crate::outbound::route::Route;
use crate::session::request::Request;
use crate::state::listener::flood::Who;
use crate::transport::close;
use crate::words::outcome::Reason;

/// A refusal on its way to the client.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    /// One line that a person can act on.
    pub(crate) advice: String,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Refused { reason, advice: reply::advice(reason).to_owned() }
    }
}

impl Refused {
    /// A failure on the way to the target: with a parent proxy in between, it is mostly not the target's fault.
    pub(crate) fn on_the_way(reason: Reason, route: &Route) -> Self {
        let advice = route.parent().and_then(|_| reply::advice_for_parent(reason));
        Refused { reason, advice: advice.unwrap_or_else(|| reply::advice(reason)).to_owned() }
    }
}

/// Records the verdict, tells the client, and closes so that the reply arrives. `body`: whether the reply may have
/// one.
pub(crate) async fn refuse<S>(stream: S, request: Request<'_>, refused: Refused, body: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match record(request, &refused, body, false) {
        Some(bytes) => close::close_with(stream, &bytes).await,
        None => close::linger(stream).await,
    }
}

/// Records the verdict if there is one, and tells the client, which may ask again on this connection. `None`: the
/// client does not read, or is gone.
pub(crate) async fn challenge<S>(
    stream: &mut S,
    request: Request<'_>,
    refused: Refused,
    body: bool,
) -> Option<()>
where
    S: AsyncWrite + Unpin,
{
    let bytes = record(request, &refused, body, true)?;
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

/// Ends the request, and returns the bytes of the reply. The records of a client that guesses or asks without end are
/// bounded here, so that it does not fill the log.
fn record(mut request: Request<'_>, refused: &Refused, body: bool, keep_alive: bool) -> Option<Vec<u8>> {
    let (id, reason) = (request.id(), refused.reason);
    let who = Who { peer: request.client().peer, client: Some(request.client().address) };
    if !bounded::has_place(request.accepted_by(), request.shared(), reason, who) {
        request.leave_unwritten();
    }
    let reply = Reply { reason, id, advice: &refused.advice, body, keep_alive }.to_bytes();
    if let Some(reply) = &reply {
        request.answered(reply::status(reason), reply.len());
    }
    request.refuse(reason);
    reply
}
