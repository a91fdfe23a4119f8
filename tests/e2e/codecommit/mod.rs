//! A Git server that decides as CodeCommit does, by the credentials' account: `tests/support/codecommit.py`, as a process.

mod itself;
mod two_sides;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::{Authority, Record, directory, read, until, write};
use crate::tool::{Daemon, Ran, isolate, tool};

/// A name that its certificate is for, and that it serves.
pub(crate) const HOST: &str = "git-codecommit.ap-northeast-1.amazonaws.com";
/// Another.
pub(crate) const OTHER_HOST: &str = "git-codecommit.us-west-2.amazonaws.com";

/// An account, with a user who may pull and one who may push, as IAM makes them for Git, and an access key that may do both.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) number: &'static str,
    key: String,
    secret: String,
}

impl Account {
    /// `kind` tells keys of one account apart.
    pub(crate) fn new(number: &'static str, kind: u64) -> Self {
        Account { number, key: access_key(number, kind), secret: format!("secret/{number}+{kind}") }
    }

    /// `USER:PASSWORD` of one who may pull alone.
    pub(crate) fn puller(&self) -> (String, String) {
        (format!("terminal-at-{}", self.number), format!("pull{}=", self.number))
    }

    /// `USER:PASSWORD` of one who may push, and pull.
    pub(crate) fn pusher(&self) -> (String, String) {
        (format!("gitlab-mirror-at-{}", self.number), format!("push{}=", self.number))
    }

    /// `USER:PASSWORD` of its access key: signed for a repository of the first region's host, at this time (`20261130T235959`).
    pub(crate) fn signer(&self, repository: &str, time: &str) -> (String, String) {
        (self.key.clone(), format!("{time}Z{}", signature(&self.secret, repository, time)))
    }

    fn settings(&self) -> Value {
        let ((puller, pulls), (pusher, pushes), key) = (self.puller(), self.pusher(), &self.key);
        json!({
            "users": {
                puller: {"password": pulls, "may": ["GitPull"]},
                pusher: {"password": pushes, "may": ["GitPull", "GitPush"]},
            },
            "keys": {key: {"secret": self.secret, "token": null, "may": ["GitPull", "GitPush"]}},
        })
    }
}

/// An access key id of this account: 80 bits as base32, of which the first is set, and 40 are the account.
pub(crate) fn access_key(account: &str, kind: u64) -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let account: u128 = account.parse().expect("a number");
    let bits = 1 << 79 | account << 39 | u128::from(kind);
    let digits = (0..16).rev().map(|at| char::from(DIGITS[(bits >> (5 * at) & 31) as usize]));
    format!("AKIA{}", digits.collect::<String>())
}

/// What SigV4 makes of the method GIT, a path and a host, as git-remote-codecommit writes it.
pub(crate) fn signature(secret: &str, repository: &str, time: &str) -> String {
    let scope = [&time[..8], "ap-northeast-1", "codecommit", "aws4_request"];
    let canonical = Sha256::digest(format!("GIT\n/v1/repos/{repository}\n\nhost:{HOST}\n\nhost\n"));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{}\n{}", scope.join("/"), hex(&canonical));
    let first = format!("AWS4{secret}").into_bytes();
    let key = scope.iter().fold(first, |key, part| hmac(&key, part.as_bytes()));
    hex(&hmac(&key, text.as_bytes()))
}

/// HMAC of SHA-256 (RFC 2104), with a key that is not longer than a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let padded = |with: u8| (0..64).map(|at| key.get(at).unwrap_or(&0) ^ with).collect::<Vec<u8>>();
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The running server.
#[derive(Debug)]
pub(crate) struct CodeCommit {
    address: SocketAddr,
    _server: Daemon,
    directory: TempDir,
}

impl CodeCommit {
    /// Starts at this address; port 0 is any. `launch` makes the command for a program, possibly one that runs it in another
    /// network namespace.
    pub(crate) fn start(
        launch: impl Fn(&str) -> Command,
        authority: &Authority,
        mut address: SocketAddr,
        accounts: &[&Account],
    ) -> Self {
        let directory = directory();
        let root = directory.path();
        let certificate = authority.issue(&[HOST, OTHER_HOST]);
        write(&root.join("tls.crt"), &certificate.pem);
        write(&root.join("tls.key"), &certificate.key_pem);
        let accounts: Value = accounts
            .iter()
            .map(|account| (account.number.to_owned(), account.settings()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let settings = json!({
            "address": address.ip(), "port": address.port(), "hosts": [HOST, OTHER_HOST], "place": root, "accounts": accounts,
            "certificate": root.join("tls.crt"), "key": root.join("tls.key"),
        });
        write(&root.join("settings.json"), settings.to_string());
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/codecommit.py");
        let mut python = launch("/usr/bin/python3");
        python.arg(program).arg(root.join("settings.json"));
        isolate(&mut python, root);
        let mut server = Daemon::start(&mut python);
        let port = until("the server to listen", || {
            server.assert_alive();
            std::fs::read_to_string(root.join("port")).ok()?.parse().ok()
        });
        address.set_port(port);
        CodeCommit { address, _server: server, directory }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST`, or `HOST:PORT` if the port is not 443.
    pub(crate) fn authority(&self) -> String {
        match self.address.port() {
            443 => HOST.to_owned(),
            port => format!("{HOST}:{port}"),
        }
    }

    /// The URL of a repository, with these credentials or without any.
    pub(crate) fn url(&self, credentials: Option<&(String, String)>, name: &str) -> String {
        let before = credentials.map(|(user, password)| format!("{}:{}@", encoded(user), encoded(password)));
        format!("https://{}{}/v1/repos/{name}", before.unwrap_or_default(), self.authority())
    }

    /// Creates an empty repository of an account: its path on disk.
    pub(crate) fn create(&self, account: &Account, name: &str) -> PathBuf {
        let path = self.directory.path().join(account.number).join(name);
        let home = self.directory.path();
        Ran::ok(tool("git", home).args(["init", "--quiet", "--bare"]).arg(&path));
        for setting in [
            "http.receivepack",
            "receive.advertisePushOptions",
            "uploadpack.allowFilter",
            "receive.advertiseAtomic",
        ] {
            Ran::ok(tool("git", home).arg("-C").arg(&path).args(["config", setting, "true"]));
        }
        path
    }

    /// All refs of a repository with their ids.
    pub(crate) fn refs(&self, repository: &Path) -> String {
        let mut git = tool("git", self.directory.path());
        Ran::ok(git.arg("-C").arg(repository).args(["for-each-ref", "--format=%(objectname) %(refname)"]))
    }

    /// What it wrote down so far: `event` is `head` or `end`.
    pub(crate) fn seen(&self, event: &str) -> Vec<Value> {
        let text = read(&self.directory.path().join("requests"));
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .filter(|line| line["event"] == event)
            .collect()
    }

    /// The heads of pushes that came here, past their discovery.
    pub(crate) fn pushes(&self) -> Vec<Value> {
        let of_push =
            |line: &Value| line["path"].as_str().is_some_and(|path| path.ends_with("/git-receive-pack"));
        self.seen("head").into_iter().filter(of_push).collect()
    }
}

/// Holds a record against what it must have; an object may have more than is said of it.
pub(crate) fn has(record: &Record, wanted: &Value) {
    fn within(value: &Value, wanted: &Value) -> bool {
        match (value, wanted) {
            (Value::Object(value), Value::Object(wanted)) => {
                wanted.iter().all(|(name, wanted)| value.get(name).is_some_and(|value| within(value, wanted)))
            }
            (Value::Array(values), Value::Array(wanted)) => {
                values.len() == wanted.len()
                    && values.iter().zip(wanted).all(|(value, wanted)| within(value, wanted))
            }
            _ => value == wanted,
        }
    }
    for (name, wanted) in wanted.as_object().expect("an object") {
        assert!(within(&record[name.as_str()], wanted), "{name} is not {wanted} in {record:?}");
    }
}

/// In a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
