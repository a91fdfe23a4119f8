//! What both directions of one exchange share: how far it is, when a byte last moved, which side is waited for.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::outcome::Break;
use super::terms::{Addresses, Terms};
use crate::transport::held::{Holder, Told, is_flow};
use crate::transport::meter::Meter;
use crate::wire::head::Head;
use crate::words::outcome::Ending;

/// The holder is told at most once in so many milliseconds that the exchange moves.
const TELL: u64 = 250;

/// Of a content type so many bytes are kept: one more than any log writes, so that a cut shows.
const CONTENT_TYPE: usize = 2049;

/// Shared by the futures of one task; the atomics are for `Send`, not for other threads.
pub(super) struct Track<'a> {
    meter: &'a Meter,
    tunnel: Option<&'a Meter>,
    response_timeout: Duration,
    stall_timeout: Duration,
    head_bytes: u64,
    started: Instant,
    /// Milliseconds from `started` to the last byte that moved, of either body or the final response.
    moved: AtomicU64,
    /// Of these, when the holder was last told that it moves, and how many bytes had moved by then.
    told_at: AtomicU64,
    told_bytes: AtomicU64,
    /// Bytes that had moved when the holder was last told that it flows.
    flowed: AtomicU64,
    /// The connection to the target is open; before that, `open` has its own deadlines.
    open: AtomicBool,
    /// Every byte of the request has been read.
    request_complete: AtomicBool,
    /// The client waits for `100 Continue`.
    expecting: AtomicBool,
    /// Whether it is the client that does not send, or does not read.
    client_owes_body: AtomicBool,
    client_owes_read: AtomicBool,
    /// The target does not take what the client sends, or more is pipelined than is read ahead.
    unread: AtomicBool,
    /// It waits for its turn to move bytes.
    in_line: AtomicBool,
    /// How many bytes will have moved when its turn is over.
    turn_ends: AtomicU64,
    /// What both sockets were told that they may hold.
    told: Mutex<Told>,
    /// 0: none.
    status: AtomicU16,
    /// From the response, if it has one. A copy: a header value keeps the whole buffer of the head.
    content_type: OnceLock<Box<[u8]>>,
    addresses: OnceLock<Addresses>,
    /// Of a second connection, after a kept one turned out to be closed.
    replaced: OnceLock<Addresses>,
    holder: &'a Arc<Holder>,
    /// The socket to the target.
    target: Mutex<Option<Arc<TcpStream>>>,
}

impl<'a> Track<'a> {
    pub(super) fn new(head: &Head, terms: &Terms<'a>, holder: &'a Arc<Holder>) -> Self {
        Track {
            meter: terms.meter,
            tunnel: terms.tunnel,
            response_timeout: terms.response_timeout,
            stall_timeout: terms.stall_timeout,
            head_bytes: head.bytes as u64,
            started: Instant::now(),
            moved: AtomicU64::new(0),
            told_at: AtomicU64::new(0),
            told_bytes: AtomicU64::new(0),
            flowed: AtomicU64::new(0),
            open: AtomicBool::new(false),
            request_complete: AtomicBool::new(!head.framing.may_have_content()),
            expecting: AtomicBool::new(head.expect_continue),
            client_owes_body: AtomicBool::new(false),
            client_owes_read: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            in_line: AtomicBool::new(false),
            turn_ends: AtomicU64::new(u64::MAX),
            told: Mutex::new(Told::ahead(holder)),
            holder,
            target: Mutex::new(None),
            status: AtomicU16::new(0),
            content_type: OnceLock::new(),
            addresses: OnceLock::new(),
            replaced: OnceLock::new(),
        }
    }

    fn touch(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        self.moved.store(now, Relaxed);
        // A peer that takes a byte from time to time does not move: it has to take what is held for it.
        if now >= self.told_at.load(Relaxed) + TELL {
            let (bytes, excess) = (self.bytes(), self.holder.excess() as u64);
            if is_flow(bytes, bytes - self.flowed.load(Relaxed), excess) {
                self.holder.flows();
                self.flowed.store(bytes, Relaxed);
                self.told_at.store(now, Relaxed);
            }
            if bytes >= self.told_bytes.load(Relaxed) + excess {
                self.holder.moves();
                self.told_bytes.store(bytes, Relaxed);
                self.told_at.store(now, Relaxed);
            }
        }
    }

    /// The connection to the target is open, and the request is sent.
    pub(super) fn opened(&self, addresses: Addresses) {
        match self.addresses.set(addresses) {
            Ok(()) => self.count_sent(self.head_bytes),
            Err(addresses) => drop(self.replaced.set(addresses)),
        }
        self.open.store(true, Relaxed);
        // What it holds now is what it costs: pieces of bodies that wait are more.
        self.holder.stays_open();
        self.touch();
    }

    /// The kept connection was closed: another is being opened.
    pub(super) fn opening(&self) {
        self.open.store(false, Relaxed);
    }

    pub(super) fn addresses(&self) -> Option<Addresses> {
        self.replaced.get().or_else(|| self.addresses.get()).copied()
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.count_sent(bytes as u64);
        self.touch();
    }

    fn count_sent(&self, bytes: u64) {
        for meter in std::iter::once(self.meter).chain(self.tunnel) {
            meter.add_sent(bytes);
        }
    }

    pub(super) fn received(&self, bytes: usize) {
        self.count_received(bytes);
        self.touch();
    }

    fn count_received(&self, bytes: usize) {
        for meter in std::iter::once(self.meter).chain(self.tunnel) {
            meter.add_received(bytes as u64);
        }
    }

    /// Bytes of a 1xx went to the client. They do not put the deadline of the final response off, however many come.
    pub(super) fn informed(&self, bytes: usize) {
        self.count_received(bytes);
    }

    /// Bytes of the final response came from the target.
    pub(super) fn upstream_moved(&self) {
        self.touch();
    }

    pub(super) fn client_owes_body(&self, owes: bool) {
        self.client_owes_body.store(owes, Relaxed);
    }

    pub(super) fn client_owes_read(&self, owes: bool) {
        self.client_owes_read.store(owes, Relaxed);
    }

    /// What leases for this exchange are of.
    pub(super) fn holder(&self) -> &'a Arc<Holder> {
        self.holder
    }

    /// The client's bytes are not read at present.
    pub(super) fn leaves_unread(&self, unread: bool) {
        self.unread.store(unread, Relaxed);
    }

    pub(super) fn is_unread_by_client(&self) -> bool {
        self.client_owes_read.load(Relaxed)
    }

    pub(super) fn is_unread_by_target(&self) -> bool {
        self.unread.load(Relaxed)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_unread_by_client() || self.is_unread_by_target()
    }

    /// Bytes that have moved either way.
    pub(super) fn bytes(&self) -> u64 {
        self.meter.sent() + self.meter.received()
    }

    /// Others that flow have their turn.
    pub(super) fn is_in_line(&self, is_in_line: bool) {
        self.in_line.store(is_in_line, Relaxed);
    }

    /// So many bytes may move now.
    pub(super) fn may_move(&self, most: u64) {
        self.turn_ends.store(self.bytes().saturating_add(most), Relaxed);
    }

    /// Whether more may.
    pub(super) fn may_go_on(&self) -> bool {
        self.bytes() < self.turn_ends.load(Relaxed)
    }

    /// What its sockets are told, when it begins and while it flows.
    pub(super) fn told(&self) -> Told {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn was_told(&self, told: Told) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    /// This is the socket to the target.
    pub(super) fn reaches(&self, socket: Option<&Arc<TcpStream>>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = socket.cloned();
    }

    /// Looks at that socket: nothing without one.
    pub(super) fn target<T: Default>(&self, look: impl FnOnce(&TcpStream) -> T) -> T {
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        target.as_ref().map_or_else(T::default, |socket| look(socket))
    }

    pub(super) fn request_is_complete(&self) -> bool {
        self.request_complete.load(Relaxed)
    }

    pub(super) fn complete_request(&self) {
        self.request_complete.store(true, Relaxed);
        self.client_owes_body(false);
        self.touch();
    }

    /// Whether the client still waits for `100 Continue`; it gets one at most once. With it, the client's time to send
    /// begins.
    pub(super) fn take_expecting(&self) -> bool {
        let expected = self.expecting.swap(false, Relaxed);
        if expected {
            self.touch();
        }
        expected
    }

    pub(super) fn status(&self) -> Option<u16> {
        Some(self.status.load(Relaxed)).filter(|&status| status != 0)
    }

    pub(super) fn content_type(&self) -> Option<Box<[u8]>> {
        self.content_type.get().cloned()
    }

    pub(super) fn answering(&self, status: u16, content_type: Option<&HeaderValue>) {
        if let Some(value) = content_type {
            let start = value.as_bytes().get(..CONTENT_TYPE).unwrap_or(value.as_bytes());
            let _ = self.content_type.set(start.into());
        }
        self.status.store(status, Relaxed);
        self.touch();
    }

    /// How long nothing may move now. `None`: another deadline applies, or it is not for the peers that nothing moves.
    fn patience(&self) -> Option<Duration> {
        // What has come may be waiting for its turn.
        if !self.open.load(Relaxed) || self.in_line.load(Relaxed) {
            return None;
        }
        let waits_for_response = self.request_is_complete() || self.expecting.load(Relaxed);
        match self.status().is_none() && waits_for_response {
            true => Some(self.response_timeout),
            false => Some(self.stall_timeout),
        }
    }

    /// Returns when nothing has moved for as long as the exchange allows. One timer, set again when it fires.
    pub(super) async fn silence(&self) -> Break {
        // What is waited for may change during the sleep: never sleep longer than the shorter of both timeouts.
        let step = self.response_timeout.min(self.stall_timeout);
        loop {
            let now = Instant::now();
            let moved = self.started + Duration::from_millis(self.moved.load(Relaxed));
            let wake = match self.patience() {
                Some(patience) if now >= moved + patience => return self.blame(),
                Some(patience) => (moved + patience).min(now + step),
                None => now + step,
            };
            sleep_until(wake).await;
        }
    }

    fn blame(&self) -> Break {
        let client = match self.status() {
            Some(_) => self.client_owes_read.load(Relaxed),
            None => self.client_owes_body.load(Relaxed) && !self.expecting.load(Relaxed),
        };
        match client {
            true => Break::Ended(Ending::IdleTimeout),
            false => Break::UpstreamSilent,
        }
    }
}
