//! Checks the cases of a row against a running egressd: the answer, the record, the metric, and what the targets saw.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::suite::case::{Case, Expect};
use crate::suite::cases;
use crate::suite::drive::{Patience, Replay, Said, drive};
use crate::suite::verdict::harmed;
use crate::suite::world::{News, World};
use crate::support::{Egressd, End, Wire, until};

/// CONNECT to this host and port.
pub(crate) fn ask(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

/// Asserts that every case of the row has the expected result, in an egressd of its own.
pub(crate) fn holds(row: u8) {
    holds_with(row, "");
}

/// The same with further lines of configuration.
pub(crate) fn holds_with(row: u8, more: &str) {
    hold_where(&cases::of_row(row), |text| text + more);
}

/// The same for these cases, in a world whose configuration was changed by `change`.
pub(crate) fn hold_where(cases: &[Case], change: impl Fn(String) -> String) {
    assert!(!cases.is_empty(), "no case");
    let world = World::on_loopback();
    let proxy = Egressd::start(&change(world.config() + UNHURRIED));
    let mut failed = Vec::new();
    for case in cases {
        // All failures are reported together; each panic has printed its own message.
        if catch_unwind(AssertUnwindSafe(|| hold_one(case, &world, &proxy))).is_err() {
            failed.push(format!("row {}: {}", case.row, case.what));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    let ended = proxy.stop();
    assert_eq!(ended.code, 0);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

/// The suite sends more requests than the rate limit allows any client.
pub(crate) const UNHURRIED: &str = "limits: {requests_per_second_per_client: 100000}\n";

fn hold_one(case: &Case, world: &World, proxy: &Egressd) {
    let before = world.mark();
    let count = counted(proxy, case.expect);
    let log = proxy.log().len();
    let patience = match case.expect {
        Expect::Flows => Patience::Heard,
        Expect::Answers(_) => Patience::Answered,
        _ => Patience::Closed,
    };
    let said = drive(proxy.address(), case, world, patience).unwrap_or_else(|e| panic!("{}: {e}", case.what));
    let news = world.settled(&before);
    answered_as_expected(case, &said, &news, proxy);
    if let Some(before) = count {
        until("the verdict to be counted", || {
            (counted(proxy, case.expect) == Some(before + 1)).then_some(())
        });
    }
    let harmed = harmed(case, world, &said, &news, &proxy.log().as_bytes()[log..]);
    assert_eq!(harmed, case.unstoppable, "{}: said {said:?}; reached {news:?}", case.what);
}

fn answered_as_expected(case: &Case, said: &Said, news: &News, proxy: &Egressd) {
    let what = &case.what;
    match case.expect {
        Expect::Reply(status, reason) | Expect::Late(status, reason) => {
            let untouched = matches!(case.expect, Expect::Reply(..))
                && (said.replies.is_empty() || said.replies.len() == 1 && said.cut);
            let refused = proxy.refused(Wire::through(Replay::last(said)), status, reason);
            if untouched {
                assert!(news.reached.is_empty(), "{what}: something was dialled: {news:?}");
                assert!(refused.record["upstream"].is_null(), "{what}: {:?}", refused.record);
            }
        }
        Expect::Alert(description, reason) => {
            let alert = [21, 3, 3, 0, 2, 2, description];
            assert_eq!((&said.tail[..], said.end), (&alert[..], Some(End::Fin)), "{what}: {said:?}");
            refused_within(what, said, reason, proxy);
        }
        Expect::Close(reason) => {
            assert_eq!((&said.tail[..], said.end), (&[][..], Some(End::Fin)), "{what}: {said:?}");
            refused_within(what, said, reason, proxy);
        }
        Expect::Flows => {
            assert!(!said.tail.is_empty() || !said.inside.is_empty(), "{what}: nothing came back: {said:?}");
            assert!(
                news.reached.iter().any(|seen| !seen.bytes.is_empty()),
                "{what}: nothing arrived: {said:?}"
            );
            let id = said.header("x-request-id").expect("every reply has it");
            let opened = proxy.record(|record| record["id"] == id.as_str() && record["event"] == "open");
            assert_eq!(opened["decision"], "allow", "{what}");
            proxy.record(|record| record["id"] == id.as_str() && record["event"] == "close");
        }
        Expect::Answers(status) => {
            assert_eq!(said.status(), Some(status), "{what}: {said:?}");
            let id = said.header("x-request-id").expect("every reply has it");
            let record = proxy.record(|record| record["id"] == id.as_str() && record["event"] == "http");
            assert_eq!((&record["status"], &record["decision"]), (&status.into(), &"allow".into()), "{what}");
        }
    }
}

/// Refused after the 200.
fn refused_within(what: &str, said: &Said, reason: &str, proxy: &Egressd) {
    let id = said.header("x-request-id").expect("every reply has it");
    let record = proxy.record(|record| record["id"] == id.as_str() && !record["reason"].is_null());
    assert_eq!((&record["reason"], &record["status"]), (&reason.into(), &200.into()), "{what}");
    assert_eq!(record["decision"], "deny", "{what}");
}

/// How often the expected verdict was given so far, by the metric.
fn counted(proxy: &Egressd, expect: Expect) -> Option<u64> {
    let reason = match expect {
        Expect::Reply(_, reason)
        | Expect::Late(_, reason)
        | Expect::Alert(_, reason)
        | Expect::Close(reason) => reason,
        Expect::Flows | Expect::Answers(_) => return None,
    };
    Some(proxy.metrics().count("egressd_requests_total", &[("reason", reason)]))
}
