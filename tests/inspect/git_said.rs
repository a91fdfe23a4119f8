//! What requests to Git say to their server beside what is judged: how much of it goes on, in which form, and on which account. And
//! large files, which belong to no ref.

use serde_json::json;

use crate::git::{OWN, PUSHES, READS, RECEIVE, Scene, UPLOAD};
use crate::git_bodies::*;
use crate::reloads::reload;
use crate::support::{Egressd, write};
use crate::world::{HOST, World};

#[test]
fn what_a_fetch_says_is_charged_as_it_goes_on_and_not_as_it_came() {
    let options = format!("{}, upload_budget: 100KiB/1h", READS.replace("4KiB", "64KiB"));
    let scene = Scene::new(&options);
    let have = line(format!("have {NEW}\n"));
    let whole =
        [line(format!("want {OLD}\n")), b"0000".to_vec(), have.repeat(1_200), line("done\n")].concat();
    let body = zipped(&whole);
    assert!(whole.len() > 60_000 && body.len() < 2_000, "{} {}", whole.len(), body.len());
    let mut wire = scene.inside();
    wire.send(scene.with_length(UPLOAD, "Content-Encoding: gzip\r\n", &body));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.last().body, whole);
    // What is left would hold it fifty times as it comes, and not once as it goes on.
    wire.send(scene.with_length(UPLOAD, "Content-Encoding: gzip\r\n", &body));
    let refused = scene.proxy.refused(wire, 403, "upload_budget");
    assert_eq!(refused.record["git"]["negotiated"], json!(whole.len()));
    assert_eq!(scene.site.got().len(), 1);
}

#[test]
fn an_archive_says_what_is_read_and_in_which_form() {
    let scene = Scene::new(READS);
    let asking = |argument: &str| {
        [line(format!("argument {argument}\n")), line("argument HEAD\n"), b"0000".to_vec()].concat()
    };
    let mut wire = scene.inside();
    let good = asking("--format=tar.gz");
    wire.send(scene.with_length("git-upload-archive", "", &good));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.last().body, good);
    wire.send(scene.with_length("git-upload-archive", "", &asking("--mtime=a secret")));
    let reply = wire.read_reply();
    assert!(reply.body.contains("ERR egressd: git_not_allowed: an argument of `git archive`"), "{reply:?}");
    assert_eq!(scene.site.got().len(), 1);
}

#[test]
fn what_a_push_says_to_hooks_is_recorded_and_bounded() {
    let scene = Scene::new(PUSHES);
    let command = list("report-status push-options", &[(OLD, NEW, "refs/heads/main")]);
    let pushing = |options: &[&str]| {
        let options: Vec<u8> = options.iter().flat_map(line).collect();
        [&command[..], &options, b"0000PACK"].concat()
    };
    let mut wire = scene.inside();
    let body = pushing(&["ci.skip", "merge_request.title=é"]);
    wire.send(scene.with_length(RECEIVE, &basic(OWN), &body));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.last().body, body);
    let record = scene.proxy.record(|record| record["event"] == "request");
    let git = &record["git"];
    assert_eq!((&git["push_options"], &git["push_option_bytes"]), (&json!(2), &json!(29)));
    let long = "x".repeat(9_000);
    wire.send(scene.with_length(RECEIVE, &basic(OWN), &pushing(&[&long, &long])));
    let reply = wire.read_reply();
    assert!(reply.body.contains("ng refs/heads/main egressd: git_not_allowed"), "{}", reply.body);
    assert_eq!(scene.site.got().len(), 1);
}

#[test]
fn a_refused_push_that_is_too_long_to_be_drained_ends_its_tunnel_by_the_refusal() {
    let scene = Scene::new(PUSHES);
    let body = updates(&["refs/heads/other"]);
    let fields = format!("{}Content-Length: {}\r\n", basic(OWN), 3_u64 << 30);
    let mut wire = scene.inside();
    wire.send(scene.post(RECEIVE, &fields, &body));
    assert_eq!(wire.read_head().phrase, "egressd: ref_not_allowed");
    drop(wire);
    scene.proxy.record(|record| record["event"] == "close" && record["ending"] == "refused");
}

#[test]
fn large_files_are_pushed_only_where_every_branch_may_change_and_never_with_credentials_of_egressd() {
    let oid = "ab".repeat(32);
    let upload = r#"{"operation":"upload","objects":[]}"#;
    let asking = |scene: &Scene| {
        let batch = format!(
            "POST /own.git/info/lfs/objects/batch HTTP/1.1\r\nHost: {HOST}:{}\r\nContent-Type: application/vnd.git-lfs+json\r\n\
             Accept: application/vnd.git-lfs+json\r\nContent-Length: {}\r\n{}\r\n{upload}",
            scene.site.port(),
            upload.len(),
            basic(OWN)
        );
        let put = |place: &str| {
            format!(
                "PUT /own.git/{place}/{oid}/2 HTTP/1.1\r\nHost: {HOST}:{}\r\nContent-Length: 2\r\n{}\r\nab",
                scene.site.port(),
                basic(OWN)
            )
        };
        [batch, put("info/lfs/objects"), put("gitlab-lfs/objects")]
    };
    let scene = Scene::new(PUSHES);
    for request in asking(&scene) {
        let mut wire = scene.inside();
        wire.send(request);
        let refused = scene.proxy.refused(wire, 403, "ref_not_allowed");
        assert!(refused.reply.body.contains("an upload of Git LFS belongs to no ref"), "{:?}", refused.reply);
    }
    assert_eq!(scene.site.got().len(), 0);
    // As a mirror has it.
    let mirror = PUSHES.replace("refs/heads/main", "\"refs/heads/**\"");
    let scene = Scene::new(&mirror);
    for (request, sent) in asking(&scene).into_iter().zip(1..) {
        let mut wire = scene.inside();
        wire.send(request);
        assert_eq!((wire.read_reply().status, scene.site.got().len()), (200, sent));
    }
    let world = World::new();
    let site = world.site();
    let directory = world.directory();
    write(&directory.path().join("push.cred"), format!("{OWN}:secret\n"));
    let options = mirror.replace("aws:", "credentials_file: push.cred, aws:");
    let proxy = Egressd::start_in(directory, &World::config(site.port(), &options));
    let scene = Scene { world, site, proxy };
    for request in asking(&scene) {
        let mut wire = scene.inside();
        wire.send(request);
        assert_eq!(wire.read_reply().status, 403);
    }
    assert_eq!(scene.site.got().len(), 0);
}

#[test]
fn a_refusal_of_large_files_is_told_in_the_form_that_git_lfs_shows() {
    let scene = Scene::new(READS);
    let body = r#"{"operation":"upload","objects":[]}"#;
    let mut wire = scene.inside();
    wire.send(format!(
        "POST /own.git/info/lfs/objects/batch HTTP/1.1\r\nHost: {HOST}:{}\r\nContent-Type: application/vnd.git-lfs+json\r\n\
         Accept: application/vnd.git-lfs+json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        scene.site.port(),
        body.len()
    ));
    let reply = wire.read_reply();
    assert_eq!((reply.status, reply.phrase.as_str()), (403, "egressd: git_not_allowed"));
    assert_eq!(reply.header("content-type"), Some("application/vnd.git-lfs+json"));
    let told: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
    let message = told["message"].as_str().expect("text");
    assert!(message.starts_with("egressd: git_not_allowed: entry 1 of "), "{message}");
    assert_eq!(told["request_id"].as_str(), reply.header("x-request-id"));
}

#[test]
fn a_body_that_the_signature_covers_goes_on_as_it_came_or_not_at_all() {
    let mut scene = Scene::new(READS);
    let signing = "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/codecommit/aws4_request, \
                   SignedHeaders=host, Signature=00\r\nGit-Protocol: version=2\r\n";
    let plain: Vec<u8> = {
        let text = String::from_utf8(fetch()).expect("text");
        text.replace("0014agent=git/secret", "").into_bytes()
    };
    let zip = format!("{signing}Content-Encoding: gzip\r\n");
    let mut wire = scene.inside();
    for (fields, body) in [(&*zip, zipped(&plain)), (signing, fetch())] {
        wire.send(scene.with_length(UPLOAD, fields, &body));
        let reply = wire.read_reply();
        assert!(
            reply.body.contains("ERR egressd: git_not_allowed: the request's signature covers its body"),
            "{reply:?}"
        );
    }
    assert_eq!(scene.site.got().len(), 0);
    // It has nothing that would be changed.
    wire.send(scene.with_length(UPLOAD, signing, &plain));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.last().body, plain);
    let report = World::config(scene.site.port(), READS)
        .replace("  - name: test\n", "  - name: test\n    mode: report\n");
    scene.proxy = scene.world.start(&report);
    let mut wire = scene.inside();
    for (fields, body) in [(&*zip, zipped(&plain)), (signing, fetch())] {
        wire.send(scene.with_length(UPLOAD, fields, &body));
        assert_eq!(wire.read_reply().status, 200);
        assert_eq!(scene.last().body, body);
    }
    scene.proxy.record(|record| {
        record["event"] == "request"
            && record["decision"] == "would_deny"
            && record["reason"] == "git_not_allowed"
    });
}

#[test]
fn what_would_let_a_refused_push_pass_is_shown_and_does() {
    let scene = Scene::new(PUSHES);
    let push =
        |name: &str| scene.with_length(RECEIVE, &basic(OWN), &[&updates(&[name])[..], b"PACK"].concat());
    let mut wire = scene.inside();
    wire.send(push("refs/heads/other"));
    assert_eq!(wire.read_reply().phrase, "egressd: ref_not_allowed");
    let refused = |scene: &Scene| {
        let decisions: serde_json::Value =
            serde_json::from_str(&scene.proxy.get("/api/decisions").body).expect("JSON");
        decisions["refused"][0].clone()
    };
    let shown = refused(&scene);
    let line = shown["allow"]["line"].as_str().expect("an entry");
    assert!(
        line.starts_with("- {git: [push], repositories: [\"/own\"], refs: [\"refs/heads/other\"]"),
        "{line}"
    );
    let place = shown["allow"]["place"].as_str().expect("a place");
    assert!(place.starts_with("under `requests` of `https://a.test:"), "{place}");
    let entry = line.strip_prefix("- ").expect("an item");
    reload(
        &scene.proxy,
        &World::config(scene.site.port(), &PUSHES.replacen("[{", &format!("[{entry}, {{"), 1)),
    );
    assert_eq!(refused(&scene)["allowed_now"], true);
    let mut wire = scene.inside();
    wire.send(push("refs/heads/other"));
    assert_eq!(wire.read_reply().status, 200);
    assert_eq!(scene.site.got().len(), 1);
}
