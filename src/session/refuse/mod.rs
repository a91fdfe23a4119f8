//! Saying no: the verdict recorded, the client told, the connection closed so that the words arrive. The one place where
//! refusals that are HTTP replies leave.

pub mod bounded;
pub mod reply;

use self::reply::Reply;
use crate::outbound::route::Route;
use crate::session::request::Request;
use crate::transport::client_stream::ClientStream;
use crate::transport::close;
use crate::words::outcome::Reason;

/// A verdict of no, on its way to the client.
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
    /// What came of the way to the target: with a parent in between, most of it is not the target's doing.
    pub(crate) fn on_the_way(reason: Reason, route: &Route) -> Self {
        let advice = route.parent().and_then(|_| reply::advice_for_parent(reason));
        Refused { reason, advice: advice.unwrap_or_else(|| reply::advice(reason)).to_owned() }
    }
}

/// Records the verdict, tells the client, and closes so that the words arrive.
pub(crate) async fn refuse(stream: ClientStream, request: Request<'_>, refused: Refused, body: bool) {
    match record(request, &refused, body, false) {
        Some(bytes) => close::close_with(stream, &bytes).await,
        None => close::linger(stream).await,
    }
}

/// Ends the request, and gives the bytes that say so.
pub(crate) fn record(
    mut request: Request<'_>,
    refused: &Refused,
    body: bool,
    keep_alive: bool,
) -> Option<Vec<u8>> {
    let (id, reason) = (request.id(), refused.reason);
    let reply = Reply { reason, id, advice: &refused.advice, body, keep_alive }.to_bytes();
    if let Some(reply) = &reply {
        request.answered(reply.len());
    }
    request.refuse(reason);
    reply
}
