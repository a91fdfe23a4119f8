//! What the files of hosts do for one class of clients: which of them allow something, in which ways, and which deny.

use std::collections::HashSet;

use super::super::classes::ClientClass;
use super::super::table::VerdictTable;
use super::content::Gathering;
use super::fresh::FreshHost;
use super::index::Index;
use super::lists::{HostList, HostLists, Stay};
use super::reach::Reach;
use crate::commands::import::draft::AllowFile;
use crate::commands::import::notes::NoteKind;
use crate::words::small_sort::SmallSort as _;

/// The files of hosts, for one class of clients.
pub(super) struct OfClass<'l> {
    lists: &'l HostLists,
    /// Of each file, the ways that it is for, at the scheme's own port.
    forced: Vec<Reach>,
    /// The files that stay under `deny`, by number.
    denying: HashSet<usize>,
}

impl<'l> OfClass<'l> {
    /// Takes in the files that allow, and those that deny.
    pub(super) fn of(
        gathering: &mut Gathering<'_, '_>,
        index: &Index<'_>,
        table: &mut VerdictTable<'_>,
        class: &ClientClass,
        lists: &'l HostLists,
    ) -> Self {
        let mut forced = Vec::with_capacity(lists.lists.len());
        for (number, list) in lists.lists.iter().enumerate() {
            let members = index.members.get(number).map(Vec::as_slice).unwrap_or_default();
            forced.push(if list.allows {
                allowed(gathering, list, members, table, class)
            } else {
                Reach::nothing(gathering.segments)
            });
        }
        let denying: HashSet<usize> = lists
            .lists
            .iter()
            .enumerate()
            .filter(|(_, list)| list.denies && list.stay == Stay::File)
            .filter(|(_, list)| fresh(gathering, class, list).are_denied())
            .map(|(number, _)| number)
            .collect();
        OfClass { lists, forced, denying }
    }

    pub(super) fn list(&self, number: usize) -> Option<&'l HostList> {
        self.lists.lists.get(number)
    }

    /// A file that something is allowed by, with the ways that it is for. None: it is for none.
    pub(super) fn allowing(&self, number: usize) -> Option<(&'l HostList, &Reach)> {
        let (list, forced) = (self.lists.lists.get(number)?, self.forced.get(number)?);
        (list.stay == Stay::LeftOut || !forced.is_empty()).then_some((list, forced))
    }

    /// Whether a host in these files is denied by one of them, and then whether what is under it is too.
    pub(super) fn denied(&self, files: &[(usize, bool)]) -> Option<bool> {
        files.iter().filter(|(number, _)| self.denying.contains(number)).map(|(_, below)| *below).max()
    }

    /// Adds the files that deny to a policy that allows something.
    pub(super) fn add_denying(
        &self,
        gathering: &mut Gathering<'_, '_>,
        class: &ClientClass,
        denying: &mut HashSet<usize>,
        frozen: &mut HashSet<usize>,
    ) {
        if gathering.content.is_empty() {
            return;
        }
        for (number, list) in self.lists.lists.iter().enumerate().filter(|(_, list)| list.denies) {
            if !self.denying.contains(&number) && fresh(gathering, class, list).may_be_denied() {
                frozen.insert(number);
            }
        }
        let mut numbers: Vec<usize> = self.denying.iter().copied().collect();
        numbers.small_sort();
        for number in numbers {
            let Some(list) = self.list(number) else { continue };
            denying.insert(number);
            gathering.content.deny_files.push(list.file.clone());
            if !list.addresses.is_empty() {
                let text = format!(
                    "an address in `{}` also denies the names that lead to it: in egressd a `deny` of an address holds for both",
                    list.file.path
                );
                gathering.notes.tell(&list.file.place, NoteKind::Stricter, text);
            }
        }
    }
}

fn fresh<'g>(gathering: &'g Gathering<'_, '_>, class: &'g ClientClass, list: &'g HostList) -> FreshHost<'g> {
    FreshHost { access: gathering.access, class, segments: gathering.segments, acls: &list.acls }
}

/// Takes a list in as a file: the ways it is for, at the scheme's own port.
fn allowed(
    gathering: &mut Gathering<'_, '_>,
    list: &HostList,
    members: &[(super::super::acl::AskedHost<'_>, bool)],
    table: &mut VerdictTable<'_>,
    class: &ClientClass,
) -> Reach {
    use super::super::acl::AskedHost;
    let count = gathering.segments.len();
    let own = [gathering.segments.of(443), count + gathering.segments.of(80)];
    let mut forced = Reach::nothing(gathering.segments);
    for (host, below) in members {
        let mut rows = vec![table.row(*host)];
        if let (AskedHost::Name(name), true) = (host, below) {
            rows.push(table.row(AskedHost::Below(name)));
        }
        for index in own {
            if rows.iter().any(|row| row.get(index).is_some()) {
                forced.add(index);
            }
        }
    }
    if members.is_empty() && list.stay == Stay::File {
        for (index, (connect, port)) in own.into_iter().zip([(true, 443), (false, 80)]) {
            if let Some((by, unless)) = fresh(gathering, class, list).allowed(connect, (port, port)) {
                forced.add(index);
                let ways = if connect { &mut gathering.content.connect } else { &mut gathering.content.http };
                ways.insert(by);
                gathering.content.unless.extend(unless);
            }
        }
    }
    let schemes: Vec<&'static str> = ["https", "http"]
        .into_iter()
        .zip(own)
        .filter(|(_, index)| forced.has(*index))
        .map(|(scheme, _)| scheme)
        .collect();
    if !schemes.is_empty() && list.stay == Stay::File {
        gathering.content.files.push(AllowFile { list: list.file.clone(), schemes });
        gathering.content.deny.extend(list.odd.iter().cloned());
    }
    forced
}
