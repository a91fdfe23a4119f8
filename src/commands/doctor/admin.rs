//! Asks egressd's admin listener what it refused: to which client, and how often.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};

use serde::Deserialize;

use super::timed::{STEP, Timed};
use crate::words::outcome::Reason;
use crate::words::pasted::{Pasted, pasted};
use crate::words::target::{Host, PROBE, Target, TargetError};

/// Most bytes of an answer that are read.
const MAX_ANSWER: u64 = 16 << 20;

/// The address of the admin listener.
#[derive(Clone, Debug)]
pub struct Admin(Target);

/// The part of `/api/decisions` that is needed.
#[derive(Deserialize)]
struct Decisions {
    refused: Vec<KnownRefusal>,
}

#[derive(Deserialize)]
struct KnownRefusal {
    id: Option<String>,
    client: Option<IpAddr>,
    target: Option<String>,
    reason: String,
    count: u64,
    #[serde(default)]
    last: String,
}

/// How often requests for [`PROBE`] were refused so far, by reason.
#[derive(Clone, Default, Debug)]
pub(super) struct Probes(BTreeMap<String, u64>);

impl Probes {
    /// A reason for which more were refused than `before`.
    pub(super) fn more_than(&self, before: &Probes) -> Option<&str> {
        let grown = |(reason, count): &(&String, &u64)| **count > before.0.get(*reason).copied().unwrap_or(0);
        self.0.iter().find(grown).map(|(reason, _)| reason.as_str())
    }
}

impl Admin {
    /// Reads `http://host:port`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            let place = pasted(url).or_else(|| pasted(&format!("http://{url}")));
            let write = match place {
                Some(Pasted::Url(place)) if place.port.is_some() => format!("http://{place}"),
                Some(Pasted::Url(place)) => format!("http://{place}:9180"),
                _ => "http://HOST:9180".to_owned(),
            };
            format!("--admin: `{}` is not a valid admin listener: {why}: write {write}", url.escape_debug())
        };
        let rest = url.strip_prefix("http://").ok_or_else(|| wrong("its URL begins with http://"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        Target::connect(rest).map(Admin).map_err(|error| {
            let is_longer = rest.contains(['/', '?', '#', '@']);
            match error {
                _ if is_longer => wrong("only its host and port are needed"),
                TargetError::PortMissing => wrong("the port is missing"),
                error => wrong(&error.to_string()),
            }
        })
    }

    /// The client of the refusal with this id. None: the listener does not know the id.
    pub(super) fn client_of(&self, id: &str) -> io::Result<Option<IpAddr>> {
        let ours = self.refused("")?.into_iter().find(|refused| refused.id.as_deref() == Some(id));
        Ok(ours.and_then(|refused| refused.client))
    }

    /// The client whose request for [`PROBE`] was refused last. None: there was none.
    pub(super) fn client_of_probe(&self) -> io::Result<Option<IpAddr>> {
        let refused = self.refused(&format!("?filter={PROBE}"))?;
        let of_probe =
            |refused: &KnownRefusal| refused.target.as_ref().is_some_and(|target| target.starts_with(PROBE));
        let last = refused.into_iter().filter(of_probe).max_by(|one, other| one.last.cmp(&other.last));
        Ok(last.and_then(|refused| refused.client))
    }

    /// How often another server name was shown to this target so far.
    pub(super) fn mismatches(&self, target: &Target) -> io::Result<u64> {
        let (target, reason) = (target.to_string(), Reason::SniMismatch.as_str());
        let refused = self.refused(&format!("?reason={reason}"))?.into_iter();
        let ours =
            refused.filter(|refused| refused.reason == reason && refused.target.as_ref() == Some(&target));
        Ok(ours.map(|refused| refused.count).sum())
    }

    /// How often requests for [`PROBE`] were refused so far.
    pub(super) fn probes(&self) -> io::Result<Probes> {
        let mut probes = Probes::default();
        for refused in self.refused(&format!("?filter={PROBE}"))? {
            if refused.target.is_some_and(|target| target.starts_with(PROBE)) {
                *probes.0.entry(refused.reason).or_default() += refused.count;
            }
        }
        Ok(probes)
    }

    fn refused(&self, query: &str) -> io::Result<Vec<KnownRefusal>> {
        #[expect(clippy::disallowed_methods, reason = "every client on this machine looks it up like this")]
        let addresses: Vec<SocketAddr> = match &self.0.host {
            Host::Address(ip) => vec![SocketAddr::new(*ip, self.0.port.get())],
            Host::Name(name) => (name.as_str(), self.0.port.get()).to_socket_addrs()?.collect(),
        };
        let address = addresses.first().ok_or_else(|| io::Error::other("its name has no address"))?;
        let mut stream = Timed::new(TcpStream::connect_timeout(address, STEP)?);
        write!(
            stream,
            "GET /api/decisions{query} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.0
        )?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let (Some(end), true) = (end, answer.starts_with(b"HTTP/1.1 200 ")) else {
            let status = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let status: String =
                String::from_utf8_lossy(status).chars().filter(|c| !c.is_control()).take(80).collect();
            return Err(io::Error::other(format!(
                "answered `{status}`: check that this is egressd's admin port, and that `admin.networks` includes this client"
            )));
        };
        let body = answer.get(end + 4..).unwrap_or_default();
        let decisions: Decisions = serde_json::from_slice(body).map_err(|_| {
            io::Error::other("the answer is not egressd's: check that this is its admin port")
        })?;
        Ok(decisions.refused)
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_admin_listener_is_told_with_what_to_write() {
        for (url, words) in [
            ("egressd:9180", "begins with http://: write http://egressd:9180"),
            ("https://egressd:9180", "begins with http://: write http://egressd:9180"),
            ("http://egressd:9180/metrics", "only its host and port are needed: write http://egressd:9180"),
            ("http://egressd", "the port is missing: write http://egressd:9180"),
            ("", "write http://HOST:9180"),
        ] {
            let told = Admin::parse(url).expect_err(url);
            assert!(told.starts_with("--admin: `") && told.ends_with(words), "{told}");
        }
        assert!(Admin::parse("http://egressd:9180/").is_ok());
    }
}
