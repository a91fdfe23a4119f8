//! The two ends of generated exchanges: a target that reads strictly, and a client that counts every byte.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::generate::{Body, Exchange, Framing};
use crate::support::{Conversation, Egressd, TlsStream, Wire};
use crate::world::World;

/// Names and values.
type Trailers = Vec<(String, String)>;

/// A request as the target read it.
pub(super) struct Got {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) framing: Framing,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
    pub(super) expects: bool,
}

/// An exchange as its client saw it: all bytes that it sent and read.
pub(super) struct Ended {
    pub(super) number: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// Reads heads and bodies, and counts.
struct Reader<S> {
    stream: S,
    ahead: Vec<u8>,
    at: usize,
    count: u64,
}

impl<S: Read> Reader<S> {
    fn over(stream: S) -> Self {
        Reader { stream, ahead: Vec::new(), at: 0, count: 0 }
    }

    /// `false` at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        self.ahead.drain(..self.at);
        self.at = 0;
        let before = self.ahead.len();
        self.ahead.resize(before + 16 * 1024, 0);
        let read = self.stream.read(&mut self.ahead[before..]);
        self.ahead.truncate(before + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let taken = self.ahead[self.at..self.at + length].to_vec();
        self.at += length;
        self.count += length as u64;
        taken
    }

    fn exact(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() - self.at < length {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.take(length))
    }

    /// All bytes until the end.
    fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(self.take(self.ahead.len() - self.at))
    }

    /// Up to and with CRLF, without it. `None` at the end of the stream.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut from = 0;
        loop {
            let unread = &self.ahead[self.at..];
            if let Some(end) = unread[from..].windows(2).position(|two| two == b"\r\n") {
                let line = self.take(from + end + 2);
                let text = String::from_utf8(line).map_err(io::Error::other)?;
                assert!(!text[..text.len() - 2].contains(['\r', '\n']), "{text:?}");
                return Ok(Some(text[..text.len() - 2].to_owned()));
            }
            from = unread.len().saturating_sub(1);
            if !self.fill()? {
                return if self.at == self.ahead.len() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// First line and fields, with their names in lower case. `None` at the end of the stream.
    fn head(&mut self) -> io::Result<Option<Head>> {
        let Some(first) = self.line()? else { return Ok(None) };
        Ok(Some(Head { first, fields: self.fields()? }))
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    /// A body by this framing, and its trailers.
    fn body(&mut self, framing: Framing, length: usize) -> io::Result<(Vec<u8>, Trailers)> {
        match framing {
            Framing::None => Ok((Vec::new(), Vec::new())),
            Framing::Length => Ok((self.exact(length)?, Vec::new())),
            Framing::Close => Ok((self.rest()?, Vec::new())),
            Framing::Chunked => {
                let mut body = Vec::new();
                loop {
                    let line = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    let size = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
                    if size == 0 {
                        return Ok((body, self.fields()?));
                    }
                    body.extend(self.exact(size)?);
                    assert_eq!(self.exact(2)?, b"\r\n");
                }
            }
        }
    }
}

struct Head {
    first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} stands there twice: {:?}", self.fields);
        value
    }

    /// How a body is framed. Both fields at once are a failure.
    fn framing(&self) -> (Framing, usize) {
        match (self.value("content-length"), self.value("transfer-encoding")) {
            (None, None) => (Framing::None, 0),
            (Some(length), None) => (Framing::Length, length.parse().expect("a length")),
            (None, Some(coding)) => {
                assert_eq!(coding, "chunked");
                (Framing::Chunked, 0)
            }
            both => panic!("two framings: {both:?}"),
        }
    }
}

/// The target's side of one connection.
pub(super) fn serve(
    conversation: Conversation,
    config: &Arc<ServerConfig>,
    seen: &Mutex<Vec<Got>>,
) -> io::Result<()> {
    let tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut reader = Reader::over(StreamOwned::new(tls, conversation));
    while let Some(head) = reader.head()? {
        let parts: Vec<&str> = head.first.split(' ').collect();
        let &[method, target, "HTTP/1.1"] = parts.as_slice() else { panic!("{:?}", head.first) };
        let exchange = Exchange::of(Exchange::number(target));
        let expects = head.value("expect").is_some();
        let (framing, length) = head.framing();
        let answer = &exchange.answer;
        if expects && !answer.early {
            reader.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            reader.stream.flush()?;
        }
        let (body, trailers) =
            if answer.early { Default::default() } else { reader.body(framing, length)? };
        let got =
            Got { method: method.to_owned(), target: target.to_owned(), framing, body, trailers, expects };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(got);
        let mut bytes = answer.head();
        if exchange.answer_has_body() {
            bytes.extend(answer.body.framed());
        }
        reader.stream.write_all(&bytes)?;
        reader.stream.flush()?;
        if answer.closes {
            break;
        }
    }
    reader.stream.conn.send_close_notify();
    reader.stream.flush()?;
    reader.stream.sock.finish()?;
    // What still comes is read, so that nothing that was sent is destroyed.
    io::copy(&mut reader.stream.sock, &mut io::sink()).map(drop)
}

pub(super) struct Client {
    reader: Reader<TlsStream>,
}

impl Client {
    pub(super) fn open(world: &World, proxy: &Egressd, authority: &str) -> Self {
        let wire: Wire<TlsStream> =
            world.inside(proxy, authority.rsplit_once(':').expect("a port").1.parse().expect("a port"));
        Client { reader: Reader::over(wire.into_inner()) }
    }

    /// Sends these, reads their answers, and says whether the connection goes on.
    pub(super) fn exchange(&mut self, numbers: &[u64], authority: &str, ended: &mut Vec<Ended>) -> bool {
        let exchanges: Vec<Exchange> = numbers.iter().map(|&number| Exchange::of(number)).collect();
        let (mut bytes, mut sizes, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
        for exchange in &exchanges {
            let before = bytes.len();
            cuts.extend(exchange.cuts.iter().map(|cut| before + cut));
            bytes.extend(exchange.head(authority));
            if !exchange.expects {
                bytes.extend(exchange.body.framed());
            }
            sizes.push((bytes.len() - before) as u64);
        }
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut from = 0;
        for cut in cuts.into_iter().filter(|&cut| cut <= bytes.len()) {
            self.send(&bytes[from..cut]);
            from = cut;
        }
        let mut goes_on = true;
        for ((&number, exchange), mut sent) in numbers.iter().zip(&exchanges).zip(sizes) {
            let before = self.reader.count;
            let head = self.heads(number, exchange, &mut sent);
            goes_on = self.answer(number, exchange, &head);
            ended.push(Ended { number, sent, received: self.reader.count - before });
        }
        goes_on
    }

    fn send(&mut self, bytes: &[u8]) {
        self.reader.stream.write_all(bytes).expect("sent");
        self.reader.stream.flush().expect("sent");
    }

    /// Reads the answers until the final one, and sends a body that was waited for.
    fn heads(&mut self, number: u64, exchange: &Exchange, sent: &mut u64) -> Head {
        let (mut interim, mut continued) = (0, false);
        loop {
            let head = self
                .reader
                .head()
                .expect("read")
                .unwrap_or_else(|| panic!("{number}: no answer; {exchange:?}"));
            match head.first.split(' ').nth(1) {
                Some("100") => {
                    assert!(exchange.expects && !continued, "{number}: a 100 that nobody asked for");
                    continued = true;
                    let framed = exchange.body.framed();
                    *sent += framed.len() as u64;
                    self.send(&framed);
                }
                Some("103") => interim += 1,
                _ => {
                    assert_eq!(interim, exchange.answer.interim.len(), "{number}: 1xx answers");
                    assert_eq!(
                        continued,
                        exchange.expects && !exchange.answer.early,
                        "{number}: 100 Continue"
                    );
                    return head;
                }
            }
        }
    }

    /// Reads the rest of the final answer. Says whether the connection goes on.
    fn answer(&mut self, number: u64, exchange: &Exchange, head: &Head) -> bool {
        let Body { framing, bytes, trailers, .. } = &exchange.answer.body;
        assert_eq!(
            head.first.split(' ').nth(1),
            Some(exchange.answer.status.to_string().as_str()),
            "{number}: {exchange:?}"
        );
        let (told, length) = head.framing();
        let closes = head.value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if exchange.answer_has_body() {
            // A body that ends with the target's connection may become a chunked one.
            let told = match told {
                Framing::None if *framing == Framing::Close => Framing::Close,
                told => told,
            };
            assert!(told == *framing || *framing == Framing::Close, "{number}: {told:?}, not {framing:?}");
            let (got, got_trailers) =
                self.reader.body(told, length).unwrap_or_else(|e| panic!("{number}: {e}"));
            assert!(got == *bytes, "{number}: the answer's body differs: {} and {}", got.len(), bytes.len());
            let wanted = exchange.fields.iter().any(|field| field == "TE: trailers");
            assert!(
                got_trailers == *trailers || (got_trailers.is_empty() && !wanted),
                "{number}: {got_trailers:?}, not {trailers:?}; {exchange:?}"
            );
        } else if *framing == Framing::Length && exchange.answer.status != 204 {
            assert_eq!(
                (told, length),
                (Framing::Length, bytes.len()),
                "{number}: what a body would have had"
            );
        }
        !closes && !exchange.answer.early
    }
}
