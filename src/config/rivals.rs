//! Policies that compete: two of one name, two files for one client, one that no client reaches because of earlier ones.
//!
//! Not here: whether a listener can know the clients of a policy ([`super::identity_lint`]).

use super::finding::{Place, Position, Report};
use crate::rules::lint::{self, Proofs, Rival};
use crate::rules::{AddressSet, ClientMatch};
use crate::words::quote::quoted;

/// The policies that were read so far.
pub(super) struct Rivals<'w> {
    proofs: Proofs,
    seen: Vec<Rival<'w>>,
    /// Of each, the number of its file, and where its name is.
    places: Vec<(usize, Place)>,
}

/// A policy that is compared with them.
pub(super) struct Candidate<'w, 'c> {
    /// The number of its file.
    pub(super) file: usize,
    pub(super) name: &'w str,
    /// Where the name is.
    pub(super) named: Position,
    /// Where it begins.
    pub(super) around: Position,
    /// Where its `clients` are; None: they are left out.
    pub(super) clients_at: Option<Position>,
    pub(super) clients: &'c ClientMatch,
    /// Those of the clients.
    pub(super) addresses: &'c AddressSet,
}

impl<'w> Rivals<'w> {
    pub(super) fn new(proofs: Proofs) -> Self {
        Rivals { proofs, seen: Vec::new(), places: Vec::new() }
    }

    /// Reports what is wrong with the next policy because of the others, and adds it to them.
    pub(super) fn add(&mut self, policy: &Candidate<'w, '_>, report: &Report<'_>) {
        let name = quoted(policy.name);
        let others = || self.seen.iter().zip(&self.places);
        if let Some((_, (file, place))) = others().find(|(other, _)| other.name() == policy.name) {
            let there = if *file == policy.file { String::new() } else { format!(" in {}", shown(place)) };
            report.error(policy.named, format!("another policy is called {name}{there}: write another name"));
        }
        let in_another_file = others().find(|(other, (file, _))| {
            *file != policy.file
                && other.name() != policy.name
                && other.shares_clients(policy.clients, policy.addresses, self.proofs)
        });
        if let Some((other, (_, place))) = in_another_file {
            report.error(
                policy.clients_at.unwrap_or(policy.around),
                format!(
                    "the clients of the policy {name} overlap those of {} in {}, and the name of a file must not decide whose \
                     rules count: write clients that differ, or put both policies into one file",
                    quoted(other.name()),
                    shown(place)
                ),
            );
        } else if let Some(why) = lint::unreachable(&self.seen, policy.clients, policy.addresses, &[]) {
            report.warning(
                policy.around,
                format!("the policy {name} never decides: {why}; move it up, or remove it"),
            );
        }
        self.seen.push(Rival::new(policy.name, policy.clients, policy.addresses.clone()));
        self.places.push((policy.file, report.place(policy.named)));
    }
}

fn shown(Place { file, position: Position { line, column } }: &Place) -> String {
    format!("{file}:{line}:{column}")
}
