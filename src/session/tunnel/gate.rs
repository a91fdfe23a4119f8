//! The checks of an `https` tunnel after the `200`, in order: the client's hello ([`hello`]), the target's certificate
//! where a rule wants it, the target's answer. (What the first byte of a tunnel of plain requests must be:
//! [`requests`](super::requests).)
//!
//! The verdicts come from [`hello`] and [`crate::outbound::certificate`]; this file has their order, what report mode
//! changes, and how each is recorded.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use crate::outbound::route::Route;
use crate::rules::Ech;
use crate::rules::address::Admitted;
use crate::session::decide::{self, Wanted};
use crate::session::refuse;
use crate::session::request::{Opened, Request};
use crate::session::tunnel::hello::{self, Gate, GateEnd, GateRefusal, MAX_HELD};
use crate::state::live::{LiveTunnel, rejudge};
use crate::state::shared::Shared;
use crate::telemetry::access_log::RecordPlace;
use crate::transport::cancel::Cancel;
use crate::transport::client_stream::ClientStream;
use crate::transport::held::read::Buffered;
use crate::transport::held::{Kind, Lease};
use crate::transport::meter::Meter;
use crate::transport::relay::{Early, RelayLimits, ending_of};
use crate::transport::stream::Transport;
use crate::transport::target_stream::UpstreamStream;
use crate::words::outcome::{Ending, Reason};
use crate::words::target::Target;

/// What a handshake with the target takes that verifies its certificate: buffers, the chain, hashes.
pub(super) const HANDSHAKE: usize = 32 * 1024;

/// Why no bytes flow; already recorded.
pub(super) enum NotEntered {
    /// The client gets an alert or a close.
    Refused(Reason),
    /// A side is gone, or the tunnel was ended from outside.
    Ended(Ending),
}

/// How the target has to prove its name.
pub(super) struct Verification<'a> {
    pub(super) route: &'a Arc<Route>,
    /// The dialled address.
    pub(super) address: Admitted,
    /// The account that the handshake is charged to.
    pub(super) client: IpAddr,
    pub(super) timeout: Duration,
}

/// The gate of one tunnel.
pub(super) struct ClientHelloGate<'a> {
    pub(super) target: &'a Target,
    /// None: the rule does not require it.
    pub(super) verification: Option<Verification<'a>>,
    /// Whether a hello with encrypted_client_hello passes.
    pub(super) ech: Ech,
    /// Whether bytes flow even if the hello's verdict is a refusal.
    pub(super) report: bool,
    pub(super) hello_timeout: Duration,
    pub(super) live: &'a LiveTunnel,
    pub(super) meter: &'a Arc<Meter>,
    pub(super) cancel: &'a Cancel,
    pub(super) shared: &'a Shared,
}

/// Waits until the client leaves, and keeps what it sends meanwhile. A client that closes its side after its hello has
/// left, too: it could not finish the handshake.
async fn left(client: &mut impl Transport, held: &mut Buffered) -> Ending {
    while held.bytes.len() < MAX_HELD {
        match held.read_from(client).await {
            Ok(0) => return Ending::ClientClosed,
            Ok(_) => {}
            Err(error) => return ending_of(true, &error),
        }
    }
    hello::held_back(client.socket(), held.lease.holder()).await
}

impl ClientHelloGate<'_> {
    /// Lets the TLS handshake begin if it names the target. The returned bytes go first into the relay.
    pub(super) async fn pass<'s>(
        &self,
        client: &mut ClientStream,
        upstream: &mut UpstreamStream,
        early: Buffered,
        mut request: Request<'s>,
        last: RecordPlace,
        limits: &mut RelayLimits,
    ) -> Result<(Opened<'s>, Early), NotEntered> {
        let deadline = Instant::now() + self.hello_timeout;
        let inspected = tokio::select! {
            biased;
            ending = self.cancel.cancelled() => Err(GateEnd::Ended(ending)),
            inspected = hello::inspect_client(client, early, &self.target.host, deadline) => inspected,
        };
        let mut hello = match inspected {
            Ok(hello) => hello,
            Err(GateEnd::Refused(GateRefusal { reason, offered, early })) => {
                if self.lets_pass(reason, offered.as_deref()) {
                    // Whatever it is, it is not TLS for the target: there is nothing that the target could prove.
                    request.offered(offered.map(Arc::from));
                    request.would_deny(reason);
                    return Ok((request.open(last, Arc::clone(self.meter)), early));
                }
                request.offered(offered.map(Arc::from));
                request.refuse(reason);
                return Err(NotEntered::Refused(reason));
            }
            Err(GateEnd::Ended(ending)) => return Err(self.ended(request, ending)),
        };
        if let Some(sni) = &hello.sni {
            self.live.show_sni(Arc::clone(sni));
        }
        request.offered(hello.sni.clone());
        let mut ech = self.ech;
        if let Err(reason) = hello::compare_ech(ech, hello.ech) {
            if !self.lets_pass(reason, None) {
                request.refuse(reason);
                return Err(NotEntered::Refused(reason));
            }
            // It is TLS for the target otherwise, so the other checks go on; the second hello has it too.
            request.would_deny(reason);
            ech = Ech::Allow;
        }
        let of_handshake =
            self.verification.is_some().then(|| Lease::of(hello.bytes.lease.holder(), Kind::Tls, HANDSHAKE));
        let verified = self.verify(client, &mut hello.bytes, request.id()).await;
        drop(of_handshake);
        match verified {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => {
                request.refuse(reason);
                return Err(NotEntered::Refused(reason));
            }
            Err(ending) => return Err(self.ended(request, ending)),
        }
        let mut opened = request.open(last, Arc::clone(self.meter));
        let gate = Gate {
            host: &self.target.host,
            ech,
            hello_timeout: self.hello_timeout,
            meter: self.meter,
            cancel: self.cancel,
        };
        match hello::pass_hello(client, upstream, hello, &gate, limits).await {
            Ok(early) => Ok((opened, early)),
            Err(GateEnd::Refused(GateRefusal { reason, offered, early })) => {
                if self.lets_pass(reason, offered.as_deref()) {
                    opened.would_deny(reason);
                    return Ok((opened, early));
                }
                opened.refuse(reason, offered);
                Err(NotEntered::Refused(reason))
            }
            Err(GateEnd::Ended(ending)) => {
                opened.close(ending, self.live.tunnel().revoked());
                Err(NotEntered::Ended(ending))
            }
        }
    }

    /// Makes the target prove its name, if the rule requires it, in every mode. `Err`: ended from outside meanwhile, or the
    /// client left. What the client sends meanwhile is added to `held`.
    async fn verify(
        &self,
        client: &mut ClientStream,
        held: &mut Buffered,
        id: Uuid,
    ) -> Result<Result<(), Reason>, Ending> {
        let Some(Verification { route, address, client: account, timeout }) = &self.verification else {
            return Ok(Ok(()));
        };
        let verified = tokio::select! {
            biased;
            ending = self.cancel.cancelled() => return Err(ending),
            verified = Box::pin(route.verify(self.target, *address, *account, *timeout)) => verified,
            ending = left(client, held) => return Err(ending),
        };
        Ok(verified.map_err(|unverified| {
            // Names addresses: for the operator, never for the client.
            let (reason, detail) = (unverified.reason, unverified.detail);
            tracing::info!(%id, "{reason}: {} at {}: {detail}", self.target, address.ip());
            reason
        }))
    }

    /// Whether bytes flow although the gate refuses. The mode of the policy that decided applies. If a newer policy is
    /// in force, its sweep has not seen what was just shown, and may have had to revoke the tunnel for it: then the
    /// tunnel begins and ends at once.
    pub(super) fn lets_pass(&self, reason: Reason, offered: Option<&str>) -> bool {
        if !self.report || !reason.relaxed_by_report() {
            return false;
        }
        if let Some(name) = offered {
            self.live.show_sni(name.into());
        }
        self.live.object(reason);
        let tunnel = self.live.tunnel();
        if let Err(objection) = rejudge::still_allowed(tunnel, &self.shared.current.load(), Timestamp::now())
        {
            tunnel.revoke(&objection);
        }
        true
    }

    /// It ended before its first byte.
    pub(super) fn ended(&self, request: Request<'_>, ending: Ending) -> NotEntered {
        if matches!(ending, Ending::PolicyRevoked | Ending::IdentityRevoked) {
            return NotEntered::Refused(self.refuse_revoked(request));
        }
        match ending {
            Ending::MemoryLimit => refuse::unanswered(request, Reason::LimitReached),
            _ => request.ended(ending),
        }
        NotEntered::Ended(ending)
    }

    /// It was revoked before its first byte: nothing was opened, so the configuration in force now refuses it.
    fn refuse_revoked(&self, mut request: Request<'_>) -> Reason {
        let wanted = Wanted { target: self.target, http: None };
        let revoked = self.live.tunnel().revoked();
        let refused = decide::refuse_revoked(wanted, &mut request, revoked, self.shared);
        request.refuse(refused.reason);
        refused.reason
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::hello::held_back_tests::connected;
    use super::*;
    use crate::transport::held::HeldBytes;

    #[tokio::test]
    async fn t71_a_client_that_is_held_back_is_counted_and_its_end_is_noticed() {
        for reset in [false, true] {
            let budget = HeldBytes::unlimited();
            let (mut near, mut far) = connected();
            let mut held = Buffered::new(&budget.enter(), Kind::Hello);
            let leaving = async {
                far.write_all(&vec![0; 2 * MAX_HELD]).await.expect("the kernel takes it");
                while budget.of(Kind::Socket) < MAX_HELD {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if reset {
                    far.set_zero_linger().expect("a socket");
                }
                drop(far);
            };
            let both = async { tokio::join!(left(&mut near, &mut held), leaving).0 };
            let ending = tokio::time::timeout(Duration::from_secs(10), both).await;
            let expected = if reset { Ending::ClientReset } else { Ending::ClientClosed };
            assert_eq!(ending.expect("it is noticed"), expected);
            assert_eq!(budget.of(Kind::Socket), 0);
        }
    }
}
