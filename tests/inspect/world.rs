//! A target that speaks HTTP inside TLS, an egressd that inspects it, and clients that trust egressd's authority.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::support::{
    Authority, Conversation, Egressd, Issued, Origin, TlsStream, Wire, config, directory, write,
};

/// The name of the target.
pub(crate) const HOST: &str = "a.test";

/// One request as the target read it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// Request line and fields, as they came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// On which of the target's connections.
    pub(crate) connection: usize,
    /// Whether that connection began with a resumed session.
    pub(crate) resumed: bool,
}

impl Got {
    /// The only value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().filter_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        });
        let value = values.next();
        assert!(values.next().is_none(), "{name} stands there twice: {}", self.head);
        value
    }
}

/// TLS of a target, with its one connection.
pub(crate) type Inner = StreamOwned<ServerConnection, Conversation>;

/// A target that speaks HTTP inside TLS.
pub(crate) struct Site {
    origin: Origin,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Site {
    /// Answers each request with `answer`. An answer that is empty ends the connection.
    pub(crate) fn start(
        config: Arc<ServerConfig>,
        answer: impl Fn(&Got) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Site::serving(config, move |got, stream| {
            let bytes = answer(got);
            stream.write_all(&bytes)?;
            stream.flush()?;
            Ok(!bytes.is_empty())
        })
    }

    /// The same, where the answer is written by the test: it returns whether the connection goes on.
    pub(crate) fn serving(
        config: Arc<ServerConfig>,
        answer: impl Fn(&Got, &mut Inner) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Self {
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let (seen, connections) = (Arc::clone(&got), AtomicUsize::new(0));
        let origin = Origin::tls(config, move |mut stream| {
            let connection = connections.fetch_add(1, Ordering::SeqCst);
            let mut serve = || -> io::Result<()> {
                while let Some((head, body)) = take_request(&mut stream)? {
                    let resumed = stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                    let request = Got { head, body, connection, resumed };
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
                    if !answer(&request, &mut stream)? {
                        break;
                    }
                }
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock.finish()
            };
            // Whatever happened: what still comes is recorded, and the end of it.
            let served = serve();
            io::copy(&mut stream.sock, &mut io::sink())?;
            served
        });
        Site { origin, got }
    }

    /// `ok` to every request.
    pub(crate) fn ok(issued: &Issued) -> Self {
        Site::start(issued.server_config(), |_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
    }

    pub(crate) fn port(&self) -> u16 {
        self.origin.port()
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Everything that was asked so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One request, by its framing. `None` at a close.
fn take_request(stream: &mut impl Read) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let value = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
    };
    let mut body = Vec::new();
    if let Some((_, length)) = value("content-length") {
        body = vec![0; length.parse().expect("a length")];
        stream.read_exact(&mut body)?;
    } else if value("transfer-encoding").is_some() {
        // The end of the trailers: no chunk of these tests holds an empty line.
        while !body.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            body.push(byte[0]);
        }
    }
    Ok(Some((head, body)))
}

/// The two authorities: one that signs for targets, and the one of the inspection.
pub(crate) struct World {
    pub(crate) targets: Authority,
    pub(crate) inspection: Authority,
}

impl World {
    pub(crate) fn new() -> Self {
        World { targets: Authority::new(), inspection: Authority::new() }
    }

    /// A target with a valid certificate that says `ok`.
    pub(crate) fn site(&self) -> Site {
        Site::ok(&self.targets.issue(&[HOST]))
    }

    /// A directory with the files of both authorities.
    pub(crate) fn directory(&self) -> TempDir {
        let directory = directory();
        write(&directory.path().join("roots.pem"), self.targets.pem());
        write(&directory.path().join("ca.crt"), self.inspection.pem());
        write(&directory.path().join("ca.key"), self.inspection.key_pem());
        directory
    }

    /// What a configuration has besides its rules.
    pub(crate) fn rest() -> String {
        format!(
            "certificates: {{roots: roots.pem}}\ninspection: {{certificate: ca.crt, key: ca.key}}\n\
             dns: {{hosts: {{{HOST}: [127.0.0.1], b.test: [127.0.0.1]}}}}\n"
        )
    }

    /// A configuration with a rule that inspects `HOST` at `port`. `options` are further ones, with a comma before them.
    pub(crate) fn config(port: u16, options: &str) -> String {
        config(&[&format!("{{to: \"https://{HOST}:{port}\", inspect: true{options}}}")]) + &World::rest()
    }

    /// An egressd that inspects `site`.
    pub(crate) fn egressd(&self, site: &Site, options: &str) -> Egressd {
        self.start(&World::config(site.port(), options))
    }

    pub(crate) fn start(&self, config: &str) -> Egressd {
        Egressd::start_in(self.directory(), config)
    }

    /// A tunnel to `HOST` at `port` with the client's TLS in it.
    pub(crate) fn inside(&self, proxy: &Egressd, port: u16) -> Wire<TlsStream> {
        let tunnel = proxy.tunnel(&format!("{HOST}:{port}"));
        let mut stream = self.inspection.client(HOST, tunnel);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        }
        Wire::through(stream)
    }
}

/// A request without a body.
pub(crate) fn get(port: u16, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n")
}

/// What one client's TLS does, whatever it is.
pub(crate) struct Tls {
    pub(crate) config: ClientConfig,
}

impl Tls {
    /// Trusts `authority`, or nobody.
    pub(crate) fn trusting(authority: Option<&Authority>) -> Self {
        let mut roots = RootCertStore::empty();
        if let Some(authority) = authority {
            roots.add(authority.der().clone()).expect("well-formed");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Tls { config }
    }

    /// Only this version of TLS.
    pub(crate) fn of(
        authority: Option<&Authority>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Self {
        let trusting = Tls::trusting(authority).config;
        let mut roots = RootCertStore::empty();
        if let Some(authority) = authority {
            roots.add(authority.der().clone()).expect("well-formed");
        }
        let config = ClientConfig::builder_with_provider(Arc::clone(trusting.crypto_provider()))
            .with_protocol_versions(&[version])
            .expect("the provider knows it")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Tls { config }
    }

    /// Makes the handshake in an open tunnel.
    pub(crate) fn handshake(&self, tunnel: Wire, name: &str) -> Result<Wire<TlsStream>, io::Error> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let conn = ClientConnection::new(Arc::new(self.config.clone()), name).expect("a client");
        let mut stream = StreamOwned::new(conn, tunnel.into_stream());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Wire::through(stream))
    }
}
