use super::*;
use crate::config;

const OLD: &str = r#"
policies:
  - name: p
    clients: {networks: [10.0.0.0/8]}
    private: [10.7.0.0/16]
    allow: [a.example, gone.example, b.example, private.example, http://plain.example]
"#;

const NEW: &str = r#"
policies:
  - name: p
    clients: {networks: [10.0.0.0/8]}
    allow: [a.example, {to: b.example, upload_limit: 5MiB}, private.example, added.example, http://plain.example]
"#;

fn policies(text: &str) -> Policies {
    config::load_str("c.yaml", text, |_| Ok(Vec::new())).expect("it is valid").config.policies
}

fn record(event: &str, method: &str, target: &str, upstream: &str) -> String {
    format!(
        r#"{{"time":"2026-01-01T00:00:00.000000Z","event":"{event}","client":"10.0.0.1:40000","peer":null,"identity":null,"method":"{method}","target":"{target}","upstream":{upstream},"status":200}}"#
    ) + "\n"
}

fn replay(log: &[u8]) -> Found {
    let (old, new) = (policies(OLD), policies(NEW));
    let mut replay = Replay::new(&old, &new, "2026-01-01T00:00:00Z".parse().expect("a moment"), &|_| true);
    // A reader that gives little at a time: lines are put together over any cut.
    replay.read("a.log", io::BufReader::with_capacity(7, log)).expect("it can be read");
    replay.finish()
}

#[test]
fn each_request_is_counted_once_and_only_what_differs_is_kept() {
    let log = [
        record("open", "CONNECT", "a.example:443", "null"),
        record("open", "CONNECT", "gone.example:443", "\"52.94.0.1:443\""),
        record("progress", "CONNECT", "gone.example:443", "\"52.94.0.1:443\""),
        record("close", "CONNECT", "gone.example:443", "\"52.94.0.1:443\""),
        record("open", "CONNECT", "gone.example:443", "null"),
        record("deny", "CONNECT", "added.example:443", "null"),
        record("deny", "CONNECT", "nowhere.example:443", "null"),
        record("open", "CONNECT", "b.example:443", "null"),
        record("open", "CONNECT", "private.example:443", "\"10.7.0.1:443\""),
        record("open", "POST", "http://plain.example:80/path", "null"),
        record("http", "POST", "http://plain.example:80/path", "null"),
        record("error", "CONNECT", "a.example:443", "null"),
    ]
    .concat();
    let found = replay(log.as_bytes());
    assert_eq!((found.requests, found.malformed.count, found.unjudged), (9, 0, 0));
    let told = |turn| -> Vec<String> {
        found
            .of(turn)
            .iter()
            .map(|(request, seen)| format!("{} {request}: {}", seen.count, seen.new))
            .collect()
    };
    let denied = told(Turn::NewlyDenied);
    let want = [
        "2 10.0.0.1 gone.example:443: deny host_not_allowed: no rule of policy `p` names gone.example",
        "1 10.0.0.1 private.example:443: deny address_prohibited: 10.7.0.1: ",
    ];
    assert_eq!(denied.len(), want.len(), "{denied:?}");
    assert!(denied.iter().zip(want).all(|(told, want)| told.starts_with(want)), "{denied:?}");
    assert_eq!(
        told(Turn::NewlyAllowed),
        ["1 10.0.0.1 added.example:443: allow as https by policy p, `added.example` (c.yaml:5)"]
    );
    // Every request that `private` no longer opens is decided differently, whether it was dialled or not.
    assert_eq!(told(Turn::Otherwise).len(), 3);
    assert_eq!(found.count(Turn::NewlyDenied), (3, 2));
}

#[test]
fn a_line_that_is_not_a_record_is_counted_and_never_fatal() {
    let good = record("open", "CONNECT", "gone.example:443", "null");
    let long = "x".repeat(100_000);
    type Counts = (u64, u64, u64);
    let rows: &[(&[u8], Counts)] = &[
        (b"", (0, 0, 0)),
        (b"\n\n", (0, 0, 0)),
        (b"not json\n", (0, 1, 0)),
        (b"[1]\n{}\n{\"event\":7}\n", (0, 3, 0)),
        (b"{\"event\":\"other\"}\n", (0, 1, 0)),
        (b"{\"event\":\"deny\"}\n", (0, 0, 1)),
        (
            b"{\"event\":\"deny\",\"client\":\"10.0.0.1:1\",\"method\":\"CONNECT\",\"target\":\"/foo\"}\n",
            (0, 0, 1),
        ),
        (b"\xff\xfe\n", (0, 1, 0)),
        (b"{\"event\":\"open\"", (0, 1, 0)),
    ];
    for (log, want) in rows {
        let found = replay(&[log, good.as_bytes()].concat());
        let mut want = *want;
        if log.last().is_none_or(|byte| *byte == b'\n') {
            want.0 += 1; // the good line after it
        }
        assert_eq!(
            (found.requests, found.malformed.count, found.unjudged),
            want,
            "{:?}",
            String::from_utf8_lossy(log)
        );
    }
    let found = replay(format!("{long}\n{good}").as_bytes());
    assert_eq!((found.requests, found.malformed.count), (1, 1), "a line that is too long is skipped whole");
}

/// A CONNECT to an address whose name decided is asked for as it was: the address first, and then the name.
#[test]
fn what_was_decided_by_a_name_is_decided_so_again() {
    let text = "policies: [{name: p, addresses_by_sni: true, allow: [a.example], deny: [203.0.113.66]}]\n";
    let by_name = policies(text);
    let line = |protocol: &str, original: &str| {
        let known = record("open", "CONNECT", "a.example:443", "null");
        known
            .replace("\"peer\"", &format!("\"protocol\":\"{protocol}\",\"original\":\"{original}\",\"peer\""))
    };
    let log = [
        line("http", "203.0.113.7:443"),
        line("socks5", "203.0.113.9:443"),
        // What was redirected is decided by its name, whatever the address.
        line("transparent", "203.0.113.7:443"),
    ]
    .concat();
    let rows = [
        (text.to_owned(), 0),
        (text.replace("203.0.113.66", "203.0.113.9"), 1),
        (text.replace("addresses_by_sni: true", "addresses_by_sni: false"), 2),
        (text.replace("allow: [a.example]", "allow: [b.example]"), 3),
    ];
    for (text, denied) in rows {
        let new = policies(&text);
        let mut replay = Replay::new(&by_name, &new, Timestamp::UNIX_EPOCH, &|_| true);
        replay.read("a.log", log.as_bytes()).expect("it can be read");
        let found = replay.finish();
        assert_eq!((found.requests, found.count(Turn::NewlyDenied).0), (3, denied), "{text}");
    }
}

#[test]
fn the_distinct_requests_kept_are_bounded() {
    let (old, new) = (policies(OLD), policies("policies: [{name: p, allow: [x.example]}]\n"));
    let mut replay = Replay::new(&old, &new, Timestamp::UNIX_EPOCH, &|_| true);
    let count = MAX_KEPT + 50;
    let log: String = (0..count)
        .map(|n| {
            format!(
                "{{\"event\":\"open\",\"client\":\"10.0.{}.{}:1\",\"method\":\"CONNECT\",\"target\":\"a.example:443\"}}\n",
                n >> 8,
                n & 255
            )
        })
        .collect();
    replay.read("a.log", log.as_bytes()).expect("it can be read");
    let found = replay.finish();
    assert_eq!(found.count(Turn::NewlyDenied), (count as u64, MAX_KEPT));
}
