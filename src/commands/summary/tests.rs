//! What is added up, and that no value of a log escapes from its place.

use proptest::prelude::*;

use super::count::Bins;
use super::*;
use crate::commands::logs::Reader;
use crate::commands::logs::respelled::respelled;
use crate::telemetry::record::test_records::{AS_ECS, AS_JSON, AS_OCSF, any_record};

const LOG: &str = r#"{"time":"2026-03-01T12:00:00.000000Z","event":"open","client":"10.0.0.1:1","identity":"user:mirror","method":"CONNECT","target":"git.example:443","policy":"p","rule":"git.example","decision":"allow","reason":null,"sent":0,"received":0}
{"time":"2026-03-01T12:05:00.000000Z","event":"progress","client":"10.0.0.1:1","method":"CONNECT","target":"git.example:443","policy":"p","rule":"git.example","decision":"allow","sent":50,"received":5}
{"time":"2026-03-01T12:06:00.000000Z","event":"close","client":"10.0.0.1:1","identity":"user:mirror","method":"CONNECT","target":"git.example:443","policy":"p","rule":"git.example","decision":"allow","sent":1048576,"received":2048}
{"time":"2026-03-01T12:01:00.000000Z","event":"http","client":"10.0.0.2:1","method":"GET","target":"http://mirror.example:80/a","policy":"p","rule":"http://mirror.example","decision":"allow","sent":100,"received":4000}
{"time":"2026-03-01T12:02:00.000000Z","event":"open","client":"10.0.0.2:1","method":"POST","target":"http://mirror.example:80/a","policy":"p","decision":"allow","sent":null}
{"time":"2026-03-01T12:02:00.000000Z","event":"open","client":"10.0.0.2:1","method":"CONNECT","target":"new.example:443","policy":"r","decision":"would_deny","reason":"host_not_allowed","sent":0,"received":0}
{"time":"2026-03-01T12:03:00.000000Z","event":"deny","client":"10.0.0.9:1","method":"CONNECT","target":"evil.example:443","policy":"p","decision":"deny","reason":"host_not_allowed","sent":null,"received":null}
{"time":"2026-03-01T12:04:00.000000Z","event":"error","client":"10.0.0.1:1","method":"CONNECT","target":"git.example:443","policy":"p","decision":"allow","reason":"dns_timeout","sent":null}
{"time":"2026-03-01T12:04:00.000000Z","event":"deny","client":"10.0.0.9:1","method":"GET","target":"<script>alert(1)</script>\u001b[2J","reason":"bad_target","identity":"<b>&\"'\u202e"}
"#;

fn read(log: &str) -> Summary {
    let (mut reader, mut summary) = (Reader::new(), Summary::new());
    reader.read("a.log", log.as_bytes(), |entry| summary.add(entry)).expect("it can be read");
    assert_eq!(reader.malformed().count, 0);
    summary
}

#[test]
fn each_request_counts_once_and_bytes_where_it_ended() {
    let summary = read(LOG);
    let all = &summary.all;
    assert_eq!((all.passed, all.would_deny, all.denied, all.failed), (2, 1, 2, 1));
    assert_eq!((all.sent, all.received), (1_048_676, 6_048));
    assert_eq!(summary.without_end(), 1);
    let top: Vec<&str> = summary.reached.top(9, Tally::bytes).iter().map(|(name, _)| *name).collect();
    assert_eq!(top, ["git.example:443", "http://mirror.example:80", "new.example:443"]);
    assert_eq!(summary.refused.top(9, Tally::requests).len(), 1);
    assert_eq!(summary.reasons.get("host_not_allowed"), Some(&2));
}

/// What `doctor` is refused, it asked to be refused. What passes counts, from any client: each may send that User-Agent.
#[test]
fn what_doctor_asked_for_is_no_refusal_and_hides_nothing_that_passed() {
    let line = |event: &str, target: &str, agent: &str| {
        let decision = if event == "open" { "allow" } else { "deny" };
        format!(
            r#"{{"time":"2026-03-01T12:03:00.000000Z","event":"{event}","client":"10.0.0.9:1","method":"CONNECT","target":"{target}","policy":"p","decision":"{decision}","reason":"host_not_allowed","sent":null,"user_agent":"{agent}"}}"#
        ) + "\n"
    };
    let doctor = "egressd-doctor/0.1.0 (expects a refusal)";
    let log = [
        line("deny", "example.com:443", doctor),
        line("deny", "example.com:443", "curl/8.1"),
        line("deny", "egressd-doctor.invalid:443", "git/2.47"),
        line("open", "git.example:443", "egressd-doctor/0.1.0"),
        line("open", "evil.example:443", doctor),
    ]
    .concat();
    let summary = read(&log);
    assert_eq!((summary.all.passed, summary.all.denied), (2, 1));
    assert_eq!(summary.reasons.get("host_not_allowed"), Some(&1));
    let names = |counter: &Counter| -> Vec<String> {
        counter.top(9, Tally::requests).iter().map(|(name, _)| (*name).to_owned()).collect()
    };
    assert_eq!(names(&summary.refused), ["example.com:443"]);
    assert_eq!(names(&summary.reached), ["evil.example:443", "git.example:443"]);
    assert_eq!(
        names(&summary.doctor),
        ["egressd-doctor.invalid:443 from 10.0.0.9", "example.com:443 from 10.0.0.9"]
    );
    for told in [summary.to_text(9), summary.to_html(&[], jiff::Timestamp::UNIX_EPOCH, 9)] {
        assert!(told.contains("egressd-doctor.invalid:443 from 10.0.0.9"), "{told}");
        assert!(
            told.contains("or a client that sends its User-Agent")
                || told.contains("or by a client that sends")
        );
    }
    assert!(!read(LOG).to_text(9).contains("doctor"));
}

#[test]
fn records_that_the_log_left_out_count_by_reason() {
    let line = |reason: &str, suppressed: &str| {
        format!(
            r#"{{"time":"2026-03-01T12:03:00.000000Z","event":"error","client":"10.0.0.9:1","reason":"{reason}","suppressed":{suppressed}}}"#
        ) + "\n"
    };
    let log =
        [line("limit_reached", "null").repeat(32), line("limit_reached", "45"), line("dns_timeout", "null")]
            .concat();
    let summary = read(&log);
    assert_eq!(summary.reasons.get("limit_reached"), Some(&78));
    assert_eq!((summary.reasons.get("dns_timeout"), summary.all.failed), (Some(&1), 34));
    for told in [summary.to_text(9), summary.to_html(&[], jiff::Timestamp::UNIX_EPOCH, 9)] {
        assert!(told.contains("45 records are left out of the log because their rate is limited"), "{told}");
    }
    assert!(!read(LOG).to_text(9).contains("left out"));
    let most = line("limit_reached", &u64::MAX.to_string());
    assert_eq!(read(&(most.clone() + &most)).reasons.get("limit_reached"), Some(&u64::MAX));
}

/// A line of Squid has the bytes to the client alone, and no reason.
#[test]
fn what_squids_format_does_not_say_is_unknown() {
    let log = "1661929934.034   1234 10.0.0.1 TCP_TUNNEL/200 4096 CONNECT git.example:443 - HIER_DIRECT/203.0.113.9 -\n\
               1661929935.034      1 10.0.0.1 TCP_DENIED/403 3900 CONNECT evil.example:443 - HIER_NONE/- text/html\n\
               1661929936.034      1 10.0.0.1 TCP_DENIED/407 3900 CONNECT git.example:443 - HIER_NONE/- text/html\n\
               1661929937.034   6000 10.0.0.1 NONE/503 0 CONNECT gone.example:443 - HIER_NONE/- -\n";
    let text = read(log).to_text(9);
    for line in [
        "requests    4: 1 let through, 2 denied, 1 failed",
        "bytes       unknown sent, 4.0 KiB received",
        "unknown     4 requests are in Squid's format, which does not say",
        "         2         1    unknown    4.0 KiB  git.example:443",
        "         1         1        0 B        0 B  evil.example:443",
        "         2  unknown",
        "         1  auth_failed",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("host_not_allowed") && !text.contains("connect_refused"), "{text}");
    let both = read(&(log.to_owned() + LOG)).to_text(9);
    for line in ["requests    10: 3 let through by a rule, 1 by report mode", "bytes       1.0 MiB+ sent,"] {
        assert!(both.contains(line), "{line}\n{both}");
    }
    let page = read(log).to_html(&["access.log".to_owned()], jiff::Timestamp::UNIX_EPOCH, 9);
    assert!(page.contains("unknown</b> sent") && page.contains("</i>1</b> let through<"), "{page}");
    assert!(!read(LOG).to_text(9).contains("unknown"));
}

#[test]
fn the_text_is_what_a_person_reads() {
    let want = r#"REPORT MODE policy r: 1 request was let through that enforce mode would have denied
time        2026-03-01T12:00:00Z to 2026-03-01T12:06:00Z
requests    6: 2 let through by a rule, 1 by report mode, 2 denied, 1 failed
bytes       1.0 MiB sent, 5.9 KiB received
tunnels     1 without an end in these logs: their bytes are not counted

  requests   refused       sent   received  targets reached, by bytes
         2         1    1.0 MiB    2.0 KiB  git.example:443
         1         0      100 B    3.9 KiB  http://mirror.example:80
                                            and 1 more

  requests   refused       sent   received  targets refused
         1         1        0 B        0 B  evil.example:443 (host_not_allowed; from 10.0.0.9; policy p)

  requests   refused       sent   received  clients, by bytes
         2         1    1.0 MiB    2.0 KiB  10.0.0.1
         2         0      100 B    3.9 KiB  10.0.0.2
                                            and 1 more

requests that were let through, by client and target
  10.0.0.2  10.0.0.1  target
         .         1  git.example:443
         1         .  http://mirror.example:80
         1         .  1 other target

  requests   refused       sent   received  identities, by bytes
         1         0    1.0 MiB    2.0 KiB  user:mirror
         1         1        0 B        0 B  <b>&\"\'\u{202e}

  requests   refused       sent   received  policies
         4         2    1.0 MiB    5.9 KiB  p
         1         0        0 B        0 B  r

  requests   refused       sent   received  last used             rules, by bytes
         1         0    1.0 MiB    2.0 KiB  2026-03-01T12:06:00Z  p: git.example
         1         0      100 B    3.9 KiB  2026-03-01T12:01:00Z  p: http://mirror.example

  requests  refused, would be refused, or failed, by reason
         2  host_not_allowed
         1  bad_target
         1  dns_timeout
"#;
    assert_eq!(read(LOG).to_text(2), want);
}

#[test]
fn the_page_fetches_nothing_runs_nothing_and_escapes_everything() {
    let logs = ["<img src=x>.log".to_owned()];
    let page = read(LOG).to_html(&logs, "2026-03-02T00:00:00Z".parse().expect("a time"), 20);
    for never in [
        "<script",
        "<img",
        "javascript:",
        "http-equiv=\"refresh",
        "src=\"",
        "href",
        "style=",
        "url(",
        "@import",
    ] {
        assert!(!page.contains(never), "{never}");
    }
    // Handlers of events.
    let mut attributes = page.split(" on").skip(1).filter_map(|rest| rest.split_once('='));
    assert!(!attributes.any(|(name, _)| name.bytes().all(|byte| byte.is_ascii_alphanumeric())), "{page}");
    assert!(page.contains("default-src 'none'; style-src 'sha256-"), "{page}");
    assert!(page.contains("&lt;b&gt;&amp;&quot;&#39;\\u{202e}"), "{page}");
    assert!(page.contains("&lt;img src=x&gt;.log"), "{page}");
    assert!(page.contains("<svg") && page.bytes().all(|byte| byte != 0x1b));
    let empty = Summary::new().to_html(&[], "2026-03-02T00:00:00Z".parse().expect("a time"), 20);
    assert!(empty.contains("no recorded request"), "{empty}");
}

fn open(time: &str, client: &str, target: &str, rest: &str) -> String {
    format!(
        r#"{{"time":"{time}.000000Z","event":"open","client":"{client}:1","method":"CONNECT","target":"{target}","decision":"allow",{rest}}}"#
    ) + "\n"
}

#[test]
fn who_went_where_is_a_table_of_clients_and_targets() {
    let rest = r#""policy":"p","rule":"*.example","reason":null"#;
    let mut log = String::new();
    for number in 0..30 {
        let (client, target) = (format!("10.0.0.{number}"), format!("<b>{number}.example:443"));
        log += &open("2026-03-01T12:00:00", &client, &target.replace("<b>", "t"), rest).repeat(number + 1);
    }
    let summary = read(&log);
    let page = summary.to_html(&[], jiff::Timestamp::UNIX_EPOCH, 20);
    let (_, table) = page.split_once("<table class=\"matrix\">").expect("a matrix");
    let (table, _) = table.split_once("</table>").expect("its end");
    assert_eq!(table.matches("scope=\"col\"").count(), 1 + 8 + 1, "{table}");
    assert_eq!(table.matches("scope=\"row\"").count(), 20 + 1, "{table}");
    assert!(table.contains("<span>22 others</span>") && table.contains(">10 other targets<"), "{table}");
    let cell = "<td class=\"s5\" title=\"10.0.0.29 to t29.example:443: 30 requests; 0 B\">30</td>";
    assert!(table.contains(cell), "{table}");
    let text = summary.to_text(2);
    for (cells, name) in [(["30", ".", "."], "t29.example:443"), ([".", ".", "406"], "28 other targets")] {
        let cells = cells.map(|cell| format!("  {cell:>9}")).concat();
        assert!(text.contains(&format!("\n{cells}  {name}\n")), "{text}");
    }
    let would = open("2026-03-01T12:00:00", "10.0.0.1", "a.example:443", r#""mode":"report""#)
        .replace("\"allow\"", "\"would_deny\"");
    let page = read(&would).to_html(&[], jiff::Timestamp::UNIX_EPOCH, 20);
    assert!(page.contains("s5 by-report\" title=\"10.0.0.1 to a.example:443: 1 request, 1 of them by report mode alone; 0 B\""), "{page}");
}

#[test]
fn why_a_target_was_refused_stands_beside_it() {
    let deny = |client: &str, target: &str, reason: &str, policy: &str| {
        let rest = format!(r#""policy":"{policy}","reason":"{reason}","sent":null"#);
        open("2026-03-01T12:00:00", client, target, &rest)
            .replace("\"allow\"", "\"deny\"")
            .replace("\"open\"", "\"deny\"")
    };
    let mut log = deny("10.0.0.1", "a.example:443", "host_not_allowed", "<ci>").repeat(2);
    for client in 1..9 {
        log += &deny(&format!("10.0.0.{client}"), "a.example:443", "port_not_allowed", "p");
    }
    let summary = read(&log);
    let want = "a.example:443 (port_not_allowed 8x, host_not_allowed 2x; from 10.0.0.1, 10.0.0.2, 10.0.0.3, …; policy <ci>, p)\n";
    assert!(summary.to_text(9).contains(want), "{}", summary.to_text(9));
    let page = summary.to_html(&[], jiff::Timestamp::UNIX_EPOCH, 9);
    for cell in [
        "port_not_allowed 8x, host_not_allowed 2x",
        "10.0.0.1, 10.0.0.2, 10.0.0.3, \\u{2026}",
        "&lt;ci&gt;, p",
    ] {
        assert!(page.contains(&format!("\">{cell}</td>")), "{cell}\n{page}");
    }
}

#[test]
fn a_rule_that_was_not_used_in_the_last_30_days_of_the_log_is_told_of() {
    let rule = |time: &str, rule: &str| {
        open(time, "10.0.0.1", "a.example:443", &format!(r#""policy":"p","rule":"{rule}","reason":null"#))
    };
    let denied = rule("2026-01-02T00:00:00", "evil.example")
        .replace("\"allow\"", "\"deny\"")
        .replace("\"open\"", "\"deny\"")
        .replace("null", "\"host_denied\"");
    let log = [
        rule("2026-01-01T00:00:00", "old<b>.example"),
        rule("2026-01-01T00:00:00", "new.example"),
        rule("2026-01-31T00:00:00", "new.example"),
        rule("2026-03-01T00:00:00", "*.example"),
        denied,
    ]
    .concat();
    let summary = read(&log);
    assert_eq!(
        summary.unused_rules().iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["p: old<b>.example", "p: deny evil.example"]
    );
    let text = summary.to_text(9);
    let want = "last used             rules unused for 30 days: review whether they are still needed\n2026-01-01T00:00:00Z  p: old<b>.example\n";
    assert!(text.contains(want), "{text}");
    let page = summary.to_html(&[], jiff::Timestamp::UNIX_EPOCH, 9);
    assert_eq!(page.matches("unused for 30 days</span>").count(), 2, "{page}");
    assert!(page.contains("<code>p: old&lt;b&gt;.example</code> (last used 2026-01-01T00:00:00Z)"), "{page}");
    assert!(!read(LOG).to_text(9).contains("unused for"));
}

#[test]
fn report_mode_is_told_of_first_and_loudly() {
    let line = |time: &str, policy: &str, mode: &str, decision: &str| {
        open(time, "10.0.0.1", "a.example:443", &format!(r#""policy":"{policy}","mode":"{mode}""#))
            .replace("\"allow\"", &format!("\"{decision}\""))
    };
    let early = line("2026-03-01T12:00:00", "<ci>", "report", "would_deny");
    let late = line("2026-03-02T12:00:00", "<ci>", "enforce", "allow");
    let quiet = line("2026-03-02T12:00:00", "quiet", "report", "allow");
    let was = "until 2026-03-01T12:00:00Z: 1 request was let through that enforce mode would have denied";
    for log in [early.clone() + &late, late.clone() + &early] {
        let (text, page) = (read(&log).to_text(9), read(&log).to_html(&[], jiff::Timestamp::UNIX_EPOCH, 9));
        assert!(text.starts_with(&format!("report mode policy <ci>, {was}\n")), "{text}");
        assert!(page.contains(&format!("<p class=\"badge past\"><strong>There was report mode</strong><br>policy &lt;ci&gt;, {was}</p>")), "{page}");
    }
    let log = early + &late + &quiet;
    let (text, page) = (read(&log).to_text(9), read(&log).to_html(&[], jiff::Timestamp::UNIX_EPOCH, 9));
    assert!(text.starts_with("REPORT MODE policy quiet: 0 requests were let through"), "{text}");
    assert!(page.contains("<p class=\"badge\"><strong>REPORT MODE: "), "{page}");
    assert!(!read(&late).to_text(9).to_lowercase().starts_with("report mode"));
}

/// They are part of their tunnel: no other table counts them, nor their bytes.
#[test]
fn requests_inside_tunnels_are_listed_for_themselves() {
    let line = |event: &str, method: &str, path: &str, rest: &str| {
        format!(
            r#"{{"time":"2026-03-01T12:01:00.000000Z","event":"{event}","client":"10.0.0.1:1","tunnel":"t","method":"{method}","target":"https://git.example:443{path}","policy":"p","rule":"git.example",{rest}}}"#
        ) + "\n"
    };
    let allow = r#""decision":"allow","reason":null,"sent":10,"received":2048"#;
    let deny = r#""decision":"deny","reason":"request_not_allowed","sent":0,"received":0"#;
    let log = [
        LOG.to_owned(),
        line("request", "GET", "/group/a/info", allow),
        line("request", "GET", "/group/b", allow),
        line("open", "POST", "/status", allow),
        line("request", "POST", "/status", allow),
        line(
            "request",
            "PUT",
            "/new",
            &allow.replace("\"allow\",\"reason\":null", "\"would_deny\",\"reason\":\"request_not_allowed\""),
        ),
        line("deny", "GET", "/group/c", deny),
        line("deny", "<b>", "/", deny),
        line("error", "GET", "/slow", r#""decision":"allow","reason":"upstream_timeout""#),
    ]
    .concat();
    let (text, before) = (read(&log).to_text(9), read(LOG).to_text(9));
    let inside = "inside      7 requests inside tunnels: 3 let through by a rule, 1 by report mode, 2 denied, 1 failed\n";
    assert!(text.contains(inside), "{text}");
    let (tables, of_inside) = text.split_at(before.len() + inside.len());
    assert_eq!(tables.replace(inside, ""), before, "nothing else changed");
    let want = r#"
  requests   refused       sent   received  reached inside tunnels, by requests
         3         1       20 B    4.0 KiB  GET https://git.example:443/group/**
         1         0       10 B    2.0 KiB  POST https://git.example:443/status
         1         0       10 B    2.0 KiB  PUT https://git.example:443/new

  requests   refused       sent   received  refused inside tunnels
         1         1        0 B        0 B  <b> https://git.example:443/
         1         1        0 B        0 B  GET https://git.example:443/slow

  requests  refused, would be refused, or failed inside tunnels, by reason
         3  request_not_allowed
         1  upstream_timeout
"#;
    assert_eq!(of_inside, want);
    let page = read(&log).to_html(&[], jiff::Timestamp::UNIX_EPOCH, 9);
    for part in [
        inside.trim_start_matches("inside").trim(),
        "Reached inside tunnels",
        "&lt;b&gt; https://git",
        "by reason",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(
        !page.contains("<b> https")
            && !read(LOG).to_html(&[], jiff::Timestamp::UNIX_EPOCH, 9).contains("inside tunnels")
    );
}

#[test]
fn numbers_read_well() {
    let rows = [
        (0, "0", "0 B"),
        (1023, "1,023", "1023 B"),
        (1024, "1,024", "1.0 KiB"),
        (1_048_575, "1,048,575", "1.0 MiB"),
        (u64::MAX, "18,446,744,073,709,551,615", "16.0 EiB"),
    ];
    for (value, plain, size) in rows {
        assert_eq!((text::number(value).as_str(), text::bytes(value).as_str()), (plain, size));
    }
}

#[test]
fn names_beyond_those_kept_are_added_up() {
    let mut counter = Counter::new(2);
    let one = Tally { denied: 1, ..Tally::default() };
    ["a", "b", "c", "a", "d"].iter().for_each(|name| counter.add(name, &one));
    assert_eq!((counter.len(), counter.beyond.denied), (2, 2));
}

proptest! {
    #[test]
    fn bars_stay_few_and_lose_nothing(times in proptest::collection::vec(prop_oneof![0_i64..100_000, 1_700_000_000_i64..1_800_000_000, 0..253_402_300_799_i64], 1..60)) {
        let mut bins = Bins::default();
        for time in &times {
            bins.add(&Tally { passed: 1, span: Some((*time, *time)), ..Tally::default() });
        }
        prop_assert!(bins.bins.len() <= 240);
        prop_assert_eq!(bins.bins.iter().map(|bin| bin.passed).sum::<u64>(), times.len() as u64);
        for (index, bin) in bins.bins.iter().enumerate() {
            let start = bins.start + bins.width * index as i64;
            if let Some((first, last)) = bin.span {
                prop_assert!(first >= start && last < start + bins.width);
            }
        }
    }
}

proptest! {
    /// A router may have spelled every line of the log in another way.
    #[test]
    fn a_log_in_another_spelling_adds_up_to_the_same(
        made in proptest::collection::vec((any_record(), 0..3usize, any::<u64>()), 1..20), seed in any::<u64>(),
    ) {
        let (mut plain, mut other) = (LOG.to_owned(), String::new());
        for (number, line) in (0..).zip(LOG.lines()) {
            other += &(respelled(line, seed.wrapping_add(number)) + "\n");
        }
        for (made, schema, seed) in &made {
            let mut line = Vec::new();
            made.with(|record| [AS_JSON, AS_ECS, AS_OCSF][*schema](record, &mut line));
            let line = String::from_utf8(line).expect("ASCII");
            other += &(respelled(&line, *seed) + "\n");
            plain += &line;
        }
        prop_assert_eq!(read(&other).to_text(99), read(&plain).to_text(99), "{}", other);
    }
}
