//! Which clients a policy is for.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::words::client::Client;

/// Which clients a policy is for. Of each kind that is set, one must match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientMatch {
    /// The client's address is in one of these; an empty list matches no client. Those of `files` are at the end.
    pub networks: Vec<IpNet>,
    /// The files that networks come from, in the order of their networks.
    pub files: Vec<ClientFile>,
    /// The client has proven one of these, with its kind in front; empty: not required.
    pub identities: Vec<Box<str>>,
    /// The client came through one of these; empty: not required.
    pub vpc_endpoints: Vec<Box<str>>,
    /// The client came by one of these; empty: by any.
    pub listeners: Vec<Box<str>>,
}

/// A file of networks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientFile {
    /// The name that the configuration gives.
    pub path: Arc<str>,
    /// How many networks it lists.
    pub networks: usize,
}

impl Default for ClientMatch {
    /// Clients of private networks: loopback, RFC 1918, RFC 6598, RFC 4193.
    fn default() -> Self {
        let v4 = [
            ([127, 0, 0, 0], 8),
            ([10, 0, 0, 0], 8),
            ([172, 16, 0, 0], 12),
            ([192, 168, 0, 0], 16),
            ([100, 64, 0, 0], 10),
        ];
        let v6 = [([0, 0, 0, 0, 0, 0, 0, 1], 128), ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7)];
        let v4 = v4.into_iter().map(|(address, prefix)| IpNet::new_assert(IpAddr::from(address), prefix));
        let v6 = v6.into_iter().map(|(address, prefix)| IpNet::new_assert(IpAddr::from(address), prefix));
        ClientMatch {
            networks: v4.chain(v6).collect(),
            files: Vec::new(),
            identities: Vec::new(),
            vpc_endpoints: Vec::new(),
            listeners: Vec::new(),
        }
    }
}

impl ClientMatch {
    /// The networks that are written in the configuration itself.
    pub fn inline_networks(&self) -> &[IpNet] {
        let listed: usize = self.files.iter().map(|file| file.networks).sum();
        let inline = self.networks.len().saturating_sub(listed);
        self.networks.get(..inline).unwrap_or(&self.networks)
    }

    pub(super) fn identity_fits(&self, client: &Client) -> bool {
        self.identities.is_empty()
            || client.identities.iter().any(|identity| self.identities.contains(identity))
    }

    pub(super) fn vpc_endpoint_fits(&self, client: &Client) -> bool {
        self.vpc_endpoints.is_empty()
            || client.vpc_endpoint.as_ref().is_some_and(|endpoint| self.vpc_endpoints.contains(endpoint))
    }

    /// `listener` is the one that the client came by, if that is known.
    pub(super) fn listener_fits(&self, listener: Option<&str>) -> bool {
        self.listeners.is_empty()
            || listener.is_some_and(|listener| self.listeners.iter().any(|one| **one == *listener))
    }
}
