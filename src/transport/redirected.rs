//! Where a connection was to go that a packet filter led here: the address that its client asked for.
//!
//! REDIRECT changes the address, and the kernel remembers it (`SO_ORIGINAL_DST`). TPROXY does not: the connection's own local
//! address is it, which is then none of this host. Not here: what is made of it ([`crate::inbound::transparent`]).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::held::owner;

/// Where the connection arrived, and where it was to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// Its local address here.
    pub local: SocketAddr,
    /// The address that the client asked for; None: that is the local one.
    pub original: Option<SocketAddr>,
}

/// Lets a listening socket take connections to addresses that are not of this host, which TPROXY leads to it.
///
/// # Errors
/// What setsockopt(2) says: without CAP_NET_ADMIN or CAP_NET_RAW, `PermissionDenied`.
pub fn take_foreign(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

/// Where the connection arrived. `None`: it is gone. `is_own` says of an address whether a connection to it arrives at a listener of
/// ours by itself.
pub fn arrived(stream: &TcpStream, is_own: impl Fn(SocketAddr) -> bool) -> Option<Arrived> {
    let local = unmapped(stream.local_addr().ok()?);
    let socket = SockRef::from(stream);
    let remembered = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    // An error where nothing was changed, and where the kernel follows no connections.
    let remembered = remembered.ok().and_then(|address| address.as_socket()).map(unmapped);
    let original = match remembered {
        Some(original) if original != local => Some(original),
        _ => (!is_own(local)).then_some(local),
    };
    Some(Arrived { local, original })
}

/// Whether the client's end of a redirected connection is a socket of our own user on this host: one of egressd's connections
/// that comes back to it. `peer` is that end, `original` what it connected to.
pub fn comes_back(peer: SocketAddr, original: SocketAddr) -> bool {
    owner(peer, original) == Some(rustix::process::geteuid().as_raw())
}

fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "a client of the listener")]
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_connection_that_nothing_redirected_was_to_go_where_it_arrived() {
        let (_near, far) = connected().await;
        let local = far.local_addr().unwrap();
        assert_eq!(arrived(&far, |own| own == local), Some(Arrived { local, original: None }));
        // TPROXY leaves an address at which nothing of ours listens.
        assert_eq!(arrived(&far, |_| false), Some(Arrived { local, original: Some(local) }));
    }

    #[tokio::test]
    async fn t95_a_socket_of_ours_on_this_host_is_known_by_its_addresses() {
        let (near, far) = connected().await;
        let (peer, to) = (far.peer_addr().unwrap(), far.local_addr().unwrap());
        // Where the kernel can be asked.
        if owner(peer, to).is_some() {
            assert!(comes_back(peer, to));
        }
        drop(near);
        let elsewhere = SocketAddr::from(([192, 0, 2, 7], peer.port()));
        assert!(!comes_back(elsewhere, to), "no socket here has this address");
        // A listening socket of that port is not the client's end.
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!comes_back(SocketAddr::from(([192, 0, 2, 7], port)), to));
    }
}
