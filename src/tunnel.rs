//! One CONNECT: everything up to the `200`, then everything after it.
//!
//! [`open`] decides, looks up, checks, dials and registers; only then is the client told `200`. [`run`] reads the
//! ClientHello where the rule wants one, and relays. Each step consumes what the step before made.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::cancel::Cancel;
use crate::config;
use crate::dial::{self, DialLimits};
use crate::limits::Slot;
use crate::live::{LiveTunnel, Registration, TunnelFacts};
use crate::meter::Meter;
use crate::outcome::Reason;
use crate::policy::{Mode, Permit, Scheme};
use crate::proxy::{Judge, Refused, refuse};
use crate::relay::{self, RelayLimits};
use crate::reply;
use crate::request::{Opened, Request};
use crate::shared::Shared;
use crate::target::Target;
use crate::telemetry::access_log::Place;

/// A long tunnel is recorded this often, so that a kill loses no more.
const PROGRESS: Duration = Duration::from_secs(5 * 60);

/// A tunnel that is dialled and registered, and of which the client does not know yet.
struct Dialled {
    target: Target,
    permit: Permit,
    upstream: TcpStream,
    live: LiveTunnel,
    meter: Arc<Meter>,
    cancel: Arc<Cancel>,
    /// The place of the close record.
    last: Place,
    settings: config::Tunnel,
}

/// Serves one CONNECT to its end. `early` is what the client sent behind the head.
pub(crate) async fn serve(
    client: TcpStream,
    early: BytesMut,
    target: Target,
    mut request: Request<'_>,
    judge: Judge,
    slot: Slot,
    shared: &Shared,
) {
    // Boxed and dropped before the relay: the state of lookup and dial would otherwise live as long as the tunnel.
    let opened = Box::pin(open(target, &mut request, &judge, shared)).await;
    drop(judge);
    match opened {
        Ok(dialled) => run(client, early, request, dialled, shared).await,
        Err(refused) => refuse(client, request, refused, true).await,
    }
    drop(slot);
}

/// Everything before the `200`.
async fn open(
    target: Target,
    request: &mut Request<'_>,
    judge: &Judge,
    shared: &Shared,
) -> Result<Dialled, Refused> {
    let policies = &judge.config.policies;
    let permit = policies.decide(&target, request.client(), Timestamp::now()).map_err(|denial| {
        request.denied(&denial);
        Refused { reason: denial.reason, advice: denial.advice }
    })?;
    request.permitted(&permit);
    let last = shared.log.reserve().map_err(|_| Reason::LogUnavailable)?;

    let limits = DialLimits {
        dns_timeout: judge.config.dns.timeout,
        connect_timeout: judge.config.tunnel.connect_timeout,
    };
    let admit = |address| policies.admit(&permit, address);
    let dialled = match dial::dial(&shared.resolver, &target, admit, &shared.own, limits).await {
        Ok(dialled) => dialled,
        Err(error) => {
            tracing::debug!(id = %request.id(), "{target}: {}: {}", error.reason, error.detail);
            request.dial_failed(error.upstream, error.dns, error.connect);
            return Err(error.reason.into());
        }
    };
    request.dialled(&dialled);

    let facts = TunnelFacts {
        id: request.id(),
        client: Arc::clone(request.client()),
        target: target.clone(),
        policy: Arc::clone(&permit.policy),
        rule: permit.rule.as_ref().map(|rule| Arc::clone(&rule.label)),
        listener: Arc::clone(request.listener()),
        upstream: dialled.upstream,
        started: Timestamp::now(),
    };
    let (meter, cancel) = (Arc::new(Meter::default()), Cancel::new());
    let live = match shared.live.register(facts, Arc::clone(&meter), Arc::clone(&cancel), judge.generation) {
        Registration::Current(live) => live,
        // The policy changed while we dialled: the sweep may have passed before this tunnel could be seen.
        Registration::JudgeAgain(live) => {
            crate::revoke::judge(&live, &shared.current.load(), Timestamp::now())?;
            live
        }
    };
    let settings = judge.config.tunnel;
    Ok(Dialled { target, permit, upstream: dialled.stream, live, meter, cancel, last, settings })
}
