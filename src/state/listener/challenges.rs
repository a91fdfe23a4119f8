//! The 407s of one listener that have no answer yet, so that an answer on another connection is recognised.
//!
//! Java's HttpClient closes the connection on which it was asked, and sends the request again, with its password, on a new one.
//! The two are taken for one if they come from the same address and ask for the same with the same `User-Agent`. One answer
//! counts for one 407.
//!
//! The table is bounded, in all and for each client; a 407 that finds no place is not waited for. Not here: the record of one that
//! nobody answered ([`mod@crate::session::refuse::unanswered`]).

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long an answer on another connection is waited for, after the connection of the 407 ended. Clients that answer this way
/// do it within milliseconds; this is for slow networks.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(3);
/// 407s in the table, some 100 bytes each.
const MOST: usize = 4_096;
/// Those of one client.
const MOST_OF_CLIENT: usize = 64;
/// 407s whose connection ended: each keeps what its record will say, some 15 KiB at most.
const MOST_ENDED: usize = 256;
/// Those of one client.
const MOST_ENDED_OF_CLIENT: usize = 16;

/// What makes two requests one that was sent twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Same(u64);

/// The 407s without an answer.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    /// Random: no client can make a request that is taken for another one.
    keys: RandomState,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_client: HashMap<IpAddr, Vec<Entry>>,
    all: usize,
    ended: usize,
}

#[derive(Debug)]
struct Entry {
    request: Same,
    answered: CancellationToken,
    ended: bool,
}

/// A 407 that was sent. Once it is dropped, no answer counts for it.
#[derive(Debug)]
pub(crate) struct Asked {
    challenges: Arc<Challenges>,
    client: IpAddr,
    answered: CancellationToken,
}

impl Challenges {
    /// What another request must be equal in, to be the same one again.
    pub(crate) fn same(&self, request: impl Hash) -> Same {
        Same(self.keys.hash_one(request))
    }

    /// A request was answered by a 407. `client` is the address that stands for the client wherever clients are counted.
    pub(crate) fn ask(self: &Arc<Self>, client: IpAddr, request: Same) -> Asked {
        let answered = CancellationToken::new();
        self.table().add(client, Entry { request, answered: answered.clone(), ended: false });
        Asked { challenges: Arc::clone(self), client, answered }
    }

    /// The request came again, with credentials: the oldest 407 to it has its answer.
    pub(crate) fn answer(&self, client: IpAddr, request: Same) {
        let answered = self.table().take(client, |entry| entry.request == request);
        if let Some(entry) = answered {
            entry.answered.cancel();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Each change is complete: a panic elsewhere leaves the table correct.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, client: IpAddr, entry: Entry) {
        if self.all >= MOST || self.by_client.get(&client).is_some_and(|of| of.len() >= MOST_OF_CLIENT) {
            return;
        }
        self.by_client.entry(client).or_default().push(entry);
        self.all += 1;
    }

    fn take(&mut self, client: IpAddr, is: impl FnMut(&Entry) -> bool) -> Option<Entry> {
        let of_client = self.by_client.get_mut(&client)?;
        let entry = of_client.remove(of_client.iter().position(is)?);
        if of_client.is_empty() {
            self.by_client.remove(&client);
        }
        self.all -= 1;
        self.ended -= usize::from(entry.ended);
        Some(entry)
    }

    /// Whether the entry is there, and may stay there without its connection.
    fn end(&mut self, client: IpAddr, answered: &CancellationToken) -> bool {
        let Some(of_client) = self.by_client.get_mut(&client) else { return false };
        let ended_of_client = of_client.iter().filter(|entry| entry.ended).count();
        if self.ended >= MOST_ENDED || ended_of_client >= MOST_ENDED_OF_CLIENT {
            return false;
        }
        let Some(entry) = of_client.iter_mut().find(|entry| is(entry, answered)) else { return false };
        self.ended += usize::from(!entry.ended);
        entry.ended = true;
        true
    }
}

/// Whether it is the entry of the 407 with this token.
fn is(entry: &Entry, answered: &CancellationToken) -> bool {
    // Two tokens are equal only if one is a clone of the other.
    entry.answered == *answered
}

impl Asked {
    /// Whether the request came again with credentials, on another connection.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered.is_cancelled()
    }

    /// Its connection ended. Whether its answer may still be waited for.
    pub(crate) fn ends(&self) -> bool {
        self.challenges.table().end(self.client, &self.answered)
    }

    /// Waits for an answer on another connection, for [`ANSWER_TIME`] or until there will be none.
    pub(crate) async fn wait(&self, none_will_come: impl Future<Output = ()>) {
        tokio::select! {
            () = self.answered.cancelled() => {}
            () = none_will_come => {}
            () = tokio::time::sleep(ANSWER_TIME) => {}
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let answered = &self.answered;
        self.challenges.table().take(self.client, |entry| is(entry, answered));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn another(number: usize) -> IpAddr {
        IpAddr::from([10, 1, (number / 256) as u8, (number % 256) as u8])
    }

    #[test]
    fn one_answer_counts_for_one_407_to_the_same_request_of_that_client() {
        let challenges = Arc::new(Challenges::default());
        let (same, other) = (challenges.same("a.example"), challenges.same("b.example"));
        let asked: Vec<Asked> = (0..3).map(|_| challenges.ask(CLIENT, same)).collect();
        let answered = || asked.iter().map(Asked::is_answered).collect::<Vec<_>>();

        challenges.answer(CLIENT, other);
        challenges.answer(another(0), same);
        assert_eq!(answered(), [false, false, false]);
        challenges.answer(CLIENT, same);
        assert_eq!(answered(), [true, false, false]);
        challenges.answer(CLIENT, same);
        challenges.answer(CLIENT, same);
        challenges.answer(CLIENT, same);
        assert_eq!(answered(), [true, true, true]);
        // An answer that came before is no answer.
        assert!(!challenges.ask(CLIENT, same).is_answered());
        drop(asked);
        let table = challenges.table();
        assert_eq!((table.all, table.by_client.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_waited_for_after_the_connection_ended_and_not_for_long() {
        let challenges = Arc::new(Challenges::default());
        let same = challenges.same("a.example");
        let asked = challenges.ask(CLIENT, same);
        assert!(asked.ends());
        let start = tokio::time::Instant::now();
        asked.wait(std::future::pending()).await;
        assert!(!asked.is_answered());
        assert_eq!(start.elapsed(), ANSWER_TIME);

        let start = tokio::time::Instant::now();
        let answer = async {
            tokio::time::sleep(ANSWER_TIME / 2).await;
            challenges.answer(CLIENT, same);
        };
        tokio::join!(asked.wait(std::future::pending()), answer);
        assert!(asked.is_answered());
        assert_eq!(start.elapsed(), ANSWER_TIME / 2);

        let asked = challenges.ask(CLIENT, same);
        asked.wait(std::future::ready(())).await;
        assert!(!asked.is_answered());
    }

    #[test]
    fn one_client_and_all_together_are_bounded_and_what_has_no_place_is_not_waited_for() {
        let challenges = Arc::new(Challenges::default());
        let same = challenges.same("a.example");
        let ask = |client| challenges.ask(client, same);
        let mut open: Vec<Asked> = (0..=MOST_OF_CLIENT).map(|_| ask(CLIENT)).collect();
        assert_eq!(challenges.table().all, MOST_OF_CLIENT);
        assert!(!open.pop().is_some_and(|beyond| beyond.ends()));
        let ended = open.iter().filter(|asked| asked.ends()).count();
        assert_eq!(ended, MOST_ENDED_OF_CLIENT);
        // The others have their own places.
        let many: Vec<Asked> = (0..MOST).map(|number| ask(another(number))).collect();
        assert_eq!(challenges.table().all, MOST);
        let ended = many.iter().filter(|asked| asked.ends()).count();
        assert_eq!(ended, MOST_ENDED - MOST_ENDED_OF_CLIENT);
        assert_eq!(challenges.table().ended, MOST_ENDED);
        drop((open, many));
        let table = challenges.table();
        assert_eq!((table.all, table.ended, table.by_client.len()), (0, 0, 0));
    }
}
