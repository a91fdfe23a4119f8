//! The 1xx heads of one response, from hyper, which goes on reading whatever the client does, to the client.
//!
//! Not here: which of them the client may see ([`download`](super::download)).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::BytesMut;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};

use super::rewrite::Nominated;
use super::written::{RESPONSE_BUFFER, size, write_head};
use crate::session::http::changes::Answers;
use crate::transport::held::{Holder, Kind, Lease};
use crate::transport::response_buffer::ResponseBuffer;

/// Most that wait to be written, with [`RESPONSE_BUFFER`] bytes in all; further ones are dropped.
const MOST: usize = 8;

/// A 1xx, ready to be written.
pub(super) struct Informational {
    pub(super) status: StatusCode,
    pub(super) head: BytesMut,
    pub(super) lease: Lease,
    pub(super) _room: Room,
}

/// Those that wait. Nearly every response has none, so nothing is allocated for them before the first.
#[derive(Default)]
struct Waiting(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    heads: VecDeque<Informational>,
    /// Of those that wait, and of the one that is being written.
    bytes: usize,
    waker: Option<Waker>,
    /// Nobody writes them any more.
    is_closed: bool,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under this lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the bound, given back when it is dropped.
pub(super) struct Room {
    of: Arc<Waiting>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut queue = self.of.lock();
        queue.bytes = queue.bytes.saturating_sub(self.bytes);
    }
}

/// The end that hyper tells.
pub(super) struct Informing {
    waiting: Arc<Waiting>,
    buffer: Arc<ResponseBuffer>,
    holder: Arc<Holder>,
    answers: Answers,
}

impl Informing {
    pub(super) fn new(buffer: &Arc<ResponseBuffer>, holder: &Arc<Holder>, answers: Answers) -> (Self, Told) {
        let waiting = Arc::<Waiting>::default();
        let told = Told(Arc::clone(&waiting));
        (Informing { waiting, buffer: Arc::clone(buffer), holder: Arc::clone(holder), answers }, told)
    }

    /// A flood of them is cut, not queued. RFC 9110 §15.2: a proxy may discard one, also because it cannot pass it on as it should.
    pub(super) fn tell(&self, status: StatusCode, headers: &HeaderMap) {
        self.buffer.informational(size(headers));
        let nominated = Nominated::by(headers);
        if !nominated.is_readable || self.waiting.lock().heads.len() >= MOST {
            return;
        }
        let mut headers = headers.clone();
        nominated.strip(&mut headers);
        self.answers.change(&mut headers);
        headers.remove(CONTENT_LENGTH);
        // A copy: the values keep the whole buffer that hyper reads into.
        let head = write_head(status, None, &headers, None);
        let mut queue = self.waiting.lock();
        if queue.is_closed || queue.bytes + head.len() > RESPONSE_BUFFER {
            return;
        }
        queue.bytes += head.len();
        let room = Room { of: Arc::clone(&self.waiting), bytes: head.len() };
        let lease = Lease::of(&self.holder, Kind::Body, head.capacity());
        queue.heads.push_back(Informational { status, head, lease, _room: room });
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The end that writes them. Dropping it drops those that wait.
pub(super) struct Told(Arc<Waiting>);

impl Told {
    /// The next one.
    pub(super) async fn next(&self) -> Informational {
        poll_fn(|cx| {
            let mut queue = self.0.lock();
            match queue.heads.pop_front() {
                Some(informational) => Poll::Ready(informational),
                None => {
                    queue.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The next one, if there is one.
    pub(super) fn take(&self) -> Option<Informational> {
        self.0.lock().heads.pop_front()
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().heads.len()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        // Each holds the queue, which would hold it in turn for ever. They lock it when they are dropped.
        let heads = std::mem::take(&mut queue.heads);
        drop(queue);
        drop(heads);
    }
}
