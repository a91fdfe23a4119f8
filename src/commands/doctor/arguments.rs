//! `egressd doctor`: its arguments, and its run.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustls::ClientConfig;

use crate::commands::credentials::credentials;
use crate::commands::doctor::finding::finding;
use crate::commands::doctor::gitlab::{self, GitLab};
use crate::commands::doctor::{Admin, Finding, FindingState, Proxy, REACH, Visit, clients, visit};
use crate::commands::env::{Exceptions, ProxyUrl, Settings};
use crate::commands::{FAILED, FINE, WRONG_USAGE, say};
use crate::transport::tls::PemFile;
use crate::transport::tls::authorities::{Authorities, Roots};
use crate::transport::tls::client::{client_config, show};
use crate::words::io_error::reason;
use crate::words::pasted::pasted;
use crate::words::target::Target;

/// `doctor`.
#[derive(clap::Args, Debug)]
pub(crate) struct Doctor {
    /// The proxy's URL, as clients write it: http://PROXY:PORT, https://PROXY:PORT or socks5h://PROXY:PORT; of a socket unix:PATH or
    /// socks5h://localhost/PATH.
    #[arg(long, value_name = "URL")]
    via: String,
    /// A target that is listed; the port is 443 unless given.
    #[arg(long, value_name = "HOST", default_value = "git-codecommit.ap-northeast-1.amazonaws.com")]
    allowed: String,
    /// A target that is not listed; the port is 443 unless given.
    #[arg(long, value_name = "HOST", default_value = "example.com")]
    denied: String,
    /// A file with one line USER:PASSWORD for the proxy.
    #[arg(long, value_name = "FILE", env = "EGRESSD_CREDENTIALS_FILE")]
    credentials_file: Option<PathBuf>,
    /// CA bundle (PEM) that verifies an https proxy. Default: the system's CA certificates.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// This client's certificate (PEM), for a proxy that asks for one.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// The certificate's private key.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// The admin listener, http://PROXY:9180, to find out which client address the proxy saw.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The client address that the proxy should see. Default: the one that `doctor` connects from.
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// On a host of GitLab Omnibus: what its parts' environments, its trusted certificates and its DNS lack.
    #[arg(long)]
    gitlab: bool,
    /// Where the files of that host begin.
    #[arg(long, value_name = "DIR", default_value = "/", requires = "gitlab")]
    root: PathBuf,
    /// The root of inspection (PEM), which GitLab should trust.
    #[arg(long, value_name = "FILE", requires = "gitlab")]
    inspection_root: Option<PathBuf>,
    /// Let the clients that are installed (git, curl, wget, Python, pip, Node, npm, Java, Go, kubectl, Helm, skopeo, apt) request a
    /// target that does not exist, as they are set up here, and tell which of them ask the proxy.
    #[arg(long)]
    clients: bool,
}

impl Doctor {
    pub(crate) fn run(self) -> u8 {
        match self.all() {
            Ok(true) => FINE,
            Ok(false) => FAILED,
            Err(error) => {
                eprintln!("egressd: {error}");
                WRONG_USAGE
            }
        }
    }

    /// Whether nothing is wrong.
    fn all(self) -> Result<bool, String> {
        let credentials = self.credentials_file.as_deref().map(credentials).transpose()?;
        let pair = credentials.as_deref().and_then(|line| line.split_once(':'));
        let pair = pair.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let proxy = ProxyUrl::parse(&self.via, pair)?;
        let exceptions = Exceptions::new(&proxy.host, &[])?;
        if proxy.socket.is_some() && !proxy.socks && (self.gitlab || self.clients) {
            return Err(
                "--via: no client is told of a socket by HTTP: write socks5h://localhost/PATH".to_owned()
            );
        }
        let settings = Settings { proxy, exceptions, trust: None };
        let gitlab = if self.gitlab {
            let inspection_root = self.inspection_root.as_deref().map(gitlab::inspection_root).transpose()?;
            let mirror = target("--allowed", &self.allowed)?.host;
            // Without the password, which would be printed.
            let proxy = ProxyUrl { credentials: None, ..settings.proxy.clone() };
            let settings = Settings { proxy, ..settings.clone() };
            Some(GitLab { root: self.root.clone(), settings, mirror, inspection_root })
        } else {
            None
        };
        let ask_clients = self.clients;
        let plan = self.visit(credentials)?;
        let tell = |finding: &Finding| say(format_args!("{finding}\n"));
        let mut is_reached = false;
        let mut fine = visit(&plan, |finding| {
            is_reached |= finding.what == REACH && finding.state == FindingState::Fine;
            tell(finding);
        });
        if let Some(gitlab) = gitlab {
            fine &= gitlab.examine(gitlab::look_up, tell);
        }
        if ask_clients && !is_reached {
            // Each would say the same, as if it were its own fault.
            let text = format!(
                "not asked: {} does not answer, whatever a client is set to: see the line `reach`",
                plan.via
            );
            tell(&finding("clients", FindingState::Open, text));
        } else if ask_clients {
            fine &= clients::ask_all(&settings, plan.admin.as_ref(), tell);
        }
        Ok(fine)
    }

    fn visit(self, credentials: Option<String>) -> Result<Visit, String> {
        let own = self.client_certificate.as_deref().zip(self.client_key.as_deref());
        let via = Proxy::parse(&self.via, || trust(self.ca.as_deref(), own), credentials)?;
        if own.is_some() && !self.via.starts_with("https:") {
            return Err(
                "--client-certificate: a certificate is shown in TLS, and --via does not begin with https://"
                    .to_owned(),
            );
        }
        let admin = self.admin.as_deref().map(Admin::parse).transpose()?;
        Ok(Visit {
            via,
            allowed: target("--allowed", &self.allowed)?,
            denied: target("--denied", &self.denied)?,
            admin,
            client: self.client,
        })
    }
}

/// A host, or `host:port`. `option` is what it was given with.
fn target(option: &str, text: &str) -> Result<Target, String> {
    let bare = text.strip_prefix("https://").unwrap_or(text);
    let with_port = Target::connect(bare).or_else(|_| Target::connect(&format!("{bare}:443")));
    with_port.map_err(|error| {
        let why = pasted(text).map_or_else(|| error.to_string(), |pasted| pasted.to_string());
        format!("{option}: `{}` is not a valid target: {why}", text.escape_debug())
    })
}

/// How an https proxy is verified, and what is shown to it: certificate and key.
fn trust(ca: Option<&Path>, own: Option<(&Path, &Path)>) -> Result<ClientConfig, String> {
    let authorities = match ca {
        None => None,
        Some(path) => {
            let shown = path.display();
            let pem = std::fs::read(path)
                .map_err(|error| format!("--ca: cannot read {shown}: {}", reason(&error)))?;
            Some(Authorities::parse(&pem, |_| {}).map_err(|why| format!("--ca: {shown}: {why}"))?)
        }
    };
    let mut config =
        client_config(authorities.as_ref(), &Roots::System).map_err(|error| error.to_string())?;
    if let Some((certificate, key)) = own {
        let read = |option: &str, path: &Path| match std::fs::read(path) {
            Ok(bytes) => Ok(PemFile { path: path.to_owned(), bytes }),
            Err(error) => Err(format!("{option}: cannot read {}: {}", path.display(), reason(&error))),
        };
        let (certificate, key) = (read("--client-certificate", certificate)?, read("--client-key", key)?);
        show(&mut config, certificate, key).map_err(|problem| problem.to_string())?;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_in_place_of_a_target_is_told_with_its_host() {
        for (text, want) in [
            ("https://git.example/v1/repos/x", "this is a URL: write its host, `git.example`"),
            ("http://git.example:8080/", "this is a URL: write its host, `git.example:8080`"),
            ("git.example/v1", "a path is no part of it: write `git.example`"),
            ("https://me@git.example/x.git", "this is a URL: write its host, `git.example`"),
            ("git@git.example:me/x.git", "this is an address for ssh: write its host, `git.example:22`"),
            ("*.example", "a pattern is for many hosts: write one of them"),
            ("a b", "the host has a character that is not a letter"),
        ] {
            let told = target("--allowed", text).expect_err(text);
            assert!(
                told.starts_with(&format!("--allowed: `{text}` is not a valid target: {want}")),
                "{told}"
            );
        }
        for text in ["https://git.example", "git.example", "git.example:8443", "https://git.example:8443"] {
            assert!(target("--allowed", text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_ca_file_that_cannot_be_used_is_told_as_that_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca.pem");
        let told = || trust(Some(&path), None).expect_err("it cannot be used");
        assert_eq!(told(), format!("--ca: cannot read {}: there is no such file", path.display()));
        std::fs::write(&path, "no PEM").expect("a file");
        assert!(told().starts_with(&format!("--ca: {}: the file holds no certificate", path.display())));
        let own = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
        std::fs::write(&path, own.cert.pem()).expect("a file");
        assert!(trust(Some(&path), None).is_ok());
        let key = directory.path().join("key.pem");
        let told = trust(Some(&path), Some((&path, &key))).expect_err("there is no key");
        assert_eq!(told, format!("--client-key: cannot read {}: there is no such file", key.display()));
        std::fs::write(&key, "no PEM").expect("a file");
        let told = trust(Some(&path), Some((&path, &key))).expect_err("it is no key");
        assert_eq!(told, format!("{}: holds no private key in PEM form", key.display()));
        std::fs::write(&key, own.signing_key.serialize_pem()).expect("a file");
        assert!(trust(Some(&path), Some((&path, &key))).is_ok());
    }
}
