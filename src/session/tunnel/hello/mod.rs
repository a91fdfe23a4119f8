//! Lets a tunnel's TLS begin only if it names the requested host.
//!
//! [`inspect_client`] reads the whole ClientHello and judges it; nothing was sent to the upstream by then.
//! [`pass_hello`] sends it, holds everything else that the client sends, and reads the server's first message. It must
//! be TLS. If it is a HelloRetryRequest, the client's second hello (RFC 8446 §4.1.2) is judged like the first. After
//! that the handshake is encrypted, and the relay takes over.
//!
//! Bytes that were read and not sent are handed back, also with a refusal: in report mode the relay goes on from
//! there. Not here: choosing and writing alerts ([`crate::session::refuse`]), and whether the server is the one it claims to be
//! ([`crate::outbound::certificate`]).

#[cfg(test)]
pub(super) mod held_back_tests;
mod second;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::rules::Ech;
use crate::transport::cancel::Cancel;
use crate::transport::held::read::Buffered;
use crate::transport::held::{Holder, Kind, Lease, count_until_closed};
use crate::transport::meter::Meter;
use crate::transport::relay::{Early, RelayLimits, ending_of};
use crate::transport::stream::Transport;
use crate::wire::client_hello::{ClientHelloReader, Progress};
use crate::wire::server_hello::{Answer, ServerHelloReader};
use crate::words::outcome::{Ending, Reason};
use crate::words::target::{Host, Name};
use second::SecondHello;

/// Most bytes of the client that are held while the server has not answered: 0-RTT data, of which servers commonly
/// allow 16 KiB. Beyond that, the client is not read, and waits.
pub(super) const MAX_HELD: usize = 32 * 1024;

/// A ClientHello that names the host, as it was read.
#[derive(Debug)]
pub struct InspectedHello {
    /// Everything that was read from the client: the hello, and perhaps more.
    pub bytes: Buffered,
    /// How much of `bytes` is the hello.
    pub length: usize,
    /// The server name in it, canonical; `None` for a host that is an address.
    pub sni: Option<Arc<str>>,
    /// Whether it has encrypted_client_hello.
    pub ech: bool,
    /// Whether it may be answered in HTTP/1.1.
    pub http1: bool,
}

/// Why a tunnel's TLS was refused.
#[derive(Debug)]
pub struct GateRefusal {
    /// A reason that the client sees as an alert, or as a close.
    pub reason: Reason,
    /// The server name in the hello, if there is one; escaped and cut, for the log.
    pub offered: Option<Box<str>>,
    /// Bytes that were read and not sent on.
    pub early: Early,
}

/// Why there is no tunnel.
#[derive(Debug)]
pub enum GateEnd {
    /// A verdict. The client is there, and gets an alert or a close.
    Refused(GateRefusal),
    /// No verdict: a side left, a timeout, a limit, or [`Cancel`]. Must be closed by
    /// [`crate::transport::relay::part`].
    Ended(Ending),
}

impl GateEnd {
    fn refused(
        reason: Reason,
        offered: Option<Box<str>>,
        to_upstream: BytesMut,
        to_client: BytesMut,
    ) -> Self {
        GateEnd::Refused(GateRefusal { reason, offered, early: Early { to_upstream, to_client } })
    }
}

/// Reads the client's ClientHello, of which `early` came with the CONNECT, and compares it with `host`.
///
/// A host that is an address has no name to show (RFC 6066 §3). There a hello without a name is right, and any name
/// belongs to a different host.
///
/// # Errors
/// A refusal with everything that was read; [`Ending::ClientClosed`] for a client that left without sending a byte,
/// and the matching ending for one that broke off.
pub async fn inspect_client<S: AsyncRead + Unpin>(
    client: &mut S,
    early: Buffered,
    host: &Host,
    deadline: Instant,
) -> Result<InspectedHello, GateEnd> {
    let refused = |reason, offered, mut bytes: Buffered| {
        Err(GateEnd::refused(reason, offered, bytes.take(), BytesMut::new()))
    };
    let mut reader = ClientHelloReader::new();
    let mut bytes = early;
    bytes.lease.becomes(Kind::Hello);
    loop {
        match reader.read(&bytes.bytes) {
            Progress::NeedMore => {}
            Progress::Refuse(why) => return refused(why.reason, why.offered, bytes),
            Progress::Hello(hello) => {
                return match compare_names(host, hello.sni.as_ref()) {
                    Ok(()) => {
                        // Equal to the host's name if there is one: a tunnel keeps that text only once.
                        let sni = hello.sni.and(host.name()).map(Name::shared);
                        Ok(InspectedHello {
                            bytes,
                            length: hello.length,
                            sni,
                            ech: hello.ech,
                            http1: hello.http1,
                        })
                    }
                    Err(reason) => refused(reason, hello.sni.map(|name| name.as_str().into()), bytes),
                };
            }
        }
        match timeout_at(deadline, bytes.read_from(client)).await {
            Err(_elapsed) => return refused(Reason::ClientHelloTimeout, None, bytes),
            Ok(Ok(0)) if bytes.bytes.is_empty() => return Err(GateEnd::Ended(Ending::ClientClosed)),
            // The client said that nothing more comes, so this is the whole hello.
            Ok(Ok(0)) => return refused(Reason::ClientHelloMalformed, None, bytes),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(GateEnd::Ended(ending_of(true, &error))),
        }
    }
}

/// Whether a hello that shows `sni` may go to `host`.
fn compare_names(host: &Host, sni: Option<&Name>) -> Result<(), Reason> {
    match (host, sni) {
        (Host::Name(host), Some(sni)) if host == sni => Ok(()),
        (Host::Name(_), None) => Err(Reason::NoSni),
        (Host::Address(_), None) => Ok(()),
        (_, Some(_)) => Err(Reason::SniMismatch),
    }
}

/// Whether a hello that has or has not encrypted_client_hello may pass under a rule.
pub fn compare_ech(rule: Ech, has_ech: bool) -> Result<(), Reason> {
    match rule {
        Ech::Deny if has_ech => Err(Reason::EchNotAllowed),
        Ech::Allow | Ech::Deny => Ok(()),
    }
}

/// The parameters of [`pass_hello`].
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// The CONNECT host.
    pub host: &'a Host,
    /// Whether the second hello may have encrypted_client_hello.
    pub ech: Ech,
    /// `tunnel.client_hello_timeout`, for the second hello.
    pub hello_timeout: Duration,
    /// Counts what the sockets of upstream and client took.
    pub meter: &'a Meter,
    /// Ends it from outside.
    pub cancel: &'a Cancel,
}

/// Sends the inspected hello, and follows the handshake to the server's hello or alert. The returned bytes go first
/// into the relay, with the same `limits`: what was sent is subtracted from `upload`. All of it takes at most one
/// `idle_timeout`, so that a server that answers one byte at a time does not keep it open.
///
/// # Errors
/// A refusal because of the second hello or the server's answer; an ending if a side left, or if a limit was reached.
pub async fn pass_hello<C, U>(
    client: &mut C,
    upstream: &mut U,
    hello: InspectedHello,
    gate: &Gate<'_>,
    limits: &mut RelayLimits,
) -> Result<Early, GateEnd>
where
    C: Transport,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let idle = Instant::now() + limits.idle_timeout.min(Duration::from_secs(365 * 24 * 3600));
    let (end, ending) = match limits.deadline {
        Some(deadline) if deadline < idle => (deadline, Ending::MaxLifetime),
        _ => (idle, Ending::IdleTimeout),
    };
    let crossing = Crossing { client, upstream, gate, limits };
    tokio::select! {
        biased;
        ending = gate.cancel.cancelled() => Err(GateEnd::Ended(ending)),
        passed = crossing.pass(hello) => passed,
        () = sleep_until(end) => Err(GateEnd::Ended(ending)),
    }
}

struct Crossing<'a, C, U> {
    client: &'a mut C,
    upstream: &'a mut U,
    gate: &'a Gate<'a>,
    limits: &'a mut RelayLimits,
}

impl<C, U> Crossing<'_, C, U>
where
    C: Transport,
    U: AsyncRead + AsyncWrite + Unpin,
{
    async fn pass(mut self, hello: InspectedHello) -> Result<Early, GateEnd> {
        let mut held = hello.bytes;
        let first = held.split_to(hello.length);
        self.send(&first).await?;
        drop(first);
        held.tidy();
        let mut server = ServerHelloReader::new();
        let mut answer = Buffered::new(held.lease.holder(), Kind::Hello);
        // At most twice: for the reader, a second HelloRetryRequest is not TLS.
        while self.answer(&mut server, &mut answer, &mut held).await? == Answer::Retry {
            self.tell(&mut answer).await?;
            let Some(second) = self.second_hello(&mut server, &mut answer, &mut held).await? else {
                break;
            };
            self.send(&held.split_to(second)).await?;
            held.tidy();
            server.second_hello_sent();
        }
        Ok(Early { to_upstream: held.take(), to_client: answer.take() })
    }

    /// Reads the server until its answer is known, and holds what the client sends meanwhile.
    async fn answer(
        &mut self,
        server: &mut ServerHelloReader,
        answer: &mut Buffered,
        held: &mut Buffered,
    ) -> Result<Answer, GateEnd> {
        while held.bytes.len() < MAX_HELD {
            tokio::select! {
                biased;
                read = answer.read_from(self.upstream) => match Self::heard(read, server, answer, held)? {
                    Answer::NeedMore => {}
                    known => return Ok(known),
                },
                read = held.read_from(self.client) => client_read(read)?,
            }
        }
        let holder = Arc::clone(held.lease.holder());
        let mut left = pin!(held_back(self.client.socket(), &holder));
        loop {
            tokio::select! {
                biased;
                read = answer.read_from(self.upstream) => match Self::heard(read, server, answer, held)? {
                    Answer::NeedMore => {}
                    known => return Ok(known),
                },
                ending = &mut left => return Err(GateEnd::Ended(ending)),
            }
        }
    }

    /// The meaning of the server's latest bytes.
    fn heard(
        read: std::io::Result<usize>,
        server: &mut ServerHelloReader,
        answer: &mut Buffered,
        held: &mut Buffered,
    ) -> Result<Answer, GateEnd> {
        let count = read.map_err(|error| GateEnd::Ended(ending_of(false, &error)))?;
        if count == 0 && answer.bytes.is_empty() {
            return Err(GateEnd::Ended(Ending::UpstreamClosed));
        }
        // It closed in the middle of its answer: if the client's bytes flowed now, they would flow to a server that
        // does not speak TLS.
        let fresh = answer.bytes.get(answer.bytes.len().saturating_sub(count)..).unwrap_or_default();
        match if count == 0 { server.end() } else { server.push(fresh) } {
            Answer::NotTls => Err(GateEnd::refused(Reason::UpstreamNotTls, None, held.take(), answer.take())),
            known => Ok(known),
        }
    }

    /// Reads the client until its second hello passed: returns where in `held` it ends. `None` if the server ended the
    /// handshake first.
    async fn second_hello(
        &mut self,
        server: &mut ServerHelloReader,
        answer: &mut Buffered,
        held: &mut Buffered,
    ) -> Result<Option<usize>, GateEnd> {
        let deadline = Instant::now() + self.gate.hello_timeout;
        let mut second = SecondHello::new();
        loop {
            let refused = |reason, offered, held: &mut Buffered, answer: &mut Buffered| {
                Err(GateEnd::refused(reason, offered, held.take(), answer.take()))
            };
            match second.read(&held.bytes) {
                second::Found::NeedMore => {}
                second::Found::Refused(why) => return refused(why.reason, why.offered, held, answer),
                // The client gives up. The server gets its alert, and nothing more.
                second::Found::Alert { length } => {
                    self.send(&held.split_to(length)).await?;
                    return Err(GateEnd::Ended(Ending::ClientClosed));
                }
                second::Found::Hello { sni, ech, length } => {
                    match compare_names(self.gate.host, sni.as_ref())
                        .and_then(|()| compare_ech(self.gate.ech, ech))
                    {
                        Ok(()) => return Ok(Some(length)),
                        Err(reason) => {
                            return refused(reason, sni.map(|name| name.as_str().into()), held, answer);
                        }
                    }
                }
            }
            tokio::select! {
                biased;
                read = answer.read_from(self.upstream) => match Self::heard(read, server, answer, held)? {
                    Answer::NeedMore => self.tell(answer).await?,
                    _ => return Ok(None),
                },
                read = held.read_from(self.client) => client_read(read)?,
                () = sleep_until(deadline) => return refused(Reason::ClientHelloTimeout, None, held, answer),
            }
        }
    }

    /// Sends to the upstream what the limit allows.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), GateEnd> {
        let lost = |error| GateEnd::Ended(ending_of(false, &error));
        // Where it is not granted, what is there is sent.
        let _ = self.limits.upload.secure(bytes.len()).await;
        let allowed = self.limits.upload.take(bytes.len());
        let (mut left, beyond) = bytes.split_at(allowed);
        while !left.is_empty() {
            let taken = self.upstream.write(left).await.and_then(some).map_err(lost)?;
            self.gate.meter.add_sent(taken as u64);
            left = left.get(taken..).unwrap_or_default();
        }
        self.upstream.flush().await.map_err(lost)?;
        if beyond.is_empty() { Ok(()) } else { Err(GateEnd::Ended(self.limits.upload.ending())) }
    }

    /// Sends everything that the server said to the client.
    async fn tell(&mut self, answer: &mut Buffered) -> Result<(), GateEnd> {
        let lost = |error| GateEnd::Ended(ending_of(true, &error));
        while !answer.bytes.is_empty() {
            let taken = self.client.write(&answer.bytes).await.and_then(some).map_err(lost)?;
            self.gate.meter.add_received(taken as u64);
            drop(answer.split_to(taken));
        }
        answer.tidy();
        self.client.flush().await.map_err(lost)
    }
}

/// Waits until a client leaves that has sent [`MAX_HELD`] and is not read any more. What the kernel takes in for it is counted.
pub(super) async fn held_back(client: &TcpStream, holder: &Arc<Holder>) -> Ending {
    let mut unread = Lease::new(holder, Kind::Socket);
    match count_until_closed(client, &mut unread).await {
        Ok(()) => Ending::ClientClosed,
        Err(error) => ending_of(true, &error),
    }
}

/// Before the server's hello a client's FIN is its end: no handshake can follow.
fn client_read(read: std::io::Result<usize>) -> Result<(), GateEnd> {
    match read {
        Ok(0) => Err(GateEnd::Ended(Ending::ClientClosed)),
        Ok(_) => Ok(()),
        Err(error) => Err(GateEnd::Ended(ending_of(true, &error))),
    }
}

fn some(count: usize) -> std::io::Result<usize> {
    if count == 0 { Err(std::io::ErrorKind::WriteZero.into()) } else { Ok(count) }
}
