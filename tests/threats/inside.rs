//! Requests inside a tunnel that an `http` rule carries. The cases of plain HTTP are sent again there, in both forms that a
//! target may have: what is refused on the proxy's own port is refused inside, for the same reason, and what passes passes.
//! Only another host is told in another way, because inside there is but one.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::check::UNHURRIED;
use crate::suite::case::{Case, Expect, Harm, Step, connect_to};
use crate::suite::cases;
use crate::suite::drive::{Patience, Replay, Said, drive};
use crate::suite::verdict::harmed;
use crate::suite::world::{News, World};
use crate::support::{Egressd, Wire};

/// How the requests of a case name their target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// As on the proxy's own port.
    Absolute,
    /// As to an origin.
    Origin,
}

/// The case inside a tunnel to `{OK}:{WEB}`. `None`: it is about something else than plain requests.
pub(crate) fn inside(case: &Case, form: Form) -> Option<Case> {
    let is_plain = |step: &Step| match step {
        Step::Send(bytes) | Step::Trickle(bytes, _) => {
            bytes.contains(&b' ') && !bytes.starts_with(b"CONNECT")
        }
        Step::Reply | Step::Heard | Step::Fin => true,
        Step::Established | Step::Tls(..) => false,
    };
    // The log of a tunnel that opens holds an `allow` of its own.
    let of_tunnels = matches!(&case.harm, Harm::Logged(needle) if needle.ends_with(b"\"allow\""));
    if of_tunnels || !is_plain(case.steps.first()?) {
        return None;
    }
    let written = |bytes: &Vec<u8>| match form {
        Form::Absolute => bytes.clone(),
        Form::Origin => replaced(bytes, b" http://{OK}:{WEB}/", b" /"),
    };
    let steps = case.steps.iter().map(|step| match step {
        Step::Send(bytes) => Step::Send(written(bytes)),
        Step::Trickle(bytes, size) => Step::Trickle(written(bytes), *size),
        other => other.clone(),
    });
    let tunnel = [Step::Send(connect_to("{OK}:{WEB}")), Step::Established];
    Some(Case { steps: tunnel.into_iter().chain(steps).collect(), expect: expected(case), ..case.clone() })
}

/// What is answered inside a tunnel, for what is answered on the proxy's own port.
fn expected(case: &Case) -> Expect {
    let sent: Vec<u8> = case
        .steps
        .iter()
        .flat_map(|step| match step {
            Step::Send(bytes) | Step::Trickle(bytes, _) => bytes.clone(),
            _ => Vec::new(),
        })
        .collect();
    let holds =
        |needle: &str| sent.to_ascii_lowercase().windows(needle.len()).any(|w| w == needle.as_bytes());
    let elsewhere = sent.split(|byte| *byte == b' ').nth(1).is_some_and(|uri| {
        uri.starts_with(b"http://")
            && !uri.starts_with(b"http://{OK}:{WEB}")
            && !uri.starts_with(b"http://{OK} ")
    });
    match case.expect {
        // Malformed, whatever the host is.
        Expect::Reply(400, "bad_request") if case.what.starts_with("Host names") => {
            Expect::Reply(421, "host_mismatch")
        }
        Expect::Reply(_, "bad_request" | "head_too_large" | "method_not_allowed") => case.expect,
        Expect::Reply(400, "bad_target") if elsewhere && holds("<script>") => {
            Expect::Reply(421, "host_mismatch")
        }
        // A path is a target inside.
        Expect::Reply(400, "bad_target") if sent.starts_with(b"GET /") => Expect::Answers(200),
        Expect::Reply(_, "bad_target") => case.expect,
        // What the rules, DNS or a target say of another host.
        _ if elsewhere => Expect::Reply(421, "host_mismatch"),
        _ if holds("upgrade: ") => Expect::Reply(403, "upgrade_not_allowed"),
        // Another request behind the first one.
        Expect::Reply(403, _) if holds("connect ") => Expect::Reply(405, "method_not_allowed"),
        Expect::Reply(_, "host_not_allowed" | "port_not_allowed") => Expect::Reply(421, "host_mismatch"),
        other => other,
    }
}

pub(crate) fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(from) {
            Some(behind) => {
                out.extend_from_slice(to);
                rest = behind;
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// Sends the case to `to`, and holds what it does to what it should: the answer, its record, and `harm`.
pub(crate) fn hold_inside(
    case: &Case,
    world: &World,
    proxy: &Egressd,
    to: SocketAddr,
    harm: impl Fn(&Case, &World, &Said, &News, &[u8]) -> bool,
) {
    let what = &case.what;
    let mark = world.mark();
    let log = proxy.log().len();
    let patience = match case.expect {
        Expect::Answers(_) => Patience::Answered,
        _ => Patience::Closed,
    };
    let said: Said = drive(to, case, world, patience).unwrap_or_else(|e| panic!("{what}: {e}"));
    let news = world.settled(&mark);
    match case.expect {
        Expect::Reply(status, reason) | Expect::Late(status, reason) => {
            let refused = proxy.refused(Wire::through(Replay::last(&said)), status, reason);
            let tunnel = refused.record.text("tunnel").to_owned();
            let closed = proxy.record(|record| record["id"] == tunnel.as_str() && record["event"] == "close");
            assert_eq!(closed["ending"], "refused", "{what}: {closed:?}");
        }
        Expect::Answers(status) => {
            assert_eq!(said.status(), Some(status), "{what}: {said:?}");
            let id = said.header("x-request-id").expect("every reply has it");
            let record = proxy.record(|record| record["id"] == id.as_str() && record["event"] == "request");
            assert_eq!((&record["status"], &record["decision"]), (&status.into(), &"allow".into()), "{what}");
        }
        other => panic!("{what}: {other:?}"),
    }
    assert!(!harm(case, world, &said, &news, &proxy.log().as_bytes()[log..]), "{what}: {said:?} {news:?}");
}

#[test]
fn t48_t49_t50_a_request_inside_a_tunnel_is_judged_as_outside() {
    let world = World::on_loopback();
    let proxy = Egressd::start(&(world.config() + UNHURRIED));
    let mut failed = Vec::new();
    let mut tried = 0;
    for form in [Form::Absolute, Form::Origin] {
        for case in cases::all().iter().filter_map(|case| inside(case, form)) {
            tried += 1;
            if catch_unwind(AssertUnwindSafe(|| hold_inside(&case, &world, &proxy, proxy.address(), harmed)))
                .is_err()
            {
                failed.push(format!("row {}: {} ({form:?})", case.row, case.what));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(tried > 200, "only {tried} cases");
    // Each was counted as a request inside a tunnel, and no refusal as anything else.
    let metrics = proxy.metrics();
    for reason in
        ["bad_request", "host_mismatch", "method_not_allowed", "upgrade_not_allowed", "head_too_large"]
    {
        let count = |metric| metrics.count(metric, &[("reason", reason)]);
        assert!(count("egressd_inspected_requests_total") > 0, "{reason}");
        assert_eq!(count("egressd_requests_total"), 0, "{reason}");
    }
}
