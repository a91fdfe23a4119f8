//! The first bytes of a tunnel that an `http` rule carries: whether plain requests follow.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::{Instant, timeout_at};

use crate::session::request::{Opened, Request};
use crate::session::tunnel::gate::{ClientHelloGate, NotEntered};
use crate::session::tunnel::hello::{self, GateEnd};
use crate::telemetry::access_log::RecordPlace;
use crate::transport::held::read::Buffered;
use crate::transport::relay::{Early, ending_of};
use crate::transport::stream::Transport;
use crate::wire::head::TLS_HANDSHAKE;
use crate::words::outcome::{Ending, Reason};

/// What the first byte says.
pub(in crate::session::tunnel) enum Begins<'s> {
    /// Plain requests, of which `buffer` was read.
    Requests { opened: Opened<'s>, buffer: Buffered },
    /// Something else, which report mode lets pass.
    Anything { opened: Opened<'s>, early: Early },
}

impl ClientHelloGate<'_> {
    /// Waits for the first byte of the tunnel. It is not TLS where plain requests are allowed: then the client would not
    /// understand why its requests are refused.
    pub(in crate::session::tunnel) async fn pass_requests<'s, S: Transport>(
        &self,
        client: &mut S,
        mut early: Buffered,
        mut request: Request<'s>,
        last: RecordPlace,
    ) -> Result<Begins<'s>, NotEntered> {
        let deadline = Instant::now() + self.shared.current.load().limits.head_timeout;
        if early.bytes.is_empty() {
            let read = tokio::select! {
                biased;
                ending = self.cancel.cancelled() => return Err(self.ended(request, ending)),
                read = timeout_at(deadline, early.read_from(client)) => read,
            };
            match read {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) => return Err(self.ended(request, Ending::ClientClosed)),
                Ok(Err(error)) => return Err(self.ended(request, ending_of(true, &error))),
                Err(_elapsed) => {
                    // It may wait for a server that speaks first: an answer in HTTP would only confuse it.
                    request.refuse(Reason::HeadTimeout);
                    return Err(NotEntered::Ended(Ending::IdleTimeout));
                }
            }
        }
        if early.bytes.first() != Some(&TLS_HANDSHAKE) {
            let opened = request.open(last, Arc::clone(self.meter));
            return Ok(Begins::Requests { opened, buffer: early });
        }
        // The name in the hello is for the record: it shows that an `https` rule would do.
        let inspected = tokio::select! {
            biased;
            ending = self.cancel.cancelled() => Err(GateEnd::Ended(ending)),
            inspected = hello::inspect_client(client, early, &self.target.host, deadline) => inspected,
        };
        let (offered, early) = match inspected {
            Ok(mut hello) => {
                (hello.sni, Early { to_upstream: hello.bytes.take(), to_client: BytesMut::new() })
            }
            Err(GateEnd::Refused(refusal)) => (refusal.offered.map(Arc::from), refusal.early),
            Err(GateEnd::Ended(ending)) => return Err(self.ended(request, ending)),
        };
        let reason = Reason::SchemeNotAllowed;
        let passes = self.lets_pass(reason, offered.as_deref());
        request.offered(offered);
        if !passes {
            request.refuse(reason);
            return Err(NotEntered::Refused(reason));
        }
        request.would_deny(reason);
        Ok(Begins::Anything { opened: request.open(last, Arc::clone(self.meter)), early })
    }
}
