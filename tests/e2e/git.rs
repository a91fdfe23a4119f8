//! The main use: a GitLab mirror, pushed to CodeCommit through egressd, and cloned back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::git_server::{CREDENTIALS, GitServer, HOST};
use crate::support::{Authority, Egressd, Record, config, directory, until, write};
use crate::tool::{Ran, tool};

const MIB: usize = 1 << 20;
/// Random bytes do not compress, so the pack has about the same size.
const REPOSITORY: usize = 100 * MIB;

/// A user's environment: a home directory, and a git that trusts the authority.
#[derive(Debug)]
pub(crate) struct User {
    home: TempDir,
}

impl User {
    pub(crate) fn new(authority: &Authority) -> Self {
        let home = directory();
        write(&home.path().join("ca.pem"), authority.pem());
        write(
            &home.path().join("gitconfig"),
            // Compressing random blobs, or searching for deltas between them, takes minutes and gains nothing.
            "[user]\n\tname = Mirror\n\temail = mirror@example.com\n[init]\n\tdefaultBranch = main\n\
             [core]\n\tcompression = 0\n\tbigFileThreshold = 256k\n[gc]\n\tauto = 0\n",
        );
        User { home }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn git(&self, directory: &Path) -> Command {
        let mut git = tool("git", self.home.path());
        git.arg("-C").arg(directory).env("GIT_SSL_CAINFO", self.path("ca.pem"));
        git
    }

    /// git as Gitaly runs it: the environment names the proxy.
    fn git_by(&self, proxy: &Egressd, directory: &Path) -> Command {
        let mut git = self.git(directory);
        git.env("https_proxy", format!("http://{}", proxy.address()));
        git
    }

    /// `size` random bytes in files of a MiB, over commits on three branches, with tags of both kinds.
    pub(crate) fn repository(&self, name: &str, size: usize) -> PathBuf {
        let path = self.path(name);
        let run = |arguments: &[&str]| Ran::ok(self.git(&path).args(arguments));
        Ran::ok(self.git(self.home.path()).args(["init", "--quiet", name]));
        let mut random = std::fs::File::open("/dev/urandom").expect("/dev/urandom");
        for index in 0..size.div_ceil(MIB) {
            let mut blob = vec![0; MIB.min(size - index * MIB)];
            std::io::Read::read_exact(&mut random, &mut blob).expect("randomness");
            write(&path.join(format!("blob-{index}")), blob);
            if index % 10 == 9 || (index + 1) * MIB >= size {
                run(&["add", "."]);
                run(&["commit", "--quiet", "--message", &format!("up to {index}")]);
            }
            match index {
                19 => drop(run(&["tag", "v1"])),
                39 => drop(run(&["branch", "stable"])),
                59 => drop(run(&["checkout", "--quiet", "-b", "feature/mirror"])),
                79 => drop(run(&["tag", "--annotate", "--message", "second", "v2"])),
                89 => drop(run(&["checkout", "--quiet", "main"])),
                _ => {}
            }
        }
        run(&["tag", "--annotate", "--message", "the last", "release/3.0"]);
        path
    }

    /// Everything that two equal repositories have in common: refs, and every object with type and size. An object's
    /// name is the hash of its bytes, and fsck has computed each hash again.
    fn content(&self, repository: &Path) -> Content {
        let run = |arguments: &[&str]| Ran::ok(self.git(repository).args(arguments));
        run(&["fsck", "--full", "--strict", "--no-dangling"]);
        let mut objects: Vec<String> =
            run(&["cat-file", "--batch-all-objects", "--batch-check"]).lines().map(str::to_owned).collect();
        objects.sort();
        Content { refs: run(&["for-each-ref"]), trees: run(&["log", "--all", "--format=%H %T"]), objects }
    }

    fn pack_bytes(&self, repository: &Path) -> u64 {
        let count = Ran::ok(self.git(repository).args(["count-objects", "-v"]));
        let kib = count.lines().find_map(|line| line.strip_prefix("size-pack: ")).expect("size-pack");
        kib.parse::<u64>().expect("a number of KiB") * 1024
    }
}

#[derive(PartialEq)]
struct Content {
    refs: String,
    trees: String,
    objects: Vec<String>,
}

/// The records of all tunnels, as pairs of open and close.
fn tunnels(records: &[Record]) -> Vec<(&Record, &Record)> {
    let of = |event: &'static str| records.iter().filter(move |r| r["event"] == event);
    assert_eq!(of("open").count(), of("close").count(), "each tunnel opens once and closes once");
    of("open")
        .map(|open| {
            let mut closes = of("close").filter(|close| close["id"] == open["id"]);
            let close = closes.next().unwrap_or_else(|| panic!("never closed: {open:?}"));
            assert!(closes.next().is_none(), "closed twice: {open:?}");
            (open, close)
        })
        .collect()
}

fn sum(tunnels: &[(&Record, &Record)], field: &str) -> u64 {
    tunnels.iter().map(|(_, close)| close.number(field)).sum()
}

#[test]
fn a_mirror_of_100_mb_is_pushed_and_cloned_back_with_the_same_bytes() {
    let authority = Authority::new();
    let server = GitServer::start(&authority);
    let user = User::new(&authority);
    let rule = format!("https://{HOST}{}", server.port_suffix());
    let proxy = Egressd::start(
        &(config(&[&rule]) + &format!("dns: {{hosts: {{{HOST}: [{}]}}}}\n", server.address().ip())),
    );

    let source = user.repository("source", REPOSITORY);
    let stored = server.create("mirror");
    let url = server.url("mirror");
    Ran::ok(user.git_by(&proxy, &source).args(["push", "--quiet", "--mirror", &url]));
    let pushes = until("the push's tunnels to close", || all_closed(&proxy));
    Ran::ok(user.git_by(&proxy, user.home.path()).args(["clone", "--quiet", "--mirror", &url, "back"]));

    // The same refs, the same objects.
    let pushed = user.content(&source);
    assert_eq!(pushed.refs.lines().count(), 6, "three branches and three tags:\n{}", pushed.refs);
    assert!(pushed == user.content(&stored), "what the server holds is not what was pushed");
    assert!(pushed == user.content(&user.path("back")), "the clone is not what was pushed");

    // The log.
    until("the clone's tunnels to close", || {
        all_closed(&proxy).filter(|records| records.len() > pushes.len())
    });
    let closed = proxy.records().len() as u64 / 2;
    let metrics = until("the tunnels to be counted", || {
        let metrics = proxy.metrics();
        (metrics.count("egressd_tunnels_total", &[]) == closed).then_some(metrics)
    });
    let ended = proxy.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let tunnels_of_all = tunnels(&ended.records);
    assert_eq!(tunnels_of_all.len() * 2, ended.records.len(), "nothing but tunnels in {:?}", ended.records);
    let is_push = |tunnel: &&(&Record, &Record)| pushes.iter().any(|r| r["id"] == tunnel.0["id"]);
    let (pushing, cloning): (Vec<_>, Vec<_>) = tunnels_of_all.iter().partition(is_push);
    assert!(!pushing.is_empty() && !cloning.is_empty());
    for (open, close) in &tunnels_of_all {
        check_tunnel(open, close, &server, &rule);
    }
    // Every connection that nginx saw is in the log, and no other.
    let mut locals: Vec<&str> = tunnels_of_all.iter().map(|(open, _)| open.text("upstream_local")).collect();
    locals.sort_unstable();
    assert_eq!(locals, server.peers());
    // One pack went up, one came down; TLS and HTTP add at most a tenth.
    let (sent, received) = (sum(&pushing, "sent"), sum(&cloning, "received"));
    for (what, bytes, pack) in [
        ("pushed", sent, user.pack_bytes(&stored)),
        ("cloned", received, user.pack_bytes(&user.path("back"))),
    ] {
        assert!(pack >= REPOSITORY as u64, "a pack of {pack}");
        assert!((pack..pack + pack / 10).contains(&bytes), "{what} {bytes} bytes for a pack of {pack}");
    }
    assert!(sum(&pushing, "received") < MIB as u64 && sum(&cloning, "sent") < MIB as u64);
    assert!(!format!("{:?}{}", ended.records, ended.stderr).contains(CREDENTIALS.1), "a password in the log");

    // The counters agree with the log.
    assert_eq!(metrics.count("egressd_requests_total", &[]), tunnels_of_all.len() as u64);
    let allowed = [("policy", "test"), ("rule", &rule), ("decision", "allow"), ("reason", "")];
    assert_eq!(metrics.count("egressd_requests_total", &allowed), tunnels_of_all.len() as u64);
    let mut endings = BTreeMap::<&str, u64>::new();
    for (_, close) in &tunnels_of_all {
        *endings.entry(close.text("ending")).or_default() += 1;
    }
    for (ending, count) in endings {
        let labels = [("policy", "test"), ("ending", ending)];
        assert_eq!(metrics.count("egressd_tunnels_total", &labels), count, "{ending}");
    }
    assert_eq!(metrics.count("egressd_tunnels_total", &[]), tunnels_of_all.len() as u64);
    for direction in ["sent", "received"] {
        let counted = metrics.count("egressd_bytes_total", &[("policy", "test"), ("direction", direction)]);
        assert_eq!(counted, sum(&tunnels_of_all, direction), "{direction}");
    }
    assert_eq!(metrics.count("egressd_tunnels_active", &[("policy", "test")]), 0);
    let accepted = [("listener", "proxy"), ("result", "accepted")];
    assert_eq!(metrics.count("egressd_connections_total", &accepted), tunnels_of_all.len() as u64);
}

/// All records, once every tunnel so far has closed.
fn all_closed(proxy: &Egressd) -> Option<Vec<Record>> {
    let records = proxy.records();
    let count = |event| records.iter().filter(|r| r["event"] == event).count();
    (count("open") > 0 && count("open") == count("close")).then_some(records)
}

fn check_tunnel(open: &Record, close: &Record, server: &GitServer, rule: &str) {
    let both = json!({
        "listener": "proxy",
        "identity": null,
        "method": "CONNECT",
        "target": server.authority(),
        "sni": HOST,
        "policy": "test",
        "mode": "enforce",
        "rule": rule,
        "decision": "allow",
        "reason": null,
        "upstream": server.address().to_string(),
        "status": 200,
    });
    for record in [open, close] {
        record.assert_has(&both);
        assert_eq!(record["client"], record["peer"], "no PROXY protocol is spoken here");
        assert!(record.text("client").starts_with("127.0.0.1:"));
        assert!(record.text("user_agent").starts_with("git/"), "{record:?}");
        let source = record.text("rule_source");
        assert!(source.ends_with("egressd.yaml:7"), "the rule stands in line 7 of the file, not {source}");
        assert!(record["config"].as_str().is_some_and(|hash| hash.len() == 12));
        assert!(record["instance"].is_string());
    }
    assert_eq!(open["ending"], Value::Null);
    assert!(["client_closed", "upstream_closed"].contains(&close.text("ending")), "{close:?}");
    for field in ["client", "upstream_local", "config"] {
        assert_eq!(open[field], close[field], "{field}");
    }
    assert!(open.text("time") <= close.text("time"));
    assert!(close.number("sent") > 0 && close.number("received") > 0);
    assert!(close["duration_ms"].is_number() && close["connect_ms"].is_number());
}

#[test]
fn a_push_to_a_host_that_is_not_listed_fails_with_403() {
    let authority = Authority::new();
    let user = User::new(&authority);
    let proxy = Egressd::start(&config(&[&format!("https://{HOST}")]));
    let source = user.repository("source", MIB);
    for (url, target) in [
        ("https://gitlab.example.net/mirror.git", "gitlab.example.net:443"),
        (
            "https://git-codecommit.us-east-1.amazonaws.com/v1/repos/x",
            "git-codecommit.us-east-1.amazonaws.com:443",
        ),
    ] {
        let ran = Ran::of(user.git_by(&proxy, &source).args(["push", "--mirror", url]));
        assert_eq!(ran.code, Some(128), "{}", ran.stderr);
        assert!(ran.stderr.contains("CONNECT tunnel failed, response 403"), "{}", ran.stderr);
        let denied = proxy.record(|r| r["target"] == target);
        denied.assert_has(&json!({
            "event": "deny", "method": "CONNECT", "policy": "test", "mode": "enforce", "rule": null, "rule_source": null,
            "decision": "deny", "reason": "host_not_allowed", "status": 403, "upstream": null, "ending": null,
        }));
    }
    let metrics = proxy.metrics();
    let denied = [("policy", "test"), ("rule", ""), ("decision", "deny"), ("reason", "host_not_allowed")];
    assert_eq!(metrics.count("egressd_requests_total", &denied), 2);
    assert_eq!(metrics.count("egressd_requests_total", &[]), 2);
    assert_eq!(metrics.count("egressd_tunnels_total", &[]), 0);
    assert_eq!(proxy.stop().records.len(), 2);
}

/// Newer versions of Gitaly pin the address of a mirror's host, so that the name cannot resolve to another address between
/// Gitaly's check and git's use. This is for git's own connections: with a proxy, the proxy looks the name up.
#[test]
fn a_push_with_its_address_pinned_still_goes_through_the_proxy() {
    let authority = Authority::new();
    let server = GitServer::start(&authority);
    let user = User::new(&authority);
    let rule = format!("https://{HOST}{}", server.port_suffix());
    let proxy = Egressd::start(
        &(config(&[&rule]) + &format!("dns: {{hosts: {{{HOST}: [{}]}}}}\n", server.address().ip())),
    );
    let source = user.repository("source", MIB);
    server.create("mirror");
    // Nothing listens at this address: a push that went there would fail.
    let pinned = format!("http.curloptResolve={HOST}:{}:127.0.0.250", server.address().port());
    let mut push = user.git_by(&proxy, &source);
    Ran::ok(push.args(["-c", &pinned, "push", "--quiet", "--mirror", &server.url("mirror")]));
    let records = until("the push's tunnels to close", || all_closed(&proxy));
    for record in &records {
        record.assert_has(&json!({"target": server.authority(), "upstream": server.address().to_string()}));
    }
    assert!(!server.peers().is_empty());
}
