//! Sends 10,000 odd heads through egressd to a strict origin and to Python's http.server, which is lenient: both read the same
//! requests, and each of these as one request.

#[path = "../differential/heads.rs"]
mod heads;
#[path = "../differential/inspected.rs"]
mod inspected;
#[path = "../differential/readers.rs"]
mod readers;
#[path = "../differential/strict_origin.rs"]
mod strict_origin;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::support;
use crate::support::{Authority, Egressd, Issued, directory, own_loopback, read, until, write};
use crate::tool::{Daemon, here, isolate};
use heads::Scheme;
use inspected::Inspected;
use readers::Seen;

const REQUESTS: usize = 10_000;
/// Each costs four handshakes.
const REQUESTS_INSIDE: usize = 1_000;

/// Prints each request that it reads, as a line of JSON. It also answers requests that smuggling would create.
const PYTHON: &str = r#"
import http.server, json, ssl, sys

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
server = Server((host, int(port)), Origin)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3])
    # The handshake is made by the thread of the connection.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

#[test]
fn a_strict_origin_and_pythons_read_the_same_requests() {
    let strict = strict_origin::start();
    let authority = strict.address().to_string();
    let proxy = Egressd::start(&strict_origin::configuration(&authority));
    let requests = strict_origin::requests(REQUESTS, &authority, Scheme::Http);
    let statuses = strict_origin::ask_all(&proxy, &requests);
    let by_the_letter = strict_origin::arrived(&strict, &requests, &statuses);
    drop(proxy);

    let python = Python::start(None);
    let authority = python.address.to_string();
    let proxy = Egressd::start(&strict_origin::configuration(&authority));
    let requests = strict_origin::requests(REQUESTS, &authority, Scheme::Http);
    assert_eq!(strict_origin::ask_all(&proxy, &requests), statuses, "another port makes no difference");

    assert_eq!(python.told(&authority, &strict.address().to_string()), by_the_letter);
}

/// The same in inspected tunnels, with Python's server inside TLS.
#[test]
fn a_strict_origin_and_pythons_read_the_same_requests_inside_inspected_tunnels() {
    let strict = Inspected::start();
    let requests = strict_origin::requests(REQUESTS_INSIDE, &strict.authority, Scheme::Https);
    let statuses = strict.ask_all(&requests);
    let by_the_letter = strict.arrived(&requests, &statuses);

    let targets = Authority::new();
    let python = Python::start(Some(&targets.issue(&[inspected::HOST])));
    let address = python.address;
    let forgiving = Inspected::before(&targets, &address.ip().to_string(), address.port());
    let requests = strict_origin::requests(REQUESTS_INSIDE, &forgiving.authority, Scheme::Https);
    assert_eq!(forgiving.ask_all(&requests), statuses, "another port makes no difference");
    assert_eq!(python.told(&forgiving.authority, &strict.authority), by_the_letter);
}

/// Python's server, and the file into which it writes what it reads.
struct Python {
    address: SocketAddr,
    told: PathBuf,
    _server: Daemon,
    _home: TempDir,
}

impl Python {
    /// With a certificate, it speaks TLS.
    fn start(certificate: Option<&Issued>) -> Self {
        let home = directory();
        let (script, told) = (home.path().join("origin.py"), home.path().join("told"));
        write(&script, PYTHON);
        write(&told, "");
        let address = SocketAddr::new(own_loopback().into(), 0);
        let address = TcpListener::bind(address).and_then(|free| free.local_addr()).expect("a free port");
        let mut python = here("python3");
        isolate(&mut python, home.path());
        python.arg(&script).arg(address.to_string()).arg(&told);
        if let Some(certificate) = certificate {
            let file = home.path().join("origin.pem");
            write(&file, format!("{}{}", certificate.pem, certificate.key_pem));
            python.arg(file);
        }
        let mut server = Daemon::start(&mut python);
        until("Python to accept", || {
            server.assert_alive();
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
        });
        Python { address, told, _server: server, _home: home }
    }

    /// What it read, by tag, with `other` for its own authority.
    fn told(&self, authority: &str, other: &str) -> BTreeMap<usize, Seen> {
        let mut forgiving = BTreeMap::new();
        for line in read(&self.told).lines() {
            let seen = seen(&serde_json::from_str(line).expect("a line of JSON"), authority, other);
            let tag: usize =
                seen.field("x-tag").and_then(|tag| tag.parse().ok()).expect("every request has one");
            assert!(forgiving.insert(tag, seen).is_none(), "{tag} came twice");
        }
        forgiving
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
