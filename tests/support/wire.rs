//! A client that sends exactly the bytes that the test gives it, and reads what comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::DEADLINE;

/// How the other side ended the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With a FIN, as it should.
    Fin,
    /// With a RST, which may destroy bytes that were sent before it; or TLS without its close_notify.
    Reset,
}

/// One connection, as raw bytes: bare TCP, or a stream over it such as TLS.
#[derive(Debug)]
pub struct Wire<S = TcpStream> {
    stream: S,
    /// Read from the socket and not yet returned: what came after a reply.
    ahead: Vec<u8>,
}

impl Wire {
    /// Connects. Nagle's algorithm is off, so that each [`Wire::send`] leaves in its own segments.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)
            .unwrap_or_else(|e| panic!("connecting to {address}: {e}"));
        Wire::over(stream)
    }

    /// Connects from this address.
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a descriptor");
        socket.bind(&SocketAddr::new(source, 0).into()).expect("an address of this machine");
        socket.connect(&address.into()).unwrap_or_else(|e| panic!("connecting to {address}: {e}"));
        Wire::over(socket.into())
    }

    /// Uses a socket that is already connected.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        stream.set_write_timeout(Some(DEADLINE)).expect("not zero");
        Wire { stream, ahead: Vec::new() }
    }

    /// The client's address: the log's `client`.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("connected")
    }

    /// Sends a FIN; reading goes on.
    pub fn finish(&mut self) {
        // The other side may have reset the connection already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with a RST.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// A second handle to the same connection, for sending while the first one reads.
    pub fn second(&self) -> Self {
        Wire { stream: self.stream.try_clone().expect("a descriptor"), ahead: Vec::new() }
    }

    /// The socket itself, for a TLS library.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.ahead.is_empty(), "bytes would be lost");
        self.stream
    }
}

impl<S: Read + Write> Wire<S> {
    /// Uses a stream that already has its deadlines.
    pub fn through(stream: S) -> Self {
        Wire { stream, ahead: Vec::new() }
    }

    /// The stream itself, and nothing that was read ahead.
    pub fn into_inner(self) -> S {
        assert!(self.ahead.is_empty(), "bytes would be lost");
        self.stream
    }

    /// The stream itself.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream itself, for a read that may fail.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Sends all bytes. It is not an error if the other side has closed meanwhile: what it sent can still be read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        match self.stream.write_all(bytes.as_ref()) {
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            other => other.expect("sending"),
        }
    }

    /// Sends the pieces with a pause between them, so that the other side reads them one by one.
    pub fn send_in_pieces<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>, pause: Duration) {
        for piece in pieces {
            self.send(piece);
            std::thread::sleep(pause);
        }
    }

    /// Exactly `length` bytes.
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.ahead.len() < length {
            assert!(self.fill().is_none(), "ended after {:?}", String::from_utf8_lossy(&self.ahead));
        }
        self.ahead.drain(..length).collect()
    }

    /// Everything that comes until the other side ends the connection, and how it ended it.
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Some(end) = self.fill() {
                return (std::mem::take(&mut self.ahead), end);
            }
        }
    }

    /// The head of a reply, and nothing after it: for the `200` to CONNECT.
    pub fn read_head(&mut self) -> Reply {
        let end = loop {
            if let Some(at) = self.ahead.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().is_none(), "no whole head: {:?}", String::from_utf8_lossy(&self.ahead));
        };
        let head: Vec<u8> = self.ahead.drain(..end).collect();
        Reply::parse_head(&head)
    }

    /// A reply with its body, by Content-Length, chunks or the end of the connection.
    pub fn read_reply(&mut self) -> Reply {
        let mut reply = self.read_head();
        let body = if let Some(length) = reply.header("content-length") {
            self.read_exact(length.parse().expect("Content-Length is a number"))
        } else if reply.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            self.read_chunks()
        } else {
            self.read_to_end().0
        };
        reply.body = String::from_utf8(body).expect("a body in UTF-8");
        reply
    }

    fn read_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(self.read_line().trim_end(), 16).expect("a chunk's size");
            body.extend(self.read_exact(size));
            self.read_line();
            if size == 0 {
                return body;
            }
        }
    }

    fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(self.read_exact(1));
        }
        String::from_utf8(line).expect("a line in UTF-8")
    }

    /// Reads once. `Some` when the connection has ended.
    fn fill(&mut self) -> Option<End> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(End::Fin),
                Ok(n) => {
                    self.ahead.extend_from_slice(&buffer[..n]);
                    return None;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Some(End::Reset),
                // TLS that ended without a close_notify.
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Some(End::Reset),
                Err(e) => panic!("reading: {e}; received before: {:?}", String::from_utf8_lossy(&self.ahead)),
            }
        }
    }
}

/// A reply as it was received.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status number.
    pub status: u16,
    /// What follows it on the status line: what most clients print of a refusal.
    pub phrase: String,
    /// Names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    /// Without the transfer coding.
    pub body: String,
}

impl Reply {
    fn parse_head(head: &[u8]) -> Self {
        let text = std::str::from_utf8(head).expect("a head in UTF-8");
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let first = lines.next().expect("split yields one at least");
        let (status, phrase) = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.split_once(' '))
            .filter(|(digits, _)| digits.len() == 3)
            .and_then(|(digits, phrase)| Some((digits.parse().ok()?, phrase.to_owned())))
            .unwrap_or_else(|| panic!("no status line: {first:?}"));
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        Reply { status, phrase, headers, body: String::new() }
    }

    /// The only value of this field; two fields of this name are a failure.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} stands there twice");
        value
    }

    /// `details` of `Proxy-Status: egressd; error=TYPE; details="REASON"`.
    pub fn reason(&self) -> Option<&str> {
        self.header("proxy-status")?.split_once("details=\"")?.1.strip_suffix('"')
    }

    /// The log's `id`.
    pub fn id(&self) -> &str {
        self.header("x-request-id").expect("every reply has X-Request-Id")
    }
}
