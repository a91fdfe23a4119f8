//! A name server that answers as the test says, and records every question.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, spawn};

/// The type of a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The name that belongs to an address (PTR).
    Ptr,
    /// Anything else.
    Other,
}

/// One question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// In lower case, without its final dot.
    pub name: String,
    /// Its type.
    pub kind: Kind,
}

/// What the name server answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Says {
    /// Those of these addresses that have the requested family; TTL 0, so that each request asks again.
    Addresses(Vec<IpAddr>),
    /// A PTR record with this name.
    Name(&'static str),
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The server failed (SERVFAIL).
    Failure,
    /// No answer at all.
    Silence,
    /// Bytes that are not an answer.
    Garbage,
}

type Script = dyn Fn(&Question, usize) -> Says + Send + Sync;

/// A running name server; a drop ends it.
#[derive(Debug)]
pub struct Names {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Question>>>,
    stop: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Names {
    /// `script` gets the question and how often the same one was asked before.
    pub fn start(
        address: SocketAddr,
        script: impl Fn(&Question, usize) -> Says + Send + Sync + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(address).unwrap_or_else(|e| panic!("binding {address}: {e}"));
        let address = socket.local_addr().expect("bound");
        let asked: Arc<Mutex<Vec<Question>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let serving = spawn({
            let (asked, stop) = (Arc::clone(&asked), Arc::clone(&stop));
            move || serve(&socket, &asked, &stop, &script)
        });
        Names { address, asked, stop, serving: Some(serving) }
    }

    /// The address at which it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every question so far.
    pub fn asked(&self) -> Vec<Question> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let woken = UdpSocket::bind((self.address.ip(), 0)).and_then(|s| s.send_to(&[], self.address));
        if let Some(serving) = self.serving.take().filter(|_| woken.is_ok()) {
            let _ = serving.join();
        }
    }
}

fn serve(socket: &UdpSocket, asked: &Mutex<Vec<Question>>, stop: &AtomicBool, script: &Script) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Some((question, end)) = question(&buffer[..length]) else { continue };
        let before = {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(question.clone());
            asked.iter().filter(|other| **other == question).count() - 1
        };
        if let Some(answer) = answer(&buffer[..end], question.kind, &script(&question, before)) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

const HEADER: usize = 12;

/// The one question of a query, and where it ends (RFC 1035 §4.1.2).
fn question(query: &[u8]) -> Option<(Question, usize)> {
    let mut at = HEADER;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = match query.get(at..at + 2)? {
        [0, 1] => Kind::A,
        [0, 28] => Kind::Aaaa,
        [0, 12] => Kind::Ptr,
        _ => Kind::Other,
    };
    let end = at + 4;
    (query.len() >= end).then_some((Question { name: labels.join("."), kind }, end))
}

/// `query` up to the end of its question, turned into an answer.
fn answer(query: &[u8], kind: Kind, says: &Says) -> Option<Vec<u8>> {
    let (code, data): (u8, Vec<Vec<u8>>) = match says {
        Says::Silence => return None,
        Says::Garbage => return Some([&query[..2], &[0xff; 40]].concat()),
        Says::NoSuchName => (3, Vec::new()),
        Says::Failure => (2, Vec::new()),
        Says::Addresses(list) => {
            let of_kind = list.iter().filter_map(|address| match (kind, address) {
                (Kind::A, IpAddr::V4(address)) => Some(address.octets().to_vec()),
                (Kind::Aaaa, IpAddr::V6(address)) => Some(address.octets().to_vec()),
                _ => None,
            });
            (0, of_kind.collect())
        }
        Says::Name(name) if kind == Kind::Ptr => {
            let labels = name.split('.').flat_map(|label| {
                let length = u8::try_from(label.len()).expect("a label");
                [&[length], label.as_bytes()].concat()
            });
            (0, vec![labels.chain([0]).collect()])
        }
        Says::Name(_) => (0, Vec::new()),
    };
    let mut answer = query.to_vec();
    let count = u8::try_from(data.len()).expect("few");
    // A response, recursion available; one question, `count` answers, nothing else.
    answer[2..HEADER].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    let kind = &query[query.len() - 4..query.len() - 2];
    for data in data {
        let length = u16::try_from(data.len()).expect("short").to_be_bytes();
        // The question's name, its type, IN, TTL 0.
        answer.extend([&[0xc0, 12], kind, &[0, 1, 0, 0, 0, 0], &length[..], &data].concat());
    }
    Some(answer)
}
