//! Data may come in, and none may go out: a development side that mirrors to an account, and an isolated side that pulls from it.
//!
//! ```text
//!  gitlab 10.30.1.10 ── devel ── egressd ─┐ world
//!                                         ├─────── git-codecommit.…, 52.119.196.66: every account's repositories
//!  terminal 10.40.1.10 ── iso ── egressd ─┘
//! ```
//!
//! Each is a host of its own, and the only way out of a side is its egressd. The host name is the same for all accounts, so a list of
//! domains cannot tell them apart.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::itself::now;
use super::{Account, CodeCommit, HOST, has};
use crate::git::User;
use crate::support::{Authority, Egressd, Record, command, directory, until, write};
use crate::tool::{Ran, isolate};
use crate::whole_system::network::{Fabric, Host};

const CODECOMMIT: Ipv4Addr = Ipv4Addr::new(52, 119, 196, 66);
const SECRET: &str = "refs/heads/secret";

/// The development side pushes to the mirror in production, deletes included, and reads nothing.
const DEVELOPMENT: &str = "
      - to: git-codecommit.ap-northeast-1.amazonaws.com
        name: mirror
        requests:
          - git: [push]
            repositories: [/v1/repos/mirror]
            refs: [\"refs/heads/**\", \"refs/tags/**\"]
            ref_changes: [create, update, delete]
            aws: {accounts: [\"210987654321\"], services: [codecommit], regions: [ap-northeast-1]}
";

/// The isolated side reads from the same account.
const ISOLATED: &str = "
      - to: git-codecommit.ap-northeast-1.amazonaws.com
        name: pull
        requests:
          - git: [fetch]
            repositories: [/v1/repos/mirror]
            aws: {accounts: [\"210987654321\"], services: [codecommit], regions: [ap-northeast-1]}
";

/// One side: a machine with git, and the egressd that is its way out.
struct Side {
    machine: Host,
    user: User,
    proxy: Egressd,
    proxy_host: Host,
    url: String,
}

impl Side {
    fn start(
        fabric: &Fabric,
        (network, net, machine): (&'static str, u8, &'static str),
        (proxy_name, last): (&'static str, u8),
        rules: &str,
        targets: &Authority,
    ) -> Self {
        let machine = fabric.host(machine, &[(network, &format!("10.{net}.1.10/24"))], "");
        let proxy_host = fabric.host(
            proxy_name,
            &[(network, &format!("10.{net}.1.5/24")), ("world", &format!("52.119.196.{last}/24"))],
            "",
        );
        // Each side has an inspection authority of its own.
        let inspection = Authority::new();
        let directory = directory();
        let root = directory.path();
        write(&root.join("roots.pem"), targets.pem());
        write(&root.join("ca.crt"), inspection.pem());
        write(&root.join("ca.key"), inspection.key_pem());
        let text = format!(
            "listeners: [{{name: proxy, address: 10.{net}.1.5:3128}}]\nadmin: {{address: 127.0.0.1:9180}}\npolicies:\n  - name: {network}\n    \
             allow:{rules}certificates: {{roots: roots.pem}}\ninspection: {{certificate: ca.crt, key: ca.key}}\n\
             dns: {{hosts: {{{HOST}: [{CODECOMMIT}]}}}}\n"
        );
        write(&root.join("egressd.yaml"), text);
        let mut run = proxy_host.command(command().get_program().to_str().expect("a path in UTF-8"));
        run.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        run.arg("run").arg("--config").arg(root.join("egressd.yaml"));
        let proxy = Egressd::spawn(directory, run);
        let side = Side {
            user: User::new(&inspection),
            url: format!("http://{}", proxy.address()),
            machine,
            proxy,
            proxy_host,
        };
        until("egressd to be ready", || {
            let ran = side.proxy_host.curl(&["--fail", "http://127.0.0.1:9180/readyz"]);
            (ran.code == Some(0)).then_some(())
        });
        side
    }

    /// On the side's machine, with the proxy in its environment.
    fn command(&self, program: &str) -> Command {
        let mut command = self.machine.command("timeout");
        isolate(&mut command, self.user.home());
        command.args(["--kill-after=5", "60", program]);
        command.env("https_proxy", &self.url).env("http_proxy", &self.url);
        command.env("GIT_SSL_CAINFO", self.user.path("ca.pem"));
        command
    }

    fn git(&self, directory: &Path, arguments: &[&str]) -> Ran {
        Ran::of(self.command("git").arg("-C").arg(directory).args(arguments))
    }

    fn done(&self, directory: &Path, arguments: &[&str]) -> String {
        let ran = self.git(directory, arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}\n{}{}", ran.stdout, ran.stderr);
        ran.stdout + &ran.stderr
    }

    /// Commits a file, on a branch of this name: the commit's id.
    fn commit(&self, directory: &Path, branch: &str, content: &[u8]) -> String {
        self.done(directory, &["checkout", "--quiet", "-B", branch]);
        write(&directory.join(format!("{branch}.bin")), content);
        self.done(directory, &["add", "."]);
        self.done(directory, &["commit", "--quiet", "--message", branch]);
        self.done(directory, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// What a client that asks for no refs first sends: a push of this commit to [`SECRET`], with its pack, as curl posts it.
    fn post(&self, directory: &Path, url: &str, credentials: &(String, String), commit: &str) -> Ran {
        let line = format!("{} {commit} {SECRET}\0 report-status side-band-64k", "0".repeat(40));
        let mut body = format!("{:04x}{line}0000", line.len() + 4).into_bytes();
        write(&self.user.path("revisions"), format!("{commit}\n"));
        let mut pack = self.command("git");
        pack.arg("-C").arg(directory).args(["pack-objects", "--quiet", "--stdout", "--revs"]);
        pack.stdin(std::fs::File::open(self.user.path("revisions")).expect("written"));
        let packed = pack.output().expect("git runs");
        assert!(packed.status.success() && packed.stdout.starts_with(b"PACK"), "{packed:?}");
        body.extend(packed.stdout);
        write(&self.user.path("body"), body);
        let mut curl = self.command("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]).arg(self.user.path("ca.pem"));
        curl.args(["--user", &format!("{}:{}", credentials.0, credentials.1), "--data-binary"])
            .arg(format!("@{}", self.user.path("body").display()));
        curl.args(["--header", "Content-Type: application/x-git-receive-pack-request"]);
        curl.args(["--write-out", "\n%{http_code}", &format!("{url}/git-receive-pack")]);
        Ran::of(&mut curl)
    }

    fn refusal(&self, wanted: impl Fn(&Record) -> bool) -> Record {
        self.proxy.record(|record| record["event"] == "deny" && wanted(record))
    }
}

/// Both sides, and the server with two accounts, each of which has a repository `mirror`.
struct Scene {
    dev: Side,
    iso: Side,
    server: CodeCommit,
    production: Account,
    foreign: Account,
    mirror: PathBuf,
    abroad: PathBuf,
    _server_host: Host,
    _fabric: Fabric,
}

impl Scene {
    fn start() -> Self {
        let fabric = Fabric::new(&["devel", "iso", "world"]);
        let targets = Authority::new();
        let (production, foreign) = (Account::new("210987654321", 1), Account::new("456247553902", 1));
        let server_host = fabric.host("aws", &[("world", "52.119.196.66/24")], "");
        let server = CodeCommit::start(
            |program| server_host.command(program),
            &targets,
            (CODECOMMIT, 443).into(),
            &[&production, &foreign],
        );
        let dev = Side::start(&fabric, ("devel", 30, "gitlab"), ("out-a", 11), DEVELOPMENT, &targets);
        let iso = Side::start(&fabric, ("iso", 40, "terminal"), ("out-b", 12), ISOLATED, &targets);
        let (mirror, abroad) = (server.create(&production, "mirror"), server.create(&foreign, "mirror"));
        Scene {
            dev,
            iso,
            server,
            production,
            foreign,
            mirror,
            abroad,
            _server_host: server_host,
            _fabric: fabric,
        }
    }

    fn url(&self, credentials: &(String, String)) -> String {
        self.server.url(Some(credentials), "mirror")
    }

    /// Mirrors as Gitaly does: it lists the refs, and pushes ten at a time with force.
    fn mirrors(&self, source: &Path, refspecs: &[&str]) {
        let url = self.url(&self.production.pusher());
        self.dev.done(source, &["-c", "http.followRedirects=false", "ls-remote", &url]);
        let push = ["-c", "http.followRedirects=false", "push", "--quiet", "--force", &url];
        for ten in refspecs.chunks(10) {
            self.dev.done(source, &[&push, ten].concat());
        }
    }

    /// Data has been mirrored, and the isolated terminal has a clone: the clone, and the content of the file that was mirrored.
    fn mirrored(&self) -> PathBuf {
        let source = self.dev.user.repository("source", 2 << 20);
        self.mirrors(&source, &["refs/heads/main", "refs/tags/release/3.0"]);
        self.iso
            .done(self.iso.user.home(), &["clone", "--quiet", &self.url(&self.production.puller()), "clone"]);
        self.iso.user.path("clone")
    }
}

#[test]
fn the_mirror_pushes_and_the_isolated_terminal_pulls() {
    let scene = Scene::start();
    let (dev, iso) = (&scene.dev, &scene.iso);
    let source = dev.user.repository("source", 2 << 20);
    dev.done(&source, &["branch", "merged"]);
    dev.done(&source, &["branch", "feature/one"]);
    dev.done(&source, &["tag", "v9"]);
    let all = [
        "refs/heads/main",
        "refs/heads/merged",
        "refs/heads/feature/one",
        "refs/tags/v9",
        "refs/tags/release/3.0",
    ];
    scene.mirrors(&source, &all);
    let refs = |of: &Side, path: &Path| {
        of.done(path, &["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"])
    };
    assert_eq!(scene.server.refs(&scene.mirror), refs(dev, &source));
    // Later: a branch was rewritten, and a merged one is gone.
    dev.done(&source, &["commit", "--quiet", "--amend", "--allow-empty", "--message", "rewritten"]);
    dev.done(&source, &["branch", "-D", "merged"]);
    scene.mirrors(&source, &["refs/heads/main", ":refs/heads/merged"]);
    assert_eq!(scene.server.refs(&scene.mirror), refs(dev, &source));
    assert_eq!(scene.server.refs(&scene.abroad), "");

    // The isolated side has it all, and the next time what is new.
    iso.done(
        iso.user.home(),
        &["clone", "--quiet", "--mirror", &scene.url(&scene.production.puller()), "clone"],
    );
    let clone = iso.user.path("clone");
    assert_eq!(refs(iso, &clone), refs(dev, &source));
    let id = dev.commit(&source, "next", b"more");
    scene.mirrors(&source, &["refs/heads/next"]);
    iso.done(&clone, &["fetch", "--quiet", "--prune"]);
    assert_eq!(iso.done(&clone, &["rev-parse", "refs/heads/next"]).trim(), id);
    iso.done(&clone, &["fsck", "--full", "--strict"]);
    // By a signature in place of a password, too.
    let signed = scene.production.signer("mirror", &now(iso.user.home(), "now"));
    iso.done(&clone, &["ls-remote", &scene.url(&signed)]);

    // What was pushed is on record, each change with its ids.
    let pushed = dev.proxy.record(|record| {
        record["event"] == "request" && record["git"]["refs"][0]["name"] == "refs/heads/next"
    });
    has(
        &pushed,
        &json!({
            "decision": "allow", "policy": "devel", "rule": HOST, "status": 200,
            "git": {"operation": "push", "repository": "/v1/repos/mirror",
                    "refs": [{"name": "refs/heads/next", "change": "create", "old": null, "new": id}]},
        }),
    );
    assert_eq!(pushed["aws"]["account"], "210987654321", "{pushed:?}");
    assert_eq!(pushed["aws"]["service"], "codecommit", "{pushed:?}");
    let later = dev.proxy.record(|record| record["event"] == "request" && record["git"]["ref_count"] == 2);
    let changed = |name: &str| {
        let refs = later["git"]["refs"].as_array().expect("a list");
        refs.iter().find(|change| change["name"] == name).map(|change| change["change"].clone())
    };
    assert_eq!(changed("refs/heads/main"), Some(json!("update")));
    assert_eq!(changed("refs/heads/merged"), Some(json!("delete")));
    let fetched =
        iso.proxy.record(|record| record["event"] == "request" && record["git"]["operation"] == "fetch");
    has(&fetched, &json!({"decision": "allow", "policy": "iso", "rule": HOST}));
    for side in [dev, iso] {
        let refused: Vec<Record> =
            side.proxy.records().into_iter().filter(|r| r["event"] == "deny").collect();
        assert!(refused.is_empty(), "{refused:?}");
    }
    let logs = dev.proxy.log() + &iso.proxy.log() + &dev.proxy.stderr() + &iso.proxy.stderr();
    for (_, password) in [scene.production.puller(), scene.production.pusher(), signed] {
        assert!(!logs.contains(&password), "a password in the log");
    }
}

#[test]
fn the_isolated_terminal_cannot_push_as_a_user_who_may() {
    let scene = Scene::start();
    let iso = &scene.iso;
    let clone = scene.mirrored();
    let before = scene.server.refs(&scene.mirror);
    let seen = scene.server.seen("head").len();
    let secret = iso.commit(&clone, "secret", &[b's'; 100_000]);
    let pusher = scene.production.pusher();
    let signer = scene.production.signer("mirror", &now(iso.user.home(), "now"));
    for credentials in [&pusher, &signer, &scene.production.puller()] {
        let ran = iso.git(&clone, &["push", &scene.url(credentials), "secret"]);
        assert_eq!(ran.code, Some(128), "{ran:?}");
        assert!(ran.stderr.contains("remote: egressd: git_not_allowed"), "{ran:?}");
        assert!(!ran.stderr.contains("Everything up-to-date"), "{ran:?}");
    }
    let denied = iso.refusal(|record| record["git"]["operation"] == "push");
    // Git asks without credentials first, is asked for them, and is refused with them.
    has(
        &denied,
        &json!({
            "reason": "git_not_allowed", "decision": "deny", "policy": "iso", "status": 403,
            "git": {"repository": "/v1/repos/mirror"}, "aws": {"account": "210987654321"},
        }),
    );
    // A client that asks for no refs first: the list of its changes is on record, and it is told in Git's words.
    let url = scene.server.url(None, "mirror");
    let ran = iso.post(&clone, &url, &pusher, &secret);
    assert!(ran.stdout.contains(&format!("ng {SECRET} egressd: git_not_allowed")), "{ran:?}");
    assert!(ran.stdout.ends_with("\n200"), "{ran:?}");
    let denied = iso.refusal(|record| !record["git"]["refs"][0].is_null());
    has(
        &denied,
        &json!({
            "reason": "git_not_allowed", "status": 200,
            "git": {"operation": "push", "repository": "/v1/repos/mirror",
                    "refs": [{"name": SECRET, "change": "create", "old": null, "new": secret}]},
            "aws": {"account": "210987654321"},
        }),
    );
    // Nothing of it came to the server, not even the question.
    assert_eq!(scene.server.seen("head").len(), seen, "{:?}", scene.server.seen("head"));
    assert_eq!(scene.server.refs(&scene.mirror), before);
    // It may still pull.
    iso.done(&clone, &["fetch", "--quiet", "origin"]);
}

#[test]
fn nothing_reaches_a_foreign_account_behind_the_same_name() {
    let scene = Scene::start();
    let clone = scene.mirrored();
    let url = scene.server.url(None, "mirror");
    let pusher = scene.foreign.pusher();
    // Of a key, the id tells its account.
    let signer = scene.foreign.signer("mirror", &now(scene.iso.user.home(), "now"));
    let seen = scene.server.seen("head").len();
    let source = scene.dev.user.path("source");
    for (side, repository, policy) in [(&scene.iso, &clone, "iso"), (&scene.dev, &source, "devel")] {
        let secret = side.commit(repository, "secret", &[b's'; 100_000]);
        for (credentials, key) in [(&pusher, None), (&signer, Some(&signer.0))] {
            let ran = side.git(repository, &["push", &scene.url(credentials), "secret"]);
            assert_eq!(ran.code, Some(128), "{ran:?}");
            assert!(ran.stderr.contains("remote: egressd: "), "{ran:?}");
            let denied = side.refusal(|record| {
                record["git"]["operation"] == "push" && record["aws"]["access_key"] == json!(key)
            });
            has(
                &denied,
                &json!({
                    "decision": "deny", "policy": policy, "status": 403, "git": {"repository": "/v1/repos/mirror"},
                    "aws": {"account": "456247553902", "service": "codecommit", "region": "ap-northeast-1"},
                }),
            );
        }
        let ran = side.post(repository, &url, &pusher, &secret);
        assert!(ran.stdout.contains(&format!("ng {SECRET} egressd: ")), "{ran:?}");
        let denied = side.refusal(|record| !record["git"]["refs"][0].is_null());
        has(
            &denied,
            &json!({
                "status": 200, "policy": policy, "aws": {"account": "456247553902"},
                "git": {"operation": "push", "repository": "/v1/repos/mirror",
                        "refs": [{"name": SECRET, "change": "create", "old": null, "new": secret}]},
            }),
        );
    }
    // The development side may push, and to this repository: the account is all that is wrong.
    let reasons: Vec<Record> =
        scene.dev.proxy.records().into_iter().filter(|record| record["event"] == "deny").collect();
    assert!(reasons.iter().all(|record| record["reason"] == "account_not_allowed"), "{reasons:?}");
    // To read there is as little allowed as to write.
    let ran = scene.iso.git(&clone, &["ls-remote", &scene.url(&scene.foreign.puller())]);
    assert!(ran.stderr.contains("remote: egressd: account_not_allowed"), "{ran:?}");
    assert_eq!(scene.server.seen("head").len(), seen, "{:?}", scene.server.seen("head"));
    assert_eq!(scene.server.refs(&scene.abroad), "");
}

/// Whatever a client says of its account, either egressd or the server finds it out.
#[test]
fn a_client_that_lies_about_its_account_fails_at_one_or_the_other() {
    let scene = Scene::start();
    let clone = scene.mirrored();
    let before = (scene.server.refs(&scene.mirror), scene.server.refs(&scene.abroad));
    let (theirs, ours) = (scene.foreign.pusher(), scene.production.pusher());
    let time = now(scene.iso.user.home(), "now");
    let (our_key, _) = scene.production.signer("mirror", &time);
    let (_, their_signature) = scene.foreign.signer("mirror", &time);
    let source = scene.dev.user.path("source");
    scene.dev.commit(&source, "secret", b"secret");
    for (what, user, password, by_egressd) in [
        (
            "our account last",
            format!("x-at-{}-at-{}", scene.foreign.number, scene.production.number),
            &theirs.1,
            false,
        ),
        (
            "theirs last",
            format!("x-at-{}-at-{}", scene.production.number, scene.foreign.number),
            &theirs.1,
            true,
        ),
        ("our user and their password", ours.0.clone(), &theirs.1, false),
        ("our key id and their signature", our_key.clone(), &their_signature, false),
        ("our key id and their name for a token", format!("{our_key}%{}", theirs.0), &their_signature, false),
        ("a key id in lower case", our_key.to_lowercase(), &their_signature, true),
        ("an old key id", "AKIAIOSFODNN7EXAMPLE".to_owned(), &their_signature, true),
        ("an account of 13 digits", format!("x-at-1{}", scene.production.number), &theirs.1, true),
    ] {
        let seen = scene.server.seen("head").len();
        let credentials = (user, password.clone());
        let ran = scene.dev.git(&source, &["push", &scene.url(&credentials), "secret"]);
        assert_eq!(ran.code, Some(128), "{what} {ran:?}");
        assert_eq!(ran.stderr.contains("remote: egressd: account_not_allowed"), by_egressd, "{what} {ran:?}");
        let asked = scene.server.seen("head").split_off(seen);
        assert_eq!(asked.is_empty(), by_egressd, "{what} {asked:?}");
        assert!(asked.iter().all(|line| line["status"] == 403), "{what} {asked:?}");
        let ran = scene.iso.git(&clone, &["ls-remote", &scene.url(&credentials)]);
        assert_ne!(ran.code, Some(0), "{what} {ran:?}");
    }
    assert_eq!((scene.server.refs(&scene.mirror), scene.server.refs(&scene.abroad)), before);
    assert!(scene.server.seen("head").iter().all(|line| line["account"] != scene.foreign.number));
}
