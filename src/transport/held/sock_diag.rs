//! Asks the kernel what it holds for one TCP socket, by sock_diag(7): the memory that a cgroup pays for, packets and not bytes.
//!
//! Where that cannot be asked (a kernel without it, a sandbox), the caller estimates.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_msg`, which comes before the attributes.
const MESSAGE: usize = 72;
/// Where in it the user is, and the state of a socket that listens, which is its second byte.
const OWNER: usize = 64;
const LISTENS: u8 = 10;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// The attribute `INET_DIAG_SKMEMINFO`, and the bit that asks for it.
const MEMORY: u16 = 7;
const ASK_MEMORY: u8 = 1 << (MEMORY - 1);
/// Of its numbers (`SK_MEMINFO_*`), which the kernel has as signed ones: what came and is not read, what is allocated ahead, what is not
/// acknowledged, the backlog. The second is below zero for a moment where more was taken than was ahead.
const HELD: [usize; 4] = [UNREAD, 4, 5, 7];
const UNREAD: usize = 0;
/// What may come at most (SO_RCVBUF, or what the kernel has made of it).
const ROOM: usize = 1;
/// The answer about one socket has some 150 bytes.
const ANSWER: usize = 512;

thread_local! {
    /// One for each thread, so that answers do not mix. `None` where there is none.
    static ASKING: RefCell<Option<Option<OwnedFd>>> = const { RefCell::new(None) };
}

/// What the kernel holds for one socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Memory {
    /// Bytes of memory.
    pub(super) held: usize,
    /// What that may become while the socket is not read.
    pub(super) may_become: usize,
}

/// The memory of the connection between these addresses. `None`: the kernel does not say.
pub(super) fn memory(local: SocketAddr, peer: SocketAddr) -> Option<Memory> {
    ask(local, peer, read)
}

/// The user whose socket has these addresses, on this host. `None`: there is none, or the kernel does not say. A socket that only
/// listens on the port is none.
pub(in crate::transport) fn owner(local: SocketAddr, peer: SocketAddr) -> Option<u32> {
    ask(local, peer, |answer| {
        (answer.get(HEADER + 1)? != &LISTENS).then_some(())?;
        is_about_a_socket(answer)?;
        answer.get(HEADER + OWNER..)?.first_chunk().copied().map(u32::from_ne_bytes)
    })
}

/// Asks about the connection between these addresses.
fn ask<T>(local: SocketAddr, peer: SocketAddr, read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let request = request(local, peer);
    ASKING.with_borrow_mut(|asking| {
        let asking = asking.get_or_insert_with(open).as_ref()?;
        send(asking, &request, SendFlags::empty()).ok()?;
        // The answer is there when `send` returns.
        let mut answer = [0; ANSWER];
        let (length, _) = recv(asking, &mut answer, RecvFlags::DONTWAIT).ok()?;
        read(answer.get(..length)?)
    })
}

fn open() -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG)).ok()
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`, in the byte order of the machine where they are not addresses and ports.
fn request(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut body = vec![family, IPPROTO_TCP, ASK_MEMORY, 0];
    // In every state.
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(local.port().to_be_bytes());
    body.extend(peer.port().to_be_bytes());
    for address in [local.ip(), peer.ip()] {
        let mut place = [0; 16];
        match address {
            IpAddr::V4(address) => place[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => place = address.octets(),
        }
        body.extend(place);
    }
    // The interface, and a cookie that fits any.
    body.extend(scope(local).to_ne_bytes());
    body.extend([0xff; 8]);

    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut request = Vec::with_capacity(HEADER + body.len());
    request.extend(length.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    // A number and a sender, which nothing needs here.
    request.extend([0; 8]);
    request.extend(body);
    request
}

/// The interface of a link-local address; 0 for others.
fn scope(local: SocketAddr) -> u32 {
    match local {
        SocketAddr::V6(local) => local.scope_id(),
        SocketAddr::V4(_) => 0,
    }
}

fn is_about_a_socket(answer: &[u8]) -> Option<()> {
    let kind = answer.get(4..6)?.first_chunk::<2>()?;
    (u16::from_ne_bytes(*kind) == SOCK_DIAG_BY_FAMILY).then_some(())
}

/// The sums in the answer's attribute. `None`: an error, or something else.
fn read(answer: &[u8]) -> Option<Memory> {
    is_about_a_socket(answer)?;
    let mut attributes = answer.get(HEADER + MESSAGE..)?;
    loop {
        let (head, _) = attributes.split_first_chunk::<4>()?;
        let [low, high, kind_low, kind_high] = *head;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        if u16::from_ne_bytes([kind_low, kind_high]) == MEMORY {
            let numbers = attributes.get(4..length)?;
            let number = |place: usize| {
                let bytes = numbers.get(place * 4..)?.first_chunk::<4>()?;
                Some(i64::from(i32::from_ne_bytes(*bytes)))
            };
            let bytes = |sum: i64| usize::try_from(sum).unwrap_or(0);
            let held = bytes(HELD.into_iter().map(number).sum::<Option<i64>>()?);
            let room = bytes(number(ROOM)? - number(UNREAD)?);
            return Some(Memory { held, may_become: held.saturating_add(room) });
        }
        // Attributes begin at multiples of four.
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn the_kernel_says_what_it_holds_of_bytes_that_are_not_read() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let to = listener.local_addr().unwrap();
            let near = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
            near.connect(&to.into()).unwrap();
            let mut near = TcpStream::from(near);
            let (far, _) = listener.accept().unwrap();
            let all = |stream: &TcpStream| memory(stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            let of = |stream: &TcpStream| all(stream).map(|memory| memory.held);
            let Some(before) = of(&far) else { return };
            let may_become = all(&far).unwrap().may_become;
            near.write_all(&[7; 40_000]).unwrap();
            let after = of(&far).unwrap();
            assert!(before < 40_000 && (40_000..400_000).contains(&after), "{before} {after}");
            // What is not acknowledged is the sender's.
            near.set_nonblocking(true).unwrap();
            while near.write(&[7; 65_536]).is_ok() {}
            // The last packet goes beyond it.
            assert!(of(&far).unwrap() <= all(&far).unwrap().may_become.max(may_become) + 128 * 1024);
            assert!(may_become > before);
            assert!(of(&near).unwrap() >= 65_536, "{:?}", of(&near));
        }
    }

    #[test]
    fn what_is_taken_before_it_is_allocated_is_no_gigabyte() {
        // What came, what it may be, what was sent, what that may be, what is ahead, what waits to be sent, …, the backlog.
        for (numbers, held, may_become) in [
            ([5000, 9000, 1, 1, 3000, 700, 1, 20, 1], 8720, 12_720),
            ([5000, 9000, 1, 1, -3000, 700, 1, 20, 1], 2720, 6720),
            ([0, 9000, 1, 1, -4096, 0, 1, 0, 1], 0, 9000),
            ([9500, 9000, 1, 1, 0, 0, 1, 0, 1], 9500, 9500),
        ] {
            let mut answer = vec![0; HEADER + MESSAGE];
            answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
            answer.extend(40u16.to_ne_bytes());
            answer.extend(MEMORY.to_ne_bytes());
            answer.extend(numbers.into_iter().flat_map(i32::to_ne_bytes));
            assert_eq!(read(&answer), Some(Memory { held, may_become }), "{numbers:?}");
        }
    }

    #[test]
    fn an_answer_that_is_none_says_nothing() {
        let mut error = vec![36, 0, 0, 0, 2, 0, 0, 0];
        error.resize(36, 0);
        for answer in [&[][..], &error, &[0; 100]] {
            assert_eq!(read(answer), None);
        }
        let mut cut = vec![0; HEADER + MESSAGE];
        cut[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        assert_eq!(read(&cut), None);
        cut.extend([40, 0, 7, 0, 1, 0, 0, 0]);
        assert_eq!(read(&cut), None, "shorter than it says");
        let none = SocketAddr::from(([192, 0, 2, 1], 9));
        assert_eq!(memory(none, none), None);
    }
}
