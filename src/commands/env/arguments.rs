//! `egressd env`: its arguments, and what it takes from the configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::exceptions::Exceptions;
use super::formats::Format;
use super::variables::{ProxyUrl, Settings, Trust};
use crate::commands::credentials::credentials;
use crate::commands::{CONFIGURATION_REFUSED, FINE, WRONG_USAGE, load, say};
use crate::config::{Config, Listener};
use crate::words::target::{Host, Port};

/// Where Debian's `update-ca-certificates` takes the root from, and where it writes all of them.
const ROOT: &str = "/usr/local/share/ca-certificates/egressd-inspection.crt";
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// `env`.
#[derive(clap::Args, Debug)]
pub(crate) struct Env {
    /// Which kind of client or file to write for.
    #[arg(long = "for", value_name = "KIND", default_value = "shell")]
    format: Format,
    /// The proxy's URL as clients reach it: http://PROXY:PORT, https://PROXY:PORT or socks5h://PROXY:PORT; of a socket
    /// socks5h://localhost/PATH. Default: the configuration's first listener.
    #[arg(long, value_name = "URL")]
    via: Option<String>,
    /// Hosts that clients reach without the proxy, in addition to their own, the metadata endpoints and a cluster's names: a
    /// name, `.corp.example` for the names below, an address, a network. May be repeated.
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    no_proxy: Vec<String>,
    /// A file with one line USER:PASSWORD for the proxy. The output then contains the password.
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// Where clients have the root of inspection (PEM). Default, if the configuration has `inspection`: where Debian's
    /// update-ca-certificates wants it.
    #[arg(long, value_name = "PATH")]
    inspection_root: Option<String>,
    /// Where clients have one file (PEM) of all authorities, the root included.
    #[arg(long, value_name = "PATH", default_value = BUNDLE)]
    bundle: String,
}

/// What ended the command.
enum Refused {
    Usage(String),
    Configuration,
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Refused::Usage(text)
    }
}

impl Env {
    pub(crate) fn run(self, file: Option<&Path>) -> u8 {
        let format = self.format;
        let printed = self.settings(file).and_then(|settings| {
            let text = format.print(&settings)?;
            Ok((settings, text))
        });
        match printed {
            Ok((settings, text)) => {
                cautions(&settings, format).iter().for_each(|caution| eprintln!("egressd: {caution}"));
                say(text);
                FINE
            }
            Err(Refused::Configuration) => CONFIGURATION_REFUSED,
            Err(Refused::Usage(text)) => {
                eprintln!("egressd: {text}");
                WRONG_USAGE
            }
        }
    }

    fn settings(self, file: Option<&Path>) -> Result<Settings, Refused> {
        for (option, path) in
            [("--inspection-root", self.inspection_root.as_ref()), ("--bundle", Some(&self.bundle))]
        {
            if path.is_some_and(|path| path.is_empty() || path.contains(char::is_control)) {
                return Err(format!("{option}: this is no path that a variable can have").into());
            }
        }
        let config = load(file).ok_or(Refused::Configuration)?;
        let credentials = match &self.credentials_file {
            None => None,
            Some(path) => {
                let line = credentials(path)?;
                line.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
            }
        };
        let proxy = match &self.via {
            Some(url) => ProxyUrl::parse(url, credentials)?,
            None => ProxyUrl { credentials, ..listener(&config)? },
        };
        if proxy.socket.is_some() && !proxy.socks {
            return Err("no variable leads clients to a socket by HTTP: write --via socks5h://localhost/PATH, of a listener with \
                        `protocols: [http, socks5]`"
                .to_owned()
                .into());
        }
        let exceptions = Exceptions::new(&proxy.host, &self.no_proxy)?;
        let root = self.inspection_root.or_else(|| config.inspection.is_some().then(|| ROOT.to_owned()));
        let trust = root.map(|root| Trust { root, bundle: self.bundle });
        Ok(Settings { proxy, exceptions, trust })
    }
}

/// The first listener, as a client on the same host reaches it: one with a port, else a socket.
fn listener(config: &Config) -> Result<ProxyUrl, String> {
    // Nobody names one that is transparent.
    let named = || config.listeners.iter().filter(|listener| !listener.protocols.transparent);
    let with_port = |listener: &'_ Listener| Some((listener.address.ip()?, listener.clone()));
    let Some((address, first)) = named().find_map(with_port) else {
        let by_socks = |listener: &&Listener| listener.protocols.socks5 && listener.tls.is_none();
        let socket = named().filter(by_socks).find_map(|listener| listener.address.path());
        let path = socket.and_then(|path| path.to_str()).ok_or(
            "no listener of the configuration has a port, and variables lead to a unix socket by SOCKS5 alone: write `protocols: [http, \
             socks5]` there, or --via http://PROXY:PORT",
        )?;
        return ProxyUrl::parse(&format!("socks5h://localhost{path}"), None);
    };
    let port = Port::new(address.port()).ok_or_else(|| {
        format!("listener {} takes any free port: write --via http://PROXY:PORT", first.name)
    })?;
    let address = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    if address.is_loopback() {
        eprintln!(
            "egressd: {address} is right on this host alone: for other clients write --via http://PROXY:PORT, as they reach it"
        );
    }
    let (tls, socks) = (first.tls.is_some(), !first.protocols.http);
    if tls && socks {
        return Err(format!(
            "listener {} speaks SOCKS5 inside TLS, which no variable can say: write --via http://PROXY:PORT of another one",
            first.name
        ));
    }
    Ok(ProxyUrl { tls, socks, host: Host::Address(address), port, socket: None, credentials: None })
}

/// What the output cannot do, and what to do about it.
fn cautions(settings: &Settings, format: Format) -> Vec<String> {
    let mut cautions = Vec::new();
    let mut say = |text: String| cautions.push(text);
    if settings.proxy.socket.is_some() {
        say("a socket is for curl (7.84 and later) and git (2.47 and later): no other client reads its path from a variable".to_owned());
    } else if settings.proxy.socks {
        say("SOCKS5 is for clients that speak it: curl, git, Go, Java, ssh by netcat, Python's requests with PySocks. wget, apt, npm, Node and pip \
             without PySocks do not: a listener with `protocols: [http, socks5]` serves them on the same port, by http://"
            .to_owned());
    }
    if settings.proxy.tls {
        say("the proxy speaks TLS, which wget, Java and Python's urllib do not speak to a proxy, nor netcat: \
             JAVA_TOOL_OPTIONS and GIT_SSH_COMMAND are left out. Its certificate must be one that the clients trust"
            .to_owned());
    } else if settings.proxy.credentials.is_some() && format != Format::GitlabRb {
        say("GIT_SSH_COMMAND is left out, because netcat cannot be given a password; Java needs it from an Authenticator".to_owned());
    }
    if settings.proxy.credentials.is_some() {
        say("the output contains the password: whoever can read the file or the environment can read it"
            .to_owned());
    }
    let untold = settings.exceptions.untold();
    if !untold.is_empty() && format != Format::GitlabRb {
        say(format!(
            "Java and ssh cannot be told of {}: name their hosts with --no-proxy, or a network of 8, 16 or 24 bits",
            untold.join(", ")
        ));
    }
    if format == Format::GitlabRb {
        say("after gitlab.rb has it: gitlab-ctl reconfigure && gitlab-ctl restart. Before that, no part of GitLab has any of it"
            .to_owned());
    }
    if format == Format::GitlabRb && !settings.exceptions.name_own(&settings.proxy.host) {
        say("add GitLab's own host, and Gitaly's host and address if it is another one: --no-proxy gitlab.example.com,10.0.0.7"
            .to_owned());
    }
    if settings.trust.is_some() {
        say(match format {
            Format::GitlabRb => "GitLab takes the root of inspection from /etc/gitlab/trusted-certs, on every node".to_owned(),
            _ => "wget, apt and Java take the root of inspection from the system or from their own store (docs/inspection.md)"
                .to_owned(),
        });
    }
    cautions
}
