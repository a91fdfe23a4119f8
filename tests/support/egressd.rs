//! egressd as a process: started on free ports, watched, stopped.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, spawn};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{DEADLINE, End, Metrics, Record, Reply, Wire, directory, until, write};

/// A configuration with listener `proxy` and the admin listener on free loopback ports, and one policy `test` that
/// may reach loopback addresses. A rule is a rule string, or a flow mapping `{to: …}`. Further top-level keys may be
/// appended as lines.
pub fn config(rules: &[&str]) -> String {
    let mut text = String::from(concat!(
        "listeners: [{name: proxy, address: 127.0.0.1:0}]\n",
        "admin: {address: 127.0.0.1:0}\n",
        "policies:\n",
        "  - name: test\n",
        "    private: [127.0.0.0/8]\n",
        "    allow:",
    ));
    text.push_str(if rules.is_empty() { " []\n" } else { "\n" });
    for rule in rules {
        let quote = if rule.starts_with('{') { "" } else { "\"" };
        writeln!(text, "      - {quote}{rule}{quote}").expect("a String takes all");
    }
    text
}

/// The binary under test: cargo's, or the file that `EGRESSD_BIN` names (a release build, for example). Of the environment
/// it gets only `PATH` and the temporary directory.
pub fn command() -> Command {
    let binary = std::env::var_os("EGRESSD_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_egressd").into());
    let mut command = Command::new(binary);
    command.env_clear().stdin(Stdio::null());
    for name in ["PATH", "TMPDIR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

/// Runs the binary to its end: for `check`, `config default`, and configurations that are refused.
pub fn run(arguments: &[&str]) -> Output {
    let mut child = command()
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("egressd starts");
    let (mut stdout, mut stderr) = (Lines::of(child.stdout.take()), Lines::of(child.stderr.take()));
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("egressd {arguments:?} did not end; stderr:\n{}", stderr.text());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    Output { status, stdout: stdout.finish().into_bytes(), stderr: stderr.finish().into_bytes() }
}

/// A running egressd. A drop kills it; a drop during a panic first prints what it wrote.
#[derive(Debug)]
pub struct Egressd {
    child: Child,
    directory: TempDir,
    stdout: Lines,
    stderr: Lines,
    parsed: Mutex<Vec<Record>>,
}

/// An egressd that has ended by itself.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; minus the signal's number where one killed it.
    pub code: i32,
    /// The whole access log.
    pub records: Vec<Record>,
    /// All diagnostics.
    pub stderr: String,
}

/// A refusal as the client and the log saw it.
#[derive(Debug)]
pub struct Refused {
    /// The reply that the client got.
    pub reply: Reply,
    /// The record in the log.
    pub record: Record,
}

impl Egressd {
    /// Starts `egressd run --config FILE` on this YAML and waits until it is ready.
    pub fn start(config: &str) -> Self {
        Egressd::start_in(directory(), config)
    }

    /// The same, with `egressd.yaml` written into this directory, which already has the files that it names.
    pub fn start_in(directory: TempDir, config: &str) -> Self {
        let file = directory.path().join("egressd.yaml");
        write(&file, config);
        Egressd::start_at(directory, &file)
    }

    /// The same with a configuration that is already somewhere in this directory.
    pub fn start_at(directory: TempDir, file: &Path) -> Self {
        let mut command = command();
        command.arg("run").arg("--config").arg(file);
        let proxy = Egressd::spawn(directory, command);
        until("egressd to be ready", || {
            proxy.assert_alive();
            let admin = proxy.find_address("admin on ", "")?;
            (get(admin, "/readyz").status == 200).then_some(())
        });
        proxy
    }

    /// As [`Egressd::start_in`], with so many descriptors, and no environment.
    pub fn start_with_descriptors(directory: TempDir, config: impl AsRef<[u8]>, descriptors: usize) -> Self {
        let file = directory.path().join("egressd.yaml");
        write(&file, config);
        let mut limited = Command::new("sh");
        limited.env_clear().args(["-c", "ulimit -n \"$2\"; exec \"$0\" run --config \"$1\""]);
        limited.arg(command().get_program()).arg(&file).arg(descriptors.to_string());
        let proxy = Egressd::spawn(directory, limited);
        until("egressd to be ready", || (proxy.get("/readyz").status == 200).then_some(()));
        proxy
    }

    /// Starts any command that becomes egressd, and does not wait until it is ready.
    pub fn spawn(directory: TempDir, mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (stdout, stderr) = (Lines::of(child.stdout.take()), Lines::of(child.stderr.take()));
        Egressd { child, directory, stdout, stderr, parsed: Mutex::default() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path of a file next to its configuration.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory of its configuration.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The address of the listener of this name.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let suffix = format!(" (listener {name})");
        until("the listener's line on stderr", || {
            self.assert_alive();
            self.find_address("listening on ", &suffix)
        })
    }

    /// The address of the listener `proxy`.
    pub fn address(&self) -> SocketAddr {
        self.listener("proxy")
    }

    /// The admin listener's address.
    pub fn admin(&self) -> SocketAddr {
        until("the admin listener's line on stderr", || {
            self.assert_alive();
            self.find_address("admin on ", "")
        })
    }

    fn find_address(&self, before: &str, after: &str) -> Option<SocketAddr> {
        let address = |line: &String| line.split_once(before)?.1.strip_suffix(after)?.parse().ok();
        self.stderr.all().iter().find_map(address)
    }

    /// A connection to the listener `proxy`.
    pub fn connect(&self) -> Wire {
        Wire::connect(self.address())
    }

    /// An open tunnel: `CONNECT authority`, answered with 200.
    pub fn tunnel(&self, authority: &str) -> Wire {
        let mut wire = self.connect();
        wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
        let reply = wire.read_head();
        assert_eq!(reply.status, 200, "CONNECT {authority}: {reply:?}");
        wire
    }

    /// Sends these bytes on a new connection and asserts that they are refused as the contract says: the status and the
    /// reason in reply (status line and field) and log, one line of text, the id of the record, and a close that destroys nothing.
    pub fn refuses(&self, bytes: impl AsRef<[u8]>, status: u16, reason: &str) -> Refused {
        let mut wire = self.connect();
        wire.send(bytes);
        self.refused(wire, status, reason)
    }

    /// The same for a connection on which everything has been sent.
    pub fn refused<S: Read + Write>(&self, mut wire: Wire<S>, status: u16, reason: &str) -> Refused {
        let reply = wire.read_reply();
        assert_eq!((reply.status, reply.reason()), (status, Some(reason)), "{reply:?}");
        assert_eq!(reply.phrase, format!("egressd: {reason}"), "most clients print this and nothing else");
        let proxy_status = reply.header("proxy-status").expect("has a reason");
        assert!(proxy_status.starts_with("egressd; error="), "{proxy_status}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        let types = ["text/plain", "application/vnd.git-lfs+json"];
        let is_known = |value: &str| types.iter().any(|known| value.starts_with(known));
        assert!(reply.header("content-type").is_some_and(is_known), "{reply:?}");
        assert!(reply.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")), "{reply:?}");
        assert_eq!(reply.body.lines().count(), 1, "one line: {:?}", reply.body);
        assert_eq!(wire.read_to_end(), (Vec::new(), End::Fin), "nothing after the reply but a FIN");
        let record = self.record(|r| r["id"] == reply.id() && r["event"] != "open");
        assert_eq!(record["event"], if status == 429 || status >= 500 { "error" } else { "deny" });
        assert_eq!((&record["status"], &record["reason"]), (&status.into(), &reason.into()));
        Refused { reply, record }
    }

    /// `GET path` of the admin listener.
    pub fn get(&self, path: &str) -> Reply {
        get(self.admin(), path)
    }

    /// Scrapes the metrics.
    pub fn metrics(&self) -> Metrics {
        let reply = self.get("/metrics");
        assert_eq!(reply.status, 200);
        Metrics::parse(&reply.body)
    }

    /// The access log so far, as it was written.
    pub fn log(&self) -> String {
        self.stdout.text()
    }

    /// All records so far.
    pub fn records(&self) -> Vec<Record> {
        self.parsed().clone()
    }

    /// The same; each line is parsed only once.
    fn parsed(&self) -> MutexGuard<'_, Vec<Record>> {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.stdout.from(parsed.len());
        parsed.extend(fresh.iter().map(|line| Record::parse(line)));
        parsed
    }

    /// Waits for a record that `wanted` accepts: the first one.
    pub fn record(&self, wanted: impl Fn(&Record) -> bool) -> Record {
        // Not under the lock: `wanted` may look at the other records.
        until("a record in the access log", || self.records().into_iter().find(&wanted))
    }

    /// All diagnostics so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until it has written this to stderr. A separate thread writes the diagnostics, so they may come after the event.
    pub fn says(&self, what: &str) {
        until(&format!("{what:?} on standard error"), || self.stderr().contains(what).then_some(()));
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it is our child");
    }

    /// Sends TERM and waits for the end: everything that it wrote.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for it to end by itself.
    pub fn wait(mut self) -> Ended {
        let status = until("egressd to end", || self.child.try_wait().expect("our child"));
        let code = status.code().unwrap_or_else(|| -status.signal().expect("no code, so a signal"));
        let stdout = self.stdout.finish();
        Ended { code, records: stdout.lines().map(Record::parse).collect(), stderr: self.stderr.finish() }
    }

    fn assert_alive(&self) {
        // `waitid` without reaping would do as well; /proc needs no `&mut`.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        assert!(state.is_some_and(|s| s != 'Z'), "egressd has ended");
    }
}

impl Drop for Egressd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- egressd's stderr\n{}--- egressd's stdout\n{}---",
                self.stderr.text(),
                self.stdout.text()
            );
        }
    }
}

fn get(admin: SocketAddr, path: &str) -> Reply {
    let mut wire = Wire::connect(admin);
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"));
    wire.read_reply()
}

/// The lines of a pipe, collected by a thread as they come.
#[derive(Debug)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let pipe = pipe.expect("was asked for");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let reader = spawn({
            let lines = Arc::clone(&lines);
            move || {
                let mut pipe = BufReader::new(pipe);
                let mut line = Vec::new();
                while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                    line.clear();
                }
            }
        });
        Lines { lines, reader: Some(reader) }
    }

    fn all(&self) -> Vec<String> {
        self.from(0)
    }

    /// All but the first `count`.
    fn from(&self, count: usize) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)[count..].to_vec()
    }

    fn text(&self) -> String {
        self.all().into_iter().map(|line| line + "\n").collect()
    }

    /// All lines, after the writer has ended.
    fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.text()
    }
}
