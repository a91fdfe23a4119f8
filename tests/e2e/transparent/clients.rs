//! Programs as they are, and none of them told of a proxy: git, wget, pip, npm, Node, Python, Java and Go.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::json;

use super::nothing_was_misled;
use super::router::{Filter, Router};
use crate::compiled;
use crate::git::User;
use crate::git_server::{CREDENTIALS, HELLO, HOST};
use crate::support::{Record, until, write};
use crate::tool::Ran;

/// A program that is talked to.
pub(crate) struct Talk {
    child: Child,
    said: BufReader<ChildStdout>,
}

/// What it is told.
pub(crate) struct Told(ChildStdin);

impl Talk {
    pub(crate) fn start(mut command: Command) -> (Told, Talk) {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let told = Told(child.stdin.take().expect("was asked for"));
        let said = BufReader::new(child.stdout.take().expect("was asked for"));
        (told, Talk { child, said })
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }
}

impl Told {
    pub(crate) fn line(&mut self, line: &str) {
        writeln!(self.0, "{line}").expect("it listens");
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn git_pushes_and_clones(router: &Router) {
    router.git.create("mirror");
    let user = User::new(router.authority());
    let repository = user.repository("work", 1 << 20);
    let (name, password) = CREDENTIALS;
    let url = format!("https://{name}:{password}@{HOST}/v1/repos/mirror");
    let git = |directory: &std::path::Path, arguments: &[&str]| {
        let mut git = router.client("git");
        git.env("GIT_CONFIG_GLOBAL", user.path("gitconfig")).env("GIT_SSL_CAINFO", router.authority_file());
        Ran::ok(git.arg("-C").arg(directory).args(arguments))
    };
    git(&repository, &["push", "--quiet", "--mirror", &url]);
    git(user.home(), &["clone", "--quiet", "--mirror", &url, "back.git"]);
    let refs = |path: &std::path::Path| git(path, &["for-each-ref"]);
    assert_eq!(refs(&repository), refs(&user.path("back.git")));
    let mut git = router.client("git");
    let ran = Ran::of(git.args(["ls-remote", "https://evil.example.com/x.git"]));
    assert_eq!(ran.code, Some(128), "{ran:?}");
    // GnuTLS and OpenSSL have words of their own for it.
    let told = ran.stderr.to_lowercase();
    assert!(told.contains("alert") || told.contains("access"), "{}", ran.stderr);
}

fn wget_fetches(router: &Router) {
    let wget = |url: &str| {
        let mut wget = router.client("wget");
        wget.args([
            "--quiet",
            "--server-response",
            "--tries=1",
            "--timeout=30",
            "--output-document=-",
            "--ca-certificate",
        ]);
        Ran::of(wget.arg(router.authority_file()).arg(url))
    };
    assert_eq!(wget("http://web.example.com/page").stdout, "plain\n");
    assert_eq!(wget(&format!("https://{HOST}/hello")).stdout, HELLO);
    let refused = wget("http://evil.example.com/");
    assert_eq!(refused.code, Some(8), "{refused:?}");
    assert!(refused.stderr.contains("403 egressd: host_not_allowed"), "{}", refused.stderr);
    assert_eq!(wget("https://evil.example.com/").code, Some(4), "the handshake fails");
}

fn pip_installs(router: &Router) {
    let www = router.home().join("www");
    std::fs::create_dir_all(www.join("simple/tale")).expect("a directory");
    let wheel = "tale-1.0-py3-none-any.whl";
    write(&www.join("simple/tale/index"), format!("<!DOCTYPE html><a href=\"/{wheel}\">{wheel}</a>"));
    let script = "import zipfile,sys\nz=zipfile.ZipFile(sys.argv[1],'w')\nz.writestr('tale.py','word=1')\n\
                  z.writestr('tale-1.0.dist-info/METADATA','Metadata-Version: 2.1\\nName: tale\\nVersion: 1.0\\n')\n\
                  z.writestr('tale-1.0.dist-info/WHEEL','Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
                  z.writestr('tale-1.0.dist-info/RECORD','')";
    Ran::ok(router.client("python3").args(["-c", script]).arg(www.join(wheel)));
    let pip = |host: &str| {
        let mut pip = router.client("python3");
        pip.args([
            "-m",
            "pip",
            "download",
            "--disable-pip-version-check",
            "--no-cache-dir",
            "--retries=0",
            "--no-deps",
            "--dest",
        ]);
        pip.arg(router.home().join("wheels")).args([
            "--trusted-host",
            host,
            "--index-url",
            &format!("http://{host}/simple/"),
            "tale",
        ]);
        Ran::of(&mut pip)
    };
    let ran = pip("web.example.com");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(router.home().join("wheels").join(wheel).exists());
    assert!(pip("evil.example.com").stderr.contains("No matching distribution"));
    let mut by_url = router.client("python3");
    by_url.args([
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--retries=0",
        "--no-deps",
    ]);
    let refused = Ran::of(by_url.arg(format!("http://evil.example.com/{wheel}")));
    assert!((refused.stdout + &refused.stderr).contains("HTTP error 403"), "pip says the status");
}

fn npm_pings(router: &Router) {
    std::fs::create_dir_all(router.home().join("www/-")).expect("a directory");
    write(&router.home().join("www/-/ping"), "{}");
    let npm = |host: &str| {
        let mut npm = router.client("npm");
        npm.args(["ping", "--fetch-retries=0", "--registry", &format!("http://{host}/")]);
        Ran::of(&mut npm)
    };
    let ran = npm("web.example.com");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let refused = npm("evil.example.com");
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains("403"), "{}", refused.stderr);
}

fn node_and_python_fetch(router: &Router) {
    let node = |url: &str| {
        let script = "require('https').get(process.argv[1],r=>r.pipe(process.stdout)).on('error',e=>{console.error(e.message);process.exit(7)})";
        let mut node = router.client("node");
        Ran::of(node.env("NODE_EXTRA_CA_CERTS", router.authority_file()).args(["-e", script, url]))
    };
    assert_eq!(node(&format!("https://{HOST}/hello")).stdout, HELLO);
    let refused = node("https://evil.example.com/");
    assert!(refused.code == Some(7) && refused.stderr.contains("alert access denied"), "{refused:?}");
    let python = |url: &str| {
        let script = "import sys,urllib.request,ssl\nprint(urllib.request.urlopen(sys.argv[2],context=ssl.create_default_context(\
                      cafile=sys.argv[1])).read().decode(),end='')";
        Ran::of(router.client("python3").args(["-c", script]).arg(router.authority_file()).arg(url))
    };
    assert_eq!(python(&format!("https://{HOST}/hello")).stdout, HELLO);
    let refused = python("https://evil.example.com/");
    assert!(refused.stderr.contains("ALERT_ACCESS_DENIED"), "{}", refused.stderr);
}

#[test]
fn programs_that_know_no_proxy_work_and_see_why_not() {
    let router = Router::new(Filter::Redirect);
    git_pushes_and_clones(&router);
    wget_fetches(&router);
    pip_installs(&router);
    npm_pings(&router);
    node_and_python_fetch(&router);
    let records = router.proxy.records();
    assert!(records.iter().all(|record| record["protocol"] == "transparent"), "{records:?}");
    let of_git = |record: &Record| record["event"] == "close" && record["sni"] == HOST;
    router.proxy.record(of_git).assert_has(&json!({"decision": "allow", "rule": HOST}));
    nothing_was_misled(&router);
}

#[test]
fn java_and_go_work_and_see_why_not() {
    let router = Router::new(Filter::Redirect);
    compiled::java(compiled::BY_JAVA.as_ref(), router.home());
    let by_go = compiled::go(compiled::BY_GO.as_ref(), router.home());
    let java = || {
        let mut java = router.client("java");
        java.args(compiled::class(router.home(), "ByJava"));
        java
    };
    let go = || router.client(&by_go);
    let clients: [(&str, &dyn Fn() -> Command, &str); 2] = [
        ("Java", &java, "Received fatal alert: access_denied"),
        ("Go", &go, "remote error: tls: access denied"),
    ];
    for (name, client, alert) in clients {
        let ask = |url: &str| Ran::of(client().env("URL", url).env("CA", router.authority_file()));
        for (url, page) in
            [(format!("https://{HOST}/hello"), HELLO), ("http://web.example.com/page".into(), "plain\n")]
        {
            let ran = ask(&url);
            assert_eq!((ran.code, &*ran.stdout), (Some(0), page), "{name}, {url}: {ran:?}");
        }
        let refused = ask("https://evil.example.com/");
        assert!(refused.code == Some(1) && refused.stderr.contains(alert), "{name}: {refused:?}");
        let refused = ask("http://evil.example.com/");
        assert!(refused.code == Some(1) && refused.stderr.contains("status 403"), "{name}: {refused:?}");
    }
    // The last record may come after its client has ended.
    let refused = |record: &Record| record["reason"] == "host_not_allowed";
    until("four refusals", || {
        (router.proxy.records().into_iter().filter(refused).count() == 4).then_some(())
    });
    let records = router.proxy.records();
    assert!(records.iter().all(|record| record["protocol"] == "transparent"), "{records:?}");
    nothing_was_misled(&router);
}
