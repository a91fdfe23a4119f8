//! The configuration file as it is typed: every key there is, and nothing of what it means.
//!
//! From these types come both the reader and the JSON Schema, so the two cannot differ; the doc comments are the
//! schema's descriptions. Everything is optional here: which keys are required, which values fit and what stands in for
//! what is left out is `meaning`'s.

use schemars::JsonSchema;
use serde::Deserialize;

use super::keys::{Key, List};
use super::options::{FullAllowFile, FullRuleFile};
use super::typed::At;
use super::values::{
    FilePath, Header, HostName, Hosts, Identity, Label, Length, Line, Network, Parent, Server, Size, Socket,
    VpcEndpoint,
};

/// Configuration of egressd, a forward proxy that lets out only what is listed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(title = "egressd configuration", deny_unknown_fields)]
pub(super) struct ConfigFile {
    /// Where clients connect. Left out: one on 0.0.0.0:3128.
    pub(super) listeners: List<ListenerFile>,
    /// Metrics, health and the status page.
    pub(super) admin: Key<AdminFile>,
    /// Who may reach what. The first policy whose `clients` fit decides; where none fits, the request is denied.
    pub(super) policies: List<PolicyFile>,
    /// How names are looked up.
    pub(super) dns: Key<DnsFile>,
    /// A parent proxy through which every connection is opened. Left out: direct.
    pub(super) upstream_proxy: Key<UpstreamProxyFile>,
    /// Which authorities vouch for targets and for an https parent.
    pub(super) certificates: Key<CertificatesFile>,
    /// Deadlines of tunnels.
    pub(super) tunnel: Key<TunnelFile>,
    /// What clients may use up.
    pub(super) limits: Key<LimitsFile>,
    /// Plain HTTP only.
    pub(super) http: Key<HttpFile>,
    /// The record of every request.
    pub(super) access_log: Key<AccessLogFile>,
    /// Diagnostics on stderr.
    pub(super) log: Key<LogFile>,
    /// What happens on TERM.
    pub(super) shutdown: Key<ShutdownFile>,
}

/// A port on which clients connect.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Listener", deny_unknown_fields)]
pub(super) struct ListenerFile {
    /// In logs and metrics. Left out: the address.
    pub(super) name: Key<Label>,
    /// IP address and port.
    #[schemars(required)]
    pub(super) address: Key<Socket>,
    /// The PROXY protocol, v1 or v2. Left out: not spoken.
    pub(super) proxy_protocol: Key<ProxyProtocolFile>,
    /// TLS between client and proxy. Left out: cleartext.
    pub(super) tls: Key<TlsFile>,
    /// Passwords. Left out: none are asked for.
    pub(super) basic_auth: Key<BasicAuthFile>,
}

/// Who may bring a PROXY header.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ProxyProtocol", deny_unknown_fields)]
pub(super) struct ProxyProtocolFile {
    /// From these networks a header is required; connections from elsewhere are closed.
    #[schemars(required)]
    pub(super) trusted: List<Network>,
}

/// TLS between client and proxy.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Tls", deny_unknown_fields)]
pub(super) struct TlsFile {
    /// PEM file: the certificate and its chain.
    #[schemars(required)]
    pub(super) certificate: Key<FilePath>,
    /// PEM file: the private key.
    #[schemars(required)]
    pub(super) key: Key<FilePath>,
    /// PEM file: authorities of client certificates. With it a client certificate is required.
    pub(super) client_ca: Key<FilePath>,
    /// PEM file: revoked client certificates.
    pub(super) client_crl: Key<FilePath>,
    /// Left out: 10s.
    pub(super) handshake_timeout: Key<Length>,
}

/// Passwords of clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "BasicAuth", deny_unknown_fields)]
pub(super) struct BasicAuthFile {
    /// htpasswd file with bcrypt or argon2 hashes.
    #[schemars(required)]
    pub(super) users_file: Key<FilePath>,
}

/// The admin listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Admin", deny_unknown_fields)]
pub(super) struct AdminFile {
    /// Left out: 0.0.0.0:9180.
    pub(super) address: Key<Socket>,
    /// Who may see more than /livez, /readyz and /healthz. Left out: loopback, RFC 1918, 100.64.0.0/10, fc00::/7.
    pub(super) networks: List<Network>,
    /// Names under which the status page may be asked for, beside addresses, localhost and names without a dot or of a
    /// cluster: any other name could be a stranger's that was made to lead here.
    pub(super) hosts: List<HostName>,
    /// From these a PROXY header is read where it comes; it is not required.
    pub(super) proxy_protocol: Key<ProxyProtocolFile>,
}

/// One policy.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Policy", deny_unknown_fields)]
pub(super) struct PolicyFile {
    /// In logs and metrics; unique.
    #[schemars(required)]
    pub(super) name: Key<Label>,
    /// Whose requests this policy decides: all kinds that are given must fit.
    pub(super) clients: Key<ClientsFile>,
    /// Left out: enforce.
    pub(super) mode: Key<ModeFile>,
    /// Non-public networks that every rule of the policy may reach.
    pub(super) private: List<Network>,
    /// What may be reached: rules `[scheme://]host[:port]`.
    pub(super) allow: List<AllowFile>,
    /// Files of rules, one a line. Squid's dstdomain files work as they are.
    pub(super) allow_files: List<AllowFilesFile>,
    /// Wins over allow. What a rule leaves out here means any scheme and any port.
    pub(super) deny: List<Line>,
}

/// Who asks.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Clients", deny_unknown_fields)]
pub(super) struct ClientsFile {
    /// Left out: loopback, RFC 1918, 100.64.0.0/10, fc00::/7.
    pub(super) networks: List<Network>,
    /// spiffe://…, dns:… and cn:… of a client certificate, user:… of a password. Left out: not asked.
    pub(super) identities: List<Identity>,
    /// The AWS TLV of PROXY protocol v2. Left out: not asked.
    pub(super) vpc_endpoints: List<VpcEndpoint>,
}

/// Whether a policy's denials hold.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Mode")]
pub(super) enum ModeFile {
    /// What is not allowed is denied.
    Enforce,
    /// What is not allowed passes, and is logged and counted as would_deny.
    Report,
}

/// A rule alone, or a rule with options.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "@text_or_map")]
#[schemars(rename = "Allow", untagged)]
pub(super) enum AllowFile {
    /// `[scheme://]host[:port]`.
    Rule(At<Line>),
    /// The rule stands under `to`.
    Full(Box<FullRuleFile>),
}

/// A file alone, or a file with options.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "@text_or_map")]
#[schemars(rename = "AllowFiles", untagged)]
pub(super) enum AllowFilesFile {
    /// The file.
    File(At<FilePath>),
    /// The file stands under `file`.
    Full(Box<FullAllowFile>),
}

/// How names are looked up.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Dns", deny_unknown_fields)]
pub(super) struct DnsFile {
    /// Address, or address:port. Left out: those of /etc/resolv.conf.
    pub(super) servers: List<Server>,
    /// Names with their addresses, before any query. /etc/hosts is read too.
    pub(super) hosts: Key<Hosts>,
    /// For the whole lookup. Left out: 5s.
    pub(super) timeout: Key<Length>,
}

/// A parent proxy.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "UpstreamProxy", deny_unknown_fields)]
pub(super) struct UpstreamProxyFile {
    /// http://host:port or https://host:port.
    #[schemars(required)]
    pub(super) url: Key<Parent>,
    /// One line USER:PASSWORD.
    pub(super) credentials_file: Key<FilePath>,
    /// PEM file: who vouches for an https parent. Left out: `certificates.roots`.
    pub(super) ca: Key<FilePath>,
}

/// Which authorities are trusted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Certificates", deny_unknown_fields)]
pub(super) struct CertificatesFile {
    /// `system`, or a PEM file. Left out: system.
    pub(super) roots: Key<FilePath>,
}

/// Deadlines of tunnels.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Tunnel", deny_unknown_fields)]
pub(super) struct TunnelFile {
    /// Left out: 10s.
    pub(super) connect_timeout: Key<Length>,
    /// From the 200 to a whole ClientHello. Left out: 10s.
    pub(super) client_hello_timeout: Key<Length>,
    /// Without a byte in either direction. Left out: 1h.
    pub(super) idle_timeout: Key<Length>,
    /// Left out: none.
    pub(super) max_lifetime: Key<Length>,
    /// Bytes that a peer does not acknowledge, or does not take: then it is given up. Left out: what the kernel does.
    pub(super) tcp_user_timeout: Key<Length>,
}

/// What clients may use up.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Limits", deny_unknown_fields)]
pub(super) struct LimitsFile {
    /// Left out: 10000. Lowered to what the descriptors carry.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) tunnels: Key<u64>,
    /// Left out: 1000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) tunnels_per_client: Key<u64>,
    /// Left out: 200.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) requests_per_second_per_client: Key<u64>,
    /// Left out: 16KiB.
    pub(super) head_bytes: Key<Size>,
    /// Left out: 10s.
    pub(super) head_timeout: Key<Length>,
}

/// Plain HTTP only.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Http", deny_unknown_fields)]
pub(super) struct HttpFile {
    /// Left out: User-Agent and Referer.
    pub(super) remove_request_headers: List<Header>,
    /// From the request's end to the response's head. Left out: 60s.
    pub(super) response_timeout: Key<Length>,
    /// Without a byte of a body. Left out: 60s.
    pub(super) stall_timeout: Key<Length>,
}

/// The record of every request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "AccessLog", deny_unknown_fields)]
pub(super) struct AccessLogFile {
    /// `stdout`, or a file. Left out: stdout.
    pub(super) output: Key<FilePath>,
    /// `json`, `squid`, or a Squid logformat. Left out: json.
    pub(super) format: Key<Line>,
    /// What happens to new requests while the log cannot be written. Left out: deny.
    pub(super) on_failure: Key<OnFailureFile>,
}

/// Records or traffic first.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "OnFailure")]
pub(super) enum OnFailureFile {
    /// New requests are refused until records can be written again.
    Deny,
    /// Traffic goes on without records.
    Continue,
}

/// Diagnostics on stderr.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Log", deny_unknown_fields)]
pub(super) struct LogFile {
    /// Left out: info.
    pub(super) level: Key<LevelFile>,
    /// Left out: text.
    pub(super) format: Key<FormatFile>,
}

/// How much is told.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Level")]
pub(super) enum LevelFile {
    /// What failed.
    Error,
    /// And what looks wrong.
    Warn,
    /// And what a person wants to know: starts, reloads.
    Info,
    /// And each step.
    Debug,
    /// And each detail.
    Trace,
}

/// How diagnostics look.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Format")]
pub(super) enum FormatFile {
    /// For people.
    Text,
    /// For log routers.
    Json,
}

/// What happens on TERM.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Shutdown", deny_unknown_fields)]
pub(super) struct ShutdownFile {
    /// Go on accepting for so long: a load balancer still sends. Left out: 0s.
    pub(super) delay: Key<Length>,
    /// Then wait for open tunnels for so long. Left out: 60s.
    pub(super) grace_period: Key<Length>,
}
