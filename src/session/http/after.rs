//! What becomes of the client's connection after an exchange.

use crate::session::refuse::Refused;
use crate::session::request::Request;
use crate::state::live::LiveExchange;
use crate::words::outcome::Ending;

/// What happens to the client's connection after an exchange. The code that reads heads owns the connection, and does
/// it.
pub(crate) enum After<'s> {
    /// The next head may be read.
    NextHead,
    /// Close it so that the response arrives.
    Close,
    /// Close it so that what its client was told of a refusal arrives: the refusal is recorded.
    Told,
    /// Cut it: a response that was broken off must not look complete.
    Cut(Ending),
    /// It is useless now: the client left.
    Gone(Ending),
    /// Refuse the client.
    Refuse(Request<'s>, Refused),
    /// What follows is a WebSocket, over the connection that [`Kept::switched`](crate::session::http::forward::Kept::switched) gives. The exchange stays
    /// in the registry as long as it lasts.
    Switched(Box<LiveExchange>),
}
