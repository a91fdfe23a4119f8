//! What the resolver is asked for, and its answer.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_resolver::proto::rr::RecordType;

use crate::words::outcome::Reason;

/// The family of addresses asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// A records.
    V4 = 0,
    /// AAAA records.
    V6 = 1,
}

impl Family {
    /// Whether `address` is of this family.
    pub fn has(self, address: &IpAddr) -> bool {
        match self {
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }

    pub(super) fn record_type(self) -> RecordType {
        match self {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        }
    }
}

/// Why there is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct LookupError {
    /// `dns_no_such_name`, `dns_no_address` (of this family), `dns_failed`, `dns_timeout`; `local_resources` where no
    /// socket could be opened.
    pub reason: Reason,
    /// For the log on stderr and `explain`. It names servers, so it never goes to the client.
    pub detail: Arc<str>,
    why: NoAnswer,
}

/// How a lookup failed. Of the failures of both families the smaller one is reported: that a name does not exist is true for
/// both; that it has no address of one family means little while the answer for the other is missing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum NoAnswer {
    NoSuchName,
    Resources,
    Timeout,
    Failed,
    NoAddress,
}

impl NoAnswer {
    fn reason(self) -> Reason {
        match self {
            NoAnswer::NoSuchName => Reason::DnsNoSuchName,
            NoAnswer::Resources => Reason::LocalResources,
            NoAnswer::Timeout => Reason::DnsTimeout,
            NoAnswer::Failed => Reason::DnsFailed,
            NoAnswer::NoAddress => Reason::DnsNoAddress,
        }
    }
}

impl LookupError {
    /// The other family has an address, or may have one.
    pub(crate) fn other_family() -> Self {
        LookupError::new(NoAnswer::NoAddress, "the address is of the other family")
    }

    /// The caller's deadline is over; `servers` were asked.
    pub(crate) fn timed_out(servers: &str) -> Self {
        LookupError::new(NoAnswer::Timeout, &format!("no answer from {servers} in time"))
    }

    /// Of the errors of both families, the one to report.
    pub(crate) fn more_telling(self, other: Self) -> Self {
        if other.why < self.why { other } else { self }
    }

    pub(crate) fn new(why: NoAnswer, detail: &str) -> Self {
        LookupError { reason: why.reason(), detail: Arc::from(detail), why }
    }
}

/// At least one address of the family asked for, in the order of the answer; or why there is none.
pub type Answer = Result<Arc<[IpAddr]>, LookupError>;

/// The resolver cannot be built.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the resolver cannot be set up: {0}")]
pub struct ResolverError(pub(super) String);
