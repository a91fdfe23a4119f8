//! From a permitted target to a connected socket: look up, check every address, dial only what was checked.
//!
//! Happy Eyeballs v2 (RFC 8305): A and AAAA are asked for separately, an A answer waits 50 ms for AAAA and no longer,
//! addresses alternate between the families, the next is tried after 250 ms or as soon as one fails, and the first
//! connection wins. An address that comes late joins the race. There are two deadlines: one for DNS, one for connecting.
//!
//! Left out of RFC 8305: sorting by RFC 6724 within a family (§4). Addresses are taken in the order of the answer, and
//! each dial begins with another one, so that load spreads although the answer is cached. Not here: the policy (the caller
//! passes it as `admit`), and what is said to a parent proxy ([`route`](super::route)).

mod own_addresses;
mod race;
#[cfg(test)]
mod tests;

use std::future::{Future, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::outbound::resolve::{Answer, Family, LookupError, Resolver};
use crate::rules::address::{AddressDenial, Admitted};
use crate::transport::target_stream::UpstreamStream;
use crate::words::outcome::Reason;
use crate::words::target::{Host, Target};

pub use own_addresses::OwnAddresses;
use race::{Attempts, Candidates, Extra, Failure, failure_of};

/// RFC 8305 §3: how long an A answer waits for AAAA.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// RFC 8305 §5: time between two attempts.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Denied addresses and failed attempts that are named in the log; the rest is only counted.
const MAX_NAMED: usize = 8;

/// How long dialling may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DialLimits {
    /// For the lookup, both families.
    pub dns_timeout: Duration,
    /// From the first attempt to a connection, however many addresses there are.
    pub connect_timeout: Duration,
}

/// A connection to a target.
#[derive(Debug)]
pub struct Dialled {
    /// Connected; small writes leave at once ([`send_at_once`](crate::transport::socket::send_at_once)).
    pub stream: UpstreamStream,
    /// The address that was checked and dialled.
    pub address: Admitted,
    /// The same address with its port.
    pub upstream: SocketAddr,
    /// Our address of the connection, to find it in flow logs and NAT logs.
    pub local: SocketAddr,
    /// From the start to the first address that could be dialled; zero for a target that is an address.
    pub dns: Duration,
    /// From the first attempt to the connection.
    pub connect: Duration,
    /// Addresses of the target that were dropped.
    pub denied: Denied,
}

/// Addresses that the check dropped.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Denied {
    /// How many.
    pub count: usize,
    /// The first few.
    pub first: Vec<AddressDenial>,
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct DialError {
    /// A `dns_*` reason, `address_prohibited`, `loop`, a `connect_*` reason or `local_resources`.
    pub reason: Reason,
    /// How long DNS took; None for a target that is an address.
    pub dns: Option<Duration>,
    /// How long connecting took; None where nothing was dialled.
    pub connect: Option<Duration>,
    /// The address that `reason` is about, where something was dialled.
    pub upstream: Option<SocketAddr>,
    /// For the log on stderr and `explain`. It names addresses and servers, so it never goes to the client.
    pub detail: String,
    /// Addresses of the target that were dropped.
    pub denied: Denied,
}

/// Connects to `target`, for `client`: the account that questions to DNS are charged to. `admit` is the policy's check,
/// called once for each address. `own` are egressd's own listeners, which are never dialled, whatever the policy says.
///
/// # Errors
/// [`DialError`]. Dropping the future closes every socket, and ends the questions to DNS that nobody else waits for.
pub async fn dial(
    resolver: &Resolver,
    client: IpAddr,
    target: &Target,
    admit: impl Fn(IpAddr) -> Result<Admitted, AddressDenial>,
    own: &OwnAddresses,
    limits: DialLimits,
) -> Result<Dialled, DialError> {
    let dial = Dial {
        admit,
        own,
        limits,
        port: target.port.get(),
        by_name: matches!(target.host, Host::Name(_)),
        started: Instant::now(),
        candidates: Candidates::default(),
        denied: Denied::default(),
        loops: Vec::new(),
        first_attempt: None,
        dns: None,
        failure: None,
        failures: Vec::new(),
    };
    // Boxed: the caller's future lives as long as its tunnel, and these end before the tunnel begins.
    match &target.host {
        Host::Address(address) => {
            let of_family = |family: Family| -> Answer {
                if family.has(address) { Ok(Arc::from([*address])) } else { Err(LookupError::other_family()) }
            };
            let (v4, v6) = (ready(of_family(Family::V4)), ready(of_family(Family::V6)));
            Box::pin(dial.race(v4, v6, 0, LookupError::other_family)).await
        }
        Host::Name(name) => {
            Box::pin(async {
                let lookup = |family| resolver.lookup(name, family, client);
                let (mut v4, mut v6) = (pin!(lookup(Family::V4)), pin!(lookup(Family::V6)));
                let late = || resolver.timed_out();
                let dialled = dial.race(v4.as_mut(), v6.as_mut(), resolver.turn(), late).await;
                if dialled.is_ok() {
                    // Else the family that answers later is asked for, and waited for, at each dial.
                    resolver.let_finish(name, client);
                }
                dialled
            })
            .await
        }
    }
}

/// How many connections all dials together may try in addition to their first ones. Called at the start, before anything
/// is dialled.
pub fn set_extra_attempts(count: usize) {
    Extra::shared().set(count);
}

/// Another connection to an address that was dialled before. It has no deadline of its own.
///
/// # Errors
/// What connect(2) says.
pub async fn again(address: Admitted, port: u16) -> io::Result<TcpStream> {
    let (stream, _) = race::connect(address, port).await?;
    Ok(stream)
}

struct Dial<'a, F> {
    admit: F,
    own: &'a OwnAddresses,
    limits: DialLimits,
    port: u16,
    by_name: bool,
    started: Instant,
    candidates: Candidates,
    denied: Denied,
    loops: Vec<IpAddr>,
    first_attempt: Option<Instant>,
    /// Until DNS gave the first address to dial, or had answered completely.
    dns: Option<Duration>,
    /// The failed attempt that is reported.
    failure: Option<(Failure, SocketAddr)>,
    failures: Vec<String>,
}

impl<F: Fn(IpAddr) -> Result<Admitted, AddressDenial>> Dial<'_, F> {
    /// `late`: the error of a question that was not answered within `dns_timeout`.
    async fn race(
        mut self,
        v4: impl Future<Output = Answer>,
        v6: impl Future<Output = Answer>,
        turn: usize,
        late: impl Fn() -> LookupError,
    ) -> Result<Dialled, DialError> {
        let (mut v4, mut v6) = (pin!(v4), pin!(v6));
        let (mut v4_answer, mut v6_answer) =
            (None::<Result<(), LookupError>>, None::<Result<(), LookupError>>);
        let dns_deadline = self.started + self.limits.dns_timeout;
        let mut attempts = Attempts::new(Extra::shared());
        // The first attempt waits until then, where A came before AAAA.
        let mut not_before = self.started;
        let mut next_attempt = self.started;
        loop {
            let all_answered = v4_answer.is_some() && v6_answer.is_some();
            let now = Instant::now();
            let may_start = all_answered || self.first_attempt.is_some() || now >= not_before;
            if may_start
                && (now >= next_attempt || attempts.is_empty())
                && let Some(address) = self.candidates.next()
            {
                self.first_attempt.get_or_insert(now);
                self.dns.get_or_insert(now - self.started);
                if let Some(given_up) = attempts.start(address, self.port) {
                    let detail = "no answer until its descriptor was needed for another address";
                    self.failed(given_up, Failure::Timeout, detail);
                }
                next_attempt = now + ATTEMPT_DELAY;
            }
            if all_answered && attempts.is_empty() && self.candidates.is_empty() {
                return Err(self.give_up(v4_answer, v6_answer));
            }

            let connect_deadline = self.first_attempt.map(|first| first + self.limits.connect_timeout);
            let wake = [
                (!all_answered).then_some(dns_deadline),
                connect_deadline,
                (!self.candidates.is_empty()).then_some(not_before.max(next_attempt)),
            ];
            // There is always one: if nothing were waited for, the loop would have ended.
            let wake = wake.into_iter().flatten().min().unwrap_or(dns_deadline);
            tokio::select! {
                biased;
                (address, result) = attempts.ended(), if !attempts.is_empty() => match result {
                    Ok((stream, local)) => return Ok(self.connected(stream, address, local)),
                    Err(error) => {
                        let failure = failure_of(self.at(address), &error);
                        self.failed(address, failure, &error.to_string());
                        next_attempt = Instant::now();
                    }
                },
                answer = &mut v6, if v6_answer.is_none() => v6_answer = Some(self.take(answer, turn)),
                answer = &mut v4, if v4_answer.is_none() => {
                    v4_answer = Some(self.take(answer, turn));
                    if v6_answer.is_none() {
                        not_before = Instant::now() + RESOLUTION_DELAY;
                    }
                }
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    if connect_deadline.is_some_and(|deadline| now >= deadline) {
                        if let Some(address) = attempts.oldest() {
                            self.failed(address, Failure::Timeout, "no answer in time");
                        }
                        return Err(self.give_up(v4_answer, v6_answer));
                    }
                    if now >= dns_deadline {
                        v4_answer.get_or_insert_with(|| Err(late()));
                        v6_answer.get_or_insert_with(|| Err(late()));
                    }
                }
            }
        }
    }

    /// Checks every address of an answer. Those that pass become candidates.
    fn take(&mut self, answer: Answer, turn: usize) -> Result<(), LookupError> {
        let addresses = answer?;
        let (after, before) = addresses.split_at(turn % addresses.len().max(1));
        for address in before.iter().chain(after) {
            // First: it is a loop, whether or not `private` opens it.
            if self.own.holds(SocketAddr::new(*address, self.port)) {
                self.loops.push(address.to_canonical());
                continue;
            }
            match (self.admit)(*address) {
                Ok(admitted) => self.candidates.add(admitted),
                Err(denial) => {
                    self.denied.count += 1;
                    if self.denied.first.len() < MAX_NAMED {
                        self.denied.first.push(denial);
                    }
                }
            }
        }
        Ok(())
    }

    fn at(&self, address: Admitted) -> SocketAddr {
        SocketAddr::new(address.ip(), self.port)
    }

    fn failed(&mut self, address: Admitted, failure: Failure, detail: &str) {
        let upstream = self.at(address);
        if self.failure.is_none_or(|(before, _)| failure > before) {
            self.failure = Some((failure, upstream));
        }
        if self.failures.len() < MAX_NAMED {
            self.failures.push(format!("{upstream}: {detail}"));
        }
    }

    fn connected(self, stream: TcpStream, address: Admitted, local: SocketAddr) -> Dialled {
        Dialled {
            stream: UpstreamStream::Bare(stream),
            address,
            upstream: self.at(address),
            local,
            dns: self.dns.filter(|_| self.by_name).unwrap_or_default(),
            connect: self.first_attempt.map(|first| first.elapsed()).unwrap_or_default(),
            denied: self.denied,
        }
    }

    /// Says why there is no connection: what was dialled and failed, or else what was dropped, or else what DNS said.
    fn give_up(
        mut self,
        v4: Option<Result<(), LookupError>>,
        v6: Option<Result<(), LookupError>>,
    ) -> DialError {
        self.dns.get_or_insert(self.started.elapsed());
        let (reason, detail) = if let Some((failure, _)) = self.failure {
            (failure.reason(), self.failures.join("; "))
        } else if let Some(ip) = self.loops.first() {
            (Reason::Loop, format!("{ip}:{} is egressd itself", self.port))
        } else if self.denied.count > 0 {
            let denials: Vec<String> = self.denied.first.iter().map(AddressDenial::to_string).collect();
            (Reason::AddressProhibited, denials.join("; "))
        } else {
            match [v4, v6].into_iter().flatten().filter_map(Result::err).reduce(LookupError::more_telling) {
                Some(error) => (error.reason, error.detail.to_string()),
                None => (Reason::DnsNoAddress, "the name has no address".to_owned()),
            }
        };
        DialError {
            reason,
            dns: self.dns.filter(|_| self.by_name),
            connect: self.first_attempt.map(|first| first.elapsed()),
            upstream: self.failure.map(|(_, upstream)| upstream),
            detail,
            denied: self.denied,
        }
    }
}
