//! `/api/tunnels`: what is open now.
//!
//! The registry is read chunk by chunk, and each chunk holds one lock for a moment. Then the tunnels that the query
//! asks for are picked, and only these are written. No rate is kept for a tunnel: a client that polls can compute it
//! from two answers.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::decisions::place_of_entry;
use super::query::{Query, TunnelOrder, cut};
use crate::rules::offer::Inside;
use crate::rules::{Denied, DeniedRequest, Policies};
use crate::state::live::{self, InsideRequest, Live};
use crate::telemetry::record::Cause;
use crate::words::outcome::{Class, Decision};
use crate::words::small_sort::SmallSort as _;
use crate::words::target::{Host, Name};

impl TunnelOrder {
    /// A number that may change while tunnels are compared: it is read once, because otherwise there would be no order
    /// at all.
    fn number(self, tunnel: &live::Tunnel) -> u64 {
        let (sent, received) = (tunnel.meter.sent(), tunnel.meter.received());
        match self {
            TunnelOrder::Sent => sent,
            TunnelOrder::Received => received,
            TunnelOrder::Bytes => sent.saturating_add(received),
            TunnelOrder::Age
            | TunnelOrder::Client
            | TunnelOrder::Identity
            | TunnelOrder::Target
            | TunnelOrder::Policy => 0,
        }
    }

    fn compare(self, (a_number, a): &Picked, (b_number, b): &Picked) -> Ordering {
        let (a, b) = (&a.facts, &b.facts);
        match self {
            // The older one has the greater age.
            TunnelOrder::Age => b.started.cmp(&a.started),
            TunnelOrder::Sent | TunnelOrder::Received | TunnelOrder::Bytes => a_number.cmp(b_number),
            TunnelOrder::Client => a.client.address.ip().cmp(&b.client.address.ip()),
            TunnelOrder::Identity => a.client.identity().cmp(&b.client.identity()),
            TunnelOrder::Target => (host(a), a.target.port.get()).cmp(&(host(b), b.target.port.get())),
            TunnelOrder::Policy => a.policy.cmp(&b.policy),
        }
    }
}

/// [`TunnelOrder::number`], and the tunnel.
type Picked = (u64, Arc<live::Tunnel>);

/// Names by text, after addresses by number.
fn host(facts: &live::TunnelFacts) -> Result<&Name, IpAddr> {
    match &facts.target.host {
        Host::Name(name) => Ok(name),
        Host::Address(address) => Err(*address),
    }
}

#[derive(Serialize)]
pub(super) struct Tunnels {
    now: Timestamp,
    /// Open now.
    total: usize,
    /// How many of them match the filter.
    matching: usize,
    tunnels: Vec<TunnelRow>,
}

#[derive(Serialize)]
struct TunnelRow {
    id: String,
    client: String,
    peer: String,
    identity: Option<String>,
    target: String,
    sni: Option<String>,
    policy: String,
    rule: Option<String>,
    scheme: &'static str,
    listener: String,
    upstream: String,
    by_parent: bool,
    started: Timestamp,
    age_seconds: f64,
    sent: u64,
    received: u64,
    /// The reason that report mode ignored.
    would_deny: Option<&'static str>,
    /// The ending it was given, while it is closing.
    ending: Option<&'static str>,
    /// egressd opened its TLS.
    inspected: bool,
    /// Requests inside it that ended.
    requests: u64,
    /// The last of them, the last one first.
    last_requests: Vec<RequestRow>,
}

#[derive(Serialize)]
struct RequestRow {
    at: Timestamp,
    /// None if its head could not be read.
    method: Option<String>,
    /// Without the query; a long one is cut.
    path: Option<String>,
    status: Option<u16>,
    /// `allow`, `deny` or `would_deny`.
    decision: Option<&'static str>,
    reason: Option<&'static str>,
    /// The entry of `requests` that would let it pass.
    allow: Option<EntryRow>,
}

#[derive(Serialize)]
struct EntryRow {
    /// The line to paste into the list.
    line: String,
    /// Where to paste it.
    place: String,
}

pub(super) fn of(query: &Query, live: &Live, policies: &Policies) -> Tunnels {
    let mut total = 0;
    let mut found: Vec<Picked> = Vec::new();
    live.for_each(|tunnel| {
        total += 1;
        if is_wanted(query, tunnel) {
            found.push((query.sort.number(tunnel), Arc::clone(tunnel)));
        }
    });
    let matching = found.len();
    let compare = |a: &Picked, b: &Picked| {
        let by = query.sort.compare(a, b);
        let by = if query.descending { by.reverse() } else { by };
        by.then_with(|| a.1.facts.id.cmp(&b.1.facts.id))
    };
    if query.limit > 0 && query.limit < found.len() {
        found.select_nth_unstable_by(query.limit - 1, compare);
    }
    found.truncate(query.limit);
    found.small_sort_by(compare);
    Tunnels {
        now: Timestamp::now(),
        total,
        matching,
        tunnels: found.iter().map(|(_, tunnel)| shown(tunnel, policies)).collect(),
    }
}

fn is_wanted(query: &Query, tunnel: &live::Tunnel) -> bool {
    if query.filter.is_empty() {
        return true;
    }
    let facts = &tunnel.facts;
    query.takes(&[
        Some(&facts.client.address.to_string()),
        facts.client.identity(),
        Some(&facts.target.to_string()),
        tunnel.sni(),
        Some(&facts.policy),
        facts.rule.as_deref(),
        Some(&facts.upstream.to_string()),
        Some(&facts.id.to_string()),
    ])
}

fn shown(tunnel: &live::Tunnel, policies: &Policies) -> TunnelRow {
    let facts = &tunnel.facts;
    let (requests, last) = tunnel.requests();
    TunnelRow {
        id: facts.id.to_string(),
        client: facts.client.address.to_string(),
        peer: facts.client.peer.to_string(),
        identity: facts.client.identity().map(cut),
        target: facts.target.to_string(),
        sni: tunnel.sni().map(cut),
        policy: facts.policy.to_string(),
        rule: facts.rule.as_deref().map(cut),
        scheme: facts.scheme.as_str(),
        listener: facts.listener.to_string(),
        upstream: facts.upstream.to_string(),
        by_parent: facts.by_parent,
        started: facts.started,
        age_seconds: tunnel.age().as_secs_f64(),
        sent: tunnel.meter.sent(),
        received: tunnel.meter.received(),
        would_deny: tunnel.objection().map(crate::words::outcome::Reason::as_str),
        ending: tunnel.ending().map(crate::words::outcome::Ending::as_str),
        inspected: facts.inspected,
        requests,
        last_requests: last.into_iter().map(|request| shown_request(request, facts, policies)).collect(),
    }
}

fn shown_request(request: InsideRequest, facts: &live::TunnelFacts, policies: &Policies) -> RequestRow {
    RequestRow {
        at: request.at,
        status: request.status,
        decision: request.decision.map(Decision::as_str),
        reason: request.cause.map(Cause::as_str),
        allow: entry(&request, facts, policies),
        method: request.method.as_ref().map(ToString::to_string),
        path: request.path.map(|path| if request.is_whole { path.into() } else { format!("{path}…") }),
    }
}

fn entry(request: &InsideRequest, facts: &live::TunnelFacts, policies: &Policies) -> Option<EntryRow> {
    let (Some(Cause::Refused(reason)), true) = (request.cause, request.is_whole) else { return None };
    if reason.class() != Class::Request {
        return None;
    }
    let (method, path) = (request.method.as_ref()?.as_str(), request.path.as_deref()?);
    let offered = request.offered.as_deref();
    let remedy = policies.remedy(
        Denied {
            policy: Some(&facts.policy),
            reason,
            target: &facts.target,
            inside: Inside::Unknown,
            request: Some(DeniedRequest { method, path, within: true, offered }),
        },
        Timestamp::now(),
    );
    let place = place_of_entry(remedy.entry.as_ref()?);
    Some(EntryRow { line: remedy.line()?, place })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use uuid::Uuid;

    use super::super::query::{Endpoint, Query};
    use super::*;
    use crate::rules::Scheme;
    use crate::state::live::{LiveTunnel, Registration, TunnelFacts};
    use crate::transport::cancel::Cancel;
    use crate::transport::meter::Meter;
    use crate::words::client::Client;
    use crate::words::target::Target;

    fn open(live: &Arc<Live>, number: u32) -> LiveTunnel {
        let [.., high, low] = number.to_be_bytes();
        let client = SocketAddr::from(([10, 0, high, low], 1));
        let facts = TunnelFacts {
            id: Uuid::now_v7(),
            client: Arc::new(Client::direct(client)),
            proof: Arc::default(),
            target: Target::connect(&format!("git{}.example:443", number % 7)).expect("a target"),
            policy: "p".into(),
            rule: None,
            listener: "proxy".into(),
            upstream: client,
            by_parent: false,
            scheme: Scheme::Https,
            inspected: false,
            started: Timestamp::from_second(i64::from(number)).expect("a moment"),
        };
        let meter = Arc::new(Meter::default());
        meter.add_sent(u64::from(number) * 31 % 10_007);
        match live.register(facts, meter, Cancel::new(), live.generation()) {
            Registration::Current(guard) | Registration::JudgeAgain(guard) => guard,
        }
    }

    #[test]
    fn of_ten_thousand_those_that_are_asked_for_are_written() {
        let live = Live::new();
        let open: Vec<LiveTunnel> = (0..10_000).map(|number| open(&live, number)).collect();
        let none = Policies::new(Vec::new());
        let ask = |query| of(&Query::parse(query, Endpoint::Tunnels).expect(query), &live, &none);

        let most = ask("sort=sent&limit=100");
        assert_eq!((most.total, most.matching, most.tunnels.len()), (10_000, 10_000, 100));
        let mut sent: Vec<u64> = open.iter().map(|tunnel| tunnel.meter().sent()).collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        let written: Vec<u64> = most.tunnels.iter().map(|tunnel| tunnel.sent).collect();
        assert_eq!(written, sent[..100]);

        let newest = ask("sort=age&order=asc&limit=2");
        let clients: Vec<&str> = newest.tunnels.iter().map(|tunnel| tunnel.client.as_str()).collect();
        assert_eq!(clients, ["10.0.39.15:1", "10.0.39.14:1"]);
        assert_eq!(ask("filter=GIT3.example").matching, (0..10_000).filter(|number| number % 7 == 3).count());
        let by_client = ask("sort=client&order=asc&filter=10.0.1.&limit=3");
        let clients: Vec<&str> = by_client.tunnels.iter().map(|tunnel| tunnel.client.as_str()).collect();
        assert_eq!(clients, ["10.0.1.0:1", "10.0.1.1:1", "10.0.1.2:1"], "by number, not by text");
        let none = ask("limit=0");
        assert_eq!((none.total, none.tunnels.len()), (10_000, 0));
        assert_eq!(ask("").tunnels.len(), super::super::query::LIMIT);
        assert_eq!(ask("limit=2000").tunnels.len(), super::super::query::MOST);
    }

    #[test]
    fn every_word_of_the_order_is_one() {
        for word in TunnelOrder::WORDS {
            assert!(TunnelOrder::parse(word).is_some(), "{word}");
        }
        assert_eq!(TunnelOrder::parse("rate"), None);
    }
}
