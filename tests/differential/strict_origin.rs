//! Sends odd requests through a running egressd to a strict origin, and checks what arrives there.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::thread;

use super::heads::{Heads, OddRequest, Scheme};
use super::readers::{Seen, lenient, strict};
use super::support::{Conversation, Egressd, Origin, Wire, any_port, config};

const SEED: u64 = 9112;
const CLIENTS: usize = 8;
/// What odd requests are refused with. 421 is for a tunnel of another host.
const EXPECTED: [u16; 5] = [400, 403, 405, 408, 421];
/// Fields that belong to one hop, or that say who asked.
const STAYS: [&str; 8] = [
    "via",
    "forwarded",
    "x-forwarded-for",
    "proxy-authorization",
    "proxy-connection",
    "upgrade",
    "http2-settings",
    "keep-alive",
];

/// Answers each request once it is complete.
pub(crate) fn start() -> Origin {
    Origin::start(any_port(), |conversation: Conversation| answer(conversation, |_| ()))
}

/// Answers each request on one connection once it is complete, and shows all that it reads.
pub(crate) fn answer(mut stream: impl Read + Write, mut read: impl FnMut(&[u8])) -> io::Result<()> {
    let (mut bytes, mut some) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut some)? {
            0 => return Ok(()),
            length => {
                read(&some[..length]);
                bytes.extend_from_slice(&some[..length]);
            }
        }
        while let Ok(Some((_, length))) = strict(&bytes) {
            bytes.drain(..length);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            stream.flush()?;
        }
    }
}

/// The configuration for an origin at this authority. Where a generated line ending has destroyed the end of a head, egressd
/// waits for the rest of the head.
pub(crate) fn configuration(authority: &str) -> String {
    config(&[&format!("http://{authority}")]) + LIMITS
}

/// The same for every configuration of these tests.
pub(crate) const LIMITS: &str = "limits: {requests_per_second_per_client: 1000000, head_timeout: 500ms}\n";

/// `count` requests for an origin at this authority; the first has the tag 1.
pub(crate) fn requests(count: usize, authority: &str, scheme: Scheme) -> Vec<OddRequest> {
    let mut heads = Heads::new(SEED, scheme);
    (1..=count).map(|tag| heads.request(authority, tag)).collect()
}

/// Sends the requests, each on its own connection: the status of the first reply to each.
pub(crate) fn ask_all(proxy: &Egressd, requests: &[OddRequest]) -> Vec<u16> {
    ask_each(|| proxy.connect(), requests)
}

/// The same over connections that `connect` opens.
pub(crate) fn ask_each<S: Read + Write>(
    connect: impl Fn() -> Wire<S> + Sync,
    requests: &[OddRequest],
) -> Vec<u16> {
    let ask = |request: &OddRequest| {
        let mut wire = connect();
        wire.send(&request.bytes);
        // An origin may ask for a body that is already on its way.
        match wire.read_head().status {
            100 => wire.read_head().status,
            status => status,
        }
    };
    let statuses: Vec<u16> = thread::scope(|scope| {
        let clients: Vec<_> = requests
            .chunks(requests.len().div_ceil(CLIENTS))
            .map(|mine| scope.spawn(move || mine.iter().map(ask).collect::<Vec<_>>()))
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
    });
    let passed = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| EXPECTED.contains(status)).count();
    let other =
        requests.iter().zip(&statuses).find(|(_, status)| **status != 200 && !EXPECTED.contains(status));
    let other = other.map(|(request, status)| (status, String::from_utf8_lossy(&request.bytes)));
    assert_eq!(other, None);
    let enough = requests.len() / 5;
    assert!(passed > enough && refused > enough, "{passed} passed, {refused} were refused");
    statuses
}

/// Asserts that each request that was let through arrived once, that the strict and the forgiving reader both see one request
/// with the intended body, and that nothing else arrived. The requests by their tag.
pub(crate) fn arrived(origin: &Origin, requests: &[OddRequest], statuses: &[u16]) -> BTreeMap<usize, Seen> {
    let seen = origin.seen().into_iter().map(|connection| connection.bytes);
    arrived_at(&origin.address().to_string(), seen, requests, statuses)
}

/// The same for connections on which these bytes came.
pub(crate) fn arrived_at(
    authority: &str,
    connections: impl Iterator<Item = Vec<u8>>,
    requests: &[OddRequest],
    statuses: &[u16],
) -> BTreeMap<usize, Seen> {
    let mut arrived = BTreeMap::new();
    for bytes in connections {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let read = strict(&bytes).unwrap_or_else(|error| panic!("{error}: {shown:?}"));
        let Some((seen, length)) = read else {
            // It ended inside a malformed body: no reader took it for complete.
            let tag = shown.split("x-tag: ").nth(1).and_then(|rest| rest.split('\r').next());
            let status = tag.and_then(|tag| tag.parse::<usize>().ok()).map(|tag| statuses[tag - 1]);
            assert!(bytes.is_empty() || status == Some(400), "{status:?} {shown:?}");
            continue;
        };
        assert_eq!(length, bytes.len(), "more than one request: {shown:?}");
        assert_eq!(lenient(&bytes), std::slice::from_ref(&seen), "{shown:?}");
        let tag: usize = seen.field("x-tag").and_then(|tag| tag.parse().ok()).expect("every request has one");
        assert_eq!(seen.body, requests[tag - 1].body, "{shown:?}");
        assert_eq!(seen.field("host"), Some(authority), "{shown:?}");
        assert!(seen.fields.iter().all(|(name, _)| !STAYS.contains(&name.as_str())), "{shown:?}");
        assert!(arrived.insert(tag, seen).is_none(), "twice: {shown:?}");
    }
    for (at, (request, status)) in requests.iter().zip(statuses).enumerate() {
        let shown = String::from_utf8_lossy(&request.bytes);
        assert_eq!(arrived.contains_key(&(at + 1)), *status == 200, "{status} {shown:?}");
    }
    arrived
}
