//! Reads the head of a proxy's reply, and the first TLS record after it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::timed::Timed;

/// Largest head that is read.
const MAX_HEAD: usize = 64 << 10;

/// How long to wait for the close of a connection that is no longer needed.
const GOODBYE: Duration = Duration::from_secs(2);

/// A byte stream to the proxy.
pub(super) trait Stream: Read + Write + Send {
    /// Says that nothing more will be sent. What still comes can be read until `until`.
    fn finish(&mut self, until: Instant) -> io::Result<()>;
}

impl Stream for Timed {
    fn finish(&mut self, until: Instant) -> io::Result<()> {
        self.end(until)
    }
}

impl Stream for StreamOwned<ClientConnection, Timed> {
    fn finish(&mut self, until: Instant) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush()?;
        self.sock.end(until)
    }
}

/// A connection to the proxy.
pub(super) struct Connected {
    pub(super) stream: Box<dyn Stream>,
    /// Our own address and the proxy's; None by a socket.
    pub(super) ends: Option<(SocketAddr, SocketAddr)>,
}

impl Connected {
    pub(super) fn over(stream: Box<dyn Stream>, socket: &TcpStream) -> io::Result<Self> {
        Ok(Connected { stream, ends: Some((socket.local_addr()?, socket.peer_addr()?)) })
    }

    /// Our own address, as the proxy sees it: one who comes by a socket is on its machine.
    pub(super) fn local(&self) -> IpAddr {
        self.ends.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |(local, _)| local.ip().to_canonical())
    }

    /// Ends it so that the other side sees a close and not a reset: reads what it still sends, and waits for its close,
    /// at most [`GOODBYE`].
    pub(super) fn close(mut self) {
        let mut rest = [0; 4096];
        if self.stream.finish(Instant::now() + GOODBYE).is_ok() {
            while matches!(self.stream.read(&mut rest), Ok(1..)) {}
        }
    }
}

/// The head of a reply, or what stands for one in SOCKS5.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// Of a reply in SOCKS5: the status that comes nearest to its code.
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    /// As it was said.
    pub(super) said: String,
    /// It says neither the reason nor an id.
    pub(super) brief: bool,
    /// Our own address, as the proxy sees it.
    pub(super) local: IpAddr,
}

impl Reply {
    /// Reads one head and not a byte more.
    pub(super) fn read(connected: &mut Connected) -> io::Result<Self> {
        let malformed = |what: &str| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{what}: this is not an HTTP proxy"))
        };
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_HEAD {
                return Err(malformed("the head of the reply does not end"));
            }
            let read = match connected.stream.read(&mut byte) {
                // A close with our request unread arrives as a reset.
                Err(error) if is_close(&error) => 0,
                read => read?,
            };
            match read {
                0 if head.is_empty() => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the connection was closed without a reply: this client is not trusted there (a listener with `proxy_protocol` accepts connections only from its balancers), or the listener expects TLS (use https://)",
                    ));
                }
                0 => return Err(malformed("the reply ended within its head")),
                _ => head.extend(byte),
            }
        }
        let text = String::from_utf8_lossy(&head);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|digits| digits.parse().ok());
        let status = status.ok_or_else(|| malformed("the reply has no status"))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        let (headers, local) = (headers.collect(), connected.local());
        Ok(Reply { status, headers, said: status.to_string(), brief: false, local })
    }

    /// In SOCKS5: a status, and what was said.
    pub(super) fn brief(connected: &Connected, status: u16, said: impl Into<String>) -> Self {
        Reply { status, headers: Vec::new(), said: said.into(), brief: true, local: connected.local() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The record's id in egressd's log.
    pub(super) fn id(&self) -> Option<&str> {
        // It is shown on a terminal, so only harmless characters.
        self.header("x-request-id")
            .filter(|id| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    }

    /// `details` of egressd's Proxy-Status.
    pub(super) fn reason(&self) -> Option<&str> {
        let status = self.header("proxy-status").filter(|status| status.starts_with("egressd;"))?;
        let reason = status.split_once("details=\"")?.1.split_once('"')?.0;
        Some(reason).filter(|reason| reason.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    }
}

/// Whether the other side closed before it read everything that was sent to it.
pub(super) fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

/// What came back to a ClientHello.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inside {
    /// A ServerHello.
    ServerHello,
    /// An alert, with its number (RFC 8446 §6).
    Alert(u8),
    /// The end of the connection.
    Closed,
    /// Bytes that are not TLS.
    NotTls,
    /// Nothing, until the deadline.
    Silent,
}

/// Reads the first record.
pub(super) fn first_record(stream: &mut dyn Stream) -> Inside {
    let mut head = [0; 6];
    match stream.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            return Inside::Silent;
        }
        Err(_) => return Inside::Closed,
    }
    match head {
        [0x16, 3, _, _, _, 2] => Inside::ServerHello,
        [0x15, 3, ..] => {
            let mut description = [0];
            match stream.read_exact(&mut description) {
                Ok(()) => Inside::Alert(description[0]),
                Err(_) => Inside::Closed,
            }
        }
        _ => Inside::NotTls,
    }
}
