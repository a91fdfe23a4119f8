//! Random bodies of pushes and random requests, read by egressd and given to git's own server: what git does is what egressd read,
//! or egressd refuses.
//!
//! Git's side is `git http-backend` with a real repository: its `pre-receive` hook says which commands git read, and the refs say
//! what became of them. `tests/long/git_random` runs many; the number of a body is its seed, and a failure names it.

mod bodies;
mod requests;
mod through;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use self::bodies::Body;
use self::requests::Request;
use crate::git_backend::{Asked, Backend};
use crate::support::{Numbers, directory, read, write};
use crate::tool::{Ran, tool};
use egressd::wire::git::{After, Progress, PushReader, classify};
use egressd::words::git::{Asks, RefChange, Service};

/// From `variable`, or `default`.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text}")))
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let first = number("EGRESSD_TEST_GIT_FIRST", 1);
    first..first + number("EGRESSD_TEST_GIT_COUNT", default)
}

/// Names, and what they point to.
type Refs = BTreeMap<String, String>;

/// A repository with two commits and a few refs, to which it can be brought back.
struct Stored {
    _home: TempDir,
    backend: Backend,
    path: PathBuf,
    packed: String,
    commits: [String; 2],
}

impl Stored {
    fn new() -> Self {
        let home = directory();
        write(
            &home.path().join("gitconfig"),
            "[user]\n\tname = a\n\temail = a@example.com\n[init]\n\tdefaultBranch = main\n",
        );
        let backend = Backend::new(home.path());
        let path = backend.create("stored");
        // Loose objects, one for each run of a process that git would otherwise start.
        for (setting, value) in
            [("receive.autogc", "false"), ("gc.auto", "0"), ("receive.denyDeletes", "false")]
        {
            backend.git(&path, &["config", setting, value]);
        }
        let commits = [&[][..], &["-p"]].into_iter().scan(None::<String>, |parent, option| {
            let tree = Ran::ok(tool("git", home.path()).arg("-C").arg(&path).args(["mktree"]));
            let mut commit = tool("git", home.path());
            commit.arg("-C").arg(&path).args(["commit-tree", tree.trim(), "-m", "x"]);
            if let Some(parent) = parent {
                commit.args(option).arg(&*parent);
            }
            commit
                .env("GIT_AUTHOR_DATE", "2026-11-30T00:00:00Z")
                .env("GIT_COMMITTER_DATE", "2026-11-30T00:00:00Z");
            let id = Ran::ok(&mut commit).trim().to_owned();
            *parent = Some(id.clone());
            Some(id)
        });
        let commits: Vec<String> = commits.collect();
        let commits: [String; 2] = commits.try_into().expect("two");
        let packed = format!(
            "# pack-refs with: peeled fully-peeled sorted \n{a} refs/heads/gone\n{a} refs/heads/main\n{b} refs/heads/old\n{a} refs/tags/v1\n",
            a = commits[0],
            b = commits[1]
        );
        let hook = path.join("hooks/pre-receive");
        fs::create_dir_all(path.join("hooks")).expect("a folder");
        write(&hook, "#!/bin/sh\nexec cat >received\n");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("it may be run");
        let stored = Stored { _home: home, backend, path, packed, commits };
        stored.reset();
        stored
    }

    fn reset(&self) {
        for folder in ["heads", "tags"] {
            let folder = self.path.join("refs").join(folder);
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("a folder");
        }
        for entry in fs::read_dir(self.path.join("refs")).expect("a folder").flatten() {
            if !["heads", "tags"].iter().any(|kept| entry.file_name() == *kept) {
                let _ = fs::remove_dir_all(entry.path());
                let _ = fs::remove_file(entry.path());
            }
        }
        write(&self.path.join("packed-refs"), &self.packed);
        write(&self.path.join("HEAD"), "ref: refs/heads/main\n");
        let _ = fs::remove_file(self.path.join("received"));
        let _ = fs::remove_file(self.path.join("shallow"));
    }

    /// Every ref with its id, read from the files: a process for each would take most of the time.
    fn refs(&self) -> Refs {
        let mut refs = BTreeMap::new();
        for line in read(&self.path.join("packed-refs")).lines() {
            if let Some((id, name)) = line.split_once(' ').filter(|(id, _)| id.len() == 40) {
                refs.insert(name.to_owned(), id.to_owned());
            }
        }
        loose(&self.path, Path::new("refs"), &mut refs);
        refs
    }

    /// The commands that git read and did not refuse at once: `OLD NEW REF`.
    fn received(&self) -> Vec<String> {
        let text = fs::read(self.path.join("received")).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }
}

fn loose(root: &Path, folder: &Path, refs: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(root.join(folder)).expect("a folder").flatten() {
        let name = folder.join(entry.file_name());
        if entry.path().is_dir() {
            loose(root, &name, refs);
        } else {
            refs.insert(name.to_string_lossy().into_owned(), read(&entry.path()).trim().to_owned());
        }
    }
}

/// As git writes it.
fn command(change: &RefChange) -> String {
    let id = |id: Option<_>| id.map_or("0".repeat(40), |id: egressd::words::git::ObjectId| id.to_string());
    format!("{} {} {}", id(change.old()), id(change.new_id()), change.name)
}

/// Holds the changes that egressd read against those that git did: how many refs are others now.
fn agree(ours: &[String], received: &[String], before: &Refs, after: &Refs, told: &str) -> usize {
    for line in received {
        assert!(ours.contains(line), "git read {line:?}, and egressd {ours:?}\n{told}");
    }
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changed = 0;
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        if old != new {
            let zero = "0".repeat(40);
            let line = format!("{} {} {name}", old.unwrap_or(&zero), new.unwrap_or(&zero));
            // A delete of a ref need not say what it pointed to.
            let fits =
                |ours: &String| *ours == line || new.is_none() && ours.ends_with(&format!(" {zero} {name}"));
            assert!(ours.iter().any(fits), "git did {line:?}, and egressd read {ours:?}\n{told}");
            changed += 1;
        }
    }
    changed
}

/// What git's server did with a push: the commands that it read, and the refs afterwards.
struct Pushed {
    received: Vec<String>,
    refs: Refs,
}

#[test]
fn a_random_push_through_egressd_is_on_record_as_git_did_it_or_refused() {
    let stored = Arc::new(Stored::new());
    let (before, commits) = (stored.refs(), stored.commits.clone());
    let mut through = through::Through::start({
        let (stored, before) = (Arc::clone(&stored), before.clone());
        move |arrived: through::Arrived| {
            stored.backend.ask(&Asked {
                method: &arrived.request.method,
                path: &arrived.request.path,
                content_type: Service::ReceivePack.request_type(),
                body: &arrived.body,
                ..Asked::default()
            });
            let pushed = Pushed { received: stored.received(), refs: stored.refs() };
            if pushed.refs != before || !pushed.received.is_empty() {
                stored.reset();
            }
            pushed
        }
    });
    let request =
        Request { method: "POST".to_owned(), path: "/stored/git-receive-pack".to_owned(), query: None };
    let fields = format!("Content-Type: {}\r\n", Service::ReceivePack.request_type());
    let mut did = Vec::new();
    for seed in seeds(1_000) {
        let mut numbers = Numbers::from(seed);
        let Body { bytes, told } = bodies::random(&mut numbers, &commits);
        did.push((seed, told, through.ask(&request, &fields, Some((&bytes, numbers.chance(50))))));
    }
    let (mut passed, mut changed, mut refused) = (0, 0, 0);
    let all = did.len();
    for (record, (seed, told, did)) in through.records().iter().zip(did) {
        let told = format!("seed {seed}: {told}\n{record:?}");
        match (record["event"].as_str(), did) {
            (Some("request"), Some(Pushed { received, refs })) => {
                assert_eq!(record["git"]["operation"], "push", "{told}");
                assert_eq!(record["git"]["repository"], "/stored", "{told}");
                changed += agree(&through::commands(record), &received, &before, &refs, &told);
                passed += 1;
            }
            (Some("deny"), None) => refused += 1,
            (event, did) => panic!("{event:?}, and it came to git: {}\n{told}", did.is_some()),
        }
    }
    println!("{all} bodies: {passed} let through, {changed} refs changed by those, {refused} refused");
    assert!(
        passed * 8 > all && changed * 8 > all && refused * 25 > all,
        "{passed} {changed} {refused} of {all}"
    );
}

#[test]
fn a_random_push_is_read_as_git_reads_it_or_refused() {
    let stored = Stored::new();
    let before = stored.refs();
    assert_eq!(before.len(), 4);
    let (mut agreed, mut changed, mut stricter, mut all) = (0, 0, 0, 0);
    for seed in seeds(200) {
        all += 1;
        let Body { bytes, told } = bodies::random(&mut Numbers::from(seed), &stored.commits);
        let mut reader = PushReader::new();
        let read = reader.read(&bytes);
        let list = reader.into_list();
        // After the probe nothing may come.
        let whole = read == Ok(Progress::Done) && (list.after() != After::End || list.length == bytes.len());
        stored.backend.ask(&Asked {
            method: "POST",
            path: "/stored/git-receive-pack",
            content_type: Service::ReceivePack.request_type(),
            body: &bytes,
            ..Asked::default()
        });
        let (received, after) = (stored.received(), stored.refs());
        let did_something = after != before || !received.is_empty();
        if did_something {
            stored.reset();
        }
        if !whole {
            stricter += usize::from(did_something);
            continue;
        }
        let ours: Vec<String> = list.changes.iter().map(command).collect();
        changed += agree(&ours, &received, &before, &after, &format!("seed {seed}: {told}"));
        agreed += 1;
    }
    // It would prove nothing if one side refused nearly everything, or if what git takes beyond its documents never came.
    println!(
        "{all} bodies: {agreed} read by egressd, {changed} refs changed by those, {stricter} taken by git and not by egressd"
    );
    assert!(
        agreed * 8 > all && changed * 8 > all && stricter * 25 > all,
        "{agreed} {changed} {stricter} of {all}"
    );
}

/// What git's server did with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Did {
    /// `None`: it handed out a file of the dumb protocol.
    asks: Option<Asks>,
    repository: String,
}

/// Repositories by which it is known what git's server did.
struct Folders {
    home: TempDir,
    backend: Backend,
    push: Vec<u8>,
}

/// `/one` is there by that name alone, `/group/two` as `two.git`, and `/three` as a work tree.
const FOLDERS: [(&str, &str); 3] =
    [("/one", "one"), ("/group/two", "group/two.git"), ("/three", "three/.git")];

impl Folders {
    fn new() -> Self {
        let home = directory();
        write(&home.path().join("gitconfig"), "[user]\n\tname = a\n\temail = a@example.com\n");
        let backend = Backend::new(home.path());
        fs::create_dir_all(home.path().join("group")).expect("a folder");
        fs::create_dir_all(home.path().join("three")).expect("a folder");
        let mut id = String::new();
        for (name, folder) in FOLDERS {
            let path = backend.create(folder);
            let tree = Ran::ok(tool("git", home.path()).arg("-C").arg(&path).args(["mktree"]));
            let mut commit = tool("git", home.path());
            commit.arg("-C").arg(&path).args(["commit-tree", tree.trim(), "-m", "x"]);
            commit
                .env("GIT_AUTHOR_DATE", "2026-11-30T00:00:00Z")
                .env("GIT_COMMITTER_DATE", "2026-11-30T00:00:00Z");
            id = Ran::ok(&mut commit).trim().to_owned();
            let marked = format!("refs/heads/in{}", name.replace('/', "-"));
            backend.git(&path, &["update-ref", &marked, &id]);
            backend.git(&path, &["update-server-info"]);
        }
        let push = bodies::push_of(&format!("{} {id} refs/heads/mark\0report-status", "0".repeat(40)));
        Folders { home, backend, push }
    }

    /// The media type and the body that go with a request.
    fn body(&self, request: &Request) -> (&str, &[u8]) {
        match () {
            () if request.path.contains("receive") => (Service::ReceivePack.request_type(), &self.push),
            () if request.path.contains("archive") => (Service::UploadArchive.request_type(), b"0000"),
            () => (Service::UploadPack.request_type(), requests::LS_REFS),
        }
    }

    /// Has git's server do it: what it did, and what it answered.
    fn act(&self, request: &Request) -> (Option<Did>, String) {
        let mark = |folder: &str| self.home.path().join(folder).join("refs/heads/mark");
        let (content_type, body) = self.body(request);
        let answered = self.backend.ask(&Asked {
            method: &request.method,
            path: &requests::decoded(&request.path),
            query: request.query.as_deref().unwrap_or_default(),
            content_type,
            protocol: (request.method == "POST").then_some("version=2"),
            body: if request.method == "POST" { body } else { b"" },
            ..Asked::default()
        });
        let text = String::from_utf8_lossy(&answered.body);
        let pushed = FOLDERS.iter().find(|(_, folder)| mark(folder).exists());
        let listed = FOLDERS
            .iter()
            .find(|(name, _)| text.contains(&format!("refs/heads/in{}", name.replace('/', "-"))));
        let service = Service::ALL
            .into_iter()
            .find(|service| answered.content_type.contains(service.as_str().trim_start_matches("git-")));
        let did = pushed.or(listed).map(|(name, folder)| {
            let _ = fs::remove_file(mark(folder));
            let asks = service.map(|service| match answered.content_type.ends_with("-advertisement") {
                true => Asks::Discovery(service),
                false => Asks::Rpc(service),
            });
            Did { asks, repository: (*name).to_owned() }
        });
        (did, text.into_owned())
    }
}

#[test]
fn a_random_request_is_understood_as_git_understands_it_or_refused() {
    let folders = Folders::new();
    let (mut agreed, mut stricter, mut all) = (0, 0, 0);
    for seed in seeds(200) {
        all += 1;
        let request = requests::random(&mut Numbers::from(seed));
        let ours = classify(&request.method, &request.path, request.query.as_deref(), true);
        let (did, text) = folders.act(&request);
        match (&ours, did) {
            (Ok(request_read), Some(did)) => {
                let ours =
                    Did { asks: Some(request_read.asks), repository: request_read.repository.to_string() };
                assert_eq!(ours, did, "seed {seed}: {request:?}\n{text}");
                agreed += 1;
            }
            (Err(_), Some(_)) => stricter += 1,
            (_, None) => {}
        }
    }
    println!("{all} requests: {agreed} understood alike, {stricter} answered by git and refused by egressd");
    assert!(agreed * 8 > all && stricter * 25 > all, "{agreed} {stricter} of {all}");
}

#[test]
fn a_random_request_through_egressd_is_on_record_as_git_did_it_or_refused() {
    let folders = Arc::new(Folders::new());
    let mut through = through::Through::start({
        let folders = Arc::clone(&folders);
        move |arrived: through::Arrived| folders.act(&arrived.request).0
    });
    let mut did = Vec::new();
    for seed in seeds(1_000) {
        let request = requests::random(&mut Numbers::from(seed));
        let (content_type, body) = folders.body(&request);
        let (fields, body) = if request.method == "POST" {
            (format!("Content-Type: {content_type}\r\nGit-Protocol: version=2\r\n"), Some((body, false)))
        } else {
            (String::new(), None)
        };
        let done = through.ask(&request, &fields, body);
        did.push((seed, request, done));
    }
    let (mut agreed, mut refused, all) = (0, 0, did.len());
    for (record, (seed, request, arrived)) in through.records().iter().zip(did) {
        let told = format!("seed {seed}: {request:?}\n{record:?}");
        match (record["event"].as_str(), arrived) {
            (Some("request"), Some(Some(Did { asks, repository }))) => {
                assert_eq!(record["git"]["repository"], *repository, "{told}");
                let asks = asks.unwrap_or_else(|| panic!("a file of the dumb protocol\n{told}"));
                let operation = match asks {
                    Asks::Discovery(Service::ReceivePack) | Asks::Rpc(Service::ReceivePack) => "push",
                    Asks::Rpc(Service::UploadArchive) => "fetch",
                    // The body asks for a list of refs.
                    _ => "list",
                };
                assert_eq!(record["git"]["operation"], operation, "{told}");
                agreed += 1;
            }
            // Git's server has no such repository, or refuses it.
            (Some("request"), Some(None)) => {}
            (Some("deny"), None) => refused += 1,
            (event, arrived) => panic!("{event:?}, and it came to git: {}\n{told}", arrived.is_some()),
        }
    }
    println!("{all} requests: {agreed} on record as git did them, {refused} refused");
    assert!(agreed * 8 > all && refused * 25 > all, "{agreed} {refused} of {all}");
}
