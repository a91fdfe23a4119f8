//! Whether a load balancer hides the clients: nearly all connections come from a few peers.
//!
//! Behind an NLB with ip targets that does not keep client addresses, every client has one of the NLB's three or so
//! addresses. Then policies by network, limits by client and the log see only the balancer. Nothing here can prove
//! that, because three real clients look the same, so it is only logged once, as a suspicion. Not here: listeners with
//! a PROXY header, which do not have this problem.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::words::small_sort::SmallSort as _;

/// Connections that are examined together.
const WINDOW: u32 = 1_000;
/// An NLB has an address in each of its zones.
const FEW: usize = 3;
/// If the few are a balancer, at most this many of a window's connections come from elsewhere.
const ELSEWHERE: u32 = WINDOW / 100;
/// Peers that are distinguished in one window; later ones count as elsewhere.
const TOLD_APART: usize = 8;

/// The peers of one listener.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    /// The first peers that came, and how often they did.
    seen: Vec<(IpAddr, u32)>,
    connections: u32,
    /// It was logged once, which is enough.
    told: bool,
}

/// Nearly all connections came from these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Few(Vec<IpAddr>);

impl Peers {
    /// Counts a connection. `Some`, once: nearly all came from a few peers.
    pub(crate) fn saw(&self, peer: IpAddr) -> Option<Few> {
        // Plain numbers: a panic elsewhere leaves them correct.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saw(peer)
    }
}

impl Window {
    fn saw(&mut self, peer: IpAddr) -> Option<Few> {
        if self.told {
            return None;
        }
        self.connections += 1;
        if let Some((_, count)) = self.seen.iter_mut().find(|(known, _)| *known == peer) {
            *count += 1;
        } else if self.seen.len() < TOLD_APART {
            self.seen.push((peer, 1));
        }
        if self.connections < WINDOW {
            return None;
        }
        let mut seen = std::mem::take(self).seen;
        seen.small_sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        seen.truncate(FEW);
        let of_few: u32 = seen.iter().map(|(_, count)| count).sum();
        self.told = of_few >= WINDOW - ELSEWHERE;
        // A peer that came only now and then is not one of the few.
        let few = seen.into_iter().filter(|(_, count)| *count > ELSEWHERE).map(|(peer, _)| peer).collect();
        self.told.then_some(Few(few))
    }
}

impl fmt::Display for Few {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(
            f,
            "nearly all of the last {WINDOW} connections came from {}. If that is a load balancer, it hides the clients: \
             policies, limits and the log see it instead of them. Let it keep their addresses (on an NLB: the target group \
             attribute preserve_client_ip.enabled=true), or turn on PROXY protocol v2 there \
             (proxy_protocol_v2.enabled=true) and give this listener `proxy_protocol`",
            peers.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    /// What is reported for connections from peers in turn, each so many times.
    fn told(window: &mut Window, shares: &[(u8, u32)]) -> Vec<Vec<IpAddr>> {
        let peers = shares.iter().flat_map(|(last, count)| (0..*count).map(|_| peer(*last)));
        peers.filter_map(|peer| window.saw(peer)).map(|few| few.0).collect()
    }

    #[test]
    fn nearly_all_connections_from_three_peers_or_fewer_are_told_once() {
        let many: Vec<(u8, u32)> = (0..100).map(|last| (last, 10)).collect();
        let strangers_first: Vec<(u8, u32)> = [(9, 1), (8, 1), (7, 1), (1, 997)].to_vec();
        type Case<'a> = (&'a [(u8, u32)], &'a [u8]);
        let cases: &[Case<'_>] = &[
            (&[(1, 1000)], &[1]),
            (&[(1, 600), (2, 400)], &[1, 2]),
            (&[(1, 300), (2, 500), (3, 200)], &[2, 1, 3]),
            (&strangers_first, &[1]),
            (&[(1, 990), (2, 2), (3, 2), (4, 2), (5, 4)], &[1]),
            // Not yet, not nearly all, not a few.
            (&[(1, 999)], &[]),
            (&[(1, 900), (2, 25), (3, 25), (4, 50)], &[]),
            (&[(1, 250), (2, 250), (3, 250), (4, 250)], &[]),
            (&many, &[]),
        ];
        for (shares, expected) in cases {
            let mut window = Window::default();
            let few = told(&mut window, shares);
            let expected: Vec<IpAddr> = expected.iter().map(|last| peer(*last)).collect();
            assert_eq!(few.concat(), expected, "{shares:?}");
            if !few.is_empty() {
                assert!(told(&mut window, &[(1, 5000)]).is_empty(), "said once");
            }
        }
    }

    #[test]
    fn each_window_is_looked_at_by_itself() {
        let mut window = Window::default();
        assert!(told(&mut window, &[(1, 250), (2, 250), (3, 250), (4, 250)]).is_empty());
        assert_eq!(told(&mut window, &[(1, 1000)]), [[peer(1)]]);
    }
}
