//! What a user of curl sees: allowed requests, and each kind of refusal.

use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::git_server::{GitServer, HELLO, HOST};
use crate::support::{Authority, Egressd, Record, config, directory, until, write};
use crate::tool::{Ran, tool};

/// egressd that allows [`HOST`] at the origin's port and nothing else, the origin, and curl's home.
#[derive(Debug)]
struct Scene {
    origin: GitServer,
    proxy: Egressd,
    home: TempDir,
}

impl Scene {
    fn new() -> Self {
        let authority = Authority::new();
        let origin = GitServer::start(&authority);
        let rule = format!("https://{HOST}{}", origin.port_suffix());
        let proxy = Egressd::start(
            &(config(&[&rule]) + &format!("dns: {{hosts: {{{HOST}: [{}]}}}}\n", origin.address().ip())),
        );
        let home = directory();
        write(&home.path().join("ca.pem"), authority.pem());
        Scene { origin, proxy, home }
    }

    /// curl through the proxy; its output is the body, then a line with the status of CONNECT and of the response.
    fn curl(&self, arguments: &[&str]) -> Curl {
        let mut curl = self.tool();
        curl.arg("--proxy").arg(format!("http://{}", self.proxy.address()));
        curl.args(["--write-out", "\n%{http_connect} %{response_code}"]).args(arguments);
        Curl::of(Ran::of(&mut curl))
    }

    /// curl, with the proxy as the server that it asks. So it sends a target of our choice, and shows the body of the refusal;
    /// when it asks for a tunnel, it drops that body.
    fn curl_connect(&self, target: &str) -> Curl {
        let mut curl = self.tool();
        curl.args(["--request", "CONNECT", "--request-target", target, "--dump-header", "-"]);
        curl.args(["--write-out", "\n%{http_connect} %{response_code}"]);
        curl.arg(format!("http://{}/", self.proxy.address()));
        Curl::of(Ran::of(&mut curl))
    }

    fn tool(&self) -> Command {
        let mut curl = tool("curl", self.home.path());
        curl.args(["--silent", "--show-error", "--max-time", "30"]);
        curl.arg("--cacert").arg(self.home.path().join("ca.pem"));
        curl
    }

    /// The number of connections the origin has seen.
    fn reached(&self) -> usize {
        self.origin.peers().len()
    }
}

#[derive(Debug)]
struct Curl {
    ran: Ran,
    body: String,
    /// The status of the reply to CONNECT; 0 for none.
    connect: u16,
    /// The status of the response to what went through the tunnel; 0 for none.
    response: u16,
}

impl Curl {
    fn of(ran: Ran) -> Self {
        let (body, codes) = ran.stdout.rsplit_once('\n').unwrap_or_else(|| panic!("no codes: {ran:?}"));
        let (connect, response) = codes.split_once(' ').expect("two codes");
        let (connect, response) = (connect.parse().expect("a status"), response.parse().expect("a status"));
        Curl { body: body.to_owned(), connect, response, ran }
    }
}

#[test]
fn a_listed_host_is_reached_however_it_is_spelt() {
    let scene = Scene::new();
    let port = scene.origin.port_suffix();
    let canonical = scene.origin.authority();
    for (number, host) in [
        HOST.to_owned(),
        HOST.to_ascii_uppercase(),
        format!("{HOST}."),
        // curl keeps the credentials for the origin: the CONNECT target has none.
        format!("user:secret@{HOST}"),
    ]
    .into_iter()
    .enumerate()
    {
        let curl = scene.curl(&[&format!("https://{host}{port}/hello")]);
        assert_eq!((curl.connect, curl.response, curl.body.as_str()), (200, 200, HELLO), "{host}: {curl:?}");
        // nginx logs a request after it has answered it.
        until("the request in the log of the origin", || (scene.reached() == number + 1).then_some(()));
        let close = scene.proxy.record(|r| {
            let seen = scene.proxy.records().iter().filter(|r| r["event"] == "close").count();
            seen > number && r["event"] == "close"
        });
        close.assert_has(&json!({"target": canonical, "sni": HOST, "decision": "allow", "status": 200}));
    }
    let ended = scene.proxy.stop();
    for record in &ended.records {
        record.assert_has(&json!({"target": canonical, "sni": HOST, "reason": null}));
        assert!(record.text("user_agent").starts_with("curl/"));
    }
    assert_eq!(ended.records.len(), 8, "an open and a close each");
}

#[test]
fn the_reply_to_a_connect_carries_the_id_of_its_records() {
    let scene = Scene::new();
    let url = format!("https://{HOST}{}/hello", scene.origin.port_suffix());
    let curl = scene.curl(&["--dump-header", "-", &url]);
    let id = header(&curl.body, "x-request-id").expect("the 200 has X-Request-Id");
    let close = scene.proxy.record(|r| r["event"] == "close");
    assert_eq!(close.text("id"), id);
}

/// The value of the first field of this name in what `--dump-header` printed.
fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[test]
fn what_is_not_listed_is_refused_with_status_reason_and_record() {
    let scene = Scene::new();
    let port = scene.origin.address().port();
    let rows: &[(String, &str, u16, &str)] = &[
        // URL, target in the log, status, reason
        ("https://example.com/".into(), "example.com:443", 403, "host_not_allowed"),
        (
            format!("https://{HOST}.example.com/"),
            "git-codecommit.ap-northeast-1.amazonaws.com.example.com:443",
            403,
            "host_not_allowed",
        ),
        (
            format!("https://evil{HOST}/"),
            "evilgit-codecommit.ap-northeast-1.amazonaws.com:443",
            403,
            "host_not_allowed",
        ),
        (
            format!("https://{HOST}:22/"),
            "git-codecommit.ap-northeast-1.amazonaws.com:22",
            403,
            "port_not_allowed",
        ),
        ("https://203.0.113.9/".into(), "203.0.113.9:443", 403, "host_not_allowed"),
        // The allowed name resolves to this very address; but the address itself as a target is not allowed.
        (format!("https://{}:{port}/", scene.origin.address().ip()), "", 403, "host_not_allowed"),
        ("https://[2001:db8::1]/".into(), "[2001:db8::1]:443", 403, "host_not_allowed"),
        ("https://169.254.169.254/".into(), "169.254.169.254:443", 403, "host_not_allowed"),
        ("https://EXAMPLE.com./".into(), "example.com:443", 403, "host_not_allowed"),
    ];
    for (url, target, status, reason) in rows {
        let curl = scene.curl(&["--dump-header", "-", url]);
        assert_eq!((curl.connect, curl.response), (*status, 0), "{url}: {curl:?}");
        assert!(
            curl.ran.stderr.contains(&format!("CONNECT tunnel failed, response {status}")),
            "{url}: {curl:?}"
        );
        let proxy_status = header(&curl.body, "proxy-status").expect("a refusal has Proxy-Status");
        assert!(
            proxy_status.starts_with("egressd; error=http_request_denied;")
                && proxy_status.ends_with(&format!("details=\"{reason}\"")),
            "{url}: {proxy_status}"
        );
        let id = header(&curl.body, "x-request-id").expect("a refusal has X-Request-Id").to_owned();
        let record = scene.proxy.record(|r| r["id"] == id.as_str());
        record.assert_has(&json!({
            "event": "deny", "method": "CONNECT", "decision": "deny", "reason": reason, "status": status,
            "upstream": null, "ending": null,
        }));
        if !target.is_empty() {
            assert_eq!(record["target"], *target);
        }
    }
    assert_eq!(scene.reached(), 0, "nothing reached the origin");
    let metrics = scene.proxy.metrics();
    let denied =
        |reason| metrics.count("egressd_requests_total", &[("decision", "deny"), ("reason", reason)]);
    assert_eq!((denied("host_not_allowed"), denied("port_not_allowed")), (8, 1));
    assert_eq!(metrics.count("egressd_requests_total", &[]), rows.len() as u64);
    assert_eq!(scene.proxy.stop().records.len(), rows.len());
}

#[test]
fn a_target_that_is_no_host_and_port_is_refused_with_one_line_of_text() {
    let scene = Scene::new();
    let port = scene.origin.address().port();
    let rows = [
        (format!("user@{HOST}:{port}"), 400, "bad_target"),
        (format!("user:secret@{HOST}:{port}"), 400, "bad_target"),
        (format!("{HOST}@example.com:{port}"), 400, "bad_target"),
        (HOST.to_owned(), 400, "bad_target"),
        (format!("{HOST}..:{port}"), 400, "bad_target"),
        (format!("{HOST}:0{port}"), 400, "bad_target"),
        ("2130706433:443".into(), 400, "bad_target"),
        ("example.com:443".into(), 403, "host_not_allowed"),
    ];
    for (target, status, reason) in &rows {
        let curl = scene.curl_connect(target);
        // Without a proxy setting, curl takes the reply to CONNECT for the response.
        assert_eq!(curl.response.max(curl.connect), *status, "{target}: {curl:?}");
        let (head, body) = curl.body.split_once("\r\n\r\n").expect("a head");
        assert!(
            header(head, "proxy-status").is_some_and(|v| v.ends_with(&format!("details=\"{reason}\""))),
            "{head}"
        );
        assert_eq!(header(head, "x-content-type-options"), Some("nosniff"));
        assert!(header(head, "content-type").is_some_and(|v| v.starts_with("text/plain")), "{head}");
        assert!(!body.trim().is_empty() && body.trim_end().lines().count() == 1, "{target}: {body:?}");
        assert!(!body.contains("secret"), "{body}");
        let id = header(head, "x-request-id").expect("a refusal has X-Request-Id").to_owned();
        let record = scene.proxy.record(|r| r["id"] == id.as_str());
        record.assert_has(&json!({"event": "deny", "reason": reason, "status": status, "upstream": null}));
    }
    assert_eq!(scene.reached(), 0, "nothing reached the origin");
    let ended = scene.proxy.stop();
    assert_eq!(ended.records.len(), rows.len());
    assert!(!format!("{:?}", ended.records).contains("secret"), "a password in the log");
}

#[test]
fn plain_http_to_a_host_that_is_listed_for_https_is_refused() {
    let scene = Scene::new();
    let port = scene.origin.address().port();
    let curl = scene.curl(&["--dump-header", "-", &format!("http://{HOST}:{port}/hello?token=s3cret")]);
    assert_eq!((curl.connect, curl.response), (0, 403), "{curl:?}");
    assert!(
        header(&curl.body, "proxy-status").is_some_and(|v| v.ends_with("details=\"scheme_not_allowed\""))
    );
    let record = scene.proxy.record(|r| r["event"] == "deny");
    record.assert_has(
        &json!({"method": "GET", "target": format!("http://{HOST}:{port}/hello"), "status": 403}),
    );
    assert_eq!(scene.reached(), 0);
}

#[test]
fn a_tunnel_to_a_listed_host_does_not_carry_tls_for_another() {
    let scene = Scene::new();
    let port = scene.origin.address().port();
    let through = format!("example.com:{port}:{HOST}:{port}");
    let url = format!("https://example.com:{port}/hello");
    let curl = scene.curl(&["--connect-to", &through, &url]);
    // 35: the handshake failed. The 200 had already been sent: the name in the ClientHello is known only after it.
    assert_eq!((curl.connect, curl.response, curl.ran.code), (200, 0, Some(35)), "{curl:?}");
    let record = scene.proxy.record(|r| r["event"] == "deny");
    record.assert_has(&json!({
        "target": scene.origin.authority(), "sni": "example.com", "decision": "deny", "reason": "sni_mismatch",
        "status": 200,
    }));
    assert_eq!(scene.reached(), 0, "no request reached the origin");
    let records = scene.proxy.stop().records;
    assert!(
        records.iter().all(|r: &Record| r["event"] == "deny"),
        "a tunnel that passed no byte never opened"
    );
}

/// curl decides by the response alone whether it uses a connection again.
#[test]
fn curl_uses_its_connection_again_by_http_1_1_and_by_http_1_0() {
    let origin = crate::support::Origin::start(crate::support::any_port(), |mut conversation| {
        use std::io::{Read, Write};
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while conversation.read(&mut byte)? > 0 {
            seen.push(byte[0]);
            if seen.ends_with(b"\r\n\r\n") {
                conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            }
        }
        Ok(())
    });
    let proxy = Egressd::start(&config(&[&format!("http://{}", origin.address())]));
    let home = directory();
    let url = format!("http://{}/", origin.address());
    for (version, field, connects) in [
        ("--http1.1", "X: y", "1 0 0 "),
        ("--http1.0", "Connection: keep-alive", "1 0 0 "),
        ("--http1.0", "X: y", "1 0 0 "),
        ("--http1.0", "Proxy-Connection: close", "1 1 1 "),
    ] {
        let mut curl = tool("curl", home.path());
        curl.args(["--silent", "--show-error", version, "--header", field, "--proxy"]);
        curl.arg(format!("http://{}", proxy.address())).args(["--write-out", "%{num_connects} "]);
        for _ in 0..3 {
            curl.args(["--output", "/dev/null", &url]);
        }
        assert_eq!(Ran::ok(&mut curl), connects, "{version} {field}");
    }
}
