//! A listener that does not speak HTTP alone: which protocol a client speaks, by its first byte.
//!
//! Only connections of such listeners come here. SOCKS begins with its version, 4 or 5, and no request of HTTP begins with either.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::{Instant, timeout_at};

use crate::config::Protocols;
use crate::inbound::enter::UNDER_WAY;
use crate::inbound::http1::Begun;
use crate::inbound::place::Standing;
use crate::inbound::{http1, socks5};
use crate::session::tunnel::Established;
use crate::state::listener::Listener;
use crate::state::proof::Proof;
use crate::state::shared::Shared;
use crate::telemetry::metrics::ConnectionResult;
use crate::transport::client_stream::ClientStream;
use crate::transport::held::Lease;
use crate::transport::held::read::read;
use crate::wire::socks5::{VERSION, VERSION_4};
use crate::words::client::Client;

/// Serves one connection by the protocol that its client speaks, until it ends or becomes a tunnel.
pub(crate) async fn serve<'s>(
    mut stream: ClientStream,
    mut early: BytesMut,
    mut lease: Lease,
    (client, proof, standing): (Client, Arc<Proof>, Standing),
    protocols: Protocols,
    listener: &'s Arc<Listener>,
    shared: &'s Arc<Shared>,
) -> Option<Established<'s>> {
    let timeout = standing.within(shared.current.load().limits.head_timeout);
    let deadline = Instant::now() + timeout;
    let holder = Arc::clone(lease.holder());
    if early.is_empty() {
        holder.waits();
        let begun = tokio::select! {
            biased;
            begun = timeout_at(deadline, read(&mut stream, &mut early, &mut lease)) => matches!(begun, Ok(Ok(1..))),
            () = holder.given_up() => false,
            () = shared.drain.closed_for(UNDER_WAY) => false,
        };
        if !begun {
            let is_ended = holder.cancel().ending().is_some();
            let result = if is_ended { ConnectionResult::Limit } else { ConnectionResult::Probe };
            listener.connections.count(result);
            return None;
        }
    }
    let is_socks = matches!(early.first(), Some(&(VERSION | VERSION_4)));
    if is_socks || !protocols.http {
        return Box::pin(socks5::serve(stream, early, lease, (client, proof), deadline, listener, shared))
            .await;
    }
    let who = (client, proof, standing);
    let begun = Begun { deadline: Some(deadline), ..Begun::default() };
    Box::pin(http1::serve(stream, early, lease, who, begun, listener, shared)).await
}
