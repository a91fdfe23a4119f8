//! The proxy as a client reaches it: by its URL, over TCP or TLS, with or without a password.

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use base64::Engine as _;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ClientConnection, StreamOwned};

pub(super) use super::reply::{Connected, Inside, Reply};
use super::reply::{first_record, is_close};
use super::socks5;
use super::timed::{STEP, Timed};
use crate::commands::env::ProxyUrl;
use crate::transport::tls::client::trusting_nobody;
use crate::transport::tls::sentences::{Holder, inside, of_io};
use crate::words::target::{DOCTOR, EXPECTS_REFUSAL, Host, Port, Target};

/// The proxy's address, and how to connect to it.
#[derive(Clone, Debug)]
pub struct Proxy {
    host: Host,
    port: Port,
    /// The path of its socket, in the place of both.
    socket: Option<Box<str>>,
    /// It is asked in SOCKS5.
    socks: bool,
    tls: Option<Arc<ClientConfig>>,
    credentials: Option<String>,
}

/// Why the proxy could not be tested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Its name cannot be looked up from here.
    #[error("cannot look its name up ({0}): check the name, and this machine's DNS")]
    Name(io::Error),
    /// It does not answer.
    #[error("cannot connect to {address} ({error}): {hint}")]
    Connect {
        /// The last address that was tried.
        address: SocketAddr,
        /// Why it failed.
        error: io::Error,
        /// What to check.
        hint: &'static str,
    },
    /// Nobody answers at its socket.
    #[error("cannot connect to its socket ({error}): {hint}")]
    Socket {
        /// Why it failed.
        error: io::Error,
        /// What to check.
        hint: &'static str,
    },
    /// The TLS handshake failed.
    #[error(
        "the TLS handshake failed ({}): check whether the listener has `tls`, whether --ca verifies its certificate, and whether it requires a client certificate (--client-certificate){}",
        of_io(.0, Holder::Server), about_certificate(.0)
    )]
    Tls(io::Error),
    /// It was reached and does not answer as a proxy.
    #[error("{}{}", of_io(.0, Holder::Server), about_certificate(.0))]
    Reply(io::Error),
}

/// What to do about the alert of a proxy that wants a certificate, or does not accept the one that was shown. In TLS 1.3 it comes after the
/// handshake.
fn about_certificate(error: &io::Error) -> &'static str {
    use AlertDescription::*;
    match inside(error) {
        Some(rustls::Error::AlertReceived(CertificateRequired)) => {
            ": write the client's with --client-certificate FILE and --client-key FILE"
        }
        Some(rustls::Error::AlertReceived(
            UnknownCA
            | BadCertificate
            | UnsupportedCertificate
            | CertificateRevoked
            | CertificateExpired
            | CertificateUnknown
            | AccessDenied,
        )) => {
            ": the proxy does not accept the client's certificate, and its log and stderr say why (client_certificate_invalid)"
        }
        _ => "",
    }
}

/// The result of a CONNECT.
pub(super) enum Attempt {
    /// The tunnel is open.
    Tunnel(OpenTunnel),
    /// It was refused.
    Refused(Reply),
}

/// A tunnel, before its first byte.
pub(super) struct OpenTunnel {
    connected: Connected,
    pub(super) reply: Reply,
}

impl Proxy {
    /// Reads `http://host:port`, `https://host:port` or `socks5h://host:port`, `unix:/path` or `socks5h://localhost/path`. `tls` is for the
    /// second; `credentials` are `USER:PASSWORD`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(
        url: &str,
        tls: impl FnOnce() -> Result<ClientConfig, String>,
        credentials: Option<String>,
    ) -> Result<Self, String> {
        let ProxyUrl { host, port, socket, socks, tls: by_tls, .. } = ProxyUrl::parse(url, None)?;
        let tls = if by_tls { Some(Arc::new(tls()?)) } else { None };
        Ok(Proxy { host, port, socket, socks, tls, credentials })
    }

    /// Connects; the first address that answers.
    pub(super) fn connect(&self) -> Result<Connected, ProxyError> {
        if let Some(path) = &self.socket {
            return by_socket(path);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "every client on this machine looks the proxy up like this, with search domains and NSS"
        )]
        let addresses: Vec<SocketAddr> = match &self.host {
            Host::Address(ip) => vec![SocketAddr::new(*ip, self.port.get())],
            Host::Name(name) => {
                (name.as_str(), self.port.get()).to_socket_addrs().map_err(ProxyError::Name)?.collect()
            }
        };
        let mut last = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, STEP) {
                Ok(socket) => return self.over(socket),
                Err(error) => last = Some((address, error)),
            }
        }
        let Some((address, error)) = last else {
            return Err(ProxyError::Name(io::Error::other("it has no address")));
        };
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "nothing listens there: check the port, and whether the proxy runs"
            }
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                "nothing answers: check security groups, the load balancer's targets (is any healthy?), the route from here"
            }
            _ => "check the route from here",
        };
        Err(ProxyError::Connect { address, error, hint })
    }

    fn over(&self, socket: TcpStream) -> Result<Connected, ProxyError> {
        let copy = socket.try_clone().map_err(ProxyError::Reply)?;
        let socket = Timed::new(socket);
        let Some(config) = &self.tls else {
            return Connected::over(Box::new(socket), &copy).map_err(ProxyError::Reply);
        };
        let name = match &self.host {
            Host::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|error| ProxyError::Tls(io::Error::other(error)))?,
            Host::Address(ip) => ServerName::from(*ip),
        };
        let connection = ClientConnection::new(Arc::clone(config), name)
            .map_err(|error| ProxyError::Tls(io::Error::other(error)))?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(ProxyError::Tls)?;
        }
        Connected::over(Box::new(stream), &copy).map_err(ProxyError::Reply)
    }

    /// Requests a tunnel.
    pub(super) fn open(&self, target: &Target) -> Result<Attempt, ProxyError> {
        self.ask(target, "")
    }

    /// The same for a target that should be refused, and says so: nobody need be offered a rule for it.
    pub(super) fn open_refused(&self, target: &Target) -> Result<Attempt, ProxyError> {
        self.ask(target, EXPECTS_REFUSAL)
    }

    fn ask(&self, target: &Target, expects: &str) -> Result<Attempt, ProxyError> {
        let mut connected = self.connect()?;
        if self.socks {
            let reply = socks5::ask(&mut connected, target, self.credentials.as_deref())
                .map_err(ProxyError::Reply)?;
            return Ok(Attempt::of(connected, reply));
        }
        let mut head = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {DOCTOR}{}{expects}\r\n",
            env!("CARGO_PKG_VERSION")
        );
        if let Some(credentials) = &self.credentials {
            let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
            head.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
        }
        head.push_str("\r\n");
        // A proxy that has already closed may have sent the reason first.
        let sent = connected.stream.write_all(head.as_bytes()).and_then(|()| connected.stream.flush());
        let reply = Reply::read(&mut connected).map_err(|error| {
            let unsent = sent.err().filter(|unsent| !is_close(unsent));
            ProxyError::Reply(unsent.unwrap_or(error))
        })?;
        Ok(Attempt::of(connected, reply))
    }
}

impl Attempt {
    fn of(connected: Connected, reply: Reply) -> Self {
        match reply.status {
            200..300 => Attempt::Tunnel(OpenTunnel { connected, reply }),
            _ => Attempt::Refused(reply),
        }
    }
}

/// Connects to a socket of this machine.
fn by_socket(path: &str) -> Result<Connected, ProxyError> {
    let socket = UnixStream::connect(path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "there is none: check the path, and whether the proxy runs",
            io::ErrorKind::ConnectionRefused => "nothing listens there: check whether the proxy runs",
            io::ErrorKind::PermissionDenied => {
                "this user may not write to it: check its `permissions`, its group, and those of its directory"
            }
            _ => "check the path",
        };
        ProxyError::Socket { error, hint }
    })?;
    // The calls are the same on Linux, whatever the socket is.
    let socket = TcpStream::from(OwnedFd::from(socket));
    Ok(Connected { stream: Box::new(Timed::new(socket)), ends: None })
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.socks, self.tls.is_some()) {
            (true, _) => "socks5h",
            (false, true) => "https",
            (false, false) => "http",
        };
        match (&self.socket, self.socks) {
            (None, _) => write!(f, "{scheme}://{}:{}", self.host, self.port),
            (Some(path), true) => write!(f, "{scheme}://localhost{path}"),
            (Some(path), false) => write!(f, "unix:{path}"),
        }
    }
}

impl OpenTunnel {
    /// Sends a ClientHello for this name, and reads what comes back first.
    pub(super) fn shake(mut self, name: &str) -> Inside {
        // The certificate is not verified: no handshake is completed here.
        let Ok(config) = trusting_nobody() else { return Inside::Closed };
        let Ok(name) = ServerName::try_from(name.to_owned()) else { return Inside::Closed };
        let Ok(mut connection) = ClientConnection::new(Arc::new(config), name) else { return Inside::Closed };
        let mut hello = Vec::new();
        if connection.write_tls(&mut hello).is_err() {
            return Inside::Closed;
        }
        let stream = &mut *self.connected.stream;
        if stream.write_all(&hello).and_then(|()| stream.flush()).is_err() {
            return Inside::Closed;
        }
        let inside = first_record(stream);
        self.connected.close();
        inside
    }
}
