//! One request's facts, from its head to its last record.
//!
//! Whatever happens, a request ends in exactly one verdict, which is one count and one record: [`Request::refuse`],
//! [`Request::gone`], [`Request::open`] or [`Request::exchanged`]; a tunnel that was opened ends in exactly one more
//! record. If the task panics, `Drop` makes both. Not here: the bytes of the reply
//! ([`crate::session::refuse::reply`]).

mod challenged;
mod facts;
mod opened;
pub(crate) mod seen;
mod shows;
mod told;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::config::Config;
use crate::outbound::dial::{DialError, Dialled};
use crate::rules::{Denial, Permit};
use crate::state::listener::Listener;
use crate::state::listener::challenges::Same;
use crate::state::live::Tunnel;
use crate::state::proof::Proof;
use crate::state::shared::Shared;
use crate::telemetry::access_log::{LogUnavailable, RecordPlace};
use crate::telemetry::record::{Cause, Event};
use crate::transport::meter::Meter;
use crate::wire::auth_scheme::AuthScheme;
use crate::words::client::{Client, Protocol};
use crate::words::outcome::{Decision, Ending, Reason};
use crate::words::target::{Host, Target};

pub(crate) use challenged::Challenged;
pub(crate) use facts::Answer;
pub use facts::Asks;
use facts::Facts;
pub use opened::Opened;
use seen::{Seen, SeenAws};
pub use shows::Shows;

/// A request without a verdict. If it is dropped, it is recorded as a bug in egressd.
#[derive(Debug)]
pub struct Request<'s> {
    shared: &'s Arc<Shared>,
    accepted_by: &'s Arc<Listener>,
    /// `None` once there is a verdict.
    facts: Option<Box<Facts>>,
    /// What proved who the client is.
    proof: Arc<Proof>,
    place: Option<RecordPlace>,
}

impl<'s> Request<'s> {
    /// Begins with a head. The place for its verdict in the log is reserved here, if there is one.
    pub fn new(
        shared: &'s Arc<Shared>,
        config: &Config,
        accepted_by: &'s Arc<Listener>,
        (client, proof): (&Arc<Client>, &Arc<Proof>),
        asks: Asks,
    ) -> Self {
        let facts = Some(Box::new(Facts::new(config, &accepted_by.name, client, asks)));
        Request { shared, accepted_by, facts, proof: Arc::clone(proof), place: shared.log.reserve().ok() }
    }

    /// Begins with a head that came inside a tunnel, which the registry knows as `live`. Until the request itself is decided, the policy and the rule of the
    /// tunnel are its own.
    pub(crate) fn within(
        (tunnel, live): (&Opened<'_>, &Arc<Tunnel>),
        config: &Config,
        accepted_by: &'s Arc<Listener>,
        shared: &'s Arc<Shared>,
        asks: Asks,
    ) -> Self {
        let of = &tunnel.facts;
        let mut request = Request::new(shared, config, accepted_by, (&of.client, &live.facts.proof), asks);
        let facts = request.facts_mut();
        facts.inside = Some(Arc::clone(live));
        facts.inspected = of.inspected;
        facts.protocol = of.protocol;
        facts.policy.clone_from(&of.policy);
        facts.mode = of.mode;
        facts.rule.clone_from(&of.rule);
        facts.decision = of.decision;
        request
    }

    /// Whether it came inside a tunnel, and what its client shows of a refusal.
    pub(crate) fn answered_how(&self) -> (bool, Shows) {
        (self.facts().inside.is_some(), self.facts().asks.shows)
    }

    /// Its client speaks this to egressd.
    pub(crate) fn comes_by(&mut self, protocol: Protocol) {
        let facts = self.facts_mut();
        facts.protocol = protocol;
        facts.answer = match protocol {
            // Until it is known to speak something else.
            Protocol::Http | Protocol::Transparent => Answer::Http,
            Protocol::Socks5 => Answer::Socks5,
        };
    }

    /// What its client speaks to egressd.
    pub(crate) fn protocol(&self) -> Protocol {
        self.facts().protocol
    }

    /// Its client reads an answer as this.
    pub(crate) fn reads(&mut self, answer: Answer) {
        self.facts_mut().answer = answer;
    }

    /// What its answer is written in: inside a tunnel it is HTTP, whatever opened the tunnel.
    pub(crate) fn answer(&self) -> Answer {
        self.facts().answer
    }

    /// The listener that accepted its connection.
    pub(crate) fn accepted_by(&self) -> &'s Arc<Listener> {
        self.accepted_by
    }

    /// What it shares with others.
    pub(crate) fn shared(&self) -> &'s Arc<Shared> {
        self.shared
    }

    fn facts(&self) -> &Facts {
        self.facts.as_ref().expect("taken only by the methods that consume the request")
    }

    fn facts_mut(&mut self) -> &mut Facts {
        self.facts.as_mut().expect("taken only by the methods that consume the request")
    }

    /// The log's `id` and the reply's `X-Request-Id`.
    pub fn id(&self) -> Uuid {
        self.facts().id
    }

    /// When the head was read.
    pub fn started(&self) -> Instant {
        self.facts().started
    }

    /// The address that stands for the client wherever clients are counted: by the configuration that judges the request.
    pub fn account(&self, config: &Config) -> IpAddr {
        config.limits.client(self.client().address)
    }

    /// The client.
    pub fn client(&self) -> &Arc<Client> {
        &self.facts().client
    }

    /// The listener that accepted it.
    pub fn listener(&self) -> &Arc<str> {
        &self.facts().listener
    }

    /// Equal for requests that a client sent twice: with credentials, after it was asked for them.
    pub(crate) fn same(&self) -> Same {
        let Facts { client, asks, .. } = self.facts();
        let target = asks.target.as_ref().map(|(target, _)| target);
        let asked = (&asks.method, target, asks.path(), &asks.user_agent);
        self.accepted_by.challenges.same((client.address.ip(), asked))
    }

    /// A password proved the client's identity.
    pub fn known(&mut self, client: Arc<Client>, proof: Arc<Proof>) {
        self.facts_mut().client = client;
        self.proof = proof;
    }

    /// Bytes of the head that it keeps, in addition to the path.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.facts().asks.own_bytes()
    }

    /// What proved who the client is.
    pub fn proof(&self) -> &Arc<Proof> {
        &self.proof
    }

    /// The client tried to prove its identity by this scheme.
    pub(crate) fn tried(&mut self, scheme: Option<AuthScheme>) {
        self.facts_mut().auth_scheme = scheme;
    }

    /// Its verdict will be counted and not written; [`crate::session::refuse::bounded`] writes the record that reports
    /// this.
    pub(crate) fn leave_unwritten(&mut self) {
        self.facts_mut().unwritten = true;
    }

    /// Whether the log has a place for the verdict. If not, the request must be refused.
    pub fn can_be_recorded(&self) -> bool {
        self.place.is_some()
    }

    /// From now on this configuration judges it, and no longer the one that was in force when it came.
    pub fn judged_by(&mut self, config: &Config) {
        self.facts_mut().config = config.hash.short();
    }

    /// The rules, or report mode, let it pass.
    pub fn permitted(&mut self, permit: &Permit) {
        let facts = self.facts_mut();
        facts.policy = Some(Arc::clone(&permit.policy));
        facts.mode = Some(permit.mode);
        facts.rule = permit.rule.clone();
        facts.decision = Some(permit.decision);
        facts.reason = permit.reason.map(Cause::Refused);
        let told = permit.objected.as_ref().filter(|_| facts.seen.is_some());
        facts.told = told.map(|objected| (objected.advice.clone(), objected.entry.clone()));
    }

    /// The rules let it pass as far as it was read, which was not to where they decide.
    pub(crate) fn undecided(&mut self) {
        let facts = self.facts_mut();
        facts.decision = facts.decision.filter(|decision| *decision != Decision::Allow);
    }

    /// The rules refuse it.
    pub fn denied(&mut self, denial: &Denial) {
        let facts = self.facts_mut();
        facts.policy = denial.policy.clone();
        facts.mode = denial.policy.is_some().then_some(denial.mode);
        facts.rule = denial.decided_by().cloned();
    }

    /// Report mode lets it pass although the ClientHello is forbidden.
    pub fn would_deny(&mut self, reason: Reason) {
        let facts = self.facts_mut();
        facts.decision = Some(Decision::WouldDeny);
        // The rules come first, as they do in enforce mode.
        facts.reason.get_or_insert(Cause::Refused(reason));
    }

    /// The same where the rules against the address that it wrote are not why: a name would have decided in its place.
    pub(crate) fn would_deny_instead(&mut self, reason: Reason) {
        let facts = self.facts_mut();
        facts.decision = Some(Decision::WouldDeny);
        facts.reason = Some(Cause::Refused(reason));
    }

    /// This was recognised in it, where its rule asks for it.
    pub(crate) fn recognised(&mut self, seen: Seen) {
        self.facts_mut().seen = Some(Box::new(seen));
    }

    /// These credentials are sent in place of the client's.
    pub(crate) fn lent(&mut self, aws: SeenAws) {
        if let Some(seen) = &mut self.facts_mut().seen {
            seen.aws = Some(aws);
        }
    }

    /// Notes the result of the dial for log and metrics.
    ///
    /// # Errors
    /// The refusal that follows from it.
    pub fn dialled(&mut self, result: Result<Dialled, DialError>) -> Result<Dialled, Reason> {
        let metrics = &self.shared.metrics;
        let denied = match &result {
            Ok(dialled) => &dialled.denied,
            Err(error) => &error.denied,
        };
        metrics.addresses_refused(denied.count);
        let facts = self.facts_mut();
        let by_name = matches!(&facts.asks.target, Some((Target { host: Host::Name(_), .. }, _)));
        match &result {
            Ok(dialled) => {
                facts.upstream = Some(dialled.upstream);
                facts.upstream_local = Some(dialled.local);
                facts.dns = Some(dialled.dns).filter(|_| by_name);
                facts.connect = Some(dialled.connect);
            }
            Err(error) => {
                // Names addresses and servers: for the operator, never for the client.
                let target =
                    facts.asks.target.as_ref().map(|(target, _)| format!("{target}: ")).unwrap_or_default();
                tracing::info!(id = %facts.id, "{}: {target}{}", error.reason, error.detail);
                facts.upstream = error.upstream;
                facts.dns = error.dns;
                facts.connect = error.connect;
            }
        }
        metrics.dialled(&result, by_name);
        result.map_err(|error| error.reason)
    }

    /// Where the bytes of a plain request are counted.
    pub fn metered(&mut self, meter: &Arc<Meter>) {
        self.facts_mut().meter = Some(Arc::clone(meter));
    }

    /// When the head was read, by the wall clock.
    pub fn started_at(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.started().elapsed()).unwrap_or_default();
        Timestamp::now().checked_sub(passed).unwrap_or_default()
    }

    /// A kept connection to the target is used.
    pub fn reached(&mut self, upstream: SocketAddr, local: SocketAddr) {
        let facts = self.facts_mut();
        facts.upstream = Some(upstream);
        facts.upstream_local = Some(local);
    }

    /// The client was sent the `200`, of so many bytes: whatever comes now, it saw that status.
    pub fn told(&mut self, bytes: usize) {
        let facts = self.facts_mut();
        facts.status = Some(200);
        facts.reply = Some(u32::try_from(bytes).unwrap_or(u32::MAX));
        facts.answer = Answer::Alert;
    }

    /// The address that the client wrote, in the place of which something else decides.
    pub(crate) fn meant(&mut self, original: SocketAddr) {
        self.facts_mut().original = Some(original);
    }

    /// What decides in its place.
    pub(crate) fn asks_for(&mut self, target: &Target) {
        self.facts_mut().asks.target = Some((target.clone(), None));
    }

    /// It is told something that has no status, where HTTP has this one. Returns whether it was told nothing before.
    pub(crate) fn hears(&mut self, status: Option<u16>, bytes: usize) -> bool {
        let is_first = self.facts().status.is_none();
        if is_first {
            self.answered(status, bytes);
        }
        is_first
    }

    /// The refusal that is about to be sent to the client has this status and so many bytes.
    pub fn answered(&mut self, status: Option<u16>, bytes: usize) {
        let facts = self.facts_mut();
        facts.status = facts.status.or(status);
        facts.reply = Some(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The response's `Content-Type`.
    pub fn typed(&mut self, content_type: Option<Box<[u8]>>) {
        self.facts_mut().content_type = content_type;
    }

    /// It is a tunnel whose TLS egressd opens.
    pub(crate) fn inspected(&mut self) {
        self.facts_mut().inspected = true;
    }

    /// The server name in the ClientHello.
    pub fn offered(&mut self, sni: Option<Arc<str>>) {
        self.facts_mut().sni = sni;
    }

    /// The verdict is a refusal, and the client is still there to receive it.
    pub fn refuse(mut self, reason: Reason) {
        self.refused(reason);
    }

    /// The client is asked for credentials. That is not a verdict yet: it may ask again with them.
    pub(crate) fn challenged(mut self) -> Option<Challenged> {
        self.shared.metrics.auth_challenge();
        let mut facts = self.facts.take()?;
        // An idle connection keeps this.
        facts.asks.shorten();
        Some(Challenged::of(facts))
    }

    fn refused(&mut self, reason: Reason) {
        let Some(mut facts) = self.facts.take() else { return };
        if reason.is_denial() && !facts.says_error() {
            facts.decision = Some(Decision::Deny);
        }
        self.verdict(facts, Cause::Refused(reason));
    }

    /// The client left before there was a verdict.
    pub fn gone(mut self) {
        let Some(mut facts) = self.facts.take() else { return };
        // What report mode would have said is not why.
        facts.told = None;
        self.verdict(facts, Cause::ClientGone);
    }

    fn verdict(&mut self, mut facts: Box<Facts>, cause: Cause) {
        facts.reason = Some(cause);
        facts.count(self.shared);
        if facts.unwritten {
            return;
        }
        // Without a reserved place, the record uses the log's spare room, or counts as lost.
        let place = self.place.take().unwrap_or_else(|| self.shared.log.spare());
        let event = if facts.says_error() { Event::Error } else { Event::of(cause) };
        let mut record = facts.record(self.shared, event);
        if let Some(meter) = &facts.meter {
            record.sent = Some(meter.sent());
            record.received = Some(meter.received());
        }
        place.write(&record);
    }

    /// The tunnel ended before its first byte: the client left, or it was ended from outside.
    pub fn ended(self, ending: Ending) {
        match ending {
            Ending::Drained => self.refuse(Reason::Draining),
            _ => self.gone(),
        }
    }

    /// A tunnel's first byte is about to pass. `last` is the place for its last record, taken before the dial.
    pub fn open(mut self, last: RecordPlace, meter: Arc<Meter>) -> Opened<'s> {
        let facts = self.facts.take().expect("taken only by the methods that consume the request");
        if let Some(place) = self.place.take() {
            place.write(&facts.record(self.shared, Event::Open));
        }
        Opened::new(self.shared, facts, last, meter)
    }

    /// A plain request has a body, which is about to pass: its record comes first.
    ///
    /// # Errors
    /// If the log has no second place: the request must then be refused.
    pub fn begin(&mut self) -> Result<(), LogUnavailable> {
        let next = self.shared.log.reserve()?;
        if let Some(place) = self.place.replace(next) {
            place.write(&self.facts().record(self.shared, Event::Open));
        }
        Ok(())
    }

    /// A plain HTTP exchange ended; `ending` and `reason` are set if it was broken off.
    pub fn exchanged(
        mut self,
        status: Option<u16>,
        ending: Option<Ending>,
        reason: Option<Reason>,
        meter: &Meter,
    ) {
        let Some(mut facts) = self.facts.take() else { return };
        facts.status = status;
        if let Some(reason) = reason {
            facts.reason = Some(Cause::Refused(reason));
            facts.told = None;
        }
        facts.count(self.shared);
        if let Some(place) = self.place.take() {
            let mut record =
                facts.record(self.shared, if facts.inside.is_some() { Event::Request } else { Event::Http });
            record.sent = Some(meter.sent());
            record.received = Some(meter.received());
            record.ending = ending;
            place.write(&record);
        }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if let Some(facts) = &mut self.facts {
            // The status that the client would have received.
            facts.status.get_or_insert(500);
        }
        self.refused(Reason::InternalError);
    }
}
