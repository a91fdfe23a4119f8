//! How large the kernel may make the buffers of a connection whose bytes flow.
//!
//! It makes them as large as the peer is fast (`net.ipv4.tcp_rmem` allows 6 MiB of each socket, and 32 MiB in newer kernels), and what they
//! hold when the other side stops reading is counted only then: a few hundred connections that were fast would be more than there is, before
//! anybody could look. So those that flow share a part of the limit: each client gets its share of it, each of its connections a part of
//! that, and each socket a part of that, while they are so many that the kernel's own sizes would not fit. A client with a thousand
//! connections makes its own ones narrow, and nobody else's. On a path of 20 ms, a share of 1 MiB carries some 25 MiB/s.
//!
//! Where many flow, they also take turns at moving bytes ([`FLOWING`]).

use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::budget::{HeldBytes, Holder};
use crate::transport::socket::{NOTSENT_IN_BULK, NOTSENT_OF_FEW, Unsent};
use crate::transport::turns::{FLOWING, Turn};

/// With as much for each, the kernel chooses, which no socket option can bring it back to: with net.core.rmem_max as it is by default,
/// the next smaller size would be a tenth of this.
const ENOUGH: usize = 4 * 1024 * 1024;
/// What waits unsent for few connections is at most one part in so many of what connections may hold.
const PARTS_OF_FEW: usize = 8;
/// More than so many take turns.
const CROWD: usize = 8;
/// Nobody gets less than this, whatever the share is: with less, nothing would flow.
const LEAST: usize = 128 * 1024;

/// One connection whose bytes flow, counted for as long as this lives.
#[derive(Debug)]
pub struct Flowing {
    budget: Arc<HeldBytes>,
    client: u64,
    /// What its sockets were told.
    told: Told,
    /// Its turns: made when many flow.
    turn: Option<Turn>,
}

/// What both sockets of a connection may hold together, as they were told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told(usize);

impl Default for Told {
    /// Nothing: the kernel chooses.
    fn default() -> Self {
        Told(ENOUGH)
    }
}

impl Told {
    /// What a connection may hold that begins to flow now. Its sockets are told before bytes come: what a socket has taken in, it keeps.
    pub fn ahead(holder: &Holder) -> Self {
        Told(holder.budget().share_of_flowing(holder.shares_with()))
    }

    /// Tells it to a socket that was told `before`.
    pub fn tell(self, before: Told, socket: &TcpStream) {
        if self == before {
            return;
        }
        let Told(share) = self;
        let socket = SockRef::from(socket);
        // A quarter for what comes and as much for what goes, of either socket. The kernel takes twice the number, for what packets
        // cost beside their bytes, and no more than net.core.rmem_max. If it fails, the peer is gone.
        let _ = socket.set_recv_buffer_size(share / 8);
        let _ = socket.set_tcp_notsent_lowat((share / 4).min(NOTSENT_IN_BULK) as u32);
    }
}

impl Flowing {
    /// One more, of the client that `holder` holds for. Its sockets were `told` this.
    pub fn new(holder: &Holder, told: Told) -> Self {
        let (budget, client) = (Arc::clone(holder.budget()), holder.shares_with());
        budget.flows.enter(client);
        Flowing { budget, client, told, turn: None }
    }

    /// Tells its sockets how much they may hold, if that has changed.
    pub fn bound(&mut self, each: impl FnOnce(&dyn Fn(&TcpStream))) {
        let before = self.told;
        let told = Told(self.budget.share_of_flowing(self.client));
        if told != before {
            self.told = told;
            each(&|socket| told.tell(before, socket));
        }
    }

    /// What its sockets were told last.
    pub fn told(&self) -> Told {
        self.told
    }

    /// Where many flow, this one waits for its turn to move bytes.
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.budget.is_crowded() {
            // Its place in line goes with it.
            self.turn = None;
            return Poll::Ready(());
        }
        self.turn.get_or_insert_with(|| Turn::of(&FLOWING, self.client)).poll(cx)
    }

    /// It wants no turn any more, and gives back the one that it has.
    pub fn leave_line(&mut self) {
        self.turn = None;
    }

    /// It had its turn, and bytes `moved`, or there was nothing to do.
    pub fn had_turn(&mut self, cx: &mut Context<'_>, moved: bool) {
        match &mut self.turn {
            Some(turn) if moved => turn.had(cx),
            Some(turn) => turn.unused(),
            None => {}
        }
    }
}

impl Drop for Flowing {
    fn drop(&mut self) {
        self.budget.flows.leave(self.client);
    }
}

/// So many at most are few: each has a worker for itself, and none takes turns.
fn few() -> usize {
    FLOWING.at_once().min(CROWD)
}

impl HeldBytes {
    /// The part of what connections may hold that those share whose bytes flow.
    const FLOWING: (usize, usize) = (1, 2);

    /// What both sockets of a connection may hold together, whose bytes flow for `client`: a power of two, so that it changes seldom.
    fn share_of_flowing(&self, client: u64) -> usize {
        let (of, parts) = Self::FLOWING;
        let shared = (self.for_connections() / parts).saturating_mul(of);
        // However few are shared out between however many clients, there are enough: asked in every turn, and true nearly always.
        let most = self.flows.all() / 2 + 1;
        if most.saturating_mul(most).saturating_mul(ENOUGH) <= shared {
            return ENOUGH;
        }
        let (clients, own) = self.flows.of(client);
        let share = shared / clients.max(1) / own.max(1);
        if share >= ENOUGH { ENOUGH } else { (1 << share.max(1).ilog2()).max(LEAST) }
    }

    /// Whether those that flow are [`few`].
    pub fn has_few_flows(&self) -> bool {
        self.flows.all() <= few()
    }

    /// Whether so many flow that a worker has several of them to serve at any time.
    pub fn is_crowded(&self) -> bool {
        self.flows.all() > CROWD
    }
}

impl Holder {
    /// What may wait unsent for a receiver that reads, where its connection flows and may have a pipe; None: it may not.
    pub fn may_wait_unsent(&self) -> Option<Unsent> {
        let budget = self.budget();
        if budget.share_of_flowing(self.shares_with()) < ENOUGH {
            return None;
        }
        let has_room =
            budget.for_connections() / PARTS_OF_FEW >= few() * NOTSENT_OF_FEW && !budget.is_short();
        Some(if has_room && budget.has_few_flows() { Unsent::OfFew } else { Unsent::InBulk })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::transport::held::Kind;

    fn connection(budget: &Arc<HeldBytes>, client: u8) -> Arc<Holder> {
        let holder = budget.enter();
        holder.is_for(IpAddr::from([10, 0, 0, client]), None);
        holder
    }

    #[test]
    fn the_more_flow_the_less_each_may_hold_and_never_too_little() {
        let budget = HeldBytes::new(128 * 1024 * 1024);
        let of = connection(&budget, 1);
        let mut flowing: Vec<Flowing> = Vec::new();
        let mut shares = Vec::new();
        for _ in 0..2000 {
            flowing.push(Flowing::new(&of, Told::default()));
            shares.push(budget.share_of_flowing(of.shares_with()));
        }
        assert_eq!((shares[15], shares[16], shares[99], shares[1999]), (ENOUGH, 2 << 20, 512 << 10, LEAST));
        assert!(shares.is_sorted_by(|before, after| before >= after));
        let all: usize = 100 * shares[99];
        assert!(all <= budget.limit() / 2, "{all}");
        drop(flowing);
        assert_eq!(budget.share_of_flowing(of.shares_with()), ENOUGH);
        assert!(budget.flows.is_empty());
        assert_eq!(HeldBytes::unlimited().share_of_flowing(0), ENOUGH);
    }

    #[test]
    fn few_may_have_more_unsent_where_that_is_a_small_part() {
        let least = PARTS_OF_FEW * few() * NOTSENT_OF_FEW;
        let large = (1..).map(|mib| HeldBytes::new(mib << 20)).find(|of| of.for_connections() >= least);
        let large = large.expect("some limit is large enough");
        let small = HeldBytes::new(large.limit() - (1 << 20));
        let unsent = |budget: &Arc<HeldBytes>| connection(budget, 1).may_wait_unsent();
        assert_eq!((unsent(&large), unsent(&small)), (Some(Unsent::OfFew), Some(Unsent::InBulk)));
        let of = connection(&large, 1);
        let mut flowing: Vec<Flowing> = (0..few()).map(|_| Flowing::new(&of, Told::default())).collect();
        assert_eq!(unsent(&large), Some(Unsent::OfFew));
        flowing.push(Flowing::new(&of, Told::default()));
        assert_eq!(unsent(&large), Some(Unsent::InBulk));
        // Or it is short of memory.
        flowing.clear();
        assert_eq!(unsent(&large), Some(Unsent::OfFew));
        large.charge(Kind::Log, large.limit());
        assert_ne!(unsent(&large), Some(Unsent::OfFew));
    }

    #[test]
    fn a_client_with_many_makes_only_its_own_narrow() {
        let budget = HeldBytes::new(128 * 1024 * 1024);
        let (greedy, other) = (connection(&budget, 1), connection(&budget, 2));
        let many: Vec<Flowing> = (0..1500).map(|_| Flowing::new(&greedy, Told::default())).collect();
        assert!(other.may_wait_unsent().is_some() && greedy.may_wait_unsent().is_none());
        let one = Flowing::new(&other, Told::default());
        let share = |of: &Holder| budget.share_of_flowing(of.shares_with());
        assert_eq!((share(&other), share(&greedy)), (ENOUGH, LEAST));
        // Two clients, half of half of the limit each.
        let some: Vec<Flowing> = (1..16).map(|_| Flowing::new(&other, Told::default())).collect();
        assert_eq!(share(&other), 2 << 20);
        drop((one, some, many));
        assert_eq!((share(&other), share(&greedy)), (ENOUGH, ENOUGH));
    }
}
