//! What every reader of keys needs: whether the key is set, whether its value is valid, and whether it is in its range.
//!
//! This module is below all modules that read keys, so that none of them imports another for this. Not here: which keys
//! exist ([`super::file`]).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::finding::{Position, Report};
use super::typed::At;
use super::values::{Length, Network};
use crate::words::units::Span;

/// A key that may be missing.
pub(super) type Key<T> = Option<At<T>>;
/// A list in which each item has its position.
pub(super) type List<T> = Option<At<Vec<At<T>>>>;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// The range of a deadline for a peer's next step: less than a round trip would break connections, and more than an
/// hour is not a deadline.
pub(super) const STEP: RangeInclusive<Duration> = Duration::from_millis(10)..=HOUR;

/// The value, if the key is set and the value is valid.
pub(super) fn value<T>(key: &Key<T>) -> Option<&T> {
    key.as_ref().and_then(|at| at.value.as_ref())
}

/// The keys of a section, or `left_out` if the section is missing.
pub(super) fn section<'f, T>(key: &'f Key<T>, left_out: &'f T) -> &'f T {
    value(key).unwrap_or(left_out)
}

/// The valid items.
pub(super) fn items<T>(list: &List<T>) -> impl Iterator<Item = (&T, Position)> {
    value(list).into_iter().flatten().filter_map(|at| at.value.as_ref().map(|value| (value, at.position)))
}

/// The value of a required key; `example` is what to write if it is missing.
pub(super) fn required<'f, T>(
    report: &Report<'_>,
    key: &'f Key<T>,
    around: Position,
    name: &str,
    example: &str,
) -> Option<&'f At<T>> {
    if key.is_none() && !report.is_misspelled(around, name) {
        report.error(around, format!("`{name}` is missing: write `{example}`"));
    }
    key.as_ref().filter(|at| at.value.is_some())
}

/// The duration of the key, or `left_out` if the key is missing. A duration outside `fits` is reported.
pub(super) fn duration(
    report: &Report<'_>,
    key: &Key<Length>,
    name: &str,
    left_out: Duration,
    fits: RangeInclusive<Duration>,
) -> Duration {
    let Some((at, length)) = key.as_ref().and_then(|at| Some((at, at.value.as_ref()?))) else {
        return left_out;
    };
    if !fits.contains(&length.0) {
        let (from, to) = (Span(*fits.start()), Span(*fits.end()));
        report.error(at.position, format!("`{name}` must be from {from} to {to}, not {}", Span(length.0)));
    }
    length.0
}

/// The networks of the key; None if the key is missing.
pub(super) fn networks(list: &List<Network>) -> Option<Vec<IpNet>> {
    list.as_ref().map(|_| items(list).map(|(network, _)| network.0).collect())
}

/// Where a network is written, if it is written by itself.
pub(super) fn position_of(list: &List<Network>, network: &IpNet) -> Option<Position> {
    items(list).find(|(written, _)| written.0 == *network).map(|(_, position)| position)
}

/// Loopback, RFC 1918, RFC 6598 (carrier-grade NAT, which EKS uses for pods) and RFC 4193 (unique local).
pub(super) fn private_networks() -> Vec<IpNet> {
    let v4 = |a, b, prefix| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix));
    vec![
        v4(127, 0, 8),
        v4(10, 0, 8),
        v4(172, 16, 12),
        v4(192, 168, 16),
        v4(100, 64, 10),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)),
    ]
}
