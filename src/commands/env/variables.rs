//! The variables that clients read, and their values before any quoting.

use std::net::Ipv4Addr;

use super::exceptions::Exceptions;
use crate::words::pasted::{Pasted, pasted};
use crate::words::target::{Host, Port, Target};

/// The proxy as clients write it.
#[derive(Clone, Debug)]
pub(crate) struct ProxyUrl {
    /// Whether clients speak TLS to it.
    pub(crate) tls: bool,
    /// Whether they speak SOCKS5, and no HTTP.
    pub(crate) socks: bool,
    pub(crate) host: Host,
    pub(crate) port: Port,
    /// The path of its socket, in whose place host and port stand for nothing.
    pub(crate) socket: Option<Box<str>>,
    /// User and password.
    pub(crate) credentials: Option<(String, String)>,
}

/// Where a client has the root of inspection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trust {
    /// The root alone, for clients that add it to their own authorities.
    pub(crate) root: String,
    /// The root with all others, for clients that are given the whole list.
    pub(crate) bundle: String,
}

/// What all formats are made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) proxy: ProxyUrl,
    pub(crate) exceptions: Exceptions,
    /// None: no rule inspects, as far as is known.
    pub(crate) trust: Option<Trust>,
}

/// A variable and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

impl ProxyUrl {
    /// Reads `http://host:port`, `https://host:port` or `socks5h://host:port`; of a socket `unix:/path`, or what clients write that speak
    /// SOCKS5 to one: `socks5h://localhost/path`.
    ///
    /// # Errors
    /// What to write instead.
    pub(crate) fn parse(url: &str, credentials: Option<(String, String)>) -> Result<Self, String> {
        let of_socket = |path: &str, socks| {
            let socket = Some(Box::from(socket(path)?));
            let host = Host::Address(Ipv4Addr::LOCALHOST.into());
            Ok(ProxyUrl {
                tls: false,
                socks,
                host,
                port: Port::HTTP,
                socket,
                credentials: credentials.clone(),
            })
        };
        if let Some(path) = url.strip_prefix("unix:") {
            return of_socket(path, false);
        }
        if let Some(path) = url.strip_prefix("socks5h://localhost/").filter(|path| !path.is_empty()) {
            return of_socket(&format!("/{path}"), true);
        }
        let Some((scheme, rest)) = url.split_once("://") else { return Err(without_scheme(url)) };
        if rest.contains('@') {
            return Err("--via: every process on this machine can see a password in a URL: write USER:PASSWORD into a file, and use --credentials-file FILE".to_owned());
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let target = Target::connect(authority).map_err(|error| {
            let why = match pasted(url) {
                Some(Pasted::Url(place)) if place.port.is_none() => {
                    format!("the port is missing: write {scheme}://{place}:PORT")
                }
                Some(Pasted::Url(place)) => {
                    format!("a proxy's URL ends with its port: write {scheme}://{place}")
                }
                _ => error.to_string(),
            };
            format!("--via: `{}` is not a valid proxy: {why}", url.escape_debug())
        })?;
        let (tls, socks) = match scheme {
            "http" => (false, false),
            "https" => (true, false),
            "socks5h" => (false, true),
            "socks5" => {
                return Err("--via: write socks5h://: with socks5:// clients look names up themselves and send addresses, which no rule \
                            for names matches"
                    .to_owned());
            }
            _ => {
                return Err(
                    "--via: the URL of a proxy begins with http://, https:// or socks5h://".to_owned()
                );
            }
        };
        Ok(ProxyUrl { tls, socks, host: target.host, port: target.port, socket: None, credentials })
    }

    /// The URL, with the password if there is one.
    pub(crate) fn url(&self) -> String {
        let scheme = match (self.socks, self.tls) {
            (true, _) => "socks5h",
            (false, true) => "https",
            (false, false) => "http",
        };
        let credentials = self
            .credentials
            .as_ref()
            .map(|(user, password)| format!("{}:{}@", percent_encoded(user), percent_encoded(password)));
        let credentials = credentials.unwrap_or_default();
        match (&self.socket, self.socks) {
            (None, _) => format!("{scheme}://{credentials}{}:{}", self.host, self.port),
            (Some(path), true) => format!("{scheme}://{credentials}localhost{path}"),
            (Some(path), false) => format!("unix:{path}"),
        }
    }

    /// The URL as it may be shown.
    pub(crate) fn url_without_password(&self) -> String {
        ProxyUrl { credentials: None, ..self.clone() }.url()
    }

    /// The host without brackets.
    fn bare(&self) -> String {
        match &self.host {
            Host::Name(name) => name.to_string(),
            Host::Address(address) => address.to_string(),
        }
    }
}

/// What to write for a proxy of which only host and port were written.
fn without_scheme(text: &str) -> String {
    let place = match (Target::connect(text), Host::parse(text)) {
        (Ok(place), _) => place.to_string(),
        (_, Ok(host)) => format!("{host}:PORT"),
        _ => "PROXY:PORT".to_owned(),
    };
    format!(
        "--via: `{}` has no scheme: write http://{place}, or https:// if the listener has `tls`",
        text.escape_debug()
    )
}

/// A path that can stand in a URL as it is.
fn socket(path: &str) -> Result<&str, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    match path.starts_with('/') && path.bytes().all(is_plain) {
        true => Ok(path),
        false => Err(format!(
            "--via: `{}` is no path that every client reads alike: write an absolute one of letters, digits and -._~",
            path.escape_debug()
        )),
    }
}

/// Everything but the unreserved characters (RFC 3986 §2.3), so that no client and no shell takes a character for its own.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

impl Settings {
    /// The three variables in both letter cases: curl and git read only `http_proxy`, some others only the capitals.
    pub(crate) fn proxies(&self) -> Vec<Variable> {
        let (url, exceptions) = (self.proxy.url(), self.exceptions.list());
        let values = [
            ("http_proxy", &url),
            ("https_proxy", &url),
            ("no_proxy", &exceptions),
            ("HTTP_PROXY", &url),
            ("HTTPS_PROXY", &url),
            ("NO_PROXY", &exceptions),
        ];
        let mut all: Vec<Variable> =
            values.map(|(name, value)| Variable { name, value: value.clone() }).into();
        if self.proxy.socks {
            // For protocols other than HTTP, which SOCKS carries too.
            all.extend(["all_proxy", "ALL_PROXY"].map(|name| Variable { name, value: url.clone() }));
        }
        all
    }

    /// Those, and what clients need in addition that read none of them.
    pub(crate) fn all(&self) -> Vec<Variable> {
        let mut all = self.proxies();
        let mut add = |name, value: String| all.push(Variable { name, value });
        if !self.proxy.socks {
            // Node 22.21, 24 and later: their own http, https and fetch. Older ones do not know it, and none speaks SOCKS.
            add("NODE_USE_ENV_PROXY", "1".to_owned());
        }
        if !self.proxy.tls && self.proxy.socket.is_none() {
            add("JAVA_TOOL_OPTIONS", self.java());
        }
        if let Some(ssh) = self.ssh() {
            add("GIT_SSH_COMMAND", ssh);
        }
        if let Some(Trust { root, bundle }) = &self.trust {
            add("NODE_EXTRA_CA_CERTS", root.clone());
            for name in BUNDLES {
                add(name, bundle.clone());
            }
        }
        all
    }

    /// Options of the JVM, which reads none of the variables.
    fn java(&self) -> String {
        let (host, port) = (self.proxy.bare(), self.proxy.port);
        if self.proxy.socks {
            let direct = self.exceptions.java();
            return format!("-DsocksProxyHost={host} -DsocksProxyPort={port} -DsocksNonProxyHosts={direct}");
        }
        let mut options = Vec::new();
        for scheme in ["http", "https"] {
            options.push(format!("-D{scheme}.proxyHost={host}"));
            options.push(format!("-D{scheme}.proxyPort={port}"));
        }
        // It holds for https, too.
        options.push(format!("-Dhttp.nonProxyHosts={}", self.exceptions.java()));
        if self.proxy.credentials.is_some() {
            // Without it Java never offers a password that it would send in the clear.
            options.push("-Djdk.http.auth.tunneling.disabledSchemes=".to_owned());
        }
        options.join(" ")
    }

    /// How git runs ssh. None: netcat speaks no TLS to a proxy and reaches none by a socket, and its password can only be typed.
    fn ssh(&self) -> Option<String> {
        if self.proxy.tls || self.proxy.credentials.is_some() || self.proxy.socket.is_some() {
            return None;
        }
        let (host, port, direct) = (&self.proxy.host, self.proxy.port, self.exceptions.shell());
        let way = if self.proxy.socks { "5" } else { "connect" };
        // ssh puts `exec` before it, which then only redirects, and the shell goes on. Without single quotes, backslashes and `$`,
        // which readers of the formats treat in different ways.
        Some(format!(
            "ssh -o \"ProxyCommand=2>&2; case %h in {direct}) exec nc %h %p;; *) exec nc -X {way} -x {host}:{port} %h %p;; esac\""
        ))
    }
}

/// The variables that name a whole list of authorities: OpenSSL, Go and Python; curl; git; requests; pip; AWS; cargo.
pub(crate) const BUNDLES: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
];
