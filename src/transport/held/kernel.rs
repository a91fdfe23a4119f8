//! What the kernel holds for a socket that is not read, or whose peer does not read.
//!
//! A cgroup pays for these bytes as for our own. They cannot be leased before they come, because the kernel takes them in by
//! itself: they are looked at while a direction is blocked, and less and less often.

use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::lease::Lease;

/// The first look at a blocked socket comes after this long, so that a direction that flows costs nothing.
pub const FIRST_LOOK: Duration = Duration::from_millis(250);
/// The time between two looks doubles up to this.
pub const LAST_LOOK: Duration = Duration::from_secs(8);

/// Bytes that came and were not read. The kernel needs some more for each packet.
pub fn unread(socket: &TcpStream) -> usize {
    let bytes = rustix::io::ioctl_fionread(socket).unwrap_or(0);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    bytes.saturating_add(bytes / 4)
}

/// Most bytes that wait to be sent or acknowledged.
pub fn unsent(socket: &TcpStream) -> usize {
    SockRef::from(socket).send_buffer_size().unwrap_or(0).min(MOST_UNSENT)
}

/// What can wait in a socket whose peer acknowledges everything and reads nothing: TCP_NOTSENT_LOWAT
/// ([`crate::transport::socket`]), and the last packets, which may go beyond it.
const MOST_UNSENT: usize = crate::transport::socket::NOTSENT + 128 * 1024;

/// Counts in `lease` what comes while a socket is not read. Never ready.
pub async fn count_unread(socket: &TcpStream, lease: &mut Lease) {
    let mut pause = FIRST_LOOK;
    loop {
        lease.set(unread(socket));
        sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}
