//! Sets of ports, cut into segments whose ports every rule of the configuration treats alike.

use std::collections::BTreeSet;

use crate::words::small_sort::SmallCollect as _;

/// The segments of 1 to 65535, in order; 80 and 443 are segments of their own.
#[derive(Clone, Debug)]
pub(super) struct Segments(Vec<(u16, u16)>);

impl Segments {
    /// Cut at both ends of every range.
    pub(super) fn cut(ranges: impl Iterator<Item = (u16, u16)>) -> Self {
        let mut starts: BTreeSet<u32> = [1].into_iter().small_collect();
        for (low, high) in ranges.chain([(80, 80), (443, 443)]) {
            starts.insert(u32::from(low.max(1)));
            starts.insert(u32::from(high) + 1);
        }
        starts.retain(|start| *start <= 65_535);
        let starts: Vec<u32> = starts.into_iter().collect();
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([65_535]);
        let port = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        Segments(starts.iter().zip(ends).map(|(low, high)| (port(*low), port(high))).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Each with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, (u16, u16))> {
        self.0.iter().copied().enumerate()
    }

    /// The segment of one port.
    pub(super) fn of(&self, port: u16) -> usize {
        self.0.partition_point(|(_, high)| *high < port).min(self.0.len() - 1)
    }

    /// The ranges of those segments that are wanted, joined where they touch.
    pub(super) fn ranges(&self, wanted: impl Fn(usize) -> bool) -> Vec<(u16, u16)> {
        if (0..self.len()).all(&wanted) {
            return vec![(1, 65_535)];
        }
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for (_, (low, high)) in self.iter().filter(|(number, _)| wanted(*number)) {
            match ranges.last_mut() {
                // 80 and 443 stay rules of their own, so that they can be written without a port.
                Some(last) if last.1.checked_add(1) == Some(low) && !alone(*last) && !alone((low, high)) => {
                    last.1 = high
                }
                _ => ranges.push((low, high)),
            }
        }
        ranges
    }
}

fn alone(range: (u16, u16)) -> bool {
    range == (80, 80) || range == (443, 443)
}

/// `443` or `8000-8010`.
pub(super) fn shown((low, high): (u16, u16)) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_every_port_once() {
        let segments = Segments::cut([(21, 21), (1025, 65_535), (0, 10)].into_iter());
        let mut next = 1_u32;
        for (number, (low, high)) in segments.iter() {
            assert_eq!(u32::from(low), next);
            assert!(low <= high);
            assert_eq!((segments.of(low), segments.of(high)), (number, number));
            next = u32::from(high) + 1;
        }
        assert_eq!(next, 65_536);
        let high = segments.ranges(|number| number >= segments.of(1025));
        assert_eq!(high, [(1025, 65_535)]);
        assert_eq!(segments.ranges(|_| true), [(1, 65_535)]);
        let but_one = segments.ranges(|number| number != segments.of(21));
        let want = [(1, 20), (22, 79), (80, 80), (81, 442), (443, 443), (444, 65_535)];
        assert_eq!(but_one, want, "80 and 443 stand alone");
    }
}
