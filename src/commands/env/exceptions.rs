//! What clients reach without the proxy, in the three spellings that they read: `no_proxy`, Java's property, a pattern of the shell.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::rules::no_proxy::EVERYWHERE;
use crate::words::pasted::{Pasted, pasted};
use crate::words::target::{Host, Name};

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Exception {
    /// A name. Most clients take the names below it for it, too.
    Name(Name),
    /// The names below a name.
    Below(Name),
    Address(IpAddr),
    Network(IpNet),
}

/// The entries, each once, in their order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Exceptions(Vec<Exception>);

impl Exceptions {
    /// What belongs into the `no_proxy` of every client, and what is added to it. The proxy's own host is one of them: a client
    /// that asks for it through the proxy is refused as a loop.
    ///
    /// # Errors
    /// What to write instead of an entry.
    pub(crate) fn new(proxy: &Host, added: &[String]) -> Result<Self, String> {
        let own = match proxy {
            Host::Name(name) => Exception::Name(name.clone()),
            Host::Address(address) => Exception::Address(*address),
        };
        let mut all = Exceptions(Vec::new());
        for entry in EVERYWHERE {
            all.add(Exception::parse(entry)?);
        }
        all.add(own);
        for entry in added {
            let entry = entry.trim();
            all.add(
                Exception::parse(entry)
                    .map_err(|why| format!("--no-proxy: `{}`: {why}", entry.escape_debug()))?,
            );
        }
        Ok(all)
    }

    fn add(&mut self, entry: Exception) {
        if !self.0.contains(&entry) {
            self.0.push(entry);
        }
    }

    /// As `no_proxy` has them. An IPv6 address stands twice: curl, Go and requests want it bare, Python's urllib and Node in brackets.
    pub(crate) fn list(&self) -> String {
        let entries = self.0.iter().map(|entry| match entry {
            Exception::Name(name) => name.to_string(),
            Exception::Below(name) => format!(".{name}"),
            Exception::Address(IpAddr::V6(address)) => format!("{address},[{address}]"),
            Exception::Address(address) => address.to_string(),
            Exception::Network(network) => network.to_string(),
        });
        entries.collect::<Vec<_>>().join(",")
    }

    /// As `http.nonProxyHosts` has them: Java takes an entry for the whole host, and knows `*` at the beginning or the end alone.
    /// Of networks it can tell only those that end at a dot.
    pub(crate) fn java(&self) -> String {
        let mut patterns = Vec::new();
        for entry in &self.0 {
            match entry {
                Exception::Name(name) => patterns.extend([name.to_string(), format!("*.{name}")]),
                Exception::Below(name) => patterns.push(format!("*.{name}")),
                Exception::Address(IpAddr::V6(address)) => patterns.push(format!("[{address}]")),
                // What Java has by itself, and what it loses as soon as the property is set.
                Exception::Address(address) if address.is_loopback() => patterns.push("127.*".to_owned()),
                Exception::Address(address) => patterns.push(address.to_string()),
                Exception::Network(network) => patterns.extend(dotted(network)),
            }
        }
        patterns.join("|")
    }

    /// As a `case` of the shell has them: the names, and the addresses that were added. No server for ssh is at the others.
    pub(super) fn shell(&self) -> String {
        let mut patterns = Vec::new();
        for entry in &self.0 {
            match entry {
                Exception::Name(name) => patterns.extend([name.to_string(), format!("*.{name}")]),
                Exception::Below(name) => patterns.push(format!("*.{name}")),
                Exception::Address(address) if is_endpoint(*address) => {}
                Exception::Address(address) => patterns.push(address.to_string()),
                Exception::Network(network) => patterns.extend(dotted(network)),
            }
        }
        patterns.join("|")
    }

    /// The networks that Java and ssh cannot tell from other addresses.
    pub(super) fn untold(&self) -> Vec<String> {
        let networks = self.0.iter().filter_map(|entry| match entry {
            Exception::Network(network) if dotted(network).is_none() => Some(network.to_string()),
            _ => None,
        });
        networks.collect()
    }

    /// Whether something was added that names a client's own servers.
    pub(super) fn name_own(&self, proxy: &Host) -> bool {
        Exceptions::new(proxy, &[]).is_ok_and(|known| self.0.len() > known.0.len())
    }
}

impl Exception {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "*" {
            return Err("this would be no host or every host: name the hosts that need no proxy".to_owned());
        }
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Exception::Address(address));
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Exception::Network(network.trunc()));
        }
        if let Some(Pasted::Url(place) | Pasted::Path(place) | Pasted::User(place) | Pasted::Ssh(place)) =
            pasted(text)
        {
            let host = match place.host {
                Host::Name(name) => name.to_string(),
                Host::Address(address) => address.to_string(),
            };
            return Err(format!(
                "this is more than a host, and clients compare the host alone: write `{host}`"
            ));
        }
        if text.contains('/') {
            return Err("a network is written as 10.0.0.0/8".to_owned());
        }
        if text.strip_prefix("*.").unwrap_or(text).contains('*') {
            return Err(
                "clients do not agree on such a `*`: write `.corp.example` for the names below one, or each host".to_owned()
            );
        }
        if let Some(below) = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
            // `*.corp` is what many write and few clients read: `.corp` is the spelling that most know.
            return Name::parse(below).map(Exception::Below).map_err(|why| why.to_string());
        }
        if text.contains(':') {
            return Err("few clients read a port here: write the host alone".to_owned());
        }
        Name::parse(text).map(Exception::Name).map_err(|why| why.to_string())
    }
}

fn is_endpoint(address: IpAddr) -> bool {
    crate::rules::no_proxy::EVERYWHERE.contains(&address.to_string().as_str()) && !address.is_loopback()
}

/// `10.*` of `10.0.0.0/8`; `None` if the network does not end at a dot.
fn dotted(network: &IpNet) -> Option<String> {
    let IpNet::V4(network) = network else { return None };
    let octets = match network.prefix_len() {
        8 => 1,
        16 => 2,
        24 => 3,
        _ => return None,
    };
    let kept = network.addr().octets().iter().take(octets).map(u8::to_string).collect::<Vec<_>>();
    Some(kept.join(".") + ".*")
}
