//! The configuration as meant: the settings of each part of egressd.
//!
//! Only values, which are valid together. Not here: how they are written ([`super::file`]), and the defaults
//! ([`super::build`]).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::hash::ConfigHash;
use super::named_files::NamedFile;
use super::otlp::Otlp;
use super::shared_state::SharedState;
use super::upstream::{Certificates, UpstreamProxy};
use super::users::Users;
use crate::rules::Policies;
use crate::rules::lint::Entrance;
use crate::transport::tls::ServerTls;
use crate::transport::tls::mint::Minter;
use crate::wire::seal::key::SealKey;
use crate::words::client::{ClientAddr, Protocol};
use crate::words::logformat::Logformat;
use crate::words::target::Name;

/// A whole configuration, valid as a whole; immutable.
#[derive(Debug)]
pub struct Config {
    /// At least one; addresses and names are unique.
    pub listeners: Vec<Listener>,
    /// Metrics, health, status page.
    pub admin: Admin,
    /// Which clients may reach which targets, in the order of the file.
    pub policies: Policies,
    /// How names are looked up.
    pub dns: Dns,
    /// The parent proxy; None: egressd connects directly.
    pub upstream_proxy: Option<UpstreamProxy>,
    /// Which certificate authorities are trusted.
    pub certificates: Certificates,
    /// What inspected tunnels show to clients; None: no rule can inspect.
    pub inspection: Option<Inspection>,
    /// The store of upload budgets; None: each replica counts by itself.
    pub shared_state: Option<SharedState>,
    /// Deadlines of tunnels.
    pub tunnel: Tunnel,
    /// How much clients may use.
    pub limits: Limits,
    /// Plain HTTP only.
    pub http: Http,
    /// The record of every request.
    pub access_log: AccessLog,
    /// Diagnostics.
    pub log: Log,
    /// What egressd does on SIGTERM.
    pub shutdown: Shutdown,
    /// The hash of the configuration and all files that it names.
    pub hash: ConfigHash,
    /// The configuration file itself, if there is one, and every file that it names, in the order of reading, each
    /// once. A reload has to watch these.
    pub files: Vec<PathBuf>,
    /// Those that it names, once for each time.
    pub named: Vec<NamedFile>,
}

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Unique.
    pub name: Arc<str>,
    /// Where it is.
    pub address: ListenAddress,
    /// What its clients may speak; [`Protocols::TRANSPARENT`] with `mode: transparent`.
    pub protocols: Protocols,
    /// None: not used.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// None: cleartext.
    pub tls: Option<Tls>,
    /// None: no passwords.
    pub basic_auth: Option<BasicAuth>,
}

impl Listener {
    /// The value of `mode`.
    pub fn mode(&self) -> &'static str {
        if self.protocols.transparent { "transparent" } else { "proxy" }
    }

    /// What it can know of its clients.
    pub fn entrance(&self) -> Entrance {
        let users = self.basic_auth.as_ref().map(|basic_auth| &basic_auth.users);
        Entrance {
            name: Arc::clone(&self.name),
            users: users.map(|users| users.names().map(|user| format!("user:{user}").into()).collect()),
            certificates: self.tls.as_ref().is_some_and(|tls| tls.server.verifies_clients()),
            endpoints: self.proxy_protocol.is_some(),
        }
    }
}

/// Where a listener is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListenAddress {
    /// The address to bind; port 0 is any free port.
    Ip(SocketAddr),
    /// A unix socket.
    Unix {
        /// Absolute.
        path: PathBuf,
        /// Of the file: who may write there may connect.
        permissions: u32,
    },
}

impl ListenAddress {
    /// The address, if it has one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            ListenAddress::Ip(address) => Some(*address),
            ListenAddress::Unix { .. } => None,
        }
    }

    /// The path, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            ListenAddress::Ip(_) => None,
            ListenAddress::Unix { path, .. } => Some(path),
        }
    }

    /// The permissions of the file, if there is one, as they are written.
    pub fn permissions(&self) -> Option<String> {
        match self {
            ListenAddress::Ip(_) => None,
            ListenAddress::Unix { permissions, .. } => Some(format!("{permissions:04o}")),
        }
    }
}

/// As in the configuration.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Ip(address) => address.fmt(f),
            ListenAddress::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What the clients of a listener may speak; at least one, and nothing beside [`Protocols::TRANSPARENT`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protocols {
    /// HTTP/1.
    pub http: bool,
    /// SOCKS5.
    pub socks5: bool,
    /// What they say to their target: they do not know of the proxy.
    pub transparent: bool,
}

impl Protocols {
    /// HTTP alone.
    pub const HTTP: Self = Protocols { http: true, socks5: false, transparent: false };
    /// The clients do not know of the proxy.
    pub const TRANSPARENT: Self = Protocols { http: false, socks5: false, transparent: true };

    /// Whether this is one of them.
    pub fn has(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Http => self.http,
            Protocol::Socks5 => self.socks5,
            Protocol::Transparent => self.transparent,
        }
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Protocol> {
        Protocol::ALL.iter().copied().filter(move |protocol| self.has(*protocol))
    }
}

/// Which peers may send a PROXY header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyProtocol {
    /// At least one.
    pub trusted: Vec<IpNet>,
}

impl ProxyProtocol {
    /// Whether this peer is one of our load balancers.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&peer))
    }
}

/// TLS between client and proxy.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The contents of the files: certificate, key, authorities of client certificates, revocation lists.
    pub server: ServerTls,
    /// The time for the whole handshake.
    pub handshake_timeout: Duration,
}

/// Passwords of clients.
#[derive(Clone, Debug)]
pub struct BasicAuth {
    /// The contents of the users file.
    pub users: Arc<Users>,
}

/// The admin listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// The address to bind; never a listener's.
    pub address: SocketAddr,
    /// Networks of clients that may see more than the health paths; empty: no client.
    pub networks: Vec<IpNet>,
    /// Host names under which the status page may be requested, in addition to those that nobody else can have.
    pub hosts: Vec<Name>,
    /// The peers whose PROXY header is read if they send one.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// What inspected tunnels show to clients.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The authority, and the leaves that it has signed.
    pub minter: Arc<Minter>,
}

impl Inspection {
    /// Takes over the leaves of `old` where the authority is the same.
    pub fn keep(&mut self, old: &Inspection) {
        if self.minter.is_like(&old.minter) {
            self.minter = Arc::clone(&old.minter);
        }
    }
}

/// How names are looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dns {
    /// Empty: the servers in /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// Used before any query; every name has an address.
    pub hosts: BTreeMap<Name, Vec<IpAddr>>,
    /// The time for the whole lookup.
    pub timeout: Duration,
}

/// Deadlines of tunnels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// The time to connect, over all addresses.
    pub connect_timeout: Duration,
    /// The time from the 200 to a complete ClientHello.
    pub client_hello_timeout: Duration,
    /// The time without a byte in either direction.
    pub idle_timeout: Duration,
    /// The time from the 200; None: no limit.
    pub max_lifetime: Option<Duration>,
    /// TCP_USER_TIMEOUT (RFC 5482) of both sides; None: only the kernel's retransmissions.
    pub tcp_user_timeout: Option<Duration>,
}

/// How much clients may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Open tunnels and exchanges; at least 1.
    pub tunnels: usize,
    /// The same for one client address; at least 1.
    pub tunnels_per_client: usize,
    /// At least 1.
    pub requests_per_second_per_client: u32,
    /// The largest request head, from 1 KiB to 1 MiB.
    pub head_bytes: usize,
    /// The time for a complete head.
    pub head_timeout: Duration,
    /// Bytes held for peers; None: a part of what the system gives. At least 1 MiB.
    pub memory: Option<u64>,
    /// IPv6 addresses that have so many bits in common are one client; 32 to 128.
    pub ipv6_prefix: u8,
    /// Accounts of upload budgets, each of one client and one rule; at least 1.
    pub budget_accounts: usize,
}

impl Limits {
    /// The address that stands for a client wherever clients are counted: its own, the first of its network, or one for each user
    /// of this machine.
    pub fn client(&self, client: ClientAddr) -> IpAddr {
        if let Some(user) = client.of_user() {
            return user;
        }
        match client.ip() {
            address @ IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                let host = u32::from(128 - self.ipv6_prefix.min(128));
                Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(host).unwrap_or(0)).into()
            }
        }
    }
}

/// Plain HTTP only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// Removed from every request; never a header that frames the message.
    pub remove_request_headers: Vec<http::HeaderName>,
    /// The time between two requests on one connection of a client; at least one second.
    pub keepalive_timeout: Duration,
    /// The time from the end of the request to the head of the response.
    pub response_timeout: Duration,
    /// The time without a byte of a body.
    pub stall_timeout: Duration,
}

/// The record of every request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessLog {
    /// Where records go.
    pub output: LogOutput,
    /// Their form.
    pub format: LogFormat,
    /// What happens to new requests while records cannot be written.
    pub on_failure: OnLogFailure,
    /// How it is sealed, if it is.
    pub seal: Option<Seal>,
    /// A copy for an OTLP receiver; None: no copy.
    pub otlp: Option<Otlp>,
}

/// How the access log is sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seal {
    /// The key that signs.
    pub key: Arc<SealKey>,
    /// The longest time that a record is without a seal.
    pub every: Duration,
}

/// Where records go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogOutput {
    /// Standard output.
    Stdout,
    /// A file that is appended to, and reopened on SIGHUP.
    File(PathBuf),
}

/// The form of records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// The same in the words of the Elastic Common Schema.
    Ecs,
    /// The same in the words of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// Squid's native format.
    Squid,
    /// A Squid `logformat` with `%` codes.
    Custom(Arc<Logformat>),
}

impl LogFormat {
    /// Whether it has a line for each event. Squid's formats have closing lines alone.
    pub fn has_every_event(&self) -> bool {
        match self {
            LogFormat::Json | LogFormat::Ecs | LogFormat::Ocsf => true,
            LogFormat::Squid | LogFormat::Custom(_) => false,
        }
    }
}

/// Whether records or traffic are more important.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnLogFailure {
    /// New requests are refused.
    Deny,
    /// Traffic continues without records.
    Continue,
}

/// Diagnostics on stderr.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Log {
    /// How much is logged.
    pub level: LogLevel,
    /// Its form.
    pub format: DiagnosticsFormat,
}

/// How much is logged; each level includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What looks wrong.
    Warn,
    /// What an operator wants to know.
    Info,
    /// Each step.
    Debug,
    /// Each detail.
    Trace,
}

/// The form of diagnostics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiagnosticsFormat {
    /// For people.
    Text,
    /// For log routers.
    Json,
}

/// What egressd does on SIGTERM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shutdown {
    /// How long egressd keeps accepting.
    pub delay: Duration,
    /// How long open tunnels may continue after that.
    pub grace_period: Duration,
}
