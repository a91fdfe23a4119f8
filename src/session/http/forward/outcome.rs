//! How an exchange ends: for the reply, the record, and the client's connection.

use std::borrow::Cow;

use super::terms::Addresses;
use crate::wire::head::BodyError;
use crate::words::outcome::{Ending, Reason};

/// How the exchange ended, for the reply and the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The status that was sent to the client; `None`: no response head was begun.
    pub status: Option<u16>,
    /// How it ended.
    pub finish: Finish,
    /// Whether the next head may be read from the client; if not, the connection must be closed.
    pub keep_alive: bool,
    /// `None` if no connection was opened.
    pub addresses: Option<Addresses>,
    /// The response's.
    pub content_type: Option<Box<[u8]>>,
}

/// How an exchange ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finish {
    /// The client has the whole response.
    Complete,
    /// The connection became a WebSocket, and the client has the head that says so.
    Switched,
    /// Nothing of a final response was written: the client must get a reply with the reason, and is then closed.
    Refused {
        /// What the reply says.
        reason: Reason,
        /// One line for the reply; contains nothing that either side sent. Empty if the reason says it all.
        detail: Cow<'static, str>,
    },
    /// Broken off. If `status` is `None` nothing was written, and the caller may still answer.
    Broken {
        /// Which side caused it.
        ending: Ending,
        /// If the target's response is the cause.
        reason: Option<Reason>,
    },
}

/// Why an exchange is broken off, because of the client or the clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The body does not match its framing.
    Malformed(BodyError),
    /// The client left, or is too slow.
    Ended(Ending),
    /// `upload_limit` or `upload_budget` is used up.
    Spent(Reason),
    /// Nothing moved, and the target was the one to act.
    UpstreamSilent,
}

impl Break {
    /// How the exchange ends. `answered`: a response head is on its way, and cannot be taken back.
    pub(super) fn finish(self, answered: bool) -> Finish {
        match (self, answered) {
            (Break::Ended(ending), _) => Finish::Broken { ending, reason: None },
            (Break::Malformed(error), false) => {
                Finish::Refused { reason: Reason::BadRequest, detail: error.to_string().into() }
            }
            (Break::Malformed(_), true) => {
                Finish::Broken { ending: Ending::ClientClosed, reason: Some(Reason::BadRequest) }
            }
            (Break::Spent(reason), false) => Finish::Refused { reason, detail: Cow::Borrowed("") },
            (Break::Spent(Reason::SharedStateUnavailable), true) => {
                Finish::Broken { ending: Ending::SharedStateUnavailable, reason: None }
            }
            (Break::Spent(_), true) => Finish::Broken { ending: Ending::UploadLimit, reason: None },
            (Break::UpstreamSilent, false) => Finish::Refused {
                reason: Reason::UpstreamTimeout,
                detail: "the target did not answer in time".into(),
            },
            (Break::UpstreamSilent, true) => {
                Finish::Broken { ending: Ending::IdleTimeout, reason: Some(Reason::UpstreamTimeout) }
            }
        }
    }
}
