//! A CONNECT to an address, in a policy that judges such by the name in the ClientHello (`addresses_by_sni`).
//!
//! The client gets its `200` before anything is decided, because it sends its hello only then. The name becomes the target, which is
//! decided, looked up, checked and dialled as if the client had named it; the address that it wrote is never dialled. So an address that
//! it makes up gains nothing. What fails from here on is an alert. An address that a rule or a `deny` names is decided by that, as in
//! any policy.
//!
//! The hello takes as long as its client likes, within its deadline: what is in force when it was read decides, and whether the name
//! does. In report mode a client that names nothing reaches the address that it wrote, as it would without the key.
//! The same name is the target of a client that does not know of the proxy ([`shown`]): it was never told anything.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::tell::tell;
use crate::rules::Mode;
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

/// What is decided in the place of the address.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) target: Target,
    /// Report mode lets it pass to the address, although the hello has no name, for this reason.
    pub(super) although: Option<Reason>,
}

impl From<Target> for Named {
    fn from(target: Target) -> Self {
        Named { target, although: None }
    }
}

/// Whether the name decides for this target.
pub(super) fn applies(target: &Target, request: &Request<'_>, snapshot: &Snapshot) -> bool {
    // A client that speaks to its target has sent its hello already.
    let is_told = matches!(request.answer(), Answer::Http | Answer::Socks5);
    is_told && mode(target, request, snapshot).is_some()
}

/// In which mode the name decides for this target, if it does.
fn mode(target: &Target, request: &Request<'_>, snapshot: &Snapshot) -> Option<Mode> {
    snapshot.config.policies.judges_by_name(target, request.client(), Timestamp::now())
}

/// Tells the client its `200`, and reads its ClientHello, which stays in `early`. The target is then of the name in it, if the
/// configuration that is in force by then says so too.
pub(super) async fn named(
    client: &mut ClientStream,
    early: &mut Buffered,
    target: Target,
    request: &mut Request<'_>,
    shared: &Shared,
) -> Result<Named, Unnamed> {
    let read = hello(client, early, request, shared).await;
    // A reload may have come while the client took its time.
    let Some(mode) = mode(&target, request, &shared.snapshot()) else {
        return match read {
            Err(Unnamed::Refused(refused, _)) if refused.reason.relaxed_by_report() => Ok(target.into()),
            Ok(_) => Ok(target.into()),
            Err(unnamed) => Err(unnamed),
        };
    };
    match read {
        Ok(name) => {
            if let Host::Address(address) = target.host {
                request.meant(SocketAddr::new(address, target.port.get()));
            }
            let target = Target { host: Host::Name(name), ..target };
            request.asks_for(&target);
            Ok(target.into())
        }
        Err(Unnamed::Refused(refused, offered))
            if mode == Mode::Report && refused.reason.relaxed_by_report() =>
        {
            request.offered(offered.map(Arc::from));
            Ok(Named { target, although: Some(refused.reason) })
        }
        Err(unnamed) => Err(unnamed),
    }
}

/// Tells the client its `200`, and reads the name that its ClientHello has.
async fn hello(
    client: &mut ClientStream,
    early: &mut Buffered,
    request: &mut Request<'_>,
    shared: &Shared,
) -> Result<Name, Unnamed> {
    let timeout = shared.current.load().tunnel.client_hello_timeout;
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
    Ok(name)
}

/// The target of a client that speaks TLS and does not know of the proxy: the name in its hello, at `port`. A hello without one is for
/// the address that was asked for, if a rule names that. Until the target has answered, the same hello is not taken again.
pub(crate) async fn shown<'s>(
    client: &mut ClientStream,
    early: &mut Buffered,
    (original, port): (Option<Target>, Port),
    request: &mut Request<'_>,
    (deadline, shared): (Instant, &'s Shared),
) -> Result<(Target, HelloUnderWay<'s>), Unnamed> {
    let (name, length) = name_in_hello(client, early, deadline, shared).await?;
    let hello = early.bytes.get(..length).unwrap_or_default();
    let under_way = shared.hellos.enter(hello).ok_or_else(comes_back)?;
    let target = match (name, original) {
        (Some(name), _) => Target { method: Method::Connect, host: Host::Name(name), port },
        (None, Some(original)) => {
            // A reload may have come while the client took its time.
            let snapshot = shared.snapshot();
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
