//! Real clients through inspected tunnels: each fetches, uploads a hundred megabytes, is refused by path, and fails in a way that can be
//! understood where it does not trust the authority.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;

use crate::git_server::{GitServer, HOST as GIT_HOST};
use crate::support::{Authority, Egressd, Origin, any_port, config, directory, until, write};
use crate::tool::{Ran, tool};

const HOST: &str = "files.test";
const UPLOAD: usize = 100_000_000;

/// `hello` to a GET, and to anything else the number of bytes of its body.
fn target(authority: &Authority) -> Origin {
    let config = authority.issue(&[HOST]).server_config();
    Origin::start(any_port(), move |conversation| {
        let tls = rustls::ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut stream = io::BufReader::new(rustls::StreamOwned::new(tls, conversation));
        loop {
            let (mut method, mut length, mut chunked, mut expects) = (String::new(), 0, false, false);
            loop {
                let mut line = String::new();
                if io::BufRead::read_line(&mut stream, &mut line)? == 0 {
                    return Ok(());
                }
                let line = line.trim_end().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if method.is_empty() {
                    method = line.split(' ').next().unwrap_or_default().to_owned();
                }
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().expect("a length");
                }
                chunked |= line == "transfer-encoding: chunked";
                expects |= line == "expect: 100-continue";
            }
            if expects {
                stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                stream.get_mut().flush()?;
            }
            let mut count = io::copy(&mut (&mut stream).take(length), &mut io::sink())?;
            while chunked {
                let mut line = String::new();
                io::BufRead::read_line(&mut stream, &mut line)?;
                let size = u64::from_str_radix(line.trim(), 16).expect("a chunk's size");
                count += io::copy(&mut (&mut stream).take(size), &mut io::sink())?;
                io::BufRead::read_line(&mut stream, &mut line)?;
                chunked = size > 0;
            }
            let body = if method == "get" { "hello\n".to_owned() } else { format!("{count}\n") };
            write!(stream.get_mut(), "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
            stream.get_mut().flush()?;
        }
    })
}

/// A target, an egressd that inspects it and lets `/ok` and what is below pass, and a home for clients.
struct Scene {
    proxy: Egressd,
    port: u16,
    home: TempDir,
    _target: Origin,
}

impl Scene {
    fn new() -> Self {
        let (targets, inspection) = (Authority::new(), Authority::new());
        let target = target(&targets);
        let home = directory();
        write(&home.path().join("ca.crt"), inspection.pem());
        write(&home.path().join("upload"), vec![b'a'; UPLOAD]);
        let rule = format!(
            "{{to: \"https://{HOST}:{}\", inspect: true, requests: [{{paths: [\"/ok\", \"/ok/**\"]}}]}}",
            target.port()
        );
        let proxy = inspecting(&targets, &inspection, &rule, &format!("{HOST}: [127.0.0.1]"));
        Scene { proxy, port: target.port(), home, _target: target }
    }

    fn tool(&self, program: &str) -> Command {
        let mut command = tool(program, self.home.path());
        let proxy = format!("http://{}", self.proxy.address());
        command.env("https_proxy", &proxy).env("HTTPS_PROXY", &proxy).current_dir(self.home.path());
        command
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("ca.crt")
    }

    fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.port)
    }

    /// All clients do the same: `run` with a path and with what to upload, if anything, and with or without the root.
    fn holds(&self, name: &str, run: impl Fn(&str, bool, bool) -> Ran) {
        let fetched = run("/ok/a", false, true);
        assert_eq!((fetched.code, fetched.stdout.trim()), (Some(0), "hello"), "{name}: {}", fetched.stderr);
        let uploaded = run("/ok/b", true, true);
        assert!(
            uploaded.stdout.contains(&UPLOAD.to_string()),
            "{name}: {} {}",
            uploaded.stdout,
            uploaded.stderr
        );
        let refused = run("/no", false, true);
        let told = refused.stdout.clone() + &refused.stderr;
        assert!(told.contains("403"), "{name} shows the refusal: {told}");
        self.proxy.record(|record| record["reason"] == "request_not_allowed").assert_has(&json!({
            "event": "deny", "status": 403, "target": format!("https://{HOST}:{}/no", self.port),
        }));
        let distrusts = run("/ok/c", false, false);
        let told = (distrusts.stdout.clone() + &distrusts.stderr).to_ascii_lowercase();
        assert_ne!(distrusts.code, Some(0), "{name}");
        assert!(told.contains("certificate"), "{name} says what is wrong: {told}");
        let record = self.proxy.record(|record| {
            record["method"] == "CONNECT" && (record["event"] == "deny" || record["event"] == "error")
        });
        let reason = record["reason"].as_str().expect("a reason").to_owned();
        assert!(["inspection_distrusted", "client_gone"].contains(&reason.as_str()), "{name}: {reason}");
        self.proxy.says("seems not to trust the inspection authority");
        // One tunnel for each run, and nothing that a request of theirs did not ask for.
        let paths: Vec<String> = self
            .proxy
            .records()
            .iter()
            .filter(|record| record["event"] == "request")
            .map(|record| {
                record.text("target").rsplit_once(&format!(":{}", self.port)).expect("ours").1.to_owned()
            })
            .collect();
        assert_eq!(paths, ["/ok/a", "/ok/b"], "{name}");
    }
}

/// An egressd with one rule.
fn inspecting(targets: &Authority, inspection: &Authority, rule: &str, hosts: &str) -> Egressd {
    inspecting_with(targets, inspection, rule, &format!("dns: {{hosts: {{{hosts}}}}}\n"))
}

/// The same with these lines of configuration.
pub(crate) fn inspecting_with(
    targets: &Authority,
    inspection: &Authority,
    rule: &str,
    more: &str,
) -> Egressd {
    let directory = directory();
    write(&directory.path().join("roots.pem"), targets.pem());
    write(&directory.path().join("ca.crt"), inspection.pem());
    write(&directory.path().join("ca.key"), inspection.key_pem());
    let text = config(&[rule])
        + "certificates: {roots: roots.pem}\ninspection: {certificate: ca.crt, key: ca.key}\n"
        + more;
    Egressd::start_in(directory, &text)
}

#[test]
fn curl_on_openssl() {
    let scene = Scene::new();
    scene.holds("curl", |path, upload, trusts| {
        let mut curl = scene.tool("curl");
        curl.args(["--silent", "--show-error", "--fail"]);
        if upload {
            curl.args(["--upload-file", "upload"]);
        }
        if trusts {
            curl.arg("--cacert").arg(scene.root());
        }
        Ran::of(curl.arg(scene.url(path)))
    });
}

#[test]
fn wget_on_gnutls() {
    let scene = Scene::new();
    scene.holds("wget", |path, upload, trusts| {
        let mut wget = scene.tool("wget");
        wget.args(["--quiet", "--server-response", "--tries=1", "--output-document=-", "--no-hsts"]);
        if upload {
            wget.arg("--post-file=upload");
        }
        if trusts {
            wget.arg(format!("--ca-certificate={}", scene.root().display()));
        } else {
            wget.arg("--no-quiet");
        }
        Ran::of(wget.arg(scene.url(path)))
    });
}

#[test]
fn python() {
    let scene = Scene::new();
    let script = "import os, sys, urllib.request\n\
                  url, upload = sys.argv[1:]\n\
                  body = open('upload', 'rb') if upload == 'yes' else None\n\
                  headers = {'Content-Length': str(os.path.getsize('upload'))} if body else {}\n\
                  method = 'PUT' if body else 'GET'\n\
                  print(urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method)).read().decode())\n";
    scene.holds("Python", |path, upload, trusts| {
        let mut python = scene.tool("python3");
        if trusts {
            python.env("SSL_CERT_FILE", scene.root());
        }
        Ran::of(python.args(["-c", script, &scene.url(path), if upload { "yes" } else { "no" }]))
    });
}

#[test]
fn node() {
    let scene = Scene::new();
    let script = "
        const http = require('http'), https = require('https'), fs = require('fs');
        const [proxy, url, upload] = process.argv.slice(-3);
        const target = new URL(url), [host, port] = proxy.split(':');
        const connect = http.request({ host, port, method: 'CONNECT', path: target.host, headers: { Host: target.host } });
        connect.on('connect', (reply, socket) => {
            const method = upload === 'yes' ? 'PUT' : 'GET';
            const headers = upload === 'yes' ? { 'Content-Length': fs.statSync('upload').size } : {};
            const asks = https.request(target, { socket, agent: false, method, headers }, (r) => {
                let body = '';
                r.on('data', (d) => body += d).on('end', () => {
                    if (r.statusCode !== 200) { console.error(String(r.statusCode), body); process.exit(1); }
                    console.log(body);
                });
            });
            asks.on('error', (e) => { console.error(String(e)); process.exit(1); });
            upload === 'yes' ? fs.createReadStream('upload').pipe(asks) : asks.end();
        }).end();
    ";
    scene.holds("Node", |path, upload, trusts| {
        let mut node = scene.tool("node");
        if trusts {
            node.env("NODE_EXTRA_CA_CERTS", scene.root());
        }
        let proxy = scene.proxy.address().to_string();
        Ran::of(node.args(["-e", script, "--", &proxy, &scene.url(path), if upload { "yes" } else { "no" }]))
    });
}

#[test]
fn git_on_gnutls_clones_and_pushes_and_is_refused_by_repository() {
    let (targets, inspection) = (Authority::new(), Authority::new());
    let server = GitServer::start(&targets);
    for name in ["ok", "no"] {
        server.create(name);
    }
    let home = directory();
    write(&home.path().join("ca.crt"), inspection.pem());
    let rule = format!(
        "{{to: \"{GIT_HOST}{}\", inspect: true, requests: [{{paths: [\"/v1/repos/ok/**\"]}}]}}",
        server.port_suffix()
    );
    let hosts = format!("{GIT_HOST}: [{}]", server.address().ip());
    let proxy = inspecting(&targets, &inspection, &rule, &hosts);
    let git = |arguments: &[&str], trusts: bool| {
        let mut git = tool("git", home.path());
        git.current_dir(home.path()).env("https_proxy", format!("http://{}", proxy.address()));
        if trusts {
            git.env("GIT_SSL_CAINFO", home.path().join("ca.crt"));
        }
        Ran::of(git.args(arguments))
    };
    let done = |ran: Ran| assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    done(git(&["init", "--quiet", "work"], true));
    // More than http.postBuffer: a probe, then chunks. Bytes that do not compress.
    let mut state = 1_u64;
    let large: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(20_000_000)
    .collect();
    write(&home.path().join("work/large"), large);
    done(git(&["-C", "work", "add", "."], true));
    let author = ["-c", "user.name=a", "-c", "user.email=a@a.test"];
    done(git(&[&["-C", "work"][..], &author, &["commit", "--quiet", "-m", "one"]].concat(), true));
    done(git(&["-C", "work", "push", "--quiet", &server.url("ok"), "HEAD:refs/heads/main"], true));
    done(git(&["clone", "--quiet", "--branch", "main", &server.url("ok"), "clone"], true));
    let (one, other) = (home.path().join("work/large"), home.path().join("clone/large"));
    assert!(std::fs::read(one).expect("there") == std::fs::read(other).expect("cloned"), "the same bytes");
    // A user sees the status.
    let refused = git(&["ls-remote", &server.url("no")], true);
    assert!(refused.stderr.contains("403"), "{}", refused.stderr);
    let distrusts = git(&["ls-remote", &server.url("ok")], false);
    assert!(distrusts.stderr.contains("certificate"), "{}", distrusts.stderr);
    until("what it did to be recorded", || {
        let gone = |r: &&crate::support::Record| {
            r["reason"] == "client_gone" || r["reason"] == "inspection_distrusted"
        };
        proxy.records().iter().any(|r| gone(&r)).then_some(())
    });
    let ended = proxy.stop();
    let broken: Vec<_> = ended
        .records
        .iter()
        .filter(|record| record["event"] == "request" && !record["ending"].is_null())
        .collect();
    assert!(broken.is_empty(), "{broken:?}");
}
