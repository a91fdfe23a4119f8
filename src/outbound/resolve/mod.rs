//! From an absolute name to its addresses: our own tables first, then the name servers.
//!
//! The order is: `dns.hosts`, the system's hosts file, names that are never in DNS (`localhost`, `.invalid`, `.onion`),
//! the cache, the servers. The first of them that knows a name decides it alone, for both families. No search domain is
//! ever tried. A and AAAA are asked for separately. Callers that need the same answer at the same time wait for one
//! question. Every caller has its answer within `dns.timeout`, and a question ends when the last that waits for it leaves.
//! How many questions may be on the wire is shared out by client, and so are the answers that are kept: a client with
//! names whose servers are silent, or with a great many names, is not felt by another.
//!
//! Not here: whether an address may be dialled ([`crate::rules::address`]), which family goes first
//! ([`dial`](super::dial)). A name the policy denies never gets here.

mod answer;
mod cache;
mod query;
mod system;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Dns;
use crate::outbound::places::{Interest, Places};
use crate::words::target::Name;

pub(crate) use answer::NoAnswer;
pub use answer::{Answer, Family, LookupError, ResolverError};
use cache::{Cache, Claim, Ticket, Waiting};
use query::Servers;
pub use system::SystemFiles;
use system::{Followed, Hosts, LOCAL_SERVER};

/// Answers kept for each family. An entry takes some 200 bytes; 64 addresses take 1 KiB more.
const CACHE_ENTRIES: usize = 4096;
/// A kept answer, with its name and eight addresses.
const ENTRY: usize = 512;
/// Most questions on the wire at once; others wait, within their deadline. Each holds a socket, and up to three where
/// the server is slow: hickory sends again from a fresh port after 333 ms, twice.
const MAX_QUESTIONS: usize = 256;
/// How many the descriptors allow.
static QUESTIONS: AtomicUsize = AtomicUsize::new(MAX_QUESTIONS);
/// A question that goes on the wire at once ends earlier than its caller's time by this part of it. So the caller hears
/// which server was silent, and the failure is kept, before the caller leaves.
const LAST_WORD: u32 = 50;

/// Sets how many questions there may be at once. Called at the start, before any resolver is made.
pub fn set_questions(count: usize) {
    QUESTIONS.store(count, Ordering::Relaxed);
}

/// Of so many questions at once, how many may go on although nobody waits for them: their answers are worth a part of the
/// places and no more.
fn most_finishing(questions: usize) -> usize {
    (questions / 4).max(1)
}

/// Looks names up. Cheap to clone; clones share cache and questions. It can be made without a runtime, and is used in one.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Dns,
    static_hosts: Hosts,
    files: SystemFiles,
    followed: Mutex<FollowedFiles>,
    /// When the files are checked next, in milliseconds after `born`.
    next_look: AtomicU64,
    born: Instant,
    hosts: ArcSwap<Hosts>,
    servers: ArcSwap<Servers>,
    cache: Arc<Cache>,
    places: Arc<Places>,
    finishing: Arc<Semaphore>,
    turn: AtomicUsize,
}

struct FollowedFiles {
    hosts: Followed,
    /// None where `dns.servers` are given.
    resolv_conf: Option<Followed>,
}

impl Resolver {
    /// Reads the system's files and sends nothing yet.
    ///
    /// # Errors
    /// [`ResolverError`] where the DNS library refuses its settings. A missing file is not an error: without a hosts file
    /// there are no hosts, without resolv.conf the server is 127.0.0.1, as for every other program.
    pub fn new(settings: &Dns) -> Result<Self, ResolverError> {
        Resolver::with_files(settings, SystemFiles::default())
    }

    /// The same with the system's files elsewhere.
    ///
    /// # Errors
    /// As [`Resolver::new`].
    pub fn with_files(settings: &Dns, files: SystemFiles) -> Result<Self, ResolverError> {
        let mut hosts = Followed::new(&files.hosts);
        let mut resolv_conf = settings.servers.is_empty().then(|| Followed::new(&files.resolv_conf));
        let read_hosts = hosts.changed().map(system::hosts).unwrap_or_default();
        let servers = match &mut resolv_conf {
            None => settings.servers.clone(),
            Some(followed) => {
                let mut found = followed.changed().map(system::nameservers).unwrap_or_default();
                if found.is_empty() {
                    tracing::warn!(file = %files.resolv_conf.display(), "names no server; asking {LOCAL_SERVER}");
                    found.push(LOCAL_SERVER);
                }
                found.into_iter().map(|ip| SocketAddr::new(ip, files.port)).collect()
            }
        };
        let questions = QUESTIONS.load(Ordering::Relaxed);
        let static_hosts =
            settings.hosts.iter().map(|(name, list)| (name.clone(), Arc::from(list.as_slice()))).collect();
        let shared = Shared {
            settings: settings.clone(),
            static_hosts,
            followed: Mutex::new(FollowedFiles { hosts, resolv_conf }),
            next_look: AtomicU64::new(millis(files.poll)),
            born: Instant::now(),
            hosts: ArcSwap::from_pointee(read_hosts),
            servers: ArcSwap::from_pointee(Servers::new(&servers, settings.timeout)?),
            cache: Cache::new(CACHE_ENTRIES),
            places: Places::new(questions),
            finishing: Arc::new(Semaphore::new(most_finishing(questions))),
            turn: AtomicUsize::new(0),
            files,
        };
        Ok(Resolver { shared: Arc::new(shared) })
    }

    /// What the answers that it keeps take in memory, nearly.
    pub fn kept_bytes(&self) -> usize {
        self.shared.cache.kept() * ENTRY
    }

    /// The settings that it was made from: a reload that does not change them can keep the resolver and its cache.
    pub fn settings(&self) -> &Dns {
        &self.shared.settings
    }

    /// The addresses of `name` in one family, for `client`: the account that questions and kept answers are charged to.
    /// Ends within `dns.timeout`.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn lookup(&self, name: &Name, family: Family, client: IpAddr) -> Answer {
        let deadline = Instant::now() + self.shared.settings.timeout;
        self.shared.follow_files();
        if let Some(answer) = self.shared.without_dns(name, family) {
            return answer;
        }
        let asker = match self.shared.cache.claim(name, family, client) {
            Claim::Known(answer) => return answer,
            Claim::Asked(question, waiting) => Asker::new(&self.shared, question, waiting, client),
            Claim::Ours(ticket, waiting) => {
                let asker = Asker::new(&self.shared, ticket.number(), waiting, client);
                asker.waiting.begin(self.shared.clone().ask(ticket));
                asker
            }
        };
        match timeout_at(deadline, asker.waiting.wait()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(LookupError::new(NoAnswer::Failed, "the question was dropped")),
            Err(_) => Err(asker.out_of_time()),
        }
    }

    /// Lets a question that is under way go on until it ends, although `client` no longer waits for it: it was served
    /// with what came first, and the next that asks shall find the answer. It still counts as this client's.
    pub(crate) fn let_finish(&self, name: &Name, client: IpAddr) {
        for family in [Family::V4, Family::V6] {
            if let Some((question, waiting)) = self.shared.cache.asked(name, family) {
                let Ok(finishing) = self.shared.finishing.clone().try_acquire_owned() else { return };
                let asker = Asker::new(&self.shared, question, waiting, client);
                if !asker.interest.is_on_the_wire() {
                    continue;
                }
                let longest = self.shared.settings.timeout;
                tokio::spawn(async move {
                    let _ = timeout(longest, asker.waiting.wait()).await;
                    drop(finishing);
                });
            }
        }
    }

    /// The error of a caller whose own deadline is over.
    pub(crate) fn timed_out(&self) -> LookupError {
        LookupError::timed_out(&self.shared.servers.load().shown())
    }

    /// A number that grows by one with each call. With it each dial begins with another of a name's addresses, as if the
    /// server rotated its answers, although the answer comes from the cache.
    pub(crate) fn turn(&self) -> usize {
        self.shared.turn.fetch_add(1, Ordering::Relaxed)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Shared {
    /// Reads the files again if it is time and they have changed.
    fn follow_files(&self) {
        let now = millis(self.born.elapsed());
        let due = self.next_look.load(Ordering::Relaxed);
        if now < due {
            return;
        }
        let next = now.saturating_add(millis(self.files.poll));
        if self.next_look.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return; // another thread checks them
        }
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(content) = followed.hosts.changed() {
            self.hosts.store(Arc::new(system::hosts(content)));
        }
        let Some(content) = followed.resolv_conf.as_mut().and_then(Followed::changed) else { return };
        let found = system::nameservers(content);
        // An empty file is being written at this moment.
        if found.is_empty() {
            return;
        }
        let addresses: Vec<SocketAddr> =
            found.into_iter().map(|ip| SocketAddr::new(ip, self.files.port)).collect();
        if self.servers.load().addresses().eq(addresses.iter().copied()) {
            return;
        }
        match Servers::new(&addresses, self.settings.timeout) {
            Ok(servers) => {
                tracing::info!(servers = ?addresses, "resolv.conf changed");
                self.servers.store(Arc::new(servers));
                self.cache.forget();
            }
            Err(error) => tracing::error!(%error, "resolv.conf changed; keeping the previous servers"),
        }
    }

    /// The answer, where no name server is needed. A name in a hosts table has the addresses of that table and no others.
    fn without_dns(&self, name: &Name, family: Family) -> Option<Answer> {
        let of_family = |list: &[IpAddr]| {
            let list: Arc<[IpAddr]> = list.iter().filter(|address| family.has(address)).copied().collect();
            if list.is_empty() {
                let detail = "the hosts table has no address of this family";
                return Err(LookupError::new(NoAnswer::NoAddress, detail));
            }
            Ok(list)
        };
        if let Some(list) = self.static_hosts.get(name) {
            return Some(of_family(list));
        }
        if let Some(list) = self.hosts.load().get(name) {
            return Some(of_family(list));
        }
        // RFC 6761 §6.3, §6.4 and RFC 7686 §2: DNS is not asked for these.
        match name.as_str().rsplit('.').next() {
            Some("localhost") => {
                Some(of_family(&[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]))
            }
            Some("invalid" | "onion") => Some(Err(LookupError::new(
                NoAnswer::NoSuchName,
                "the name is never in DNS (RFC 6761, RFC 7686)",
            ))),
            _ => None,
        }
    }

    /// Asks as soon as there is a place, and again if the place is lost meanwhile.
    async fn ask(self: Arc<Self>, ticket: Ticket) {
        let timeout = self.settings.timeout;
        let turn = self.places.queue(ticket.number());
        let (answer, keep) = loop {
            turn.granted().await;
            let deadline = Instant::now() + (timeout - timeout / LAST_WORD);
            let servers = self.servers.load_full();
            tokio::select! {
                biased;
                // Before `revoked`: an answer that is there is not asked for again.
                found = servers.ask(ticket.name(), ticket.family(), deadline) => break found,
                () = turn.revoked() => {}
            }
        };
        drop(turn);
        ticket.answer(answer, keep);
    }
}

/// One caller that waits for a question. The question ends with the last of them.
struct Asker {
    shared: Arc<Shared>,
    // Dropped first: what ends then no longer wants a place.
    interest: Interest,
    waiting: Waiting,
}

impl Asker {
    fn new(shared: &Arc<Shared>, question: u64, waiting: Waiting, client: IpAddr) -> Self {
        Asker { shared: shared.clone(), interest: shared.places.interest(question, client), waiting }
    }

    fn out_of_time(&self) -> LookupError {
        let servers = self.shared.servers.load().shown();
        if self.interest.is_on_the_wire() {
            return LookupError::timed_out(&servers);
        }
        let detail =
            format!("not asked in time: other questions of this client wait for {servers} to answer");
        LookupError::new(NoAnswer::Timeout, &detail)
    }
}
