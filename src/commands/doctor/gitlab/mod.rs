//! What GitLab Omnibus on this host was given, held against what its parts need to use the proxy.
//!
//! [`mod@environment`] reads the variables of a part, [`mod@ruby`] the few lines of gitlab.rb that matter, [`mod@trusted`] the
//! certificates. Nothing is changed, and no part is asked: a process that is older than its files has other variables.

mod environment;
mod ruby;
#[cfg(test)]
mod tests;
mod trusted;

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use self::environment::{Environment, Problem};
use self::ruby::GitLabRb;
pub(super) use self::trusted::inspection_root;
use self::trusted::{InspectionRoot, trusted};
use super::finding::{Finding, FindingState, finding};
use crate::commands::env::Settings;
use crate::rules::address::prohibited;
use crate::words::target::Host;

/// How long Rails waits for a look-up before it gives a mirror up.
const PATIENCE: Duration = Duration::from_secs(15);

/// A part of GitLab with an environment of its own.
struct Part {
    /// Its directory under /opt/gitlab/etc.
    directory: &'static str,
    /// Its name in the output.
    name: &'static str,
    /// Its key in gitlab.rb.
    setting: &'static str,
    /// Whether mirrors need its variables.
    needed: bool,
    /// Whether it is a client of Gitaly.
    asks_gitaly: bool,
}

const PARTS: &[Part] = &[
    Part { directory: "gitaly", name: "gitaly", setting: "gitaly['env']", needed: true, asks_gitaly: false },
    Part {
        directory: "gitlab-rails",
        name: "rails",
        setting: "gitlab_rails['env']",
        needed: true,
        asks_gitaly: true,
    },
    Part {
        directory: "gitlab-workhorse",
        name: "workhorse",
        setting: "gitlab_workhorse['env']",
        needed: true,
        asks_gitaly: true,
    },
    // With a directory of their own in some releases; otherwise they have that of Rails.
    Part { directory: "puma", name: "puma", setting: "puma['env']", needed: false, asks_gitaly: true },
    Part {
        directory: "sidekiq",
        name: "sidekiq",
        setting: "sidekiq['env']",
        needed: false,
        asks_gitaly: true,
    },
    Part {
        directory: "praefect",
        name: "praefect",
        setting: "praefect['env']",
        needed: false,
        asks_gitaly: true,
    },
    Part {
        directory: "gitlab-kas",
        name: "kas",
        setting: "gitlab_kas['env']",
        needed: false,
        asks_gitaly: true,
    },
    Part {
        directory: "gitlab-pages",
        name: "pages",
        setting: "gitlab_pages['env']",
        needed: false,
        asks_gitaly: false,
    },
    Part {
        directory: "registry",
        name: "registry",
        setting: "registry['env']",
        needed: false,
        asks_gitaly: false,
    },
];

/// What to examine.
#[derive(Debug)]
pub(super) struct GitLab {
    /// Where its files begin: `/`.
    pub(super) root: PathBuf,
    /// The proxy that its parts should use.
    pub(super) settings: Settings,
    /// Where mirrors go.
    pub(super) mirror: Host,
    /// The root that it should trust. None: not known.
    pub(super) inspection_root: Option<InspectionRoot>,
}

/// What a look-up gave.
pub(super) enum Lookup {
    Addresses(Vec<IpAddr>),
    Failed(io::Error),
    /// Nothing came within [`PATIENCE`].
    Late,
}

/// Looks a name up as every program on this host does, and waits as long as Rails.
pub(super) fn look_up(name: &str) -> Lookup {
    let (done, answer) = channel();
    let name = (name.to_owned(), 443);
    thread::spawn(move || {
        #[expect(
            clippy::disallowed_methods,
            reason = "Rails asks the C library, with its search domains and NSS"
        )]
        let looked_up = name.to_socket_addrs().map(|all| all.map(|address| address.ip()).collect());
        // Nobody waits any more if it is late.
        let _ = done.send(looked_up);
    });
    match answer.recv_timeout(PATIENCE) {
        Ok(Ok(addresses)) => Lookup::Addresses(addresses),
        Ok(Err(error)) => Lookup::Failed(error),
        Err(_) => Lookup::Late,
    }
}

impl GitLab {
    /// Passes each finding to `tell`. True: nothing is wrong.
    pub(super) fn examine(&self, look_up: impl Fn(&str) -> Lookup, mut tell: impl FnMut(&Finding)) -> bool {
        let mut fine = true;
        let mut told = |finding: Finding| {
            fine &= finding.state != FindingState::Wrong;
            tell(&finding);
        };
        let parts: Vec<(&Part, Environment)> = PARTS
            .iter()
            .filter_map(|part| {
                let directory = self.root.join("opt/gitlab/etc").join(part.directory).join("env");
                directory.is_dir().then(|| (part, Environment::read(&directory)))
            })
            .collect();
        if parts.is_empty() {
            let text = format!(
                "{} has no environment of a part: this is no host of GitLab Omnibus, or gitlab-ctl reconfigure has not run; for the Helm chart, look at its extraEnv",
                self.root.join("opt/gitlab/etc").display()
            );
            told(finding("gitlab", FindingState::Wrong, text));
            return false;
        }
        let gitlab_rb = GitLabRb::read(&self.root.join("etc/gitlab/gitlab.rb"));
        for (part, environment) in &parts {
            told(self.part(part, environment, &gitlab_rb, &look_up));
        }
        let rails = parts.iter().find(|(part, _)| part.directory == "gitlab-rails");
        told(self.resolves(rails.map(|(_, environment)| environment), &look_up));
        if let Some(found) = self.git_configuration() {
            told(found);
        }
        told(trusted(&self.root, self.inspection_root.as_ref()));
        fine
    }

    /// One line for a part, with everything that it lacks.
    fn part(
        &self,
        part: &Part,
        environment: &Environment,
        gitlab_rb: &GitLabRb,
        look_up: &impl Fn(&str) -> Lookup,
    ) -> Finding {
        if !part.needed && !environment.has_a_proxy() {
            let text = format!(
                "it has no proxy, and mirrors need none of it; if what it reaches should go through the proxy: {} = egressd, as egressd env --for gitlab-rb writes it",
                part.setting
            );
            return finding(part.name, FindingState::Open, text);
        }
        let mut direct: Vec<Host> = gitlab_rb.own_host.iter().cloned().collect();
        if part.asks_gitaly {
            for host in &gitlab_rb.gitaly {
                direct.push(host.clone());
                // gRPC compares the address, not the name.
                if let Host::Name(name) = host
                    && let Lookup::Addresses(addresses) = look_up(name.as_str())
                {
                    direct.extend(addresses.into_iter().map(Host::Address));
                }
            }
        }
        let problems = environment.problems(&self.settings, &direct);
        if problems.is_empty() {
            let text = format!(
                "its variables name {}, and no_proxy what it reaches directly",
                self.settings.proxy.url()
            );
            let unknown = match &gitlab_rb.own_host {
                Some(_) => "",
                None => {
                    "; /etc/gitlab/gitlab.rb names no external_url that could be read, so whether no_proxy has GitLab's own host is not known"
                }
            };
            return finding(part.name, FindingState::Fine, text + unknown);
        }
        let written = gitlab_rb.sets(part.setting);
        let what: Vec<String> = problems.iter().map(Problem::to_string).collect();
        let lines: Vec<String> = problems.iter().map(Problem::line).collect();
        let mut text = format!(
            "{}: write into {} in /etc/gitlab/gitlab.rb: {}",
            what.join("; "),
            part.setting,
            lines.join(", ")
        );
        text += if written {
            " (gitlab.rb sets some of it already: was gitlab-ctl reconfigure run?)"
        } else {
            ", then gitlab-ctl reconfigure"
        };
        finding(part.name, FindingState::Wrong, text)
    }

    /// What Rails does with the host of a mirror before Gitaly pushes.
    fn resolves(&self, rails: Option<&Environment>, look_up: &impl Fn(&str) -> Lookup) -> Finding {
        let told = |state, text: String| finding("resolves", state, text);
        let Some(rails) = rails else {
            return told(FindingState::Open, "Rails runs on another host: run this there, too".to_owned());
        };
        let mirror = &self.mirror;
        let addresses = match mirror {
            Host::Address(address) => vec![*address],
            Host::Name(name) => match look_up(name.as_str()) {
                Lookup::Addresses(addresses) => addresses,
                Lookup::Late => {
                    return told(
                        FindingState::Wrong,
                        format!(
                            "no answer for {mirror} within {} s: Rails looks a mirror's host up first, also with a proxy, and gives up then: give this host a name server that answers, if only that the name does not exist",
                            PATIENCE.as_secs()
                        ),
                    );
                }
                Lookup::Failed(_) if rails.has_a_proxy() => {
                    return told(
                        FindingState::Fine,
                        format!(
                            "{mirror} is not known here, which Rails accepts, because it has a proxy: the proxy looks it up"
                        ),
                    );
                }
                Lookup::Failed(error) => {
                    return told(
                        FindingState::Wrong,
                        format!(
                            "{mirror} is not known here ({error}), and Rails has no proxy variable, without which it refuses such a mirror: set gitlab_rails['env']"
                        ),
                    );
                }
            },
        };
        match addresses.iter().find(|address| prohibited(**address, &[]).is_some()) {
            Some(address) => told(
                FindingState::Open,
                format!(
                    "{mirror} is at {address} here, and Rails refuses mirrors to the local network (\"Requests to the local network are not allowed\"), also with a proxy, unless Admin, Settings, Network, Outbound requests lists the host: add {mirror} there, and give egressd's rule `private` with its network"
                ),
            ),
            None => told(FindingState::Fine, format!("{mirror} is at a public address, which Rails accepts")),
        }
    }

    /// Files for git in which somebody has set a proxy: Gitaly's git reads none of them.
    fn git_configuration(&self) -> Option<Finding> {
        for file in ["etc/gitconfig", "var/opt/gitlab/.gitconfig", "opt/gitlab/embedded/etc/gitconfig"] {
            let path = self.root.join(file);
            let Some(text) = environment::read_bounded(&path) else { continue };
            let about_proxies = |line: &&str| {
                let line = line.trim_start().to_ascii_lowercase();
                line.starts_with("proxy") || line.starts_with("sslca") || line.starts_with("sslcert")
            };
            if let Some(line) = text.lines().find(about_proxies) {
                let text = format!(
                    "{} has `{}`: Gitaly's git does not read this file: write it as gitaly['configuration'] = {{git: {{config: [{{key: 'http.…', value: '…'}}]}}}}",
                    path.display(),
                    line.trim().escape_debug()
                );
                return Some(finding("gitconfig", FindingState::Wrong, text));
            }
        }
        None
    }
}
