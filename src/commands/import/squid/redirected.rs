//! The verdict on what was redirected to a port: plain HTTP by the host that it names; TLS by the address that the connection was
//! for, and then by the server name.
//!
//! egressd looks the server name up itself, so it never asks for an address that a connection was for. Where Squid could refuse one,
//! the name is refused.

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::access::{Access, AccessVerdict};
use super::acl::{AclTest, RequestKind};
use super::asked::{AskedHost, Takes};
use crate::rules::AddressSet;
use crate::words::small_sort::SmallCollect as _;

/// At most so many networks are asked about.
const MOST: usize = 256;

/// The verdict, which is never wider than Squid's.
pub(super) fn verdict(access: &Access<'_>, request: &RequestKind<'_>) -> AccessVerdict {
    match (request.takes, request.connect) {
        (Takes::Requests, _) | (Takes::RedirectedHttp, false) => access.verdict(request),
        (Takes::RedirectedHttp, true) | (Takes::RedirectedTls, false) => {
            AccessVerdict::Denied { perhaps: false, by: None }
        }
        (Takes::RedirectedTls, true) => by_address(access, request),
    }
}

fn by_address(access: &Access<'_>, request: &RequestKind<'_>) -> AccessVerdict {
    let verdict = access.verdict(request);
    let AccessVerdict::Allowed { by, unless, .. } = &verdict else { return verdict };
    if let AskedHost::Network(_) = request.host {
        return verdict;
    }
    let denied: Vec<IpNet> = unless.iter().flat_map(|rule| access.networks(*rule)).collect();
    let denied = AddressSet::of(&denied);
    let refused = |network: &IpNet| {
        let address = RequestKind { host: AskedHost::Network(*network), hello: false, ..*request };
        !denied.covers(&AddressSet::of([network]))
            && matches!(access.verdict(&address), AccessVerdict::Denied { .. })
    };
    let networks = networks(access);
    let found = networks.iter().take(MOST).find(|network| refused(network));
    let why = match found {
        Some(network) if network.prefix_len() > 0 => {
            format!("Squid asks for the address of a redirected connection first, and refuses {network}")
        }
        Some(_) => {
            "Squid asks for the address of a redirected connection first, and no line lets addresses through"
                .to_owned()
        }
        None if networks.len() > MOST => {
            format!(
                "Squid asks for the address of a redirected connection first, and the lists have more than {MOST} networks"
            )
        }
        None => return verdict,
    };
    access.doubt(&[((*by).min(access.rules.len().saturating_sub(1)), why)]);
    AccessVerdict::Denied { perhaps: true, by: None }
}

/// All that a list tells apart.
fn networks(access: &Access<'_>) -> BTreeSet<IpNet> {
    let all: [IpNet; 2] = [Ipv4Net::default().into(), Ipv6Net::default().into()];
    let mut networks: BTreeSet<IpNet> = all.into_iter().small_collect();
    for (_, acl) in access.used() {
        match &acl.test {
            AclTest::Host(hosts) => networks.extend(hosts.addresses()),
            AclTest::Destination { addresses, .. } => networks.extend(addresses.networks()),
            _ => {}
        }
    }
    networks
}
