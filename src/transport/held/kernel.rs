//! What the kernel holds for a socket that is not read, or whose peer does not read.
//!
//! A cgroup pays for these bytes as for our own. They cannot be leased before they come, because the kernel takes them in by
//! itself: they are looked at while a direction is blocked, and less and less often.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::budget::HeldBytes;
use super::lease::Lease;
use super::sock_diag::{self, Memory};
use crate::transport::socket::is_of_another_kind;

/// The first look at a blocked socket comes after this long, so that a direction that flows costs nothing.
pub const FIRST_LOOK: Duration = Duration::from_millis(50);
/// The time between two looks doubles up to this.
pub const LAST_LOOK: Duration = Duration::from_secs(8);

/// When to look for the first time: at once while much is held.
pub fn first_look(budget: &HeldBytes) -> Duration {
    if budget.is_pressed() { Duration::ZERO } else { FIRST_LOOK }
}

/// The last packets, which go beyond what may wait in a socket whose peer does not read.
const BEYOND: usize = 64 * 1024;

/// What the kernel holds for one socket, or for both of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Queued {
    /// The memory of what came and was not read, and of what was not acknowledged.
    pub bytes: usize,
    /// What that may become while nothing is read.
    pub may_become: usize,
}

impl Queued {
    /// With another socket.
    #[must_use]
    pub fn and(self, other: Queued) -> Self {
        Queued {
            bytes: self.bytes.saturating_add(other.bytes),
            may_become: self.may_become.saturating_add(other.may_become),
        }
    }

    /// What is counted: while much is held, and these bytes are more than `before`, as much again as has come since, up to what they
    /// may become. The peer sends on, and the kernel takes it in, whether somebody looks or not.
    #[must_use]
    pub fn counted(self, before: usize, budget: &HeldBytes) -> usize {
        match self.bytes.checked_sub(before) {
            Some(more) if budget.is_pressed() => self.bytes.saturating_add(more).min(self.may_become),
            _ => self.bytes,
        }
    }
}

/// Looks at one socket.
pub fn queued(socket: &TcpStream) -> Queued {
    let ends = socket.local_addr().and_then(|local| Ok((local, socket.peer_addr()?)));
    let memory = match ends {
        Ok((local, peer)) => sock_diag::memory(local, peer),
        Err(error) if is_of_another_kind(&error) => None,
        // A socket that is reset has no peer, and holds nothing.
        Err(_) => return Queued::default(),
    };
    match memory {
        Some(Memory { held, may_become }) => Queued { bytes: held, may_become },
        None => {
            let bytes = estimate(socket);
            let room = SockRef::from(socket).recv_buffer_size().unwrap_or(0);
            Queued { bytes, may_become: bytes.max(room) }
        }
    }
}

/// Where the kernel does not say more: the bytes that came, and a half more for the packets that they are in; and the bytes that
/// may wait to be sent, without those that are under way on a long path.
fn estimate(socket: &TcpStream) -> usize {
    let unread = rustix::io::ioctl_fionread(socket).unwrap_or(0);
    let unread = usize::try_from(unread).unwrap_or(usize::MAX);
    let socket = SockRef::from(socket);
    // 0: none was set.
    let bound =
        socket.tcp_notsent_lowat().ok().filter(|bytes| *bytes > 0).map_or(usize::MAX, |bytes| bytes as usize);
    let unsent = socket.send_buffer_size().unwrap_or(0).min(bound.saturating_add(BEYOND));
    unread.saturating_add(unread / 2).saturating_add(unsent)
}

/// Counts in `lease` what comes while a socket is not read. Never ready.
pub async fn count_unread(socket: &TcpStream, lease: &mut Lease) {
    let mut pause = FIRST_LOOK;
    let mut before = 0;
    loop {
        let queued = queued(socket);
        lease.set(queued.counted(before, lease.holder().budget()));
        before = queued.bytes;
        sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

/// The same until the peer has closed its side. A close behind more than the kernel takes in does not come through; a reset does.
///
/// # Errors
/// The peer has reset the connection, or it broke.
pub async fn count_until_closed(socket: &TcpStream, lease: &mut Lease) -> io::Result<()> {
    let closed = async {
        // Urgent bytes are not asked for anywhere, so of this only the close of the reading side is ever reported.
        while !socket.ready(Interest::PRIORITY).await?.is_read_closed() {}
        Ok(())
    };
    tokio::select! {
        biased;
        closed = closed => closed.and_then(|()| socket.take_error()?.map_or(Ok(()), Err)),
        () = count_unread(socket, lease) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_counts_as_what_it_will_be_at_the_next_look_while_much_is_held() {
        let (calm, pressed) = (HeldBytes::new(1000), HeldBytes::new(1000));
        pressed.charge(super::super::kind::Kind::Log, 500);
        for (bytes, before, expected) in
            [(100, 0, 200), (150, 100, 200), (100, 100, 100), (80, 100, 80), (300, 0, 400)]
        {
            let queued = Queued { bytes, may_become: 400 };
            assert_eq!(queued.counted(before, &pressed), expected, "{bytes} {before}");
            assert_eq!(queued.counted(before, &calm), bytes);
        }
    }
}
