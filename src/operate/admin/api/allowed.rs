//! `/api/allowed`: who went where since the start: the most used targets, the clients that asked most, and both together.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::query::{Query, cut};
use crate::state::allowed::Pair;
use crate::state::shared::Shared;
use crate::words::small_sort::SmallSort as _;
use crate::words::target::{Host, Port};

/// Clients of the matrix, and targets: those with the most requests.
const MATRIX: usize = 12;

#[derive(Serialize)]
pub(super) struct Allowed {
    now: Timestamp,
    /// When the counting began. Pairs of a client with very many targets may have been forgotten since.
    since: Timestamp,
    /// Pairs of a client and a target.
    total: usize,
    /// Those that match the filter.
    matching: usize,
    targets_total: usize,
    /// The most used first.
    targets: Vec<Side>,
    clients_total: usize,
    /// Those with the most requests first.
    clients: Vec<Side>,
    matrix: Matrix,
}

/// A target with all its clients, or a client with all its targets.
#[derive(Serialize)]
struct Side {
    name: String,
    /// Of a client: the identity that it proved last.
    identity: Option<String>,
    /// Requests.
    count: u64,
    /// Those that only report mode let pass.
    by_report_mode: u64,
    /// How many clients, or targets.
    others: usize,
    last: Timestamp,
}

/// How often which client went where.
#[derive(Serialize)]
struct Matrix {
    clients: Vec<String>,
    targets: Vec<String>,
    /// A row for each client, with a number for each target.
    counts: Vec<Vec<u64>>,
}

pub(super) fn of(query: &Query, shared: &Shared) -> Allowed {
    put_together(query, shared.allowed.pairs(), shared.started)
}

fn put_together(query: &Query, mut pairs: Vec<Arc<Pair>>, since: Timestamp) -> Allowed {
    let total = pairs.len();
    pairs.retain(|pair| is_wanted(query, pair));
    let targets = sum(&pairs, |pair| (&pair.host, pair.port));
    let clients = sum(&pairs, |pair| pair.client);
    let some = MATRIX.min(query.limit);
    let matrix =
        matrix(&pairs, clients.get(..some).unwrap_or(&clients), targets.get(..some).unwrap_or(&targets));
    Allowed {
        now: Timestamp::now(),
        since,
        total,
        matching: pairs.len(),
        targets_total: targets.len(),
        targets: targets
            .iter()
            .take(query.limit)
            .map(|(target, sum)| sum.shown(authority(*target)))
            .collect(),
        clients_total: clients.len(),
        clients: clients
            .iter()
            .take(query.limit)
            .map(|(client, sum)| sum.shown(client.to_string()))
            .collect(),
        matrix,
    }
}

fn is_wanted(query: &Query, pair: &Pair) -> bool {
    query.filter.is_empty()
        || query.takes(&[
            Some(&authority((&pair.host, pair.port))),
            Some(&pair.client.to_string()),
            pair.identity.as_deref(),
        ])
}

fn authority((host, port): (&Host, Port)) -> String {
    format!("{host}:{port}")
}

struct Sum<'a> {
    count: u64,
    by_report_mode: u64,
    pairs: usize,
    last: Timestamp,
    identity: Option<&'a str>,
}

impl Sum<'_> {
    fn shown(&self, name: String) -> Side {
        Side {
            name,
            identity: self.identity.map(cut),
            count: self.count,
            by_report_mode: self.by_report_mode,
            others: self.pairs,
            last: self.last,
        }
    }
}

/// Pairs with the same key, those with the most requests first.
fn sum<'a, K: Hash + Ord + Copy>(pairs: &'a [Arc<Pair>], key: impl Fn(&'a Pair) -> K) -> Vec<(K, Sum<'a>)> {
    let mut sums: HashMap<K, Sum<'a>> = HashMap::new();
    for pair in pairs {
        let none = Sum { count: 0, by_report_mode: 0, pairs: 0, last: Timestamp::MIN, identity: None };
        let sum = sums.entry(key(pair)).or_insert(none);
        sum.count = sum.count.saturating_add(pair.count);
        sum.by_report_mode = sum.by_report_mode.saturating_add(pair.by_report_mode);
        sum.pairs += 1;
        if pair.last >= sum.last {
            sum.last = pair.last;
            sum.identity = pair.identity.as_deref();
        }
    }
    let mut sums: Vec<(K, Sum<'a>)> = sums.into_iter().collect();
    sums.small_sort_by(|(a, a_sum), (b, b_sum)| b_sum.count.cmp(&a_sum.count).then_with(|| a.cmp(b)));
    sums
}

fn matrix(
    pairs: &[Arc<Pair>],
    clients: &[(IpAddr, Sum<'_>)],
    targets: &[((&Host, Port), Sum<'_>)],
) -> Matrix {
    let counts: HashMap<(IpAddr, &Host, Port), u64> =
        pairs.iter().map(|pair| ((pair.client, &pair.host, pair.port), pair.count)).collect();
    let count = |client, (host, port)| counts.get(&(client, host, port)).copied().unwrap_or_default();
    Matrix {
        clients: clients.iter().map(|(client, _)| client.to_string()).collect(),
        targets: targets.iter().map(|(target, _)| authority(*target)).collect(),
        counts: clients
            .iter()
            .map(|(client, _)| targets.iter().map(|(target, _)| count(*client, *target)).collect())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::query::Endpoint;
    use super::*;

    fn pair(client: u8, host: &str, count: u64) -> Arc<Pair> {
        Arc::new(Pair {
            client: [10, 0, 0, client].into(),
            identity: (client == 1).then(|| "user:one".into()),
            host: Host::parse(host).expect(host),
            port: Port::HTTPS,
            count,
            by_report_mode: u64::from(client == 2),
            last: Timestamp::from_second(i64::from(client)).expect("a moment"),
        })
    }

    #[test]
    fn targets_and_clients_are_summed_and_set_against_each_other() {
        let pairs =
            vec![pair(1, "a.test", 5), pair(2, "a.test", 4), pair(1, "b.test", 2), pair(3, "c.test", 1)];
        let ask = |query| {
            let query = Query::parse(query, Endpoint::Allowed).expect(query);
            put_together(&query, pairs.clone(), Timestamp::UNIX_EPOCH)
        };
        let all = ask("");
        let told: Vec<_> =
            all.targets.iter().map(|side| (side.name.as_str(), side.count, side.others)).collect();
        assert_eq!(told, [("a.test:443", 9, 2), ("b.test:443", 2, 1), ("c.test:443", 1, 1)]);
        let told: Vec<_> =
            all.clients.iter().map(|side| (side.name.as_str(), side.count, side.others)).collect();
        assert_eq!(told, [("10.0.0.1", 7, 2), ("10.0.0.2", 4, 1), ("10.0.0.3", 1, 1)]);
        assert_eq!(all.clients[0].identity.as_deref(), Some("user:one"));
        assert_eq!(all.matrix.counts, [[5, 2, 0], [4, 0, 0], [0, 0, 1]]);
        let some = ask("filter=user:one&limit=1");
        assert_eq!((some.total, some.matching, some.targets_total, some.targets.len()), (4, 2, 2, 1));
        assert_eq!(some.matrix.counts, [[5]]);
        assert!(ask("limit=0").matrix.counts.is_empty());
        let many = (0..500).map(|number| pair((number % 200) as u8, &format!("n{number}.test"), 1)).collect();
        let many =
            put_together(&Query::parse("", Endpoint::Allowed).expect("nothing"), many, Timestamp::UNIX_EPOCH);
        assert_eq!((many.matrix.counts.len(), many.matrix.counts[0].len()), (MATRIX, MATRIX));
    }
}
