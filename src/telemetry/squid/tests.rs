//! Lines as Squid writes them. What a real Squid writes for the same traffic is tested by `tests/e2e`.

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::config::ShortHash;
use crate::rules::{Mode, RuleSource};
use crate::telemetry::record::{FIELDS, Raw};
use crate::wire::auth_scheme::AuthScheme;
use crate::words::client::{ClientAddr, PeerAddr};
use crate::words::outcome::Decision;

const DEPLOYMENT: &str = "%{%Y/%m/%d %H:%M:%S}tg| %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn record(event: Event) -> Record<'static> {
    let time = "2022-08-31T07:12:14.034Z".parse().expect("a time");
    let id = "0195507d-1a00-7000-8000-000000000001".parse().expect("an id");
    Record {
        client: Some(ClientAddr::new(address("192.168.13.79:40000"))),
        duration: Some(Duration::from_millis(1_234)),
        ..Record::new(event, time, id, "proxy")
    }
}

fn line_of(format: &str, record: &Record<'_>) -> String {
    let squid = Squid::new(Logformat::parse(format).expect("a format"), None, Arc::default());
    let mut out = Vec::new();
    squid.write(record, &mut out);
    String::from_utf8(out).expect("ASCII")
}

fn target(text: &str) -> Target {
    Target::connect(text).expect("a target")
}

#[test]
fn the_number_of_a_line_goes_on_in_the_format_after_a_reload() {
    let lines = Arc::default();
    let numbered = |format| Squid::new(Logformat::parse(format).expect("a format"), None, Arc::clone(&lines));
    let mut out = Vec::new();
    let record = record(Event::Close);
    numbered("%sn").write(&record, &mut out);
    numbered("line %sn").write(&record, &mut out);
    assert_eq!(out, b"0\nline 1\n");
}

#[test]
fn lines_are_those_of_the_deployment_that_it_replaces() {
    let (allowed, denied) = (target("www.tis.co.jp:443"), target("www.google.com:443"));
    let plain = target("mirror.example:80");
    let close = Record {
        method: Some("CONNECT".into()),
        target: Some(LoggedTarget::Connect(&allowed)),
        status: Some(200),
        upstream: Some(address("163.44.161.163:443")),
        received: Some(46_927),
        reply: Some(39),
        ending: Some(Ending::ClientClosed),
        ..record(Event::Close)
    };
    let deny = Record {
        method: Some("CONNECT".into()),
        target: Some(LoggedTarget::Connect(&denied)),
        status: Some(403),
        reason: Some(Reason::HostNotAllowed.into()),
        reply: Some(3867),
        ..record(Event::Deny)
    };
    let http = Record {
        method: Some("GET".into()),
        target: Some(LoggedTarget::Http { target: &plain, path: "/a/b".into(), query: true, tls: false }),
        status: Some(200),
        upstream: Some(address("[2001:db8::1]:80")),
        received: Some(312),
        content_type: Some("text/html; charset=utf-8".into()),
        identity: Some("user:push user"),
        ..record(Event::Http)
    };
    let rows: &[(Record<'_>, &str)] = &[
        (
            close.clone(),
            "192.168.13.79 TCP_TUNNEL/200 46966 CONNECT www.tis.co.jp:443 - HIER_DIRECT/163.44.161.163 -",
        ),
        (
            deny.clone(),
            "192.168.13.79 TCP_DENIED/403 3867 CONNECT www.google.com:443 - HIER_NONE/- text/html",
        ),
        (
            http.clone(),
            "192.168.13.79 TCP_MISS/200 312 GET http://mirror.example/a/b? push user HIER_DIRECT/2001:db8::1 text/html",
        ),
        (
            Record { ending: Some(Ending::ClientReset), ..http.clone() },
            "192.168.13.79 TCP_MISS_ABORTED/200 312 GET http://mirror.example/a/b? push user HIER_DIRECT/2001:db8::1 text/html",
        ),
        (
            Record {
                target: None,
                method: None,
                status: Some(400),
                reason: Some(Reason::BadRequest.into()),
                ..deny.clone()
            },
            "192.168.13.79 NONE_NONE/400 3867 NONE error:invalid-request - HIER_NONE/- text/html",
        ),
        (
            Record {
                target: None,
                method: None,
                status: None,
                reply: None,
                reason: Some(Reason::TlsHandshakeFailed.into()),
                ..deny.clone()
            },
            "192.168.13.79 NONE_NONE/000 0 NONE error:transaction-end-before-headers - HIER_NONE/- -",
        ),
        (
            Record { status: Some(200), reason: Some(Reason::SniMismatch.into()), ..deny.clone() },
            "192.168.13.79 TCP_DENIED/200 3867 CONNECT www.google.com:443 - HIER_NONE/- -",
        ),
        (
            Record {
                event: Event::Error,
                status: Some(502),
                reason: Some(Reason::ConnectRefused.into()),
                reply: Some(0),
                ..close.clone()
            },
            "192.168.13.79 NONE_NONE/502 46927 CONNECT www.tis.co.jp:443 - HIER_DIRECT/163.44.161.163 -",
        ),
        (
            Record {
                event: Event::Error,
                status: Some(502),
                reason: Some(Reason::DnsFailed.into()),
                upstream: None,
                ..http.clone()
            },
            "192.168.13.79 TCP_MISS/502 312 GET http://mirror.example/a/b? push user HIER_NONE/- text/html",
        ),
        (
            Record { event: Event::Error, status: None, reason: Some(Cause::ClientGone), ..close.clone() },
            "192.168.13.79 NONE_NONE/000 46966 CONNECT www.tis.co.jp:443 - HIER_DIRECT/163.44.161.163 -",
        ),
        (
            Record {
                event: Event::Error,
                status: Some(429),
                reason: Some(Reason::ClientRateLimited.into()),
                ..deny
            },
            "192.168.13.79 TCP_DENIED/429 3867 CONNECT www.google.com:443 - HIER_NONE/- -",
        ),
    ];
    for (record, want) in rows {
        assert_eq!(line_of(DEPLOYMENT, record), format!("2022/08/31 07:12:14| {want}\n"));
    }
    assert_eq!(
        line_of(NATIVE, &close),
        "1661929934.034   1234 192.168.13.79 TCP_TUNNEL/200 46966 CONNECT www.tis.co.jp:443 - HIER_DIRECT/163.44.161.163 -\n"
    );
}

/// A field that Squid has no code for is a note.
#[test]
fn every_field_of_a_record_has_a_code() {
    // Every field by its own code, or else by the note of its name.
    const CODES: [(&str, &str); 14] = [
        ("time", "%ts"),
        ("id", "%master_xaction"),
        ("client", "%>a:%>p"),
        ("identity", "%un"),
        ("method", "%rm"),
        ("target", "%ru"),
        ("sni", "%ssl::>sni"),
        ("reason", "%err_code"),
        ("upstream", "%<a:%<p"),
        ("upstream_local", "%<la:%<lp"),
        ("status", "%>Hs"),
        ("duration_ms", "%tr"),
        ("dns_ms", "%dt"),
        ("user_agent", "%{User-Agent}>h"),
    ];
    let (to, source) = (target("a.example:443"), RuleSource { file: "egressd.yaml".into(), line: 12 });
    let full = Record {
        peer: Some(PeerAddr::new(address("192.0.2.9:9"))),
        identity: Some("user:gitaly"),
        method: Some("CONNECT".into()),
        target: Some(LoggedTarget::Connect(&to)),
        sni: Some("a.example".into()),
        policy: Some("gitaly"),
        mode: Some(Mode::Enforce),
        rule: Some("*.example"),
        rule_source: Some(&source),
        decision: Some(Decision::Allow),
        reason: Some(Reason::AuthRequired.into()),
        upstream: Some(address("192.0.2.1:443")),
        upstream_local: Some(address("192.0.2.2:5000")),
        status: Some(407),
        sent: Some(11),
        received: Some(22),
        dns: Some(Duration::from_millis(1)),
        connect: Some(Duration::from_micros(2_034)),
        ending: Some(Ending::ClientClosed),
        user_agent: Some("git/2.47".into()),
        config: Some(ShortHash([1; 6])),
        instance: Some("egressd-0"),
        protocol: Some(crate::words::client::Protocol::Socks5),
        original: Some(address("192.0.2.7:443")),
        tunnel: Some(Uuid::nil()),
        suppressed: Some(3),
        auth_scheme: Some(AuthScheme::Negotiate),
        ..record(Event::Deny)
    };
    for name in FIELDS.iter().map(|field| field.name).filter(|name| !["cut", "git", "aws"].contains(name)) {
        let code = CODES.iter().find(|(field, _)| *field == name).map(|(_, code)| (*code).to_owned());
        let code = code.unwrap_or_else(|| format!("%{{{name}}}note"));
        let line = line_of(&code, &full);
        assert!(!line.starts_with('-'), "{name}: {code}: {line}");
    }
    let rows = [
        ("%{auth_scheme}note", "Negotiate\n"),
        ("%{sent}note %{received}note", "11 22\n"),
        ("%{connect_ms}note", "2.034\n"),
    ];
    for (format, want) in rows {
        assert_eq!(line_of(format, &full), want, "{format}");
    }
    assert_eq!(line_of("%{auth_scheme}note %{connect_ms}note", &record(Event::Deny)), "- -\n");
}

#[test]
fn what_has_not_ended_has_no_line() {
    for event in [Event::Open, Event::Progress] {
        assert_eq!(line_of(DEPLOYMENT, &record(event)), "");
    }
}

#[test]
fn fields_are_padded_and_cut_as_squid_does() {
    let record = record(Event::Deny);
    let rows = [
        ("%16>a|", "   192.168.13.79|\n"),
        ("%-16>a|", "192.168.13.79   |\n"),
        ("%016>a|", "   192.168.13.79|\n"),
        ("%8tr|", "    1234|\n"),
        ("%08tr|", "00001234|\n"),
        ("%-08tr|", "1234    |\n"),
        ("%03dt|", "  -|\n"),
        ("%.3>a|", "192|\n"),
        ("%5.3>a|", "  192|\n"),
        ("%{%%H%H}tg %tg", "%H07 31/Aug/2022:07:12:14 +0000\n"),
        ("%ts.%03tu %tS", "1661929934.034 1661929932.800\n"),
        ("%sn %sn 100%%", "0 0 100%\n"),
        ("%master_xaction", "0195507d-1a00-7000-8000-000000000001\n"),
        ("%{listener}note %{policy}note %{suppressed}note %ui", "proxy - - -\n"),
    ];
    for (format, want) in rows {
        assert_eq!(line_of(format, &record), want, "{format}");
    }
}

/// As Debian's Squid 5.7 wrote them, except for bytes that are not printable ASCII between quotes and in the raw form.
#[test]
fn a_strangers_bytes_are_quoted_as_squid_does() {
    let agent = "a\tb \"q\" \\ %41 [x] \u{e9} ~{}|^`<>#;?'$";
    let record = Record { user_agent: Some(agent.into()), ..record(Event::Deny) };
    let rows = [
        (
            "%{User-Agent}>h",
            "a%09b%20%22q%22%20%5C%20%41%20%5Bx%5D%20%C3%A9%20%7E%7B%7D%7C%5E%60%3C%3E%23;?%27$",
        ),
        (
            "%#{User-Agent}>h",
            "a%09b%20%22q%22%20%5C%20%2541%20%5Bx%5D%20%C3%A9%20%7E%7B%7D%7C%5E%60%3C%3E%23;?%27$",
        ),
        ("%[{User-Agent}>h", "a%09b \"q\" \\\\ %2541 %5bx%5d %c3%a9 ~{}|^`<>#;?'$"),
        ("%\"{User-Agent}>h", "a\\tb \\\"q\\\" \\\\ %41 [x] \\xc3\\xa9 ~{}|^`<>#;?'$"),
        ("%'{User-Agent}>h", "a%09b \"q\" \\ %41 [x] %C3%A9 ~{}|^`<>#;?'$"),
    ];
    for (format, want) in rows {
        assert_eq!(line_of(format, &record), format!("{want}\n"), "{format}");
    }
}

#[test]
fn a_password_and_a_query_are_not_told() {
    let raw = b"http://user:secret@evil.example/a b?token=1";
    let record = Record { target: Some(LoggedTarget::Malformed(Raw(raw))), ..record(Event::Deny) };
    assert_eq!(line_of("%ru", &record), "http://user:***@evil.example/a%20b\n");
}

#[test]
fn a_line_stays_under_its_bound_and_says_that_it_was_cut() {
    let long = "x".repeat(100_000);
    let record = Record { user_agent: Some(long.as_str().into()), ..record(Event::Deny) };
    let one = line_of("%{User-Agent}>h end", &record);
    assert!(one.ends_with("x... end\n") && one.len() < 3000, "{}", one.len());
    let many = line_of(&"%{User-Agent}>h ".repeat(20), &record);
    assert!(many.len() < LINE_BOUND && many.ends_with("...\n"), "{}", many.len());
}

proptest! {
    #[test]
    fn no_bytes_break_a_line_or_leave_ascii(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        quoting in prop::sample::select(vec!["", "\"", "[", "#", "'"]),
    ) {
        let record = Record {
            user_agent: Some(Raw(&bytes)),
            method: Some(Raw(&bytes)),
            target: Some(LoggedTarget::Malformed(Raw(&bytes))),
            sni: Some(Raw(&bytes)),
            content_type: Some(Raw(&bytes)),
            ..record(Event::Http)
        };
        let format = format!("%{quoting}{{User-Agent}}>h %{quoting}rm %{quoting}ru %{quoting}ssl::>sni %{quoting}mt");
        let line = line_of(&format, &record);
        let body = line.strip_suffix('\n').expect("a line");
        prop_assert!(body.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }

    /// A value cannot break out of its quotes or brackets.
    #[test]
    fn a_quoted_value_ends_where_its_quotes_do(bytes in proptest::collection::vec(any::<u8>(), 1..100)) {
        let record = Record { user_agent: Some(Raw(&bytes)), ..record(Event::Deny) };
        let line = line_of("\"%{User-Agent}>h\"", &record);
        let inside = line.strip_prefix('"').and_then(|line| line.strip_suffix("\"\n")).expect("quoted");
        let mut escaped = false;
        for character in inside.chars() {
            prop_assert!(escaped || character != '"');
            escaped = character == '\\' && !escaped;
        }
        prop_assert!(!escaped);
        let line = line_of("[%{User-Agent}>h]", &record);
        let inside = line.strip_prefix('[').and_then(|line| line.strip_suffix("]\n")).expect("bracketed");
        prop_assert!(!inside.contains(['[', ']']));
    }
}

#[test]
fn t68_a_field_that_is_cut_ends_before_an_escape_that_would_not_fit() {
    for (format, agent, line) in [
        ("\"%\".5{User-Agent}>h\"", "abcd\"", "\"abcd\""),
        ("\"%\".6{User-Agent}>h\"", "abcd\"", "\"abcd\\\"\""),
        ("\"%\".5{User-Agent}>h\"", "abc\u{1b}", "\"abc\""),
        ("[%[.4{User-Agent}>h]", "ab]", "[ab]"),
        ("[%[.5{User-Agent}>h]", "ab]", "[ab%5d]"),
        ("%#.4{User-Agent}>h end", "ab\"", "ab end"),
    ] {
        let record = Record { user_agent: Some(agent.into()), ..record(Event::Http) };
        assert_eq!(line_of(format, &record), format!("{line}\n"), "{format}");
    }
}
