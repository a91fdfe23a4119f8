//! `access_log.format`: sends the same requests to a real Squid and to egressd, and compares their lines; and runs a program
//! that reads Squid's format on egressd's log.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{DEADLINE, Egressd, Origin, directory, own_loopback, read, until, write};
use crate::tool::{Daemon, Ran, isolate, tool};

/// The format of the deployment that egressd replaces.
const DEPLOYMENT: &str = "%{%Y/%m/%d %H:%M:%S}tl| %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt";
/// The codes that the other two formats do not use. The size is last: the others have it in other places.
const MANY: &str = r#"%-16>a|%16>a|%6.4>a|%05>Hs|%-5>Hs|"%rm %ru HTTP/%rv" "%{User-Agent}>h" [%{User-Agent}>h] %{User-Agent}>h %#{User-Agent}>h %>rs %>rd %>rP %<A %<p %Ss:%Sh %mt %ui %ul %"ru %[ru %{%%Z}tg 100%% %012<st"#;

/// The value that every request has: characters that the ways of quoting treat differently.
const AGENT: &str = r#"a "q" \ %41 [x] ~{}|^`<>#;?'$"#;

/// A server for plain HTTP, and for an exchange of a few bytes in a tunnel.
fn origin() -> Origin {
    Origin::start(SocketAddr::from((own_loopback(), 0)), |mut conversation| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && !head.starts_with(b"ping") {
            if conversation.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.extend_from_slice(&byte);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let (status, kind, body) = match text.split(' ').nth(1) {
            _ if text.starts_with("ping") => return conversation.write_all(b"pong"),
            Some("/missing") => ("404 Not Found", "application/json", "{}"),
            Some("/bare") => ("200 OK", "", "bare"),
            _ => ("200 OK", "text/html; charset=utf-8", "<p>hello</p>"),
        };
        let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let length = body.len();
        let body = if text.starts_with("HEAD") { "" } else { body };
        write!(
            conversation,
            "HTTP/1.1 {status}\r\n{kind}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    })
}

/// A proxy's address and the file with its log lines.
struct Logged {
    address: SocketAddr,
    file: PathBuf,
    /// How many lines were read before.
    before: usize,
}

impl Logged {
    /// Waits for the next line.
    fn next(&mut self) -> String {
        let line = until("a line in the log", || {
            let text = std::fs::read_to_string(&self.file).unwrap_or_default();
            text.split_inclusive('\n').nth(self.before)?.strip_suffix('\n').map(str::to_owned)
        });
        self.before += 1;
        line
    }
}

/// Sends `request` and returns how many bytes came back until the proxy closed. In a tunnel, which is answered with 200,
/// the client sends `ping`, receives `pong` and closes.
fn ask(proxy: SocketAddr, request: &str) -> usize {
    let mut stream = TcpStream::connect_timeout(&proxy, DEADLINE).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut got = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece).expect("it answers") {
            0 => return got.len(),
            read => got.extend_from_slice(piece.get(..read).expect("as many as were read")),
        }
        if request.starts_with("CONNECT") && got.starts_with(b"HTTP/1.1 200") {
            if got.ends_with(b"pong") {
                return got.len();
            }
            if got.ends_with(b"\r\n\r\n") {
                stream.write_all(b"ping").expect("the tunnel stands");
            }
        }
    }
}

/// Squid with its log in each of `formats`, in that order.
fn squid(formats: &[&str], home: &Path, origin: &Origin) -> (Daemon, Vec<Logged>) {
    let free = TcpListener::bind((own_loopback(), 0)).expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    // Started as root, it switches to another user, who has to write here.
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o777)).expect("our directory");
    let shown = home.display();
    let ip = origin.address().ip();
    write(&home.join("hosts"), format!("{ip} origin.test\n{ip} dead.test\n"));
    let mut text = format!(
        "http_port {address}\nvisible_hostname unknown\nforwarded_for off\npid_filename none\ncache deny all\n\
         cache_log {shown}/cache.log\nhosts_file {shown}/hosts\nshutdown_lifetime 0 seconds\n\
         coredump_dir {shown}\nlogfile_rotate 0\nacl listed dstdomain origin.test dead.test\n\
         http_access allow listed\nhttp_access deny all\nacl hasRequest has request\naccess_log none !hasRequest\n"
    );
    let mut logs = Vec::new();
    for (number, format) in formats.iter().enumerate() {
        let file = home.join(format!("{number}.log"));
        let name = if *format == "squid" { "squid".to_owned() } else { format!("format{number}") };
        if *format != "squid" {
            text += &format!("logformat {name} {format}\n");
        }
        text += &format!("access_log stdio:{} {name}\n", file.display());
        logs.push(Logged { address, file, before: 0 });
    }
    write(&home.join("squid.conf"), text);
    let mut command = Command::new("squid");
    isolate(&mut command, home);
    command.args(["-N", "-n", &format!("egressd{}", std::process::id()), "-f"]).arg(home.join("squid.conf"));
    command.stderr(std::fs::File::create(home.join("stderr")).expect("our directory"));
    let mut squid = Daemon::start(&mut command);
    until("Squid to accept", || {
        squid.assert_alive();
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
    });
    (squid, logs)
}

/// egressd that writes its log in `format`.
fn egressd(format: &str, origin: &Origin) -> (Egressd, Logged) {
    let directory: TempDir = directory();
    let file = directory.path().join("access.log");
    let (ip, port) = (origin.address().ip(), origin.port());
    let text = format!(
        "listeners: [{{name: proxy, address: '127.0.0.1:0'}}]\nadmin: {{address: '127.0.0.1:0'}}\n\
         policies:\n  - name: test\n    private: [127.0.0.0/8]\n    allow: ['http://origin.test:{port}', \
         'tcp://origin.test:{port}', 'http://dead.test:1', 'tcp://dead.test:1']\n\
         dns: {{hosts: {{origin.test: [{ip}], dead.test: [{ip}]}}}}\n\
         http: {{remove_request_headers: []}}\n\
         access_log:\n  output: access.log\n  format: '{}'\n",
        format.replace('\'', "''")
    );
    let proxy = Egressd::start_in(directory, &text);
    let logged = Logged { address: proxy.address(), file, before: 0 };
    (proxy, logged)
}

/// The requests to both, and what in Squid's line differs from egressd's: the status for a target that cannot be reached,
/// which is 502 and not 503.
fn requests(port: u16) -> Vec<(String, Option<(&'static str, &'static str)>)> {
    let rest = format!("HTTP/1.1\r\nHost: HOST\r\nUser-Agent: {AGENT}\r\nConnection: close\r\n");
    let origin = format!("http://origin.test:{port}");
    let dead = Some(("503", "502"));
    [
        (format!("GET {origin}/index.html {rest}\r\n"), None),
        (format!("GET {origin}/a/b?token=secret&c {rest}\r\n"), None),
        (format!("GET {origin}/%41%20(x)~'*;:@$!+,= {rest}\r\n"), None),
        (format!("GET http://ORIGIN.test:{port}/ {rest}\r\n"), None),
        (format!("HEAD {origin}/index.html {rest}\r\n"), None),
        (format!("GET {origin}/missing {rest}\r\n"), None),
        (format!("GET {origin}/bare {rest}\r\n"), None),
        (format!("POST {origin}/form {rest}Content-Length: 3\r\n\r\nabc"), None),
        (format!("CONNECT origin.test:{port} {rest}\r\n"), None),
        (format!("CONNECT ORIGIN.test:{port} {rest}\r\n"), None),
        (format!("CONNECT evil.test:443 {rest}\r\n"), None),
        (format!("GET http://evil.test/a?b {rest}\r\n"), None),
        (format!("GET http://evil.test:80/ {rest}\r\n"), None),
        (format!("GET http://evil.test:8080/ {rest}\r\n"), None),
        (format!("CONNECT dead.test:1 {rest}\r\n"), dead),
        (format!("GET http://dead.test:1/ {rest}\r\n"), dead),
    ]
    .into_iter()
    .map(|(request, differs)| {
        let host = request.split(' ').nth(1).unwrap_or_default().trim_start_matches("http://").to_owned();
        (request.replace("HOST", host.split('/').next().unwrap_or_default()), differs)
    })
    .collect()
}

/// Removes the size from a line; `at` says how many words are before it, from the start or the end. The size must be what
/// the client got, unless `told` is false: Squid does not count the error page with which it answers a CONNECT.
fn sized(line: &str, format: &str, size: usize, told: bool) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    // Runs of spaces are words, too, so the size in the native format is found from the end.
    let at = match format {
        "squid" => words.len() - 6,
        MANY => words.len() - 1,
        _ => 4,
    };
    if told {
        assert_eq!(words[at].parse(), Ok(size), "word {at} of {line}");
    }
    let time = match format {
        // The time in seconds, and the duration.
        "squid" => words.iter().position(|word| *word == "127.0.0.1").expect("the client"),
        MANY => 0,
        _ => 2,
    };
    let kept = words.iter().enumerate().filter(|(index, _)| *index >= time && *index != at);
    kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

#[test]
fn lines_are_squids_byte_for_byte_but_for_times_and_sizes() {
    let origin = origin();
    let home = directory();
    let formats = [DEPLOYMENT, "squid", MANY];
    let (_squid, squids) = squid(&formats, home.path(), &origin);
    // The connection that tested whether Squid accepts has no line.
    for (format, mut theirs) in formats.iter().copied().zip(squids) {
        let (_proxy, mut ours) = egressd(format, &origin);
        // The logs in the other formats got a line for each of these requests, too.
        theirs.before = std::fs::read_to_string(&theirs.file).unwrap_or_default().lines().count();
        for (request, differs) in requests(origin.port()) {
            let (size, our_size) = (ask(theirs.address, &request), ask(ours.address, &request));
            let counted = !(differs.is_some() && request.starts_with("CONNECT"));
            let (their_line, our_line) = (theirs.next(), ours.next());
            let want = sized(&their_line, format, size, counted);
            let got = sized(&our_line, format, our_size, true);
            let want = differs.map_or(want.clone(), |(theirs, ours)| want.replace(theirs, ours));
            assert_eq!(got, want, "\nSquid:   {their_line}\negressd: {our_line}\nof: {request}");
        }
    }
}

#[test]
fn what_reads_squids_format_reads_ours() {
    let origin = origin();
    let (proxy, mut logged) = egressd("squid", &origin);
    let mut lines = 0;
    let hostile = "GET /<script> HTTP/1.1\r\nHost: x\r\nUser-Agent: \"\u{1b}[2J\r\n\r\n".to_owned();
    for request in requests(origin.port()).into_iter().map(|(request, _)| request).chain([hostile]) {
        ask(proxy.address(), &request);
        logged.next();
        lines += 1;
    }
    let home = directory();
    let report = home.path().join("report.json");
    let mut goaccess = tool("goaccess", home.path());
    // What GoAccess documents as SQUID. Under this name Debian's 1.7 wants a syslog prefix, and fails on Squid's own log.
    let format = "--log-format=%x.%^ %~%L %h %^/%s %b %m %U";
    goaccess.arg(&logged.file).args(["--no-global-config", format, "--datetime-format=%s", "--no-progress"]);
    goaccess.arg("--invalid-requests").arg(home.path().join("invalid")).arg("-o").arg(&report);
    let said = Ran::ok(&mut goaccess);
    let report: Value = serde_json::from_str(&read(&report)).expect("JSON");
    let general = &report["general"];
    assert_eq!(general["failed_requests"], 0, "{said}\n{}", read(&home.path().join("invalid")));
    assert_eq!((&general["total_requests"], &general["valid_requests"]), (&lines.into(), &lines.into()));
}
