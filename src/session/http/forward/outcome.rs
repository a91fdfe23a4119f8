//! How an exchange ends: for the reply, the record, and the client's connection.

use std::borrow::Cow;

use super::terms::Addresses;
use crate::wire::head::BodyError;
use crate::words::outcome::{Ending, Reason};

/// How the exchange ended, for the reply and the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The status that the client was sent; `None`: no response head has been begun.
    pub status: Option<u16>,
    /// How it ended.
    pub finish: Finish,
    /// Whether the next head may be read from the client; else the connection is to be closed.
    pub keep_alive: bool,
    /// `None` where no connection was opened.
    pub addresses: Option<Addresses>,
    /// The response's.
    pub content_type: Option<Box<[u8]>>,
}

/// How an exchange ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finish {
    /// The client has the whole response.
    Complete,
    /// Nothing of a final response was written: the client is to be answered with the reason, and closed.
    Refused {
        /// What the reply says.
        reason: Reason,
        /// One line for the reply; holds nothing that either side sent. Empty where the reason says it all.
        detail: Cow<'static, str>,
    },
    /// Broken off. If `status` is `None` nothing was written, and the caller may still answer.
    Broken {
        /// Whose doing.
        ending: Ending,
        /// Where the target's response is to blame.
        reason: Option<Reason>,
    },
}

/// Why an exchange is broken off, seen from the client's side or the clock's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The body is not what its framing says.
    Malformed(BodyError),
    /// The client left, or is too slow.
    Ended(Ending),
    /// `upload_limit` or `upload_budget` is used up.
    Spent(Reason),
    /// Nothing moved, and the target is who was waited for.
    UpstreamSilent,
}

impl From<Break> for Finish {
    fn from(end: Break) -> Self {
        match end {
            Break::Malformed(error) => {
                Finish::Refused { reason: Reason::BadRequest, detail: error.to_string().into() }
            }
            Break::Ended(ending) => Finish::Broken { ending, reason: None },
            Break::Spent(reason) => Finish::Refused { reason, detail: Cow::Borrowed("") },
            Break::UpstreamSilent => Finish::Refused {
                reason: Reason::UpstreamTimeout,
                detail: "the target did not answer in time".into(),
            },
        }
    }
}
