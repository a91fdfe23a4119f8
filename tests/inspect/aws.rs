//! Requests to AWS inside inspected tunnels whose credentials are, or may be, in their body.

use crate::support::{Egressd, TlsStream, Wire, write};
use crate::world::{HOST, Site, World};

const OPTIONS: &str = ", requests: [{aws: {accounts: [\"609629065308\"], services: [sns]}}]";
const OWN: &str = "Authorization: AWS4-HMAC-SHA256 Credential=ASIAY34FZKBOKMUTVV7A/20261130/eu-central-1/sns/aws4_request, \
                   SignedHeaders=host, Signature=c6b9df2c5e7e0ab1e5b1d8f5b4e0b4ef7f2d9c3e1f2a4b5c6d7e8f9a0b1c2d3e\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n";

struct Scene {
    world: World,
    site: Site,
    proxy: Egressd,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let site = world.site();
        let proxy = world.egressd(&site, OPTIONS);
        Scene { world, site, proxy }
    }

    fn post(&self, fields: &str, body: &[u8]) -> Wire<TlsStream> {
        let mut wire = self.world.inside(&self.proxy, self.site.port());
        let head = format!("POST / HTTP/1.1\r\nHost: {HOST}:{}\r\n{OWN}{fields}\r\n", self.site.port());
        wire.send([head.as_bytes(), body].concat());
        wire
    }

    fn with_length(&self, fields: &str, body: &str) -> Wire<TlsStream> {
        self.post(&format!("{fields}Content-Length: {}\r\n", body.len()), body.as_bytes())
    }
}

#[test]
fn a_form_is_read_before_it_goes_on_and_goes_on_as_it_came() {
    let scene = Scene::new();
    let body = "Action=Publish&Message=a%26b&Version=2010-03-31";
    assert_eq!(scene.with_length(FORM, body).read_reply().status, 200);
    assert_eq!(scene.site.got().pop().expect("one").body, body.as_bytes());
    let chunked = crate::git_bodies::chunked(body.as_bytes(), 7);
    let fields = format!("{FORM}Transfer-Encoding: chunked\r\n");
    let mut wire = scene.post(&fields, &chunked);
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.site.got().pop().expect("one").body, chunked);
    // A client that waits gets its 100 from egressd.
    let fields = format!("{FORM}Expect: 100-continue\r\nContent-Length: {}\r\n", body.len());
    let mut wire = scene.post(&fields, b"");
    assert_eq!(wire.read_head().status, 100);
    wire.send(body);
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.site.got().len(), 3);
}

#[test]
fn credentials_in_a_body_are_refused_before_a_byte_of_it_goes_on() {
    let scene = Scene::new();
    let foreign = "Action=Publish&AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=x";
    scene.proxy.refused(scene.with_length(FORM, foreign), 403, "account_not_allowed");
    let other_case = FORM.replace("x-www-form-urlencoded", "X-WWW-FORM-URLENCODED");
    scene.proxy.refused(scene.with_length(&other_case, foreign), 403, "account_not_allowed");
    let fields = format!("{FORM}Transfer-Encoding: chunked\r\n");
    let chunked = crate::git_bodies::chunked(foreign.as_bytes(), 3);
    scene.proxy.refused(scene.post(&fields, &chunked), 403, "account_not_allowed");
    let parts = "Content-Type: multipart/form-data; boundary=x\r\n";
    scene.proxy.refused(scene.with_length(parts, "--x--"), 403, "account_not_allowed");
    // Its beginning is enough: who still writes when the refusal is there may not come to read it.
    let long = format!("{FORM}Content-Length: {}\r\n", (2 << 20) + 1);
    let refused = scene.proxy.refused(scene.post(&long, &[b'a'; 1000]), 403, "account_not_allowed");
    assert!(refused.reply.body.contains("more than 2 MiB"), "{}", refused.reply.body);
    assert_eq!(scene.site.got().len(), 0);
}

#[test]
fn a_body_that_does_not_say_what_it_is_is_read_as_a_form_too() {
    let scene = Scene::new();
    let foreign = "Action=Publish&AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=x";
    for fields in [
        "",
        "Content-Type:\r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: x/y\r\n",
        "Content-Type: application/json\r\nContent-Type: application/xml\r\n",
        "Content_Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/x-www-form-urlencoded; charset=utf-7\r\n",
        "Content-Encoding: gzip\r\n",
    ] {
        scene.proxy.refused(scene.with_length(fields, foreign), 403, "account_not_allowed");
        let chunked = crate::git_bodies::chunked(foreign.as_bytes(), 5);
        let fields = format!("{fields}Transfer-Encoding: chunked\r\n");
        scene.proxy.refused(scene.post(&fields, &chunked), 403, "account_not_allowed");
    }
    let long = "a".repeat((2 << 20) + 1);
    let refused = scene.proxy.refused(scene.with_length("", &long), 403, "account_not_allowed");
    assert!(
        refused.reply.body.contains("send one that does, such as application/octet-stream"),
        "{refused:?}"
    );
    assert_eq!(scene.site.got().len(), 0);
    // What SDKs send so, and what says that it is something else, goes on as it came.
    let list = "<CompleteMultipartUpload><Part><ETag>&quot;a%&quot;</ETag><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>";
    for (fields, body) in [
        ("", list),
        ("Content-Type: application/octet-stream\r\n", &long),
        ("Content-Type: application/json\r\n", foreign),
    ] {
        assert_eq!(scene.with_length(fields, body).read_reply().status, 200, "{fields}");
        assert_eq!(scene.site.got().pop().expect("one").body, body.as_bytes());
    }
    let mut put = scene.world.inside(&scene.proxy, scene.site.port());
    put.send(format!(
        "PUT /o HTTP/1.1\r\nHost: {HOST}:{}\r\n{OWN}Content-Length: {}\r\n\r\n{long}",
        scene.site.port(),
        long.len()
    ));
    assert_eq!(put.read_reply().status, 200);
}

#[test]
fn a_body_has_no_credentials_beside_those_that_egressd_sends() {
    let world = World::new();
    let site = world.site();
    let directory = world.directory();
    write(&directory.path().join("own.cred"), "jane-at-123456789012:secret\n");
    let options = ", requests: [{credentials_file: own.cred, aws: {accounts: [\"123456789012\"]}}]";
    let proxy = Egressd::start_in(directory, &World::config(site.port(), options));
    let post = |fields: &str, body: &str| {
        let mut wire = world.inside(&proxy, site.port());
        wire.send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}:{}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            site.port(),
            body.len()
        ));
        wire
    };
    let foreign = "Action=Publish&AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=x";
    for fields in ["", FORM, "Content-Type: multipart/form-data; boundary=x\r\n"] {
        proxy.refused(post(fields, foreign), 403, "account_not_allowed");
    }
    assert_eq!(site.got().len(), 0);
    assert_eq!(post(FORM, "Action=Publish").read_reply().status, 200);
    let got = site.got().pop().expect("one");
    assert!(got.field("authorization").is_some_and(|value| value.starts_with("Basic ")), "{}", got.head);
}

#[test]
fn credentials_do_not_come_after_a_body_that_was_judged() {
    let scene = Scene::new();
    let fields = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
                  Trailer: Authorization, X-Amz-Security-Token, X-Amz-Checksum-Crc32\r\n";
    let body = b"2\r\n{}\r\n0\r\nAuthorization: AWS x:y\r\nX-Amz-Security-Token: x\r\nX-Amz-Checksum-Crc32: x\r\n\r\n";
    assert_eq!(scene.post(fields, body).read_reply().status, 200);
    let got = scene.site.got().pop().expect("one");
    let body = String::from_utf8_lossy(&got.body).to_lowercase();
    assert!(!body.contains("authorization") && !body.contains("security"), "{body}");
    assert!(body.contains("x-amz-checksum-crc32: x"), "{body}");
}
