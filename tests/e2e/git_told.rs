//! What git prints when it is refused in its own words: the bytes of `wire::git::refusal`, sent by a server of the test to
//! Debian's git, which is what GitLab and a terminal run.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use egressd::wire::git::{
    After, FetchRequest, Progress, ProtocolVersion, PushReader, classify, inflate, refusal,
};
use egressd::words::git::{Asks, Operation, Service};
use tempfile::TempDir;

use crate::git_backend::{Asked, Backend};
use crate::support::{DEADLINE, directory, write};
use crate::tool::{Ran, tool};

/// A repository behind a server that lets through what only lists, and refuses all else.
struct Refusing {
    home: TempDir,
    backend: Backend,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

/// How the server treats what it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Ways {
    /// A word that is taken out of what the server offers, so that the client does not ask for it.
    without: Option<&'static str>,
    /// The server stops reading after the first line of its answer.
    gives_up: bool,
    /// Discovery is refused, too.
    refuses_discovery: bool,
}

const WHY: &str = "ref_not_allowed: refs/heads/main may not be updated: write it under `refs`";

impl Refusing {
    fn start(ways: Ways) -> Self {
        let home = directory();
        write(
            &home.path().join("gitconfig"),
            "[user]\n\tname = a\n\temail = a@example.com\n[init]\n\tdefaultBranch = main\n[core]\n\tcompression = 0\n",
        );
        let backend = Backend::new(home.path());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::default();
        {
            let (backend, seen) = (backend.clone(), Arc::clone(&seen));
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (backend, seen) = (backend.clone(), Arc::clone(&seen));
                    let stream = stream.expect("a connection");
                    thread::spawn(move || serve(stream, &backend, ways, &seen));
                }
            });
        }
        let refusing = Refusing { home, backend, address, seen };
        let stored = refusing.backend.create("stored");
        refusing.backend.git(refusing.home.path(), &["init", "--quiet", "work"]);
        refusing.commit("first", b"one");
        refusing.git(&["push", "--quiet", &stored.display().to_string(), "main", "main:old"]);
        refusing.commit("second", b"two");
        refusing
    }

    fn work(&self) -> PathBuf {
        self.home.path().join("work")
    }

    fn commit(&self, name: &str, content: &[u8]) {
        write(&self.work().join(name), content);
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--message", name]);
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.backend.git(&self.work(), arguments)
    }

    fn url(&self) -> String {
        format!("http://{}/stored", self.address)
    }

    /// Runs git against the server. The refs there are the same afterwards.
    fn ask(&self, arguments: &[&str]) -> Ran {
        let stored = self.home.path().join("stored");
        let before = self.backend.refs(&stored);
        let mut git = tool("git", self.home.path());
        git.arg("-C").arg(self.work()).args(arguments);
        let ran = Ran::of(&mut git);
        assert_eq!(self.backend.refs(&stored), before, "{arguments:?}\n{}", ran.stderr);
        ran
    }

    /// Pushes, and expects the line of each of `refs` (`main -> main`) and the one for the user.
    fn push(&self, arguments: &[&str], refs: &[&str]) -> Ran {
        let url = self.url();
        let ran = self.ask(
            &[&["push"], arguments]
                .concat()
                .into_iter()
                .map(|a| if a == "URL" { &url } else { a })
                .collect::<Vec<_>>(),
        );
        assert_eq!(ran.code, Some(1), "{arguments:?}\n{}{}", ran.stdout, ran.stderr);
        for line in refs {
            let want = format!(" ! [remote rejected] {line} (egressd: ref_not_allowed)\n");
            assert!(ran.stderr.contains(&want), "{arguments:?} {want}\n{}", ran.stderr);
        }
        assert!(ran.stderr.contains(&format!("remote: egressd: {WHY}")), "{arguments:?}\n{}", ran.stderr);
        assert!(!ran.stderr.contains("Everything up-to-date"), "{}", ran.stderr);
        ran
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().expect("no test panics with it"))
    }
}

fn serve(stream: TcpStream, backend: &Backend, ways: Ways, seen: &Mutex<Vec<String>>) {
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut writer = stream;
    while let Some(head) = Head::read(&mut reader) {
        if head.answer(&mut reader, &mut writer, backend, ways, seen).is_none() {
            return;
        }
    }
}

#[derive(Default)]
struct Head {
    method: String,
    path: String,
    query: Option<String>,
    length: Option<usize>,
    chunked: bool,
    gzip: bool,
    protocol: Option<String>,
    content_type: String,
}

impl Head {
    fn read(reader: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target.to_owned(), None),
        };
        let mut head = Head { method, path, query, ..Head::default() };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { return Some(head) };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.parse().ok(),
                "transfer-encoding" => head.chunked = value == "chunked",
                "content-encoding" => head.gzip = value == "gzip",
                "git-protocol" => head.protocol = Some(value.to_owned()),
                "content-type" => head.content_type = value.to_owned(),
                _ => {}
            }
        }
    }

    /// The next piece of the body.
    fn piece(&mut self, reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
        let length = if self.chunked {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            usize::from_str_radix(line.trim(), 16).ok()?
        } else {
            self.length.take()?
        };
        let mut piece = vec![0; length];
        reader.read_exact(&mut piece).ok()?;
        if self.chunked {
            reader.read_exact(&mut [0; 2]).ok()?;
        }
        (length > 0).then_some(piece)
    }

    /// `None`: the connection is over.
    fn answer(
        mut self,
        reader: &mut BufReader<TcpStream>,
        writer: &mut TcpStream,
        backend: &Backend,
        ways: Ways,
        seen: &Mutex<Vec<String>>,
    ) -> Option<()> {
        let request = classify(&self.method, &self.path, self.query.as_deref(), true).expect("git writes it");
        let version =
            self.protocol.as_deref().map(|field| ProtocolVersion::read(field.as_bytes()).expect("a version"));
        let version = version.unwrap_or_default();
        let mut told = format!("{:?}", request.asks);
        let mut forward = |head: &Head, body: &[u8]| {
            let answered = backend.ask(&Asked {
                method: &head.method,
                path: &head.path,
                query: head.query.as_deref().unwrap_or_default(),
                content_type: &head.content_type,
                protocol: version.field(),
                encoding: None,
                body,
            });
            let mut body = answered.body;
            if let Some(word) = ways.without {
                let other = "x".repeat(word.len());
                while let Some(at) = body.windows(word.len()).position(|bytes| bytes == word.as_bytes()) {
                    body[at..at + word.len()].copy_from_slice(other.as_bytes());
                }
            }
            reply(writer, answered.status, &answered.content_type, &body)
        };
        let result = match request.asks {
            Asks::Discovery(_) if ways.refuses_discovery => {
                reply(writer, 403, "text/plain", b"egressd: git_not_allowed: no rule allows this\n")
            }
            Asks::Discovery(_) => forward(&self, b""),
            Asks::Rpc(Service::ReceivePack) => {
                let (mut list, mut body) = (PushReader::new(), Vec::new());
                while list.read(&body).expect("git writes it") == Progress::NeedMore {
                    body.extend(self.piece(reader).expect("the list is whole"));
                }
                let list = list.into_list();
                write!(told, " {:?} {:?} {}", list.after(), list.options, list.changes.len())
                    .expect("into a text");
                if list.after() == After::End {
                    while self.chunked && self.piece(reader).is_some() {}
                    reply(writer, 200, refusal::PUSH_RESULT, b"")
                } else if let Some(opening) = refusal::push_opening(&list.capabilities, WHY) {
                    begin(writer, refusal::PUSH_RESULT)?;
                    chunk(writer, &opening)?;
                    if ways.gives_up {
                        seen.lock().expect("no test panics with it").push(told);
                        // Not at once: what was not read would make a reset of it, which can overtake the answer.
                        thread::sleep(Duration::from_secs(1));
                        return None;
                    }
                    while self.piece(reader).is_some() {}
                    chunk(
                        writer,
                        &refusal::push_report(&list.capabilities, &list.changes, "ref_not_allowed", |_| true),
                    )?;
                    writer.write_all(b"0\r\n\r\n").ok()
                } else {
                    while self.piece(reader).is_some() {}
                    reply(writer, 403, "text/plain", WHY.as_bytes())
                }
            }
            Asks::Rpc(Service::UploadPack) => {
                let mut body = Vec::new();
                while let Some(piece) = self.piece(reader) {
                    body.extend(piece);
                }
                if self.gzip {
                    body = inflate::gzip(&body, 1 << 20).expect("git writes it");
                }
                let asked = FetchRequest::read(&body, version).expect("git writes it");
                write!(told, " {:?} {} {}", asked.operation, asked.wants, asked.haves).expect("into a text");
                match asked.operation {
                    Some(Operation::List) => {
                        let (_, fixed) = FetchRequest::fixed(&body, version).expect("git writes it");
                        forward(&self, &fixed)
                    }
                    _ => reply(
                        writer,
                        200,
                        refusal::FETCH_RESULT,
                        &refusal::fetch("git_not_allowed: list alone"),
                    ),
                }
            }
            other => panic!("{other:?}"),
        };
        seen.lock().expect("no test panics with it").push(told);
        result
    }
}

fn begin(writer: &mut TcpStream, content_type: &str) -> Option<()> {
    write!(writer, "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n")
        .ok()
}

fn chunk(writer: &mut TcpStream, bytes: &[u8]) -> Option<()> {
    if bytes.is_empty() {
        return Some(());
    }
    write!(writer, "{:x}\r\n", bytes.len())
        .and_then(|()| writer.write_all(bytes))
        .and_then(|()| writer.write_all(b"\r\n"))
        .ok()
}

fn reply(writer: &mut TcpStream, status: u16, content_type: &str, body: &[u8]) -> Option<()> {
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body)).ok()
}

#[test]
fn git_prints_the_reason_of_every_ref_of_a_refused_push() {
    let server = Refusing::start(Ways::default());
    let one = ["main -> main"];
    server.push(&["URL", "main"], &one);
    assert_eq!(server.seen(), ["Discovery(ReceivePack)", "Rpc(ReceivePack) Pack [] 1"]);
    let both = ["main -> main", "main -> new"];
    server.push(&["--atomic", "URL", "main", "main:new"], &both);
    server.push(
        &["URL", "--force", "main", "main:new", "main:refs/tags/v1"],
        &["main -> main", "main -> new", "main -> v1"],
    );
    server.seen();
    server.push(&["URL", ":old"], &["old"]);
    assert_eq!(server.seen()[1..], ["Rpc(ReceivePack) Ignored [] 1"]);
    server.push(&["URL", "-o", "ci.skip", "-o", "a=b", "main"], &one);
    assert_eq!(server.seen()[1..], ["Rpc(ReceivePack) Pack [\"ci.skip\", \"a=b\"] 1"]);
    for version in ["0", "1", "2"] {
        let version = format!("protocol.version={version}");
        let ran = server.ask(&["-c", &version, "push", &server.url(), "main"]);
        assert!(ran.stderr.contains("main -> main (egressd: ref_not_allowed)"), "{version}\n{}", ran.stderr);
    }
    let ran = server.ask(&["push", "--porcelain", &server.url(), "main"]);
    let line = "!\trefs/heads/main:refs/heads/main\t[remote rejected] (egressd: ref_not_allowed)\n";
    assert!(ran.stdout.contains(line), "{}", ran.stdout);
    // The mirror, as GitLab pushes.
    server.push(&["--mirror", "URL"], &["main -> main", "old"]);
}

/// Above `http.postBuffer` git first asks by an empty list whether it may send, and then sends in chunks.
#[test]
fn git_prints_it_for_a_push_that_is_large() {
    let server = Refusing::start(Ways::default());
    let mut random = vec![0; 6 << 20];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .expect("randomness");
    server.commit("large", &random);
    server.push(&["URL", "main"], &["main -> main"]);
    assert_eq!(
        server.seen(),
        ["Discovery(ReceivePack)", "Rpc(ReceivePack) End [] 0", "Rpc(ReceivePack) Pack [] 1"]
    );
}

#[test]
fn git_prints_it_for_4000_refs() {
    let server = Refusing::start(Ways::default());
    let head = server.git(&["rev-parse", "main"]);
    let refs: String = (0..4_000).map(|n| format!("create refs/heads/b{n} {head}")).collect();
    write(&server.home.path().join("refs"), refs);
    let mut update = tool("git", server.home.path());
    update.arg("-C").arg(server.work()).args(["update-ref", "--stdin"]);
    update.stdin(std::fs::File::open(server.home.path().join("refs")).expect("it was written"));
    Ran::ok(&mut update);
    let lines: Vec<String> = (0..4_000).map(|n| format!("b{n} -> b{n}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    server.push(&["URL", "refs/heads/b*:refs/heads/b*"], &lines);
    assert!(server.seen().last().is_some_and(|told| told.ends_with("Pack [] 4000")));
}

/// What other clients than git need: those without side bands get the report alone.
#[test]
fn a_client_without_side_bands_is_told_in_the_report() {
    let server = Refusing::start(Ways { without: Some("side-band-64k"), ..Ways::default() });
    let ran = server.ask(&["push", &server.url(), "main"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("! [remote rejected] main -> main (egressd: ref_not_allowed)\n"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("remote: egressd"), "{}", ran.stderr);
}

/// Where the drain has an end, git sees no report. What came first is shown.
#[test]
fn a_client_that_is_given_up_has_seen_the_first_line() {
    let server = Refusing::start(Ways { gives_up: true, ..Ways::default() });
    let mut random = vec![0; 24 << 20];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .expect("randomness");
    server.commit("large", &random);
    let ran = server.ask(&["push", &server.url(), "main"]);
    assert_ne!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("remote: egressd: {WHY}")), "{}", ran.stderr);
    assert!(!ran.stderr.contains("[remote rejected]"), "{}", ran.stderr);
}

#[test]
fn git_prints_the_reason_of_a_refused_fetch() {
    let server = Refusing::start(Ways::default());
    let url = server.url();
    for version in ["0", "1", "2"] {
        let version = format!("protocol.version={version}");
        for (what, arguments) in [
            ("fetch", &["fetch", "URL"][..]),
            ("shallow", &["fetch", "--depth=1", "URL"]),
            ("partial", &["fetch", "--filter=blob:none", "URL"]),
            ("clone", &["clone", "URL", "copy"]),
        ] {
            // So that it has something to fetch.
            let into = server.home.path().join("empty");
            server.backend.git(server.home.path(), &["init", "--quiet", "empty"]);
            let mut git = tool("git", server.home.path());
            git.arg("-C").arg(&into).args(["-c", &version]);
            git.args(arguments.iter().map(|argument| if *argument == "URL" { &url } else { *argument }));
            let ran = Ran::of(&mut git);
            assert_eq!(ran.code, Some(128), "{what} {version}\n{}", ran.stderr);
            let line = "fatal: remote error: egressd: git_not_allowed: list alone\n";
            assert!(ran.stderr.contains(line), "{what} {version}\n{}", ran.stderr);
        }
        let ran = server.ask(&["-c", &version, "ls-remote", &url]);
        assert!(ran.stdout.contains("\trefs/heads/old\n"), "{version} {} {}", ran.stdout, ran.stderr);
    }
    let seen = server.seen();
    let has = |told: &str| assert!(seen.iter().any(|line| line.starts_with(told)), "{told} in {seen:?}");
    has("Rpc(UploadPack) Some(List) 0 0");
    has("Rpc(UploadPack) Some(Fetch) ");
}

#[test]
fn git_prints_the_lines_of_a_refused_discovery() {
    let server = Refusing::start(Ways { refuses_discovery: true, ..Ways::default() });
    for arguments in [&["push", "URL", "main"][..], &["fetch", "URL"], &["ls-remote", "URL"]] {
        let url = server.url();
        let arguments: Vec<&str> = arguments.iter().map(|a| if *a == "URL" { &*url } else { *a }).collect();
        let ran = server.ask(&arguments);
        assert_eq!(ran.code, Some(128), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("remote: egressd: git_not_allowed: no rule allows this\n"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(server.seen().len(), 3);
}

/// Without a report git takes any 200 for success, and prints so. It does not print the body of a 403, but it fails.
#[test]
fn a_client_without_a_report_is_not_told_of_success() {
    let server = Refusing::start(Ways { without: Some("report-status"), ..Ways::default() });
    let ran = server.ask(&["push", &server.url(), "main"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("HTTP 403"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("main -> main"), "{}", ran.stderr);
}
