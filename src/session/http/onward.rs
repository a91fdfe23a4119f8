//! A request that may go on: over a kept connection, the tunnel's own, or one that is dialled for it; then forwarded and recorded.
//!
//! Not here: whether it may, and what the rule changes in it ([`exchange`](super::exchange)).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;

use crate::outbound::dial::DialLimits;
use crate::outbound::route::{Dialling, Route};
use crate::rules::{Permit, Recognised};
use crate::session::decide::{self, Decided, Wanted};
use crate::session::http::after::After;
use crate::session::http::changes::Changes;
use crate::session::http::forward::{self, Addresses, Connection, Finish, Outcome, PermittedBy, Terms};
use crate::session::http::lent::{Carries, Own};
use crate::session::http::under_way::UnderWay;
use crate::session::http::wanted::{upgrade_of, wanted_with};
use crate::session::request::Request;
use crate::state::limits::kept::KeptPlace;
use crate::state::live::{LiveExchange, rejudge};
use crate::state::shared::{Shared, Snapshot};
use crate::transport::allowance::Allowance;
use crate::transport::keep_alive::KeepAlive;
use crate::transport::socket;
use crate::transport::stream::Transport;
use crate::transport::target_stream::UpstreamStream;
use crate::wire::head::Head;
use crate::words::outcome::Reason;

/// What was decided about a request, which is registered.
pub(super) struct Onward<'o> {
    pub(super) permit: Permit,
    /// The configuration that permits it.
    pub(super) snapshot: Snapshot,
    pub(super) live: LiveExchange,
    pub(super) changes: Changes,
    pub(super) recognised: Option<Arc<Recognised>>,
    /// The account that stands for its client.
    pub(super) client: IpAddr,
    pub(super) allowance: &'o mut Allowance,
    /// The connection that was dialled for its tunnel, if no request has used it.
    pub(super) own: Option<&'o mut Option<Own>>,
    pub(super) keep: KeepAlive,
}

impl Onward<'_> {
    /// Serves it, and records it.
    pub(super) async fn run<'s, S: Transport>(
        self,
        connection: Connection<'_, S>,
        mut head: Head,
        mut request: Request<'s>,
        on: &UnderWay<'_>,
    ) -> After<'s> {
        let Onward { permit, snapshot, live, changes, recognised, client, allowance, own, keep } = self;
        let (shared, within, route, meter) = (on.shared, on.within, on.route, on.meter);
        let (inspected, resolver) = (within.is_some_and(|within| within.is_inspected()), shared.resolver());
        let upgrade = upgrade_of(&head);
        request.metered(meter);
        // They leave with the request.
        let headers = std::mem::take(&mut head.headers);
        let wanted = wanted_with(&head, upgrade, recognised.as_deref(), within);
        let has_content = changes.has_content(&head);
        let mut begun = false;
        if inspected
            && has_content
            && let Some(Addresses { upstream, local }) = connection.kept.for_body().await
        {
            // As below: the body may be about to pass.
            request.reached(upstream, local);
            if request.begin().is_err() {
                return After::Refuse(request, Reason::LogUnavailable.into());
            }
            begun = true;
        }
        // Copied, so that an exchange of hours does not keep an old policy in memory.
        let Snapshot { generation, config } = snapshot;
        let (response_timeout, stall_timeout) = (config.http.response_timeout, config.http.stall_timeout);
        // Inside TLS there is nobody but the target: what is meant for others stays.
        let removed = if inspected { Vec::new() } else { config.http.remove_request_headers.clone() };
        let limits =
            DialLimits { dns_timeout: config.dns.timeout, connect_timeout: config.tunnel.connect_timeout };
        drop(config);
        let mut dialled = false;
        let mut overtaken = None;
        let keep_upstream = || match within {
            Some(_) => Some(KeptPlace::of_a_tunnel()),
            None => shared.kept.keep(client),
        };
        let outcome = {
            let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
            let id = &*request.id().as_hyphenated().encode_lower(&mut id);
            // While egressd drains no connection is kept.
            let keep = || (!shared.drain.is_closed()).then_some(keep);
            let terms = Terms {
                permitted_by: PermittedBy {
                    policy: Arc::clone(&permit.policy),
                    generation,
                    route: Arc::clone(route),
                },
                keep_upstream: &keep_upstream,
                // Inside TLS there is nobody but the target.
                parent: route.parent(wanted.target).filter(|_| !inspected),
                remove_request_headers: &removed,
                changes: &changes,
                response_timeout,
                stall_timeout,
                keep: &keep,
                request_id: id,
                meter,
                tunnel: within.map(|within| within.live.meter()),
            };
            let open = async || {
                let dialling = Dialling { resolver: &resolver, client, own: &shared.own, limits };
                // A reload may have come since the decision: the newer rules have to permit it too.
                let decided = match decide::confirm(wanted, &mut request, shared) {
                    Ok(decided) => decided,
                    Err(refused) => return Err(overtaken.insert(refused).reason),
                };
                let mut own = own.and_then(Option::take).filter(|own| own.may_serve(&decided, route));
                if let Some(waiting) = &mut own
                    && !waiting.is_open().await
                {
                    own = None;
                }
                let opened = match own {
                    Some(own) => {
                        reached(own.upstream, &decided, &live, shared)?;
                        ready(&own.stream);
                        own.stream
                    }
                    None => {
                        dialled = true;
                        let over = if inspected { Carries::Tls } else { Carries::Requests };
                        dial(dialling, route, (wanted, over), &decided, &live, &mut request, shared).await?
                    }
                };
                if has_content && !begun {
                    // The body is about to pass: its record comes first.
                    request.begin().map_err(|_| Reason::LogUnavailable)?;
                }
                Ok(opened)
            };
            let stop = on.stopped(Some(&live));
            Box::pin(forward::exchange(connection, &head, headers, &terms, allowance, open, stop)).await
        };
        let revoked = on.revoked(Some(&live));
        let Outcome { status, finish, keep_alive, addresses, content_type } = outcome;
        request.typed(content_type);
        if let (false, Some(Addresses { upstream, local })) = (dialled, addresses) {
            request.reached(upstream, local);
        }
        match finish {
            Finish::Complete => {
                request.exchanged(status, None, None, meter);
                if keep_alive { After::NextHead } else { After::Close }
            }
            Finish::Switched => {
                request.exchanged(status, None, None, meter);
                After::Switched(Box::new(live))
            }
            finish => on.broken((finish, status), request, wanted, overtaken, revoked),
        }
    }
}

/// A connection for the exchange, to an address that `decided`, which is by the configuration in force now, admits.
async fn dial(
    dialling: Dialling<'_>,
    route: &Route,
    (wanted, over): (Wanted<'_>, Carries),
    decided: &Decided,
    live: &LiveExchange,
    request: &mut Request<'_>,
    shared: &Shared,
) -> Result<UpstreamStream, Reason> {
    let admit = |address| decided.admit(address);
    let (client, timeout) = (dialling.client, dialling.limits.connect_timeout);
    let dialled = match over {
        Carries::Requests => route.plain(dialling, wanted.target, admit).await,
        Carries::Anything | Carries::Tls => route.tunnel(dialling, wanted.target, admit).await,
    };
    let dialled = request.dialled(dialled)?;
    reached(dialled.upstream, decided, live, shared)?;
    ready(&dialled.stream);
    if over != Carries::Tls {
        return Ok(dialled.stream);
    }
    // Verified again: the name may be at another address now.
    let opening = route.inspect(wanted.target, dialled.stream, dialled.address, client, timeout);
    Box::pin(opening).await.map_err(|unverified| {
        let (id, reason) = (request.id(), unverified.reason);
        tracing::info!(%id, "{reason}: {}: {}", wanted.target, unverified.detail);
        reason
    })
}

/// Sets what a connection to a target needs. It may be kept, and then be idle. This fails only if the connection is gone
/// already: the exchange will notice.
fn ready(stream: &UpstreamStream) {
    let _ = socket::keep_alive(stream.socket());
    let _ = socket::bound_unsent(stream.socket());
}

/// The exchange uses a connection to `upstream`, which `decided` admits: a newer policy has to admit it too.
fn reached(
    upstream: SocketAddr,
    decided: &Decided,
    live: &LiveExchange,
    shared: &Shared,
) -> Result<(), Reason> {
    if live.reached(upstream.ip()) != decided.snapshot.generation {
        rejudge::exchange_still_allowed(live.exchange(), &shared.snapshot().config, Timestamp::now())
            .map_err(|objection| objection.reason())?;
    }
    Ok(())
}
