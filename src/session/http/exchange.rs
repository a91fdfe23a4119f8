//! One plain HTTP request, from its head to its record.
//!
//! Decides, as `tunnel` does for CONNECT, and hands what is permitted to `forward`. The connection to the client may go
//! on afterwards: each request on it is judged by itself, and while it is under way a reload judges it again as it does
//! a tunnel.

use std::sync::Arc;

use bytes::BytesMut;
use jiff::Timestamp;

use crate::outbound::dial::DialLimits;
use crate::outbound::route::{Dialling, Route};
use crate::session::http::forward::{self, Addresses, Connection, Finish, Kept, Outcome, Terms};
use crate::session::refuse::{Refused, refuse};
use crate::session::request::Request;
use crate::state::live::{ExchangeFacts, LiveExchange, Registration, rejudge};
use crate::state::shared::{Judge, Shared};
use crate::transport::client_stream::ClientStream;
use crate::transport::close::linger;
use crate::transport::meter::Meter;
use crate::transport::relay::Transport;
use crate::transport::target_stream::UpstreamStream;
use crate::wire::head::{Framing, Head};
use crate::words::outcome::{Ending, Reason};

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
    mut judge: Judge,
    shared: &Shared,
) -> Option<Next> {
    let Next { mut client, mut buffer, mut kept } = next;
    let body = head.method != http::Method::HEAD;
    let target = head.target.target();
    let meter = Arc::new(Meter::default());
    let (route, resolver) = (shared.route(), shared.resolver());
    let (permit, live) = loop {
        let permit = match judge.config.policies.decide(target, request.client(), Timestamp::now()) {
            Ok(permit) => permit,
            Err(denial) => {
                request.denied(&denial);
                let refused = Refused { reason: denial.reason, advice: denial.advice };
                refuse(client, request, refused, body).await;
                return None;
            }
        };
        request.permitted(&permit);
        let kept = kept.for_target(target, &(Arc::clone(&permit.policy), judge.generation));
        let facts = ExchangeFacts {
            client: Arc::clone(request.client()),
            target: target.clone(),
            policy: Arc::clone(&permit.policy),
            by_parent: route.parent().is_some(),
        };
        let (meter, kept) = (Arc::clone(&meter), kept.map(|kept| kept.ip()));
        match shared.live.register_exchange(facts, meter, kept, judge.generation) {
            Registration::Current(live) => break (permit, live),
            // A reload or an expiry came just now: as for a tunnel, the newer policy decides, wholly.
            Registration::JudgeAgain(outdated) => drop(outdated),
        }
        judge = shared.judge();
        request.judged_by(&judge.config);
    };
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
    request.metered(&meter);
    // Copied, so that an exchange of hours pins no old policy.
    let Judge { generation, config } = judge;
    let settings = config.http.clone();
    let limits =
        DialLimits { dns_timeout: config.dns.timeout, connect_timeout: config.tunnel.connect_timeout };
    drop(config);
    let mut dialled = false;
    let outcome = {
        let id = request.id().to_string();
        let terms = Terms {
            permitted_by: (Arc::clone(&permit.policy), generation),
            parent: route.parent(),
            remove_request_headers: &settings.remove_request_headers,
            response_timeout: settings.response_timeout,
            stall_timeout: settings.stall_timeout,
            request_id: &id,
            meter: &meter,
        };
        let stop = async {
            tokio::select! {
                () = shared.drain.ended() => Ending::Drained,
                ending = live.cancelled() => ending,
            }
        };
        let connection = Connection { stream: &mut client, buffer: &mut buffer, kept: &mut kept };
        let open = async || {
            dialled = true;
            let dialling = Dialling { resolver: &resolver, own: &shared.own, limits };
            let opened = dial(dialling, &route, &live, &mut request, shared).await?;
            if !matches!(head.framing, Framing::None | Framing::Length(0)) {
                // The body is about to pass: its record comes before it. A kept connection never takes a body.
                request.begin().map_err(|_| Reason::LogUnavailable)?;
            }
            Ok(opened)
        };
        Box::pin(forward::exchange(connection, &head, &terms, &mut allowance, open, stop)).await
    };
    let revoked = live.exchange().revoked();
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
        Finish::Broken { ending: Ending::PolicyRevoked, .. } if status.is_none() => {
            let refused = refused_since(&head, revoked, &mut request, shared);
            refuse(client, request, refused, body).await;
            return None;
        }
        Finish::Broken {
            ending: Ending::ClientClosed | Ending::ClientReset | Ending::ClientLost, ..
        } if status.is_none() => {
            request.gone();
            return None;
        }
        Finish::Broken { ending, reason } => {
            let reason = reason.or(revoked.filter(|_| ending == Ending::PolicyRevoked));
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

/// A connection for the exchange, by what is in force now: where a reload came since it was decided, the new policy
/// has to admit the address too.
async fn dial(
    dialling: Dialling<'_>,
    route: &Route,
    live: &LiveExchange,
    request: &mut Request<'_>,
    shared: &Shared,
) -> Result<UpstreamStream, Reason> {
    let facts = &live.exchange().facts;
    let Judge { generation, config } = shared.judge();
    let permit = config.policies.decide(&facts.target, &facts.client, Timestamp::now());
    let permit = permit.map_err(|denial| denial.reason)?;
    let admit = |address| config.policies.admit(&permit, address);
    let dialled = request.dialled(route.plain(dialling, &facts.target, admit).await)?;
    if live.reached(dialled.upstream.ip()) != generation {
        rejudge::judge_exchange(live.exchange(), &shared.judge().config, Timestamp::now())?;
    }
    Ok(dialled.stream)
}

/// The verdict on an exchange that was revoked before anything was answered: it is a refusal by the policy in force now.
fn refused_since(
    head: &Head,
    revoked: Option<Reason>,
    request: &mut Request<'_>,
    shared: &Shared,
) -> Refused {
    let judge = shared.judge();
    request.judged_by(&judge.config);
    match judge.config.policies.decide(head.target.target(), request.client(), Timestamp::now()) {
        Err(denial) => {
            request.denied(&denial);
            Refused { reason: denial.reason, advice: denial.advice }
        }
        // The address it reached; or a newer reload would allow it, which does not bring back what was cut.
        Ok(_) => revoked.unwrap_or(Reason::AddressProhibited).into(),
    }
}
