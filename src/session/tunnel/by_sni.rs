//! A CONNECT to an address, in a policy that judges such by the name in the ClientHello (`addresses_by_sni`).
//!
//! The client gets its `200` before anything is decided, because it sends its hello only then. The name becomes the target, which is
//! decided, looked up, checked and dialled as if the client had named it; the address that it wrote is never dialled. So an address that
//! it makes up gains nothing. What fails from here on is an alert. An address that a rule or a `deny` names is decided by that, as in
//! any policy.
//!
//! The same name is the target of a client that does not know of the proxy ([`shown`]): it was never told anything.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::tell::tell;
use crate::session::admit;
use crate::session::refuse::{Refused, reply, socks};
use crate::session::request::{Answer, Request};
use crate::state::hellos::HelloUnderWay;
use crate::state::shared::{Shared, Snapshot};
use crate::transport::client_stream::ClientStream;
use crate::transport::held::Kind;
use crate::transport::held::read::Buffered;
use crate::wire::client_hello::{ClientHelloReader, Progress};
use crate::words::outcome::Reason;
use crate::words::target::{Host, Method, Name, Port, Target};

/// Why there is no name.
pub(crate) enum Unnamed {
    /// The client is told so after its `200`. With the name in its hello, if it has one that is none.
    Refused(Refused, Option<Box<str>>),
    /// It left.
    Gone,
}

impl From<Reason> for Unnamed {
    fn from(reason: Reason) -> Self {
        Unnamed::Refused(reason.into(), None)
    }
}

/// Whether the name decides for this target: an address that no rule names.
pub(super) fn applies(target: &Target, request: &Request<'_>, snapshot: &Snapshot) -> bool {
    // A client that speaks to its target has sent its hello already.
    if !matches!((&target.host, request.answer()), (Host::Address(_), Answer::Http | Answer::Socks5)) {
        return false;
    }
    let policies = &snapshot.config.policies;
    if !policies.of_client(request.client()).is_some_and(|policy| policy.addresses_by_sni()) {
        return false;
    }
    let reason = match policies.decide(target, request.client(), Timestamp::now()) {
        Ok(permit) => permit.reason,
        Err(denial) => Some(denial.reason),
    };
    reason == Some(Reason::HostNotAllowed)
}

/// Tells the client its `200`, and reads the name that its ClientHello has; the hello stays in `early`. The target is then of that name.
pub(super) async fn named(
    client: &mut ClientStream,
    early: &mut Buffered,
    target: Target,
    request: &mut Request<'_>,
    snapshot: &Snapshot,
    shared: &Shared,
) -> Result<Target, Unnamed> {
    let timeout = snapshot.config.tunnel.client_hello_timeout;
    let reply = match request.answer() {
        Answer::Http => reply::established(request.id()),
        Answer::Socks5 => socks::granted(),
        Answer::Alert | Answer::Nothing => Vec::new(),
    };
    let holder = Arc::clone(early.lease.holder());
    if !tell(client, &reply, timeout, holder.cancel()).await {
        return Err(Unnamed::Gone);
    }
    request.told(reply.len());
    shared.metrics.setup(request.started().elapsed());
    let (Some(name), _) = name_in_hello(client, early, Instant::now() + timeout, shared).await? else {
        return Err(Reason::NoSni.into());
    };
    if let Host::Address(address) = target.host {
        request.meant(SocketAddr::new(address, target.port.get()));
    }
    let target = Target { host: Host::Name(name), ..target };
    request.asks_for(&target);
    Ok(target)
}

/// The target of a client that speaks TLS and does not know of the proxy: the name in its hello, at `port`. A hello without one is for
/// the address that was asked for, if a rule names that. Until the target has answered, the same hello is not taken again.
pub(crate) async fn shown<'s>(
    client: &mut ClientStream,
    early: &mut Buffered,
    (original, port): (Option<Target>, Port),
    request: &mut Request<'_>,
    snapshot: &Snapshot,
    (deadline, shared): (Instant, &'s Shared),
) -> Result<(Target, HelloUnderWay<'s>), Unnamed> {
    let (name, length) = name_in_hello(client, early, deadline, shared).await?;
    let hello = early.bytes.get(..length).unwrap_or_default();
    let under_way = shared.hellos.enter(hello).ok_or_else(comes_back)?;
    let target = match (name, original) {
        (Some(name), _) => Target { method: Method::Connect, host: Host::Name(name), port },
        (None, Some(original)) => {
            return match snapshot.config.policies.decide(&original, request.client(), Timestamp::now()) {
                Err(denial) if denial.reason == Reason::HostNotAllowed => Err(Reason::NoSni.into()),
                _ => Ok((original, under_way)),
            };
        }
        (None, None) => return Err(Reason::NoSni.into()),
    };
    // What the record of a refusal shows.
    request.offered(target.host.name().map(Name::shared));
    request.asks_for(&target);
    Ok((target, under_way))
}

fn comes_back() -> Unnamed {
    let why = "this hello is on its way to its target already: DNS leads egressd's own connections back to it, perhaps by a load balancer";
    Unnamed::Refused(Refused::new(Reason::Loop, why), None)
}

/// The name in the client's hello, which stays in `early`, and the length of that.
async fn name_in_hello(
    client: &mut ClientStream,
    early: &mut Buffered,
    deadline: Instant,
    shared: &Shared,
) -> Result<(Option<Name>, usize), Unnamed> {
    let holder = Arc::clone(early.lease.holder());
    let mut reader = ClientHelloReader::new();
    early.lease.becomes(Kind::Hello);
    loop {
        match reader.read(&early.bytes) {
            Progress::NeedMore => {}
            Progress::Refuse(why) => return Err(Unnamed::Refused(why.reason.into(), why.offered)),
            Progress::Hello(hello) => return Ok((hello.sni, hello.length)),
        }
        let read = tokio::select! {
            biased;
            read = timeout_at(deadline, early.read_from(client)) => read,
            () = shared.drain.ended() => return Err(Reason::Draining.into()),
            () = holder.given_up() => return Err(Unnamed::Refused(admit::short_of_memory(), None)),
        };
        match read {
            Err(_elapsed) => return Err(Reason::ClientHelloTimeout.into()),
            Ok(Ok(0)) if early.bytes.is_empty() => return Err(Unnamed::Gone),
            Ok(Ok(0)) => return Err(Reason::ClientHelloMalformed.into()),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(Unnamed::Gone),
        }
    }
}
