//! The second stage of a decision: one HTTP request on a connection that is already permitted.
//!
//! The first stage, [`Policies::decide`], knows host, port and scheme. The method and path of a request are known only
//! once its head is read: immediately for plain HTTP, and after the `200` for a request inside a tunnel. No rule is
//! about method and path yet, so every request on a permitted connection passes, with one exception: inside a tunnel that
//! an `http` rule carries, no request may upgrade its connection, because nothing carries what would follow. (Outside a
//! tunnel the field is taken out, as RFC 9110 §7.8 allows a proxy to do.) A reload judges an open exchange by its target
//! alone ([`rejudge`](crate::state::live::rejudge)): a rule about requests needs method and path there too.

use super::Policies;
use super::decide::{Denial, Permit};
use super::policy::Mode;
use super::rule::Scheme;
use crate::words::outcome::{Decision, Reason};
use crate::words::target::{Method, Target};

/// One HTTP request, as far as rules may judge it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpRequest<'r> {
    /// As it was sent: methods are case-sensitive (RFC 9110 §9.1).
    pub method: &'r str,
    /// The path as it was sent, never decoded, without the query.
    pub path: &'r str,
    /// Whether it asks to upgrade its connection.
    pub upgrade: bool,
}

impl Policies {
    /// Whether `request` may pass on the connection to `target` that `permit` allows. The permit comes back for the
    /// request: in report mode it may say what enforce mode would deny.
    ///
    /// # Errors
    /// [`Denial`], as for [`Policies::decide`].
    pub fn decide_request(
        &self,
        permit: Permit,
        target: &Target,
        request: &HttpRequest<'_>,
    ) -> Result<Permit, Denial> {
        // The target of plain HTTP is not CONNECT's.
        if permit.method != Method::Connect {
            return Ok(permit);
        }
        let (reason, advice) = if permit.scheme == Scheme::Https {
            // The rules changed: what is inside the tunnel would have to be TLS now, and is not.
            (Reason::NotTls, "the tunnel must carry TLS".to_owned())
        } else if request.upgrade {
            let advice = format!(
                "upgrades, WebSockets among them, are not supported under an http rule yet: write `tcp://{target}`"
            );
            (Reason::UpgradeNotAllowed, advice)
        } else {
            return Ok(permit);
        };
        if permit.mode == Mode::Report && reason.relaxed_by_report() {
            let reason = permit.reason.or(Some(reason));
            return Ok(Permit { decision: Decision::WouldDeny, reason, ..permit });
        }
        Err(Denial {
            reason,
            policy: Some(permit.policy),
            mode: permit.mode,
            rule: permit.rule,
            decides: true,
            advice,
        })
    }
}
