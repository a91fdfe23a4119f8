//! What is read from a line, and what is not.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use serde_json::Value;

use super::lines::MAX_LINE;
use super::respelled::respelled;
use super::*;
use crate::rules::Mode;
use crate::telemetry::record::test_records::{AS_ECS, AS_JSON, AS_OCSF, Written, any_record};
use crate::telemetry::record::{Event, LoggedTarget, Record, new_id};
use crate::words::client::ClientAddr;
use crate::words::outcome::{Decision, Reason};
use crate::words::target::Target;

const OPEN: &str = r#"{"time":"2026-03-01T12:00:00.500000Z","id":"x","event":"open","client":"10.0.0.1:40000","identity":null,"method":"CONNECT","target":"git.example:443","sni":"git.example","decision":"allow","reason":null,"upstream":"52.94.0.1:443","sent":null,"received":12,"duration_ms":1.250,"cut":["user_agent"]}"#;

/// One byte at a time, as a slow pipe gives it.
struct Drops<'b>(&'b [u8]);

impl Read for Drops<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (Some((first, rest)), Some(room)) = (self.0.split_first(), into.first_mut()) else {
            return Ok(0);
        };
        *room = *first;
        self.0 = rest;
        Ok(1)
    }
}

fn read(log: &[u8]) -> (Reader, Vec<String>) {
    let (mut reader, mut targets) = (Reader::new(), Vec::new());
    let keep = |entry: &Entry<'_>| {
        targets.push(entry.target.map(|text| text.decoded().into_owned()).unwrap_or_default())
    };
    reader.read("a.log", Drops(log), keep).expect("it can be read");
    let mut at_once = Reader::new();
    at_once.read("a.log", log, |_| ()).expect("it can be read");
    assert_eq!(reader, at_once, "however the bytes come");
    (reader, targets)
}

/// A seal is no record, and nobody needs to be told of it; what a router put around a line is taken off.
#[test]
fn seals_are_passed_over_and_wrappings_taken_off() {
    let seal = r#"{"time":"2026-03-01T12:00:00.000000Z","event":"seal","instance":"i","seal":{"boot":"b","number":0},"signature":"AA=="}"#;
    let sealed = OPEN.replace(r#""cut":"#, r#""sealed":{"boot":"b","seq":0},"cut":"#);
    let quoted = |line: &str| serde_json::to_string(&format!("{line}\n")).expect("text");
    let docker = |line: &str| {
        format!("{{\"log\":{},\"stream\":\"stdout\",\"time\":\"2026-03-01T12:00:00Z\"}}", quoted(line))
    };
    let bit = |line: &str| format!("{{\"date\":1772366400.1,\"log\":{}}}", quoted(line));
    let cri = |line: &str| format!("2026-03-01T12:00:00.123456789Z stdout F {line}");
    for wrap in [&docker as &dyn Fn(&str) -> String, &bit, &cri, &|line: &str| line.to_owned()] {
        let other = "2026-03-01T12:00:00.1Z stderr F egressd started";
        let log = format!("{}\n{}\n{other}\n{}\n", wrap(&sealed), wrap(seal), wrap(&sealed));
        let (reader, targets) = read(log.as_bytes());
        assert_eq!((reader.records(), reader.malformed().count), (2, 0), "{log}");
        assert_eq!(targets, ["git.example:443"; 2], "{log}");
    }
}

#[test]
fn a_record_is_read_in_any_order_and_with_any_other_members() {
    let entry = Entry::parse(OPEN.as_bytes()).expect("a record");
    assert_eq!(entry.time, Some(1_772_366_400));
    assert_eq!(entry.asked().map(|target| target.to_string()), Some("git.example:443".to_owned()));
    assert_eq!(entry.client_ip(), Some(IpAddr::from([10, 0, 0, 1])));
    assert_eq!(entry.upstream_address().map(|address| address.port()), Some(443));
    assert_eq!((entry.sent, entry.received), (None, Some(12)));
    assert_eq!(entry.stands(), Stands::Passed);
    let other =
        r#" { "more" : {"a":[1,-2.5e3,"}\"",true,{}],"b":null} , "target":"\u0061","event" : "deny" } "#;
    let entry = Entry::parse(other.trim().as_bytes()).expect("a record");
    assert_eq!(entry.target.map(Text::decoded).as_deref(), Some("a"));
    assert_eq!(entry.stands(), Stands::Refused);
}

/// By the names in the log's table of fields.
#[test]
fn every_field_that_is_read_is_one_that_the_log_writes() {
    let target = Target::connect("git.example:443").expect("a target");
    let address: SocketAddr = "192.0.2.1:50000".parse().expect("an address");
    let record = Record {
        client: Some(ClientAddr::new(address)),
        identity: Some("user:ci"),
        method: Some("CONNECT".into()),
        target: Some(LoggedTarget::Connect(&target)),
        sni: Some("sni.example".into()),
        policy: Some("ci"),
        mode: Some(Mode::Report),
        rule: Some("*.example"),
        decision: Some(Decision::WouldDeny),
        reason: Some(Reason::HostDenied.into()),
        upstream: Some("[2001:db8::1]:443".parse().expect("an address")),
        sent: Some(1),
        received: Some(2),
        user_agent: Some("git/2.39".into()),
        tunnel: Some(uuid::Uuid::nil()),
        protocol: Some(crate::words::client::Protocol::Socks5),
        original: Some("203.0.113.9:443".parse().expect("an address")),
        status: Some(101),
        suppressed: Some(3),
        ..Record::new(Event::Close, jiff::Timestamp::UNIX_EPOCH, new_id(), "proxy")
    };
    let mut line = Vec::new();
    record.write_json(&mut line);
    let Entry {
        time,
        event,
        listener,
        client,
        identity,
        method,
        target,
        sni,
        policy,
        mode,
        rule,
        decision,
        reason,
        upstream,
        upstream_port,
        protocol,
        original,
        user_agent,
        sent,
        received,
        tunnel,
        git,
        aws,
        status,
        suppressed,
        brief,
        guessed,
    } = Entry::parse(line.trim_ascii_end()).expect("a record");
    assert_eq!((time, event, sent, received), (Some(0), Some(Event::Close), Some(1), Some(2)));
    assert_eq!((suppressed, status), (3, Some(101)));
    assert_eq!(tunnel.map(Text::decoded).as_deref(), Some("00000000-0000-0000-0000-000000000000"));
    assert_eq!((brief, guessed), (false, false), "it says everything");
    assert_eq!((git, aws, upstream_port), (None, None, None), "they are null, or stand elsewhere");
    let texts = [
        listener, client, identity, method, target, sni, policy, mode, rule, decision, reason, upstream,
        protocol, original, user_agent,
    ];
    assert_eq!(
        texts.map(|text| text.map(Text::decoded).unwrap_or_default()),
        [
            "proxy",
            "192.0.2.1:50000",
            "user:ci",
            "CONNECT",
            "git.example:443",
            "sni.example",
            "ci",
            "report",
            "*.example",
            "would_deny",
            "host_denied",
            "[2001:db8::1]:443",
            "socks5",
            "203.0.113.9:443",
            "git/2.39",
        ]
    );
}

#[test]
fn squids_lines_are_read_too() {
    let rows = [
        (
            "1661929934.034   1234 192.168.13.79 TCP_TUNNEL/200 46966 CONNECT www.tis.co.jp:443 - HIER_DIRECT/163.44.161.163 -",
            "open",
            "allow",
            Some(46_966),
            Some(1_661_929_934),
        ),
        (
            "2022/08/31 07:12:14| 192.168.13.79 TCP_DENIED/403 3867 CONNECT www.google.com:443 - HIER_NONE/- text/html",
            "deny",
            "deny",
            None,
            Some(1_661_929_934),
        ),
        (
            "2022/08/31 07:12:14| 10.0.0.1 TCP_MISS/404 618 GET http://origin.test:8080/none? user HIER_DIRECT/127.77.0.2 text/html",
            "http",
            "allow",
            Some(618),
            Some(1_661_929_934),
        ),
        (
            "1661929934.034      0 10.0.0.1 NONE_NONE/503 0 CONNECT dead.test:8080 - HIER_DIRECT/127.77.0.3 -",
            "error",
            "allow",
            None,
            Some(1_661_929_934),
        ),
        (
            "1661929934.034      0 10.0.0.1 NONE_NONE/400 0 GET error:invalid-request - HIER_NONE/- text/html",
            "deny",
            "deny",
            None,
            Some(1_661_929_934),
        ),
        (
            "TCP is none 10.0.0.1 TCP_MISS/200 1 GET http://a.test/ - HIER_DIRECT/1.2.3.4 -",
            "http",
            "allow",
            Some(1),
            None,
        ),
    ];
    for (line, event, decision, received, time) in rows {
        let entry = Entry::parse(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
        let decided = entry.decision.map(Text::decoded);
        let got = (entry.event.map(Event::as_str), decided.as_deref(), entry.received, entry.time);
        assert_eq!(got, (Some(event), Some(decision), received, time), "{line}");
    }
    for line in [
        "",
        "a",
        "-",
        "Nov 25 host kernel: a b c d e f",
        "{\"event\":\"open\"",
        "TCP_MISS/200 1 GET u - H/- -",
    ] {
        assert!(Entry::parse(line.as_bytes()).is_none(), "{line}");
    }
}

/// The numbers that JSON has, and no others; none is taken for a near one.
#[test]
fn a_number_is_whole_in_every_spelling_or_the_line_is_no_record() {
    let max = u64::MAX;
    for (text, want) in [
        ("200", Some(200)),
        ("200.0", Some(200)),
        ("2e2", Some(200)),
        ("2E+2", Some(200)),
        ("0.2e3", Some(200)),
        ("20000e-2", Some(200)),
        ("-0", Some(0)),
        ("0e99999999999999999999", Some(0)),
        ("0.0E-7", Some(0)),
        (&max.to_string(), Some(max)),
        (&format!("{max}.000"), Some(max)),
        ("1.8446744073709551615e19", Some(max)),
    ] {
        let line = OPEN.replace("\"received\":12", &format!("\"received\":{text}"));
        assert_eq!(Entry::parse(line.as_bytes()).map(|entry| entry.received), Some(want), "{text}");
    }
    for text in [
        "200.5",
        "2e-1",
        "-1",
        "-1e2",
        "18446744073709551616",
        "1e20",
        "1e99999999999999999999",
        "\"200\"",
        "true",
        "[1]",
    ] {
        let line = OPEN.replace("\"received\":12", &format!("\"received\":{text}"));
        assert!(Entry::parse(line.as_bytes()).is_none(), "{text}");
    }
}

/// A line has one meaning, whatever a router puts in front: its schema follows from `event`.
#[test]
fn members_of_another_schema_change_no_meaning() {
    let logstash = OPEN.replacen('{', "{\"@timestamp\":\"2026-01-01T00:00:00Z\",\"@version\":\"1\",", 1);
    let ocsf = OPEN.replacen(
        '{',
        "{\"class_uid\":4001,\"metadata\":{\"event_code\":\"deny\"},\"proxy_http_request\":{\"url\":{\"url_string\":\"evil.example:443\"}},\"unmapped\":{\"listener\":\"proxy\",\"decision\":\"deny\"},",
        1,
    );
    let want = said(&Entry::parse(OPEN.as_bytes()).expect("a record"));
    for line in [logstash, ocsf] {
        assert_eq!(Entry::parse(line.as_bytes()).map(|entry| said(&entry)), Some(want.clone()), "{line}");
    }
}

/// What a runtime says of the other stream is no record, but a record that stands there is one for every reader.
#[test]
fn a_record_on_stderr_is_read_and_a_diagnostic_is_not_told_of() {
    let diagnostic = "2026-03-01T12:00:00.1Z  INFO listening on 127.0.0.1:3128";
    let docker = serde_json::json!({"log": format!("{diagnostic}\n"), "stream": "stderr"});
    let squid =
        "1661929934.034 12 10.0.0.1 TCP_TUNNEL/200 46 CONNECT evil.example:443 - HIER_DIRECT/192.0.2.1 -";
    let log = format!(
        "2026-03-01T12:00:00.1Z stderr F {diagnostic}\n{docker}\n2026-03-01T12:00:00.1Z stderr F {OPEN}\n2026-03-01T12:00:00.1Z stderr F {squid}\n"
    );
    let (reader, targets) = read(log.as_bytes());
    assert_eq!((reader.records(), reader.malformed().count), (1, 0));
    assert_eq!(targets, ["git.example:443"]);
}

/// Other programs write these schemas too, and their events are no records of egressd.
#[test]
fn other_programs_events_of_a_schema_are_no_records() {
    for line in [
        r#"{"@timestamp":"2026-03-01T12:00:00Z","ecs":{"version":"9.4.0"},"event":{"action":"open"},"source":{"ip":"10.0.0.1"}}"#,
        r#"{"class_uid":4001,"metadata":{"version":"1.8.0","event_code":"open"},"src_endpoint":{"ip":"10.0.0.1"}}"#,
        r#"{"class_uid":4001,"metadata":{"version":"1.8.0","event_code":"open"},"unmapped":{"method":"CONNECT"}}"#,
        r#"{"class_uid":2004,"metadata":{"version":"1.8.0","event_code":"open"},"unmapped":{"listener":"proxy"}}"#,
        r#"{"@timestamp":"2026-03-01T12:00:00Z","event":{"action":"logged-in"},"egressd":{"listener":"proxy"}}"#,
    ] {
        assert!(Entry::parse(line.as_bytes()).is_none(), "{line}");
    }
}

#[test]
fn lines_that_are_not_records_are_counted_and_reported() {
    let long = format!("{{\"event\":\"open\",\"x\":\"{}\"}}", "x".repeat(MAX_LINE));
    let log = format!("{OPEN}\r\n\n{{}}\nnoise\n\n{long}\n{OPEN}\n{}", &OPEN[..40]);
    let (reader, targets) = read(log.as_bytes());
    assert_eq!(targets, ["git.example:443", "git.example:443"]);
    assert_eq!(reader.records(), 2);
    assert_eq!(
        reader.malformed().to_string(),
        "4 lines are not records, and are skipped: a.log:3, a.log:4, a.log:6, a.log:8"
    );
    let (reader, _) = read(&b"\xff\n".repeat(7));
    assert!(reader.malformed().to_string().ends_with(":5, …"), "{}", reader.malformed());
    assert_eq!(read(&long.as_bytes()[..MAX_LINE + 5]).0.malformed().count, 1, "also without an end");
}

#[test]
fn gzip_is_unpacked_also_with_several_rotations_in_one_file() {
    let pack = |text: &str| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).expect("into memory");
        packer.finish().expect("into memory")
    };
    let one = pack(&format!("{OPEN}\n"));
    let (reader, targets) = read(&[one.clone(), one.clone()].concat());
    assert_eq!((targets.len(), reader.broken_off().len()), (2, 0));
    let many = pack(&format!("{OPEN}\n").repeat(2_000));
    let (reader, targets) = read(&many[..many.len() / 2]);
    assert!(!targets.is_empty() && targets.len() < 2_000);
    assert_eq!(reader.broken_off(), ["a.log"]);
}

#[test]
fn the_calendar_is_the_calendar() {
    for text in [
        "1970-01-01T00:00:00Z",
        "2000-02-29T23:59:59.999999Z",
        "2026-12-31T00:00:00Z",
        "2100-03-01T00:00:00Z",
    ] {
        let want: jiff::Timestamp = text.parse().expect("a time");
        assert_eq!(json::seconds(text), Some(want.as_second()), "{text}");
    }
    for text in [
        "",
        "2026-13-01T00:00:00Z",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00:00+01:00",
        "2026-01-01T00:00:0xZ",
    ] {
        assert_eq!(json::seconds(text), None, "{text}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn written(record: &Record<'_>, write: Written) -> Vec<u8> {
    let mut line = Vec::new();
    write(record, &mut line);
    line.trim_ascii_end().to_vec()
}

/// Everything that commands read of an entry.
fn said(entry: &Entry<'_>) -> Vec<String> {
    let texts = [
        entry.listener,
        entry.identity,
        entry.method,
        entry.target,
        entry.sni,
        entry.policy,
        entry.mode,
        entry.rule,
        entry.decision,
        entry.reason,
        entry.user_agent,
        entry.tunnel,
    ];
    let mut said: Vec<String> =
        texts.map(|text| format!("{:?}", text.map(|text| text.decoded().into_owned()))).into();
    said.push(format!("{:?} {:?} {:?}", entry.time, entry.event, entry.stands()));
    said.push(format!("{:?} {:?}", entry.client_ip(), entry.upstream_address()));
    said.push(format!("{:?} {:?} {:?}", entry.is_connect(), entry.asked(), entry.asked_inside()));
    let decisions = [Decision::Allow, Decision::Deny, Decision::WouldDeny];
    said.push(format!("{:?} {}", decisions.map(|decision| entry.decided(decision)), entry.switched()));
    said.push(format!("{:?} {:?} {:?} {}", entry.sent, entry.received, entry.status, entry.suppressed));
    said.push(format!("{:?} {:?} {}", entry.git(), entry.account(), entry.asks_for_credentials()));
    said
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Entry::parse(&bytes);
    }

    #[test]
    fn no_cut_of_a_record_is_taken_for_one(end in 0..OPEN.len()) {
        prop_assert!(Entry::parse(&OPEN.as_bytes()[..end]).is_none());
    }

    /// The same record in the words of a schema says the same, also when a router has put its members in another order, and added some.
    #[test]
    fn a_record_says_the_same_in_every_schema(made in any_record()) {
        let json = made.with(|record| written(record, AS_JSON));
        let want = said(&Entry::parse(&json).expect("a record"));
        for write in [AS_ECS, AS_OCSF] {
            let line = made.with(|record| written(record, write));
            let entry = Entry::parse(&line);
            prop_assert!(entry.is_some(), "{}", String::from_utf8_lossy(&line));
            prop_assert_eq!(said(&entry.expect("just seen")), want.clone());
            let mut routed: serde_json::Map<String, Value> = serde_json::from_slice(&line).expect("JSON");
            routed.insert("@version".to_owned(), "1".into());
            routed.insert("agent".to_owned(), serde_json::json!({"name": "router"}));
            let backwards: Vec<String> = routed.iter().rev().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
            let routed = format!("{{{}}}", backwards.join(","));
            prop_assert_eq!(said(&Entry::parse(routed.as_bytes()).expect("a record")), want.clone());
        }
    }

    /// Whatever other members there are: the members that are read are what serde_json says.
    #[test]
    fn it_reads_what_serde_json_reads(
        others in proptest::collection::hash_map("[a-z]{9,12}", any_json(), 0..6),
        target in any::<String>(), sent in any::<u64>(), pretty in any::<bool>(),
    ) {
        let mut object: serde_json::Map<String, Value> = others.into_iter().collect();
        object.insert("target".to_owned(), target.clone().into());
        object.insert("event".to_owned(), "http".into());
        object.insert("sent".to_owned(), sent.into());
        let line = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
        let line = line.expect("JSON").replace('\n', " ");
        let entry = Entry::parse(line.as_bytes());
        prop_assert!(entry.is_some(), "{line}");
        let entry = entry.expect("just seen");
        prop_assert_eq!(entry.target.map(|text| text.decoded().into_owned()), Some(target));
        prop_assert_eq!(entry.sent, Some(sent));
    }
}

/// A router may write names, words, numbers and characters in any way that JSON allows: the record says the same. What is made of a record
/// takes more of a stack than a test's thread has.
#[test]
fn a_record_says_the_same_in_every_spelling() {
    let spelled = || {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(64));
        let all = (any_record(), any::<u64>());
        let ran = runner.run(&all, |(made, seed)| {
            for write in [AS_JSON, AS_ECS, AS_OCSF] {
                let line = made.with(|record| written(record, write));
                let line = String::from_utf8(line).expect("ASCII");
                let other = respelled(&line, seed);
                let want = said(&Entry::parse(line.as_bytes()).expect("a record"));
                let got = Entry::parse(other.as_bytes()).map(|entry| said(&entry));
                prop_assert_eq!(got, Some(want), "{}", other);
            }
            Ok(())
        });
        ran.map_err(|error| error.to_string())
    };
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(spelled).expect("a thread");
    thread.join().expect("no panic").unwrap();
}
