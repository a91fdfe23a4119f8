//! What a person asks about: a target, and the request that is made of it.

use std::net::SocketAddr;

use super::recognised::{AskedGit, GitCall, recognised};
use crate::rules::{HttpRequest, Permit, Recognised, Scheme, Upgrade};
use crate::words::aws::Account;
use crate::words::client::Protocol;
use crate::words::git::Content;
use crate::words::pasted::{Pasted, pasted};
use crate::words::target::{Host, Method, Port, Target, TargetError, split_port};

/// A target as a person writes it: `host`, `host:port`, `https://…`, `http://…`, `tcp://host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AskedTarget {
    /// What a client would request.
    pub target: Target,
    /// The protocol that the client would then use, if the text names one.
    pub scheme: Option<Scheme>,
    /// The path of a URL, as written, without query and fragment; `None`: there is none.
    pub path: Option<Box<str>>,
    /// The query of a URL, as written; only requests to Git are judged by it.
    pub query: Option<Box<str>>,
    /// The method of the request; `None`: not given.
    pub method: Option<Box<str>>,
    /// What is done with the repository at `path`.
    pub git: Option<AskedGit>,
    /// The AWS account whose credentials the request has.
    pub account: Option<Account>,
    /// The address that the connection was meant for, where something else decides.
    pub original: Option<SocketAddr>,
}

/// The request that is judged, with what would be recognised in it.
#[derive(Debug)]
pub(super) struct AskedRequest {
    method: Box<str>,
    path: Box<str>,
    query: Option<Box<str>>,
    inspected: bool,
    recognised: Recognised,
}

impl AskedRequest {
    pub(super) fn get(&self) -> HttpRequest<'_> {
        HttpRequest {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            upgrade: Upgrade::None,
            inspected: self.inspected,
            recognised: Some(&self.recognised),
        }
    }
}

/// Why a text is not a valid target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskedError {
    /// `ftp://…`.
    #[error("the scheme is not one of https, http and tcp")]
    Scheme,
    /// `http:/host`.
    #[error("write {0}")]
    Slashes(&'static str),
    /// `tcp://host`.
    #[error("a tcp target needs its port: write tcp://HOST:PORT")]
    TcpPort,
    /// The host or the port is wrong.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The text is something else that has a host in it: what to write instead.
    #[error("{0}")]
    Pasted(String),
}

impl AskedError {
    /// With what to write, if the text is something that people paste.
    fn with_help(self, text: &str) -> Self {
        let Some(found) = pasted(text) else { return self };
        let told = match found {
            Pasted::Url(place) => {
                let (scheme, rest) = text.split_once("://").unwrap_or_default();
                // Another scheme, or a port that is missing, is told as that.
                if Scheme::parse(scheme).is_none() || !rest.contains('@') {
                    return self;
                }
                let path = rest.find(['/', '?', '#']).and_then(|at| rest.get(at..)).unwrap_or_default();
                format!("who asks is no part of it: write `{scheme}://{place}{path}`")
            }
            Pasted::Path(place) => {
                format!(
                    "a path needs the scheme of its URL: write `https://{text}`, or `{place}` for the tunnel alone"
                )
            }
            Pasted::Ssh(place) => format!("this is an address for ssh: write `tcp://{place}`"),
            found @ (Pasted::User(_) | Pasted::Pattern(_) | Pasted::Network) => found.to_string(),
        };
        AskedError::Pasted(told)
    }
}

impl AskedTarget {
    /// Reads a target. A host without scheme and port means CONNECT to port 443. The fragment of a URL is ignored, because it is
    /// never sent.
    ///
    /// # Errors
    /// [`AskedError`], as a client's request would be refused with `bad_target`.
    pub fn parse(text: &str) -> Result<Self, AskedError> {
        AskedTarget::read(text).map_err(|error| error.with_help(text))
    }

    fn read(text: &str) -> Result<Self, AskedError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((word, rest)) => (Some(Scheme::parse(word).ok_or(AskedError::Scheme)?), rest),
            None => (None, text),
        };
        if scheme.is_none()
            && let Some((word, _)) = text.split_once(":/")
            && let Some(scheme) = Scheme::parse(word)
        {
            return Err(AskedError::Slashes(match scheme {
                Scheme::Https => "https://HOST",
                Scheme::Http => "http://HOST",
                Scheme::Tcp => "tcp://HOST:PORT",
            }));
        }
        let authority = match scheme {
            Some(_) => rest.split(['/', '?', '#']).next().unwrap_or_default(),
            None => rest,
        };
        let after = rest.get(authority.len()..).unwrap_or_default();
        let path = after.split(['?', '#']).next().unwrap_or_default();
        // RFC 9112 §3.2.1: an empty path is sent as `/`.
        let path: Option<Box<str>> = match (after.is_empty(), path) {
            (true, _) => None,
            (false, "") => Some("/".into()),
            (false, path) => Some(path.into()),
        };
        let query = after.split('#').next().unwrap_or_default().split_once('?');
        let query: Option<Box<str>> = query.map(|(_, query)| query.into());
        if authority.contains('@') {
            return Err(TargetError::UserInfo.into());
        }
        let target = if scheme == Some(Scheme::Http) {
            Target::http(authority)?
        } else {
            let (host, port) = split_port(authority)?;
            let port = match port {
                Some(port) => Port::parse(port)?,
                None if scheme == Some(Scheme::Tcp) => return Err(AskedError::TcpPort),
                None => Port::HTTPS,
            };
            Target { method: Method::Connect, host: Host::parse(host)?, port }
        };
        Ok(AskedTarget {
            target,
            scheme,
            path,
            query,
            method: None,
            git: None,
            account: None,
            original: None,
        })
    }

    /// The same with the method and the path of the request, where they are given; they come before those of a URL.
    pub fn asking(self, method: Option<&str>, path: Option<&str>) -> Self {
        AskedTarget {
            method: method.map(Box::from).or(self.method),
            query: self.query.filter(|_| path.is_none()),
            path: path.map(Box::from).or(self.path),
            ..self
        }
    }

    /// The same as a client of this protocol would ask: SOCKS5 knows tunnels alone.
    #[must_use]
    pub fn spoken(self, protocol: Protocol) -> Self {
        match (protocol, self.target.method) {
            // What comes inside is not said by the request.
            (Protocol::Socks5, Method::Http) => AskedTarget {
                target: Target { method: Method::Connect, ..self.target },
                scheme: None,
                ..self
            },
            _ => self,
        }
    }

    /// The same on a connection that was meant for an address. A transparent listener takes the port from it, and all of it for what
    /// shows no name; elsewhere it is what a CONNECT names, and `by_name` says whether the server name decides in its place.
    ///
    /// # Errors
    /// Such a connection brings no such request.
    pub fn meant_for(
        self,
        original: SocketAddr,
        transparent: bool,
        by_name: impl FnOnce(&Target) -> bool,
    ) -> Result<Self, &'static str> {
        let port = Port::new(original.port()).ok_or("port 0 is none")?;
        let host = Host::Address(original.ip().to_canonical());
        let address = Target { method: Method::Connect, host, port };
        let target = match (transparent, self.scheme) {
            (true, Some(Scheme::Http)) => self.target.clone(),
            (false, Some(Scheme::Http)) => {
                return Err(
                    "a plain request to a proxy names its host itself: leave the original address out",
                );
            }
            (_, Some(Scheme::Tcp)) => address,
            (_, Some(Scheme::Https) | None) if transparent => Target { port, ..self.target.clone() },
            (_, Some(Scheme::Https) | None) => match by_name(&address) {
                true => Target { port, ..self.target.clone() },
                false => address,
            },
        };
        Ok(AskedTarget { target, original: Some(original), ..self })
    }

    /// The same for what is done with the repository at the path, with credentials of an AWS account.
    ///
    /// # Errors
    /// There is no path.
    pub fn doing(self, git: Option<AskedGit>, account: Option<Account>) -> Result<Self, &'static str> {
        match (&git, &self.path, self.scheme) {
            (Some(_), None, _) => Err("write the repository as the path, as in https://HOST/v1/repos/NAME"),
            (Some(_), Some(_), Some(Scheme::Tcp)) => {
                Err("nothing looks into a tcp tunnel: write https://HOST/PATH")
            }
            _ => Ok(AskedTarget { git, account, ..self }),
        }
    }

    /// What was asked and not judged, by the permit that lets it pass. `is_judged`: there was a request.
    pub(super) fn not_judged(&self, permit: &Permit, is_judged: bool) -> Option<&'static str> {
        let looks = permit.method == Method::Http || permit.inspect || permit.scheme == Scheme::Http;
        let is_asked = self.path.as_deref().is_some_and(|path| path != "/")
            || self.method.is_some()
            || self.git.is_some()
            || self.account.is_some();
        let names_no_ref = self.git.as_ref().is_some_and(AskedGit::names_no_ref);
        if !looks && is_asked {
            return Some(
                "the rule does not look into the tunnel: method, path, what is asked of Git and whose credentials it has pass \
                 unseen; `requests` of the rule would judge them",
            );
        }
        let asks_git = permit.requests.as_ref().is_some_and(|requests| requests.asks_git());
        (is_judged && names_no_ref && asks_git).then_some(
            "no ref: a push is allowed only if each of its refs is; ask again with --ref refs/heads/NAME",
        )
    }

    /// The request that is judged on the connection that `permit` allows. `None`: nothing is asked on it, or nobody looks.
    pub(super) fn request(&self, permit: &Permit) -> Option<AskedRequest> {
        let is_read = match (permit.method, permit.scheme) {
            // Something is always asked for.
            (Method::Http, _) => true,
            (Method::Connect, Scheme::Https) => permit.inspect && self.scheme != Some(Scheme::Tcp),
            (Method::Connect, Scheme::Http) => self.scheme.is_none(),
            (Method::Connect, Scheme::Tcp) => false,
        };
        let is_asked = permit.method == Method::Http || self.path.is_some() || self.method.is_some();
        if !is_read || !is_asked {
            return None;
        }
        let path = self.path.as_deref().unwrap_or("/");
        let (method, path, query, content): (Box<str>, Box<str>, Option<Box<str>>, Content) = match &self.git
        {
            Some(git) => {
                let GitCall { method, path, query, content } = git.call(path);
                (method.into(), path.into(), query.map(Box::from), content)
            }
            None => {
                let method = self.method.as_deref().unwrap_or("GET");
                (method.into(), path.into(), self.query.clone(), Content::Unread)
            }
        };
        let asked = (&*method, &*path, query.as_deref());
        let recognised = recognised(&self.target.host.to_string(), asked, content, self.account);
        let inspected = permit.inspect && permit.method == Method::Connect;
        Some(AskedRequest { method, path, query, inspected, recognised })
    }
}
