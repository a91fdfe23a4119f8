//! How a request or a tunnel ended: the only list of reasons and endings.
//!
//! The same word is in the reply, the log, the metric, `explain` and the status page. So it is defined once, here,
//! together with what every module needs to know about it. Not here: how a reason looks on the wire
//! ([`crate::session::refuse::reply`]).

use std::fmt;

/// Declares an enum together with the word of each variant, so that a variant without a word cannot exist.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every variant, in the order of their declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word in reply, log and metric.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Why a request was refused, before or after the `200`.
    Reason {
        /// The head is not a well-formed HTTP/1 request, or its framing is ambiguous.
        BadRequest = "bad_request",
        /// The target is not a canonical host and port.
        BadTarget = "bad_target",
        /// No policy's `clients` match the client.
        ClientNotAllowed = "client_not_allowed",
        /// No rule matches the host.
        HostNotAllowed = "host_not_allowed",
        /// A `deny` rule matched.
        HostDenied = "host_denied",
        /// A rule matches the host, but not this port.
        PortNotAllowed = "port_not_allowed",
        /// A rule matches the host and the port, but not this method.
        SchemeNotAllowed = "scheme_not_allowed",
        /// Only rules that have expired would have allowed it.
        RuleExpired = "rule_expired",
        /// A rule allows the connection, and none of its `requests` fits this request on it.
        RequestNotAllowed = "request_not_allowed",
        /// None of them allows what is asked of a Git repository.
        GitNotAllowed = "git_not_allowed",
        /// None of them allows a push to change a ref, or to change it so.
        RefNotAllowed = "ref_not_allowed",
        /// None of them allows the account whose credentials the request carries, or it carries none that tell.
        AccountNotAllowed = "account_not_allowed",
        /// The request wants to upgrade its connection, and the rule does not allow that.
        UpgradeNotAllowed = "upgrade_not_allowed",
        /// Inside a tunnel: `Host` or the URI names another host or port than the CONNECT.
        HostMismatch = "host_mismatch",
        /// The rule's `upload_budget` is used up for this client.
        UploadBudget = "upload_budget",
        /// A plain request larger than the rule's `upload_limit`; a tunnel ends with the ending of that name.
        UploadLimit = "upload_limit",
        /// The name resolves only to addresses that are not public and not opened by `private`.
        AddressProhibited = "address_prohibited",
        /// A method that the proxy does not serve.
        MethodNotAllowed = "method_not_allowed",
        /// The head did not arrive in time.
        HeadTimeout = "head_timeout",
        /// The head is larger than `limits.head_bytes`, or has too many fields.
        HeadTooLarge = "head_too_large",
        /// Credentials are required and were not sent.
        AuthRequired = "auth_required",
        /// Credentials were sent and are wrong.
        AuthFailed = "auth_failed",
        /// `limits.tunnels_per_client`.
        ClientLimitReached = "client_limit_reached",
        /// `limits.requests_per_second_per_client`.
        ClientRateLimited = "client_rate_limited",
        /// A fault of egressd itself.
        InternalError = "internal_error",
        /// DNS says that there is no such name.
        DnsNoSuchName = "dns_no_such_name",
        /// The name exists and has no address.
        DnsNoAddress = "dns_no_address",
        /// DNS failed in another way.
        DnsFailed = "dns_failed",
        /// The target refused the connection.
        ConnectRefused = "connect_refused",
        /// No route to the target.
        ConnectUnreachable = "connect_unreachable",
        /// The target did not speak HTTP.
        UpstreamBadResponse = "upstream_bad_response",
        /// The target refused the credentials that the rule sends in place of the client's.
        UpstreamCredentialsRefused = "upstream_credentials_refused",
        /// The parent proxy refused the request.
        UpstreamProxyRefused = "upstream_proxy_refused",
        /// The target is egressd itself.
        Loop = "loop",
        /// `limits.tunnels`, or `limits.memory`.
        LimitReached = "limit_reached",
        /// `limits.budget_accounts`: there is no account on which the uploads of this client could be counted, or its
        /// accounts were merged and are used up.
        BudgetTableFull = "budget_table_full",
        /// Out of descriptors, ports or memory, or of handshakes that prove a certificate.
        LocalResources = "local_resources",
        /// egressd is shutting down.
        Draining = "draining",
        /// The access log cannot be written.
        LogUnavailable = "log_unavailable",
        /// `shared_state`: the upload budget is one of all replicas, its lease is used up, and the store does not answer.
        SharedStateUnavailable = "shared_state_unavailable",
        /// `dns.timeout`.
        DnsTimeout = "dns_timeout",
        /// `tunnel.connect_timeout`.
        ConnectTimeout = "connect_timeout",
        /// `http.response_timeout` or `http.stall_timeout`.
        UpstreamTimeout = "upstream_timeout",
        /// The first byte in the tunnel is not TLS.
        NotTls = "not_tls",
        /// The ClientHello names no host.
        NoSni = "no_sni",
        /// The ClientHello names another host.
        SniMismatch = "sni_mismatch",
        /// No whole ClientHello within `tunnel.client_hello_timeout`.
        ClientHelloTimeout = "client_hello_timeout",
        /// A ClientHello that is not well-formed.
        ClientHelloMalformed = "client_hello_malformed",
        /// A ClientHello with encrypted_client_hello, which the rule refuses.
        EchNotAllowed = "ech_not_allowed",
        /// A ClientHello whose ALPN has no `http/1.1`, in a tunnel that is inspected.
        Http1NotOffered = "http1_not_offered",
        /// The client does not trust the authority that signs the certificates of inspected tunnels.
        InspectionDistrusted = "inspection_distrusted",
        /// The target's certificate is not valid for the host.
        CertificateInvalid = "certificate_invalid",
        /// The target did not answer in TLS.
        UpstreamNotTls = "upstream_not_tls",
        /// A connection from an address outside `proxy_protocol.trusted`.
        PeerNotTrusted = "peer_not_trusted",
        /// No PROXY header, or a malformed one.
        ProxyHeaderInvalid = "proxy_header_invalid",
        /// The TLS handshake with the client failed.
        TlsHandshakeFailed = "tls_handshake_failed",
        /// The client's certificate is not valid.
        ClientCertificateInvalid = "client_certificate_invalid",
    }
}

words! {
    /// How a tunnel that was open ended.
    Ending {
        /// The client sent the first FIN, and both directions ended.
        ClientClosed = "client_closed",
        /// The upstream sent the first FIN, and both directions ended.
        UpstreamClosed = "upstream_closed",
        /// The client reset the connection.
        ClientReset = "client_reset",
        /// The upstream reset the connection.
        UpstreamReset = "upstream_reset",
        /// TCP timed out on the client's side.
        ClientLost = "client_lost",
        /// TCP timed out on the upstream's side.
        UpstreamLost = "upstream_lost",
        /// `tunnel.idle_timeout`.
        IdleTimeout = "idle_timeout",
        /// `tunnel.max_lifetime`.
        MaxLifetime = "max_lifetime",
        /// The rule's `upload_limit` or `upload_budget`.
        UploadLimit = "upload_limit",
        /// The rule's `upload_budget` is shared, its lease is used up, and the store does not answer.
        SharedStateUnavailable = "shared_state_unavailable",
        /// A reload or an expiry no longer allows it.
        PolicyRevoked = "policy_revoked",
        /// The client's certificate was revoked or expired, or its user is gone or has another hash.
        IdentityRevoked = "identity_revoked",
        /// `limits.memory`: memory ran short, and it held most without moving.
        MemoryLimit = "memory_limit",
        /// `shutdown.grace_period` was over.
        Drained = "drained",
        /// A request inside the tunnel was refused, or failed before it was answered; its own record says why.
        Refused = "refused",
        /// A fault of egressd itself.
        InternalError = "internal_error",
    }
}

/// What a [`Reason`] is about.
///
/// Code that treats reasons differently uses the class, in one `match` that names all classes. So a new reason of a
/// known class changes nothing there, and a new class does not compile until each `match` handles it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// The connection, before any request: no client can read a reply.
    Connection,
    /// The form of the request.
    Form,
    /// The client is asked for credentials.
    Challenge,
    /// The credentials are wrong.
    Credentials,
    /// No policy applies to the client.
    Client,
    /// No `allow` rule matches the request.
    NotListed,
    /// The `allow` rules that match have expired.
    Expired,
    /// A `deny` rule matches.
    Denied,
    /// A rule allows the connection, and not this request on it.
    Request,
    /// The client wanted to send more than the rule allows.
    Upload,
    /// The addresses that the name resolves to.
    Address,
    /// No TLS in the tunnel.
    NoTls,
    /// The server name in the ClientHello.
    ServerName,
    /// The form of the ClientHello, or an extension in it.
    Hello,
    /// The client cannot be served by egressd in place of the target: inspection.
    Inspection,
    /// The target does not prove that it is the target.
    Certificate,
    /// The target does not answer in TLS.
    TargetNotTls,
    /// One client sends too many requests.
    Rate,
    /// One client has too many open tunnels and requests.
    ClientLimit,
    /// There are too many open tunnels and requests, or accounts of upload budgets, in total.
    Limit,
    /// DNS.
    Lookup,
    /// The connection to the target.
    Connect,
    /// What the target or the parent proxy answered.
    Upstream,
    /// The system has no more descriptors, ports or memory.
    Resources,
    /// egressd cannot serve: a fault, a shutdown, the log.
    Service,
}

impl Reason {
    /// The class of the reason.
    pub fn class(self) -> Class {
        use Reason::*;
        match self {
            PeerNotTrusted | ProxyHeaderInvalid | TlsHandshakeFailed | ClientCertificateInvalid => {
                Class::Connection
            }
            BadRequest | BadTarget | MethodNotAllowed | HeadTimeout | HeadTooLarge | HostMismatch => {
                Class::Form
            }
            AuthRequired => Class::Challenge,
            AuthFailed => Class::Credentials,
            ClientNotAllowed => Class::Client,
            HostNotAllowed | PortNotAllowed | SchemeNotAllowed => Class::NotListed,
            RuleExpired => Class::Expired,
            HostDenied => Class::Denied,
            RequestNotAllowed | GitNotAllowed | RefNotAllowed | AccountNotAllowed | UpgradeNotAllowed => {
                Class::Request
            }
            UploadBudget | UploadLimit => Class::Upload,
            AddressProhibited => Class::Address,
            NotTls | ClientHelloTimeout => Class::NoTls,
            NoSni | SniMismatch => Class::ServerName,
            ClientHelloMalformed | EchNotAllowed => Class::Hello,
            Http1NotOffered | InspectionDistrusted => Class::Inspection,
            CertificateInvalid => Class::Certificate,
            UpstreamNotTls => Class::TargetNotTls,
            ClientRateLimited => Class::Rate,
            ClientLimitReached => Class::ClientLimit,
            LimitReached | BudgetTableFull => Class::Limit,
            DnsNoSuchName | DnsNoAddress | DnsFailed | DnsTimeout => Class::Lookup,
            ConnectRefused | ConnectUnreachable | ConnectTimeout => Class::Connect,
            UpstreamBadResponse
            | UpstreamCredentialsRefused
            | UpstreamProxyRefused
            | UpstreamTimeout
            | Loop => Class::Upstream,
            LocalResources => Class::Resources,
            InternalError | Draining | LogUnavailable | SharedStateUnavailable => Class::Service,
        }
    }

    /// The reason that this word stands for; `None` if the word is not a reason. This is the only place that compares
    /// the word of a reason.
    pub fn from_word(word: &str) -> Option<Self> {
        Reason::ALL.iter().copied().find(|reason| reason.as_str() == word)
    }

    /// Whether the record is a `deny` (policy, form, identity) or an `error` (429, 5xx).
    pub fn is_denial(self) -> bool {
        match self.class() {
            Class::Connection
            | Class::Form
            | Class::Challenge
            | Class::Credentials
            | Class::Client
            | Class::NotListed
            | Class::Expired
            | Class::Denied
            | Class::Request
            | Class::Upload
            | Class::Address
            | Class::NoTls
            | Class::ServerName
            | Class::Hello
            | Class::Inspection
            | Class::Certificate
            | Class::TargetNotTls => true,
            Class::Rate
            | Class::ClientLimit
            | Class::Limit
            | Class::Lookup
            | Class::Connect
            | Class::Upstream
            | Class::Resources
            | Class::Service => false,
        }
    }

    /// Whether `mode: report` lets it pass: only what the rules and the ClientHello decide.
    pub fn relaxed_by_report(self) -> bool {
        match self.class() {
            Class::NotListed
            | Class::Expired
            | Class::Denied
            | Class::Request
            | Class::NoTls
            | Class::ServerName
            | Class::Hello => true,
            Class::Connection
            | Class::Form
            | Class::Challenge
            | Class::Credentials
            | Class::Client
            | Class::Upload
            | Class::Address
            | Class::Inspection
            | Class::Certificate
            | Class::TargetNotTls
            | Class::Rate
            | Class::ClientLimit
            | Class::Limit
            | Class::Lookup
            | Class::Connect
            | Class::Upstream
            | Class::Resources
            | Class::Service => false,
        }
    }
}

/// The log's `decision`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Allowed by a rule.
    Allow,
    /// Refused.
    Deny,
    /// Allowed only because of `mode: report`.
    WouldDeny,
}

impl Decision {
    /// The word in log, metric and `explain`.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
            Decision::WouldDeny => "would_deny",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_for_one_reason() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.as_str()), Some(*reason));
        }
        for none in ["", "Host_not_allowed", "host_not_allowed ", "client_gone"] {
            assert_eq!(Reason::from_word(none), None, "{none}");
        }
    }

    #[test]
    fn report_mode_relaxes_what_rules_and_hello_decide() {
        let relaxed: Vec<&str> = Reason::ALL
            .iter()
            .filter(|reason| reason.relaxed_by_report())
            .map(|reason| reason.as_str())
            .collect();
        let rules = [
            "host_not_allowed",
            "host_denied",
            "port_not_allowed",
            "scheme_not_allowed",
            "rule_expired",
            "request_not_allowed",
            "git_not_allowed",
            "ref_not_allowed",
            "account_not_allowed",
            "upgrade_not_allowed",
        ];
        let names = ["not_tls", "no_sni", "sni_mismatch", "client_hello_timeout"];
        let forms = ["client_hello_malformed", "ech_not_allowed"];
        assert_eq!(relaxed, [&rules[..], &names, &forms].concat());
    }
}
