//! One plain HTTP request, from its head to its record.
//!
//! Decides, as `tunnel` does for CONNECT, and hands what is permitted to `forward`. The connection to the client may go
//! on afterwards: each request on it is judged by itself.

use std::sync::Arc;

use bytes::BytesMut;
use jiff::Timestamp;

use crate::dial::DialLimits;
use crate::forward::{self, Addresses, Connection, Finish, Kept, Outcome, Terms};
use crate::head::{Framing, Head};
use crate::linger::linger;
use crate::meter::Meter;
use crate::outcome::{Ending, Reason};
use crate::refuse::{Refused, refuse};
use crate::relay::Transport;
use crate::request::Request;
use crate::route::Dialling;
use crate::shared::{Judge, Shared};
use crate::stream::ClientStream;

/// What the next head on the connection begins with.
pub(crate) struct Next {
    pub(crate) client: ClientStream,
    pub(crate) buffer: BytesMut,
    pub(crate) kept: Kept,
}

/// Serves one exchange. `None`: the connection is closed.
pub(crate) async fn serve(
    next: Next,
    head: Head,
    mut request: Request<'_>,
    judge: Judge,
    shared: &Shared,
) -> Option<Next> {
    let Next { mut client, mut buffer, mut kept } = next;
    let body = head.method != http::Method::HEAD;
    let policies = &judge.config.policies;
    let target = head.target.target();
    let permit = match policies.decide(target, request.client(), Timestamp::now()) {
        Ok(permit) => permit,
        Err(denial) => {
            request.denied(&denial);
            let refused = Refused { reason: denial.reason, advice: denial.advice };
            refuse(client, request, refused, body).await;
            return None;
        }
    };
    request.permitted(&permit);
    let allowance = shared.budgets.open(request.client().address.ip(), &permit);
    let affordable = allowance.and_then(|allowance| match forward::unaffordable(&head, &allowance) {
        None => Ok(allowance),
        Some(reason) => Err(reason),
    });
    let mut allowance = match affordable {
        Ok(allowance) => allowance,
        Err(reason) => {
            refuse(client, request, reason.into(), body).await;
            return None;
        }
    };
    let meter = Arc::new(Meter::default());
    request.metered(&meter);
    let live = shared.live.register_exchange(Arc::clone(&permit.policy), Arc::clone(&meter));
    let (route, resolver) = (shared.route(), shared.resolver());
    let mut dialled = false;
    let outcome = {
        let id = request.id().to_string();
        let terms = Terms {
            permitted_by: (Arc::clone(&permit.policy), judge.generation),
            parent: route.parent(),
            remove_request_headers: &judge.config.http.remove_request_headers,
            response_timeout: judge.config.http.response_timeout,
            stall_timeout: judge.config.http.stall_timeout,
            request_id: &id,
            meter: &meter,
        };
        let stop = async {
            shared.drain.ended().await;
            Ending::Drained
        };
        let connection = Connection { stream: &mut client, buffer: &mut buffer, kept: &mut kept };
        let limits = DialLimits {
            dns_timeout: judge.config.dns.timeout,
            connect_timeout: judge.config.tunnel.connect_timeout,
        };
        let admit = |address| policies.admit(&permit, address);
        let open = async || {
            dialled = true;
            let dialling = Dialling { resolver: &resolver, own: &shared.own, limits };
            let opened = route.plain(dialling, target, admit).await;
            let stream = request.dialled(opened)?.stream;
            if !matches!(head.framing, Framing::None | Framing::Length(0)) {
                // The body is about to pass: its record comes before it. A kept connection never takes a body.
                request.begin().map_err(|_| Reason::LogUnavailable)?;
            }
            Ok(stream)
        };
        Box::pin(forward::exchange(connection, &head, &terms, &mut allowance, open, stop)).await
    };
    drop(judge);
    let Outcome { status, finish, keep_alive, addresses, content_type } = outcome;
    request.typed(content_type);
    if let (false, Some(Addresses { upstream, local })) = (dialled, addresses) {
        request.reached(upstream, local);
    }
    match finish {
        Finish::Complete => request.exchanged(status, None, None, &meter),
        Finish::Refused { reason, detail } => {
            let mut refused = Refused::on_the_way(reason, &route);
            if !detail.is_empty() {
                refused.advice = detail.into_owned();
            }
            refuse(client, request, refused, body).await;
            return None;
        }
        // Nothing was answered yet.
        Finish::Broken { ending: Ending::Drained, .. } if status.is_none() => {
            refuse(client, request, Reason::Draining.into(), body).await;
            return None;
        }
        Finish::Broken {
            ending: Ending::ClientClosed | Ending::ClientReset | Ending::ClientLost, ..
        } if status.is_none() => {
            request.gone();
            return None;
        }
        Finish::Broken { ending, reason } => {
            request.exchanged(status, Some(ending), reason, &meter);
            drop(live);
            // Cut, not ended: a response that was broken off must not look whole.
            let _ = client.socket().set_zero_linger();
            return None;
        }
    }
    drop(live);
    if keep_alive {
        return Some(Next { client, buffer, kept });
    }
    linger(client).await;
    None
}
