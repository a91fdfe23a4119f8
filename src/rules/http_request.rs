//! The second stage of a decision: one HTTP request on a connection that is already permitted.
//!
//! The first stage, [`Policies::decide`], knows host, port and scheme. The method and path of a request are known only
//! once its head is read: immediately for plain HTTP, and after the `200` for a request inside a tunnel. What a rule says
//! about them is its [`Requests`](super::Requests). A rule that says nothing lets every request pass, with one exception:
//! inside a tunnel none may upgrade its connection. (Outside a tunnel the field is taken out, as RFC 9110 §7.8 allows a
//! proxy to do.)

use super::Policies;
use super::decide::{Denial, Permit};
use super::http::{HttpRequest, Misfit, Nearest, Requests, Upgrade, check_path};
use super::policy::Mode;
use super::rule::Scheme;
use crate::words::outcome::{Decision, Reason};
use crate::words::target::{Method, Target};

/// Why a request does not pass, and one line for a person.
type Objection = (Reason, String);

impl Policies {
    /// Whether `request` may pass on the connection to `target` that `permit` allows. The permit comes back for the
    /// request: with the entry that lets it through, or in report mode with what enforce mode would deny.
    ///
    /// # Errors
    /// [`Denial`], as for [`Policies::decide`].
    pub fn decide_request(
        &self,
        permit: Permit,
        target: &Target,
        request: &HttpRequest<'_>,
    ) -> Result<Permit, Denial> {
        let within = permit.method == Method::Connect;
        let asks = HttpRequest { upgrade: if within { request.upgrade } else { Upgrade::None }, ..*request };
        let (reason, advice) = match judge(&permit, target, &asks) {
            Ok(entry) => {
                let mut entry = entry;
                if permit.decision != Decision::Allow {
                    // Credentials are lent to what a rule allows, not to what report mode lets pass.
                    entry = entry.map(|entry| super::MatchedEntry { credentials: None, ..entry });
                }
                let websocket = asks.upgrade == Upgrade::Websocket;
                return Ok(Permit { entry, websocket, ..permit });
            }
            Err(objection) => objection,
        };
        if permit.mode == Mode::Report && reason.relaxed_by_report() {
            let reason = permit.reason.or(Some(reason));
            let websocket = asks.upgrade == Upgrade::Websocket;
            return Ok(Permit { decision: Decision::WouldDeny, reason, websocket, ..permit });
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

/// The entry that lets the request through, if the rule has any.
fn judge(
    permit: &Permit,
    target: &Target,
    request: &HttpRequest<'_>,
) -> Result<Option<super::MatchedEntry>, Objection> {
    match (permit.method, permit.scheme, request.inspected) {
        (Method::Http, ..) | (Method::Connect, Scheme::Tcp, _) => {}
        (Method::Connect, Scheme::Https, true) | (Method::Connect, Scheme::Http, false) => {}
        // The rules changed: what is inside the tunnel would have to be TLS now, and is not; or the other way round.
        (Method::Connect, Scheme::Https, false) => {
            return Err((Reason::NotTls, "the tunnel must carry TLS".to_owned()));
        }
        (Method::Connect, Scheme::Http, true) => {
            let advice = format!("the tunnel must carry plain requests: write `https://{target}`");
            return Err((Reason::SchemeNotAllowed, advice));
        }
    }
    if (request.inspected || permit.requests.is_some())
        && let Err(wrong) = check_path(request.path)
    {
        let advice = format!("programs read the path in more than one way: {wrong}");
        return Err((Reason::BadTarget, advice));
    }
    match &permit.requests {
        Some(requests) => match requests.find(request) {
            Ok(entry) => Ok(Some(entry)),
            Err(nearest) => Err(not_fitting(requests, nearest, request)),
        },
        None if request.upgrade == Upgrade::None => Ok(None),
        None => Err((
            Reason::UpgradeNotAllowed,
            format!(
                "upgrades, WebSockets among them, are not supported under an http rule yet: write `tcp://{target}`"
            ),
        )),
    }
}

fn not_fitting(requests: &Requests, nearest: Nearest, request: &HttpRequest<'_>) -> Objection {
    let Nearest { number, misfit } = nearest;
    let method = request.method;
    let why = match misfit {
        Misfit::Upgrade => {
            return (Reason::UpgradeNotAllowed, format!("entry {number} of `requests` allows no upgrade"));
        }
        Misfit::Method => format!("entry {number} of `requests` allows the path, and not {method}"),
        Misfit::Path => format!("entry {number} of `requests` allows {method}, and not this path"),
        Misfit::Both => {
            format!(
                "none of the {} entries of `requests` allows {method} or this path",
                requests.entries().len()
            )
        }
    };
    (Reason::RequestNotAllowed, why)
}
