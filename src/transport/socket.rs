//! Socket options of both sides of a tunnel.
//!
//! A load balancer silently forgets an idle connection after 350 s (AWS NLB), so keepalive probes are sent well before that.
//! A connection whose peer answers none of them ends after two minutes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Idle time before the first keepalive probe.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered probes after which the connection ends.
pub const KEEPALIVE_PROBES: u32 = 4;

/// Connections that may wait to be accepted; net.core.somaxconn may set a lower limit. When a load balancer moves its
/// clients to this host, they all come at once. A full queue drops their handshakes, and some of them are reset a minute
/// later.
pub(super) const BACKLOG: i32 = 4096;

/// Bytes that may wait in a socket for the peer's window (TCP_NOTSENT_LOWAT). The kernel would take in 4 MiB that the peer does not
/// read. What is under way is not bounded by this, so a long path stays full.
pub const NOTSENT: usize = 128 * 1024;
/// The same where bulk flows, which empties the largest pipe at once. With [`NOTSENT`] a GiB costs a quarter more, because a pipe is
/// emptied in pieces.
pub const NOTSENT_IN_BULK: usize = 1024 * 1024;
/// The same where only a few connections flow. A socket is writable while less than half of this waits in it, so one that is written one
/// full pipe at a time stays writable. With less, it stops and starts again, and each time a worker is woken for nothing: where proxy,
/// client and target share a processor, a GiB costs a fifth more with [`NOTSENT_IN_BULK`]. With this it costs what it costs without a bound.
pub const NOTSENT_OF_FEW: usize = 4 * 1024 * 1024;

/// What may wait in a socket for a receiver of bulk: one byte, because ten thousand tunnels keep it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsent {
    /// [`NOTSENT_IN_BULK`].
    InBulk,
    /// [`NOTSENT_OF_FEW`].
    OfFew,
}

/// Listens on `address`, with the options set: accepted connections inherit them, which saves five system calls for each.
///
/// # Errors
/// What socket(2), bind(2), listen(2) or setsockopt(2) say.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A new process may listen at once where another one ended.
    socket.set_reuseaddr(true)?;
    send_at_once(&socket)?;
    keep_alive(&socket)?;
    bound_unsent(&socket)?;
    socket.bind(address)?;
    socket.listen(BACKLOG.unsigned_abs())
}

/// Whether a connection was reset: then it has no peer any more. A unix socket has one, whose address is of another kind.
pub fn is_gone(socket: &TcpStream) -> bool {
    socket.peer_addr().is_err_and(|error| !is_of_another_kind(&error))
}

/// Whether this is what a socket that is not of TCP says when it is asked for an address.
pub(super) fn is_of_another_kind(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}

/// Uses a socket that listens already, with the same options. Its queue is as long as its maker wanted.
///
/// # Errors
/// What setsockopt(2), fcntl(2) or epoll_ctl(2) say.
pub fn listen_on(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    send_at_once(&socket)?;
    keep_alive(&socket)?;
    bound_unsent(&socket)?;
    TcpListener::from_std(socket)
}

/// Sets TCP_NODELAY on a TCP socket: one that is connected or will be, or one that listens. Connections that are accepted
/// from it inherit the option on Linux.
///
/// # Errors
/// What setsockopt(2) says; on a connection that the peer has reset, the option no longer matters.
pub fn send_at_once(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_tcp_nodelay(true)
}

/// Sets keepalive on a TCP socket, of the same kinds as [`send_at_once`]. That takes four system
/// calls, so a connection that may be short gets the options only once it has lasted for a while.
///
/// Keepalive finds a dead peer of an idle tunnel, and retransmission (tcp_retries2, some 15 minutes) that of a busy one. To
/// find it sooner, use [`give_up_after`].
///
/// # Errors
/// As of [`send_at_once`].
pub fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Sets TCP_NOTSENT_LOWAT to [`NOTSENT`] on a TCP socket, of the same kinds as [`send_at_once`].
///
/// # Errors
/// As of [`send_at_once`].
pub fn bound_unsent(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_tcp_notsent_lowat(NOTSENT as u32)
}

/// Sets it to what bulk needs.
///
/// # Errors
/// As of [`send_at_once`].
pub fn bound_unsent_to(socket: &impl AsFd, unsent: Unsent) -> io::Result<()> {
    let bytes = match unsent {
        Unsent::InBulk => NOTSENT_IN_BULK,
        Unsent::OfFew => NOTSENT_OF_FEW,
    };
    SockRef::from(socket).set_tcp_notsent_lowat(bytes as u32)
}

/// Sets TCP_USER_TIMEOUT (RFC 5482): if the peer acknowledges nothing of what it was sent for this long, the connection ends
/// with ETIMEDOUT. It also bounds the probes of an idle connection, instead of [`KEEPALIVE_PROBES`].
///
/// Set only where the configuration asks for it: Linux also counts the time for which the peer's window is closed, even while
/// the peer acknowledges every probe. A target that is busy with a push for longer would be taken for dead.
///
/// # Errors
/// What setsockopt(2) says.
pub fn give_up_after(socket: &impl AsFd, timeout: Duration) -> io::Result<()> {
    SockRef::from(socket).set_tcp_user_timeout(Some(timeout))
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    /// A connection that is made, or under way.
    fn connect(to: SocketAddr) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
        let _ = socket.connect(&to.into());
        socket
    }

    #[tokio::test]
    async fn an_accepted_connection_probes_before_the_load_balancer_forgets_it() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = connect(listener.local_addr().unwrap());
        let (accepted, _) = listener.accept().await.unwrap();
        for socket in [SockRef::from(&listener), SockRef::from(&accepted)] {
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOTSENT as u32);
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
            assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        }
        give_up_after(&accepted, Duration::from_millis(90_500)).unwrap();
        assert_eq!(SockRef::from(&accepted).tcp_user_timeout().unwrap(), Some(Duration::from_millis(90_500)));
    }

    #[tokio::test]
    async fn clients_that_come_all_at_once_wait_for_their_turn() {
        crate::operate::resources::raise_descriptor_limit().unwrap();
        let most: usize =
            std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
        // More than the usual 1024, where the host allows it and has the descriptors.
        let count = most.min(1500).min(crate::operate::resources::descriptor_limit() as usize / 2);
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let clients: Vec<_> = (0..count).map(|_| connect(listener.local_addr().unwrap())).collect();
        // On loopback the handshake is over when connect(2) returns, if there is room: a client without a peer was dropped.
        let connected = clients.iter().filter(|client| client.peer_addr().is_ok()).count();
        assert_eq!(connected, count);
    }
}
