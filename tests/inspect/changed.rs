//! What a rule changes in requests and responses inside an inspected tunnel: fields that would change what was judged, fields that
//! are set, credentials that are kept by egressd; and what a signature covers.

use crate::support::{Egressd, write};
use crate::world::{Got, HOST, Site, World, get};

/// One request inside a tunnel to `site`, with these fields; the reply must be a 200.
fn ask(world: &World, proxy: &Egressd, site: &Site, line: &str, fields: &str) -> Got {
    let mut wire = world.inside(proxy, site.port());
    wire.send(format!("{line} HTTP/1.1\r\nHost: {HOST}:{}\r\n{fields}\r\n", site.port()));
    let reply = wire.read_reply();
    assert_eq!(reply.status, 200, "{reply:?}");
    site.got().pop().expect("it was asked")
}

const SIGNED: &str = "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3/aws4_request, \
                      SignedHeaders=host;x-amz-date;NAME, Signature=00\r\n";

#[test]
fn what_would_change_the_method_the_path_or_the_host_that_were_judged_is_taken_out() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, ", requests: [{methods: [GET, POST]}]");
    let fields = "X-HTTP-Method-Override: DELETE\r\nX-Http-Method: DELETE\r\nX-Method-Override: PUT\r\nX_HTTP_METHOD_OVERRIDE: PUT\r\n\
                  X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX-Original-Host: evil.test\r\nX-Forwarded-Host: evil.test\r\n\
                  X-Forwarded-For: 10.0.0.1\r\nForwarded: host=evil.test\r\nX-Real-IP: 10.0.0.1\r\nVia: 1.1 a\r\n\
                  X_Forwarded_Host: evil.test\r\nX_Real_IP: 10.0.0.1\r\nProxy_Authorization: a\r\nProxy: evil.test\r\n\
                  X-HTTP-Host-Override: evil.test\r\nX-Envoy-Original-Path: /admin\r\nTransfer_Encoding: chunked\r\n\
                  Content_Length: 5\r\n\
                  User-Agent: git/2\r\nCookie: a=b\r\nAuthorization: Basic eA==\r\nX-Kept: 1\r\n";
    let got = ask(&world, &proxy, &site, "GET /a", fields);
    let names: Vec<String> =
        got.head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect();
    let mut names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    assert_eq!(names, ["authorization", "cookie", "host", "user-agent", "x-kept"], "{}", got.head);
    // Not in trailers either.
    let mut wire = world.inside(&proxy, site.port());
    wire.send(format!(
        "POST /a HTTP/1.1\r\nHost: {HOST}:{}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Method-Override, X-Sum\r\n\r\n\
         0\r\nX-Method-Override: DELETE\r\nX_Forwarded_Host: evil.test\r\nContent_Length: 5\r\nX-Sum: 1\r\n\r\n",
        site.port()
    ));
    assert_eq!(wire.read_reply().status, 200);
    let body = String::from_utf8(site.got().pop().expect("one").body).expect("text").to_ascii_lowercase();
    assert_eq!(body, "0\r\nx-sum: 1\r\n\r\n");
}

#[test]
fn a_field_that_the_signature_covers_is_not_taken_out_but_the_request_is_refused() {
    let world = World::new();
    let site = world.site();
    let proxy = world
        .egressd(&site, ", requests: [{methods: [GET]}], headers: {set: {X-Tenant: ours}, remove: [X-Gone]}");
    let signing = |name: &str| SIGNED.replace("NAME", name);
    for (line, fields) in [
        ("GET /a", signing("x-forwarded-for") + "X-Forwarded-For: 10.0.0.1\r\n"),
        ("GET /a", signing("x-method-override") + "X-Method-Override: PUT\r\n"),
        ("GET /a", signing("x-gone") + "X-Gone: 1\r\n"),
        ("GET /a", signing("x-tenant")),
        ("GET /a?X-Amz-SignedHeaders=host%3Bx-tenant", String::new()),
        ("GET /a", "Authorization: AWS4-HMAC-SHA256 Credential=a\r\n".to_owned()),
    ] {
        let mut wire = world.inside(&proxy, site.port());
        wire.send(format!("{line} HTTP/1.1\r\nHost: {HOST}:{}\r\n{fields}\r\n", site.port()));
        let refused = proxy.refused(wire, 403, "request_not_allowed");
        assert!(refused.reply.body.contains("signature covers"), "{fields}: {}", refused.reply.body);
    }
    assert_eq!(site.got().len(), 0);
    // What is signed and not touched arrives byte for byte.
    let fields = signing("x-amz-meta-a")
        + "X-Amz-Date: 20260101T000000Z\r\nX-Amz-Meta-A:  b  c\r\nX-Forwarded-For: 10.0.0.1\r\n";
    let got = ask(&world, &proxy, &site, "GET /a?b=%20c", &fields);
    assert!(got.head.starts_with("GET /a?b=%20c HTTP/1.1\r\n"), "{}", got.head);
    assert_eq!((got.field("x-amz-meta-a"), got.field("x-forwarded-for")), (Some("b  c"), None));
    assert_eq!(got.field("x-tenant"), Some("ours"));
}

#[test]
fn fields_are_set_from_the_rule_and_from_files_and_every_copy_of_the_clients_goes() {
    let world = World::new();
    let site = world.site();
    let directory = world.directory();
    write(&directory.path().join("token"), "Bearer first\n");
    let options = ", headers: {set: {X-Tenant: ours}, set_files: {X-Token: token}, remove: [Cookie]}";
    let proxy = Egressd::start_in(directory, &World::config(site.port(), options));
    let fields = "X-Tenant: theirs\r\nX-Tenant: another\r\nx_tenant: third\r\nX-Token: mine\r\nCookie: a=b\r\n\
                  Connection: X-Tenant\r\n";
    let got = ask(&world, &proxy, &site, "GET /", fields);
    assert_eq!((got.field("x-tenant"), got.field("x_tenant")), (Some("ours"), None), "{}", got.head);
    assert_eq!((got.field("x-token"), got.field("cookie")), (Some("Bearer first"), None));
    // `http.remove_request_headers` is for plain HTTP.
    let got = ask(&world, &proxy, &site, "GET /", "User-Agent: a\r\nReferer: b\r\n");
    assert_eq!((got.field("user-agent"), got.field("referer")), (Some("a"), Some("b")));
}

#[test]
fn credentials_of_ours_take_the_place_of_the_clients_and_what_belongs_to_them_stays_here() {
    let world = World::new();
    let site = Site::start(world.targets.issue(&[HOST]).server_config(), |got| {
        let status = if got.head.contains("/refused") { "401 Unauthorized" } else { "200 OK" };
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: 2\r\nWWW-Authenticate: Basic realm=\"a\"\r\nSet-Cookie: session=1\r\n\
             Alt-Svc: h3=\":443\"\r\nX-Kept: 1\r\n\r\nok"
        )
        .into_bytes()
    });
    let directory = world.directory();
    write(&directory.path().join("push.cred"), "Aladdin:open sesame\n");
    let options = ", requests: [{methods: [POST], credentials_file: push.cred}, {methods: [GET]}]";
    let proxy = Egressd::start_in(directory, &World::config(site.port(), options));
    let post = |path: &str| {
        let mut wire = world.inside(&proxy, site.port());
        wire.send(format!(
            "POST {path} HTTP/1.1\r\nHost: {HOST}:{}\r\nAuthorization: Basic bWU6bWU=\r\nCookie: a=b\r\n\
             X-Amz-Security-Token: mine\r\nPRIVATE-TOKEN: mine\r\nJob_Token: mine\r\nDeploy-Token: mine\r\nCookie2: mine\r\n\
             Content-Length: 0\r\n\r\n",
            site.port()
        ));
        wire
    };
    let reply =
        post("/a?x=1&X-Amz-Signature=mine&X-%41mz-Credential=mine&y=2;private_token=mine;job%5Ftoken=mine&access_token=mine;mine")
            .read_reply();
    assert_eq!((reply.status, reply.header("x-kept")), (200, Some("1")));
    for gone in ["www-authenticate", "set-cookie", "alt-svc"] {
        assert_eq!(reply.header(gone), None, "{gone}");
    }
    let got = site.got().pop().expect("one");
    assert!(got.head.starts_with("POST /a?x=1&y=2 HTTP/1.1\r\n"), "{}", got.head);
    assert!(!got.head.contains("mine"), "{}", got.head);
    // RFC 7617 section 2.
    assert_eq!(got.field("authorization"), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    assert_eq!((got.field("cookie"), got.field("x-amz-security-token")), (None, None));
    // The target's 401 would make the client ask its user.
    let refused = proxy.refused(post("/refused"), 502, "upstream_credentials_refused");
    assert_eq!(refused.reply.header("www-authenticate"), None);
    // A batch of Git LFS would be answered with credentials.
    for path in ["batch", "batch/", "batch.json"] {
        proxy.refused(post(&format!("/r.git/info/LFS/objects/{path}")), 403, "request_not_allowed");
    }
    // By the other entry the client's own pass, and its 401 is its own.
    let mut wire = world.inside(&proxy, site.port());
    wire.send(get(site.port(), "/refused").replace("\r\n\r\n", "\r\nAuthorization: Basic bWU6bWU=\r\n\r\n"));
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.header("set-cookie")), (401, Some("session=1")));
    assert_eq!(site.got().pop().expect("one").field("authorization"), Some("Basic bWU6bWU="));
    let ended = proxy.stop();
    let log: String = ended.records.iter().map(|record| format!("{record:?}")).collect();
    for secret in ["QWxhZGRpbj", "sesame", "bWU6bWU"] {
        assert!(!ended.stderr.contains(secret) && !log.contains(secret), "{secret} was written");
    }
}

#[test]
fn alt_svc_does_not_lead_a_client_past_the_inspection() {
    let world = World::new();
    let site = Site::start(world.targets.issue(&[HOST]).server_config(), |_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAlt-Svc: h3=\":443\"\r\nX-Kept: 1\r\n\r\n".to_vec()
    });
    let proxy = world.egressd(&site, "");
    let mut wire = world.inside(&proxy, site.port());
    wire.send(get(site.port(), "/"));
    let reply = wire.read_reply();
    assert_eq!((reply.header("alt-svc"), reply.header("x-kept")), (None, Some("1")));
}
