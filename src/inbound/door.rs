//! What a listener accepts connections from: a port, or a socket in the file system.

use std::io;

use tokio::net::{TcpListener, TcpStream};

use crate::transport::unix::UnixDoor;
use crate::words::client::PeerAddr;

/// A socket that listens.
#[derive(Debug)]
pub enum Door {
    /// An address and a port.
    Tcp(TcpListener),
    /// A path. Boxed: most listeners have none.
    Unix(Box<UnixDoor>),
}

impl Door {
    /// The next connection, and who is at its other end.
    ///
    /// # Errors
    /// What accept(2) says. Dropping the future loses no connection.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, PeerAddr)> {
        match self {
            Door::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((stream, PeerAddr::new(peer)))
            }
            Door::Unix(door) => {
                let (stream, user) = door.accept().await?;
                Ok((stream, PeerAddr::user(user)))
            }
        }
    }
}
