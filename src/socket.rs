//! Socket options of both sides of a tunnel.
//!
//! A load balancer forgets an idle connection after 350 s without telling anybody (AWS NLB), so keepalive probes go
//! out well before that, and a peer that answers none of them is given up after two minutes.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Idle time before the first keepalive probe.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered probes before the peer is given up.
pub const KEEPALIVE_PROBES: u32 = 4;

/// Sets TCP_NODELAY and keepalive on a TCP socket: one that is connected or will be, or one that listens, from which Linux
/// hands them to every connection that it accepts.
///
/// Keepalive finds a dead peer of an idle tunnel, retransmission (tcp_retries2, some 15 minutes) that of a busy one; who wants
/// it sooner asks for [`give_up_after`].
///
/// # Errors
/// What setsockopt(2) says; on a connection that the peer has reset, the options no longer matter.
pub fn tune(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Sets TCP_USER_TIMEOUT (RFC 5482): a peer that for so long acknowledges nothing of what it was sent is given up, the
/// connection then ends with ETIMEDOUT. In the place of [`KEEPALIVE_PROBES`] it bounds an idle connection's probes, too.
///
/// Never unasked: Linux counts the time for which a peer's window is shut towards it, even while the peer acknowledges every
/// probe, so that a target that is busy with a push for longer would be given up for dead.
///
/// # Errors
/// What setsockopt(2) says.
pub fn give_up_after(socket: &impl AsFd, timeout: Duration) -> io::Result<()> {
    SockRef::from(socket).set_tcp_user_timeout(Some(timeout))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn what_a_tuned_listener_accepts_beats_the_load_balancer_and_gives_a_dead_peer_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        tune(&listener).unwrap();
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        for socket in [SockRef::from(&listener), SockRef::from(&accepted)] {
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
            assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        }
        give_up_after(&accepted, Duration::from_millis(90_500)).unwrap();
        assert_eq!(SockRef::from(&accepted).tcp_user_timeout().unwrap(), Some(Duration::from_millis(90_500)));
    }
}
