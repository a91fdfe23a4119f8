//! The configuration as meant: what each room of the house is told to do.
//!
//! Values alone, each valid beside the others. Not here: how they are written ([`super::file`]), and what stands in for
//! a key that is left out ([`super::meaning`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::hash::ConfigHash;
use super::upstream::{Certificates, UpstreamProxy};
use super::users::Users;
use crate::rules::Policies;
use crate::transport::tls::ServerTls;
use crate::words::logformat::Logformat;
use crate::words::target::Name;

/// A whole configuration, valid as a whole; immutable.
#[derive(Debug)]
pub struct Config {
    /// At least one; addresses and names are unique.
    pub listeners: Vec<Listener>,
    /// Metrics, health, status page.
    pub admin: Admin,
    /// Who may reach what, in the order of the file.
    pub policies: Policies,
    /// How names are looked up.
    pub dns: Dns,
    /// The parent proxy; None: direct.
    pub upstream_proxy: Option<UpstreamProxy>,
    /// Which authorities are trusted.
    pub certificates: Certificates,
    /// Deadlines of tunnels.
    pub tunnel: Tunnel,
    /// What clients may use up.
    pub limits: Limits,
    /// Plain HTTP only.
    pub http: Http,
    /// The record of every request.
    pub access_log: AccessLog,
    /// Diagnostics.
    pub log: Log,
    /// What happens on TERM.
    pub shutdown: Shutdown,
    /// Of the configuration and all files it names.
    pub hash: ConfigHash,
    /// The configuration file itself, where it is one, and every file it names, in the order of reading, each once:
    /// what a reload has to watch.
    pub files: Vec<PathBuf>,
}

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Unique.
    pub name: Arc<str>,
    /// What to bind; port 0 is any free port.
    pub address: SocketAddr,
    /// None: not spoken.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// None: cleartext.
    pub tls: Option<Tls>,
    /// None: no passwords.
    pub basic_auth: Option<BasicAuth>,
}

/// Who may bring a PROXY header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyProtocol {
    /// At least one.
    pub trusted: Vec<IpNet>,
}

impl ProxyProtocol {
    /// Whether this peer is a load balancer of ours.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&peer))
    }
}

/// TLS between client and proxy.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What the files say: certificate, key, authorities of client certificates, revocation lists.
    pub server: ServerTls,
    /// For the whole handshake.
    pub handshake_timeout: Duration,
}

/// Passwords of clients.
#[derive(Clone, Debug)]
pub struct BasicAuth {
    /// What the users file says.
    pub users: Arc<Users>,
}

/// The admin listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// What to bind; never a listener's.
    pub address: SocketAddr,
    /// Who may see more than the health paths; empty: nobody.
    pub networks: Vec<IpNet>,
    /// Names under which the status page may be asked for, beside those that nobody else can have.
    pub hosts: Vec<Name>,
    /// From whom a PROXY header is read where it comes.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// How names are looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dns {
    /// Empty: those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// Before any query; no name without an address.
    pub hosts: BTreeMap<Name, Vec<IpAddr>>,
    /// For the whole lookup.
    pub timeout: Duration,
}

/// Deadlines of tunnels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// To dial, over all addresses.
    pub connect_timeout: Duration,
    /// From the 200 to a whole ClientHello.
    pub client_hello_timeout: Duration,
    /// Without a byte in either direction.
    pub idle_timeout: Duration,
    /// From the 200; None: no end.
    pub max_lifetime: Option<Duration>,
    /// TCP_USER_TIMEOUT (RFC 5482) of both sides; None: the kernel's retransmissions alone.
    pub tcp_user_timeout: Option<Duration>,
}

/// What clients may use up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Open tunnels and exchanges; at least 1.
    pub tunnels: usize,
    /// The same of one client address; at least 1.
    pub tunnels_per_client: usize,
    /// At least 1.
    pub requests_per_second_per_client: u32,
    /// Largest request head, from 1 KiB to 1 MiB.
    pub head_bytes: usize,
    /// For a whole head.
    pub head_timeout: Duration,
}

/// Plain HTTP only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// Taken out of every request; never one that frames the message.
    pub remove_request_headers: Vec<http::HeaderName>,
    /// From the request's end to the response's head.
    pub response_timeout: Duration,
    /// Without a byte of a body.
    pub stall_timeout: Duration,
}

/// The record of every request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessLog {
    /// Where records go.
    pub output: LogOutput,
    /// How they look.
    pub format: LogFormat,
    /// What happens to new requests while they cannot be written.
    pub on_failure: OnLogFailure,
}

/// Where records go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogOutput {
    /// Standard output.
    Stdout,
    /// A file that is appended to, and opened again on HUP.
    File(PathBuf),
}

/// How records look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Squid's native format.
    Squid,
    /// A Squid `logformat` with `%` codes.
    Custom(Arc<Logformat>),
}

/// Records or traffic first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnLogFailure {
    /// New requests are refused.
    Deny,
    /// Traffic goes on without records.
    Continue,
}

/// Diagnostics on stderr.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Log {
    /// How much.
    pub level: LogLevel,
    /// How it looks.
    pub format: DiagnosticsFormat,
}

/// How much is told, each level with those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What looks wrong.
    Warn,
    /// What a person wants to know.
    Info,
    /// Each step.
    Debug,
    /// Each detail.
    Trace,
}

/// How diagnostics look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiagnosticsFormat {
    /// For people.
    Text,
    /// For log routers.
    Json,
}

/// What happens on TERM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shutdown {
    /// Accepting goes on for so long.
    pub delay: Duration,
    /// Then open tunnels have so long.
    pub grace_period: Duration,
}
