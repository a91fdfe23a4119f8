//! The race of Happy Eyeballs v2 (RFC 8305 §4, §5): which address is next, and the attempts under way.
//!
//! Not here: where the addresses come from, and the deadlines ([`dial`](super)).

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tokio::net::{TcpSocket, TcpStream};

use crate::outbound::resolve::Family;
use crate::rules::address::Admitted;
use crate::transport::socket;
use crate::words::outcome::Reason;

/// Addresses tried for one target at most: an answer may have thousands.
pub(super) const MAX_ATTEMPTS: usize = 60;

/// Admitted addresses not tried yet. The families alternate, IPv6 first; one that arrives late joins in.
#[derive(Default)]
pub(super) struct Candidates {
    v4: VecDeque<Admitted>,
    v6: VecDeque<Admitted>,
    last: Option<Family>,
    taken: usize,
}

impl Candidates {
    pub(super) fn add(&mut self, address: Admitted) {
        match address.ip().is_ipv4() {
            true => self.v4.push_back(address),
            false => self.v6.push_back(address),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken >= MAX_ATTEMPTS || (self.v4.is_empty() && self.v6.is_empty())
    }

    pub(super) fn next(&mut self) -> Option<Admitted> {
        if self.is_empty() {
            return None;
        }
        let family = match (self.last, self.v6.is_empty(), self.v4.is_empty()) {
            (Some(Family::V6), _, false) | (_, true, _) => Family::V4,
            _ => Family::V6,
        };
        self.last = Some(family);
        self.taken += 1;
        match family {
            Family::V4 => self.v4.pop_front(),
            Family::V6 => self.v6.pop_front(),
        }
    }
}

/// The socket and our address of it.
type Connected = io::Result<(TcpStream, SocketAddr)>;
type Connecting = Pin<Box<dyn Future<Output = Connected> + Send>>;

/// Descriptors for attempts in addition to the first one of each dial, which uses the descriptor of its tunnel. Without
/// this bound, dead addresses would take all descriptors once many clients ask for such a target.
#[derive(Debug)]
pub(super) struct Extra(AtomicUsize);

impl Extra {
    /// Those of the whole program. Until the machine's limit is known: what the smallest limit allows.
    pub(super) fn shared() -> &'static Extra {
        static SHARED: Extra = Extra(AtomicUsize::new(32));
        &SHARED
    }

    /// Sets how many there are. Call it while none are lent out.
    pub(super) fn set(&self, count: usize) {
        self.0.store(count, Ordering::Relaxed);
    }

    fn lend(&'static self) -> Option<Lent> {
        let one_less = |left: usize| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok().then(|| Lent(self))
    }
}

/// One descriptor on loan; dropping it gives it back.
#[derive(Debug)]
struct Lent(&'static Extra);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Connections being made; dropping them closes their sockets.
pub(super) struct Attempts {
    under_way: Vec<Attempt>,
    extra: &'static Extra,
}

struct Attempt {
    to: Admitted,
    // Dropped first: the socket is closed before its descriptor is given to another.
    connecting: Connecting,
    lent: Option<Lent>,
}

impl Attempts {
    pub(super) fn new(extra: &'static Extra) -> Self {
        Attempts { under_way: Vec::new(), extra }
    }

    /// Begins another attempt. Where there is no descriptor for it, it takes that of the oldest attempt, which is given
    /// up; the result is the address of that one.
    pub(super) fn start(&mut self, to: Admitted, port: u16) -> Option<Admitted> {
        let (mut lent, mut given_up) = (None, None);
        if !self.under_way.is_empty() {
            lent = self.extra.lend();
            if lent.is_none() {
                let Attempt { to, connecting, lent: inherited } = self.under_way.remove(0);
                drop(connecting);
                (lent, given_up) = (inherited, Some(to));
            }
        }
        self.under_way.push(Attempt { to, connecting: Box::pin(connect(to, port)), lent });
        given_up
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Where the oldest attempt goes.
    pub(super) fn oldest(&self) -> Option<Admitted> {
        self.under_way.first().map(|attempt| attempt.to)
    }

    /// Waits for the next attempt that ends, with or without a connection. Waits forever where none is under way.
    pub(super) async fn ended(&mut self) -> (Admitted, Connected) {
        poll_fn(|cx| {
            for index in 0..self.under_way.len() {
                let Some(attempt) = self.under_way.get_mut(index) else { break };
                if let Poll::Ready(result) = attempt.connecting.as_mut().poll(cx) {
                    let to = attempt.to;
                    drop(self.under_way.remove(index));
                    return Poll::Ready((to, result));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The only place in egressd that connects to an upstream; what it is given was admitted by the policy.
pub(super) async fn connect(address: Admitted, port: u16) -> Connected {
    let upstream = SocketAddr::new(address.ip(), port);
    let socket = match upstream {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Keepalive comes later, for connections that last: the relay of a tunnel sets it, and an exchange, whose connection
    // may be kept.
    socket::send_at_once(&socket)?;
    let stream = socket.connect(upstream).await?;
    // TCP's simultaneous open: a free local port that is dialled from that same port answers itself.
    let local = stream.local_addr()?;
    if local == upstream {
        return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
    }
    Ok((stream, local))
}

/// How an attempt failed. Of several, the greatest is reported: an answer says more about the target than silence does, and
/// silence more than a missing route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Failure {
    Unreachable,
    Resources,
    Timeout,
    Refused,
}

impl Failure {
    pub(super) fn reason(self) -> Reason {
        match self {
            Failure::Unreachable => Reason::ConnectUnreachable,
            Failure::Resources => Reason::LocalResources,
            Failure::Timeout => Reason::ConnectTimeout,
            Failure::Refused => Reason::ConnectRefused,
        }
    }
}

/// The kind of failure for an error of connect(2).
pub(super) fn failure_of(upstream: SocketAddr, error: &io::Error) -> Failure {
    use rustix::io::Errno;
    let Some(errno) = Errno::from_io_error(error) else {
        return match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::Refused,
            io::ErrorKind::TimedOut => Failure::Timeout,
            _ => Failure::Unreachable,
        };
    };
    match errno {
        Errno::CONNREFUSED | Errno::CONNRESET | Errno::CONNABORTED => Failure::Refused,
        Errno::TIMEDOUT => Failure::Timeout,
        // With IPv6 it means that the host has no IPv6 address; with IPv4, that the ports are used up.
        Errno::ADDRNOTAVAIL if upstream.is_ipv6() => Failure::Unreachable,
        Errno::ADDRNOTAVAIL
        | Errno::AGAIN
        | Errno::ADDRINUSE
        | Errno::MFILE
        | Errno::NFILE
        | Errno::NOBUFS
        | Errno::NOMEM => Failure::Resources,
        // ENETUNREACH, EHOSTUNREACH, EAFNOSUPPORT, and EPERM or EACCES of a local firewall.
        _ => Failure::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::address::admit;

    fn order(v4: usize, v6: usize) -> Vec<String> {
        let mut candidates = Candidates::default();
        for number in 0..v4 {
            candidates.add(admit(format!("8.8.8.{number}").parse().unwrap(), &[]).unwrap());
        }
        for number in 0..v6 {
            candidates.add(admit(format!("2a05::{number}").parse().unwrap(), &[]).unwrap());
        }
        std::iter::from_fn(|| candidates.next()).map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn the_families_alternate_and_ipv6_is_first() {
        assert_eq!(order(3, 1), ["2a05::", "8.8.8.0", "8.8.8.1", "8.8.8.2"]);
        assert_eq!(order(2, 2), ["2a05::", "8.8.8.0", "2a05::1", "8.8.8.1"]);
        assert_eq!(order(0, 2), ["2a05::", "2a05::1"]);
        assert_eq!(order(2, 0), ["8.8.8.0", "8.8.8.1"]);
        assert_eq!(order(0, 0), [""; 0]);
    }

    #[test]
    fn an_ipv6_address_that_comes_late_is_next() {
        let mut candidates = Candidates::default();
        for text in ["8.8.8.1", "8.8.8.2", "8.8.8.3"] {
            candidates.add(admit(text.parse().unwrap(), &[]).unwrap());
        }
        assert_eq!(candidates.next().unwrap().ip().to_string(), "8.8.8.1");
        candidates.add(admit("2a05::1".parse().unwrap(), &[]).unwrap());
        assert_eq!(candidates.next().unwrap().ip().to_string(), "2a05::1");
        assert_eq!(candidates.next().unwrap().ip().to_string(), "8.8.8.2");
    }

    #[tokio::test]
    async fn without_a_descriptor_for_another_attempt_the_oldest_gives_up_its_own() {
        let extra: &'static Extra = Box::leak(Box::new(Extra(AtomicUsize::new(1))));
        let to = |number: u8| admit(format!("8.8.8.{number}").parse().unwrap(), &[]).unwrap();
        let mut attempts = Attempts::new(extra);
        assert_eq!(attempts.start(to(1), 1).map(|to| to.ip()), None, "the tunnel's own");
        assert_eq!(attempts.start(to(2), 1).map(|to| to.ip()), None, "the one there is");
        assert_eq!(attempts.start(to(3), 1).map(|to| to.ip()), Some(to(1).ip()));
        assert_eq!(attempts.start(to(4), 1).map(|to| to.ip()), Some(to(2).ip()));
        assert_eq!(attempts.under_way.len(), 2);
        let mut other = Attempts::new(extra);
        assert!(other.start(to(1), 1).is_none(), "each dial has one");
        assert!(other.start(to(2), 1).is_some());
        drop(attempts);
        assert!(other.start(to(3), 1).is_none(), "it was given back");
        drop(other);
        assert_eq!(extra.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn no_more_than_60_addresses_are_tried() {
        assert_eq!(order(200, 200).len(), MAX_ATTEMPTS);
    }

    #[test]
    fn every_failure_of_connect_has_its_reason() {
        use rustix::io::Errno;
        let v4: SocketAddr = "203.0.113.9:443".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:443".parse().unwrap();
        #[rustfmt::skip]
        let rows = [
            (v4, Errno::CONNREFUSED, Reason::ConnectRefused),
            (v4, Errno::CONNRESET, Reason::ConnectRefused),
            (v4, Errno::NETUNREACH, Reason::ConnectUnreachable),
            (v4, Errno::HOSTUNREACH, Reason::ConnectUnreachable),
            (v4, Errno::PERM, Reason::ConnectUnreachable),
            (v6, Errno::AFNOSUPPORT, Reason::ConnectUnreachable),
            (v4, Errno::TIMEDOUT, Reason::ConnectTimeout),
            (v4, Errno::MFILE, Reason::LocalResources),
            (v4, Errno::NFILE, Reason::LocalResources),
            (v4, Errno::NOBUFS, Reason::LocalResources),
            (v4, Errno::NOMEM, Reason::LocalResources),
            (v4, Errno::ADDRNOTAVAIL, Reason::LocalResources),
            (v6, Errno::ADDRNOTAVAIL, Reason::ConnectUnreachable),
        ];
        for (upstream, errno, want) in rows {
            assert_eq!(failure_of(upstream, &errno.into()).reason(), want, "{errno} at {upstream}");
        }
    }
}
