//! What is known about a request, and how it becomes a count and a record.
//!
//! Not here: when that happens, and that it happens only once ([`super`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::ACCEPT;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use jiff::Timestamp;
use uuid::Uuid;

use crate::config::{Config, ShortHash};
use crate::rules::{MatchedRule, Mode};
use crate::session::request::seen::{Seen, SeenAws, SeenGit};
use crate::session::request::shows::Shows;
use crate::state::allowed::Passage;
use crate::state::live::{InsideRequest, Tunnel};
use crate::state::recent::{self, Asking, Refusal};
use crate::state::shared::Shared;
use crate::telemetry::record::{Cause, Event, LoggedTarget, Record, new_id};
use crate::transport::meter::Meter;
use crate::wire::auth_scheme::AuthScheme;
use crate::wire::head::{Head, RefusedHead, RequestTarget, Version};
use crate::words::client::{Client, Protocol};
use crate::words::git::RefChange;
use crate::words::outcome::{Class, Decision};
use crate::words::target::{Target, expects_refusal};

/// Everything the log may say about a request. Boxed, because a tunnel keeps it for hours.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) id: Uuid,
    pub(super) started: Instant,
    /// The tunnel that it came in, if it came in one.
    pub(super) inside: Option<Arc<Tunnel>>,
    /// Whether it is a tunnel whose TLS egressd opened, or came in one.
    pub(super) inspected: bool,
    pub(super) listener: Arc<str>,
    /// What its client speaks to egressd.
    pub(super) protocol: Protocol,
    /// What its client reads an answer as.
    pub(super) answer: Answer,
    /// The address that it asked for, where something else decided.
    pub(super) original: Option<SocketAddr>,
    pub(super) client: Arc<Client>,
    pub(super) asks: Asks,
    /// The first digits of the configuration's hash.
    pub(super) config: ShortHash,
    pub(super) policy: Option<Arc<str>>,
    pub(super) mode: Option<Mode>,
    pub(super) rule: Option<MatchedRule>,
    pub(super) decision: Option<Decision>,
    pub(super) reason: Option<Cause>,
    pub(super) sni: Option<Arc<str>>,
    /// Of credentials that were refused.
    pub(super) auth_scheme: Option<AuthScheme>,
    pub(super) upstream: Option<SocketAddr>,
    pub(super) upstream_local: Option<SocketAddr>,
    pub(super) dns: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) status: Option<u16>,
    /// Bytes of our own reply.
    pub(super) reply: Option<u32>,
    pub(super) content_type: Option<Box<[u8]>>,
    /// Of a plain request, whose body may have begun before the verdict.
    pub(super) meter: Option<Arc<Meter>>,
    /// Its verdict is counted and not written: the log already has enough records of this kind.
    pub(super) unwritten: bool,
    /// What was recognised in it, where its rule asks for it.
    pub(super) seen: Option<Box<Seen>>,
    /// What the client is told of a refusal of what was recognised, or would be told in enforce mode, and the entry that would let
    /// it pass.
    pub(super) told: Option<(Box<str>, Option<Box<str>>)>,
}

impl Facts {
    /// Only the client, the target and the head are known.
    pub(super) fn new(config: &Config, listener: &Arc<str>, client: &Arc<Client>, asks: Asks) -> Self {
        Facts {
            id: new_id(),
            started: Instant::now(),
            inside: None,
            inspected: false,
            listener: Arc::clone(listener),
            protocol: Protocol::Http,
            answer: Answer::Http,
            original: None,
            client: Arc::clone(client),
            asks,
            config: config.hash.short(),
            policy: None,
            mode: None,
            rule: None,
            decision: None,
            reason: None,
            sni: None,
            auth_scheme: None,
            upstream: None,
            upstream_local: None,
            dns: None,
            connect: None,
            status: None,
            reply: None,
            content_type: None,
            meter: None,
            unwritten: false,
            seen: None,
            told: None,
        }
    }

    /// The `id` of the tunnel that it came in.
    pub(super) fn tunnel(&self) -> Option<Uuid> {
        self.inside.as_ref().map(|tunnel| tunnel.facts.id)
    }

    /// Whether the client was told that something failed, and not that something is refused. A reason may be either: a target that
    /// does not prove its name fails before the `200`, and is refused after it.
    pub(super) fn says_error(&self) -> bool {
        self.status.is_some_and(|status| status == 429 || status >= 500)
    }

    /// Counts one verdict, in the metrics and the recent refusals.
    pub(super) fn count(&self, shared: &Shared) {
        let rule = self.rule.as_ref().map(|rule| &rule.label);
        let policy = self.policy.as_ref();
        match &self.inside {
            None => shared.metrics.request(policy, rule, self.decision, self.reason),
            Some(tunnel) => {
                let now = Timestamp::now();
                shared.metrics.inspected_request(now, policy, rule, self.decision, self.reason);
                let asks = (self.asks.method.as_ref(), self.asks.path());
                let offered = self.told.as_ref().and_then(|(_, entry)| entry.as_deref());
                tunnel.served(InsideRequest::ended(
                    now,
                    asks,
                    self.status,
                    self.decision,
                    self.reason,
                    offered,
                ));
            }
        }
        if let (Some(seen), Some(policy), Some(decision)) = (self.git(), policy, self.decision)
            && !seen.changes.is_empty()
        {
            let rule = rule.cloned().unwrap_or_default();
            let changes = seen.changes.iter().map(RefChange::change);
            shared.metrics.ref_changes(policy, &rule, decision, changes);
        }
        if let Some(cause) = self.reason {
            let recognised = self.seen.as_ref().map(|seen| seen.to_string());
            let recognised = recognised.as_deref().filter(|text| !text.is_empty());
            shared.recent.note(&self.refusal(cause, recognised, shared));
        }
        if let (None, true, Some((target, _))) = (&self.inside, self.passed(), &self.asks.target) {
            let client = self.client.address.ip();
            shared.allowed.note(&Passage {
                at: Timestamp::now(),
                client,
                account: shared.current.load().limits.client(self.client.address),
                identity: self.client.identity(),
                target,
                by_report_mode: self.decision == Some(Decision::WouldDeny),
            });
        }
    }

    /// A tunnel that a rule let through, and not report mode alone, uses that rule until it ends.
    pub(super) fn uses_its_rule(&self, shared: &Shared) {
        if let (Some(policy), Some(rule), Some(Decision::Allow)) = (&self.policy, &self.rule, self.decision) {
            shared.metrics.rule_in_use(policy, &rule.label, Timestamp::now());
        }
    }

    fn git(&self) -> Option<&SeenGit> {
        self.seen.as_ref()?.git.as_ref()
    }

    /// Whether it reached its target: allowed, or let pass by report mode alone.
    fn passed(&self) -> bool {
        match (self.decision, self.reason) {
            (Some(Decision::Allow), None) => true,
            (Some(Decision::WouldDeny), Some(Cause::Refused(reason))) => reason.relaxed_by_report(),
            _ => false,
        }
    }

    fn refusal<'a>(&'a self, cause: Cause, recognised: Option<&'a str>, shared: &Shared) -> Refusal<'a> {
        let client = self.client.address.ip();
        Refusal {
            at: Timestamp::now(),
            id: self.id,
            listener: &self.listener,
            policy: self.policy.as_ref(),
            rule: self.rule.as_ref().map(|rule| &*rule.text),
            decision: self.decision,
            cause,
            asked: match (&self.asks.target, &self.asks.malformed) {
                (Some((target, _)), _) => Asking::Target(target),
                (None, Some(raw)) => Asking::Malformed(raw),
                (None, None) => Asking::Nothing,
            },
            request: self.refused_request(cause),
            recognised,
            told: self.told.as_ref().map(|(told, entry)| (&**told, entry.as_deref())),
            client: Some(client),
            account: Some(shared.current.load().limits.client(self.client.address)),
            identity: self.client.identity(),
            sni: self.sni.as_deref(),
            auth_scheme: self.auth_scheme,
            expected: self.asks.user_agent.as_deref().is_some_and(expects_refusal),
        }
    }

    /// Method and path, if a rule allows the connection and not this request on it.
    fn refused_request(&self, cause: Cause) -> Option<recent::Asks<'_>> {
        let Cause::Refused(reason) = cause else { return None };
        if reason.class() != Class::Request {
            return None;
        }
        let path = self.asks.path()?;
        let method = self.asks.method.as_ref()?.as_str();
        let operation = self.git().and_then(|git| git.operation);
        let account = self.seen.as_ref().and_then(|seen| seen.aws.as_ref()?.account);
        Some(recent::Asks { method, path, within: self.inside.is_some(), operation, account })
    }

    /// What all records of the request say; the caller adds the bytes and the ending.
    pub(super) fn record<'a>(&'a self, shared: &'a Shared, event: Event) -> Record<'a> {
        let asks = &self.asks;
        // Every field by name: a new field does not compile until its value is set here.
        Record {
            time: Timestamp::now(),
            id: self.id,
            event,
            listener: &self.listener,
            client: Some(self.client.address),
            peer: Some(self.client.peer),
            identity: self.client.identity(),
            method: asks.method.as_ref().map(|method| method.as_str().into()),
            target: asks.logged_target(self.inspected),
            sni: self.sni.as_deref().map(Into::into),
            policy: self.policy.as_deref(),
            mode: self.mode,
            rule: self.rule.as_ref().map(|rule| &*rule.text),
            rule_source: self.rule.as_ref().map(|rule| &rule.source),
            decision: self.decision,
            reason: self.reason,
            upstream: self.upstream,
            upstream_local: self.upstream_local,
            status: self.status,
            sent: None,
            received: None,
            duration: Some(self.started.elapsed()),
            dns: self.dns,
            connect: self.connect,
            ending: None,
            user_agent: asks.user_agent.as_deref().map(Into::into),
            config: Some(self.config),
            instance: Some(&shared.instance),
            protocol: Some(self.protocol),
            original: self.original,
            tunnel: self.tunnel(),
            // Only for records that stand for others: [`crate::session::refuse::bounded`] makes them.
            suppressed: None,
            auth_scheme: self.auth_scheme,
            aws: self.seen.as_ref().and_then(|seen| seen.aws.as_ref()).map(SeenAws::logged),
            git: self.git().map(SeenGit::logged),
            reply: self.reply.map(u64::from),
            content_type: self.content_type.as_deref().map(Into::into),
            version: asks.version,
        }
    }
}

/// What the client of a request reads an answer as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// A response of HTTP.
    Http,
    /// A reply of SOCKS5.
    Socks5,
    /// A TLS alert: what it sends from here on is for its target.
    Alert,
    /// Nothing that is known: the end of the connection says it.
    Nothing,
}

/// What the head said, as far as it could be read.
#[derive(Debug, Default)]
pub struct Asks {
    /// A token.
    pub method: Option<Method>,
    /// Canonical; with the path of plain HTTP, which it shares with whatever else needs it. Its query is never written.
    pub target: Option<(Target, Option<PathAndQuery>)>,
    /// Whether a query came with the path.
    pub query: bool,
    /// The head's version, if it could be read.
    pub version: Option<Version>,
    /// As it was sent, if it is not canonical.
    pub malformed: Option<Box<[u8]>>,
    /// As it was sent, but no more than [`USER_AGENT`] bytes.
    pub user_agent: Option<Box<[u8]>>,
    /// What its client shows of a refusal.
    pub shows: Shows,
}

/// Most bytes that are kept of a `User-Agent`: one more than any log writes, so that a cut shows.
const USER_AGENT: usize = 2049;

impl Asks {
    /// From a head that passed the gate.
    pub fn of(head: &Head) -> Self {
        Asks {
            method: Some(head.method.clone()),
            target: Some(Asks::target(&head.target)),
            query: Asks::has_query(&head.target),
            version: Some(head.version),
            malformed: None,
            user_agent: head.headers.get(http::header::USER_AGENT).map(|value| {
                let sent = value.as_bytes();
                sent.get(..USER_AGENT).unwrap_or(sent).into()
            }),
            shows: Shows::by_accept(head.headers.get_all(ACCEPT).into_iter().map(HeaderValue::as_bytes)),
        }
    }

    /// From a request for a tunnel that is not HTTP: its target, or what it sent in the place of one.
    pub(crate) fn of_tunnel(method: Option<Method>, target: Result<&Target, &[u8]>) -> Self {
        Asks {
            method,
            target: target.ok().map(|target| (target.clone(), None)),
            malformed: target.err().map(Box::from),
            ..Asks::default()
        }
    }

    /// From a head that did not.
    pub fn of_refused(refused: &RefusedHead) -> Self {
        Asks {
            method: refused.method.clone(),
            target: refused.target.as_ref().map(Asks::target),
            query: refused.target.as_ref().is_some_and(Asks::has_query),
            version: None,
            malformed: refused.malformed.clone(),
            user_agent: refused.user_agent.as_ref().map(|text| text.as_bytes().into()),
            shows: Shows::Text,
        }
    }

    /// Keeps no more than the log shows, for a connection that may be idle.
    pub(super) fn shorten(&mut self) {
        // More than the record has room for, so that the record marks it as cut.
        const LONGEST: usize = 5000;
        if let Some(malformed) = &mut self.malformed
            && let Some(some) = malformed.get(..LONGEST)
        {
            *malformed = some.into();
        }
        if let Some((_, Some(shared))) = &mut self.target {
            // A copy of its own. A path is ASCII, and a part of it is a path.
            let path = shared.path();
            let cut = path.get(..LONGEST).unwrap_or(path);
            *shared = PathAndQuery::try_from(cut).unwrap_or_else(|_| PathAndQuery::from_static("/"));
        }
    }

    /// Bytes that it keeps, of what the client chose the length of, and that it shares with nothing else.
    pub(super) fn own_bytes(&self) -> usize {
        let texts = [&self.user_agent, &self.malformed].into_iter().flatten();
        texts.map(|text| text.len()).sum()
    }

    /// The path, where there is one.
    pub(super) fn path(&self) -> Option<&str> {
        self.target.as_ref()?.1.as_ref().map(PathAndQuery::path)
    }

    /// As the log shows the target; `tls`: a path came inside the TLS of a tunnel.
    pub(crate) fn logged_target(&self, tls: bool) -> Option<LoggedTarget<'_>> {
        match (&self.target, &self.malformed) {
            (Some((target, None)), _) => Some(LoggedTarget::Connect(target)),
            (Some((target, Some(path))), _) => {
                Some(LoggedTarget::Http { target, path: path.path().into(), query: self.query, tls })
            }
            (None, Some(raw)) => Some(LoggedTarget::Malformed((&**raw).into())),
            (None, None) => None,
        }
    }

    fn has_query(target: &RequestTarget) -> bool {
        matches!(target, RequestTarget::Absolute { path_and_query, .. } if path_and_query.query().is_some())
    }

    fn target(target: &RequestTarget) -> (Target, Option<PathAndQuery>) {
        match target {
            RequestTarget::Authority(target) => (target.clone(), None),
            RequestTarget::Absolute { target, path_and_query } => {
                (target.clone(), Some(path_and_query.clone()))
            }
        }
    }
}
