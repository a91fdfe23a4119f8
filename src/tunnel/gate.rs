//! What an `https` tunnel has to pass after the `200`: the client's hello, the target's proof, the target's answer.
//!
//! The verdicts are `hello_gate`'s and `verify`'s; here is their order, what report mode makes of them, and how each is
//! recorded.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;
use uuid::Uuid;

use crate::cancel::Cancel;
use crate::hello_gate::{self, Gate, GateEnd, GateRefusal};
use crate::live::LiveTunnel;
use crate::meter::Meter;
use crate::outcome::{Ending, Reason};
use crate::policy::address::Admitted;
use crate::relay::{Early, RelayLimits};
use crate::request::{Opened, Request};
use crate::route::Route;
use crate::stream::ClientStream;
use crate::target::Target;
use crate::telemetry::access_log::Place;
use crate::upstream::UpstreamStream;

/// Why nothing flows; already recorded.
pub(super) enum NotEntered {
    /// The client is to be told.
    Refused(Reason),
    /// A side is gone, or it was ended from outside.
    Ended(Ending),
}

/// What the target has to prove before the client's hello goes to it.
pub(super) struct Proof<'a> {
    pub(super) route: &'a Route,
    /// What was dialled.
    pub(super) address: Admitted,
    pub(super) timeout: Duration,
}

/// The gate of one tunnel.
pub(super) struct ClientHelloGate<'a> {
    pub(super) target: &'a Target,
    /// None: nothing.
    pub(super) proof: Option<Proof<'a>>,
    /// Whether what the hello's verdict refuses flows all the same.
    pub(super) report: bool,
    pub(super) hello_timeout: Duration,
    pub(super) live: &'a LiveTunnel,
    pub(super) meter: &'a Arc<Meter>,
    pub(super) cancel: &'a Cancel,
}

impl ClientHelloGate<'_> {
    /// Lets the TLS handshake begin where it names the target. What comes back goes first into the relay.
    pub(super) async fn pass<'s>(
        &self,
        client: &mut ClientStream,
        upstream: &mut UpstreamStream,
        early: BytesMut,
        mut request: Request<'s>,
        last: Place,
        limits: &mut RelayLimits,
    ) -> Result<(Opened<'s>, Early), NotEntered> {
        let deadline = Instant::now() + self.hello_timeout;
        let inspected = tokio::select! {
            biased;
            ending = self.cancel.cancelled() => Err(GateEnd::Ended(ending)),
            inspected = hello_gate::inspect_client(client, early, &self.target.host, deadline) => inspected,
        };
        let hello = match inspected {
            Ok(hello) => hello,
            Err(GateEnd::Refused(GateRefusal { reason, offered, early })) => {
                request.offered(offered);
                if self.report && reason.relaxed_by_report() {
                    // Whatever it is, it is no TLS for the target: there is nothing that the target could prove.
                    request.would_deny(reason);
                    return Ok((request.open(last, Arc::clone(self.meter)), early));
                }
                return Err(refused(request, reason));
            }
            Err(GateEnd::Ended(ending)) => return Err(ended(request, ending)),
        };
        if let Some(sni) = &hello.sni {
            self.live.show_sni(sni);
        }
        request.offered(hello.sni.clone());
        match self.prove(request.id()).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(refused(request, reason)),
            Err(ending) => return Err(ended(request, ending)),
        }
        let mut opened = request.open(last, Arc::clone(self.meter));
        let gate = Gate {
            host: &self.target.host,
            hello_timeout: self.hello_timeout,
            meter: self.meter,
            cancel: self.cancel,
        };
        match hello_gate::pass_hello(client, upstream, hello, &gate, limits).await {
            Ok(early) => Ok((opened, early)),
            Err(GateEnd::Refused(GateRefusal { reason, offered, early })) => {
                if self.report && reason.relaxed_by_report() {
                    opened.would_deny(reason);
                    return Ok((opened, early));
                }
                opened.refuse(reason, offered);
                Err(NotEntered::Refused(reason))
            }
            Err(GateEnd::Ended(ending)) => {
                opened.decided();
                opened.close(ending);
                Err(NotEntered::Ended(ending))
            }
        }
    }

    /// Has the target prove that it is the target, where the rule wants that, in every mode. `Err`: ended from outside
    /// meanwhile.
    async fn prove(&self, id: Uuid) -> Result<Result<(), Reason>, Ending> {
        let Some(Proof { route, address, timeout }) = &self.proof else { return Ok(Ok(())) };
        let proven = tokio::select! {
            biased;
            ending = self.cancel.cancelled() => return Err(ending),
            proven = Box::pin(route.verify(self.target, *address, *timeout)) => proven,
        };
        Ok(proven.map_err(|unproven| {
            // Names addresses: for the operator, never for the client.
            tracing::info!(%id, "{}: {} at {}: {}", unproven.reason, self.target, address.ip(), unproven.detail);
            unproven.reason
        }))
    }
}

fn refused(request: Request<'_>, reason: Reason) -> NotEntered {
    request.refuse(reason);
    NotEntered::Refused(reason)
}

fn ended(request: Request<'_>, ending: Ending) -> NotEntered {
    request.ended(ending);
    NotEntered::Ended(ending)
}
