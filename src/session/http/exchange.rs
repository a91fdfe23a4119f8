//! Serves one plain HTTP request, from its head to its record: read what decides, decide, register, change, and go on.
//!
//! Decides, as [`crate::session::tunnel`] does for CONNECT, and hands permitted requests to [`onward`](super::onward), which dials,
//! forwards and records them. Where the body of a request to Git decides what it is, that is read in between
//! ([`crate::session::http::git`]). The connection to the client may go on afterwards: each request on it is judged
//! separately, and while one is in progress a reload judges it again, as it does with a tunnel.

use std::sync::Arc;

use crate::rules::git::Judged;
use crate::rules::{Mode, Permit, Recognised, Requests};
use crate::session::decide::{self, Decided};
use crate::session::http::after::After;
use crate::session::http::changes::Changes;
use crate::session::http::forward::{self, Connection, Finish, PermittedBy};
use crate::session::http::git::ahead::{self, Ahead, ContentTerms, Reads};
use crate::session::http::git::answer;
use crate::session::http::git::steps::{self, Whose};
use crate::session::http::git_fields::FixedFields;
use crate::session::http::lent::Lent;
use crate::session::http::onward::Onward;
use crate::session::http::recognise;
use crate::session::http::round::Round;
use crate::session::http::under_way::UnderWay;
use crate::session::http::wanted::{upgrade_of, wanted_with};
use crate::session::refuse::Refused;
use crate::session::request::Request;
use crate::state::shared::{Shared, Snapshot};
use crate::transport::held::{Kind, Lease};
use crate::transport::keep_alive::KeepAlive;
use crate::transport::meter::Meter;
use crate::transport::stream::Transport;
use crate::wire::head::{Framing, Head};
use crate::words::git::Asks;
use crate::words::outcome::{Class, Reason};

/// What an exchange costs while it is under way, in addition to its connections and its head; and what its record will say, which is
/// kept longer than the head.
const EXCHANGE: usize = 12 * 1024;
/// What a body under way costs beside the bytes that wait: the two ends of its channel, and the piece that is being passed.
const CONTENT: usize = 4 * 1024;
/// What is recognised in a request costs so much, beside what it copies of the head.
const RECOGNISED: usize = 1024;

/// Serves one exchange over `connection`, whatever that is and whatever reads its heads. Everything is recorded except
/// a refusal. `keep`: how long the connection is kept for the next request. `lent`: by the tunnel that the request comes
/// in, if it comes in one.
pub(crate) async fn serve<'s, S>(
    mut connection: Connection<'_, S>,
    mut head: Head,
    mut request: Request<'s>,
    mut snapshot: Snapshot,
    shared: &Shared,
    keep: KeepAlive,
    lent: Option<Lent<'_>>,
) -> After<'s>
where
    S: Transport,
{
    let within = lent.as_ref().map(|lent| lent.within);
    let inspected = within.is_some_and(|within| within.is_inspected());
    let upgrade = upgrade_of(&head);
    let meter = Arc::new(Meter::default());
    let holder = Arc::clone(connection.lease.holder());
    let content = if head.framing.may_have_content() { CONTENT } else { 0 };
    let mut of_exchange = Lease::of(&holder, Kind::Body, EXCHANGE + content + request.kept_bytes());
    // The bytes of a tunnel are counted once, in the tunnel's entry of the registry.
    let counted = if within.is_some() { Arc::default() } else { Arc::clone(&meter) };
    let route = shared.route();
    let on = UnderWay { shared, within, holder: &holder, route: &route, meter: &meter, counted: &counted };
    let mut said = Said { asks_for_credentials: false, recognised: None, ahead: None, keep };
    let target = wanted_with(&head, upgrade, None, within).target;
    let requests = decide::requests_of(target, &request, &snapshot);
    if let Some(requests) = requests.filter(|requests| requests.asks_git() || requests.asks_aws()) {
        of_exchange.set(of_exchange.bytes() + RECOGNISED + 2 * head.bytes);
        let refused;
        let reading = read_first(&mut connection, &mut head, request, snapshot, (&requests, keep), &on);
        (request, said, snapshot, refused) = match reading.await {
            Ok(read) => read,
            Err(after) => return after,
        };
        if let Some(refused) = refused {
            return turn_away(connection, &head, request, refused, &said, &on).await;
        }
    }
    // A body may have taken long to come.
    let newer = said.ahead.as_ref().map(|_| shared.route());
    let on = UnderWay { route: newer.as_ref().unwrap_or(on.route), ..on };
    let wanted = wanted_with(&head, upgrade, said.recognised.as_deref(), within);
    let enter = |decided: &Decided, request: &Request<'_>| {
        let permitted_by = PermittedBy {
            policy: Arc::clone(&decided.permit.policy),
            generation: decided.snapshot.generation,
            route: Arc::clone(on.route),
        };
        let kept = connection.kept.for_target(head.target.target(), &permitted_by);
        let address = kept.map(|kept| kept.ip());
        on.enter(decided, request, (&head, wanted), said.recognised.as_ref(), address)
    };
    // A kept connection serves only under the configuration that opened it, so its address need not be admitted again.
    let registered = decide::decide(wanted, &mut request, snapshot)
        .and_then(|decided| decide::register(decided, wanted, &mut request, shared, enter, |_| None));
    let (Decided { permit, snapshot }, live) = match registered {
        Ok(registered) => registered,
        Err(refused) => return turn_away(connection, &head, request, refused, &said, &on).await,
    };
    if let Some(aws) = permit.entry.as_ref().and_then(|entry| recognise::lent(entry, &wanted.target.host)) {
        request.lent(aws);
    }
    let client = request.account(&snapshot.config);
    let mut alone;
    let (allowance, own) = match lent {
        // The limits are those of the whole tunnel.
        Some(lent) => (lent.allowance, Some(lent.own)),
        None => match shared.budgets.afford(client, &permit).await {
            Ok(opened) => {
                alone = opened;
                (&mut alone, None)
            }
            Err(reason) => return turn_away(connection, &head, request, reason.into(), &said, &on).await,
        },
    };
    allowance.learn(forward::length(&head)).await;
    if let Some(reason) = forward::unaffordable(&head, allowance) {
        return turn_away(connection, &head, request, reason.into(), &said, &on).await;
    }
    let mut changes = match changes(&permit, &head, &said, &mut request, inspected) {
        Ok(changes) => changes,
        Err(refused) => return turn_away(connection, &head, request, refused, &said, &on).await,
    };
    if let Some(ahead) = &mut said.ahead {
        let whose = Whose { readers: &shared.readers, client };
        let (of_client, of) = ((&mut connection, &mut head), (&mut changes, &mut request));
        let anew = tokio::select! {
            biased;
            ending = on.stopped(Some(&live)) => Err(ending),
            anew = Box::pin(body_anew(&permit, ahead, of_client, of, whose)) => Ok(anew),
        };
        match anew {
            Ok(Ok(())) => ahead.forget(),
            Ok(Err(refused)) => return turn_away(connection, &head, request, refused, &said, &on).await,
            Err(ending) => {
                let wanted = wanted_with(&head, upgrade, said.recognised.as_deref(), within);
                let (broken, revoked) = (Finish::Broken { ending, reason: None }, on.revoked(Some(&live)));
                return on.broken((broken, None), request, wanted, None, revoked);
            }
        }
    }
    let round = match within {
        // Inside TLS, its hello would have shown it.
        Some(_) => Ok(Round::default()),
        None => Round::begin(&head, &request, shared),
    };
    let round = match round {
        Ok(round) => round,
        Err(refused) => return turn_away(connection, &head, request, refused, &said, &on).await,
    };
    changes.mark = round.mark();
    let onward =
        Onward { permit, snapshot, live, changes, recognised: said.recognised, client, allowance, own, keep };
    let after = Box::pin(onward.run(connection, head, request, &on)).await;
    drop(round);
    after
}

/// Reads what the request says of itself, which its rule asks for, and as much of its body as decides what it is. A verdict on it is
/// returned where git prints that.
async fn read_first<'s, S: Transport>(
    connection: &mut Connection<'_, S>,
    head: &mut Head,
    mut request: Request<'s>,
    snapshot: Snapshot,
    (requests, keep): (&Requests, KeepAlive),
    on: &UnderWay<'_>,
) -> Result<(Request<'s>, Said, Snapshot, Option<Refused>), After<'s>> {
    let target = wanted_with(head, upgrade_of(head), None, on.within).target;
    let by_head = recognise::recognise(head, target);
    request.recognised(recognise::seen(&by_head, &by_head, None, requests));
    let Some(reads) = ahead::reads(&by_head, head, requests) else {
        let asks_for_credentials = recognise::asks_for_credentials(&by_head, requests);
        let recognised = Some(recognise::body_unread(by_head, head));
        let said = Said { asks_for_credentials, recognised, ahead: None, keep };
        return Ok((request, said, snapshot, None));
    };
    let of = ((&by_head, requests), reads);
    let reading = body_first(connection, head, request, &snapshot, of, on);
    let (mut request, ahead, refused) = Box::pin(reading).await?;
    // It may have taken as long as a body may: what is in force now judges it.
    let snapshot = on.shared.snapshot();
    let mut with_body = ahead.recognised(&by_head);
    let target = wanted_with(head, upgrade_of(head), None, on.within).target;
    if let Some(requests) = decide::requests_of(target, &request, &snapshot) {
        let whose = Whose { readers: &on.shared.readers, client: request.account(&snapshot.config) };
        with_body.judged = tokio::select! {
            biased;
            // What waits for that next will notice it.
            _ending = on.stopped(None) => Judged::default(),
            judged = Box::pin(steps::judge(&with_body, &requests, whose)) => judged,
        };
    }
    let with_body = Arc::new(with_body);
    request.recognised(recognise::seen(&by_head, &with_body, Some(&ahead), requests));
    let said = Said { asks_for_credentials: false, recognised: Some(with_body), ahead: Some(ahead), keep };
    Ok((request, said, snapshot, refused))
}

/// What a request says of itself, where the rule asks for it.
struct Said {
    /// It is git's first request, and has no credentials where an entry wants the client's.
    asks_for_credentials: bool,
    recognised: Option<Arc<Recognised>>,
    ahead: Option<Ahead>,
    keep: KeepAlive,
}

/// Reads as much of the body as decides what the request is, if its head may be let through. A push that may not is read too: git
/// prints why, and the record says which refs were meant.
async fn body_first<'s, S: Transport>(
    connection: &mut Connection<'_, S>,
    head: &mut Head,
    mut request: Request<'s>,
    snapshot: &Snapshot,
    ((by_head, requests), reads): ((&Arc<Recognised>, &Requests), Reads),
    on: &UnderWay<'_>,
) -> Result<(Request<'s>, Ahead, Option<Refused>), After<'s>> {
    let wanted = wanted_with(head, upgrade_of(head), Some(by_head), on.within);
    // While it reads, nothing goes either way: what is counted is in the entry that follows.
    let (nothing, place) = (Arc::default(), *on);
    let reading = UnderWay { counted: &nothing, ..place };
    let enter = |decided: &Decided, request: &Request<'_>| {
        reading.enter(decided, request, (head, wanted), Some(by_head), None)
    };
    let judged = decide::decide(wanted, &mut request, snapshot.clone())
        .and_then(|decided| decide::register(decided, wanted, &mut request, on.shared, enter, |_| None));
    let (live, refused) = match judged {
        Ok((_, live)) => (Some(live), None),
        Err(refused)
            if refused.reason.class() == Class::Request && matches!(reads, Reads::Git(Asks::Rpc(_))) =>
        {
            (None, Some(refused))
        }
        Err(refused) => return Err(After::Refuse(request, refused)),
    };
    if head.expect_continue && connection.buffer.is_empty() {
        on.told(ahead::CONTINUE.len());
    }
    let (most, patience) = (ahead::negotiation_limit(requests), snapshot.config.http.stall_timeout);
    let whose = Whose { readers: &on.shared.readers, client: request.account(&snapshot.config) };
    let read = tokio::select! {
        biased;
        ending = on.stopped(live.as_ref()) => Err(Finish::Broken { ending, reason: None }),
        read = ahead::read(connection, head, reads, (most, patience), whose) => read,
    };
    match read {
        Ok(ahead) => {
            head.expect_continue = false;
            Ok((request, ahead, refused))
        }
        Err(finish) => {
            let revoked = on.revoked(live.as_ref());
            Err(on.unread(finish, request, wanted, refused, revoked))
        }
    }
}

/// What the rule changes in the request, but for its body.
fn changes(
    permit: &Permit,
    head: &Head,
    said: &Said,
    request: &mut Request<'_>,
    inspected: bool,
) -> Result<Changes, Refused> {
    let mut changes = Changes::by(permit, head, inspected);
    let git = permit.entry.as_ref().and_then(|entry| entry.git.as_ref());
    let asks = said.recognised.as_ref().and_then(|said| said.git.as_ref().ok()).map(|ask| ask.request.asks);
    if let (Some(rule), Some(asks)) = (git, asks) {
        changes.fix(FixedFields::new(asks, rule.fixes_reads()));
    }
    if let Some(advice) = changes.refuse(head) {
        if permit.mode != Mode::Report {
            return Err(Refused::new(Reason::RequestNotAllowed, advice));
        }
        request.would_deny_change(Reason::RequestNotAllowed, &advice);
        changes.lend_nothing();
    }
    Ok(changes)
}

/// The same for a body that was read whole: it is taken from the client's bytes.
async fn body_anew<S>(
    permit: &Permit,
    ahead: &mut Ahead,
    (connection, head): (&mut Connection<'_, S>, &mut Head),
    (changes, request): (&mut Changes, &mut Request<'_>),
    whose: Whose<'_>,
) -> Result<(), Refused> {
    let git = permit.entry.as_ref().and_then(|entry| entry.git.as_ref());
    let Some(rule) = git else { return Ok(()) };
    let terms = ContentTerms {
        anew: rule.fixes_reads(),
        most: rule.negotiation_limit,
        signed: changes.body_is_signed(),
    };
    match ahead.take_content(connection.buffer, connection.lease, terms, whose).await {
        Ok(None) => {}
        Ok(Some((content, wire))) => {
            // It was read with the head. What goes on may be longer than what came, and is what counts.
            head.framing = Framing::None;
            head.bytes += wire.max(content.len());
            changes.send(content);
        }
        Err(advice) if permit.mode == Mode::Report => {
            request.would_deny_change(Reason::GitNotAllowed, &advice);
            changes.lend_nothing();
            // It goes on as it came, compressed perhaps.
            changes.unfix();
        }
        Err(advice) => return Err(Refused::new(Reason::GitNotAllowed, advice)),
    }
    Ok(())
}

/// A request is refused before anything of it has gone on. Git is answered in a way that it prints.
async fn turn_away<'s, S: Transport>(
    connection: Connection<'_, S>,
    head: &Head,
    request: Request<'s>,
    refused: Refused,
    said: &Said,
    on: &UnderWay<'_>,
) -> After<'s> {
    if let Some(ahead) = &said.ahead
        && refused.reason.is_denial()
    {
        let patience = on.shared.current.load().http.stall_timeout;
        let telling = answer::refuse(connection, head, request, refused, ahead, patience, on.stopped(None));
        return Box::pin(telling).await;
    }
    // Whatever it asks for: its record shall say by whose credentials. Those of a request that is refused with them do.
    let may_ask = said.asks_for_credentials && refused.reason.class() == Class::Request;
    if may_ask && !head.framing.has_body() && connection.kept.may_ask() {
        let keep = Some(said.keep).filter(|_| head.keep_alive && !on.shared.drain.is_closed());
        let host = &head.target.target().host;
        return Box::pin(answer::ask_for_credentials(connection, request, host, keep, on)).await;
    }
    After::Refuse(request, refused)
}
