//! What every reader of keys asks: is the key there, is its value right, does it fit its range.
//!
//! Below all that read keys, so that none of them has to ask another. Not here: which keys there are ([`super::file`]).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::finding::{Position, Report};
use super::typed::At;
use super::values::{Length, Network};
use crate::words::units::Span;

/// A key that may be left out.
pub(super) type Key<T> = Option<At<T>>;
/// A list whose items each know their position.
pub(super) type List<T> = Option<At<Vec<At<T>>>>;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// What a deadline on a stranger's next step may be: shorter than a round trip breaks, longer than an hour is none.
pub(super) const STEP: RangeInclusive<Duration> = Duration::from_millis(10)..=HOUR;

/// The value that was written, and is right.
pub(super) fn value<T>(key: &Key<T>) -> Option<&T> {
    key.as_ref().and_then(|at| at.value.as_ref())
}

/// The keys of a section, or those of one that is left out.
pub(super) fn section<'f, T>(key: &'f Key<T>, left_out: &'f T) -> &'f T {
    value(key).unwrap_or(left_out)
}

/// The items that are right.
pub(super) fn items<T>(list: &List<T>) -> impl Iterator<Item = (&T, Position)> {
    value(list).into_iter().flatten().filter_map(|at| at.value.as_ref().map(|value| (value, at.position)))
}

/// The value of a key that must be there; `example` is what to write.
pub(super) fn required<'f, T>(
    report: &Report<'_>,
    key: &'f Key<T>,
    around: Position,
    name: &str,
    example: &str,
) -> Option<&'f At<T>> {
    if key.is_none() {
        report.error(around, format!("`{name}` is missing: write `{example}`"));
    }
    key.as_ref().filter(|at| at.value.is_some())
}

/// The duration that was written, or `left_out`. One outside `fits` is told.
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

/// The networks that were written; None where the key is left out.
pub(super) fn networks(list: &List<Network>) -> Option<Vec<IpNet>> {
    list.as_ref().map(|_| items(list).map(|(network, _)| network.0).collect())
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
