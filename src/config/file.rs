//! The configuration file as it is typed: every key that exists, and nothing about its meaning.
//!
//! The reader and the JSON Schema are both made from these types, so they cannot differ. The doc comments are the
//! schema's descriptions. Every key is optional here. Not here: which keys are required, which values are valid and
//! what the defaults are ([`super::build`]).

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use super::keys::{Key, List};
use super::options::{FullAllowFile, FullRuleFile, FullSetFile};
use super::typed::At;
use super::values::{
    Collector, FileMode, FilePath, Header, HostName, HostOrNetwork, Hosts, Identity, Label, Length, Line,
    ListenAt, Network, Parent, Server, Size, Socket, Store, VpcEndpoint,
};

/// Configuration of egressd, a forward proxy that allows only the listed targets.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(title = "egressd configuration", deny_unknown_fields))]
pub(super) struct ConfigFile {
    /// Where clients connect. Left out: one on 0.0.0.0:3128.
    pub(super) listeners: List<ListenerFile>,
    /// Metrics, health and the status page.
    pub(super) admin: Key<AdminFile>,
    /// Which clients may reach which targets. The first policy whose `clients` match decides; if none matches, the
    /// request is denied.
    pub(super) policies: List<PolicyFile>,
    /// Files of further policies, by patterns such as `policies.d/*.yaml`, relative to this file. Each has `policies` and
    /// nothing else.
    pub(super) include: List<FilePath>,
    /// How names are looked up.
    pub(super) dns: Key<DnsFile>,
    /// A parent proxy for all connections. Left out: egressd connects directly.
    pub(super) upstream_proxy: Key<UpstreamProxyFile>,
    /// The certificate authorities that are trusted for targets and for an https parent.
    pub(super) certificates: Key<CertificatesFile>,
    /// The authority that signs what clients of inspected tunnels see; they must trust it. It opens nothing by itself.
    /// Left out: no rule can inspect.
    pub(super) inspection: Key<InspectionFile>,
    /// A Redis or Valkey in which all replicas count upload budgets together. Left out: each counts by itself.
    pub(super) shared_state: Key<SharedStateFile>,
    /// Deadlines of tunnels.
    pub(super) tunnel: Key<TunnelFile>,
    /// How much clients may use.
    pub(super) limits: Key<LimitsFile>,
    /// Plain HTTP only.
    pub(super) http: Key<HttpFile>,
    /// The record of every request.
    pub(super) access_log: Key<AccessLogFile>,
    /// Diagnostics on stderr.
    pub(super) log: Key<LogFile>,
    /// What egressd does on SIGTERM.
    pub(super) shutdown: Key<ShutdownFile>,
}

/// A file of policies that a configuration includes.
#[derive(Debug, Default, Deserialize)]
pub(super) struct IncludedFile {
    pub(super) policies: List<PolicyFile>,
}

/// A port on which clients connect.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Listener", deny_unknown_fields))]
pub(super) struct ListenerFile {
    /// The name in logs and metrics. Left out: the address.
    pub(super) name: Key<Label>,
    /// IP address and port, or `unix:` and the absolute path of a socket.
    #[cfg_attr(test, schemars(required))]
    pub(super) address: Key<ListenAt>,
    /// Of a unix socket: who may write to it may connect. Left out: 0660.
    pub(super) permissions: Key<FileMode>,
    /// What its clients may speak, told apart by the first byte. Left out: http.
    pub(super) protocols: List<ProtocolFile>,
    /// Whether its clients know of the proxy. Left out: proxy.
    pub(super) mode: Key<ListenerModeFile>,
    /// The PROXY protocol, v1 or v2. Left out: not used.
    pub(super) proxy_protocol: Key<ProxyProtocolFile>,
    /// TLS between client and proxy. Left out: cleartext.
    pub(super) tls: Key<TlsFile>,
    /// Passwords. Left out: egressd asks for none.
    pub(super) basic_auth: Key<BasicAuthFile>,
}

/// What a client speaks to egressd.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "Protocol"))]
pub(super) enum ProtocolFile {
    /// HTTP/1: CONNECT and plain requests.
    Http,
    /// SOCKS5: CONNECT alone.
    Socks5,
}

/// Whether clients know of the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "ListenerMode"))]
pub(super) enum ListenerModeFile {
    /// They name it in their settings.
    Proxy,
    /// Their connections were redirected here, or DNS led them here.
    Transparent,
}

/// Which peers may send a PROXY header.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "ProxyProtocol", deny_unknown_fields))]
pub(super) struct ProxyProtocolFile {
    /// Peers in these networks must send a PROXY header; connections from other peers are closed.
    #[cfg_attr(test, schemars(required))]
    pub(super) trusted: List<Network>,
}

/// TLS between client and proxy.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Tls", deny_unknown_fields))]
pub(super) struct TlsFile {
    /// PEM file: the certificate and its chain.
    #[cfg_attr(test, schemars(required))]
    pub(super) certificate: Key<FilePath>,
    /// PEM file: the private key.
    #[cfg_attr(test, schemars(required))]
    pub(super) key: Key<FilePath>,
    /// PEM file: CA certificates for client certificates. If set, every client must present a certificate.
    pub(super) client_ca: Key<FilePath>,
    /// PEM file: revoked client certificates.
    pub(super) client_crl: Key<FilePath>,
    /// Left out: 10s.
    pub(super) handshake_timeout: Key<Length>,
}

/// Passwords of clients.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "BasicAuth", deny_unknown_fields))]
pub(super) struct BasicAuthFile {
    /// htpasswd file with bcrypt or argon2 hashes.
    #[cfg_attr(test, schemars(required))]
    pub(super) users_file: Key<FilePath>,
}

/// The admin listener.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Admin", deny_unknown_fields))]
pub(super) struct AdminFile {
    /// Left out: 0.0.0.0:9180.
    pub(super) address: Key<Socket>,
    /// Networks of clients that may see more than /livez, /readyz and /healthz. Left out: loopback, RFC 1918,
    /// 100.64.0.0/10, fc00::/7.
    pub(super) networks: List<Network>,
    /// Host names under which the status page may be requested, in addition to addresses, localhost, names without a
    /// dot and names of a cluster. Other names are refused: an attacker could make one resolve to this address.
    pub(super) hosts: List<HostName>,
    /// A PROXY header from these peers is read if they send one; it is not required.
    pub(super) proxy_protocol: Key<ProxyProtocolFile>,
}

/// One policy.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Policy", deny_unknown_fields))]
pub(super) struct PolicyFile {
    /// The name in logs and metrics; unique.
    #[cfg_attr(test, schemars(required))]
    pub(super) name: Key<Label>,
    /// The clients whose requests this policy decides. Every kind that is set must match.
    pub(super) clients: Key<ClientsFile>,
    /// Left out: enforce.
    pub(super) mode: Key<ModeFile>,
    /// Non-public networks that every rule of the policy may reach.
    pub(super) private: List<Network>,
    /// A CONNECT to an address that no rule names is judged by the name in its ClientHello, which egressd then looks up itself. Left out:
    /// false.
    pub(super) addresses_by_sni: Key<bool>,
    /// The allowed targets, as rules `[scheme://]host[:port]`.
    pub(super) allow: List<AllowFile>,
    /// Files with one rule per line. Squid's dstdomain files work without changes.
    pub(super) allow_files: List<AllowFilesFile>,
    /// Denied targets; `deny` wins over `allow`. A rule without a scheme means any scheme here, and a rule without a
    /// port any port.
    pub(super) deny: List<Line>,
    /// Files with one rule per line that deny, as under `deny`.
    pub(super) deny_files: List<FilePath>,
}

/// Which clients a policy is for.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Clients", deny_unknown_fields))]
pub(super) struct ClientsFile {
    /// Left out, without `networks_files` too: loopback, RFC 1918, 100.64.0.0/10, fc00::/7.
    pub(super) networks: List<Network>,
    /// Files with one network or address per line, comments after `#`, in addition to `networks`.
    pub(super) networks_files: List<FilePath>,
    /// spiffe://…, dns:… and cn:… of a client certificate, user:… of a password. Left out: any or none.
    pub(super) identities: List<Identity>,
    /// VPC endpoints from the AWS TLV of PROXY protocol v2. Left out: any or none.
    pub(super) vpc_endpoints: List<VpcEndpoint>,
    /// Names of listeners; one without a name has its address for a name. Left out: any.
    pub(super) listeners: List<Label>,
}

/// Whether a policy's denials are enforced.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "Mode"))]
pub(super) enum ModeFile {
    /// Requests that are not allowed are denied.
    Enforce,
    /// Requests that are not allowed pass, and are logged and counted as would_deny.
    Report,
}

/// A rule alone, a rule with options, or a rule set.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename = "@text_or_map")]
#[cfg_attr(test, schemars(rename = "Allow", untagged))]
pub(super) enum AllowFile {
    /// `[scheme://]host[:port]`.
    Rule(At<Line>),
    /// A rule with options; the rule itself is under `to`.
    Full(Box<FullRuleFile>),
    /// A rule set that is shipped, by its version.
    Set(Box<FullSetFile>),
}

/// A file alone, or a file with options.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename = "@text_or_map")]
#[cfg_attr(test, schemars(rename = "AllowFiles", untagged))]
pub(super) enum AllowFilesFile {
    /// The file.
    File(At<FilePath>),
    /// A file with options; the file itself is under `file`.
    Full(Box<FullAllowFile>),
}

/// How names are looked up.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Dns", deny_unknown_fields))]
pub(super) struct DnsFile {
    /// Address, or address:port. Left out: the servers in /etc/resolv.conf.
    pub(super) servers: List<Server>,
    /// Names with their addresses, used before any query. /etc/hosts is used too.
    pub(super) hosts: Key<Hosts>,
    /// Time for the whole lookup. Left out: 5s.
    pub(super) timeout: Key<Length>,
}

/// A parent proxy.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "UpstreamProxy", deny_unknown_fields))]
pub(super) struct UpstreamProxyFile {
    /// http://host:port or https://host:port.
    #[cfg_attr(test, schemars(required))]
    pub(super) url: Key<Parent>,
    /// File with one line USER:PASSWORD.
    pub(super) credentials_file: Key<FilePath>,
    /// PEM file: CA bundle that verifies an https parent. Left out: `certificates.roots`.
    pub(super) ca: Key<FilePath>,
    /// Targets that egressd connects to directly: hosts as in a rule, and networks. Left out: none.
    pub(super) except: List<HostOrNetwork>,
}

/// Which certificate authorities are trusted.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Certificates", deny_unknown_fields))]
pub(super) struct CertificatesFile {
    /// `system`, or a PEM file. Left out: system.
    pub(super) roots: Key<FilePath>,
}

/// The authority that signs what clients of inspected tunnels see.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Inspection", deny_unknown_fields))]
pub(super) struct InspectionFile {
    /// PEM file: the certificate that signs, then what is to be sent with it. `egressd ca new` makes one.
    #[cfg_attr(test, schemars(required))]
    pub(super) certificate: Key<FilePath>,
    /// PEM file: its private key.
    #[cfg_attr(test, schemars(required))]
    pub(super) key: Key<FilePath>,
    /// How long a certificate for one name is valid, from 1h to 7d. Left out: 24h.
    pub(super) leaf_lifetime: Key<Length>,
}

/// Deadlines of tunnels.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Tunnel", deny_unknown_fields))]
pub(super) struct TunnelFile {
    /// Left out: 10s.
    pub(super) connect_timeout: Key<Length>,
    /// Time from the 200 to a complete ClientHello. Left out: 10s.
    pub(super) client_hello_timeout: Key<Length>,
    /// Time without a byte in either direction. Left out: 1h.
    pub(super) idle_timeout: Key<Length>,
    /// Left out: none.
    pub(super) max_lifetime: Key<Length>,
    /// How long a peer may leave bytes unacknowledged, or not accept them, before the connection is closed. Left out:
    /// the kernel's default.
    pub(super) tcp_user_timeout: Key<Length>,
}

/// How much clients may use.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Limits", deny_unknown_fields))]
pub(super) struct LimitsFile {
    /// Open tunnels and exchanges of all clients. Left out: 10000. Lowered if the open-file limit is too low.
    #[cfg_attr(test, schemars(range(min = 1, max = 10_000_000)))]
    pub(super) tunnels: Key<u64>,
    /// Left out: 1000.
    #[cfg_attr(test, schemars(range(min = 1, max = 10_000_000)))]
    pub(super) tunnels_per_client: Key<u64>,
    /// Left out: 200.
    #[cfg_attr(test, schemars(range(min = 1, max = 1_000_000)))]
    pub(super) requests_per_second_per_client: Key<u64>,
    /// Left out: 16KiB.
    pub(super) head_bytes: Key<Size>,
    /// Left out: 10s.
    pub(super) head_timeout: Key<Length>,
    /// Bytes held for clients and targets, the kernel's socket buffers included. Left out: 6/10 of what the cgroup's limit (or
    /// the machine's memory) leaves beside twice the loaded configuration.
    pub(super) memory: Key<Size>,
    /// Addresses with this IPv6 prefix are one client. Left out: 128. 64 where a host may choose its address.
    #[cfg_attr(test, schemars(range(min = 32, max = 128)))]
    pub(super) ipv6_prefix: Key<u64>,
    /// Accounts of `upload_budget`, each of one client and one rule. Left out: 32768.
    #[cfg_attr(test, schemars(range(min = 1, max = 10_000_000)))]
    pub(super) budget_accounts: Key<u64>,
}

/// A store in which all replicas count upload budgets together.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "SharedState", deny_unknown_fields))]
pub(super) struct SharedStateFile {
    /// `redis://HOST:PORT/DATABASE`, `redis+cluster://HOST:PORT,HOST:PORT` or `redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DATABASE`;
    /// with TLS `rediss` in place of `redis`.
    #[cfg_attr(test, schemars(required))]
    pub(super) url: Key<Store>,
    /// File with one line `USER:PASSWORD`; for a password alone the user is `default`.
    pub(super) credentials_file: Key<FilePath>,
    /// PEM file: the CA certificates that verify the store. Left out: `certificates.roots`.
    pub(super) ca: Key<FilePath>,
    /// What becomes of uploads with a budget while the store does not answer. Left out: deny.
    pub(super) on_failure: Key<OnStoreFailureFile>,
    /// How many replicas share the store: with `on_failure: local` each has its part of every budget.
    #[cfg_attr(test, schemars(range(min = 1, max = 10_000)))]
    pub(super) replicas: Key<u64>,
}

/// What becomes of uploads with a budget while the store does not answer.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "OnStoreFailure"))]
pub(super) enum OnStoreFailureFile {
    /// They are refused once what was leased is used up.
    Deny,
    /// They go on, within the replica's part of the budget.
    Local,
}

/// Plain HTTP only.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Http", deny_unknown_fields))]
pub(super) struct HttpFile {
    /// Headers that are removed from every request. Left out: User-Agent and Referer.
    pub(super) remove_request_headers: List<Header>,
    /// Time from the end of the request to the head of the response. Left out: 60s.
    pub(super) response_timeout: Key<Length>,
    /// Time between two requests on one connection of a client. Left out: 60s.
    pub(super) keepalive_timeout: Key<Length>,
    /// Time without a byte of a body. Left out: 60s.
    pub(super) stall_timeout: Key<Length>,
}

/// The record of every request.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "AccessLog", deny_unknown_fields))]
pub(super) struct AccessLogFile {
    /// `stdout`, or a file. Left out: stdout.
    pub(super) output: Key<FilePath>,
    /// `json`, `ecs`, `ocsf`, `squid`, or a Squid logformat. Left out: json.
    pub(super) format: Key<Line>,
    /// What happens to new requests while the log cannot be written. Left out: deny.
    pub(super) on_failure: Key<OnFailureFile>,
    /// Gives each record a place in a signed chain, which `egressd verify` checks. Formats json alone. Left out: the log is
    /// not sealed.
    pub(super) seal: Key<SealFile>,
    /// A copy of the records for an OpenTelemetry collector. Left out: none.
    pub(super) otlp: Key<OtlpFile>,
}

/// How the access log is sealed.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Seal", deny_unknown_fields))]
pub(super) struct SealFile {
    /// The private key, in a PEM file: `egressd seal new` makes it.
    #[cfg_attr(test, schemars(required))]
    pub(super) key: Key<FilePath>,
    /// How long a record may wait for its seal. Left out: 10s.
    pub(super) every: Key<Length>,
}

/// A copy of the records for an OpenTelemetry collector.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Otlp", deny_unknown_fields))]
pub(super) struct OtlpFile {
    /// http://host:port or https://host:port; `/v1/logs` is appended. Left out: as OTEL_EXPORTER_OTLP_ENDPOINT says.
    pub(super) endpoint: Key<Collector>,
    /// File with one header a line, `Name: value`.
    pub(super) headers_file: Key<FilePath>,
}

/// Whether records or traffic are more important.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "OnFailure"))]
pub(super) enum OnFailureFile {
    /// New requests are refused until records can be written again.
    Deny,
    /// Traffic continues without records.
    Continue,
}

/// Diagnostics on stderr.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Log", deny_unknown_fields))]
pub(super) struct LogFile {
    /// Left out: info.
    pub(super) level: Key<LevelFile>,
    /// Left out: text.
    pub(super) format: Key<FormatFile>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "Level"))]
pub(super) enum LevelFile {
    /// Failures.
    Error,
    /// Also what looks wrong.
    Warn,
    /// Also what an operator wants to know: starts, reloads.
    Info,
    /// Also each step.
    Debug,
    /// Also each detail.
    Trace,
}

/// The form of diagnostics.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, schemars(rename = "Format"))]
pub(super) enum FormatFile {
    /// For people.
    Text,
    /// For log routers.
    Json,
}

/// What egressd does on SIGTERM.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Shutdown", deny_unknown_fields))]
pub(super) struct ShutdownFile {
    /// How long to keep accepting, while a load balancer still sends connections. Left out: 0s.
    pub(super) delay: Key<Length>,
    /// How long to wait for open tunnels after that. Left out: 60s.
    pub(super) grace_period: Key<Length>,
}
