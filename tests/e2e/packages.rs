//! Real package managers: with a local Debian-style repository, a Python index and an npm registry, over plain HTTP and
//! over CONNECT.
//!
//! None of them changes the machine: apt has its own directories, pip and npm install into the test's directory.

use std::fs::create_dir_all;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{Authority, Egressd, config, directory, own_loopback, read, until, write};
use crate::tool::{Daemon, Ran, here, isolate, tool};

const HOST: &str = "packages.test";
const PACKAGE: &str = "egressd-probe";

/// nginx with static files, over plain HTTP and TLS; an egressd that allows only these two; a home for the clients.
pub(crate) struct Scene {
    pub(crate) proxy: Egressd,
    files: TempDir,
    home: TempDir,
    plain: SocketAddr,
    tls: SocketAddr,
    _nginx: Daemon,
}

/// How a client reaches nginx.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Way {
    Plain,
    Connect,
}

const WAYS: [Way; 2] = [Way::Plain, Way::Connect];

impl Scene {
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        let (files, home) = (directory(), directory());
        let free = || {
            let listener = TcpListener::bind((own_loopback(), 0));
            listener.and_then(|listener| listener.local_addr()).expect("a free port")
        };
        let plain = free();
        let tls = SocketAddr::new(
            plain.ip(),
            TcpListener::bind((plain.ip(), 0)).and_then(|l| l.local_addr()).expect("a free port").port(),
        );
        let certificate = authority.issue(&[HOST]);
        let root = files.path();
        write(&root.join("tls.crt"), &certificate.pem);
        write(&root.join("tls.key"), &certificate.key_pem);
        write(&home.path().join("ca.pem"), authority.pem());
        create_dir_all(root.join("www")).expect("a directory");
        write(&root.join("www/hello"), "hello\n");
        write(&root.join("nginx.conf"), nginx_conf(root, plain, tls));
        let mut nginx = here("nginx");
        nginx.arg("-e").arg(root.join("error.log")).arg("-c").arg(root.join("nginx.conf"));
        isolate(&mut nginx, root);
        let mut nginx = Daemon::start(&mut nginx);
        until("nginx's pid file", || {
            nginx.assert_alive();
            root.join("nginx.pid").exists().then_some(())
        });
        let rules = [format!("http://{HOST}:{}", plain.port()), format!("https://{HOST}:{}", tls.port())];
        let names = format!("dns: {{hosts: {{{HOST}: [{}]}}}}\n", plain.ip());
        let proxy = Egressd::start(&(config(&[&rules[0], &rules[1]]) + &names));
        Scene { proxy, files, home, plain, tls, _nginx: nginx }
    }

    pub(crate) fn url(&self, way: Way, path: &str) -> String {
        match way {
            Way::Plain => format!("http://{HOST}:{}{path}", self.plain.port()),
            Way::Connect => format!("https://{HOST}:{}{path}", self.tls.port()),
        }
    }

    pub(crate) fn www(&self, path: &str) -> PathBuf {
        let path = self.files.path().join("www").join(path);
        create_dir_all(path.parent().expect("it is under www")).expect("a directory");
        path
    }

    pub(crate) fn home(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    pub(crate) fn tool(&self, program: &str) -> Command {
        let mut command = tool(program, self.home.path());
        command.current_dir(self.home.path());
        command
    }

    pub(crate) fn proxy_url(&self) -> String {
        format!("http://{}", self.proxy.address())
    }

    /// Asserts that the client came this way, for this path, and was allowed.
    fn assert_recorded(&self, way: Way, path: &str) {
        match way {
            Way::Plain => {
                let target = self.url(Way::Plain, path);
                let record = self.proxy.record(|r| r["event"] == "http" && r["target"] == target.as_str());
                record.assert_has(&json!({"status": 200, "decision": "allow", "ending": null}));
            }
            Way::Connect => {
                let record = self.proxy.record(|r| r["event"] == "close");
                record.assert_has(&json!({"method": "CONNECT", "sni": HOST, "decision": "allow"}));
            }
        }
    }

    pub(crate) fn assert_nothing_was_refused(&self) {
        let refused =
            self.proxy.records().into_iter().find(|r| r["event"] == "deny" || r["event"] == "error");
        assert!(refused.is_none(), "{refused:?}");
    }
}

fn nginx_conf(root: &Path, plain: SocketAddr, tls: SocketAddr) -> String {
    let home = root.display();
    // Started as root, it would otherwise run its workers as `nobody`, which may not enter the directory.
    let user = if Ran::ok(here("id").arg("-u")).trim() == "0" { "user root;" } else { "" };
    format!(
        "daemon off;\n{user}\nworker_processes 1;\npid {home}/nginx.pid;\nerror_log {home}/error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n  access_log {home}/access.log;\n  client_body_temp_path {home}/body;\n  proxy_temp_path {home}/proxy;\n  \
         fastcgi_temp_path {home}/fastcgi;\n  scgi_temp_path {home}/scgi;\n  uwsgi_temp_path {home}/uwsgi;\n  \
         types {{ text/html html; }}\n  default_type application/octet-stream;\n  root {home}/www;\n  \
         server {{ listen {plain};\n    location /npm/ {{ default_type application/json; }} }}\n  \
         server {{ listen {tls} ssl;\n    ssl_certificate {home}/tls.crt;\n    ssl_certificate_key {home}/tls.key;\n    \
         location /npm/ {{ default_type application/json; }} }}\n}}\n"
    )
}

#[test]
fn curl_and_wget_fetch_a_file_both_ways() {
    let scene = Scene::new();
    for way in WAYS {
        let url = scene.url(way, "/hello");
        let mut curl = scene.tool("curl");
        curl.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(scene.home("ca.pem"));
        assert_eq!(Ran::ok(curl.args(["--proxy", &scene.proxy_url(), &url])), "hello\n");
        let mut wget = scene.tool("wget");
        wget.args(["--quiet", "--output-document=-", "--tries=1", "--execute=use_proxy=yes"]);
        wget.arg(format!("--execute=http_proxy={}", scene.proxy_url()));
        wget.arg(format!("--execute=https_proxy={}", scene.proxy_url()));
        wget.arg(format!("--ca-certificate={}", scene.home("ca.pem").display()));
        assert_eq!(Ran::ok(wget.arg(&url)), "hello\n");
        scene.assert_recorded(way, "/hello");
    }
    scene.assert_nothing_was_refused();
}

/// Many files on one connection: this uses curl's connection pool and egressd's pool of connections to the target.
#[test]
fn curl_asks_for_many_files_on_one_connection() {
    let scene = Scene::new();
    for number in 0..20 {
        write(&scene.www(&format!("many/{number}")), format!("file {number}\n").repeat(10_000));
    }
    let mut curl = scene.tool("curl");
    curl.args(["--silent", "--show-error", "--fail", "--proxy", &scene.proxy_url()]);
    curl.arg(scene.url(Way::Plain, "/many/[0-19]"));
    let expected: String = (0..20).map(|number| format!("file {number}\n").repeat(10_000)).collect();
    assert_eq!(Ran::ok(&mut curl), expected);
    let clients: std::collections::HashSet<String> = until("20 records", || {
        let records = scene.proxy.records();
        (records.len() == 20).then(|| records.iter().map(|r| r.text("client").to_owned()).collect())
    });
    assert_eq!(clients.len(), 1, "one connection");
    scene.assert_nothing_was_refused();
}

#[test]
fn apt_updates_and_downloads_both_ways() {
    let scene = Scene::new();
    let root = scene.home("deb");
    create_dir_all(root.join("DEBIAN")).expect("a directory");
    create_dir_all(root.join("usr/share/egressd-probe")).expect("a directory");
    write(&root.join("usr/share/egressd-probe/data"), "x".repeat(300_000));
    let control = format!(
        "Package: {PACKAGE}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@packages.test>\nDescription: a probe\n"
    );
    write(&root.join("DEBIAN/control"), &control);
    let deb = scene.www(&format!("debian/{PACKAGE}_1.0_all.deb"));
    Ran::ok(scene.tool("dpkg-deb").args(["--build", "--root-owner-group", "-Znone"]).arg(&root).arg(&deb));
    let bytes = std::fs::read(&deb).expect("built");
    let index = format!(
        "{control}Filename: ./{PACKAGE}_1.0_all.deb\nSize: {}\nSHA256: {}\n\n",
        bytes.len(),
        hex(&Sha256::digest(&bytes))
    );
    write(&scene.www("debian/Packages"), &index);
    let release = format!(
        "Origin: test\nDate: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n {} {} Packages\n",
        hex(&Sha256::digest(&index)),
        index.len()
    );
    write(&scene.www("debian/Release"), release);

    for way in WAYS {
        // Its own directories: apt neither reads nor writes those of the machine.
        let own = scene.home(&format!("apt-{way:?}"));
        for folder in ["lists/partial", "cache/archives/partial", "etc", "download"] {
            create_dir_all(own.join(folder)).expect("a directory");
        }
        write(&own.join("status"), "");
        write(&own.join("sources.list"), format!("deb [trusted=yes] {} ./\n", scene.url(way, "/debian")));
        let settings = format!(
            "Dir \"{own}/\";\nDir::State \"{own}\";\nDir::State::lists \"{own}/lists\";\nDir::State::status \"{own}/status\";\n\
             Dir::Cache \"{own}/cache\";\nDir::Etc \"{own}/etc\";\nDir::Etc::sourcelist \"{own}/sources.list\";\n\
             Dir::Etc::sourceparts \"-\";\nDir::Bin::methods \"/usr/lib/apt/methods\";\nAPT::Sandbox::User \"\";\n\
             APT::Architecture \"all\";\nAcquire::Languages \"none\";\nAcquire::Retries \"0\";\nDebug::NoLocking \"true\";\n\
             Acquire::http::Proxy \"{proxy}\";\nAcquire::https::Proxy \"{proxy}\";\nAcquire::https::CAInfo \"{ca}\";\n",
            own = own.display(),
            proxy = scene.proxy_url(),
            ca = scene.home("ca.pem").display(),
        );
        write(&own.join("apt.conf"), settings);
        let apt = |arguments: &[&str]| {
            let mut apt = scene.tool("apt-get");
            apt.env("APT_CONFIG", own.join("apt.conf")).current_dir(own.join("download"));
            Ran::ok(apt.arg("--quiet").args(arguments))
        };
        apt(&["update", "--error-on=any"]);
        apt(&["download", PACKAGE]);
        let got = std::fs::read(own.join(format!("download/{PACKAGE}_1.0_all.deb"))).expect("downloaded");
        assert!(got == bytes, "{way:?}: the same bytes");
        scene.assert_recorded(way, &format!("/debian/./{PACKAGE}_1.0_all.deb"));
    }
    let agents: Vec<_> = scene.proxy.records().iter().map(|r| r["user_agent"].to_string()).collect();
    assert!(agents.iter().any(|agent| agent.contains("APT-HTTP")), "{agents:?}");
}

#[test]
fn pip_installs_a_wheel_both_ways() {
    let scene = Scene::new();
    let wheel = "egressd_probe-1.0-py3-none-any.whl";
    let make = format!(
        "import zipfile\n\
         with zipfile.ZipFile({:?}, 'w') as wheel:\n    \
             wheel.writestr('egressd_probe.py', 'ANSWER = 42\\n')\n    \
             info = 'egressd_probe-1.0.dist-info/'\n    \
             wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: {PACKAGE}\\nVersion: 1.0\\n')\n    \
             wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n    \
             wheel.writestr(info + 'RECORD', '')\n",
        scene.www(&format!("wheels/{wheel}")).display().to_string()
    );
    Ran::ok(scene.tool("python3").args(["-c", &make]));
    let link = format!("<!DOCTYPE html><a href=\"/wheels/{wheel}\">{wheel}</a>");
    write(&scene.www(&format!("simple/{PACKAGE}/index.html")), link);
    for way in WAYS {
        let into = scene.home(&format!("site-{way:?}"));
        let mut pip = scene.tool("python3");
        pip.args([
            "-m",
            "pip",
            "--isolated",
            "--disable-pip-version-check",
            "--no-cache-dir",
            "--retries=0",
            "install",
        ]);
        pip.args(["--no-deps", "--no-compile", "--proxy", &scene.proxy_url(), "--cert"])
            .arg(scene.home("ca.pem"));
        pip.args(["--index-url", &scene.url(way, "/simple/"), "--trusted-host"]);
        // Only for plain HTTP: with TLS, the certificate decides.
        pip.arg(if way == Way::Plain { HOST } else { "elsewhere.test" });
        Ran::ok(pip.arg("--target").arg(&into).arg(PACKAGE));
        assert_eq!(read(&into.join("egressd_probe.py")), "ANSWER = 42\n");
        scene.assert_recorded(way, &format!("/wheels/{wheel}"));
    }
    scene.assert_nothing_was_refused();
}

#[test]
fn npm_installs_a_package_both_ways() {
    let scene = Scene::new();
    let source = scene.home("source/package");
    create_dir_all(&source).expect("a directory");
    write(
        &source.join("package.json"),
        json!({"name": PACKAGE, "version": "1.0.0", "main": "x.js"}).to_string(),
    );
    write(&source.join("x.js"), "module.exports = 42;\n");
    let tarball = scene.www("tarballs/egressd-probe-1.0.0.tgz");
    Ran::ok(scene.tool("tar").arg("-czf").arg(&tarball).arg("-C").arg(scene.home("source")).arg("package"));
    let shasum = Ran::ok(scene.tool("sha1sum").arg(&tarball));
    for way in WAYS {
        let dist = json!({
            "tarball": scene.url(way, "/tarballs/egressd-probe-1.0.0.tgz"),
            "shasum": shasum.split(' ').next().expect("a sum"),
        });
        let version = json!({"name": PACKAGE, "version": "1.0.0", "main": "x.js", "dist": dist});
        let packument =
            json!({"name": PACKAGE, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}});
        write(&scene.www(&format!("npm/{PACKAGE}")), packument.to_string());
        let into = scene.home(&format!("node-{way:?}"));
        create_dir_all(&into).expect("a directory");
        let mut npm = scene.tool("npm");
        npm.current_dir(&into).args([
            "install",
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "--fetch-retries=0",
        ]);
        npm.arg(format!("--cache={}", scene.home(&format!("cache-{way:?}")).display()));
        npm.arg(format!("--cafile={}", scene.home("ca.pem").display()));
        npm.arg(format!("--registry={}", scene.url(way, "/npm/")));
        npm.args([format!("--proxy={}", scene.proxy_url()), format!("--https-proxy={}", scene.proxy_url())]);
        Ran::ok(npm.arg(PACKAGE));
        assert_eq!(read(&into.join("node_modules").join(PACKAGE).join("x.js")), "module.exports = 42;\n");
        scene.assert_recorded(way, "/tarballs/egressd-probe-1.0.0.tgz");
    }
    scene.assert_nothing_was_refused();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
