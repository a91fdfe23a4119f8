//! How a request or a tunnel ended: the one list of reasons and endings.
//!
//! The same word stands in the reply, the log, the metric, `explain` and the status page, so it is written once,
//! here. What turns a [`Reason`] into bytes on the wire is `reply`.

use std::fmt;

/// Declares an enum together with the word of each variant, so that a variant without a word cannot exist.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every variant, in the order of the specification.
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
        /// The target is no canonical host and port.
        BadTarget = "bad_target",
        /// No policy's `clients` fit the client.
        ClientNotAllowed = "client_not_allowed",
        /// No rule names the host.
        HostNotAllowed = "host_not_allowed",
        /// A `deny` rule matched.
        HostDenied = "host_denied",
        /// A rule names the host, but not this port.
        PortNotAllowed = "port_not_allowed",
        /// A rule names the host and the port, but not this way of asking.
        SchemeNotAllowed = "scheme_not_allowed",
        /// Only rules that have expired would have allowed it.
        RuleExpired = "rule_expired",
        /// The rule's `upload_budget` is used up for this client.
        UploadBudget = "upload_budget",
        /// A plain request larger than the rule's `upload_limit`; a tunnel ends with the ending of that name.
        UploadLimit = "upload_limit",
        /// The name leads only to addresses that are not public and not opened by `private`.
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
        /// DNS failed otherwise.
        DnsFailed = "dns_failed",
        /// The target refused the connection.
        ConnectRefused = "connect_refused",
        /// No route to the target.
        ConnectUnreachable = "connect_unreachable",
        /// The target did not speak HTTP.
        UpstreamBadResponse = "upstream_bad_response",
        /// The parent proxy said no.
        UpstreamProxyRefused = "upstream_proxy_refused",
        /// The target is egressd itself.
        Loop = "loop",
        /// `limits.tunnels`.
        LimitReached = "limit_reached",
        /// Out of descriptors, ports or memory.
        LocalResources = "local_resources",
        /// egressd is shutting down.
        Draining = "draining",
        /// The access log cannot be written.
        LogUnavailable = "log_unavailable",
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
    /// How a tunnel that flowed ended.
    Ending {
        /// The client sent the first FIN, and both directions came to their end.
        ClientClosed = "client_closed",
        /// The upstream sent the first FIN, and both directions came to their end.
        UpstreamClosed = "upstream_closed",
        /// The client reset the connection.
        ClientReset = "client_reset",
        /// The upstream reset the connection.
        UpstreamReset = "upstream_reset",
        /// TCP gave the client up.
        ClientLost = "client_lost",
        /// TCP gave the upstream up.
        UpstreamLost = "upstream_lost",
        /// `tunnel.idle_timeout`.
        IdleTimeout = "idle_timeout",
        /// `tunnel.max_lifetime`.
        MaxLifetime = "max_lifetime",
        /// The rule's `upload_limit`.
        UploadLimit = "upload_limit",
        /// A reload or an expiry no longer allows it.
        PolicyRevoked = "policy_revoked",
        /// `shutdown.grace_period` was over.
        Drained = "drained",
        /// A fault of egressd itself.
        InternalError = "internal_error",
    }
}

/// The kind of a refusal on the wire: what the SPEC's table calls status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// An HTTP reply with this status and this RFC 9209 error type.
    Reply(u16, &'static str),
    /// After the `200`: a fatal TLS alert with this description (RFC 8446 §6), then close.
    Alert(u8),
    /// Closed without a word: there is nobody to read it.
    Closed,
}

/// RFC 8446 §6.2.
const ALERT_DECODE_ERROR: u8 = 50;
const ALERT_ACCESS_DENIED: u8 = 49;
const ALERT_BAD_CERTIFICATE: u8 = 42;
const ALERT_UNRECOGNIZED_NAME: u8 = 112;

impl Reason {
    /// How this reason looks to the client.
    pub fn refusal(self) -> Refusal {
        use Reason::*;
        match self {
            BadRequest | BadTarget => Refusal::Reply(400, "http_request_error"),
            ClientNotAllowed | HostNotAllowed | HostDenied | PortNotAllowed | SchemeNotAllowed
            | RuleExpired | UploadBudget => Refusal::Reply(403, "http_request_denied"),
            AddressProhibited => Refusal::Reply(403, "destination_ip_prohibited"),
            UploadLimit => Refusal::Reply(413, "http_request_denied"),
            MethodNotAllowed => Refusal::Reply(405, "http_request_error"),
            AuthRequired | AuthFailed => Refusal::Reply(407, "http_request_denied"),
            HeadTimeout => Refusal::Reply(408, "http_request_error"),
            ClientLimitReached | ClientRateLimited => Refusal::Reply(429, "connection_limit_reached"),
            HeadTooLarge => Refusal::Reply(431, "http_request_error"),
            InternalError => Refusal::Reply(500, "proxy_internal_error"),
            DnsNoSuchName | DnsNoAddress | DnsFailed => Refusal::Reply(502, "dns_error"),
            ConnectRefused => Refusal::Reply(502, "connection_refused"),
            ConnectUnreachable => Refusal::Reply(502, "destination_ip_unroutable"),
            UpstreamBadResponse | UpstreamProxyRefused => Refusal::Reply(502, "http_protocol_error"),
            Loop => Refusal::Reply(502, "proxy_loop_detected"),
            LimitReached => Refusal::Reply(503, "connection_limit_reached"),
            LocalResources | Draining | LogUnavailable => Refusal::Reply(503, "proxy_internal_error"),
            DnsTimeout => Refusal::Reply(504, "dns_timeout"),
            ConnectTimeout => Refusal::Reply(504, "connection_timeout"),
            UpstreamTimeout => Refusal::Reply(504, "http_response_timeout"),
            NoSni | SniMismatch => Refusal::Alert(ALERT_UNRECOGNIZED_NAME),
            ClientHelloMalformed => Refusal::Alert(ALERT_DECODE_ERROR),
            CertificateInvalid => Refusal::Alert(ALERT_BAD_CERTIFICATE),
            UpstreamNotTls => Refusal::Alert(ALERT_ACCESS_DENIED),
            NotTls | ClientHelloTimeout => Refusal::Closed,
            PeerNotTrusted | ProxyHeaderInvalid | TlsHandshakeFailed | ClientCertificateInvalid => {
                Refusal::Closed
            }
        }
    }

    /// The status of the reply: what the log's `status` says. `None` where the connection is closed before any
    /// HTTP; 200 where the `200` had gone out.
    pub fn status(self) -> Option<u16> {
        match self {
            Reason::NotTls | Reason::ClientHelloTimeout => Some(200),
            _ => match self.refusal() {
                Refusal::Reply(status, _) => Some(status),
                Refusal::Alert(_) => Some(200),
                Refusal::Closed => None,
            },
        }
    }

    /// Whether the record is a `deny` (policy, form, identity) or an `error` (429, 5xx).
    pub fn is_denial(self) -> bool {
        match self.status() {
            Some(429) => false,
            Some(status) => status < 500,
            None => true,
        }
    }

    /// Whether `mode: report` lets it pass: what the rules and the ClientHello decide, and nothing else.
    pub fn relaxed_by_report(self) -> bool {
        use Reason::*;
        matches!(
            self,
            HostNotAllowed
                | HostDenied
                | PortNotAllowed
                | SchemeNotAllowed
                | RuleExpired
                | NotTls
                | NoSni
                | SniMismatch
                | ClientHelloTimeout
                | ClientHelloMalformed
        )
    }

    /// Seconds for `Retry-After` where a later try may succeed.
    pub fn retry_after(self) -> Option<u32> {
        use Reason::*;
        match self {
            ClientLimitReached | ClientRateLimited => Some(1),
            LimitReached | LocalResources | Draining | LogUnavailable => Some(5),
            _ => None,
        }
    }
}

/// What the log's `decision` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Let through by a rule.
    Allow,
    /// Refused.
    Deny,
    /// Let through by `mode: report` alone.
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
    fn words_are_unique() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert!(Reason::ALL[..index].iter().all(|other| other.as_str() != reason.as_str()), "{reason}");
        }
    }

    #[test]
    fn only_429_and_5xx_are_errors() {
        assert!(Reason::HostNotAllowed.is_denial());
        assert!(Reason::SniMismatch.is_denial());
        assert!(Reason::PeerNotTrusted.is_denial());
        assert!(!Reason::ClientRateLimited.is_denial());
        assert!(!Reason::DnsTimeout.is_denial());
    }
}
