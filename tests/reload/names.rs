//! A name server that holds its answers back until the test releases them: until then, a decided request is not dialled.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{JoinHandle, spawn};

use crate::support::{DEADLINE, until};

/// Answers 127.0.0.1 for every name.
#[derive(Debug)]
pub(crate) struct HeldNames {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    asked: usize,
    released: bool,
    stop: bool,
}

impl HeldNames {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = socket.local_addr().expect("bound");
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let serving = spawn({
            let state = Arc::clone(&state);
            move || serve(&socket, &state)
        });
        HeldNames { address, state, serving: Some(serving) }
    }

    /// The line for the configuration.
    pub(crate) fn setting(&self) -> String {
        format!("dns: {{servers: [\"{}\"], timeout: 30s}}\n", self.address)
    }

    /// Waits until a question has come: the rules have allowed the request that asks it.
    pub(crate) fn wait_asked(&self) {
        until("a question to the name server", || (lock(&self.state).asked > 0).then_some(()));
    }

    /// How many questions have come.
    pub(crate) fn asked(&self) -> usize {
        lock(&self.state).asked
    }

    /// Answers from now on, including the earlier questions.
    pub(crate) fn release(&self) {
        lock(&self.state).released = true;
        self.state.1.notify_all();
    }
}

impl Drop for HeldNames {
    fn drop(&mut self) {
        lock(&self.state).stop = true;
        self.release();
        // Wakes `recv_from`.
        let woken =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.send_to(&[], self.address));
        if let Some(serving) = self.serving.take().filter(|_| woken.is_ok()) {
            let _ = serving.join();
        }
    }
}

fn lock(state: &(Mutex<State>, Condvar)) -> std::sync::MutexGuard<'_, State> {
    state.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(socket: &UdpSocket, state: &(Mutex<State>, Condvar)) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let mut held = lock(state);
        held.asked += 1;
        // Meanwhile, other questions wait in the socket's buffer.
        let (held, _) = state
            .1
            .wait_timeout_while(held, DEADLINE, |state| !state.released)
            .unwrap_or_else(PoisonError::into_inner);
        if held.stop {
            return;
        }
        drop(held);
        if let Some(answer) = answer(&buffer[..length]) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// For A: 127.0.0.1; for anything else: no such record (RFC 1035 §4.1).
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const A: [u8; 2] = [0, 1];
    // The name's labels, up to the empty one, then type and class.
    let mut end = HEADER;
    while *question.get(end)? != 0 {
        end += 1 + usize::from(question[end]);
    }
    let kind = question.get(end + 1..end + 3)?;
    let asked = question.get(HEADER..end + 5)?;
    let is_a = kind == A;
    let mut answer = question.get(..2)?.to_vec();
    // A response, recursion available, no error; one question, an answer or none, nothing else.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(asked);
    if is_a {
        // The name as a pointer to the question's, A, IN, 60 s, 4 bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
