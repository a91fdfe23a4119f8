//! What every stream here is: bytes over one TCP connection, with or without TLS.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A byte stream over one TCP connection.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// The connection underneath, so that a reset can be passed on.
    fn socket(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}
