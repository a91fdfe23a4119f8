//! What the rows do not cover about request heads: the verdict depends neither on the segments nor on the mode, nothing that
//! is refused reaches a parent, and the record says what was asked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::check::{UNHURRIED, hold_where};
use crate::suite::case::{Case, Expect, Step, connect_to};
use crate::suite::cases;
use crate::suite::world::World;
use crate::support::{Egressd, End, Origin};

/// Longer heads take many segments anyway.
const SHORT: usize = 4096;

#[test]
fn every_refused_head_is_refused_whatever_its_segments() {
    let world = World::on_loopback();
    let proxy = Egressd::start(&(world.config() + UNHURRIED));
    let mut failed = Vec::new();
    let mark = world.mark();
    for case in cases::all() {
        let (Expect::Reply(status, reason), [Step::Send(bytes)]) = (case.expect, &case.steps[..]) else {
            continue;
        };
        // What a name resolves to may differ from question to question.
        if bytes.len() > SHORT || case.row == 36 {
            continue;
        }
        let bytes = world.fill(bytes);
        let refused = catch_unwind(AssertUnwindSafe(|| {
            let mut wire = proxy.connect();
            let (head, tail) = bytes.split_at(bytes.len() / 2);
            wire.send_in_pieces([head, tail], Duration::from_millis(1));
            proxy.refused(wire, status, reason);
        }));
        if refused.is_err() {
            failed.push(format!("row {}, {}", case.row, case.what));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert!(world.settled(&mark).reached.is_empty(), "something reached a target");
}

/// Cases that are refused for one of these reasons.
fn refused_for(reasons: &[&str]) -> Vec<Case> {
    // Rebinding is a sequence of cases, the first of which is none of these.
    let is_one = |case: &Case| {
        case.row != 36 && matches!(case.expect, Expect::Reply(_, reason) if reasons.contains(&reason))
    };
    cases::all().into_iter().filter(is_one).collect()
}

#[test]
fn report_mode_opens_nothing_but_what_the_rules_decide() {
    let cases = refused_for(&[
        "bad_request",
        "bad_target",
        "method_not_allowed",
        "head_too_large",
        "address_prohibited",
        "dns_no_such_name",
    ]);
    hold_where(&cases, |text| text.replace("  - name: test\n", "  - name: test\n    mode: report\n"));
}

#[test]
fn t47_nothing_that_is_refused_reaches_a_parent() {
    let parent = Origin::silent();
    let reasons = [
        "bad_request",
        "bad_target",
        "method_not_allowed",
        "head_too_large",
        "host_not_allowed",
        "port_not_allowed",
        "scheme_not_allowed",
    ];
    // On a connection whose first request is correct, the first one goes to the parent.
    let cases: Vec<Case> = refused_for(&reasons)
        .into_iter()
        .filter(|case| !case.steps.iter().any(|s| matches!(s, Step::Reply)))
        .collect();
    hold_where(&cases, |text| format!("{text}upstream_proxy: {{url: \"http://{}\"}}\n", parent.address()));
    assert!(parent.seen().is_empty(), "{:?}", parent.seen());
}

#[test]
fn the_record_of_a_malformed_target_says_what_was_asked_and_no_password() {
    let world = World::on_loopback();
    let proxy = Egressd::start(&world.config());
    for (target, shown) in [
        ("ok.test:99999", "ok.test:99999"),
        ("allowed.test@evil.test:443", "allowed.test@evil.test:443"),
        ("user:secret@ok.test:443", "user:***@ok.test:443"),
        ("/path?token=secret", "/path"),
        ("b\u{fc}cher.test:443", "b\u{fc}cher.test:443"),
    ] {
        let refused = proxy.refuses(world.fill(&connect_to(target)), 400, "bad_target");
        assert_eq!(refused.record["target"], shown);
        assert!(!refused.reply.body.contains("secret"), "{}", refused.reply.body);
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_head_is_recorded_as_gone() {
    let world = World::on_loopback();
    let proxy = Egressd::start(&world.config());
    let mut wire = proxy.connect();
    wire.send("CONNECT 127.0.0.1:1 HT");
    wire.finish();
    assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin));
    let record = proxy.record(|record| record["reason"] == "client_gone");
    assert_eq!(record["event"], "error");
}
