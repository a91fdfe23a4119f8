//! What a record says happened ([`Event`]), and its cause: a [`Reason`], or that the client left ([`Cause`]).

use crate::words::outcome::Reason;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A tunnel, or a plain request with a body, is about to pass its first byte.
    Open,
    /// A tunnel still lives.
    Progress,
    /// A tunnel ended.
    Close,
    /// A plain HTTP exchange ended.
    Http,
    /// A request inside a tunnel ended.
    Request,
    /// Refused by policy, form or identity.
    Deny,
    /// Failed for another reason, or the client left before a verdict.
    Error,
}

impl Event {
    /// Every one of them.
    pub const ALL: &'static [Event] =
        &[Event::Open, Event::Progress, Event::Close, Event::Http, Event::Request, Event::Deny, Event::Error];

    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Open => "open",
            Event::Progress => "progress",
            Event::Close => "close",
            Event::Http => "http",
            Event::Request => "request",
            Event::Deny => "deny",
            Event::Error => "error",
        }
    }

    /// The event of a request that ended without a tunnel or an exchange.
    pub fn of(cause: Cause) -> Self {
        match cause {
            Cause::Refused(reason) if reason.is_denial() => Event::Deny,
            Cause::Refused(_) | Cause::ClientGone => Event::Error,
        }
    }
}

/// Why a request was not served: egressd refused it, or the client was gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// egressd refused it.
    Refused(Reason),
    /// The client left before a verdict.
    ClientGone,
}

impl Cause {
    /// The word in the log and the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Refused(reason) => reason.as_str(),
            Cause::ClientGone => "client_gone",
        }
    }

    /// The cause with this word; `None` if there is none.
    pub fn from_word(word: &str) -> Option<Self> {
        match Reason::from_word(word) {
            Some(reason) => Some(Cause::Refused(reason)),
            None => (word == Cause::ClientGone.as_str()).then_some(Cause::ClientGone),
        }
    }
}

impl From<Reason> for Cause {
    fn from(reason: Reason) -> Self {
        Cause::Refused(reason)
    }
}
