//! A 407 that a client never answers is told once for its connection, some time after that ended; one that is answered, on the same
//! connection or on another one, is not.

use serde_json::{Value, json};

use crate::passwords::{PASSWORD, basic, challenges, connect_as, files};
use crate::support::{Egressd, End, Origin, Record, Reply, Wire, until};
use crate::{connect_to, listening};

const PASSWORDS: &str = "basic_auth: {users_file: users.htpasswd}";

fn starts(rules: &[&str]) -> Egressd {
    Egressd::start_in(files(), &listening(PASSWORDS, rules))
}

/// Sends these heads, each after the reply to the one before, which is a 407: the last reply.
fn asks(proxy: &Egressd, heads: &[&str]) -> (Wire, Reply) {
    let mut wire = proxy.connect();
    let replies = heads.iter().map(|head| {
        wire.send(head);
        let reply = wire.read_reply();
        assert_eq!(reply.status, 407, "{reply:?}");
        reply
    });
    let last = replies.last().expect("a head");
    (wire, last)
}

fn tried(scheme: &str) -> String {
    connect_as("a.example:443", &format!("Proxy-Authorization: {scheme}\r\n"))
}

/// The record and the entry on the page, of the only request so far.
fn told(proxy: &Egressd, last: &Reply, scheme: Value) -> Record {
    let record = proxy.record(|record| record["id"] == last.id());
    record.assert_has(&json!({
        "event": "deny", "decision": "deny", "reason": "auth_required", "status": 407, "identity": null, "policy": null,
        "auth_scheme": scheme, "upstream": null,
    }));
    record
}

/// What a client sends before it gives up, and how it leaves.
fn leaves_one_record(heads: &[&str], leave: fn(Wire), scheme: &Value) {
    let proxy = starts(&["a.example"]);
    let (wire, last) = asks(&proxy, heads);
    assert_eq!(challenges(&proxy), heads.len() as u64);
    leave(wire);
    let record = told(&proxy, &last, scheme.clone());
    let (method, target) = match heads[0].starts_with("GET") {
        true => ("GET", "http://a.example:80/p"),
        false => ("CONNECT", "a.example:443"),
    };
    assert_eq!((record.text("method"), record.text("target")), (method, target));
    let metric = [("decision", "deny"), ("reason", "auth_required")];
    assert_eq!(proxy.metrics().count("egressd_requests_total", &metric), 1);
    let page: Value = serde_json::from_str(&proxy.get("/api/decisions").body).expect("JSON");
    let group = &page["refused"][0];
    assert_eq!(
        (&group["reason"], &group["auth_scheme"], &group["id"]),
        (&json!("auth_required"), scheme, &json!(last.id()))
    );
    let ended = proxy.stop();
    assert_eq!(ended.records.len(), 1, "once for the connection: {:?}", ended.records);
    let all = format!("{:?}{}{page}{}", ended.records, ended.stderr, last.body);
    assert!(
        !all.contains("secret") && !all.contains("a-token-to-hide") && !all.contains("YIIH-token"),
        "{all}"
    );
}

#[test]
fn however_a_client_leaves_a_407_there_is_one_record_of_its_connection() {
    let none = connect_to("a.example:443");
    let plain = "GET http://a.example/p?q HTTP/1.1\r\nHost: a.example\r\nUser-Agent: maven\r\n\r\n";
    let closing = none.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let (bearer, negotiate) = (tried("bearer a-token-to-hide"), tried("Negotiate YIIH-token="));
    let (unknown, malformed) = (tried("ghp_secret0123456789"), "GET nonsense\r\n\r\n");
    // What it sends; how it ends it; the scheme in its record.
    type Row<'a> = (&'a [&'a str], fn(Wire), Value);
    let rows: [Row<'_>; 9] = [
        (&[&none], |wire| drop(wire), Value::Null),
        (&[&none], |wire| wire.reset(), Value::Null),
        (&[&none, &none], |mut wire| wire.finish(), Value::Null),
        (&[&closing], |mut wire| assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin)), Value::Null),
        (&[&none, &none, &none], |mut wire| assert_eq!(wire.read_to_end().1, End::Fin), Value::Null),
        (&[plain], |wire| drop(wire), Value::Null),
        (&[&bearer], |wire| drop(wire), json!("Bearer")),
        // It tried once, and then gave up.
        (&[&negotiate, &none], |wire| drop(wire), json!("Negotiate")),
        (&[&unknown], |wire| drop(wire), json!("other")),
    ];
    // All at once: each record comes some seconds after its connection.
    std::thread::scope(|threads| {
        for (heads, leave, scheme) in rows {
            threads.spawn(move || leaves_one_record(heads, leave, &scheme));
        }
    });
    // What comes instead of an answer is a refusal of its own.
    let proxy = starts(&["a.example"]);
    let (mut wire, last) = asks(&proxy, &[&none]);
    wire.send(malformed);
    proxy.refused(wire, 400, "bad_request");
    told(&proxy, &last, Value::Null);
}

#[test]
fn a_407_that_is_answered_leaves_no_record_of_its_own() {
    let origin = Origin::echo();
    let to = origin.address().to_string();
    let proxy = starts(&[&format!("tcp://{to}")]);
    let (right, wrong) =
        (connect_as(&to, &basic("gitaly", PASSWORD)), connect_as(&to, &basic("gitaly", "guess")));

    let (mut wire, _) = asks(&proxy, &[&connect_to(&to)]);
    wire.send(&right);
    assert_eq!(wire.read_head().status, 200);
    drop(wire);
    // A wrong password is an answer: it has its own record.
    let (wire, failed) = asks(&proxy, &[&connect_to(&to), &wrong]);
    drop(wire);
    let (mut wire, _) = asks(&proxy, &[&tried("Negotiate YIIH-token="), &wrong]);
    wire.send(&right);
    assert_eq!(wire.read_head().status, 200);
    drop(wire);
    proxy
        .record(|record| record["id"] == failed.id())
        .assert_has(&json!({"reason": "auth_failed", "auth_scheme": "Basic"}));
    until("both tunnels to end", || {
        (proxy.records().iter().filter(|r| r["event"] == "close").count() == 2).then_some(())
    });
    let records = proxy.stop().records;
    assert!(records.iter().all(|record| record["reason"] != "auth_required"), "{records:?}");
}

/// Java's HttpClient closes the connection of a 407, or leaves it, and answers on a new one.
#[test]
fn a_407_that_is_answered_on_another_connection_leaves_no_record_of_its_own() {
    let origin = Origin::echo();
    let to = origin.address().to_string();
    let proxy = starts(&[&format!("tcp://{to}")]);
    let asked = connect_to(&to);
    for credentials in [basic("gitaly", PASSWORD), basic("gitaly", "guess")] {
        for closes_first in [true, false] {
            let (first, _) = asks(&proxy, &[&asked]);
            let mut held = Some(first).filter(|_| !closes_first);
            let mut wire = proxy.connect();
            wire.send(connect_as(&to, &credentials));
            let status = wire.read_head().status;
            assert_eq!(status, if credentials == basic("gitaly", PASSWORD) { 200 } else { 407 });
            drop((held.take(), wire));
        }
    }
    let ended = proxy.stop();
    let reasons: Vec<&Value> =
        ended.records.iter().filter(|r| r["event"] == "deny").map(|r| &r["reason"]).collect();
    assert_eq!(reasons, ["auth_failed", "auth_failed"], "{:?}", ended.records);
}

/// An answer to something else, or of a scheme that is not taken, is none; and one answer counts once.
#[test]
fn a_407_is_not_taken_for_answered_by_another_request() {
    let origin = Origin::echo();
    let to = origin.address().to_string();
    let proxy = starts(&[&format!("tcp://{to}")]);
    let right = basic("gitaly", PASSWORD);
    let named = |agent: &str| connect_as(&to, &format!("User-Agent: {agent}\r\n"));
    // Another target; another program.
    let unanswered: Vec<String> = [connect_to("a.example:443"), named("one"), named("two")]
        .iter()
        .map(|head| asks(&proxy, &[head]).1.id().to_owned())
        .collect();
    let answered_twice: Vec<String> =
        (0..2).map(|_| asks(&proxy, &[&named("three")]).1.id().to_owned()).collect();
    for fields in [right.clone(), format!("User-Agent: three\r\n{right}")] {
        let mut wire = proxy.connect();
        wire.send(connect_as(&to, &fields));
        assert_eq!(wire.read_head().status, 200);
    }
    let (wire, bearer) = asks(&proxy, &[&tried("Bearer abc")]);
    drop(wire);

    let told = |id: &str| proxy.record(|record| record["id"] == id);
    for id in unanswered.iter().map(String::as_str).chain([bearer.id()]) {
        told(id).assert_has(&json!({"reason": "auth_required"}));
    }
    let ended = proxy.stop();
    let of =
        |ids: &[String]| ended.records.iter().filter(|r| ids.iter().any(|id| r["id"] == id.as_str())).count();
    assert_eq!((of(&unanswered), of(&answered_twice)), (3, 1), "{:?}", ended.records);
}

#[test]
fn clients_that_never_answer_are_counted_completely_and_do_not_fill_the_log() {
    const FLOOD: u64 = 200;
    let proxy = starts(&["a.example"]);
    let held: Vec<Wire> = (0..FLOOD).map(|_| asks(&proxy, &[&connect_to("a.example:443")]).0).collect();
    assert!(proxy.records().is_empty(), "they may still answer");
    drop(held);
    let records = until("all of them to be told", || {
        let records = proxy.records();
        let told: u64 = records.iter().map(|record| 1 + record["suppressed"].as_u64().unwrap_or(0)).sum();
        (told == FLOOD).then_some(records)
    });
    assert!(records.len() < 100, "{}", records.len());
    assert!(records.iter().all(|record| record["reason"] == "auth_required" && record["event"] == "deny"));
    let metric = [("decision", "deny"), ("reason", "auth_required")];
    assert_eq!(proxy.metrics().count("egressd_requests_total", &metric), FLOOD);
    let page: Value = serde_json::from_str(&proxy.get("/api/decisions").body).expect("JSON");
    assert_eq!(page["refused"][0]["count"], FLOOD);
}

/// A drain ends the wait for an answer.
#[test]
fn a_client_that_has_not_answered_when_egressd_ends_is_told() {
    let proxy = starts(&["a.example"]);
    let (wire, last) = asks(&proxy, &[&tried("NTLM TlRM")]);
    let ended = proxy.stop();
    assert_eq!(ended.code, 0);
    let [record] = &ended.records[..] else { panic!("{:?}", ended.records) };
    record.assert_has(&json!({"id": last.id(), "reason": "auth_required", "auth_scheme": "NTLM"}));
    drop(wire);
}
