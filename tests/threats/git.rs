//! Attacks on rules of Git and AWS, inside inspected tunnels: pushes and accounts by another spelling. git's own server would
//! understand most of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::git_bodies::*;
use crate::inspected_world::{HOST, Site, World};
use crate::support::{Egressd, config};

const READS: &str = ", requests: [{git: [fetch], repositories: [/own], negotiation_limit: 64KiB}]";
const PUSHES: &str = ", requests: [{git: [push], repositories: [/own], refs: [refs/heads/main]}]";
const RECEIVE: &str = "git-receive-pack";
const UPLOAD: &str = "git-upload-pack";

struct Scene {
    world: World,
    site: Site,
    proxy: Egressd,
    host: &'static str,
}

impl Scene {
    fn new(options: &str) -> Self {
        Scene::at(HOST, options)
    }

    /// With a rule for this host alone.
    fn at(host: &'static str, options: &str) -> Self {
        let world = World::new();
        let site = Site::ok(&world.targets.issue(&[host]));
        let rule = format!("{{to: \"https://{host}:{}\", inspect: true{options}}}", site.port());
        let rest = World::rest().replace(HOST, host);
        let proxy = world.start(&(config(&[&rule]) + &rest));
        Scene { world, site, proxy, host }
    }

    fn head(&self, line: &str, fields: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: {}:{}\r\n{fields}\r\n", self.host, self.site.port())
    }

    /// A request to a service of `/own`, as git sends it.
    fn post(&self, service: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
        self.post_to(&format!("/own/{service}"), service, fields, body.as_ref())
    }

    fn post_to(&self, path: &str, service: &str, fields: &str, body: &[u8]) -> Vec<u8> {
        let framing = match fields.contains("Transfer-Encoding") {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        let kind = format!("Content-Type: application/x-{service}-request\r\n");
        let kind = if fields.contains("Content-Type") { String::new() } else { kind };
        let head = self.head(&format!("POST {path}"), &format!("{kind}{framing}{fields}"));
        [head.as_bytes(), body].concat()
    }

    /// Sends this in a tunnel of its own, and expects a refusal for `reason`, its record, and nothing at the target.
    fn refuses(&self, what: &str, request: impl AsRef<[u8]>, reason: &str) {
        let tunnel = self.proxy.tunnel(&format!("{}:{}", self.host, self.site.port()));
        let mut wire = crate::support::Wire::through(self.world.inspection.client(self.host, tunnel));
        let request = request.as_ref();
        wire.send(request);
        let reply = if request.starts_with(b"HEAD ") { wire.read_head() } else { wire.read_reply() };
        assert_eq!(reply.phrase, format!("egressd: {reason}"), "{what}: {reply:?}");
        let is_printed =
            reply.status == 200 && reply.header("content-type").is_some_and(|kind| kind.ends_with("-result"));
        assert!(is_printed || (400..500).contains(&reply.status), "{what}: {reply:?}");
        self.proxy.record(|record| {
            record["event"] == "deny" && record["id"] == reply.id() && record["reason"] == reason
        });
        assert_eq!(self.site.got().len(), 0, "{what}: {:?}", self.site.got());
    }

    /// The same for what passes: as the target got it.
    fn passes(&self, what: &str, request: impl AsRef<[u8]>) -> crate::inspected_world::Got {
        let before = self.site.got().len();
        let tunnel = self.proxy.tunnel(&format!("{}:{}", self.host, self.site.port()));
        let mut wire = crate::support::Wire::through(self.world.inspection.client(self.host, tunnel));
        wire.send(request);
        let reply = wire.read_reply();
        assert_eq!(reply.status, 200, "{what}: {reply:?}");
        let got = self.site.got();
        assert_eq!(got.len(), before + 1, "{what}");
        got.last().expect("one").clone()
    }
}

#[test]
fn t82_a_push_where_only_reading_is_allowed_is_refused_however_it_is_asked_for() {
    let scene = Scene::new(READS);
    // What receive-pack would answer, by other spellings of the query.
    for query in [
        "service=git-receive-pack",
        "service=git-receive%2dpack",
        "s%65rvice=git-receive-pack",
        "service=git-upload-pack&service=git-receive-pack",
        "service=git-receive-pack&service=git-upload-pack",
        "x=1&service=git-receive-pack",
        "service=git-receive-pack&",
        "&service=git-receive-pack",
        "service=git-upload-pack;service=git-receive-pack",
        "service=git-upload-pack%00",
        "service=git-upload-pack%26service=git-receive-pack",
        "service=+git-receive-pack",
        "SERVICE=git-receive-pack",
        "service=GIT-RECEIVE-PACK",
        "service=git-upload-pack?service=git-receive-pack",
        "service=",
        "",
    ] {
        scene.refuses(query, scene.head(&format!("GET /own/info/refs?{query}"), ""), "git_not_allowed");
    }
    scene.refuses("dumb", scene.head("GET /own/info/refs", ""), "git_not_allowed");
    let discovery = format!("/own/info/refs?service={UPLOAD}");
    for method in ["HEAD", "POST", "OPTIONS"] {
        let what = format!("{method} of discovery");
        let fields = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        scene.refuses(&what, scene.head(&format!("{method} {discovery}"), fields), "git_not_allowed");
    }
    // Without discovery before it, and by other paths and methods.
    let body = [&updates(&["refs/heads/main"])[..], b"PACK"].concat();
    scene.refuses("no discovery", scene.post(RECEIVE, "", &body), "git_not_allowed");
    for (path, reason) in [
        ("/own/git-receive-pack?", "git_not_allowed"),
        ("/own/git-receive-pack?x", "git_not_allowed"),
        ("/own/git-receive-pack/", "git_not_allowed"),
        ("/own/Git-Receive-Pack", "git_not_allowed"),
        ("/own/git-upload-pack/git-receive-pack", "git_not_allowed"),
        ("/own/git-receive-pack/git-upload-pack", "git_not_allowed"),
        ("/own/info/refs/git-receive-pack", "git_not_allowed"),
        ("/own/info/lfs/git-receive-pack", "git_not_allowed"),
        ("/own/.git/git-receive-pack", "git_not_allowed"),
        ("/own/git%2dreceive-pack", "bad_target"),
        ("/own//git-receive-pack", "bad_target"),
        ("/own/./git-receive-pack", "bad_target"),
        ("/own/x/../git-receive-pack", "bad_target"),
        ("/own;x/git-receive-pack", "bad_target"),
        ("/own%2Fgit-receive-pack", "bad_target"),
    ] {
        scene.refuses(path, scene.post_to(path, RECEIVE, "", &body), reason);
    }
    for method in ["PUT", "PROPFIND", "MKCOL", "LOCK", "MOVE", "DELETE", "PATCH"] {
        let request = scene.head(&format!("{method} /own/refs/heads/main"), "Content-Length: 0\r\n");
        scene.refuses(method, request, "git_not_allowed");
    }
    // Content-Type and path say different things: neither alone decides.
    let as_fetch = "Content-Type: application/x-git-upload-pack-request\r\n";
    scene.refuses("type of a fetch", scene.post(RECEIVE, as_fetch, &body), "git_not_allowed");
    let as_push = "Content-Type: application/x-git-receive-pack-request\r\n";
    scene.refuses("type of a push", scene.post(UPLOAD, as_push, fetch()), "git_not_allowed");
    scene.refuses("no type", scene.post(UPLOAD, "Content-Type: \r\n", fetch()), "git_not_allowed");
    // A list of commands where a request to fetch belongs.
    scene.refuses("a list at upload-pack", scene.post(UPLOAD, "", &body), "git_not_allowed");
    // Another method, another path by fields that servers act on: none of them goes on.
    let fields =
        "X-HTTP-Method-Override: PUT\r\nX-Original-URL: /own/git-receive-pack\r\nX-Anything: receive\r\n";
    let got = scene
        .passes("overrides", scene.post(UPLOAD, &format!("{fields}Git-Protocol: version=2\r\n"), fetch()));
    assert!(!got.head.contains("Override") && !got.head.contains("receive"), "{}", got.head);
}

#[test]
fn t82_a_body_of_more_than_one_reading_is_refused() {
    let scene = Scene::new(PUSHES);
    let main = |capabilities: &str| list(capabilities, &[(OLD, NEW, "refs/heads/main")]);
    let start = |text: String| [line(text), b"0000PACK".to_vec()].concat();
    let first = || line(format!("{OLD} {NEW} refs/heads/main\0{ABLE}"));
    let other = format!("{OLD} {NEW} refs/heads/other");
    let with = |second: Vec<u8>| [first(), second, b"0000PACK".to_vec()].concat();
    let upper = OLD.replace('1', "A");
    let not_git: Vec<(&str, Vec<u8>)> = vec![
        ("a NUL on line two", with(line(format!("{OLD} {NEW} refs/heads/main2\0{ABLE}")))),
        ("two NULs on line one", start(format!("{OLD} {NEW} refs/heads/main\0{ABLE}\0 x"))),
        ("the ref hidden behind a NUL", with(line("refs/heads/main\0".to_owned() + &other))),
        ("shallow after a command", with(line(format!("shallow {OLD}")))),
        ("upper-case ids", start(format!("{upper} {NEW} refs/heads/main\0{ABLE}"))),
        ("a ref twice", with(line(format!("{OLD} {NEW} refs/heads/main")))),
        ("a push certificate", start(format!("push-cert\0{ABLE}"))),
        ("a push certificate later", with(line("push-cert"))),
        ("the capability", start(format!("{OLD} {NEW} refs/heads/main\0{ABLE} push-cert=x"))),
        ("0001 ends the list", [first(), b"0001".to_vec(), line(&other), b"0000".to_vec()].concat()),
        ("0002 ends the list", [first(), b"0002".to_vec(), line(&other), b"0000".to_vec()].concat()),
        ("0003", [first(), b"0003".to_vec()].concat()),
        ("an empty line", [first(), b"0004".to_vec(), line(&other), b"0000".to_vec()].concat()),
        ("a length with a sign", [first(), b"+03c".to_vec(), other.clone().into_bytes()].concat()),
        ("a length with a space", [first(), b" 03c".to_vec(), other.clone().into_bytes()].concat()),
        ("a line that is too long", [first(), b"fff1".to_vec(), vec![b'x'; 70_000]].concat()),
        ("no flush", [first(), line(&other)].concat()),
        ("half a line", first()[..40].to_vec()),
        ("nothing", Vec::new()),
        ("a space in the ref", start(format!("{OLD} {NEW} refs/heads/main refs/heads/other\0{ABLE}"))),
        ("two spaces", start(format!("{OLD}  {NEW} refs/heads/main\0{ABLE}"))),
        ("HEAD", start(format!("{OLD} {NEW} HEAD\0{ABLE}"))),
        ("a ref with dots", start(format!("{OLD} {NEW} refs/heads/../main\0{ABLE}"))),
        ("both ids zero", start(format!("{0} {0} refs/heads/main\0{ABLE}", "0".repeat(40)))),
        ("ids of another format", start(format!("{0} {0} refs/heads/main\0{ABLE}", "1".repeat(64)))),
        ("a list behind the probe", [b"0000".to_vec(), main(ABLE)].concat()),
        ("4,001 refs", {
            let names: Vec<String> = (0..4_001).map(|at| format!("refs/heads/{at}")).collect();
            updates(&names.iter().map(String::as_str).collect::<Vec<_>>())
        }),
        ("a list of more than 1 MiB", {
            let long = "a".repeat(3_900);
            let names: Vec<String> = (0..300).map(|at| format!("refs/heads/{at}{long}")).collect();
            updates(&names.iter().map(String::as_str).collect::<Vec<_>>())
        }),
    ];
    for (what, body) in &not_git {
        scene.refuses(what, scene.post(RECEIVE, "", body), "git_not_allowed");
        let chunks = "Transfer-Encoding: chunked\r\n";
        if !body.is_empty() {
            scene.refuses(what, scene.post(RECEIVE, chunks, chunked(body, 97)), "git_not_allowed");
        }
    }
    let two = list(ABLE, &[(OLD, NEW, "refs/heads/main"), (OLD, NEW, "refs/heads/other")]);
    scene.refuses("another ref", scene.post(RECEIVE, "", &two), "ref_not_allowed");
    let gone = list(ABLE, &[(OLD, &"0".repeat(40), "refs/heads/main")]);
    scene.refuses("a ref deleted", scene.post(RECEIVE, "", gone), "ref_not_allowed");
    // Compressed, git's server would read another list than the one that is here.
    for coding in ["gzip", "x-gzip", "GZIP", "deflate", "identity", "gzip, identity", ""] {
        let fields = format!("Content-Encoding: {coding}\r\n");
        scene.refuses(coding, scene.post(RECEIVE, &fields, zipped(&main(ABLE))), "git_not_allowed");
    }
    // Framing that two programs read in two ways never gets so far.
    for (fields, body) in [
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", chunked(&main(ABLE), 50)),
        ("Transfer-Encoding: gzip, chunked\r\n", chunked(&main(ABLE), 50)),
        ("Transfer-Encoding: identity\r\n", main(ABLE)),
        ("Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\n".to_vec()),
    ] {
        scene.refuses(fields, scene.post(RECEIVE, fields, body), "bad_request");
    }
    // What passes arrives without trailers, and what is behind it is another request.
    let body = [&main(ABLE)[..], b"PACK"].concat();
    let trailers =
        [&chunked(&body, 33)[..chunked(&body, 33).len() - 2], b"X-Secret: secret\r\n\r\n"].concat();
    let got = scene
        .passes("trailers", scene.post(RECEIVE, "Transfer-Encoding: chunked\r\nTE: trailers\r\n", trailers));
    assert_eq!(unchunked(&got.body), body);
    assert!(!String::from_utf8_lossy(&got.body).contains("secret"));
    assert_eq!(got.field("te"), None);
}

#[test]
fn t82_a_request_to_fetch_carries_out_no_more_than_its_limit_and_nothing_unread() {
    let scene = Scene::new(READS);
    let v2 = "Git-Protocol: version=2\r\n";
    let zip = format!("{v2}Content-Encoding: gzip\r\n");
    let zipped_fetch = zipped(&fetch());
    let rows: Vec<(&str, String, Vec<u8>)> = vec![
        ("a bomb", zip.clone(), zipped(&vec![b'0'; 200 << 20])),
        ("bytes after the member", zip.clone(), [&zipped_fetch[..], b"secret"].concat()),
        ("two members", zip.clone(), [&zipped_fetch[..], &zipped(b"secret")].concat()),
        ("half a member", zip.clone(), zipped_fetch[..zipped_fetch.len() - 9].to_vec()),
        ("not gzip", zip.clone(), fetch()),
        ("x-gzip", format!("{v2}Content-Encoding: x-gzip\r\n"), zipped_fetch.clone()),
        ("deflate", format!("{v2}Content-Encoding: deflate\r\n"), zipped_fetch.clone()),
        ("twice", format!("{zip}Content-Encoding: gzip\r\n"), zipped_fetch.clone()),
        ("bytes after the request", v2.to_owned(), [&fetch()[..], b"secret"].concat()),
        ("a second request", v2.to_owned(), fetch().repeat(2)),
        ("another version's body", String::new(), fetch()),
        ("a version with more", "Git-Protocol: version=2:secret\r\n".to_owned(), fetch()),
        ("two versions", format!("{v2}{v2}"), fetch()),
        ("a server option", v2.to_owned(), fetch_with("server-option=secret", "")),
        ("an unknown argument", v2.to_owned(), fetch_with("", "secret")),
        ("an id in upper case", v2.to_owned(), fetch_with("", &format!("want {}", OLD.replace('1', "A")))),
        (
            "too long",
            v2.to_owned(),
            fetch_with("", &format!("have {NEW}")).repeat(1).into_iter().chain(vec![b'0'; 70_000]).collect(),
        ),
    ];
    for (what, fields, body) in rows {
        scene.refuses(what, scene.post(UPLOAD, &fields, body), "git_not_allowed");
    }
    let got = scene.passes("a fetch", scene.post(UPLOAD, &zip, zipped_fetch));
    assert!(!String::from_utf8_lossy(&got.body).contains("secret"));
}

/// A fetch with one more capability, or one more argument.
fn fetch_with(capability: &str, argument: &str) -> Vec<u8> {
    let some = |text: &str| if text.is_empty() { Vec::new() } else { line(text) };
    [
        line("command=fetch"),
        some(capability),
        b"0001".to_vec(),
        some(argument),
        line(format!("want {OLD}\n")),
        line("done\n"),
        b"0000".to_vec(),
    ]
    .concat()
}

const OURS: &str = "123456789012";
const THEIRS: &str = "999999999999";

/// An access key id of this account.
fn key_of(account: &str) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let account: u128 = account.parse().expect("a number");
    let bits = 1_u128 << 79 | account << 39 | 12_345;
    let rest: String =
        (0..16).rev().map(|at| char::from(alphabet[(bits >> (at * 5) & 31) as usize])).collect();
    format!("AKIA{rest}")
}

fn signed(key: &str, service: &str, headers: &str) -> String {
    format!(
        "Authorization: AWS4-HMAC-SHA256 Credential={key}/20261130/eu-central-1/{service}/aws4_request, \
         SignedHeaders={headers}, Signature={}\r\nX-Amz-Date: 20261130T000000Z\r\n",
        "a".repeat(64)
    )
}

fn presigned(key: &str) -> String {
    format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={key}%2F20261130%2Feu-central-1%2Fs3%2Faws4_request&\
         X-Amz-Date=20261130T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
        "a".repeat(64)
    )
}

#[test]
fn t83_git_credentials_are_of_the_last_account_in_their_name_and_of_no_other() {
    let host = "git-codecommit.eu-central-1.amazonaws.com";
    let rule = format!(
        ", requests: [{{git: [push], repositories: [/v1/repos/own], aws: {{accounts: [\"{OURS}\"], services: [codecommit], \
         regions: [eu-central-1]}}}}]"
    );
    let scene = Scene::at(host, &rule);
    let body = [&updates(&["refs/heads/main"])[..], b"PACK"].concat();
    let push = |fields: &str| scene.post_to("/v1/repos/own/git-receive-pack", RECEIVE, fields, &body);
    let (ours, theirs) = (key_of(OURS), key_of(THEIRS));
    let users = [
        format!("jane-at-{THEIRS}"),
        format!("jane-at-{OURS}-at-{THEIRS}"),
        format!("{OURS}-at-{THEIRS}"),
        format!("jane-AT-{OURS}"),
        format!("jane-at-{OURS} "),
        format!("jane-at-{OURS}1"),
        format!("jane-at-{}", &OURS[1..]),
        format!("-at-{OURS}"),
        format!("jane/x-at-{OURS}"),
        format!("jane%-at-{OURS}"),
        "jane-at-１２３４５６７８９０１２".to_owned(),
        "jane".to_owned(),
        String::new(),
        theirs.clone(),
        format!("{theirs}%token"),
        format!("{theirs}%{ours}"),
        // Of the old form: its bits would be a stranger's account.
        "AKIAIOSFODNN7EXAMPLE".to_owned(),
        "AKIAI44QH8DHBEXAMPLE%token".to_owned(),
        format!("AROA{}", &ours[4..]),
        ours.to_lowercase(),
        format!("{ours}%"),
    ];
    for user in &users {
        scene.refuses(user, push(&basic(user)), "account_not_allowed");
    }
    let good = basic(&format!("jane-at-{OURS}"));
    let value = good.trim_start_matches("Authorization: ").trim_end();
    let encoded = STANDARD.encode(format!("jane-at-{OURS}:secret"));
    let rows = [
        ("none", String::new()),
        ("two fields", format!("{good}{}", basic(&format!("eve-at-{THEIRS}")))),
        ("the same twice", format!("{good}{good}")),
        ("a cookie beside it", format!("{good}Cookie: a=b\r\n")),
        ("a cookie alone", "Cookie: a=b\r\n".to_owned()),
        ("a bearer token", "Authorization: Bearer abc\r\n".to_owned()),
        ("version 2", format!("Authorization: AWS {ours}:abc\r\n")),
        ("Digest", "Authorization: Digest username=\"a\"\r\n".to_owned()),
        ("two in one field", format!("Authorization: {value}, {value}\r\n")),
        ("no base64", "Authorization: Basic !!!\r\n".to_owned()),
        ("base64 cut off", format!("Authorization: Basic {}\r\n", &encoded[..encoded.len() - 2])),
        ("no colon", format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("jane-at-{OURS}")))),
        ("signed for another service", signed(&ours, "s3", "host;x-amz-date")),
        ("signed for nothing", format!("Authorization: AWS4-HMAC-SHA256 Credential={ours}\r\n")),
        ("signed by another", signed(&theirs, "codecommit", "host;x-amz-date")),
    ];
    for (what, fields) in &rows {
        scene.refuses(what, push(fields), "account_not_allowed");
    }
    // At these hosts a path is one name: `own.git` is another repository, and `own/` is none.
    for path in
        ["/v1/repos/own.git", "/v1/repos/own.git.git", "/v1/repos/Own", "/v1/repos/own/x", "/v1/repos"]
    {
        let request = scene.post_to(&format!("{path}/git-receive-pack"), RECEIVE, &good, &body);
        scene.refuses(path, request, "git_not_allowed");
    }
    let with_query =
        scene.post_to(&format!("/v1/repos/own/git-receive-pack?{}", presigned(&ours)), RECEIVE, "", &body);
    // Whose signature it is comes first, and it is for another service.
    scene.refuses("presigned", with_query, "account_not_allowed");
    // The last account counts, whatever the name before it is.
    let got = scene.passes("the last one is ours", push(&basic(&format!("jane-at-{THEIRS}-at-{OURS}"))));
    assert_eq!(got.body, body);
    scene.passes("a key of ours", push(&basic(&format!("{ours}%token+/="))));
}

#[test]
fn t83_what_is_signed_is_signed_in_one_place_by_an_account_that_is_allowed() {
    let rule =
        format!(", requests: [{{paths: [\"/bucket/**\"], aws: {{accounts: [\"{OURS}\"], services: [s3]}}}}]");
    let scene = Scene::new(&rule);
    let (ours, theirs) = (key_of(OURS), key_of(THEIRS));
    let get = |query: &str, fields: &str| scene.head(&format!("GET /bucket/x{query}"), fields);
    let ok = signed(&ours, "s3", "host;x-amz-date");
    let query = |text: String| format!("?{text}");
    let post = |media_type: &str, body: &str| {
        let length = body.len();
        let fields = format!("{ok}Content-Type: {media_type}\r\nContent-Length: {length}\r\n");
        scene.head("POST /bucket/x", &fields) + body
    };
    let rows = [
        ("unsigned", get("", "")),
        ("another account", get("", &signed(&theirs, "s3", "host;x-amz-date"))),
        ("another service", get("", &signed(&ours, "sts", "host;x-amz-date"))),
        ("a key of the old form", get("", &signed("AKIAIOSFODNN7EXAMPLE", "s3", "host;x-amz-date"))),
        ("two fields", get("", &format!("{ok}{}", signed(&theirs, "s3", "host")))),
        ("a field and a presigned query", get(&query(presigned(&ours)), &ok)),
        ("presigned by another, the field ours", get(&query(presigned(&theirs)), &ok)),
        ("presigned by another", get(&query(presigned(&theirs)), "")),
        (
            "two credentials in the query",
            get(&query(format!("{}&X-Amz-Credential={theirs}", presigned(&ours))), ""),
        ),
        (
            "the same by another spelling",
            get(&query(format!("{}&X-Amz-Credenti%61l={theirs}", presigned(&ours))), ""),
        ),
        (
            "the same in lower case",
            get(&query(format!("{}&x-amz-credential={theirs}", presigned(&ours))), ""),
        ),
        (
            "behind a semicolon",
            get(&query(format!("{}&a=b;X-Amz-Credential={theirs}", presigned(&ours))), ""),
        ),
        ("a query of version 2 beside it", get("?AWSAccessKeyId=x&Signature=y", &ok)),
        ("a token beside it", get("?access_token=x", &ok)),
        ("a cookie beside it", get("", &format!("{ok}Cookie: a=b\r\n"))),
        ("Basic of ours", get("", &basic(&format!("jane-at-{OURS}")))),
        (
            "version 3 beside it",
            get("", &format!("{ok}X-Amzn-Authorization: AWS3 AWSAccessKeyId={theirs}\r\n")),
        ),
        ("a second session token", get("", &format!("{ok}{}", "X-Amz-Security-Token: a\r\n".repeat(2)))),
        ("a token in another spelling", get("", &format!("{ok}X_Amz_Security_Token: a\r\n"))),
        ("a token alone", get("", "X-Amz-Security-Token: a\r\n")),
        ("a token in a field, presigned", get(&query(presigned(&ours)), "X-Amz-Security-Token: a\r\n")),
        (
            "a name with other separators",
            get(&query(format!("{}&X_Amz.Credential={theirs}", presigned(&ours))), ""),
        ),
        (
            "a name that is encoded twice",
            get(&query(format!("{}&X-Amz-Credenti%2561l=x", presigned(&ours))), ""),
        ),
        ("an identity token for STS", get("?Action=AssumeRoleWithWebIdentity&WebIdentityToken=x", &ok)),
        ("another cookie", get("", &format!("{ok}Cookie2: a=b\r\n"))),
        ("a form of S3", post("multipart/form-data; boundary=x", "--x--")),
        ("a form of S3 in another spelling", post("MULTIPART/Form-Data; boundary=x", "--x--")),
        (
            "a form of version 2",
            post("application/x-www-form-urlencoded", &format!("AWSAccessKeyId={theirs}&Signature=x")),
        ),
        ("the same, encoded", post("Application/X-WWW-Form-URLencoded", "%41WSAccessKeyId=x")),
    ];
    for (what, request) in &rows {
        scene.refuses(what, request, "account_not_allowed");
    }
    // What a signature covers goes on as it came, or not at all.
    let covers = signed(&ours, "s3", "host;x-amz-date;x-forwarded-for");
    scene.refuses(
        "a field that is taken out",
        get("", &format!("{covers}X-Forwarded-For: 10.0.0.1\r\n")),
        "request_not_allowed",
    );
    let got = scene.passes("ours", get("", &ok));
    assert!(got.head.contains(&format!("Credential={ours}/")), "{}", got.head);
    scene.passes("presigned by ours", get(&query(presigned(&ours)), ""));
}
