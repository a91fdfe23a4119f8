//! From a reason to the bytes that a client reads: the one place with the texts of refusals. Each question is one
//! `match` that names every reason.
//!
//! Most clients show the status line of a refused CONNECT and nothing else, so the reason is its phrase (RFC 9112 §4 leaves
//! that free). A git user sees only the status number, so the number shows the kind; the line in the body, the
//! `Proxy-Status` field (RFC 9209) and the log say the rest. Of the request only the canonical target is repeated, and
//! only in the body.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::session::request::Shows;
use crate::transport::keep_alive::KeepAlive;
use crate::wire::alert::Alert;
use crate::words::outcome::Reason;

/// One refusal as HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// Decides status and error type.
    pub reason: Reason,
    /// The log's `id`.
    pub id: Uuid,
    /// What a person can do about it; one line, safe to show.
    pub advice: &'a str,
    /// Whether a body may follow: not for `HEAD` (RFC 9110 §9.3.2).
    pub body: bool,
    /// Only a 407 keeps the connection: git asks again on it. `None`: it is closed.
    pub keep: Option<KeepAlive>,
    /// To a request inside a tunnel, where nobody connects further.
    pub inside: bool,
    /// The form of its body.
    pub shows: Shows,
}

impl Reply<'_> {
    /// The whole reply. `None` if the reason is not sent as an HTTP reply: it is an alert or a silent close.
    pub fn to_bytes(self) -> Option<Vec<u8>> {
        let (status, error, retry_after) = match wire_form(self.reason) {
            WireForm::Reply { status, error, retry_after } => (status, error, retry_after),
            WireForm::Either { status, error, .. } => (status, error, None),
            WireForm::InTunnel(_) | WireForm::Closed => return None,
        };
        Some(self.with(status, error, retry_after, ""))
    }

    /// `cause` follows the reason in the status line.
    fn with(self, status: u16, error: &str, retry_after: Option<u32>, cause: &str) -> Vec<u8> {
        let (media_type, body) = self.shows.body(self.reason, &one_line(self.advice), self.id);
        let mut reply = format!(
            "HTTP/1.1 {status} egressd: {reason}{cause}\r\n\
             Content-Type: {media_type}\r\n\
             Content-Length: {length}\r\n\
             X-Content-Type-Options: nosniff\r\n\
             X-Request-Id: {id}\r\n\
             Proxy-Status: egressd; error={error}; details=\"{reason}\"\r\n",
            length = body.len(),
            id = self.id,
            reason = self.reason,
        );
        if let Some(seconds) = retry_after {
            // Writing to a String cannot fail.
            let _ = write!(reply, "Retry-After: {seconds}\r\n");
        }
        match status {
            405 => {
                let connect = if self.inside { "" } else { "CONNECT, " };
                let _ = write!(reply, "Allow: {connect}GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n");
            }
            407 => reply.push_str("Proxy-Authenticate: Basic realm=\"egressd\", charset=\"UTF-8\"\r\n"),
            _ => {}
        }
        let _ = match self.keep {
            Some(keep) => {
                write!(reply, "Connection: keep-alive\r\nKeep-Alive: timeout={}\r\n\r\n", keep.announced())
            }
            None => write!(reply, "Connection: close\r\n\r\n"),
        };
        if self.body {
            reply.push_str(&body);
        }
        reply.into_bytes()
    }
}

/// The status of [`in_clear`].
pub const IN_CLEAR_STATUS: u16 = 400;

/// The answer in clear to a client that speaks plain HTTP at a listener with TLS. No client certificate was asked for and no
/// policy knows the client, so it says nothing but that. The cause follows the reason in the status line, because the
/// reason alone says nothing to a user who sees only that line, and whose client speaks no TLS at all.
pub fn in_clear(id: Uuid, body: bool) -> Vec<u8> {
    let advice = "this listener speaks TLS: use https:// in the proxy URL";
    let (keep, inside, shows) = (None, false, Shows::Text);
    let reply = Reply { reason: Reason::TlsHandshakeFailed, id, advice, body, keep, inside, shows };
    reply.with(IN_CLEAR_STATUS, "http_request_error", None, &format!(": {advice}"))
}

/// The answer to a CONNECT whose tunnel is open (RFC 9110 §9.3.6: no framing fields in a 2xx to CONNECT).
pub fn established(id: Uuid) -> Vec<u8> {
    format!("HTTP/1.1 200 Connection established\r\nX-Request-Id: {id}\r\n\r\n").into_bytes()
}

/// How a refusal looks to the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireForm {
    /// An HTTP reply.
    Reply {
        /// Its status.
        status: u16,
        /// The error type in `Proxy-Status` (RFC 9209 §2.3).
        error: &'static str,
        /// Seconds for `Retry-After`, where a later try may succeed.
        retry_after: Option<u32>,
    },
    /// Before the `200` an HTTP reply, and after it a fatal TLS alert and close.
    Either {
        /// Its status.
        status: u16,
        /// The error type in `Proxy-Status` (RFC 9209 §2.3).
        error: &'static str,
        /// The alert.
        alert: Alert,
    },
    /// After the `200`: a fatal TLS alert and close, or close alone.
    InTunnel(Option<Alert>),
    /// Closed without a reply, before any HTTP: the client would not read one.
    Closed,
}

/// How `reason` looks to the client.
pub fn wire_form(reason: Reason) -> WireForm {
    use Reason::*;
    let reply = |status, error| WireForm::Reply { status, error, retry_after: None };
    let busy = |status, error, seconds| WireForm::Reply { status, error, retry_after: Some(seconds) };
    match reason {
        BadRequest | BadTarget => reply(400, "http_request_error"),
        ClientNotAllowed | HostNotAllowed | HostDenied | PortNotAllowed | SchemeNotAllowed | RuleExpired
        | RequestNotAllowed | GitNotAllowed | RefNotAllowed | AccountNotAllowed | UpgradeNotAllowed
        | UploadBudget => reply(403, "http_request_denied"),
        HostMismatch => reply(421, "http_request_error"),
        AddressProhibited => reply(403, "destination_ip_prohibited"),
        MethodNotAllowed => reply(405, "http_request_error"),
        AuthRequired | AuthFailed => reply(407, "http_request_denied"),
        HeadTimeout => reply(408, "http_request_error"),
        UploadLimit => reply(413, "http_request_denied"),
        ClientLimitReached | ClientRateLimited => busy(429, "connection_limit_reached", 1),
        HeadTooLarge => reply(431, "http_request_error"),
        InternalError => reply(500, "proxy_internal_error"),
        DnsNoSuchName | DnsNoAddress | DnsFailed => reply(502, "dns_error"),
        ConnectRefused => reply(502, "connection_refused"),
        ConnectUnreachable => reply(502, "destination_ip_unroutable"),
        UpstreamBadResponse | UpstreamCredentialsRefused | UpstreamProxyRefused => {
            reply(502, "http_protocol_error")
        }
        Loop => reply(502, "proxy_loop_detected"),
        LimitReached => busy(503, "connection_limit_reached", 5),
        // An account becomes free when the window of a budget moves: in minutes, not at once.
        BudgetTableFull => busy(503, "connection_limit_reached", 60),
        LocalResources | Draining | LogUnavailable | SharedStateUnavailable => {
            busy(503, "proxy_internal_error", 5)
        }
        DnsTimeout => reply(504, "dns_timeout"),
        ConnectTimeout => reply(504, "connection_timeout"),
        UpstreamTimeout => reply(504, "http_response_timeout"),
        NoSni | SniMismatch => WireForm::InTunnel(Some(Alert::UnrecognizedName)),
        ClientHelloMalformed => WireForm::InTunnel(Some(Alert::DecodeError)),
        // Before the `200` of a tunnel that is inspected.
        CertificateInvalid => {
            WireForm::Either { status: 502, error: "tls_certificate_error", alert: Alert::BadCertificate }
        }
        UpstreamNotTls => {
            WireForm::Either { status: 502, error: "http_protocol_error", alert: Alert::AccessDenied }
        }
        EchNotAllowed | InspectionDistrusted => WireForm::InTunnel(Some(Alert::AccessDenied)),
        Http1NotOffered => WireForm::InTunnel(Some(Alert::NoApplicationProtocol)),
        NotTls | ClientHelloTimeout => WireForm::InTunnel(None),
        PeerNotTrusted | ProxyHeaderInvalid | TlsHandshakeFailed | ClientCertificateInvalid => {
            WireForm::Closed
        }
    }
}

/// The status that the client saw of a refusal that is no alert: the log's `status`. `None` if the connection is closed
/// before any HTTP; 200 if the `200` was already sent.
pub fn status(reason: Reason) -> Option<u16> {
    match wire_form(reason) {
        WireForm::Reply { status, .. } | WireForm::Either { status, .. } => Some(status),
        WireForm::InTunnel(_) => Some(200),
        WireForm::Closed => None,
    }
}

/// The alert that stands for `reason` inside a tunnel, after the `200`; `None`: the tunnel is closed without one.
pub fn alert(reason: Reason) -> Option<Alert> {
    match wire_form(reason) {
        // A reason of the rules that came later, by a reload.
        WireForm::Reply { .. } => Some(Alert::AccessDenied),
        WireForm::InTunnel(alert) => alert,
        WireForm::Either { alert, .. } => Some(alert),
        // An identity that a reload or an expiry revoked.
        WireForm::Closed => Some(Alert::AccessDenied),
    }
}

/// What a person can do about `reason` if nothing more is known about the case. It reveals nothing internal: the
/// address that a name resolved to, or the resolver's answer, is in the log.
pub fn advice(reason: Reason) -> &'static str {
    use Reason::*;
    match reason {
        BadRequest => "the request is not well-formed HTTP/1.1",
        BadTarget => "the target is not a host and port",
        ClientNotAllowed => "no policy matches this client's address",
        HostNotAllowed => "no rule names this host",
        HostDenied => "a deny rule names this host",
        PortNotAllowed => "no rule allows this port of the host",
        SchemeNotAllowed => "no rule allows this kind of request to the host",
        RuleExpired => "the rule that allowed this host has expired",
        RequestNotAllowed => "a rule allows the connection, and no entry of its `requests` fits this request",
        GitNotAllowed => "no entry of the rule's `requests` allows this of the Git repository",
        RefNotAllowed => "no entry of the rule's `requests` allows a push to change this ref so",
        AccountNotAllowed => {
            "no entry of the rule's `requests` allows the account whose credentials this request carries"
        }
        UpgradeNotAllowed => {
            "the request asks for an upgrade, which its rule does not allow: write `upgrade: [websocket]` in an entry of its \
             `requests`"
        }
        HostMismatch => {
            "Host and URI of a request inside a tunnel must name the host and port of the CONNECT"
        }
        UploadBudget => "the upload budget of this rule is used up for this client: try again later",
        UploadLimit => "the request is larger than the upload_limit of its rule",
        AddressProhibited => {
            "the name resolves to no address that may be reached: see the log, or `egressd explain --resolve`"
        }
        MethodNotAllowed => "this method is not supported",
        HeadTimeout => "the request head did not arrive in time",
        HeadTooLarge => "the request head is too large",
        AuthRequired => "credentials are required",
        AuthFailed => "the credentials are wrong",
        ClientLimitReached => {
            "this client has too many tunnels open: close some, or raise limits.tunnels_per_client"
        }
        ClientRateLimited => {
            "this client sends too many requests: slow down, or raise limits.requests_per_second_per_client"
        }
        InternalError => "a bug in egressd: report it with the request's id",
        DnsNoSuchName => "DNS says that this name does not exist: check the spelling",
        DnsNoAddress => "the name has no address in DNS",
        DnsFailed => "the name could not be looked up: the name servers failed or refused",
        ConnectRefused => "the target refused the connection",
        ConnectUnreachable => "there is no route to the target",
        UpstreamBadResponse => "the target's answer is not valid HTTP",
        UpstreamCredentialsRefused => {
            "the target refused the credentials that egressd keeps for it: check the credentials_file of the rule"
        }
        UpstreamProxyRefused => "the parent proxy refused",
        Loop => "the target is this proxy itself: check the proxy settings",
        LimitReached => "too many tunnels are open: try again, or raise limits.tunnels",
        BudgetTableFull => {
            "the uploads of this client and rule cannot be counted, because too many upload budgets are in use: try \
             again later, or raise limits.budget_accounts"
        }
        LocalResources => "the proxy is out of descriptors, ports or memory: try again",
        Draining => "the proxy is shutting down: try again on another replica",
        LogUnavailable => "the access log cannot be written, and nothing passes without a record",
        SharedStateUnavailable => {
            "the store that counts the upload budgets of all replicas does not answer, and nothing with a budget passes \
             uncounted: try again, and see the log"
        }
        DnsTimeout => "DNS did not answer in time",
        ConnectTimeout => "the target did not answer in time",
        UpstreamTimeout => "the target did not respond in time",
        NotTls => "the first bytes in the tunnel are not TLS",
        NoSni => "the TLS ClientHello contains no server name",
        SniMismatch => "the TLS ClientHello names a different server than the CONNECT",
        ClientHelloTimeout => "no complete TLS ClientHello arrived in time",
        ClientHelloMalformed => "the TLS ClientHello is not well-formed",
        EchNotAllowed => {
            "the TLS ClientHello has encrypted_client_hello, which the rule refuses (`ech: deny`)"
        }
        Http1NotOffered => {
            "the TLS ClientHello offers no http/1.1, which is what an inspected tunnel carries: let the client offer it"
        }
        InspectionDistrusted => {
            "the client does not trust egressd's authority for inspection: install its root in the client"
        }
        CertificateInvalid => "the target's certificate is not valid for the host",
        UpstreamNotTls => "the target did not answer in TLS",
        PeerNotTrusted => "the peer is not among proxy_protocol.trusted",
        ProxyHeaderInvalid => "there was no valid PROXY header",
        TlsHandshakeFailed => {
            "the TLS handshake failed: stderr says why; with status 400 in its record the client spoke plain HTTP, and its \
             proxy URL must begin with https://"
        }
        ClientCertificateInvalid => "the client's certificate is not valid",
    }
}

/// The same if a parent proxy stands between egressd and the target. `None`: it makes no difference.
pub fn advice_for_parent(reason: Reason) -> Option<&'static str> {
    use Reason::*;
    match reason {
        DnsNoSuchName | DnsNoAddress | DnsFailed | DnsTimeout => {
            Some("the parent proxy's own name cannot be looked up: see the log")
        }
        ConnectRefused | ConnectUnreachable | ConnectTimeout => {
            Some("the parent proxy cannot be reached: see the log")
        }
        UpstreamBadResponse => Some("the parent proxy did not answer like a proxy: see the log"),
        UpstreamProxyRefused => Some("the parent proxy refused: see the log"),
        Loop => Some("the parent proxy or the target is this proxy itself: check the settings"),
        BadRequest
        | BadTarget
        | ClientNotAllowed
        | HostNotAllowed
        | HostDenied
        | PortNotAllowed
        | SchemeNotAllowed
        | RuleExpired
        | RequestNotAllowed
        | GitNotAllowed
        | RefNotAllowed
        | AccountNotAllowed
        | UpgradeNotAllowed
        | HostMismatch
        | UploadBudget
        | UploadLimit
        | AddressProhibited
        | MethodNotAllowed
        | HeadTimeout
        | HeadTooLarge
        | AuthRequired
        | AuthFailed
        | ClientLimitReached
        | ClientRateLimited
        | InternalError
        | UpstreamTimeout
        | LimitReached
        | BudgetTableFull
        | LocalResources
        | Draining
        | LogUnavailable
        | SharedStateUnavailable
        | NotTls
        | NoSni
        | SniMismatch
        | ClientHelloTimeout
        | ClientHelloMalformed
        | EchNotAllowed
        | Http1NotOffered
        | InspectionDistrusted
        | UpstreamCredentialsRefused
        | CertificateInvalid
        | UpstreamNotTls
        | PeerNotTrusted
        | ProxyHeaderInvalid
        | TlsHandshakeFailed
        | ClientCertificateInvalid => None,
    }
}

/// The text as one line, whatever the advice was made from.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
