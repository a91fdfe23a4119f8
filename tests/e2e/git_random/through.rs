//! A running egressd between a client and git's own server: what its record says of a request and what git did agree, or egressd
//! refused, and nothing came to git.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::requests::Request;
use crate::support::{Authority, Egressd, Origin, Record, TlsStream, Wire, config, directory, write};

const HOST: &str = "git.test";

/// A request as it came to the origin.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) request: Request,
    pub(super) body: Vec<u8>,
}

/// A client, an egressd whose rule allows all of Git, and an origin that has each request done.
pub(super) struct Through<D> {
    proxy: Egressd,
    inspection: Authority,
    port: u16,
    wire: Option<Wire<TlsStream>>,
    done: Arc<Mutex<Option<D>>>,
    sent: usize,
    _origin: Origin,
}

impl<D: Send + 'static> Through<D> {
    pub(super) fn start(act: impl Fn(Arrived) -> D + Send + Sync + 'static) -> Self {
        let (targets, inspection) = (Authority::new(), Authority::new());
        let done: Arc<Mutex<Option<D>>> = Arc::default();
        let origin = {
            let done = Arc::clone(&done);
            Origin::tls(targets.issue(&[HOST]).server_config(), move |stream| {
                let mut stream = BufReader::new(stream);
                while let Some(arrived) = arrived(&mut stream)? {
                    *done.lock().expect("no test panics with it") = Some(act(arrived));
                    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                    stream.get_mut().flush()?;
                }
                Ok(())
            })
        };
        let files = directory();
        write(&files.path().join("roots.pem"), targets.pem());
        write(&files.path().join("ca.crt"), inspection.pem());
        write(&files.path().join("ca.key"), inspection.key_pem());
        let rule = format!(
            "{{to: \"https://{HOST}:{}\", requests: [{{git: [fetch, push], ref_changes: [create, update, delete]}}]}}",
            origin.port()
        );
        let text = config(&[&rule])
            + &format!(
                "certificates: {{roots: roots.pem}}\ninspection: {{certificate: ca.crt, key: ca.key}}\ndns: {{hosts: {{{HOST}: [127.0.0.1]}}}}\n\
                 limits: {{requests_per_second_per_client: 1000000}}\n"
            );
        let proxy = Egressd::start_in(files, &text);
        Through { proxy, inspection, port: origin.port(), wire: None, done, sent: 0, _origin: origin }
    }

    /// Sends a request, and waits for its answer. What the origin did of it, if it came there.
    pub(super) fn ask(&mut self, request: &Request, fields: &str, body: Option<(&[u8], bool)>) -> Option<D> {
        self.sent += 1;
        let authority = format!("{HOST}:{}", self.port);
        let query = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let mut head =
            format!("{} {}{query} HTTP/1.1\r\nHost: {authority}\r\n{fields}", request.method, request.path);
        let mut bytes = Vec::new();
        match body {
            None => {}
            Some((body, false)) => {
                write!(head, "Content-Length: {}\r\n", body.len()).expect("into a text");
                bytes.extend_from_slice(body);
            }
            Some((body, true)) => {
                head += "Transfer-Encoding: chunked\r\n";
                for piece in body.chunks(37) {
                    bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    bytes.extend_from_slice(piece);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        }
        let mut wire = self
            .wire
            .take()
            .unwrap_or_else(|| Wire::through(self.inspection.client(HOST, self.proxy.tunnel(&authority))));
        wire.send([head.as_bytes(), b"\r\n", &bytes].concat());
        let reply = wire.read_head();
        if let Some(length) = reply.header("content-length") {
            // An answer to HEAD has none, whatever it announces.
            if request.method != "HEAD" {
                wire.read_exact(length.parse().expect("a number"));
            }
        } else {
            while chunk(&mut wire) {}
        }
        if !reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.wire = Some(wire);
        }
        self.done.lock().expect("no test panics with it").take()
    }

    /// The record of each request, in their order: the next is sent when the one before is answered.
    pub(super) fn records(mut self) -> Vec<Record> {
        self.wire = None;
        let ended = self.proxy.stop();
        let inner: Vec<Record> = ended
            .records
            .into_iter()
            .filter(|record| record["event"] != "open" && !record["tunnel"].is_null())
            .collect();
        assert_eq!(inner.len(), self.sent, "each request is on record once");
        inner
    }
}

fn chunk(wire: &mut Wire<TlsStream>) -> bool {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(wire.read_exact(1));
    }
    let size = String::from_utf8_lossy(&line);
    let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
    wire.read_exact(size + 2);
    size > 0
}

fn arrived(stream: &mut impl BufRead) -> io::Result<Option<Arrived>> {
    let mut line = String::new();
    // A client that goes away between two requests is no error.
    if !stream.read_line(&mut line).is_ok_and(|read| read > 0) {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (target.to_owned(), None),
    };
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        }
        chunked |= line == "transfer-encoding: chunked";
    }
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body)?;
    while chunked {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).expect("a chunk's size");
        stream.take(size).read_to_end(&mut body)?;
        stream.read_line(&mut line)?;
        chunked = size > 0;
    }
    Ok(Some(Arrived { request: Request { method, path, query }, body }))
}

/// The changes on record, as git writes its commands.
pub(super) fn commands(record: &Record) -> Vec<String> {
    let zero = "0".repeat(40);
    let refs = record["git"]["refs"].as_array().cloned().unwrap_or_default();
    assert_eq!(record["git"]["ref_count"].as_u64().unwrap_or_default(), refs.len() as u64, "{record:?}");
    refs.iter()
        .map(|change| {
            let id = |name: &str| change[name].as_str().unwrap_or(&zero).to_owned();
            let (old, new) = (id("old"), id("new"));
            let kind = match (old == zero, new == zero) {
                (true, _) if new != zero => "create",
                (_, true) => "delete",
                _ => "update",
            };
            assert_eq!(change["change"], Value::from(kind), "{change}");
            format!("{old} {new} {}", change["name"].as_str().expect("a text"))
        })
        .collect()
}
