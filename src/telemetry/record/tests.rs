//! What a line of the access log promises.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::test_records::{AS_ECS, AS_JSON, AS_OCSF};
use super::*;
use crate::config::ShortHash;
use crate::rules::{Mode, RuleSource};
use crate::wire::auth_scheme::AuthScheme;
use crate::words::aws::{Account, Regions};
use crate::words::client::{ClientAddr, PeerAddr, Protocol};
use crate::words::git::{Change, RefChange, RefName};
use crate::words::outcome::{Decision, Ending, Reason};
use crate::words::target::Target;

fn bare(event: Event) -> Record<'static> {
    let time: Timestamp = "2026-03-01T12:00:00.5Z".parse().expect("a time");
    let id: Uuid = "0195507d-1a00-7000-8000-000000000001".parse().expect("an id");
    Record::new(event, time, id, "proxy")
}

fn line(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    record.write_json(&mut out);
    String::from_utf8(out).expect("ASCII")
}

fn target_of(asked: LoggedTarget<'_>) -> String {
    let record = Record { target: Some(asked), ..bare(Event::Deny) };
    let value: serde_json::Value = serde_json::from_str(&line(&record)).expect("JSON");
    value["target"].as_str().expect("text").to_owned()
}

#[test]
fn absent_is_null_not_missing() {
    let text = line(&bare(Event::Error));
    let want = concat!(
        r#"{"time":"2026-03-01T12:00:00.500000Z","id":"0195507d-1a00-7000-8000-000000000001","event":"error","#,
        r#""listener":"proxy","client":null,"peer":null,"identity":null,"method":null,"target":null,"sni":null,"#,
        r#""policy":null,"mode":null,"rule":null,"rule_source":null,"decision":null,"reason":null,"#,
        r#""upstream":null,"upstream_local":null,"status":null,"sent":null,"received":null,"duration_ms":null,"#,
        r#""dns_ms":null,"connect_ms":null,"ending":null,"user_agent":null,"config":null,"instance":null,"#,
        r#""protocol":null,"original":null,"tunnel":null,"suppressed":null,"auth_scheme":null,"aws":null,"git":null,"cut":null}"#,
        "\n"
    );
    assert_eq!(text, want);
}

#[test]
fn a_full_record_has_every_member_once_and_in_order() {
    let target = Target::connect("git.example:443").expect("a target");
    let address: SocketAddr = "192.0.2.1:50000".parse().expect("an address");
    let upstream: SocketAddr = "[2001:db8::1]:443".parse().expect("an address");
    let record = Record {
        client: Some(ClientAddr::new(address)),
        peer: Some(PeerAddr::new(address)),
        identity: Some("cn:gitaly"),
        method: Some("CONNECT".into()),
        target: Some(LoggedTarget::Connect(&target)),
        sni: Some("git.example".into()),
        policy: Some("gitaly"),
        mode: Some(Mode::Report),
        rule: Some("*.example"),
        rule_source: Some(&source("egressd.yaml", 12)),
        decision: Some(Decision::WouldDeny),
        reason: Some(Reason::HostNotAllowed.into()),
        upstream: Some(upstream),
        upstream_local: Some(address),
        status: Some(200),
        sent: Some(u64::MAX),
        received: Some(0),
        duration: Some(Duration::from_micros(1_500)),
        dns: Some(Duration::from_micros(20)),
        connect: Some(Duration::from_millis(3)),
        ending: Some(Ending::ClientClosed),
        user_agent: Some("git/2.47".into()),
        config: Some(ShortHash([0x01, 0x23, 0x45, 0x67, 0x89, 0xab])),
        instance: Some("egressd-0"),
        protocol: Some(Protocol::Socks5),
        original: Some(upstream),
        tunnel: Some(Uuid::nil()),
        suppressed: Some(3),
        auth_scheme: Some(AuthScheme::Negotiate),
        git: Some(LoggedGit {
            operation: None,
            repository: "/v1/repos/x",
            changes: &[],
            negotiated: None,
            options: None,
        }),
        aws: Some(LoggedAws {
            account: Account::new("123456789012"),
            access_key: None,
            service: "codecommit",
            regions: &Regions::Unknown,
        }),
        ..bare(Event::Close)
    };
    let text = line(&record);
    let mut at = 0;
    for Field { name: member, .. } in FIELDS {
        let name = format!("\"{member}\":");
        assert_eq!(text.matches(&name).count(), 1, "{member}");
        let found = text.find(&name).expect("present");
        assert!(found > at, "{member} is out of order");
        at = found;
    }
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value.as_object().map(serde_json::Map::len), Some(FIELDS.len()));
    let absent: Vec<&str> =
        FIELDS.iter().map(|field| field.name).filter(|name| value[*name].is_null()).collect();
    assert_eq!(absent, ["cut"], "the record above has every field");
    assert_eq!(value["client"], "192.0.2.1:50000");
    assert_eq!(value["upstream"], "[2001:db8::1]:443");
    assert_eq!(value["sent"], u64::MAX);
    assert_eq!(value["duration_ms"], 1.5);
    assert_eq!(value["reason"], "host_not_allowed");
    assert_eq!(value["cut"], serde_json::Value::Null);
}

#[test]
fn t68_a_client_cannot_forge_a_line_or_a_terminal_sequence() {
    let evil = "x\"}\r\n{\"event\":\"open\"}\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\u{2028}\u{7f}";
    let record = Record {
        identity: Some(evil),
        method: Some(evil.into()),
        target: Some(LoggedTarget::Malformed(evil.into())),
        sni: Some(evil.into()),
        policy: Some(evil),
        rule: Some(evil),
        rule_source: Some(&source(evil, 1)),
        user_agent: Some(evil.into()),
        instance: Some(evil),
        ..Record::new(Event::Deny, Timestamp::UNIX_EPOCH, Uuid::nil(), evil)
    };
    let text = line(&record);
    let body = text.strip_suffix('\n').expect("a line");
    assert!(body.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{body}");
    let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(value["event"], "deny");
    assert_eq!(value["user_agent"], evil);
}

#[test]
fn t68_the_longest_record_stays_under_16_kib() {
    let long = "\u{9b}".repeat(100_000);
    let raw = [0xffu8; 100_000];
    let target = Target::http("a.example").expect("a target");
    for event in Event::ALL {
        let address: SocketAddr =
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().expect("an address");
        let record = Record {
            client: Some(ClientAddr::new(address)),
            peer: Some(PeerAddr::new(address)),
            identity: Some(&long),
            method: Some(Raw(&raw)),
            target: Some(LoggedTarget::Http { target: &target, path: Raw(&raw), query: true, tls: false }),
            sni: Some(Raw(&raw)),
            policy: Some(&long),
            mode: Some(Mode::Enforce),
            rule: Some(&long),
            rule_source: Some(&source(&long, u32::MAX)),
            decision: Some(Decision::WouldDeny),
            reason: Some(Reason::ClientCertificateInvalid.into()),
            upstream: Some(address),
            upstream_local: Some(address),
            status: Some(u16::MAX),
            sent: Some(u64::MAX),
            received: Some(u64::MAX),
            duration: Some(Duration::MAX),
            dns: Some(Duration::MAX),
            connect: Some(Duration::MAX),
            ending: Some(Ending::UpstreamClosed),
            user_agent: Some(Raw(&raw)),
            config: Some(ShortHash([0xff; 6])),
            instance: Some(&long),
            suppressed: Some(u64::MAX),
            auth_scheme: Some(AuthScheme::Aws4),
            ..Record::new(*event, Timestamp::MAX, Uuid::max(), &long)
        };
        let text = line(&record);
        assert!(text.len() < LINE_BOUND, "{}", text.len());
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let cut = [
            "listener",
            "identity",
            "method",
            "target",
            "sni",
            "policy",
            "rule",
            "rule_source",
            "user_agent",
            "instance",
        ];
        assert_eq!(value["cut"], serde_json::json!(cut));
        assert!(cut.iter().all(|name| value[name].as_str().is_some_and(|text| text.ends_with('…'))));
        let schemas = [(AS_ECS, "/egressd/cut"), (AS_OCSF, "/unmapped/cut")];
        let name = format!("refs/heads/{}", "r".repeat(2_000));
        let name = RefName::new(name.as_bytes()).expect("a name");
        let changes = vec![RefChange::made_up(Change::Update, &name).expect("a change"); 100];
        let regions = Regions::One(long.as_str().into());
        let fullest = Record {
            tunnel: Some(Uuid::max()),
            original: Some(address),
            protocol: Some(Protocol::Socks5),
            aws: Some(LoggedAws {
                account: Account::new("123456789012"),
                access_key: None,
                service: &long,
                regions: &regions,
            }),
            git: Some(LoggedGit {
                operation: None,
                repository: &long,
                changes: &changes,
                negotiated: Some(Negotiated { wants: usize::MAX, haves: usize::MAX, bytes: usize::MAX }),
                options: Some(PushOptions { count: usize::MAX, bytes: usize::MAX }),
            }),
            ..record.clone()
        };
        for write in [AS_JSON, AS_ECS, AS_OCSF] {
            let mut text = Vec::new();
            write(&fullest, &mut text);
            let mut placed = Vec::new();
            let boot = Uuid::max().to_string();
            assert!(sealed::write_place(&boot, u64::MAX, &text, &mut placed));
            assert!(placed.len() < LINE_BOUND, "{}", placed.len());
            serde_json::from_slice::<serde_json::Value>(&placed).expect("JSON");
            serde_json::from_slice::<serde_json::Value>(&text).expect("JSON");
        }
        for (write, place) in schemas {
            let mut text = Vec::new();
            write(&record, &mut text);
            assert!(text.len() < LINE_BOUND, "{}", text.len());
            let value: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            let told: std::collections::BTreeSet<String> =
                serde_json::from_value(value.pointer(place).expect("named").clone()).expect("texts");
            assert!(
                told.iter().eq(std::collections::BTreeSet::from(cut.map(str::to_owned)).iter()),
                "{told:?}"
            );
        }
    }
}

#[test]
fn a_query_is_never_logged_and_a_password_is_masked() {
    let target = Target::http("Mirror.example").expect("a target");
    let http = |path: &'static str| {
        target_of(LoggedTarget::Http { target: &target, path: path.into(), query: false, tls: false })
    };
    assert_eq!(http("/a/b?token=s3cret"), "http://mirror.example:80/a/b");
    assert_eq!(http("/a#s3cret?x"), "http://mirror.example:80/a");
    assert_eq!(http(""), "http://mirror.example:80");
    let rows = [
        ("http://user:s3cret@evil.example/p?q=s3cret", "http://user:***@evil.example/p"),
        ("user:s3:cr@et@evil.example:443", "user:***@evil.example:443"),
        ("ok.example@evil.example:443", "ok.example@evil.example:443"),
        ("http://a.example/x:y@z", "http://a.example/x:y@z"),
        ("/foo?s3cret", "/foo"),
        ("a.example:443", "a.example:443"),
        ("", ""),
    ];
    for (sent, want) in rows {
        assert_eq!(target_of(LoggedTarget::Malformed(sent.into())), want, "{sent}");
    }
    assert_eq!(target_of(LoggedTarget::Malformed(Raw(b"\xffx\0"))), "\\xffx\0");
}

#[test]
fn a_dns_outage_does_not_look_like_an_attack() {
    let rows = [
        (Cause::from(Reason::HostNotAllowed), Event::Deny),
        (Cause::from(Reason::SniMismatch), Event::Deny),
        (Cause::from(Reason::BadRequest), Event::Deny),
        (Cause::from(Reason::ClientRateLimited), Event::Error),
        (Cause::from(Reason::DnsTimeout), Event::Error),
        (Cause::from(Reason::LogUnavailable), Event::Error),
        (Cause::ClientGone, Event::Error),
    ];
    for (cause, want) in rows {
        assert_eq!(Event::of(cause), want, "{cause:?}");
    }
}

#[test]
fn ids_are_version_7_and_sort_by_time() {
    let (first, second) = (new_id(), new_id());
    assert_eq!(first.get_version_num(), 7);
    assert!(first < second);
}

fn source(file: &str, line: u32) -> RuleSource {
    RuleSource { file: file.into(), line }
}
