//! Sends 10,000 odd heads through egressd to a strict origin and to Python's http.server, which is lenient: both read the same
//! requests, and each of these as one request.

#[path = "../differential/heads.rs"]
mod heads;
#[path = "../differential/readers.rs"]
mod readers;
#[path = "../differential/strict_origin.rs"]
mod strict_origin;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::support;
use crate::support::{Egressd, directory, own_loopback, read, until, write};
use crate::tool::{Daemon, here, isolate};
use readers::Seen;

const REQUESTS: usize = 10_000;

/// Prints each request that it reads, as a line of JSON. It also answers requests that smuggling would create.
const PYTHON: &str = r#"
import http.server, json, sys

class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.tell
        raise AttributeError(name)

    def tell(self):
        body = self.body()
        if body is None:
            # Broken off: no server takes that for a request.
            self.close_connection = True
            return
        seen = {"method": self.command, "target": self.path, "fields": self.headers.items(), "body": body.decode("latin-1")}
        with open(sys.argv[2], "a") as out:
            out.write(json.dumps(seen) + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def body(self):
        if "chunked" not in self.headers.get("transfer-encoding", "").lower():
            length = int(self.headers.get("content-length", 0))
            body = self.rfile.read(length)
            return body if len(body) == length else None
        body = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0].strip() or b"-1", 16)
            if size < 0:
                return None
            if size == 0:
                break
            chunk = self.rfile.read(size)
            if len(chunk) < size or not self.rfile.readline():
                return None
            body += chunk
        while line := self.rfile.readline():
            if not line.strip():
                return body
        return None

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024

host, port = sys.argv[1].rsplit(":", 1)
Server((host, int(port)), Origin).serve_forever()
"#;

#[test]
fn a_strict_origin_and_pythons_read_the_same_requests() {
    let strict = strict_origin::start();
    let authority = strict.address().to_string();
    let proxy = Egressd::start(&strict_origin::configuration(&authority));
    let requests = strict_origin::requests(REQUESTS, &authority);
    let statuses = strict_origin::ask_all(&proxy, &requests);
    let by_the_letter = strict_origin::arrived(&strict, &requests, &statuses);
    drop(proxy);

    let home = directory();
    let (script, told) = (home.path().join("origin.py"), home.path().join("told"));
    write(&script, PYTHON);
    write(&told, "");
    let address = SocketAddr::new(own_loopback().into(), 0);
    let address = TcpListener::bind(address).and_then(|free| free.local_addr()).expect("a free port");
    let mut python = here("python3");
    isolate(&mut python, home.path());
    let mut python = Daemon::start(python.arg(&script).arg(address.to_string()).arg(&told));
    until("Python to accept", || {
        python.assert_alive();
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
    });
    let authority = address.to_string();
    let proxy = Egressd::start(&strict_origin::configuration(&authority));
    let requests = strict_origin::requests(REQUESTS, &authority);
    assert_eq!(strict_origin::ask_all(&proxy, &requests), statuses, "another port makes no difference");

    let mut forgiving = BTreeMap::new();
    for line in read(&told).lines() {
        let seen = seen(
            &serde_json::from_str(line).expect("a line of JSON"),
            &authority,
            &strict.address().to_string(),
        );
        let tag: usize = seen.field("x-tag").and_then(|tag| tag.parse().ok()).expect("every request has one");
        assert!(forgiving.insert(tag, seen).is_none(), "{tag} came twice");
    }
    assert_eq!(forgiving.len(), by_the_letter.len());
    for (tag, seen) in &by_the_letter {
        assert_eq!(forgiving.get(tag), Some(seen));
    }
}

/// The request as this server saw it, with the strict origin's authority instead of its own.
fn seen(told: &Value, authority: &str, strict: &str) -> Seen {
    let text = |value: &Value| value.as_str().expect("text").replace(authority, strict);
    let fields =
        told["fields"].as_array().expect("a list").iter().map(|field| {
            (text(&field[0]).to_lowercase(), text(&field[1]).trim_matches([' ', '\t']).to_owned())
        });
    let body = text(&told["body"]).chars().map(|c| c as u8).collect();
    Seen::new(&text(&told["method"]), &text(&told["target"]), fields.collect(), body)
}
