//! GitLab's side: git as Gitaly runs it for a push mirror, once or repeatedly.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::Instant;

use super::network::Host;
use crate::git::User;
use crate::git_server::GitServer;
use crate::support::{Authority, until};
use crate::tool::{Ran, isolate};

/// The host, and the git user that pushes there.
#[derive(Debug)]
pub(crate) struct GitLab {
    host: Host,
    user: User,
    proxy: &'static str,
}

/// One push, with its start time.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) began: Instant,
    ran: Ran,
}

impl Push {
    pub(super) fn ok(&self) -> bool {
        self.ran.code == Some(0)
    }
}

impl GitLab {
    pub(crate) fn new(host: Host, authority: &Authority, proxy: &'static str) -> Self {
        GitLab { host, user: User::new(authority), proxy }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// A repository of `size` random bytes.
    pub(super) fn repository(&self, name: &str, size: usize) -> PathBuf {
        self.user.repository(name, size)
    }

    /// git with the environment of `gitaly['env']`.
    pub(crate) fn git(&self, directory: &Path) -> Command {
        let mut git = self.host.command("timeout");
        isolate(&mut git, self.user.home());
        git.args(["--kill-after=5", "60", "git", "-C"]).arg(directory);
        git.env("GIT_SSL_CAINFO", self.user.path("ca.pem"));
        git.env("http_proxy", self.proxy)
            .env("https_proxy", self.proxy)
            .env("no_proxy", "localhost,127.0.0.1");
        git
    }

    /// curl that trusts the authority.
    pub(super) fn curl(&self, arguments: &[&str]) -> Ran {
        let authority = self.user.path("ca.pem");
        let mut all = vec!["--cacert", authority.to_str().expect("a path in UTF-8")];
        all.extend(arguments);
        self.host.curl(&all)
    }

    /// Starts a push of a new small repository.
    pub(super) fn push_once(self: &Arc<Self>, name: &str, url: &str) -> JoinHandle<Push> {
        let source = self.repository(name, 1 << 10);
        let (gitlab, url) = (Arc::clone(self), url.to_owned());
        spawn(move || gitlab.push(&source, &url))
    }

    /// Starts this many mirrors. Each has its own repository, which gets a commit and is pushed, without a pause.
    pub(super) fn push_on_and_on(self: &Arc<Self>, mirrors: usize, server: &GitServer) -> Pushes {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mirrors = (0..mirrors)
            .map(|index| {
                let name = format!("mirror-{index}");
                server.create(&name);
                let (source, url) = (self.repository(&name, 64 << 10), server.url(&name));
                let (gitlab, stop, done) = (Arc::clone(self), Arc::clone(&stop), Arc::clone(&done));
                spawn(move || {
                    let mut pushes = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let mut commit = gitlab.user.git(&source);
                        Ran::ok(commit.args(["commit", "--quiet", "--allow-empty", "--message", "one more"]));
                        pushes.push(gitlab.push(&source, &url));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    pushes
                })
            })
            .collect();
        Pushes { stop, done, mirrors }
    }

    fn push(&self, source: &Path, url: &str) -> Push {
        let began = Instant::now();
        Push { began, ran: Ran::of(self.git(source).args(["push", "--quiet", "--mirror", url])) }
    }
}

/// Mirrors that push until the test stops them.
#[derive(Debug)]
pub(super) struct Pushes {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    mirrors: Vec<JoinHandle<Vec<Push>>>,
}

impl Pushes {
    /// Waits until `count` pushes have begun and ended from now on.
    pub(super) fn wait_for_more(&self, count: usize) {
        // The pushes that are under way may have begun before.
        let enough = self.done.load(Ordering::Relaxed) + self.mirrors.len() + count;
        until("more pushes to be done", || (self.done.load(Ordering::Relaxed) >= enough).then_some(()));
    }

    /// Stops the mirrors: all pushes, in no order.
    pub(super) fn finish(mut self) -> Vec<Push> {
        self.stop.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.mirrors)
            .into_iter()
            .flat_map(|mirror| mirror.join().expect("git ran"))
            .collect()
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        // A failed test leaves no mirror running.
        self.stop.store(true, Ordering::Relaxed);
        for mirror in self.mirrors.drain(..) {
            let _ = mirror.join();
        }
    }
}
