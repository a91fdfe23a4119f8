//! The second stage of a decision: one HTTP request on a connection that is already permitted.
//!
//! The first stage, [`Policies::decide`], knows host, port and scheme. The method and path of a request are known only
//! once its head is read: immediately for plain HTTP, and after the `200` for a request inside a tunnel. What a rule says
//! about them is its [`Requests`]. A rule that says nothing lets every request pass, with one exception:
//! inside a tunnel none may upgrade its connection. (Outside a tunnel the field is taken out, as RFC 9110 §7.8 allows a
//! proxy to do.)

use std::sync::Arc;

use super::Policies;
use super::decide::{Denial, Objected, Permit};
use super::git::{GitMisfit, GitObjection, GitRule};
use super::http::{Entry, HttpRequest, MatchedEntry, Misfit, Nearest, Requests, Upgrade};
use super::path::{PathPattern, check as check_path};
use super::policy::Mode;
use super::rule::Scheme;
use crate::words::aws::CredentialsError;
use crate::words::git::{Asks, Operation};
use crate::words::outcome::{Decision, Reason};
use crate::words::target::{Host, Method, Target};

/// Why a request does not pass.
pub(super) struct Objection {
    pub(super) reason: Reason,
    /// One line for a person.
    pub(super) advice: String,
    /// The entry of `requests` that would let it pass.
    pub(super) entry: Option<Box<str>>,
    /// For a push that is refused for its refs alone: what is said about them.
    refs: Option<Arc<GitRule>>,
    /// Whether it lacks credentials and nothing else, and git will send them when it is asked.
    wants_credentials: bool,
}

impl Objection {
    fn new(reason: Reason, advice: String) -> Self {
        Objection { reason, advice, entry: None, refs: None, wants_credentials: false }
    }
}

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
        // Outside a tunnel the field is taken out: nothing is asked for.
        let asked = if permit.method == Method::Connect { request.upgrade } else { Upgrade::None };
        let request = HttpRequest { upgrade: asked, ..*request };
        let websocket = asked == Upgrade::Websocket;
        let objection = match judge(&permit, target, &request) {
            Ok(entry) => {
                // Credentials are lent to what a rule allows, not to what only report mode lets pass.
                let lends = permit.decision == Decision::Allow;
                let entry = entry
                    .map(|entry| MatchedEntry { credentials: entry.credentials.filter(|_| lends), ..entry });
                return Ok(Permit { entry, websocket, ..permit });
            }
            Err(objection) => objection,
        };
        let Objection { reason, advice, entry, refs, wants_credentials } = objection;
        if permit.mode == Mode::Report && wants_credentials {
            // Enforce mode would ask for credentials. The target does so itself.
            return Ok(Permit { websocket, ..permit });
        }
        if permit.mode == Mode::Report && reason.relaxed_by_report() {
            // What the rules have against the connection comes first.
            let objected = permit.reason.is_none().then(|| Objected { advice: advice.into(), entry });
            return Ok(Permit {
                decision: Decision::WouldDeny,
                reason: permit.reason.or(Some(reason)),
                objected: objected.map(Box::new),
                websocket,
                ..permit
            });
        }
        Err(Denial {
            reason,
            policy: Some(permit.policy),
            mode: permit.mode,
            rule: permit.rule,
            decides: true,
            advice: advice.into(),
            entry,
            refs,
        })
    }
}

/// The entry that lets the request through, if the rule has any.
pub(super) fn judge(
    permit: &Permit,
    target: &Target,
    request: &HttpRequest<'_>,
) -> Result<Option<MatchedEntry>, Objection> {
    match (permit.method, permit.scheme, request.inspected) {
        (Method::Http, ..) | (Method::Connect, Scheme::Tcp, _) => {}
        (Method::Connect, Scheme::Https, true) | (Method::Connect, Scheme::Http, false) => {}
        // The rules changed: what is inside the tunnel would have to be TLS now, and is not; or the other way round.
        (Method::Connect, Scheme::Https, false) => {
            return Err(Objection::new(Reason::NotTls, "the tunnel must carry TLS".to_owned()));
        }
        (Method::Connect, Scheme::Http, true) => {
            let advice = format!("the tunnel must carry plain requests: write `https://{target}`");
            return Err(Objection::new(Reason::SchemeNotAllowed, advice));
        }
    }
    if (request.inspected || permit.requests.is_some())
        && let Err(wrong) = check_path(request.path)
    {
        let advice = format!("programs read the path in more than one way: {wrong}");
        return Err(Objection::new(Reason::BadTarget, advice));
    }
    let found = match &permit.requests {
        Some(requests) => {
            requests.find(name_of(target), request).map(Some).map_err(|nearest| (requests, nearest))
        }
        None if request.upgrade == Upgrade::None => Ok(None),
        None => return Err(no_upgrade(permit, target, request)),
    };
    found.map_err(|(requests, nearest)| not_fitting(permit, requests, nearest, request))
}

/// The name of the target; an address has none.
fn name_of(target: &Target) -> &str {
    match &target.host {
        Host::Name(name) => name.as_str(),
        Host::Address(_) => "",
    }
}

/// A rule that says nothing about requests allows each, and no upgrade.
fn no_upgrade(permit: &Permit, target: &Target, request: &HttpRequest<'_>) -> Objection {
    let (advice, entry) = match request.upgrade {
        Upgrade::Websocket => (
            format!("the request asks for a WebSocket, and no `upgrade` of {} allows it", shown(permit)),
            Some(Entry { websocket: true, ..Entry::default() }.to_string().into()),
        ),
        Upgrade::None | Upgrade::Other => (
            format!(
                "the request asks for an upgrade other than to a WebSocket: only `tcp://{target}` allows that"
            ),
            None,
        ),
    };
    Objection { entry, ..Objection::new(Reason::UpgradeNotAllowed, advice) }
}

fn not_fitting(
    permit: &Permit,
    requests: &Requests,
    nearest: Nearest,
    request: &HttpRequest<'_>,
) -> Objection {
    let Nearest { number, misfit } = nearest;
    let (rule, method) = (shown(permit), request.method);
    let none = Entry::default();
    let entry = requests.entries().get(number.saturating_sub(1)).unwrap_or(&none);
    let offered = Entry::for_request(request, entry, &misfit).map(|entry| entry.to_string().into());
    let (refs, wants_credentials) = match &misfit {
        Misfit::Git(GitObjection { misfit: GitMisfit::Change | GitMisfit::Ref, .. }) => {
            (entry.git.clone(), false)
        }
        Misfit::Credentials(CredentialsError::None) => (None, entry.git.is_some() && is_discovery(request)),
        _ => (None, false),
    };
    let (reason, advice, entry) = match misfit {
        Misfit::Upgrade if request.upgrade == Upgrade::Other => {
            let advice =
                format!("entry {number} of {rule} allows the request, but only a WebSocket can be asked for");
            (Reason::UpgradeNotAllowed, advice, None)
        }
        Misfit::Upgrade => {
            let advice = format!("entry {number} of {rule} allows the request, and no WebSocket");
            (Reason::UpgradeNotAllowed, advice, offered)
        }
        Misfit::Method => {
            let methods = listed(entry.methods.iter().flatten().map(|method| &**method));
            let advice = format!("entry {number} of {rule} allows the path by {methods}, not by {method}");
            (Reason::RequestNotAllowed, advice, offered)
        }
        Misfit::Path => {
            let paths = listed(entry.paths.iter().flatten().map(PathPattern::as_str));
            let advice = format!("entry {number} of {rule} allows {method} of {paths}, not of this path");
            (Reason::RequestNotAllowed, advice, offered)
        }
        Misfit::Both => {
            let advice = format!("no entry of {rule} allows {method}, and none this path");
            (Reason::RequestNotAllowed, advice, offered)
        }
        Misfit::Git(objection) => {
            // No entry is offered where it is not known which.
            let needs_refs =
                objection.misfit == GitMisfit::Operation && offered.is_none() && is_push(request);
            let refs = if needs_refs { ", and the refs under `refs`" } else { "" };
            let advice = format!("entry {number} of {rule}: {}{refs}", objection.text);
            (objection.misfit.reason(), advice, offered)
        }
        Misfit::NotGit(why) => {
            let is = why.map_or("is not known to be that".into(), |why| format!("is {why}"));
            let advice = format!("entry {number} of {rule} allows what git's client asks, and this {is}");
            (Reason::GitNotAllowed, advice, offered)
        }
        Misfit::Aws(objection) => {
            let advice = format!("entry {number} of {rule}: {}", objection.text);
            (Reason::AccountNotAllowed, advice, offered)
        }
        Misfit::Credentials(why) => {
            let advice =
                format!("entry {number} of {rule} wants credentials of AWS, and the request has {why}");
            (Reason::AccountNotAllowed, advice, offered)
        }
        Misfit::UnknownCredentials => {
            let advice = format!(
                "entry {number} of {rule} wants credentials of AWS, and it is not known whose credentials the request has"
            );
            (Reason::AccountNotAllowed, advice, offered)
        }
    };
    Objection { reason, advice, entry, refs, wants_credentials }
}

/// The first request of git, which it sends without credentials.
fn is_discovery(request: &HttpRequest<'_>) -> bool {
    let ask = request.recognised.and_then(|recognised| recognised.git.as_ref().ok());
    ask.is_some_and(|ask| matches!(ask.request.asks, Asks::Discovery(_)))
}

fn is_push(request: &HttpRequest<'_>) -> bool {
    let ask = request.recognised.and_then(|recognised| recognised.git.as_ref().ok());
    ask.is_some_and(|ask| ask.request.operation() == Some(Operation::Push))
}

/// The rule whose `requests` are meant.
fn shown(permit: &Permit) -> String {
    match &permit.rule {
        Some(rule) => format!("`requests` of `{}`", rule.text),
        None => "`requests`".to_owned(),
    }
}

/// `GET, HEAD and 3 more`.
fn listed<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<&str> = texts.collect();
    let some = all.get(..SHOWN).unwrap_or(&all).join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}
