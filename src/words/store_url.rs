//! Where the store of `shared_state` is: `redis://HOST:PORT/DATABASE` and its forms with TLS, for a cluster and for Sentinel.
//!
//! Not here: how it is connected to (`state/budgets/shared`).

use std::fmt;

use super::quote::quoted;
use super::target::{Host, Port, Target};

/// The port of Redis, of its cluster, and of Valkey.
const PORT: u16 = 6379;
/// The port of Sentinel.
const SENTINEL_PORT: u16 = 26379;
/// Redis has 16 databases unless it is told otherwise.
const MAX_DATABASE: u32 = 65_535;
/// What a URL looks like.
const SHAPE: &str = "write redis://HOST:PORT/0, redis+cluster://HOST:PORT,HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/MASTER/0, each with \
                     rediss for TLS";

/// Where the store is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreUrl {
    /// Whether it is spoken to by TLS.
    pub tls: bool,
    /// What is at the addresses.
    pub kind: StoreKind,
    /// At least one. Of a single server, exactly one.
    pub at: Box<[(Host, Port)]>,
    /// The number of the database; 0 in a cluster.
    pub database: u32,
}

/// What is at the addresses of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreKind {
    /// The server.
    Single,
    /// Some nodes of a cluster.
    Cluster,
    /// Some Sentinels, which know where the master of that name is.
    Sentinel(Box<str>),
}

impl StoreUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What to write instead; never with a part of the text that may be a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{} is not the URL of a store: {why}; {SHAPE}", quoted(text));
        let Some((scheme, rest)) = text.split_once("://") else { return Err(wrong("it has no scheme")) };
        if rest.contains('@') {
            return Err("the URL cannot contain credentials: put USER:PASSWORD into the file that `credentials_file` names; \
                        for a password alone the user is `default`"
                .to_owned());
        }
        if rest.contains(['?', '#']) {
            return Err(wrong("it has a query or a fragment"));
        }
        let (secure, form) = match scheme.split_once('+') {
            Some((secure, form)) => (secure, Some(form)),
            None => (scheme, None),
        };
        let tls = match secure {
            "redis" => false,
            "rediss" => true,
            _ => return Err(wrong("its scheme is neither redis nor rediss")),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut path = path.split('/').filter(|part| !part.is_empty());
        let kind = match form {
            None => StoreKind::Single,
            Some("cluster") => StoreKind::Cluster,
            Some("sentinel") => match path.next() {
                Some(master) => StoreKind::Sentinel(master.into()),
                None => return Err(wrong("it does not name the master that Sentinel knows")),
            },
            Some(_) => return Err(wrong("its scheme is none of these")),
        };
        let database = match path.next() {
            None => 0,
            Some(number) => match number.parse() {
                Ok(number) if number <= MAX_DATABASE => number,
                _ => return Err(wrong("its database is not a number")),
            },
        };
        if path.next().is_some() {
            return Err(wrong("its path has too many parts"));
        }
        if kind == StoreKind::Cluster && database != 0 {
            return Err(wrong("a cluster has only database 0"));
        }
        let port = if matches!(kind, StoreKind::Sentinel(_)) { SENTINEL_PORT } else { PORT };
        let at: Vec<(Host, Port)> = hosts
            .split(',')
            .map(|host| address(host, port).map_err(|error| wrong(&error)))
            .collect::<Result<_, _>>()?;
        if kind == StoreKind::Single && at.len() > 1 {
            return Err(wrong("it has more than one host"));
        }
        Ok(StoreUrl { tls, kind, at: at.into(), database })
    }

    /// Whether everything that it names is this machine.
    pub fn is_local(&self) -> bool {
        self.at.iter().all(|(host, _)| match host {
            Host::Address(address) => address.to_canonical().is_loopback(),
            Host::Name(name) => name.as_str() == "localhost",
        })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoreUrl { tls, kind, at, database } = self;
        f.write_str(if *tls { "rediss" } else { "redis" })?;
        f.write_str(match kind {
            StoreKind::Single => "://",
            StoreKind::Cluster => "+cluster://",
            StoreKind::Sentinel(_) => "+sentinel://",
        })?;
        for (number, (host, port)) in at.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{host}:{port}")?;
        }
        if let StoreKind::Sentinel(master) = kind {
            write!(f, "/{master}")?;
        }
        if *kind == StoreKind::Cluster { Ok(()) } else { write!(f, "/{database}") }
    }
}

fn address(text: &str, port: u16) -> Result<(Host, Port), String> {
    let with_port = Target::connect(text).or_else(|_| Target::connect(&format!("{text}:{port}")));
    with_port.map(|target| (target.host, target.port)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_a_cluster_or_sentinels_with_their_master() {
        let rows = [
            ("redis://valkey:6379/0", "redis://valkey:6379/0"),
            ("rediss://valkey", "rediss://valkey:6379/0"),
            ("redis://10.0.0.1/3", "redis://10.0.0.1:6379/3"),
            ("redis://[::1]:7000", "redis://[::1]:7000/0"),
            ("redis://[::1]", "redis://[::1]:6379/0"),
            ("redis+cluster://a,b:7001", "redis+cluster://a:6379,b:7001"),
            ("rediss+cluster://cache.corp.example:6379/0", "rediss+cluster://cache.corp.example:6379"),
            ("redis+sentinel://a,b:5/main", "redis+sentinel://a:26379,b:5/main/0"),
            ("rediss+sentinel://a/main/2", "rediss+sentinel://a:26379/main/2"),
        ];
        for (text, want) in rows {
            let url = StoreUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.to_string(), want);
            assert_eq!(StoreUrl::parse(want), Ok(url), "{want}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_store_says_what_to_write() {
        let rows = [
            ("valkey:6379", "it has no scheme"),
            ("http://valkey", "neither redis nor rediss"),
            ("redis+ring://valkey", "none of these"),
            ("redis://a,b", "more than one host"),
            ("redis+sentinel://a", "does not name the master"),
            ("redis://a/x", "not a number"),
            ("redis://a/0/1", "too many parts"),
            ("redis+cluster://a/1", "only database 0"),
            ("redis://a?db=1", "a query"),
            ("redis://", "is not the URL"),
            ("redis://a:99999", "is not the URL"),
        ];
        for (text, want) in rows {
            let error = StoreUrl::parse(text).expect_err(text);
            assert!(error.contains(want) && error.contains("write redis://"), "{text}: {error}");
        }
        let error = StoreUrl::parse("redis://user:s3cret@valkey").expect_err("a password");
        assert!(error.contains("credentials_file") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn only_loopback_is_this_machine() {
        let rows = [
            ("redis://127.0.0.1", true),
            ("redis://[::1]", true),
            ("redis://[::ffff:127.0.0.1]", true),
            ("redis://localhost", true),
            ("redis://10.0.0.1", false),
            ("redis+cluster://127.0.0.1,valkey", false),
        ];
        for (text, want) in rows {
            assert_eq!(StoreUrl::parse(text).map(|url| url.is_local()), Ok(want), "{text}");
        }
    }
}
