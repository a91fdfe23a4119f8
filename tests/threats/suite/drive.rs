//! Sends one case to any proxy, and keeps what came back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::case::{Case, Step};
use super::world::World;
use crate::support::{DEADLINE, End};

/// How long to wait for what comes after the last step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Until the proxy closes.
    Closed,
    /// Until it has sent something more, or closes.
    Heard,
    /// Until a whole reply to a plain request is there.
    Answered,
    /// Until it closes, or has been quiet for this long.
    Quiet(Duration),
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// What the steps waited for: replies, and other bytes.
    pub replies: Vec<Vec<u8>>,
    /// What came after the steps.
    pub tail: Vec<u8>,
    /// How the proxy ended the connection; None: it did not end it in this time.
    pub end: Option<End>,
    /// What came decrypted out of the TLS inside the tunnel.
    pub inside: Vec<u8>,
    /// Whether a step was skipped because the proxy had refused.
    pub cut: bool,
}

impl Said {
    /// Everything.
    pub fn all(&self) -> Vec<u8> {
        [self.replies.concat(), self.tail.clone(), self.inside.clone()].concat()
    }

    /// The status of the last reply, whether a step waited for it or not.
    pub fn status(&self) -> Option<u16> {
        status(&self.tail).or_else(|| self.replies.iter().rev().find_map(|reply| status(reply)))
    }

    /// A field of the last reply that a step waited for.
    pub fn header(&self, name: &str) -> Option<String> {
        let last = self.replies.iter().rev().find(|reply| status(reply).is_some())?;
        let head = String::from_utf8_lossy(last).into_owned();
        let field = |line: &str| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        head.lines().find_map(field)
    }
}

/// The status of a reply, of HTTP/1.1 or 1.0.
pub fn status(reply: &[u8]) -> Option<u16> {
    let rest = reply.strip_prefix(b"HTTP/1.1 ").or_else(|| reply.strip_prefix(b"HTTP/1.0 "))?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}

/// Runs the steps, one after the other, and waits.
///
/// # Errors
/// If no connection can be made at all, or the proxy sends nothing for as long as any test waits.
pub fn drive(proxy: SocketAddr, case: &Case, world: &World, patience: Patience) -> io::Result<Said> {
    let stream = TcpStream::connect_timeout(&proxy, DEADLINE)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let waits = match patience {
        Patience::Quiet(time) => time.max(Duration::from_secs(3)),
        Patience::Closed | Patience::Heard | Patience::Answered => DEADLINE,
    };
    let mut line = Line { stream, said: Said::default(), waits };
    for step in &case.steps {
        let taken = match step {
            Step::Send(bytes) => Ok(line.send(&world.fill(bytes))),
            Step::Trickle(bytes, size) => Ok(world.fill(bytes).chunks(*size).all(|piece| {
                // Long enough that the other side usually reads them one by one.
                std::thread::sleep(Duration::from_micros(100));
                line.send(piece)
            })),
            Step::Established => line.reply(false).map(|whole| whole && line.said.status() == Some(200)),
            Step::Reply => line.reply(true),
            Step::Heard => line.heard(),
            Step::Fin => Ok(line.stream.shutdown(Shutdown::Write).is_ok()),
            Step::Tls(name, bytes) => line.tls(name, &world.fill(bytes), world),
        };
        let goes_on = match (taken, patience) {
            (Ok(goes_on), _) => goes_on,
            // It sends nothing more: this is the result.
            (Err(_), Patience::Quiet(_)) => false,
            (Err(error), _) => return Err(error),
        };
        if !goes_on {
            line.said.cut = true;
            break;
        }
    }
    match patience {
        Patience::Closed => while line.fill()? {},
        Patience::Heard => while line.said.tail.is_empty() && line.said.inside.is_empty() && line.fill()? {},
        Patience::Answered if line.said.cut => {}
        Patience::Answered => {
            line.reply(true)?;
        }
        Patience::Quiet(time) => {
            line.waits = time;
            while line.fill().unwrap_or(false) {}
        }
    }
    Ok(line.said)
}

struct Line {
    stream: TcpStream,
    said: Said,
    waits: Duration,
}

impl Line {
    /// False: the other side is gone.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Reads once. False: the connection has ended.
    fn fill(&mut self) -> io::Result<bool> {
        if self.said.end.is_some() {
            return Ok(false);
        }
        self.stream.set_read_timeout(Some(self.waits))?;
        let mut buffer = [0; 16 * 1024];
        let end = match self.stream.read(&mut buffer) {
            Ok(0) => End::Fin,
            Ok(count) => {
                self.said.tail.extend_from_slice(&buffer[..count]);
                return Ok(true);
            }
            Err(e) if e.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(e) => return Err(e),
        };
        self.said.end = Some(end);
        Ok(false)
    }

    fn heard(&mut self) -> io::Result<bool> {
        while self.said.tail.is_empty() {
            if !self.fill()? {
                return Ok(false);
            }
        }
        self.said.replies.push(std::mem::take(&mut self.said.tail));
        Ok(true)
    }

    /// Moves a reply out of the tail. False: the connection ended before it was complete.
    fn reply(&mut self, with_body: bool) -> io::Result<bool> {
        loop {
            if let Some(length) = length_of_reply(&self.said.tail, with_body) {
                let rest = self.said.tail.split_off(length);
                self.said.replies.push(std::mem::replace(&mut self.said.tail, rest));
                return Ok(true);
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    fn tls(&mut self, name: &str, bytes: &[u8], world: &World) -> io::Result<bool> {
        self.stream.set_read_timeout(Some(self.waits))?;
        let wire = crate::support::Wire::over(self.stream.try_clone()?);
        let mut tls = world.authority.client(name, wire);
        let mut answer = [0; 4096];
        let spoken = tls.write_all(bytes).and_then(|()| tls.read(&mut answer));
        match spoken {
            Ok(count) => self.said.inside.extend_from_slice(&answer[..count]),
            Err(_) => return Ok(false),
        }
        Ok(true)
    }
}

/// Where a reply ends, once it is complete: with its body by Content-Length, if it has one and should have one.
fn length_of_reply(bytes: &[u8], with_body: bool) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length =
        text.split_once("content-length:").and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok());
    let end = head + if with_body { length.unwrap_or(0) } else { 0usize };
    (bytes.len() >= end).then_some(end)
}

/// A stream that replays what was received: for the checks that read from a connection.
#[derive(Debug)]
pub struct Replay {
    /// What is left to replay.
    pub bytes: io::Cursor<Vec<u8>>,
    /// How the stream ends.
    pub end: End,
}

impl Replay {
    /// The last reply, followed only by the end of the connection.
    pub fn last(said: &Said) -> Self {
        let bytes = match said.replies.last() {
            Some(reply) if status(&said.tail).is_none() => [reply.clone(), said.tail.clone()].concat(),
            _ => said.tail.clone(),
        };
        Replay { bytes: io::Cursor::new(bytes), end: said.end.expect("was waited for") }
    }
}

impl Read for Replay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.bytes.read(buffer)?, self.end) {
            (0, End::Reset) => Err(ErrorKind::ConnectionReset.into()),
            (count, _) => Ok(count),
        }
    }
}

impl Write for Replay {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
