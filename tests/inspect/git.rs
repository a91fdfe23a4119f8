//! Requests to Git inside inspected tunnels, byte by byte: what decides them is read before any of it goes on, and what is refused is
//! told in the form that git prints.

use serde_json::json;

use crate::git_bodies::*;
use crate::reloads::reload;
use crate::support::{Egressd, TlsStream, Wire, until, write};
use crate::world::{Got, HOST, Site, World};

pub(crate) const OWN: &str = "jane-at-123456789012";
pub(crate) const RECEIVE: &str = "git-receive-pack";
pub(crate) const UPLOAD: &str = "git-upload-pack";
pub(crate) const PUSHES: &str = ", requests: [{git: [push], repositories: [/own], refs: [refs/heads/main, \"refs/tags/**\"], \
                      aws: {accounts: [\"123456789012\"]}}]";
pub(crate) const READS: &str = ", requests: [{git: [fetch], repositories: [/own], negotiation_limit: 4KiB}]";

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) site: Site,
    pub(crate) proxy: Egressd,
}

impl Scene {
    pub(crate) fn new(options: &str) -> Self {
        let world = World::new();
        let site = world.site();
        let proxy = world.egressd(&site, options);
        Scene { world, site, proxy }
    }

    pub(crate) fn inside(&self) -> Wire<TlsStream> {
        self.world.inside(&self.proxy, self.site.port())
    }

    /// A request to `/own`, with the fields that git sends and these.
    pub(crate) fn post(&self, service: &str, fields: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "POST /own/{service} HTTP/1.1\r\nHost: {HOST}:{}\r\nUser-Agent: git/2.39.5\r\n\
             Content-Type: application/x-{service}-request\r\nAccept: application/x-{service}-result\r\n{fields}\r\n",
            self.site.port()
        );
        [head.as_bytes(), body].concat()
    }

    pub(crate) fn with_length(&self, service: &str, fields: &str, body: &[u8]) -> Vec<u8> {
        self.post(service, &format!("{fields}Content-Length: {}\r\n", body.len()), body)
    }

    fn get(&self, path: &str, fields: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: {HOST}:{}\r\n{fields}\r\n", self.site.port())
    }

    /// The connection still serves.
    fn goes_on(&self, wire: &mut Wire<TlsStream>) {
        let before = self.site.got().len();
        wire.send(self.get(&format!("/own/info/refs?service={UPLOAD}"), &basic(OWN)));
        assert_eq!(wire.read_reply().status, 200);
        assert_eq!(self.site.got().len(), before + 1);
    }

    pub(crate) fn last(&self) -> Got {
        self.site.got().pop().expect("one")
    }

    fn denied(&self, reason: &str) -> crate::support::Record {
        self.proxy.record(|record| record["event"] == "deny" && record["reason"] == reason)
    }
}

fn content(got: &Got) -> Vec<u8> {
    match got.field("transfer-encoding") {
        Some(_) => unchunked(&got.body),
        None => got.body.clone(),
    }
}

#[test]
fn a_push_whose_every_change_fits_goes_on_byte_for_byte_and_its_record_says_what_it_changes() {
    let scene = Scene::new(PUSHES);
    let body = [&updates(&["refs/heads/main", "refs/tags/v1"])[..], b"PACK and the rest"].concat();
    let auth = basic(OWN);
    let chunks = format!("{auth}Transfer-Encoding: chunked\r\n");
    let mut wire = scene.inside();
    wire.send(scene.with_length(RECEIVE, &auth, &body));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.last().body, body);
    for size in [1, 7, 100, body.len()] {
        wire.send(scene.post(RECEIVE, &chunks, &chunked(&body, size)));
        assert_eq!(wire.read_reply().status, 200);
        assert_eq!(content(&scene.last()), body, "in chunks of {size}");
    }
    scene.goes_on(&mut wire);
    for record in ["open", "request"] {
        let record = scene.proxy.record(|r| r["event"] == record && !r["git"].is_null());
        record.assert_has(&json!({
            "decision": "allow", "reason": null,
            "git": {
                "operation": "push", "repository": "/own", "wants": null, "haves": null, "negotiated": null,
                "push_options": 0, "push_option_bytes": 0, "ref_count": 2,
                "refs": [
                    {"name": "refs/heads/main", "change": "update", "old": OLD, "new": NEW},
                    {"name": "refs/tags/v1", "change": "update", "old": OLD, "new": NEW},
                ],
            },
            "aws": {"account": "123456789012", "access_key": null, "service": "codecommit", "region": null},
        }));
    }
}

#[test]
fn a_list_is_read_wherever_it_is_cut() {
    let scene = Scene::new(PUSHES);
    let body = [&updates(&["refs/heads/main"])[..], b"PACK"].concat();
    let request = scene.with_length(RECEIVE, &basic(OWN), &body);
    let start = request.len() - body.len();
    let mut wire = scene.inside();
    for at in (0..body.len()).step_by(9) {
        let (one, other) = request.split_at(start + at);
        wire.send_in_pieces([one, other], std::time::Duration::from_millis(5));
        assert_eq!(wire.read_reply().status, 200, "cut at {at}");
        assert_eq!(scene.last().body, body);
    }
}

#[test]
fn a_push_that_is_refused_is_answered_as_git_prints_it_and_not_a_byte_of_it_arrives() {
    let scene = Scene::new(PUSHES);
    let body = [&updates(&["refs/heads/main", "refs/heads/other"])[..], &[b'p'; 300_000]].concat();
    let auth = basic(OWN);
    let chunks = format!("{auth}Transfer-Encoding: chunked\r\n");
    let mut wire = scene.inside();
    let requests =
        [scene.with_length(RECEIVE, &auth, &body), scene.post(RECEIVE, &chunks, &chunked(&body, 10_000))];
    for request in requests {
        // The first line comes before the pack was sent.
        let (start, rest) = request.split_at(request.len() - 200_000);
        wire.send(start);
        let head = wire.read_head();
        assert_eq!((head.status, head.phrase.as_str()), (200, "egressd: ref_not_allowed"));
        assert_eq!(head.header("content-type"), Some("application/x-git-receive-pack-result"));
        assert_eq!(head.header("connection"), None, "git would push again");
        let size = read_size(&mut wire);
        let first = String::from_utf8(wire.read_exact(size)).expect("text");
        assert_eq!(&first[4..], format!("\x02egressd: ref_not_allowed: {}", &first[31..]), "{first}");
        assert!(first.contains("refs/heads/other") && first.ends_with(")\n"), "{first}");
        assert_eq!(wire.read_exact(2), b"\r\n");
        wire.send(rest);
        let size = read_size(&mut wire);
        let report = String::from_utf8(wire.read_exact(size)).expect("text");
        let want = [
            line("unpack ok\n"),
            line("ng refs/heads/main egressd: ref_not_allowed, for another ref\n"),
            line("ng refs/heads/other egressd: ref_not_allowed\n"),
            b"0000".to_vec(),
        ]
        .concat();
        let banded = [line([b"\x01", &want[..]].concat()), b"0000".to_vec()].concat();
        assert_eq!(report.as_bytes(), banded);
        assert_eq!(wire.read_exact(7), b"\r\n0\r\n\r\n");
        assert!(scene.site.got().iter().all(|got| !got.head.starts_with("POST")));
        scene.goes_on(&mut wire);
    }
    let decisions: serde_json::Value =
        serde_json::from_str(&scene.proxy.get("/api/decisions").body).expect("JSON");
    let refused = &decisions["refused"][0];
    let recognised = "push of /own: update refs/heads/main and 1 more; by account 123456789012";
    assert_eq!((&refused["recognised"], &refused["count"]), (&json!(recognised), &json!(2)));
    assert!(
        refused["advice"].as_str().is_some_and(|advice| advice.contains("refs/heads/other")),
        "{refused}"
    );
    let record = scene.denied("ref_not_allowed");
    record.assert_has(&json!({"decision": "deny", "status": 200, "sent": null}));
    assert_eq!(record["git"]["refs"][1]["name"], "refs/heads/other");
    let counted = |change: &str, decision: &str| {
        let labels = [("change", change), ("decision", decision)];
        scene.proxy.metrics().sum("egressd_git_ref_changes_total", &labels)
    };
    assert_eq!((counted("update", "deny"), counted("update", "allow")), (4.0, 0.0));
}

fn read_size(wire: &mut Wire<TlsStream>) -> usize {
    let mut digits = Vec::new();
    while !digits.ends_with(b"\r\n") {
        digits.extend(wire.read_exact(1));
    }
    usize::from_str_radix(std::str::from_utf8(&digits).expect("ASCII").trim_end(), 16).expect("a size")
}

#[test]
fn another_account_or_repository_is_refused_with_its_refs_in_the_record() {
    let scene = Scene::new(PUSHES);
    let body = [&updates(&["refs/heads/main"])[..], b"PACK"].concat();
    let mut wire = scene.inside();
    wire.send(scene.with_length(RECEIVE, &basic("mallory-at-999999999999"), &body));
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.phrase.as_str()), (200, "egressd: account_not_allowed"));
    assert!(reply.body.contains("ng refs/heads/main egressd: account_not_allowed\n"), "{}", reply.body);
    let record = scene.denied("account_not_allowed");
    assert_eq!(record["aws"]["account"], "999999999999");
    assert_eq!(record["git"]["refs"][0]["name"], "refs/heads/main");
    let other = scene.with_length(RECEIVE, &basic(OWN), &body);
    wire.send(String::from_utf8(other).expect("text").replace("/own/", "/other/"));
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.phrase.as_str()), (200, "egressd: git_not_allowed"));
    assert_eq!(scene.denied("git_not_allowed")["git"]["repository"], "/other");
    // Git's probe of a push that is refused is answered as the server would: git then sends the push, and prints why.
    wire.send(scene.with_length(RECEIVE, &basic("mallory-at-999999999999"), b"0000"));
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    assert_eq!(scene.site.got().len(), 0);
    // Without a report git would take any 200 for success.
    let silent = list("side-band-64k", &[(OLD, NEW, "refs/heads/other")]);
    wire.send(scene.with_length(RECEIVE, &basic(OWN), &silent));
    scene.proxy.refused(wire, 403, "ref_not_allowed");
    assert_eq!(scene.site.got().len(), 0);
}

#[test]
fn discovery_without_credentials_is_asked_for_them_and_goes_nowhere() {
    let scene = Scene::new(PUSHES);
    let discovery = format!("/own/info/refs?service={RECEIVE}");
    let mut wire = scene.inside();
    wire.send(scene.get(&discovery, ""));
    let reply = wire.read_reply();
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"a.test\""));
    assert_eq!(scene.site.got().len(), 0);
    let record = scene.proxy.record(|record| record["event"] == "request" && record["status"] == 401);
    record.assert_has(&json!({"reason": null, "decision": "allow", "aws": null}));
    assert_eq!(record["git"]["repository"], "/own");
    // The same connection, with them; and the connection to the target that was opened for the tunnel.
    wire.send(scene.get(&discovery, &basic(OWN)));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!((scene.last().connection, scene.site.origin().seen().len()), (0, 1));
    // So is that of a repository that is not allowed: the refusal's record then says by whose credentials it came.
    wire.send(scene.get(&discovery.replace("own", "other"), ""));
    assert_eq!(wire.read_reply().status, 401);
    wire.send(scene.get(&discovery.replace("own", "other"), &basic("mallory-at-999999999999")));
    let id = scene.proxy.refused(wire, 403, "account_not_allowed").reply.id().to_owned();
    let record = scene.proxy.record(|record| record["id"] == id);
    assert_eq!(
        (&record["aws"]["account"], &record["git"]["repository"]),
        (&json!("999999999999"), &json!("/other"))
    );
    // Nobody is asked without end.
    let mut wire = scene.inside();
    for _ in 0..3 {
        wire.send(scene.get(&discovery, ""));
        assert_eq!(wire.read_reply().status, 401);
    }
    wire.send(scene.get(&discovery, ""));
    scene.proxy.refused(wire, 403, "account_not_allowed");
}

#[test]
fn a_probe_passes_and_a_client_that_waits_for_a_100_gets_one_from_egressd() {
    let scene = Scene::new(PUSHES);
    let auth = basic(OWN);
    let mut wire = scene.inside();
    wire.send(scene.with_length(RECEIVE, &auth, b"0000"));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.last().body, b"0000");
    let body = [&updates(&["refs/heads/main"])[..], b"PACK"].concat();
    let fields = format!("{auth}Expect: 100-continue\r\n");
    let request = scene.with_length(RECEIVE, &fields, &body);
    let (head, body) = request.split_at(request.len() - body.len());
    wire.send(head);
    assert_eq!(wire.read_head().status, 100);
    wire.send(body);
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!((scene.last().field("expect"), scene.last().body), (None, body.to_vec()));
}

#[test]
fn a_fetch_goes_on_inflated_and_says_nothing_of_the_client_where_only_reading_is_allowed() {
    let scene = Scene::new(READS);
    let mut wire = scene.inside();
    let fields = "Content-Encoding: gzip\r\nGit-Protocol: version=2\r\nAccept-Encoding: gzip, secret\r\nAccept-Language: secret\r\n\
                  Pragma: secret\r\nX-Secret: secret\r\nConnection: TE\r\nTE: trailers\r\n";
    let request = scene.with_length(UPLOAD, fields, &zipped(&fetch()));
    wire.send(&request);
    assert_eq!(wire.read_reply().status, 200);
    let got = scene.last();
    let text = String::from_utf8_lossy(&got.body).into_owned();
    assert!(!got.head.contains("secret") && !text.contains("secret"), "{} {text}", got.head);
    for (name, value) in [
        ("user-agent", Some("git/2.47.0-egressd")),
        ("git-protocol", Some("version=2")),
        ("accept-encoding", Some("gzip")),
        ("content-encoding", None),
        ("te", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(got.field(name), value, "{name}");
    }
    assert_eq!(
        text,
        String::from_utf8(fetch())
            .expect("text")
            .replace("0014agent=git/secret", "001cagent=git/2.47.0-egressd")
    );
    let record = scene.proxy.record(|record| record["event"] == "request");
    let git = &record["git"];
    assert_eq!((&git["operation"], &git["wants"], &git["haves"]), (&json!("fetch"), &json!(1), &json!(1)));
    assert_eq!(git["negotiated"], json!(fetch().len()));
    // Chunked, and of the first protocol; with the same connection.
    let first =
        [line(format!("want {OLD} thin-pack agent=git/secret\n")), b"0000".to_vec(), line("done\n")].concat();
    wire.send(scene.post(UPLOAD, "Transfer-Encoding: chunked\r\n", &chunked(&first, 10)));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.last().field("content-length"), Some(scene.last().body.len().to_string().as_str()));
    assert!(!String::from_utf8_lossy(&scene.last().body).contains("secret"));
}

#[test]
fn where_only_reading_is_allowed_a_push_and_too_long_a_fetch_are_refused_as_git_prints_it() {
    let scene = Scene::new(READS);
    let mut wire = scene.inside();
    let body = [&updates(&["refs/heads/main"])[..], b"PACK"].concat();
    wire.send(scene.with_length(RECEIVE, "", &body));
    let reply = wire.read_reply();
    assert!(reply.body.contains("ng refs/heads/main egressd: git_not_allowed\n"), "{}", reply.body);
    let have = line(format!("have {NEW}\n"));
    let long = [line(format!("want {OLD}\n")), b"0000".to_vec(), have.repeat(100), line("done\n")].concat();
    assert!(long.len() > 4096);
    for (fields, body) in [
        ("", long.clone()),
        ("Content-Encoding: gzip\r\n", zipped(&long)),
        ("Content-Encoding: gzip\r\n", zipped(&vec![b'0'; 50 << 20])),
    ] {
        wire.send(scene.with_length(UPLOAD, fields, &body));
        let reply = wire.read_reply();
        assert_eq!((reply.status, reply.phrase.as_str()), (200, "egressd: git_not_allowed"));
        assert_eq!(reply.header("content-type"), Some("application/x-git-upload-pack-result"));
        assert!(reply.body[4..].starts_with("ERR egressd: git_not_allowed: "), "{}", reply.body);
        assert!(reply.body.contains("`negotiation_limit`"), "{}", reply.body);
    }
    assert_eq!(scene.site.got().len(), 0);
    let one_more = chunked(&long, 50);
    wire.send(scene.post(UPLOAD, "Transfer-Encoding: chunked\r\n", &one_more));
    assert!(wire.read_reply().body.contains("`negotiation_limit`"));
    wire.send(scene.get(&format!("/own/info/refs?service={UPLOAD}"), ""));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.site.got().len(), 1);
    // What push would ask first.
    wire.send(scene.get(&format!("/own/info/refs?service={RECEIVE}"), ""));
    scene.proxy.refused(wire, 403, "git_not_allowed");
}

#[test]
fn a_small_fetch_takes_what_it_can_become_and_not_what_the_largest_could() {
    let world = World::new();
    let site = world.site();
    let text = World::config(site.port(), &READS.replace("4KiB", "16MiB")) + "limits: {memory: 32MiB}\n";
    let proxy = world.start(&text);
    let scene = Scene { world, site, proxy };
    let mut wire = scene.inside();
    wire.send(scene.with_length(
        UPLOAD,
        "Content-Encoding: gzip\r\nGit-Protocol: version=2\r\n",
        &zipped(&fetch()),
    ));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.site.got().len(), 1);
}

#[test]
fn a_field_that_the_signature_covers_is_not_written_anew_but_the_request_is_refused() {
    let mut scene = Scene::new(READS);
    let signing = |name: &str| {
        format!(
            "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/codecommit/aws4_request, \
             SignedHeaders=host;{name}, Signature=00\r\nUser-Agent: git/mine\r\nGit-Protocol: version=2\r\n"
        )
    };
    let discovery = format!("/own/info/refs?service={UPLOAD}");
    // What it signs, what is sent beside it, and whether that would be changed: `accept` is not there, and would be.
    for (name, fields, changed) in [
        ("user-agent", "", true),
        ("accept", "", true),
        ("accept", "Accept: text/plain\r\n", true),
        ("accept", "Accept: */*\r\n", false),
        ("accept", "Accept: */*\r\nAccept: */*\r\n", true),
        ("cache-control", "Cache-Control: no-cache\r\n", true),
        ("pragma", "Pragma: no-cache\r\n", false),
        ("git-protocol", "", false),
        ("x-amz-date", "", false),
    ] {
        let mut wire = scene.inside();
        wire.send(scene.get(&discovery, &(signing(name) + fields)));
        if changed {
            let refused = scene.proxy.refused(wire, 403, "request_not_allowed");
            let said = format!("signature covers {name},");
            assert!(refused.reply.body.contains(&said), "{name} {fields}: {}", refused.reply.body);
        } else {
            assert_eq!(wire.read_reply().status, 200, "{name} {fields}");
        }
    }
    assert_eq!(scene.site.got().len(), 4);
    // Report mode lets it pass as it was signed, and writes the others.
    let report = World::config(scene.site.port(), READS)
        .replace("  - name: test\n", "  - name: test\n    mode: report\n");
    scene.proxy = scene.world.start(&report);
    let mut wire = scene.inside();
    let fields = signing("user-agent;git-protocol").replace("version=2", "version=1:version=2");
    wire.send(scene.get(&discovery, &fields));
    assert_eq!(wire.read_reply().status, 200);
    let got = scene.last();
    for (name, value) in
        [("user-agent", "git/mine"), ("git-protocol", "version=1:version=2"), ("accept", "*/*")]
    {
        assert_eq!(got.field(name), Some(value));
    }
}

#[test]
fn a_batch_of_large_files_is_judged_by_its_operation() {
    let scene = Scene::new(READS);
    let post = |body: &str| {
        let mut wire = scene.inside();
        wire.send(format!(
            "POST /own.git/info/lfs/objects/batch HTTP/1.1\r\nHost: {HOST}:{}\r\nContent-Type: application/vnd.git-lfs+json\r\n\
             Accept: application/vnd.git-lfs+json\r\nContent-Length: {}\r\n\r\n{body}",
            scene.site.port(),
            body.len()
        ));
        wire
    };
    let download = r#"{"operation":"download","objects":[]}"#;
    assert_eq!(post(download).read_reply().status, 200);
    assert_eq!(scene.last().body, download.as_bytes());
    scene.proxy.refused(post(&download.replace("download", "upload")), 403, "git_not_allowed");
    scene.proxy.refused(post(r#"{"operation":"download","Operation":"upload"}"#), 403, "git_not_allowed");
    assert_eq!(scene.site.got().len(), 1);
    assert_eq!(scene.proxy.record(|r| r["event"] == "deny")["git"]["operation"], "push");
}

#[test]
fn a_push_under_way_is_judged_again_with_its_changes() {
    let world = World::new();
    let site = world.site();
    let config =
        |refs: &str| World::config(site.port(), &PUSHES.replace("[refs/heads/main, \"refs/tags/**\"]", refs));
    let proxy = world.start(&config("[refs/heads/main]"));
    let scene = Scene { world, site, proxy };
    let config = |refs: &str| {
        World::config(scene.site.port(), &PUSHES.replace("[refs/heads/main, \"refs/tags/**\"]", refs))
    };
    let body = [&updates(&["refs/heads/main"])[..], &[b'p'; 1_000]].concat();
    let request = scene.with_length(RECEIVE, &basic(OWN), &body);
    let mut wire = scene.inside();
    wire.send(&request[..request.len() - 100]);
    scene.proxy.record(|record| record["event"] == "open" && record["git"]["operation"] == "push");
    // Another ref: nothing is said of this one.
    reload(&scene.proxy, &config("[refs/heads/main, refs/heads/more]"));
    // Not this one any more.
    reload(&scene.proxy, &config("[refs/heads/more]"));
    let ended =
        scene.proxy.record(|record| record["ending"] == "policy_revoked" || record["event"] == "deny");
    assert_eq!(ended["git"]["refs"][0]["name"], "refs/heads/main");
    scene.site.origin().wait_ended(0);
    assert_eq!(scene.site.got().len(), 0);
}

#[test]
fn a_push_that_went_on_unread_ends_where_a_reload_brings_a_rule_that_judges_its_refs() {
    let scene = Scene::new(", requests: [{aws: {accounts: [\"123456789012\"]}}]");
    let body = [&updates(&["refs/heads/other"])[..], &[b'p'; 1_000]].concat();
    let request = scene.with_length(RECEIVE, &basic(OWN), &body);
    let mut wire = scene.inside();
    wire.send(&request[..request.len() - 100]);
    scene.proxy.record(|record| record["event"] == "open" && record["method"] == "POST");
    reload(&scene.proxy, &World::config(scene.site.port(), PUSHES));
    scene.proxy.record(|record| record["reason"] == "git_not_allowed" && record["method"] == "POST");
    scene.site.origin().wait_ended(0);
    assert_eq!(scene.site.got().len(), 0);
}

#[test]
fn credentials_of_a_file_are_judged_sent_and_recorded_in_place_of_the_clients() {
    let world = World::new();
    let site = world.site();
    let directory = world.directory();
    write(&directory.path().join("push.cred"), format!("{OWN}:secret\n"));
    let options = PUSHES.replace("aws:", "credentials_file: push.cred, aws:");
    let proxy = Egressd::start_in(directory, &World::config(site.port(), &options));
    let scene = Scene { world, site, proxy };
    let mut wire = scene.inside();
    // Git's first request has none: it needs none.
    wire.send(scene.get(&format!("/own/info/refs?service={RECEIVE}"), ""));
    assert_eq!(wire.read_reply().status, 200);
    let body = [&updates(&["refs/heads/main"])[..], b"PACK"].concat();
    wire.send(scene.with_length(RECEIVE, &basic("mallory-at-999999999999"), &body));
    assert_eq!(wire.read_reply().status, 200);
    let sent = basic(OWN);
    for got in scene.site.got() {
        assert_eq!(got.field("authorization"), Some(sent.trim_start_matches("Authorization: ").trim_end()));
    }
    let push = scene.proxy.record(|record| record["event"] == "request" && record["git"]["ref_count"] == 1);
    assert_eq!(
        push["aws"],
        json!({"account": "123456789012", "access_key": null, "service": "codecommit", "region": null})
    );
    // The answer to a batch would give the client others.
    wire.send(format!(
        "POST /own.git/info/lfs/objects/batch HTTP/1.1\r\nHost: {HOST}:{}\r\nContent-Length: 37\r\n\r\n{}",
        scene.site.port(),
        r#"{"operation":"download","objects":[]}"#
    ));
    let reply = wire.read_reply();
    assert_eq!(reply.status, 403, "{reply:?}");
}

#[test]
fn in_report_mode_everything_goes_on_as_it_came_and_its_record_says_what_would_be_refused() {
    let world = World::new();
    let site = world.site();
    let of_mode = |options: &str| {
        World::config(site.port(), options).replace("  - name: test\n", "  - name: test\n    mode: report\n")
    };
    let proxy =
        world.start(&of_mode(", requests: [{git: [push], repositories: [/own], refs: [refs/heads/main]}]"));
    let reads = world.start(&of_mode(READS));
    let scene = Scene { world, site, proxy };
    let auth = basic(OWN);
    let rows = [
        ("ref_not_allowed", updates(&["refs/heads/other"])),
        (
            "git_not_allowed",
            [updates(&["refs/heads/main"]), updates(&["refs/heads/main"])].concat().replace_flush(),
        ),
        ("git_not_allowed", b"no list".to_vec()),
    ];
    let mut wire = scene.inside();
    for (reason, body) in rows {
        let body = chunked(&body, 40);
        wire.send(scene.post(RECEIVE, &format!("{auth}Transfer-Encoding: chunked\r\n"), &body));
        assert_eq!(wire.read_reply().status, 200);
        assert_eq!(unchunked(&scene.last().body), unchunked(&body), "{reason}");
        scene.proxy.record(|record| {
            record["event"] == "request" && record["decision"] == "would_deny" && record["reason"] == reason
        });
    }
    let scene = Scene { proxy: reads, ..scene };
    let mut wire = scene.inside();
    let long = zipped(&vec![b'0'; 100_000]);
    wire.send(scene.with_length(UPLOAD, "Content-Encoding: gzip\r\nX-Any: 1\r\n", &long));
    assert_eq!(wire.read_reply().status, 200);
    let got = scene.last();
    assert_eq!(
        (got.field("content-encoding"), got.field("x-any"), &got.body),
        (Some("gzip"), Some("1"), &long)
    );
}

/// Without the flush between two lists, so that a ref is there twice.
trait ReplaceFlush {
    fn replace_flush(self) -> Vec<u8>;
}

impl ReplaceFlush for Vec<u8> {
    fn replace_flush(self) -> Vec<u8> {
        let half = self.len() / 2;
        [&self[..half - 4], &self[half..]].concat()
    }
}

#[test]
fn a_client_that_leaves_within_its_list_leaves_nothing_behind() {
    let scene = Scene::new(PUSHES);
    let list = updates(&["refs/heads/main"]);
    let request = scene.with_length(RECEIVE, &basic(OWN), &list);
    let bodies = || scene.proxy.metrics().sum("egressd_held_bytes", &[("kind", "body")]);
    let before = bodies();
    for _ in 0..5 {
        let mut wire = scene.inside();
        wire.send(&request[..request.len() - 10]);
        until("the list to be held", || (bodies() > before + 12_000.0).then_some(()));
        drop(wire);
        until("all to be given back", || (bodies() <= before).then_some(()));
    }
    scene.proxy.record(|record| record["reason"] == "client_gone" && record["git"]["repository"] == "/own");
    assert_eq!(scene.site.got().len(), 0);
}

#[test]
fn a_push_whose_list_never_ends_is_recorded_as_refused_or_as_undecided() {
    let world = World::new();
    let site = world.site();
    let text = World::config(site.port(), PUSHES);
    let patient = world.start(&text);
    let proxy = world.start(&(text + "http: {stall_timeout: 1s}\n"));
    let mut scene = Scene { world, site, proxy };
    let half = |scene: &Scene, user: &str| {
        let request = scene.with_length(RECEIVE, &basic(user), &updates(&["refs/heads/main"]));
        let mut wire = scene.inside();
        wire.send(&request[..request.len() - 10]);
        wire
    };
    let mallory = "mallory-at-999999999999";
    scene.proxy.refused(half(&scene, mallory), 403, "account_not_allowed");
    scene.proxy.refused(half(&scene, OWN), 408, "head_timeout");
    let record = scene.proxy.record(|record| record["reason"] == "head_timeout");
    assert_eq!(record["decision"], "deny");
    scene.proxy = patient;
    let bodies = |scene: &Scene| scene.proxy.metrics().sum("egressd_held_bytes", &[("kind", "body")]);
    for (user, want) in [
        (
            mallory,
            json!({"event": "deny", "decision": "deny", "reason": "account_not_allowed", "status": null}),
        ),
        (OWN, json!({"event": "error", "decision": null, "reason": "client_gone", "status": null})),
    ] {
        let before = bodies(&scene);
        let wire = half(&scene, user);
        until("the list to be held", || (bodies(&scene) > before).then_some(()));
        drop(wire);
        scene
            .proxy
            .record(|record| !record["git"].is_null() && record["reason"] == want["reason"])
            .assert_has(&want);
    }
    assert_eq!(scene.site.got().len(), 0);
}

#[test]
fn while_a_list_is_read_a_reload_and_a_drain_end_it() {
    let scene = Scene::new(PUSHES);
    let list = updates(&["refs/heads/main"]);
    let request = scene.with_length(RECEIVE, &basic(OWN), &list);
    let bodies = || scene.proxy.metrics().sum("egressd_held_bytes", &[("kind", "body")]);
    let begin = |before: f64| {
        let mut wire = scene.inside();
        wire.send(&request[..request.len() - 10]);
        until("the list to be held", || (bodies() > before + 12_000.0).then_some(()));
        wire
    };
    let wire = begin(bodies());
    reload(&scene.proxy, &World::config(scene.site.port(), &PUSHES.replace("/own", "/other")));
    scene.proxy.refused(wire, 403, "git_not_allowed");
    reload(&scene.proxy, &World::config(scene.site.port(), PUSHES));
    let wire = begin(bodies());
    scene.proxy.signal(rustix::process::Signal::TERM);
    scene.proxy.signal(rustix::process::Signal::TERM);
    drop(wire);
    assert_eq!(scene.site.got().len(), 0);
}
