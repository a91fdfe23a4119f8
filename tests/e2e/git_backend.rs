//! Git's own server as a program that is run for one request: `git http-backend`, a CGI program (RFC 3875).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::tool::{Ran, isolate, tool};

/// Repositories below one directory, and git's server for them.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    root: PathBuf,
    program: PathBuf,
}

/// One request, as a web server hands it to the program.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    /// Decoded.
    pub(crate) path: &'a str,
    /// As it was sent.
    pub(crate) query: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) protocol: Option<&'a str>,
    pub(crate) encoding: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

/// What the program answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answered {
    /// 200 if it names none.
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Backend {
    /// Repositories below `root`, which is also the home directory.
    pub(crate) fn new(root: &Path) -> Self {
        let folder = Ran::ok(tool("git", root).arg("--exec-path"));
        Backend { root: root.to_owned(), program: Path::new(folder.trim()).join("git-http-backend") }
    }

    /// An empty repository that may be pushed to.
    pub(crate) fn create(&self, name: &str) -> PathBuf {
        let path = self.root.join(name);
        self.git(&self.root, &["init", "--quiet", "--bare", name]);
        for setting in [
            "http.receivepack",
            "receive.advertisePushOptions",
            "uploadpack.allowFilter",
            "http.uploadarchive",
        ] {
            self.git(&path, &["config", setting, "true"]);
        }
        path
    }

    /// Runs git in `directory`.
    pub(crate) fn git(&self, directory: &Path, arguments: &[&str]) -> String {
        Ran::ok(tool("git", &self.root).arg("-C").arg(directory).args(arguments))
    }

    /// All refs of a repository with their ids.
    pub(crate) fn refs(&self, repository: &Path) -> String {
        self.git(repository, &["for-each-ref", "--format=%(objectname) %(refname)"])
    }

    /// Runs the program for one request.
    pub(crate) fn ask(&self, asked: &Asked<'_>) -> Answered {
        let mut backend = Command::new(&self.program);
        isolate(&mut backend, &self.root);
        backend
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "")
            .env("REMOTE_USER", "someone");
        backend
            .env("REQUEST_METHOD", asked.method)
            .env("PATH_INFO", asked.path)
            .env("QUERY_STRING", asked.query);
        backend.env("CONTENT_TYPE", asked.content_type).env("CONTENT_LENGTH", asked.body.len().to_string());
        if let Some(protocol) = asked.protocol {
            backend.env("GIT_PROTOCOL", protocol);
        }
        if let Some(encoding) = asked.encoding {
            backend.env("HTTP_CONTENT_ENCODING", encoding);
        }
        let mut child = backend
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let mut stdin = child.stdin.take().expect("it is piped");
        let body = asked.body.to_vec();
        // It may end without reading all of it.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("it ends");
        answered(&output.stdout)
    }
}

fn answered(output: &[u8]) -> Answered {
    let Some(end) = output.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Answered::default();
    };
    let (head, body) = (String::from_utf8_lossy(&output[..end]), &output[end + 4..]);
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let status = field("Status").and_then(|status| status.split(' ').next()?.parse().ok()).unwrap_or(200);
    Answered { status, content_type: field("Content-Type").unwrap_or_default(), body: body.to_vec() }
}
