//! Which client reached which target: what was let through, as a table of the clients and targets with the most requests, and all
//! others.
//!
//! What was refused is not in it: any client may choose those names, and they would displace what was reached.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::count::{MOST, Tally};
use crate::words::small_sort::SmallSort as _;

/// Pairs of a client and a target that are kept. Those beyond count among the others.
const PAIRS: usize = 200_000;

/// Requests that were let through.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Cell {
    /// All of them.
    pub requests: u64,
    /// Those that only report mode let through.
    pub by_report: u64,
    /// Bytes both ways.
    pub bytes: u64,
}

impl Cell {
    fn add(&mut self, other: Cell) {
        self.requests = self.requests.saturating_add(other.requests);
        self.by_report = self.by_report.saturating_add(other.by_report);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// What is left of it beside others that are part of it.
    fn without(self, parts: impl Iterator<Item = Cell>) -> Cell {
        parts.fold(self, |rest, part| Cell {
            requests: rest.requests.saturating_sub(part.requests),
            by_report: rest.by_report.saturating_sub(part.by_report),
            bytes: rest.bytes.saturating_sub(part.bytes),
        })
    }
}

/// Names with a number each, and their sums.
#[derive(Clone, Default, Debug)]
struct Names {
    numbers: HashMap<Box<str>, u32>,
    sums: Vec<Cell>,
}

impl Names {
    /// Adds to the sum of a name. None: there is no room for another name.
    fn add(&mut self, name: &str, cell: Cell) -> Option<u32> {
        let number = match self.numbers.get(name) {
            Some(number) => *number,
            None if self.sums.len() >= MOST => return None,
            None => {
                let number = u32::try_from(self.sums.len()).ok()?;
                self.numbers.insert(name.into(), number);
                self.sums.push(Cell::default());
                number
            }
        };
        self.sums.get_mut(number as usize)?.add(cell);
        Some(number)
    }

    fn sum(&self, number: u32) -> Cell {
        self.sums.get(number as usize).copied().unwrap_or_default()
    }

    /// Those with the most requests, the first one first.
    fn top(&self, most: usize) -> Vec<(&str, u32)> {
        let mut all: Vec<(&str, u32)> =
            self.numbers.iter().map(|(name, number)| (&**name, *number)).collect();
        all.small_sort_by_key(|(name, number)| {
            let sum = self.sum(*number);
            (Reverse((sum.requests, sum.bytes)), *name)
        });
        all.retain(|(_, number)| self.sum(*number).requests > 0);
        all.truncate(most);
        all
    }

    /// How many have a request.
    fn used(&self) -> usize {
        self.sums.iter().filter(|sum| sum.requests > 0).count()
    }
}

/// Requests by client and target.
#[derive(Clone, Default, Debug)]
pub struct Matrix {
    clients: Names,
    targets: Names,
    cells: HashMap<(u32, u32), Cell>,
    all: Cell,
}

/// A part of the matrix to show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown<'m> {
    /// The clients of the columns. If there are others, one more column has their sums.
    pub clients: Vec<&'m str>,
    /// How many others there are.
    pub other_clients: usize,
    /// Each target with its cells.
    pub rows: Vec<(&'m str, Vec<Cell>)>,
    /// How many others there are.
    pub other_targets: usize,
    /// The sums of the others, if there are any.
    pub others: Option<Vec<Cell>>,
}

impl Matrix {
    /// Adds what one line of the log says. Bytes come with the line that ends a request.
    pub(super) fn add(&mut self, client: &str, target: &str, one: &Tally) {
        let cell =
            Cell { requests: one.passed + one.would_deny, by_report: one.would_deny, bytes: one.bytes() };
        if cell == Cell::default() {
            return;
        }
        self.all.add(cell);
        let (client, target) = (self.clients.add(client, cell), self.targets.add(target, cell));
        let (Some(client), Some(target)) = (client, target) else { return };
        let has_room = self.cells.len() < PAIRS;
        if let Some(known) = self.cells.get_mut(&(client, target)) {
            known.add(cell);
        } else if has_room {
            self.cells.insert((client, target), cell);
        }
    }

    /// The targets and clients with the most requests. None: nothing was let through.
    pub fn shown(&self, targets: usize, clients: usize) -> Option<Shown<'_>> {
        let (columns, rows) = (self.clients.top(clients.max(1)), self.targets.top(targets.max(1)));
        if columns.is_empty() || rows.is_empty() {
            return None;
        }
        let other_clients = self.clients.used() - columns.len();
        let other_targets = self.targets.used() - rows.len();
        let cell = |client, target| self.cells.get(&(client, target)).copied().unwrap_or_default();
        let of_target =
            |target: u32| -> Vec<Cell> { columns.iter().map(|(_, client)| cell(*client, target)).collect() };
        // What there was no room for is among the others too, by the sums.
        let with_others = |mut cells: Vec<Cell>, sum: Cell| {
            let rest = sum.without(cells.iter().copied());
            cells.push(rest);
            cells
        };
        let all_rows: Vec<Vec<Cell>> = rows
            .iter()
            .map(|(_, target)| with_others(of_target(*target), self.targets.sum(*target)))
            .collect();
        let of_column = |index: usize| all_rows.iter().filter_map(move |cells| cells.get(index).copied());
        let below = columns
            .iter()
            .enumerate()
            .map(|(index, (_, client))| self.clients.sum(*client).without(of_column(index)));
        let below: Vec<Cell> = below.collect();
        let of_rows = rows.iter().map(|(_, target)| self.targets.sum(*target));
        let below = with_others(below, self.all.without(of_rows));
        let is_any = |cells: &[Cell]| cells.iter().any(|cell| cell.requests > 0);
        let last_column = all_rows.iter().chain([&below]).filter_map(|cells| cells.last().copied());
        let has_column = is_any(&last_column.collect::<Vec<_>>());
        let cut = |mut cells: Vec<Cell>| {
            cells.truncate(columns.len() + usize::from(has_column));
            cells
        };
        Some(Shown {
            clients: columns.iter().map(|(name, _)| *name).collect(),
            other_clients,
            rows: rows.iter().map(|(name, _)| *name).zip(all_rows.iter().cloned().map(cut)).collect(),
            other_targets,
            others: is_any(&below).then(|| cut(below)),
        })
    }
}

impl Shown<'_> {
    /// Whether there is a column for other clients.
    pub fn has_other_clients(&self) -> bool {
        self.rows.first().is_some_and(|(_, cells)| cells.len() > self.clients.len())
    }

    /// The most requests of one client to one target.
    pub fn most(&self) -> u64 {
        let pairs = self.rows.iter().flat_map(|(_, cells)| cells.iter().take(self.clients.len()));
        pairs.map(|cell| cell.requests).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(passed: u64, would_deny: u64, bytes: u64) -> Tally {
        Tally { passed, would_deny, sent: bytes, ..Tally::default() }
    }

    #[test]
    fn the_others_are_what_is_not_shown() {
        let mut matrix = Matrix::default();
        for (client, target, times) in
            [("a", "x", 5), ("a", "y", 1), ("b", "x", 2), ("c", "z", 1), ("c", "x", 1)]
        {
            matrix.add(client, target, &one(times, 0, times * 10));
        }
        matrix.add("d", "only-bytes", &one(0, 0, 7));
        let shown = matrix.shown(2, 2).expect("some");
        let requests = |cells: &[Cell]| cells.iter().map(|cell| cell.requests).collect::<Vec<_>>();
        assert_eq!((shown.clients.as_slice(), shown.other_clients), (&["a", "b"][..], 1));
        let rows: Vec<(&str, Vec<u64>)> =
            shown.rows.iter().map(|(name, cells)| (*name, requests(cells))).collect();
        assert_eq!(rows, [("x", vec![5, 2, 1]), ("y", vec![1, 0, 0])]);
        assert_eq!((shown.other_targets, shown.others.as_deref().map(requests)), (1, Some(vec![0, 0, 1])));
        let all = matrix.shown(9, 9).expect("some");
        assert!(!all.has_other_clients() && all.others.is_none() && all.rows.len() == 3);
        assert_eq!(Matrix::default().shown(9, 9), None);
    }

    #[test]
    fn names_without_room_are_among_the_others() {
        let mut matrix = Matrix::default();
        for number in 0..=MOST {
            matrix.add("a", &format!("t{number}"), &one(1, 0, 0));
        }
        let shown = matrix.shown(1, 1).expect("some");
        let sum: u64 = shown
            .rows
            .iter()
            .map(|(_, cells)| cells)
            .chain(&shown.others)
            .flatten()
            .map(|cell| cell.requests)
            .sum();
        assert_eq!((sum, matrix.targets.sums.len()), (MOST as u64 + 1, MOST));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_counted_twice(
            asked in proptest::collection::vec((0..6_u8, 0..6_u8, 0..3_u64, 0..2_u64), 1..40), rows in 1..7_usize, columns in 1..7_usize,
        ) {
            let mut matrix = Matrix::default();
            for (client, target, passed, would_deny) in &asked {
                matrix.add(&client.to_string(), &target.to_string(), &one(*passed, *would_deny, *passed));
            }
            let want: u64 = asked.iter().map(|(_, _, passed, would_deny)| passed + would_deny).sum();
            let Some(shown) = matrix.shown(rows, columns) else {
                prop_assert_eq!(want, 0);
                return Ok(());
            };
            let all: Vec<Cell> = shown.rows.iter().map(|(_, cells)| cells).chain(&shown.others).flatten().copied().collect();
            prop_assert_eq!(all.iter().map(|cell| cell.requests).sum::<u64>(), want);
            for (target, cells) in &shown.rows {
                for (client, cell) in shown.clients.iter().zip(cells) {
                    let of = asked.iter().filter(|(c, t, ..)| c.to_string() == *client && t.to_string() == *target);
                    prop_assert_eq!(cell.requests, of.map(|(_, _, passed, would_deny)| passed + would_deny).sum::<u64>());
                }
            }
        }
    }
}
