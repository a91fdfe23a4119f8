//! What an inspected tunnel goes through after the `200`: the client's hello, TLS with the client under a leaf for that one name,
//! the first byte of its first request.
//!
//! The target's own TLS is open by then: a target that does not prove its name got its client a `502`, and no leaf. Nothing here is
//! relaxed by report mode but `ech: deny`: a name that differs, or a client that does not accept the leaf, cannot be served in any mode,
//! and an inspected tunnel never becomes an opaque one. Not here: the requests ([`super::requests`]).

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use crate::session::refuse;
use crate::session::request::{Opened, Request};
use crate::session::tunnel::gate::{ClientHelloGate, NotEntered};
use crate::session::tunnel::hello::{self, GateEnd};
use crate::telemetry::access_log::RecordPlace;
use crate::transport::client_stream::ClientStream;
use crate::transport::close;
use crate::transport::held::read::Buffered;
use crate::transport::held::{Kind, Lease};
use crate::transport::inner_stream::{InnerFault, InnerStream};
use crate::transport::relay;
use crate::transport::tls;
use crate::transport::tls::mint::{MintError, Minter};
use crate::words::outcome::{Ending, Reason};
use crate::words::target::Host;

/// A client that leaves so soon after the handshake, and asked for nothing, may not have accepted the certificate: some verify
/// after the handshake, and say nothing.
const SOON: std::time::Duration = std::time::Duration::from_secs(5);

/// A tunnel whose TLS is open, and whose first request has begun.
pub(super) struct Inside<'s> {
    pub(super) client: InnerStream,
    pub(super) opened: Opened<'s>,
    /// What was read of the first request.
    pub(super) buffer: Buffered,
}

impl ClientHelloGate<'_> {
    /// Opens the client's TLS. `None`: it was refused or it ended, is recorded, and the client is told. `account` is what the leaf is
    /// charged to.
    pub(super) async fn open_tls<'s>(
        &self,
        mut client: ClientStream,
        early: Buffered,
        mut request: Request<'s>,
        last: RecordPlace,
        (minter, account): (&Minter, IpAddr),
    ) -> Option<Inside<'s>> {
        request.inspected();
        let deadline = Instant::now() + self.hello_timeout;
        let hello = tokio::select! {
            biased;
            ending = self.cancel.cancelled() => Err(GateEnd::Ended(ending)),
            hello = hello::inspect_client(&mut client, early, &self.target.host, deadline) => hello,
        };
        let mut hello = match hello {
            Ok(hello) => hello,
            Err(GateEnd::Refused(refusal)) => {
                request.offered(refusal.offered.map(Arc::from));
                request.refuse(refusal.reason);
                refuse::in_tunnel(client, refusal.reason).await;
                return None;
            }
            Err(GateEnd::Ended(ending)) => {
                self.part(client, request, ending).await;
                return None;
            }
        };
        if let Some(sni) = &hello.sni {
            self.live.show_sni(Arc::clone(sni));
        }
        request.offered(hello.sni.clone());
        if let Err(reason) = hello::compare_ech(self.ech, hello.ech) {
            if !self.lets_pass(reason, None) {
                request.refuse(reason);
                refuse::in_tunnel(client, reason).await;
                return None;
            }
            request.would_deny(reason);
        }
        if !hello.http1 {
            request.refuse(Reason::Http1NotOffered);
            refuse::in_tunnel(client, Reason::Http1NotOffered).await;
            return None;
        }
        let holder = Arc::clone(hello.bytes.lease.holder());
        let lease = Lease::of(&holder, Kind::Tls, tls::STATE);
        let early = hello.bytes.take();
        let accepting = Box::pin(async {
            let leaf = match self.target.host.name() {
                Some(name) => minter.leaf(name, account).await,
                None => Err(MintError::NotPermitted),
            };
            match leaf {
                Ok(leaf) => {
                    self.shared.metrics.inspection.leaf(leaf.origin);
                    InnerStream::accept(client, early, leaf.config, lease).await
                }
                Err(error) => Err((InnerFault::Failed(error.to_string()), client)),
            }
        });
        let deadline = Instant::now() + self.hello_timeout;
        let accepted = tokio::select! {
            biased;
            ending = self.cancel.cancelled() => {
                let _recorded = self.ended(request, ending);
                return None;
            }
            accepted = timeout_at(deadline, self.shared.handshakes.take(holder.shares_with(), accepting)) => accepted,
        };
        match accepted {
            Ok(Ok(client)) => {
                self.first_request(client, Buffered::new(&holder, Kind::Head), request, last).await
            }
            Ok(Err((fault, client))) => {
                self.failed(request, fault);
                // Where an alert is due, it is written.
                close::linger(client).await;
                None
            }
            Err(_elapsed) => {
                self.failed(request, InnerFault::Failed("the TLS handshake did not end in time".to_owned()));
                None
            }
        }
    }

    /// Waits for the first byte of the first request. Until then the client may still say that it does not accept the leaf.
    async fn first_request<'s>(
        &self,
        mut client: InnerStream,
        mut buffer: Buffered,
        request: Request<'s>,
        last: RecordPlace,
    ) -> Option<Inside<'s>> {
        let begun = Instant::now();
        let idle = begun + self.shared.current.load().http.keepalive_timeout;
        let read = tokio::select! {
            biased;
            ending = self.cancel.cancelled() => Err(ending),
            read = timeout_at(idle, buffer.read_from(&mut client)) => Ok(read),
            // Nothing of a request is there to be waited for.
            () = self.shared.drain.closed_for(std::time::Duration::ZERO) => Err(Ending::Drained),
        };
        match read {
            Ok(Ok(Ok(1..))) => {
                let opened = request.open(last, Arc::clone(self.meter));
                return Some(Inside { client, opened, buffer });
            }
            Ok(Ok(Ok(0))) => self.left_soon(request, begun, None),
            Ok(Ok(Err(error))) => match InnerFault::of(&error) {
                fault @ InnerFault::Distrusted(_) => self.failed(request, fault),
                _ => self.left_soon(request, begun, Some(&error)),
            },
            // As a kept connection on which no further request comes.
            Ok(Err(_elapsed)) => {
                request.open(last, Arc::clone(self.meter)).close(Ending::IdleTimeout, None);
            }
            Err(ending) => {
                let _recorded = self.ended(request, ending);
                if matches!(ending, Ending::MemoryLimit) {
                    relay::part_client(client, ending);
                    return None;
                }
            }
        }
        close::linger(client).await;
        None
    }

    /// Ends what was ended from outside, or by the client, before its TLS was open.
    async fn part(&self, client: ClientStream, request: Request<'_>, ending: Ending) {
        match self.ended(request, ending) {
            NotEntered::Refused(reason) => refuse::in_tunnel(client, reason).await,
            NotEntered::Ended(ending) => relay::part_client(client, ending),
        }
    }

    /// Records why there is no TLS with the client, and tells the operator what would help.
    fn failed(&self, request: Request<'_>, fault: InnerFault) {
        let (id, from, host) = (request.id(), request.client().address.ip(), &self.target.host);
        match fault {
            InnerFault::Distrusted(alert) => {
                if self.shared.distrusts.is_new(from, host) {
                    tell_distrust(from, host, &format!("it sent the alert {alert}"));
                }
                request.refuse(Reason::InspectionDistrusted);
            }
            InnerFault::Left => {
                if self.shared.distrusts.is_new(from, host) {
                    tell_distrust(from, host, "it left in the handshake without a word");
                }
                request.gone();
            }
            InnerFault::Failed(why) => {
                tracing::info!(%id, "no TLS with {from} in its inspected tunnel to {host}: {why}");
                request.refuse(Reason::TlsHandshakeFailed);
            }
        }
    }

    /// The client left before it asked for anything.
    fn left_soon(&self, request: Request<'_>, since: Instant, error: Option<&std::io::Error>) {
        let (from, host) = (request.client().address.ip(), &self.target.host);
        let silent = error.is_none_or(|error| crate::transport::tls::sentences::inside(error).is_none());
        if silent && since.elapsed() < SOON && self.shared.distrusts.is_new(from, host) {
            tell_distrust(from, host, "it left right after the handshake");
        }
        request.gone();
    }
}

/// Once a day for each client and host.
fn tell_distrust(from: IpAddr, host: &Host, why: &str) {
    tracing::warn!(
        "{from} seems not to trust the inspection authority, whose certificate it was shown for {host}: {why}. Install the root \
         of `inspection.certificate` in that client (docs/inspection.md says where for each kind of client), or let the host \
         pass without `inspect` if the client accepts only the target's own certificate. This is told once a day for each \
         client and host"
    );
}
