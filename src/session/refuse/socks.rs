//! From a reason to the reply code that a client of SOCKS5 reads: the code that comes nearest (RFC 1928, section 6). The record, the
//! metric and the status page say the reason itself.

use super::reply::{self, WireForm};
use crate::wire::socks5::{Code, answer};
use crate::words::outcome::Reason;

/// The answer to a request whose connection is there.
pub(crate) fn granted() -> Vec<u8> {
    answer(Code::Succeeded).into()
}

/// The answer to a request that is refused. `None`: it is closed without one.
pub(crate) fn refused(reason: Reason) -> Option<Vec<u8>> {
    match reply::wire_form(reason) {
        WireForm::Reply { .. } | WireForm::Either { .. } => Some(answer(code(reason)).into()),
        WireForm::InTunnel(_) | WireForm::Closed => None,
    }
}

/// The code for `reason`.
fn code(reason: Reason) -> Code {
    use Reason::*;
    match reason {
        ClientNotAllowed | HostNotAllowed | HostDenied | PortNotAllowed | SchemeNotAllowed | RuleExpired
        | RequestNotAllowed | GitNotAllowed | RefNotAllowed | AccountNotAllowed | UpgradeNotAllowed
        | HostMismatch | UploadBudget | UploadLimit | AddressProhibited | AuthRequired | AuthFailed
        | Loop | CertificateInvalid => Code::NotAllowed,
        MethodNotAllowed => Code::CommandNotSupported,
        DnsNoSuchName | DnsNoAddress | DnsFailed | DnsTimeout | ConnectTimeout => Code::HostUnreachable,
        ConnectRefused => Code::ConnectionRefused,
        ConnectUnreachable => Code::NetworkUnreachable,
        BadRequest
        | BadTarget
        | HeadTimeout
        | HeadTooLarge
        | ClientLimitReached
        | ClientRateLimited
        | InternalError
        | UpstreamBadResponse
        | UpstreamCredentialsRefused
        | UpstreamProxyRefused
        | LimitReached
        | BudgetTableFull
        | LocalResources
        | Draining
        | LogUnavailable
        | SharedStateUnavailable
        | UpstreamTimeout
        | NoSni
        | SniMismatch
        | NotTls
        | ClientHelloTimeout
        | ClientHelloMalformed
        | EchNotAllowed
        | Http1NotOffered
        | InspectionDistrusted
        | UpstreamNotTls
        | PeerNotTrusted
        | ProxyHeaderInvalid
        | TlsHandshakeFailed
        | ClientCertificateInvalid => Code::GeneralFailure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_http_answers_before_the_200_has_a_code_here_and_none_is_success() {
        for reason in Reason::ALL {
            let http = reply::status(*reason).filter(|status| *status != 200);
            let socks = refused(*reason);
            assert_eq!(http.is_some(), socks.is_some(), "{reason}");
            assert!(
                socks.is_none_or(|bytes| bytes.len() == 10 && bytes[0] == 5 && bytes[1] != 0),
                "{reason}"
            );
        }
    }

    /// A client that tries again, or another address, for what only a rule can change would do so for ever.
    #[test]
    fn what_the_rules_refuse_is_told_as_such() {
        for reason in Reason::ALL.iter().filter(|reason| reply::status(**reason) == Some(403)) {
            assert_eq!(code(*reason), Code::NotAllowed, "{reason}");
        }
    }
}
