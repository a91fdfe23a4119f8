//! Which connections end when memory runs short: pure, from a list of what each holds.
//!
//! What flows is asked last: a large transfer holds much by being large. Of the others, first those of clients that hold more
//! than their share while another waits, whatever their age; then those that have not moved for [`STALLED`]. Within each group,
//! what is oldest and holds most: bytes times seconds. A tunnel or an exchange that holds no more than its cost is chosen only
//! while somebody waits, and after all others: if its client is over its share, or if it is an exchange that does not move for
//! long.
//!
//! A share is what each may have if nobody has more than he wants, and nobody else less than he does ([`share`]): not a part
//! for every head, because who holds little leaves the rest of his part to others.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Who holds: an address, or the network that stands for it, and an identity where there is one. Hashed with a key of this
/// process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Account(pub(super) u64);

/// For this long, a connection that does not move has a reason that is not an attack: a round trip, a lookup, a busy
/// processor.
pub(super) const STALLED: Duration = Duration::from_secs(1);

/// The same for an account that holds little: its end brings nearly nothing, and a dial may take as long.
const STALLED_LITTLE: Duration = Duration::from_secs(10);

/// For this long, a connection that flowed is one that flows.
pub(super) const FLOWS: Duration = Duration::from_secs(3);
/// What moves so much of what it holds flows.
const FLOW: u64 = 16;

/// An exchange may wait for its response for so long, whatever else waits for memory.
const IDLE: Duration = Duration::from_secs(30);
/// More than a tunnel costs.
const EXPENSIVE: usize = 24 * 1024;

/// What has moved less in all may have gone into buffers of the kernel, with nobody who reads them.
const FLOWS_AFTER: u64 = 4 * 1024 * 1024;

/// Whether `moved` bytes since the last time, of `in_all`, show that a connection flows that holds `held` bytes. Less than a
/// whole turn of them, because a transfer may be slow for want of the processor; and more than a byte from time to time.
pub fn is_flow(in_all: u64, moved: u64, held: u64) -> bool {
    in_all >= FLOWS_AFTER && moved > 0 && moved.saturating_mul(FLOW) >= held
}

/// What one connection holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Holding {
    pub(super) account: Account,
    /// The account of the same client before it has proved an identity.
    pub(super) address: Account,
    pub(super) bytes: usize,
    /// Of these, the cost of an open tunnel or exchange.
    pub(super) kept: usize,
    /// How long nothing of it has moved.
    pub(super) stalled: Duration,
    /// It flowed within [`FLOWS`].
    pub(super) flows: bool,
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

/// An account that wants bytes and gets none, and how many it wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Want {
    pub(super) account: Account,
    pub(super) bytes: usize,
    /// Its account holds little.
    pub(super) is_light: bool,
}

/// How much has to come back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// So many may be held by all connections together once there is room; shares are of these.
    pub(super) limit: usize,
    /// Bytes that have to come back.
    pub(super) bytes: usize,
    /// What has moved within this time does not end for an account that has no more than its share.
    pub(super) patience: Duration,
    /// No more connections than this end at once.
    pub(super) most: usize,
}

/// Who has how much, and what a share is.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    held: HashMap<Account, usize>,
    /// What all identities of an address hold together, by the account of one that has not proved any.
    by_address: HashMap<Account, usize>,
    share: usize,
}

impl Accounts {
    /// `holdings`: of all connections, those that are about to end included. Without what these still hold, all would seem to fit while
    /// many of them are on their way out, and nobody to have much.
    pub(super) fn new(holdings: &[Holding], waiting: &[Want], limit: usize) -> Self {
        let held = by_account(holdings);
        let mut by_address = HashMap::new();
        for holding in holdings {
            *by_address.entry(holding.address).or_default() += holding.bytes;
        }
        let mut wanted = held.clone();
        for want in waiting {
            let bytes = wanted.entry(want.account).or_default();
            *bytes = bytes.saturating_add(want.bytes);
        }
        let share = share(wanted.into_values().collect(), limit);
        Accounts { held, by_address, share }
    }

    /// Whether an account has so little of its share that one more connection is nothing. Until a connection has proved an identity, it may
    /// be of any that its address has, and what they hold counts: their handshakes are what costs most.
    pub(super) fn is_light(&self, account: Account) -> bool {
        let is_little =
            |of: &HashMap<Account, usize>| of.get(&account).is_none_or(|held| *held < self.share / 2);
        is_little(&self.held) && is_little(&self.by_address)
    }
}

fn by_account(holdings: &[Holding]) -> HashMap<Account, usize> {
    let mut held: HashMap<Account, usize> = HashMap::new();
    for holding in holdings {
        *held.entry(holding.account).or_default() += holding.bytes;
    }
    held
}

/// The bytes that each may have who wants so much, so that all together have no more than `limit`.
fn share(mut wanted: Vec<usize>, limit: usize) -> usize {
    wanted.sort_unstable();
    let mut left = limit;
    for (place, bytes) in wanted.iter().enumerate() {
        let each = left / (wanted.len() - place);
        if *bytes > each {
            return each;
        }
        left -= bytes;
    }
    limit
}

/// The positions of those that end so that the needed bytes come back, or as many as may. `holdings`: of connections that may end.
/// `waiting`: those that want bytes and get none.
pub(super) fn choose(holdings: &[Holding], waiting: &[Want], accounts: &Accounts, need: Need) -> Vec<usize> {
    let share = accounts.share;
    let mut left = by_account(holdings);
    // With two or more different ones, every account has another that waits.
    let several = waiting.iter().any(|waits| Some(waits.account) != waiting.first().map(|want| want.account));
    let others_wait =
        |account: Account| several || waiting.first().is_some_and(|waits| waits.account != account);
    let order = |bytes: fn(&Holding) -> usize| {
        let weights = holdings.iter().map(|holding| holding.weight(bytes(holding)));
        let mut order: Vec<(u128, usize)> = weights.zip(0..).filter(|(weight, _)| *weight > 0).collect();
        order.sort_unstable_by(|one, other| other.cmp(one));
        order
    };

    // What moves, for a client that holds little: others are the reason why memory is short, and its end would bring nearly nothing.
    let is_spared =
        |holding: &Holding| holding.stalled < STALLED_LITTLE && accounts.is_light(holding.account);
    let spared: HashSet<usize> =
        holdings.iter().zip(0..).filter_map(|(holding, place)| is_spared(holding).then_some(place)).collect();
    let mut chosen = Vec::new();
    let mut is_chosen = vec![false; holdings.len()];
    let mut freed = 0;
    for pass in Pass::ALL {
        let is_enough = |freed: usize, chosen: &[usize]| freed >= need.bytes || chosen.len() >= need.most;
        if is_enough(freed, &chosen) || (waiting.is_empty() && !pass.is_for_nobody()) {
            continue;
        }
        let by = match pass {
            Pass::OpenOverShare | Pass::Idle => |holding: &Holding| holding.bytes,
            _ => Holding::excess,
        };
        for (_, place) in order(by) {
            if is_enough(freed, &chosen) {
                break;
            }
            let (Some(holding), Some(is_chosen)) = (holdings.get(place), is_chosen.get_mut(place)) else {
                continue;
            };
            let left = left.entry(holding.account).or_default();
            let is_over = *left > share && others_wait(holding.account);
            let goes = match pass {
                Pass::OverShare => is_over && !holding.flows,
                Pass::FlowOverShare | Pass::OpenOverShare => is_over,
                Pass::Stalled => {
                    holding.stalled >= need.patience && !holding.flows && !spared.contains(&place)
                }
                Pass::Flows => need.patience.is_zero() && !spared.contains(&place),
                Pass::Idle => holding.stalled >= IDLE && holding.bytes >= EXPENSIVE,
            };
            if goes && !*is_chosen {
                *is_chosen = true;
                *left = left.saturating_sub(holding.bytes);
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
    /// As the first, but it flows.
    FlowOverShare,
    /// Is only open, for an account that is over its share while another waits.
    OpenOverShare,
    /// Is only open, costs more than a tunnel, and has not moved for long, while somebody waits.
    Idle,
    /// It flows, and there is no time to wait for it.
    Flows,
}

impl Pass {
    const ALL: [Pass; 6] =
        [Pass::OverShare, Pass::Stalled, Pass::FlowOverShare, Pass::OpenOverShare, Pass::Idle, Pass::Flows];

    /// Whether it is asked even if nobody waits.
    fn is_for_nobody(self) -> bool {
        matches!(self, Pass::Stalled | Pass::Flows)
    }
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
                address: Account(*account),
                bytes: bytes * KIB,
                kept: kept * KIB,
                stalled: Duration::from_secs_f64(*stalled),
                flows: false,
            })
            .collect()
    }

    fn need(limit: usize, bytes: usize) -> Need {
        Need { limit, bytes, patience: STALLED, most: usize::MAX }
    }

    /// What is chosen with these accounts waiting, each for all.
    fn choose(holdings: &[Holding], waiting: &[Account], need: Need) -> Vec<usize> {
        let waiting: Vec<Want> = waiting
            .iter()
            .map(|account| Want { account: *account, bytes: usize::MAX, is_light: true })
            .collect();
        let accounts = Accounts::new(holdings, &waiting, need.limit);
        super::choose(holdings, &waiting, &accounts, need)
    }

    #[test]
    fn what_is_oldest_and_holds_most_goes_first() {
        let holdings = held(&[(1, 60, 0, 2.0), (1, 70, 0, 2.0), (1, 10, 0, 100.0), (1, 100, 0, 0.5)]);
        for (needed, chosen) in
            [(0, &[][..]), (1, &[2]), (10, &[2]), (11, &[2, 1]), (81, &[2, 1, 0]), (1000, &[2, 1, 0])]
        {
            assert_eq!(choose(&holdings, &[], need(200 * KIB, needed * KIB)), chosen, "{needed}");
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
        // A share is a half; then of what the third one leaves.
        assert_eq!(choose(&held(&rows), &[two], need(100 * KIB, 90 * KIB)), [1]);
        assert_eq!(choose(&held(&rows), &[three, one], need(100 * KIB, 90 * KIB)), [1]);
        assert_eq!(choose(&held(&rows), &[three], need(100 * KIB, 10 * KIB)), [1]);
        // Down to its share; after that only what does not move.
        let rows = [(1, 40, 0, 0.0), (1, 50, 0, 0.0), (2, 10, 0, 15.0)];
        assert_eq!(choose(&held(&rows), &[three], need(300 * KIB, 90 * KIB)), [2]);
    }

    /// At the limit, with no time to wait for who moves: what moves for the one that holds little goes after all that stalls.
    #[test]
    fn a_client_that_holds_little_and_moves_does_not_end_for_one_that_holds_much() {
        let mut rows = vec![(1, 30, 0, 0.0); 20];
        rows.extend([(2, 60, 0, 9.5), (3, 60, 0, 10.5)]);
        let holdings = held(&rows);
        let waiting = [Account(1)];
        let at_limit = |kib: usize| Need { patience: Duration::ZERO, ..need(500 * KIB, kib * KIB) };
        assert_eq!(choose(&holdings, &waiting, at_limit(1)), [21]);
        let chosen = choose(&holdings, &waiting, at_limit(600));
        assert!(chosen.len() == 19 && !chosen.contains(&20), "{chosen:?}");
        assert!(!choose(&holdings, &waiting, at_limit(700)).contains(&20), "its end would bring nothing");
        // All that the others hold is their cost, and nobody waits.
        let mut open = vec![(1, 60, 60, 0.0); 20];
        open.extend([(2, 10, 0, 9.5), (3, 10, 0, 10.5)]);
        assert_eq!(choose(&held(&open), &[], at_limit(700)), [21]);
        let few = Need { most: 2, ..at_limit(600) };
        assert_eq!(choose(&holdings, &waiting, few).len(), 2);
    }

    /// With client certificates, each connection begins without an identity.
    #[test]
    fn one_that_has_not_said_who_it_is_is_as_heavy_as_all_of_its_address() {
        let mut holdings = held(&[(1, 60, 0, 0.0), (2, 60, 0, 0.0), (3, 10, 0, 0.0), (4, 30, 0, 0.0)]);
        for (holding, address) in holdings.iter_mut().zip([10, 10, 11, 11]) {
            holding.address = Account(address);
        }
        let accounts = Accounts::new(&holdings, &[], 200 * KIB);
        assert_eq!(accounts.share, 200 * KIB);
        let light = [1, 2, 3, 4, 10, 11, 12].map(|account| accounts.is_light(Account(account)));
        assert_eq!(light, [true, true, true, true, false, true, true]);
    }

    #[test]
    fn who_holds_little_leaves_the_rest_of_his_part_to_others() {
        for (wanted, limit, expected) in [
            (vec![], 90, 90),
            (vec![10, 20], 90, 90),
            (vec![100], 90, 90),
            (vec![100, 100, 100], 90, 30),
            (vec![1; 50].into_iter().chain([100]).collect(), 90, 40),
            (vec![100, 10, usize::MAX], 90, 40),
        ] {
            assert_eq!(share(wanted.clone(), limit), expected, "{wanted:?}");
        }
    }

    /// A push of some MiB among many small clients that wait and few that stall: neither its size nor a slow processor chooses it.
    #[test]
    fn what_flows_goes_after_all_that_does_not() {
        let mut holdings = held(&[(1, 5000, 0, 2.0)]);
        holdings[0].flows = true;
        for n in 0..400 {
            holdings.extend(held(&[(2 + n % 2, 300, 0, 0.5)]));
        }
        let limit = 125_000 * KIB;
        let newcomers: Vec<Want> =
            (0..200).map(|n| Want { account: Account(100 + n), bytes: 32 * KIB, is_light: true }).collect();
        for waiting in [&newcomers[..], &newcomers[..1], &[]] {
            for patience in [STALLED, Duration::ZERO] {
                let need = Need { limit, bytes: 100_000 * KIB, patience, most: usize::MAX };
                let accounts = Accounts::new(&holdings, waiting, limit);
                let chosen = super::choose(&holdings, waiting, &accounts, need);
                // With patience and nobody that waits, nothing else has stalled for long enough.
                let is_last =
                    chosen.iter().position(|place| *place == 0).is_none_or(|at| at + 1 == chosen.len());
                assert!(
                    is_last,
                    "{} waiting, {patience:?}: {:?}",
                    waiting.len(),
                    &chosen[..5.min(chosen.len())]
                );
            }
        }
        let accounts = Accounts::new(&holdings, &newcomers, limit);
        assert!(accounts.is_light(Account(1)) && accounts.is_light(Account(100)));
        assert!(!accounts.is_light(Account(2)));
    }

    #[test]
    fn what_only_fills_buffers_does_not_flow_nor_what_takes_a_byte_from_time_to_time() {
        const MIB: u64 = 1 << 20;
        for (in_all, moved, held, expected) in [
            (MIB, MIB, 100, false),
            (4 * MIB, MIB, 100, true),
            (200 * MIB, MIB / 2, 8 * MIB, true),
            (200 * MIB, MIB / 2 - 1, 8 * MIB, false),
            (200 * MIB, 0, 0, false),
        ] {
            assert_eq!(is_flow(in_all, moved, held), expected, "{in_all} {moved} {held}");
        }
    }
}
