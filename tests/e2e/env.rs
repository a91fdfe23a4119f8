//! `egressd env`: its outputs, read by the real readers of each format, and used by real clients with no other setting.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::process::Command;

use serde_json::{Value, json};

use crate::packages::{Scene, Way};
use crate::support::{Egressd, Origin, command, config, directory, own_loopback, run, until, write};
use crate::tool::{Ran, isolate, tool};

/// The output for a kind of client.
fn env(kind: &str, via: &str, more: &[&str]) -> String {
    let mut arguments = vec!["env", "--for", kind, "--via", via];
    arguments.extend(more);
    let ran = run(&arguments);
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).expect("UTF-8")
}

/// Paths that a reader might take apart, or put something into.
const PATHS: &[&str] = &[
    "/ca/a b.pem",
    "/ca/$HOME.pem",
    "/ca/${HOME}.pem",
    "/ca/$(HOME).pem",
    "/ca/$$.pem",
    "/ca/`id`.pem",
    "/ca/\"q\".pem",
    "/ca/it's.pem",
    "/ca/back\\slash\\n.pem",
    "/ca/%HOME%.pem",
    "/ca/%h.pem",
    "/ca/#{1+1}.pem",
    "/ca/ #c.pem",
    "/ca/ü€.pem",
    "/ca/a: b.pem",
    "/ca/*.pem",
    "/ca/!x.pem",
    "/ca/{a,b}.pem",
    "~/x.pem",
    "/ca/&a;b|c.pem",
    "/ca/a'b\"c\\d$e.pem",
    "- a",
    "null",
];

/// Reads a file in one of the formats with the real reader, and prints an object of its variables.
const READER: &str = r#"
import json, re, subprocess, sys
kind, path = sys.argv[1:]
def expanded(text):
    # Kubernetes: third_party/forked/golang/expansion. `$$` is `$`, `$(NAME)` a variable, all else as it is.
    return re.sub(r"\$\$|\$\(([^)]*)\)", lambda m: "$" if m[0] == "$$" else {"KUBERNETES_SERVICE_HOST": "10.100.0.1"}[m[1]], text)
if kind == "shell":
    shells = [["sh"], ["bash"]]
    read = [subprocess.run(shell + ["-c", 'set -eu; . "$0"; env -0', path], check=True, capture_output=True, env={"PATH": "/usr/bin:/bin"}).stdout for shell in shells]
    both = [dict(pair.split("=", 1) for pair in one.decode().split("\0") if pair) for one in read]
    names = re.findall(r"(?m)^export (\w+)=", open(path).read())
    assert [[one[name] for name in names] for one in both[:1]] == [[one[name] for name in names] for one in both[1:]]
    found = {name: both[0][name] for name in names}
elif kind == "dotenv":
    import dotenv
    found = dotenv.dotenv_values(path)
elif kind == "kubernetes":
    import yaml
    found = {item["name"]: expanded(item["value"]) for item in yaml.safe_load(open(path))["env"]}
elif kind == "gitlab-ci":
    import yaml
    def variable(value):
        if isinstance(value, dict):
            assert value["expand"] is False
            return value["value"]
        assert not re.search(r"\$(?:[a-zA-Z_]\w*|\{\w+\})|%[a-zA-Z_]\w*%", value), value
        return value
    found = {name: variable(value) for name, value in yaml.safe_load(open(path))["variables"].items()}
elif kind == "gitlab-rb":
    ruby = "gitaly, gitlab_rails, gitlab_workhorse = {}, {}, {}; require 'json'; eval(File.read(ARGV[0]));" \
        "raise 'parts differ' unless gitaly == gitlab_rails && gitaly == gitlab_workhorse; puts JSON.generate(gitaly['env'])"
    found = json.loads(subprocess.run(["ruby", "-e", ruby, path], check=True, capture_output=True).stdout)
print(json.dumps(found))
"#;

/// What a reader found. Debian's Python, which has the packages that tests/run installs.
fn read_by(kind: &str, text: &str) -> Value {
    let home = directory();
    let file = home.path().join("output");
    write(&file, text);
    let mut reader = tool("/usr/bin/python3", home.path());
    let found = Ran::ok(reader.args(["-c", READER, kind]).arg(&file));
    serde_json::from_str(&found).unwrap_or_else(|error| panic!("{found}: {error}"))
}

#[test]
fn the_real_readers_get_exactly_the_values() {
    let via = "http://egressd.example.internal:3128";
    let mut refused = 0;
    for path in PATHS {
        let root = format!("--inspection-root={path}");
        for kind in ["shell", "kubernetes", "gitlab-ci", "dotenv"] {
            let arguments = ["env", "--for", kind, "--via", via, &root, "--bundle", "/ca/all.pem"];
            let ran = run(&arguments);
            if kind == "dotenv" && ran.status.code() == Some(2) {
                // Its readers do not agree on quotes, backslashes and `${`.
                assert!(path.contains(['\'', '\\']) || path.contains("${"), "{ran:?}");
                refused += 1;
                continue;
            }
            assert!(ran.status.success(), "{ran:?}");
            let found = read_by(kind, &String::from_utf8_lossy(&ran.stdout));
            assert_eq!(found["NODE_EXTRA_CA_CERTS"], **path, "{kind}");
            assert_eq!(found["https_proxy"], via, "{kind}");
            assert!(
                found["GIT_SSH_COMMAND"].as_str().is_some_and(|ssh| ssh.ends_with("%h %p;; esac\"")),
                "{found}"
            );
        }
    }
    assert_eq!(refused, 4);
    let found = read_by("gitlab-rb", &env("gitlab-rb", via, &["--no-proxy", "gitlab.example.com,10.0.0.7"]));
    let names: Vec<&String> = found.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"]);
    assert!(
        found["no_proxy"].as_str().is_some_and(|list| list.ends_with(",gitlab.example.com,10.0.0.7")),
        "{found}"
    );
    let found = read_by("kubernetes", &env("kubernetes", via, &[]));
    assert!(
        found["no_proxy"].as_str().is_some_and(|list| list.ends_with(",10.100.0.1")),
        "the API server: {found}"
    );
}

#[test]
fn without_a_url_it_prints_the_configured_listener_and_the_root() {
    let files = directory();
    let at = |name: &str| files.path().join(name).display().to_string();
    Ran::ok(command().args(["ca", "new", "--permit", "git.example.com", "--out", &at("ca")]));
    let text = "listeners: [{name: proxy, address: 127.0.0.7:3128}]\n\
                inspection: {certificate: ca/authority.crt, key: ca/authority.key}\n\
                policies: [{name: a, allow: [{to: git.example.com, inspect: true}]}]\n";
    write(&files.path().join("egressd.yaml"), text);
    let ran = Ran::of(command().args(["env", "-c", &at("egressd.yaml"), "--for", "docker"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for line in [
        "https_proxy=http://127.0.0.7:3128",
        "NODE_EXTRA_CA_CERTS=/usr/local/share/ca-certificates/egressd-inspection.crt",
        "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
    ] {
        assert!(ran.stdout.lines().any(|printed| printed == line), "{line}: {ran:?}");
    }
    assert!(ran.stderr.contains("right on this host alone"), "{ran:?}");
    // The built-in configuration listens on every address, and inspects nothing.
    let ran = Ran::of(command().arg("env"));
    assert!(
        ran.code == Some(0) && ran.stdout.contains("export https_proxy=http://127.0.0.1:3128\n"),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains("SSL_CERT_FILE"), "{ran:?}");
    for (more, words) in [
        (&["--via", "proxy:3128"][..], "has no scheme: write http://proxy:3128"),
        (&["--via", "http://a:b@p:1"], "--credentials-file"),
        (&["--no-proxy", "*"], "every host"),
        (&["--inspection-root", "a\nb"], "--inspection-root"),
        (&["--credentials-file", "/nowhere"], "cannot read /nowhere"),
    ] {
        let ran = Ran::of(command().arg("env").args(more));
        assert!(ran.code == Some(2) && ran.stderr.contains(words) && ran.stdout.is_empty(), "{ran:?}");
    }
    write(&files.path().join("egressd.yaml"), "policies: 1\n");
    assert_eq!(Ran::of(command().args(["-c", &at("egressd.yaml"), "env"])).code, Some(78));
}

/// A client that sees what `egressd env --for shell` prints, and nothing else that says where the proxy is.
fn client(scene: &Scene, words: &[&str]) -> Command {
    let ca = scene.home("ca.pem").display().to_string();
    write(
        &scene.home("env.sh"),
        env("shell", &scene.proxy_url(), &["--inspection-root", &ca, "--bundle", &ca]),
    );
    let mut sh = scene.tool("sh");
    sh.args(["-c", ". \"$0\"; exec \"$@\""]).arg(scene.home("env.sh")).args(words);
    sh
}

#[test]
fn clients_with_these_variables_alone_come_through_the_proxy() {
    let scene = Scene::new();
    let repository = scene
        .www("repository.git/info/refs")
        .parent()
        .and_then(|info| info.parent())
        .expect("www")
        .to_owned();
    Ran::ok(scene.tool("git").args(["init", "--quiet", "--bare"]).arg(&repository));
    write(&scene.www("repository.git/info/refs"), format!("{}\trefs/heads/main\n", "1".repeat(40)));
    write(&scene.www("npm/thing"), json!({"name": "thing", "dist-tags": {"latest": "1.0.7"}, "versions": {"1.0.7": {
        "name": "thing", "version": "1.0.7", "dist": {"tarball": "https://none.test/thing.tgz", "shasum": "0"}}}}).to_string());
    write(
        &scene.www("simple/thing/index.html"),
        "<!DOCTYPE html><a href=\"/thing-1.0.7-py3-none-any.whl\">thing-1.0.7-py3-none-any.whl</a>",
    );
    let urllib = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())";
    let boto3 = "import sys, boto3\n\
                 s3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='eu-west-1', aws_access_key_id='a', aws_secret_access_key='b')\n\
                 print([bucket['Name'] for bucket in s3.list_buckets()['Buckets']])";
    write(
        &scene.www("index.html"),
        "<ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Buckets><Bucket><Name>a-bucket</Name>\
         <CreationDate>2024-01-01T00:00:00.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>",
    );
    for way in [Way::Connect, Way::Plain] {
        let (hello, npm) = (scene.url(way, "/hello"), scene.url(way, "/npm/"));
        let (git, simple) = (scene.url(way, "/repository.git"), scene.url(way, "/simple/"));
        let ca = format!("--ca-certificate={}", scene.home("ca.pem").display());
        let trusted = if way == Way::Plain { "packages.test" } else { "elsewhere.test" };
        let clients: &[(&[&str], &str)] = &[
            (&["curl", "--silent", "--show-error", "--fail", &hello], "hello"),
            (&["git", "ls-remote", &git], "refs/heads/main"),
            // wget has no variable for a root: it follows the system's.
            (&["wget", "--quiet", "--output-document=-", "--tries=1", &ca, &hello], "hello"),
            (&["/usr/bin/python3", "-c", urllib, &hello], "hello"),
            (&["/usr/bin/python3", "-c", boto3, &scene.url(way, "")], "a-bucket"),
            (
                &[
                    "/usr/bin/python3",
                    "-m",
                    "pip",
                    "--disable-pip-version-check",
                    "index",
                    "versions",
                    "thing",
                    "--index-url",
                    &simple,
                    "--trusted-host",
                    trusted,
                ],
                "1.0.7",
            ),
            (
                &[
                    "npm",
                    "view",
                    // Nothing of this machine's own configuration, which may name a cafile.
                    "--globalconfig=/dev/null",
                    "--fetch-retries=0",
                    "--no-update-notifier",
                    &format!("--registry={npm}"),
                    "thing",
                    "version",
                ],
                "1.0.7",
            ),
        ];
        for (words, want) in clients {
            let before = scene.proxy.records().len();
            let ran = Ran::of(&mut client(&scene, words));
            assert!(ran.code == Some(0) && ran.stdout.contains(want), "{words:?}: {ran:?}");
            until("its record", || (scene.proxy.records().len() > before).then_some(()));
        }
    }
    scene.assert_nothing_was_refused();
}

/// Node reads the variables since 22.21 and 24; an older one goes to the target itself, which it cannot find.
#[test]
fn node_uses_the_proxy_from_the_release_that_the_page_names() {
    let scene = Scene::new();
    let fetch = "fetch(process.argv[1]).then(r => r.text()).then(console.log, e => { console.log(String(e.cause)); process.exit(1) })";
    let version = Ran::ok(scene.tool("node").arg("--version"));
    let numbers: Vec<u32> =
        version.trim().trim_start_matches('v').split('.').filter_map(|n| n.parse().ok()).collect();
    let knows = numbers[0] >= 24 || (numbers[0] == 22 && numbers[1] >= 21);
    let ran = Ran::of(&mut client(&scene, &["node", "-e", fetch, &scene.url(Way::Connect, "/hello")]));
    assert_eq!(ran.stdout.contains("hello"), knows, "{version}: {ran:?}");
    assert_eq!(
        scene.proxy.records().iter().any(|record| record["method"] == "CONNECT"),
        knows,
        "{version}: {ran:?}"
    );
}

/// The JVM's own client: `keytool` reads the certificate of a server.
#[test]
fn java_uses_the_proxy() {
    let scene = Scene::new();
    let url = scene.url(Way::Connect, "");
    let server = url.strip_prefix("https://").expect("https");
    let ran = Ran::of(&mut client(&scene, &["keytool", "-printcert", "-sslserver", server]));
    assert!(ran.code == Some(0) && ran.stdout.contains("DNSName: packages.test"), "{ran:?}");
    scene.proxy.record(|record| record["method"] == "CONNECT" && record["decision"] == "allow");
    scene.proxy.record(|record| record["event"] == "close");
    // A host of nonProxyHosts is reached directly: nothing listens there.
    let seen = scene.proxy.records().len();
    let ran = Ran::of(&mut client(&scene, &["keytool", "-printcert", "-v", "-sslserver", "127.0.0.1:9"]));
    assert!(ran.stdout.contains("Connection refused"), "{ran:?}");
    assert_eq!(scene.proxy.records().len(), seen);
}

/// Greets like a server for ssh, waits for the client's greeting, and closes.
fn ssh_server(ip: Ipv4Addr) -> Origin {
    Origin::start((ip, 0).into(), |mut client| {
        client.write_all(b"SSH-2.0-a-server\r\n")?;
        let mut byte = [0];
        while client.read(&mut byte)? == 1 && byte != *b"\n" {}
        Ok(())
    })
}

/// Whether ssh has come.
fn greeted(server: &Origin) -> bool {
    let first = until("a client of the server for ssh", || server.seen().first().cloned());
    first.bytes.starts_with(b"SSH-2.0-OpenSSH")
}

#[test]
fn git_over_ssh_comes_through_the_proxy_and_its_exceptions_do_not() {
    let own = own_loopback();
    let (server, internal) = (ssh_server(Ipv4Addr::LOCALHOST), ssh_server(own));
    let rule = format!("tcp://ssh.test:{}", server.port());
    let proxy = Egressd::start(&(config(&[&rule]) + "dns: {hosts: {ssh.test: [127.0.0.1]}}\n"));
    let home = directory();
    let file = home.path().join("env.sh");
    write(&file, env("shell", &format!("http://{}", proxy.address()), &["--no-proxy", &own.to_string()]));
    let ask = |host: &str, port: u16| {
        let mut git = tool("sh", home.path());
        git.args(["-c", ". \"$0\"; exec git ls-remote \"$1\""]).arg(&file);
        Ran::of(git.arg(format!("ssh://git@{host}:{port}/a.git")))
    };
    let ran = ask("ssh.test", server.port());
    assert!(greeted(&server), "{ran:?}");
    let record = proxy.record(|record| record["event"] == "close");
    assert_eq!(record["target"], format!("ssh.test:{}", server.port()));
    let ran = ask(&own.to_string(), internal.port());
    assert!(greeted(&internal), "{ran:?}");
    let ran = ask("other.test", server.port());
    assert!(ran.stderr.contains("403 egressd: host_not_allowed"), "{ran:?}");
    let denied = proxy.record(|record| record["event"] == "deny");
    assert_eq!(denied["target"], format!("other.test:{}", server.port()));
    assert!(proxy.records().iter().all(|record| !record.text("target").contains(&own.to_string())));
}

/// Runs a program of tests/long for the clients that tests/run installs. It compares with the documentation.
fn as_documented(program: &str, clients: &[&str]) {
    let home = directory();
    let mut run = Command::new("timeout");
    run.args(["--kill-after=5", "900", "/usr/bin/python3", &format!("tests/long/{program}")]).args(clients);
    isolate(&mut run, home.path());
    run.env("EGRESSD_BIN", command().get_program()).env("TMPDIR", std::env::temp_dir());
    let ran = Ran::of(&mut run);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.contains(&format!("{} clients ran, 0 are missing here, 0 failures", clients.len())),
        "{ran:?}"
    );
}

#[test]
fn clients_make_of_no_proxy_what_the_page_says() {
    if let Err(why) = crate::network::allowed() {
        panic!("{why}");
    }
    as_documented("no_proxy", &["curl", "git", "wget", "apt-get", "Python urllib"]);
}
