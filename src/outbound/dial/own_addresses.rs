//! egressd's own listening addresses: a target that resolves to one of them is a loop.
//!
//! A loop is found by address, because a tunnel's bytes do not show it. Addresses in front of egressd (a load balancer's,
//! a NAT's) are not known to the host; they can be given to [`OwnAddresses::new`] like a listener's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::rules::address::embedded_v4;

/// Where egressd itself listens, the admin listener included.
#[derive(Clone, Default, Debug)]
pub struct OwnAddresses {
    listeners: Vec<SocketAddr>,
}

impl OwnAddresses {
    /// The addresses as bound: with the real port, and 0.0.0.0 or :: where the configuration says so.
    pub fn new(listeners: impl IntoIterator<Item = SocketAddr>) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        OwnAddresses { listeners: listeners.into_iter().map(canonical).collect() }
    }

    /// Whether a connection to `target` would arrive at one of the listeners, IPv4 inside IPv6 included.
    pub fn holds(&self, target: SocketAddr) -> bool {
        // Almost no target has a port of ours. All others end here.
        let mut of_port = self.listeners.iter().filter(|own| own.port() == target.port()).peekable();
        if of_port.peek().is_none() {
            return false;
        }
        let readings: Vec<IpAddr> = readings(target.ip()).collect();
        of_port.any(|own| readings.iter().any(|ip| arrives(*own, *ip)))
    }
}

fn readings(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    let embedded = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(embedded_v4(ip).map(IpAddr::V4)),
    };
    std::iter::once(ip.to_canonical()).chain(embedded.into_iter().flatten()).map(|ip| match ip {
        // Linux treats a connection to the unspecified address as one to loopback.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    })
}

fn arrives(own: SocketAddr, ip: IpAddr) -> bool {
    match own.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => ip.is_ipv4() && is_local(ip),
        // A dual-stack listener takes IPv4 too.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => is_local(ip),
        specific => specific == ip,
    }
}

/// Whether `ip` is an address of this host. Nothing is sent to find out.
fn is_local(ip: IpAddr) -> bool {
    if ip.is_loopback() {
        return true;
    }
    // Only an address of this host can be bound, secondary ones included. The port does not matter.
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Listener, target, whether it is a loop.
    #[test]
    fn t44_a_target_that_is_a_listener_of_ours_is_a_loop() {
        #[rustfmt::skip]
        let rows: &[(&str, &str, bool)] = &[
            ("0.0.0.0:3128", "127.0.0.1:3128", true),
            ("0.0.0.0:3128", "127.5.6.7:3128", true),
            ("0.0.0.0:3128", "0.0.0.0:3128", true),
            ("0.0.0.0:3128", "127.0.0.1:3129", false),
            ("0.0.0.0:3128", "[::1]:3128", false),
            ("0.0.0.0:3128", "203.0.113.9:3128", false),
            ("0.0.0.0:3128", "[::ffff:127.0.0.1]:3128", true),
            ("0.0.0.0:3128", "[64:ff9b::7f00:1]:3128", true),
            ("[::]:3128", "[::1]:3128", true),
            ("[::]:3128", "[::]:3128", true),
            ("[::]:3128", "127.0.0.1:3128", true),
            ("127.0.0.1:3128", "127.0.0.1:3128", true),
            ("127.0.0.1:3128", "0.0.0.0:3128", true),
            ("127.0.0.1:3128", "127.0.0.2:3128", false),
            ("[::ffff:127.0.0.1]:3128", "127.0.0.1:3128", true),
            ("203.0.113.9:443", "203.0.113.9:443", true),
            ("203.0.113.9:443", "203.0.113.9:80", false),
            ("203.0.113.9:443", "[64:ff9b::cb00:7109]:443", true),
        ];
        for (listener, target, want) in rows {
            let own = OwnAddresses::new([listener.parse().unwrap()]);
            assert_eq!(own.holds(target.parse().unwrap()), *want, "{target} with a listener on {listener}");
        }
    }

    #[test]
    fn a_wildcard_listener_holds_every_address_of_the_host() {
        // The address that the host would use towards the outside, where it has one.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("198.51.100.1:9").is_err() {
            return;
        }
        let host = socket.local_addr().unwrap().ip();
        let own = OwnAddresses::new(["0.0.0.0:3128".parse().unwrap()]);
        assert!(own.holds(SocketAddr::new(host, 3128)), "{host}");
        assert!(!own.holds("198.51.100.1:3128".parse().unwrap()));
    }
}
