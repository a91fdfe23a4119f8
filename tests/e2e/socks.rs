//! SOCKS5 with real clients: curl by a port and by a unix socket, git, netcat and ssh, Java, Python and Go.

use std::io::{Read, Write};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::compiled;
use crate::git::User;
use crate::git_server::{CREDENTIALS, GitServer, HELLO, HOST};
use crate::support::{Authority, Egressd, Origin, Record, any_port, config, directory, until, write};
use crate::tool::{Ran, tool};

const LISTENER: &str = "{name: proxy, address: 127.0.0.1:0}";

/// egressd that allows [`HOST`] at the origin's port, and what else is given; the origin; and a user's home.
struct Scene {
    origin: GitServer,
    proxy: Egressd,
    user: User,
    sockets: TempDir,
}

impl Scene {
    fn new(keys: &str, rules: &[&str]) -> Self {
        let authority = Authority::new();
        let origin = GitServer::start(&authority);
        let sockets = directory();
        let https = format!("https://{HOST}{}", origin.port_suffix());
        let rules: Vec<&str> = rules.iter().copied().chain([&*https]).collect();
        let text = config(&rules);
        assert!(text.contains(LISTENER), "the listener of `config` looks otherwise now");
        let listeners = format!(
            "{{name: proxy, address: 127.0.0.1:0, protocols: [http, socks5]{keys}}}, {{name: socket, address: \"unix:{}\", protocols: \
             [socks5]}}",
            sockets.path().join("proxy.sock").display()
        );
        let hosts = format!("dns: {{hosts: {{{HOST}: [{}]}}}}\n", origin.address().ip());
        let own = directory();
        let hash = bcrypt::hash("correct-horse", 4).expect("a good cost");
        write(&own.path().join("users"), format!("mirror:{hash}\n"));
        let proxy = Egressd::start_in(own, &(text.replace(LISTENER, &listeners) + &hosts));
        Scene { origin, proxy, user: User::new(&authority), sockets }
    }

    fn curl(&self, proxy: &str, url: &str) -> Ran {
        let mut curl = tool("curl", self.user.home());
        curl.args(["--silent", "--show-error", "--max-time", "30", "--proxy", proxy]);
        curl.arg("--cacert").arg(self.user.path("ca.pem"));
        Ran::of(curl.arg(url))
    }

    fn url(&self, path: &str) -> String {
        format!("https://{HOST}{}{path}", self.origin.port_suffix())
    }

    fn closed(&self, listener: &str) -> Record {
        self.proxy.record(|record| record["event"] == "close" && record["listener"] == listener)
    }
}

#[test]
fn curl_leaves_the_name_to_the_proxy_by_a_port_and_by_a_socket() {
    let scene = Scene::new("", &[]);
    let port = format!("socks5h://{}", scene.proxy.address());
    let socket = format!("socks5h://localhost{}", scene.sockets.path().join("proxy.sock").display());
    for (proxy, listener) in [(&port, "proxy"), (&socket, "socket")] {
        let ran = scene.curl(proxy, &scene.url("/hello"));
        assert_eq!((ran.code, &*ran.stdout), (Some(0), HELLO), "{ran:?}");
        scene.closed(listener).assert_has(&json!({
            "protocol": "socks5", "sni": HOST, "target": format!("{HOST}:{}", scene.origin.address().port()), "status": 200,
        }));
        let ran = scene.curl(proxy, "https://evil.example.com/");
        assert_eq!(ran.code, Some(97), "{ran:?}");
        assert!(ran.stderr.contains("(2)"), "the code of a refusal by the rules: {ran:?}");
    }
    // The name looked up by the client, which then sends an address: no rule for names matches that.
    let address = scene.origin.address();
    let mut curl = tool("curl", scene.user.home());
    curl.args(["--silent", "--show-error", "--max-time", "30", "--proxy"]);
    curl.arg(format!("socks5://{}", scene.proxy.address()));
    curl.arg("--resolve").arg(format!("{HOST}:{}:{}", address.port(), address.ip())).arg(scene.url("/hello"));
    assert_eq!(Ran::of(&mut curl).code, Some(97));
    scene
        .proxy
        .record(|record| record["target"] == address.to_string())
        .assert_has(&json!({"reason": "host_not_allowed"}));
}

#[test]
fn curl_sends_a_password_if_the_listener_asks() {
    let scene = Scene::new(", basic_auth: {users_file: users}", &[]);
    let at = scene.proxy.address();
    let ran = scene.curl(&format!("socks5h://mirror:correct-horse@{at}"), &scene.url("/hello"));
    assert_eq!((ran.code, &*ran.stdout), (Some(0), HELLO), "{ran:?}");
    scene.closed("proxy").assert_has(&json!({"identity": "user:mirror"}));
    for proxy in [format!("socks5h://mirror:wrong@{at}"), format!("socks5h://{at}")] {
        let ran = scene.curl(&proxy, &scene.url("/hello"));
        assert_eq!(ran.code, Some(97), "{ran:?}");
    }
    for reason in ["auth_failed", "auth_required"] {
        scene.proxy.record(|record| record["reason"] == reason);
    }
}

#[test]
fn git_pushes_and_clones() {
    let scene = Scene::new("", &[]);
    scene.origin.create("mirror");
    let repository = scene.user.repository("work", 1 << 20);
    let proxy = format!("http.proxy=socks5h://{}", scene.proxy.address());
    let (user, password) = CREDENTIALS;
    let url = scene.url("/v1/repos/mirror").replace("https://", &format!("https://{user}:{password}@"));
    let git = |directory: &std::path::Path, arguments: &[&str]| {
        let mut git = scene.user.git(directory);
        Ran::ok(git.args(["-c", &proxy]).args(arguments))
    };
    git(&repository, &["push", "--quiet", "--mirror", &url]);
    git(scene.user.home(), &["clone", "--quiet", "--mirror", &url, "back.git"]);
    let heads = |path: &std::path::Path| Ran::ok(scene.user.git(path).args(["for-each-ref"]));
    assert_eq!(heads(&repository), heads(&scene.user.path("back.git")));
    let records = scene.proxy.records();
    assert!(
        records.iter().all(|record| record["protocol"] == "socks5" && record["reason"].is_null()),
        "{records:?}"
    );
}

/// A server that speaks first: `ssh` hears it through netcat, by both protocols.
#[test]
fn ssh_by_netcat_hears_the_server_first() {
    // It says who it is, hears who asks, and leaves.
    let server = Origin::start(any_port(), |mut conversation| {
        conversation.write_all(b"SSH-2.0-egressd_test\r\n")?;
        conversation.read(&mut [0; 256]).map(drop)
    });
    let scene = Scene::new("", &[&format!("tcp://{}", server.address())]);
    for (index, way) in ["5", "connect"].into_iter().enumerate() {
        let mut ssh = tool("ssh", scene.user.home());
        ssh.args([
            "-v",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "BatchMode=yes",
        ]);
        ssh.arg("-o").arg(format!("ProxyCommand=nc -X {way} -x {} %h %p", scene.proxy.address()));
        ssh.args(["-p", &server.port().to_string(), &server.address().ip().to_string(), "true"]);
        let ran = Ran::of(&mut ssh);
        assert!(ran.stderr.contains("remote software version egressd_test"), "{way}: {}", ran.stderr);
        until("ssh's own banner at the server", || {
            let seen = server.seen();
            seen.get(index)?.bytes.starts_with(b"SSH-2.0-OpenSSH").then_some(())
        });
    }
    let refused = Ran::of(Command::new("nc").args([
        "-X",
        "5",
        "-x",
        &scene.proxy.address().to_string(),
        "evil.example.com",
        "22",
    ]));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("not allowed by ruleset"), "{}", refused.stderr);
}

#[test]
fn java_goes_by_socks() {
    let source = r#"
import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;
class Ask {
    public static void main(String[] words) throws Exception {
        Socket socket = new Socket();
        socket.connect(InetSocketAddress.createUnresolved(words[0], Integer.parseInt(words[1])));
        socket.getOutputStream().write("ping".getBytes(StandardCharsets.US_ASCII));
        System.out.print(new String(socket.getInputStream().readNBytes(4), StandardCharsets.US_ASCII));
    }
}
"#;
    let echo = Origin::echo();
    let scene = Scene::new("", &[&format!("tcp://*.echo.test:{}", echo.port())]);
    write(
        &scene.proxy.file("egressd.yaml"),
        crate::support::read(&scene.proxy.file("egressd.yaml"))
            .replace("hosts: {", "hosts: {a.echo.test: [127.0.0.1], "),
    );
    write(&scene.user.path("Ask.java"), source);
    for source in [scene.user.path("Ask.java"), compiled::BY_URL.into()] {
        compiled::java(&source, scene.user.home());
    }
    let at = scene.proxy.address();
    let java = |class: &str| {
        let mut java = tool("java", scene.user.home());
        java.arg(format!("-DsocksProxyHost={}", at.ip())).arg(format!("-DsocksProxyPort={}", at.port()));
        java.arg("-DsocksNonProxyHosts=").args(compiled::class(scene.user.home(), class));
        java
    };
    let ask = |host: &str| Ran::of(java("Ask").args([host, &echo.port().to_string()]));
    until("the name to be known", || (ask("a.echo.test").stdout == "ping").then_some(()));
    scene
        .closed("proxy")
        .assert_has(&json!({"protocol": "socks5", "target": format!("a.echo.test:{}", echo.port())}));
    let not_allowed = "SOCKS: Connection not allowed by ruleset";
    let refused = ask("evil.example.com");
    assert!(refused.stderr.contains(not_allowed), "{refused:?}");
    // HttpURLConnection looks the name up itself.
    let refused = Ran::of(java("ByUrl").env("URL", "https://localhost/").env("PROXY", "http://none"));
    assert!(refused.stderr.contains(not_allowed), "{refused:?}");
    scene.proxy.record(|record| ["127.0.0.1:443", "[::1]:443"].contains(&record.text("target")));
}

#[test]
fn python_goes_by_socks() {
    let source = "import socks,sys\ns=socks.socksocket()\ns.set_proxy(socks.SOCKS5,sys.argv[1],int(sys.argv[2]),rdns=True,username='mirror',password='correct-horse')\n\
                  s.connect((sys.argv[3],int(sys.argv[4])))\ns.sendall(b'ping')\nprint(s.recv(4).decode())\n";
    let echo = Origin::echo();
    let scene = Scene::new(", basic_auth: {users_file: users}", &[&format!("tcp://{}", echo.address())]);
    let at = scene.proxy.address();
    let ask = |host: &str, port: u16| {
        // Debian's, which has python3-socks.
        let mut python = tool("/usr/bin/python3", scene.user.home());
        python.args(["-c", source, &at.ip().to_string(), &at.port().to_string(), host, &port.to_string()]);
        Ran::of(&mut python)
    };
    assert_eq!(ask("127.0.0.1", echo.port()).stdout.trim(), "ping");
    scene.closed("proxy").assert_has(&json!({"protocol": "socks5", "identity": "user:mirror"}));
    let refused = ask("evil.example.com", 443);
    assert!(refused.stderr.contains("0x02: Connection not allowed by ruleset"), "{refused:?}");
}

/// Go sends names by `socks5://` too. It reads `socks5h://` from 1.23 on; an older one speaks HTTP to a proxy of a scheme that it does
/// not know.
#[test]
fn go_goes_by_socks() {
    let scene = Scene::new(", basic_auth: {users_file: users}", &[]);
    let at = scene.proxy.address();
    let by_go = compiled::go(compiled::BY_GO.as_ref(), scene.user.home());
    let ask = |proxy: String, url: &str| {
        let mut go = tool(&by_go, scene.user.home());
        go.env("URL", url).env("PROXY", proxy).env("CA", scene.user.path("ca.pem"));
        Ran::of(&mut go)
    };
    let of_socks5h = if compiled::go_release(scene.user.home()) >= 23 { "socks5" } else { "http" };
    for (index, (scheme, protocol)) in [("socks5", "socks5"), ("socks5h", of_socks5h)].into_iter().enumerate()
    {
        let ran = ask(format!("{scheme}://mirror:correct-horse@{at}"), &scene.url("/hello"));
        assert_eq!((ran.code, &*ran.stdout), (Some(0), HELLO), "{scheme}: {ran:?}");
        let closed = until("its record", || {
            scene.proxy.records().into_iter().filter(|record| record["event"] == "close").nth(index)
        });
        closed.assert_has(&json!({"protocol": protocol, "identity": "user:mirror", "sni": HOST}));
    }
    let refused = ask(format!("socks5://mirror:correct-horse@{at}"), "https://evil.example.com/");
    assert!(refused.stderr.contains("connection not allowed by ruleset"), "{refused:?}");
    let refused = ask(format!("socks5://mirror:wrong@{at}"), &scene.url("/hello"));
    assert!(
        refused.code == Some(1) && refused.stderr.contains("username/password authentication failed"),
        "{refused:?}"
    );
}
