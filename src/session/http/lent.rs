//! What an exchange gets from the tunnel that it comes in.

use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, sleep_until};

use crate::outbound::route::Route;
use crate::session::decide::Decided;
use crate::state::live::{Generation, LiveTunnel};
use crate::transport::allowance::Allowance;
use crate::transport::target_stream::UpstreamStream;
use crate::words::outcome::Ending;
use crate::words::target::Target;

/// The tunnel that requests come in: what they have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within<'t> {
    /// The target of the CONNECT. Each request is decided as the CONNECT was, by what is in force now.
    pub(crate) target: &'t Target,
    /// The tunnel in the registry: what ends it ends the request that is under way.
    pub(crate) live: &'t LiveTunnel,
    /// When the tunnel ends at the latest.
    pub(crate) deadline: Option<Instant>,
}

/// What a request gets from its tunnel.
#[derive(Debug)]
pub(crate) struct Lent<'t> {
    pub(crate) within: Within<'t>,
    /// What the tunnel may still send.
    pub(crate) allowance: &'t mut Allowance,
    /// The connection that was dialled before the `200`, until the first request that goes on takes it.
    pub(crate) own: &'t mut Option<Own>,
}

/// A connection to the target for the first request in a tunnel that goes on.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) stream: UpstreamStream,
    /// Its other end.
    pub(crate) upstream: SocketAddr,
    /// The way that it was made.
    pub(crate) route: Arc<Route>,
    /// Whether its other end is a parent proxy.
    pub(crate) by_parent: bool,
    /// What it was made for.
    pub(crate) carries: Carries,
    /// The configuration that admitted its address: as for [`Kept`](crate::session::http::forward::Kept), it serves under no other.
    pub(crate) generation: Generation,
}

/// What a connection to a tunnel's target is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carries {
    /// Whatever the client sends.
    Anything,
    /// Plain requests and nothing else: to a parent, that is another connection.
    Requests,
    /// Requests inside TLS, which is open.
    Tls,
}

impl Own {
    pub(super) fn may_serve(&self, decided: &Decided, route: &Arc<Route>) -> bool {
        let fits = !self.by_parent || self.carries != Carries::Anything;
        fits && self.generation == decided.snapshot.generation && Arc::ptr_eq(&self.route, route)
    }

    /// Whether the target has not ended it since: it may have waited long for the first request. Of a connection whose bytes are
    /// not read here, that shows when it is used.
    pub(super) async fn is_open(&mut self) -> bool {
        if self.carries != Carries::Tls {
            return true;
        }
        // A target that speaks before it is asked is not waited for either.
        let mut byte = [0];
        poll_fn(|cx| {
            Poll::Ready(Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_pending())
        })
        .await
    }

    /// Whether it leads to the target whatever is sent over it.
    pub(crate) fn carries_anything(&self) -> bool {
        match self.carries {
            Carries::Anything => true,
            Carries::Requests => !self.by_parent,
            Carries::Tls => false,
        }
    }
}

impl Within<'_> {
    /// Whether egressd opened the TLS of the tunnel.
    pub(crate) fn is_inspected(&self) -> bool {
        self.live.tunnel().facts.inspected
    }

    /// Waits for the end of the tunnel.
    pub(crate) async fn ended(&self) -> Ending {
        let too_old = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            ending = self.live.cancel().cancelled() => ending,
            () = too_old => Ending::MaxLifetime,
        }
    }
}
