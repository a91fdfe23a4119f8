//! One question to the name servers, by hickory: over UDP, and over TCP where the answer was truncated.
//!
//! hickory does the protocol: random ports and ids, ignoring forged and foreign packets, EDNS, truncation. Its cache,
//! search list, retries and order of servers are not used (0.26.3: a pool's deadline equals one server's timeout, so a
//! silent first server leaves no time for the second; REFUSED is asked again; a failure is not kept). So each server has
//! a pool of its own, and this module goes from one to the next: an answer or "no such name" is final, after a failure
//! (SERVFAIL, REFUSED, nonsense) the next server is asked, and only a silent server is asked a second time.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name as WireName, RData, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use rustix::io::Errno;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Family, LookupError, NoAnswer, ResolverError};
use super::cache::Keep;
use crate::words::target::Name;

/// The longest time for which an answer is kept: a day.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
/// The longest time for "no such name": five minutes, so that a new name is seen soon (RFC 2308 §5 allows hours).
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(300);
/// "No such name" without an SOA, which would say how long it holds.
const DEFAULT_NEGATIVE_TTL: Duration = Duration::from_secs(1);
/// RFC 2181 §8: a TTL with the high bit set is zero.
const TTL_LIMIT: u32 = 1 << 31;
/// Most CNAME records that are followed within one answer.
const MAX_CHAIN: usize = 16;
/// Most addresses taken from one answer.
pub(super) const MAX_ADDRESSES: usize = 64;
/// The shortest time that a server gets to answer, however many there are.
const MIN_TRY: Duration = Duration::from_millis(400);

/// The name servers in order of preference; the server that answered last is asked first.
pub(super) struct Servers {
    servers: Vec<Server>,
    preferred: AtomicUsize,
    /// How long one server is waited for.
    one_try: Duration,
}

struct Server {
    address: SocketAddr,
    pool: NameServerPool<TokioRuntimeProvider>,
}

/// The result of asking one server.
enum Heard {
    Final(Answer, Keep),
    Failure(String),
    NoResources(String),
    Silence,
}

impl Servers {
    pub(super) fn new(addresses: &[SocketAddr], timeout: Duration) -> Result<Self, ResolverError> {
        let tries = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_mul(2).max(1);
        let one_try = (timeout / tries).max(MIN_TRY).min(timeout);
        let servers = addresses
            .iter()
            .map(|address| Ok(Server { address: *address, pool: pool(*address, one_try)? }))
            .collect::<Result<_, ResolverError>>()?;
        Ok(Servers { servers, preferred: AtomicUsize::new(0), one_try })
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.servers.iter().map(|server| server.address)
    }

    /// The addresses of the servers, as a message names them.
    pub(super) fn shown(&self) -> String {
        let servers: Vec<String> = self.addresses().map(|address| address.to_string()).collect();
        servers.join(", ")
    }

    /// Asks until a server answers or `deadline` is over.
    pub(super) async fn ask(&self, name: &Name, family: Family, deadline: Instant) -> (Answer, Keep) {
        let Ok(mut wire_name) = WireName::from_ascii(name.as_str()) else {
            // A canonical name always is a wire name. If it were not, it could not exist in DNS.
            return (
                Err(LookupError::new(NoAnswer::NoSuchName, "not a DNS name")),
                Keep::For(Duration::ZERO),
            );
        };
        wire_name.set_fqdn(true);
        let query = Query::query(wire_name, family.record_type());

        let count = self.servers.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut has_failed = vec![false; count];
        let mut failure = None;
        for turn in 0..2 * count {
            let index = (first + turn) % count;
            if has_failed[index] {
                continue;
            }
            if Instant::now() >= deadline {
                break;
            }
            let server = &self.servers[index];
            let until = deadline.min(Instant::now() + self.one_try);
            match server.ask(&query, until).await {
                Heard::Final(answer, keep) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return (answer, keep);
                }
                Heard::Failure(detail) => {
                    has_failed[index] = true;
                    failure =
                        Some(LookupError::new(NoAnswer::Failed, &format!("{}: {detail}", server.address)));
                }
                Heard::NoResources(detail) => {
                    let error = LookupError::new(NoAnswer::Resources, &detail);
                    return (Err(error), Keep::For(Duration::ZERO));
                }
                Heard::Silence => {}
            }
        }
        let error = failure.unwrap_or_else(|| {
            LookupError::new(NoAnswer::Timeout, &format!("no answer from {}", self.shown()))
        });
        (Err(error), Keep::Failure)
    }
}

fn pool(
    address: SocketAddr,
    one_try: Duration,
) -> Result<NameServerPool<TokioRuntimeProvider>, ResolverError> {
    let mut options = ResolverOpts::default();
    options.timeout = one_try;
    options.num_concurrent_reqs = 1;
    // For one TCP connection; UDP has no such limit.
    options.max_active_requests = 256;
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .into_iter()
        .map(|mut connection| {
            connection.port = address.port();
            connection
        })
        .collect();
    let server = NameServerConfig::new(address.ip(), true, connections);
    let context = PoolContext::new(options, TlsConfig::new().map_err(|error| ResolverError(tell(&error)))?);
    Ok(NameServerPool::from_config([server], Arc::new(context), TokioRuntimeProvider::new()))
}

impl Server {
    async fn ask(&self, query: &Query, until: Instant) -> Heard {
        let lookup = self.pool.lookup(query.clone(), DnsRequestOptions::default()).first_answer();
        match timeout_at(until, lookup).await {
            Err(_) | Ok(Err(NetError::Timeout)) => Heard::Silence,
            Ok(Ok(response)) => read(query, &response),
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => {
                let ttl = none.negative_ttl;
                nothing(none.response_code == ResponseCode::NXDomain, ttl.map(ttl_of))
            }
            Ok(Err(NetError::Io(error))) if is_out_of_resources(&error) => {
                Heard::NoResources(error.to_string())
            }
            Ok(Err(error)) => Heard::Failure(tell(&error)),
        }
    }
}

/// Says what hickory found, about the server ("it").
fn tell(error: &NetError) -> String {
    let text = match error {
        NetError::Dns(DnsError::ResponseCode(code)) => return tell_code(*code),
        NetError::Proto(error) => return format!("its answer is malformed: {}", cause(error)),
        NetError::Io(error) if error.kind() == ErrorKind::ConnectionRefused => "no name server is there",
        NetError::Io(error) => return error.to_string(),
        NetError::Busy => "too many questions to it are open",
        NetError::NoConnections => "there is no connection to it",
        NetError::Truncated => "its answer is truncated, over TCP as well",
        other => return other.to_string(),
    };
    text.to_owned()
}

/// The error of the message that others are wrapped around.
fn cause(error: &ProtoError) -> String {
    match error {
        ProtoError::FormError { error, .. } => cause(error),
        ProtoError::Decode(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// The answer of a server that has none, by its name in the register of IANA where it is a likely one.
fn tell_code(code: ResponseCode) -> String {
    let text = match code {
        ResponseCode::ServFail => "it answered SERVFAIL: it could not find out",
        ResponseCode::Refused => "it answered REFUSED: it does not serve this client or this name",
        ResponseCode::FormErr => "it answered FORMERR: it did not understand the question",
        ResponseCode::NotImp => "it answered NOTIMP: it does not support the question",
        other => return format!("it answered with the error {} ({other})", u16::from(other)),
    };
    text.to_owned()
}

fn is_out_of_resources(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

fn ttl_of(seconds: u32) -> Duration {
    if seconds >= TTL_LIMIT { Duration::ZERO } else { Duration::from_secs(u64::from(seconds)) }
}

fn nothing(is_no_such_name: bool, ttl: Option<Duration>) -> Heard {
    let error = if is_no_such_name {
        LookupError::new(NoAnswer::NoSuchName, "no such name")
    } else {
        LookupError::new(NoAnswer::NoAddress, "the name has no address of this family")
    };
    Heard::Final(Err(error), Keep::For(ttl.unwrap_or(DEFAULT_NEGATIVE_TTL).min(MAX_NEGATIVE_TTL)))
}

/// Takes the addresses at the end of the CNAME chain from the answer section. All other records are ignored, wherever they
/// come from.
fn read(query: &Query, response: &DnsResponse) -> Heard {
    let code = response.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Heard::Failure(tell_code(code));
    }
    if response.queries.first() != Some(query) {
        // Over UDP, hickory has already checked this.
        return Heard::Failure("it answered another question".to_owned());
    }
    let mut owner = query.name();
    let mut ttl = MAX_TTL;
    for _ in 0..MAX_CHAIN {
        let next = response.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *owner => Some((&target.0, record.ttl)),
            _ => None,
        });
        let Some((target, seconds)) = next else { break };
        owner = target;
        ttl = ttl.min(ttl_of(seconds));
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for record in response.answers.iter().filter(|record| record.name == *owner) {
        let address = match (&record.data, query.query_type()) {
            (RData::A(address), RecordType::A) => IpAddr::V4(address.0),
            (RData::AAAA(address), RecordType::AAAA) => IpAddr::V6(address.0),
            _ => continue,
        };
        ttl = ttl.min(ttl_of(record.ttl));
        if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        let negative = response.negative_ttl().map(|seconds| ttl.min(ttl_of(seconds)));
        return nothing(code == ResponseCode::NXDomain, negative);
    }
    Heard::Final(Ok(Arc::from(addresses)), Keep::For(ttl))
}
