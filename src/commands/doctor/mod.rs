//! `egressd doctor`: from a client's place, whether a proxy does what it is there for. A line for each thing.
//!
//! It asks for a target that is listed, for one that is not, and once for the listed one with another server name in the
//! TLS handshake; then for what address the proxy saw. Each failing line tells the likely cause and what to do. Works
//! against any proxy, a Squid too: what that lets pass is then told. Not here: what a rule would say without a request
//! ([`explain`](super::explain)).

mod admin;
mod arguments;
mod proxy;
mod timed;
mod wire;

pub(crate) use arguments::Doctor;

use std::fmt;
use std::net::IpAddr;

pub use self::admin::Admin;
use self::proxy::{Attempt, Inside};
pub use self::proxy::{Proxy, ProxyError};
pub use self::timed::STEP;
use crate::words::outcome::{Class, Reason};
use crate::words::target::{Host, PROBE, Target};

/// What is to be found out.
#[derive(Debug)]
pub struct Visit {
    /// The proxy.
    pub via: Proxy,
    /// A target that is listed.
    pub allowed: Target,
    /// One that is not.
    pub denied: Target,
    /// Who can tell which address was seen.
    pub admin: Option<Admin>,
    /// Our address as the proxy should see it; left out: the one we connect from.
    pub client: Option<IpAddr>,
}

/// How one thing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FindingState {
    /// As it should be.
    Fine,
    /// Not as it should be.
    Wrong,
    /// It could not be found out from here.
    Open,
}

/// One thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Which: one word.
    pub what: &'static str,
    /// How it is.
    pub state: FindingState,
    /// What was seen; where it is wrong, also why probably, and what to do.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            FindingState::Fine => "ok",
            FindingState::Wrong => "WRONG",
            FindingState::Open => "open",
        };
        write!(f, "{state:<5}  {:<8} {}", self.what, self.text)
    }
}

/// Finds out, thing by thing; each is given to `tell` as soon as it is known. True: nothing is wrong.
pub fn visit(visit: &Visit, mut tell: impl FnMut(&Finding)) -> bool {
    let mut all_fine = true;
    let mut told = |finding: Finding| {
        all_fine &= finding.state != FindingState::Wrong;
        tell(&finding);
        finding.state
    };
    let reached = reach(&visit.via);
    if told(reached) == FindingState::Fine {
        told(allowed(visit));
        let (finding, id) = denied(visit);
        told(finding);
        told(mismatch(visit));
        told(address(visit, id.as_deref()));
    }
    all_fine
}

fn finding(what: &'static str, state: FindingState, text: impl Into<String>) -> Finding {
    Finding { what, state, text: text.into() }
}

fn reach(via: &Proxy) -> Finding {
    match via.connect() {
        Ok(stream) => finding(
            "reach",
            FindingState::Fine,
            format!("{via} accepts connections, from {} to {}", stream.local, stream.peer),
        ),
        Err(error) => finding("reach", FindingState::Wrong, format!("{via}: {error}")),
    }
}

/// The status of a reply to CONNECT, and what it means where it is not what was wanted.
fn refused(status: u16, reason: Option<&str>) -> String {
    let reason_text = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    // By the status, where the proxy is of another version and has a word of its own.
    let do_this = match (status, reason.and_then(class)) {
        (_, Some(Class::Client)) => {
            "no policy is for this client: see the `address` line; behind a load balancer that hides who asks, give the listener `proxy_protocol`, or add the network to `clients`"
        }
        (407, _) => "the proxy wants a password: --credentials-file FILE with one line USER:PASSWORD",
        (403, Some(Class::Address)) => {
            "the name leads to an address that is not public: a VPC endpoint needs `private` in its rule"
        }
        (403, _) => {
            "the list lacks it: `egressd explain TARGET` where the configuration is says which rule came nearest"
        }
        (502 | 504, Some(Class::Lookup)) => {
            "the proxy cannot look the name up: its name servers, and whether its pod may reach them (port 53)"
        }
        (502..=504, _) => "the proxy cannot reach the target: its route, its NAT gateway, its security group",
        (429, _) => "this client is over a limit",
        (400 | 405, _) => "this is no proxy, or one that does not do CONNECT",
        _ => "look for the record in its log",
    };
    format!("answered {status}{reason_text}: {do_this}")
}

fn class(word: &str) -> Option<Class> {
    Reason::from_word(word).map(Reason::class)
}

fn allowed(visit: &Visit) -> Finding {
    let target = &visit.allowed;
    let wrong = |text: String| finding("allowed", FindingState::Wrong, format!("CONNECT {target}: {text}"));
    match visit.via.open(target) {
        Err(error) => wrong(error.to_string()),
        Ok(Attempt::Refused(reply)) => wrong(refused(reply.status, reply.reason())),
        Ok(Attempt::Tunnel(tunnel)) => {
            let id = tunnel.reply.id().map(|id| format!(", X-Request-Id {id}")).unwrap_or_default();
            match tunnel.shake(&target.host.to_string()) {
                Inside::ServerHello => finding(
                    "allowed",
                    FindingState::Fine,
                    format!("CONNECT {target}: 200, and the target answers in TLS{id}"),
                ),
                Inside::Alert(number) => wrong(format!(
                    "200, then the TLS alert {number}: the target is not the one that the name says, or the rule's `verify_certificate` refuses it{id}"
                )),
                Inside::Closed => wrong(format!(
                    "200, then the connection was closed before TLS: the proxy reaches the target late or not at all{id}"
                )),
                Inside::NotTls => wrong(format!("200, then something that is not TLS{id}")),
                Inside::Silent => wrong(format!("200, then silence for {} s{id}", STEP.as_secs())),
            }
        }
    }
}

fn denied(visit: &Visit) -> (Finding, Option<String>) {
    let target = &visit.denied;
    let wrong = |text: String| finding("denied", FindingState::Wrong, format!("CONNECT {target}: {text}"));
    match visit.via.open(target) {
        Err(error) => (wrong(error.to_string()), None),
        Ok(Attempt::Refused(reply)) if reply.status == 403 => {
            let reason = reply.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let text = if reply.reason().and_then(class) == Some(Class::Client) {
                return (wrong(refused(403, reply.reason())), reply.id().map(str::to_owned));
            } else {
                format!("CONNECT {target}: 403{reason}, as it should be")
            };
            (finding("denied", FindingState::Fine, text), reply.id().map(str::to_owned))
        }
        Ok(Attempt::Refused(reply)) => {
            let text = format!(
                "a listed host is asked for before it is denied, or: {}",
                refused(reply.status, reply.reason())
            );
            (wrong(text), reply.id().map(str::to_owned))
        }
        Ok(Attempt::Tunnel(tunnel)) => {
            let mode = if tunnel.reply.id().is_some() {
                "its policy is in `mode: report`, or the list is wider than thought"
            } else {
                "it lets out what is not listed, and is no egressd"
            };
            (
                wrong(format!(
                    "200: this should be refused: {mode}; or name a host that really is not listed with --denied"
                )),
                None,
            )
        }
    }
}

fn mismatch(visit: &Visit) -> Finding {
    let target = &visit.allowed;
    let other = &visit.denied.host;
    let asked = format!("CONNECT {target} with {other} in the TLS handshake");
    let open = |text: &str| finding("sni", FindingState::Open, format!("{asked}: {text}"));
    let Host::Name(other) = other else {
        return open("--denied is an address: give a name to find this out");
    };
    let tunnel = match visit.via.open(target) {
        Ok(Attempt::Tunnel(tunnel)) => tunnel,
        Ok(Attempt::Refused(_)) | Err(_) => return open("there was no tunnel: see the `allowed` line"),
    };
    let egressd = tunnel.reply.id().is_some();
    match (tunnel.shake(other.as_str()), egressd) {
        (Inside::ServerHello, true) => finding(
            "sni",
            FindingState::Wrong,
            format!(
                "{asked}: a server answered, so whoever may open a tunnel to a listed host can speak to another one behind it: the rule is `tcp://`, or the policy in `mode: report`"
            ),
        ),
        (Inside::ServerHello, false) => finding(
            "sni",
            FindingState::Wrong,
            format!(
                "{asked}: a server answered, so this proxy lets an SNI mismatch pass: it does not look inside a tunnel (it is not egressd, as Squid), and whoever may open a tunnel to a listed host can speak to another one behind it"
            ),
        ),
        (Inside::Alert(112), true) => finding(
            "sni",
            FindingState::Fine,
            format!("{asked}: refused with the TLS alert unrecognized_name, as it should be"),
        ),
        (Inside::Alert(number), _) => open(&format!(
            "the TLS alert {number} came, of the target perhaps: this proxy does not say that it is egressd (X-Request-Id)"
        )),
        (Inside::Closed, _) => {
            open("the connection was closed without a word, by the proxy or by the target")
        }
        (Inside::NotTls | Inside::Silent, _) => open("no TLS was answered"),
    }
}

fn address(visit: &Visit, id: Option<&str>) -> Finding {
    let Some(admin) = &visit.admin else {
        let ours = visit
            .client
            .map(|ip| ip.to_string())
            .or_else(|| visit.via.connect().ok().map(|stream| stream.local.ip().to_string()));
        let ours = ours.map(|ip| format!(": it should be {ip}")).unwrap_or_default();
        return finding(
            "address",
            FindingState::Open,
            match id {
                Some(id) => format!(
                    "the proxy's log has a record with id {id}, whose `client` is the address that it saw{ours}; with --admin http://PROXY:9180 this is compared here"
                ),
                None => format!("the proxy's log names the address that it saw{ours}"),
            },
        );
    };
    // Always the same one, so that visits do not fill the refusals that are shown; our request is known by its id.
    let Ok(own) = Target::connect(&format!("{PROBE}:443")) else {
        return finding("address", FindingState::Open, "there is no name to ask for");
    };
    let (reply, local) = match visit.via.open(&own) {
        Ok(Attempt::Refused(reply)) => (reply.clone(), reply.local),
        Ok(Attempt::Tunnel(_)) => {
            return finding(
                "address",
                FindingState::Open,
                format!("CONNECT {own} was not refused: nothing to look up"),
            );
        }
        Err(error) => return finding("address", FindingState::Open, format!("CONNECT {own}: {error}")),
    };
    let Some(id) = reply.id() else {
        return finding("address", FindingState::Open, "the proxy gives no X-Request-Id: it is no egressd");
    };
    let want = visit.client.unwrap_or(local.ip().to_canonical());
    match admin.client_of(id) {
        Err(error) => finding("address", FindingState::Open, format!("{admin}: {error}")),
        Ok(None) => finding(
            "address",
            FindingState::Open,
            format!(
                "{admin} knows no refusal {id}: behind a load balancer it may be another replica's; ask each, or look into the log"
            ),
        ),
        Ok(Some(seen)) if seen == want => finding(
            "address",
            FindingState::Fine,
            format!("the proxy saw {seen}, which is where this asks from"),
        ),
        Ok(Some(seen)) => finding(
            "address",
            FindingState::Wrong,
            format!(
                "the proxy saw {seen}, and this asks from {want}: a load balancer in between hides its clients (NLB: `preserve_client_ip` or `proxy_protocol_v2`, and the listener's `proxy_protocol`), so rules for clients mean the balancer; or a NAT does, which --client {seen} would say"
            ),
        ),
    }
}
