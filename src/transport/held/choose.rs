//! Which connections end when memory runs short: pure, from a list of what each holds.
//!
//! First those of clients that hold more than their share while another waits, whatever their age; then those that have not
//! moved for [`STALLED`]. Within each group, what is oldest and holds most: bytes times seconds. A tunnel or an exchange that
//! holds no more than its cost is chosen only while somebody waits, and after all others: if its client is over its share, or if
//! it is an exchange that does not move for long.

use std::collections::HashMap;
use std::time::Duration;

/// Who holds: an address, or the network that stands for it, and an identity where there is one. Hashed with a key of this
/// process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Account(pub(super) u64);

/// For this long, a connection that does not move has a reason that is not an attack: a round trip, a lookup, a busy
/// processor.
pub(super) const STALLED: Duration = Duration::from_secs(1);

/// An exchange may wait for its response for so long, whatever else waits for memory.
const IDLE: Duration = Duration::from_secs(30);
/// More than a tunnel costs.
const EXPENSIVE: usize = 24 * 1024;

/// What one connection holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Holding {
    pub(super) account: Account,
    pub(super) bytes: usize,
    /// Of these, the cost of an open tunnel or exchange.
    pub(super) kept: usize,
    /// How long nothing of it has moved.
    pub(super) stalled: Duration,
}

impl Holding {
    /// Bytes times milliseconds. One second is added, so that among those that have just begun the larger one is chosen.
    fn weight(&self, bytes: usize) -> u128 {
        bytes as u128 * (self.stalled.as_millis() + 1_000)
    }

    /// What it holds beyond its cost.
    fn excess(&self) -> usize {
        self.bytes.saturating_sub(self.kept)
    }
}

/// How much has to come back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// Most bytes of all together.
    pub(super) limit: usize,
    /// Bytes that have to come back.
    pub(super) bytes: usize,
    /// What has moved within this time does not end for an account that has no more than its share.
    pub(super) patience: Duration,
}

/// The positions of those that end so that the needed bytes come back, or as many as may. `waiting`: the accounts that want
/// bytes and get none.
pub(super) fn choose(holdings: &[Holding], waiting: &[Account], need: Need) -> Vec<usize> {
    let mut accounts: HashMap<Account, usize> = HashMap::new();
    for holding in holdings {
        *accounts.entry(holding.account).or_default() += holding.bytes;
    }
    for account in waiting {
        accounts.entry(*account).or_default();
    }
    let share = need.limit / accounts.len().max(1);
    // With two or more different ones, every account has another that waits.
    let several = waiting.iter().any(|waits| Some(waits) != waiting.first());
    let others_wait = |account: Account| several || waiting.first().is_some_and(|waits| *waits != account);
    let order = |bytes: fn(&Holding) -> usize| {
        let weights = holdings.iter().map(|holding| holding.weight(bytes(holding)));
        let mut order: Vec<(u128, usize)> = weights.zip(0..).filter(|(weight, _)| *weight > 0).collect();
        order.sort_unstable_by(|one, other| other.cmp(one));
        order
    };

    let mut chosen = Vec::new();
    let mut is_chosen = vec![false; holdings.len()];
    let mut freed = 0;
    for pass in [Pass::OverShare, Pass::Stalled, Pass::OpenOverShare, Pass::Idle] {
        if freed >= need.bytes || (waiting.is_empty() && pass != Pass::Stalled) {
            continue;
        }
        let by = match pass {
            Pass::OverShare | Pass::Stalled => Holding::excess,
            Pass::OpenOverShare | Pass::Idle => |holding: &Holding| holding.bytes,
        };
        for (_, place) in order(by) {
            if freed >= need.bytes {
                break;
            }
            let (Some(holding), Some(is_chosen)) = (holdings.get(place), is_chosen.get_mut(place)) else {
                continue;
            };
            let held = accounts.entry(holding.account).or_default();
            let goes = match pass {
                Pass::OverShare | Pass::OpenOverShare => *held > share && others_wait(holding.account),
                Pass::Stalled => holding.stalled >= need.patience,
                Pass::Idle => holding.stalled >= IDLE && holding.bytes >= EXPENSIVE,
            };
            if goes && !*is_chosen {
                *is_chosen = true;
                *held = held.saturating_sub(holding.bytes);
                freed += holding.bytes;
                chosen.push(place);
            }
        }
    }
    chosen
}

/// Who is asked, one after the other, as long as too little came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    /// Holds something beyond its cost, for an account that is over its share while another waits.
    OverShare,
    /// Holds something beyond its cost, and has not moved for a while.
    Stalled,
    /// Is only open, for an account that is over its share while another waits.
    OpenOverShare,
    /// Is only open, costs more than a tunnel, and has not moved for long, while somebody waits.
    Idle,
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    /// Account, KiB, KiB that are kept, seconds without moving.
    fn held(rows: &[(u64, usize, usize, f64)]) -> Vec<Holding> {
        rows.iter()
            .map(|(account, bytes, kept, stalled)| Holding {
                account: Account(*account),
                bytes: bytes * KIB,
                kept: kept * KIB,
                stalled: Duration::from_secs_f64(*stalled),
            })
            .collect()
    }

    fn need(limit: usize, bytes: usize) -> Need {
        Need { limit, bytes, patience: STALLED }
    }

    #[test]
    fn what_is_oldest_and_holds_most_goes_first() {
        let holdings = held(&[(1, 60, 0, 2.0), (1, 70, 0, 2.0), (1, 10, 0, 100.0), (1, 100, 0, 0.5)]);
        for (needed, chosen) in
            [(0, &[][..]), (1, &[2]), (10, &[2]), (11, &[2, 1]), (81, &[2, 1, 0]), (1000, &[2, 1, 0])]
        {
            assert_eq!(choose(&holdings, &[], need(1000 * KIB, needed * KIB)), chosen, "{needed}");
        }
    }

    #[test]
    fn a_tunnel_is_not_ended_for_being_open() {
        let holdings = held(&[(1, 12, 12, 3600.0), (1, 13, 12, 2.0), (1, 4, 0, 2.0), (1, 40, 40, 31.0)]);
        let all = need(KIB, 1000 * KIB);
        assert_eq!(choose(&holdings, &[], all), [2, 1]);
        // For one that waits, an exchange that is as idle makes room, after all others; for another account all do.
        assert_eq!(choose(&holdings, &[Account(1)], all), [2, 1, 3]);
        assert_eq!(choose(&holdings, &[Account(2)], all), [2, 1, 0, 3]);
    }

    #[test]
    fn an_account_over_its_share_makes_room_for_one_that_waits() {
        let rows = [(1, 40, 0, 0.0), (1, 50, 0, 0.0), (2, 10, 0, 0.0)];
        let (one, two, three) = (Account(1), Account(2), Account(3));
        // Nobody else waits: it may have all.
        assert_eq!(choose(&held(&rows), &[], need(100 * KIB, 50 * KIB)), [0; 0]);
        assert_eq!(choose(&held(&rows), &[one, one], need(100 * KIB, 50 * KIB)), [0; 0]);
        // A share is a half, then a third.
        assert_eq!(choose(&held(&rows), &[two], need(100 * KIB, 90 * KIB)), [1]);
        assert_eq!(choose(&held(&rows), &[three, one], need(100 * KIB, 90 * KIB)), [1, 0]);
        assert_eq!(choose(&held(&rows), &[three], need(100 * KIB, 10 * KIB)), [1]);
        // Down to its share; after that only what does not move.
        let rows = [(1, 40, 0, 0.0), (1, 50, 0, 0.0), (2, 10, 0, 5.0)];
        assert_eq!(choose(&held(&rows), &[three], need(300 * KIB, 90 * KIB)), [2]);
    }
}
