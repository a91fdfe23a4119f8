//! What GitLab Omnibus on this host was given, held against what its parts need to use the proxy.
//!
//! [`mod@environment`] reads the variables of a part, [`mod@ruby`] the few lines of gitlab.rb that matter, [`mod@trusted`] the
//! certificates. What cannot be read or looked up is told as not known, and never as right or missing. Nothing is changed, and no part is asked: a process that is older than its files has other variables.

mod environment;
mod read;
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

use self::environment::{Environment, Exceptions, Problem};
use self::read::Unread;
use self::ruby::{GitLabRb, Nothing};
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

/// What the parts reach without the proxy.
#[derive(Default)]
struct Direct {
    /// GitLab's own host.
    own: Vec<Host>,
    /// Gitaly's hosts, and their addresses.
    gitaly: Vec<Host>,
    /// What is not known of it, and why; and what matters to the clients of Gitaly alone.
    unknown: Vec<String>,
    unknown_gitaly: Vec<String>,
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
        Ok(Ok(addresses)) if Vec::is_empty(&addresses) => {
            Lookup::Failed(io::Error::other("it has no address"))
        }
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
        let etc = self.root.join("opt/gitlab/etc");
        let parts: Vec<(&Part, Environment)> = PARTS
            .iter()
            .filter_map(|part| Some((part, Environment::read(&etc.join(part.directory).join("env"))?)))
            .collect();
        if parts.is_empty() {
            let text = format!(
                "{} has no environment of a part: this is no host of GitLab Omnibus, or gitlab-ctl reconfigure has not run; for the Helm chart, look at its extraEnv",
                etc.display()
            );
            told(finding("gitlab", FindingState::Wrong, text));
            return false;
        }
        // Of a directory that may not be looked into, each part would say the same, also the ones that are not there.
        if let Some(unread) = parts.iter().find_map(|(_, part)| part.unread())
            && parts.len() == PARTS.len()
            && parts.iter().all(|(_, part)| part.is_unknown())
        {
            let text = format!("what the parts were given is not known: {}", unread.told(&self.run()));
            told(finding("gitlab", FindingState::Open, text));
        } else {
            let gitlab_rb = GitLabRb::read(&self.root.join("etc/gitlab/gitlab.rb"));
            let asks_gitaly = parts.iter().any(|(part, _)| part.asks_gitaly);
            let direct = self.direct(&gitlab_rb, asks_gitaly, &look_up);
            for (part, environment) in &parts {
                told(self.part(part, environment, &gitlab_rb, &direct));
            }
        }
        let rails = parts.iter().find(|(part, _)| part.directory == "gitlab-rails");
        told(self.resolves(rails.map(|(_, environment)| environment), &look_up));
        if let Some(found) = self.git_configuration() {
            told(found);
        }
        told(trusted(&self.root, self.inspection_root.as_ref(), &self.run()));
        fine
    }

    /// The command that is to run as root.
    fn run(&self) -> String {
        format!("egressd doctor --via {} --gitlab", self.settings.proxy.url_without_password())
    }

    /// What the parts reach directly, as gitlab.rb and DNS say it. Each name is looked up once: that may take long.
    fn direct(&self, gitlab_rb: &GitLabRb, asks_gitaly: bool, look_up: &impl Fn(&str) -> Lookup) -> Direct {
        let mut direct = Direct { own: gitlab_rb.own_host.iter().cloned().collect(), ..Direct::default() };
        match &gitlab_rb.nothing {
            Some(nothing) => {
                let why = match nothing {
                    Nothing::Missing => {
                        let path = self.root.join("etc/gitlab/gitlab.rb");
                        format!("there is no {}", path.display())
                    }
                    Nothing::Unread(unread) => unread.told(&self.run()),
                };
                direct.unknown.push(format!(
                    "whether no_proxy has GitLab's own host, and Gitaly's if it is another one, is not known: {why}"
                ));
                return direct;
            }
            None if gitlab_rb.own_host.is_none() => direct.unknown.push(
                "whether no_proxy has GitLab's own host is not known: /etc/gitlab/gitlab.rb has no external_url that could be \
                 read"
                .to_owned(),
            ),
            None => {}
        }
        if !asks_gitaly {
            return direct;
        }
        let not_known = "whether no_proxy has Gitaly's address is not known, which gRPC compares";
        if let Some(line) = &gitlab_rb.unclear_gitaly {
            let text = format!("{not_known}: /etc/gitlab/gitlab.rb computes it in {line}");
            direct.unknown_gitaly.push(text);
        }
        for host in &gitlab_rb.gitaly {
            direct.gitaly.push(host.clone());
            let Host::Name(name) = host else { continue };
            let why = match look_up(name.as_str()) {
                Lookup::Addresses(addresses) => {
                    // gRPC compares the address, not the name.
                    direct.gitaly.extend(addresses.into_iter().map(Host::Address));
                    continue;
                }
                Lookup::Failed(error) => error.to_string(),
                Lookup::Late => format!("no answer within {} s", PATIENCE.as_secs()),
            };
            direct.unknown_gitaly.push(format!("{not_known}: {host} could not be looked up here ({why})"));
        }
        direct
    }

    /// One line for a part, with everything that it lacks.
    fn part(&self, part: &Part, environment: &Environment, gitlab_rb: &GitLabRb, all: &Direct) -> Finding {
        if !part.needed && environment.has_a_proxy() == Some(false) {
            let text = format!(
                "it has no proxy, and mirrors need none of it; if what it reaches should go through the proxy: {} = egressd, as egressd env --for gitlab-rb writes it",
                part.setting
            );
            return finding(part.name, FindingState::Open, text);
        }
        let mut direct = all.own.clone();
        let mut unknown = all.unknown.clone();
        if part.asks_gitaly {
            direct.extend(all.gitaly.iter().cloned());
            unknown.extend(all.unknown_gitaly.iter().cloned());
        }
        if let Some(unread) = environment.unread() {
            unknown.insert(0, self.not_read(unread));
        }
        let problems =
            environment.problems(&self.settings, Exceptions { direct: &direct, mirror: &self.mirror });
        if problems.is_empty() {
            let text = format!(
                "its variables name {}, and no_proxy what it reaches directly",
                self.settings.proxy.url()
            );
            return match (unknown.is_empty(), environment.unread()) {
                (true, _) => finding(part.name, FindingState::Fine, text),
                (false, Some(_)) => finding(part.name, FindingState::Open, unknown.join("; ")),
                (false, None) => {
                    let text =
                        format!("its variables name {}; {}", self.settings.proxy.url(), unknown.join("; "));
                    finding(part.name, FindingState::Open, text)
                }
            };
        }
        let written = gitlab_rb.sets(part.setting);
        let what: Vec<String> = problems.iter().map(Problem::to_string).collect();
        // Two problems of one variable have one line.
        let mut lines: Vec<String> = Vec::new();
        for line in problems.iter().flat_map(Problem::lines) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
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
        for unknown in unknown {
            text += &format!("; {unknown}");
        }
        finding(part.name, FindingState::Wrong, text)
    }

    fn not_read(&self, unread: &Unread) -> String {
        format!("its variables are not known: {}", unread.told(&self.run()))
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
                Lookup::Failed(_) if rails.has_a_proxy() == Some(true) => {
                    return told(
                        FindingState::Fine,
                        format!(
                            "{mirror} is not known here, which Rails accepts, because it has a proxy: the proxy looks it up"
                        ),
                    );
                }
                Lookup::Failed(error) if rails.has_a_proxy().is_none() => {
                    return told(
                        FindingState::Open,
                        format!(
                            "{mirror} is not known here ({error}), which Rails accepts if it has a proxy, and whether it has one could not be read: see the line of rails"
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
        let mut not_known = None;
        for file in ["etc/gitconfig", "var/opt/gitlab/.gitconfig", "opt/gitlab/embedded/etc/gitconfig"] {
            let path = self.root.join(file);
            let text = match read::text(&path) {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(unread) => {
                    let text = format!(
                        "whether somebody has set a proxy for git, which Gitaly's git would not read, is not known: {}",
                        unread.told(&self.run())
                    );
                    not_known.get_or_insert_with(|| finding("gitconfig", FindingState::Open, text));
                    continue;
                }
            };
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
        not_known
    }
}
