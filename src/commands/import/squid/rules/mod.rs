//! From verdicts to policies: which `allow`, `allow_files`, `deny` and `deny_files` say the same.
//!
//! In a policy `deny` always wins, and Squid's first match does not: what lies in a denied part of an allowed suffix
//! cannot be allowed again. It stays denied, and is told. Not here: how the lines look ([`crate::commands::import::draft`]).

mod addresses;
mod client_files;
mod content;
mod fresh;
mod frozen;
mod groups;
mod index;
mod lists;
mod names;
mod of_class;
mod reach;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use self::client_files::ClientFile;
use self::content::{Gathering, PolicyContent};
use self::groups::{ClassContents, PolicyGroup};
use self::index::Index;
pub(in crate::commands::import::squid) use self::lists::HostLists;
use self::of_class::OfClass;
use super::access::Access;
use super::acl::{AclTest, AskedHost, Literal};
use super::asked::Takes;
use super::classes::{self, ClientClass};
use super::files::Files;
use super::table::{Mentioned, VerdictTable};
use super::truth::Truth;
use crate::commands::import::draft::{AllowFile, Draft, DraftPolicy};
use crate::commands::import::notes::{NoteKind, Notes};
use crate::words::small_sort::{SmallCollect as _, SmallSort as _};

/// Makes the policies, and tells where they differ. `users`: those of the password file. Returns the files of hosts too.
pub(super) fn policies(
    access: &Access<'_>,
    users: &[String],
    files: &Files,
    report: bool,
    notes: &mut Notes,
) -> (Vec<DraftPolicy>, HostLists) {
    let mentioned = Mentioned::by(access);
    let lists = HostLists::of(access, files);
    let client_files = client_files::of(access, files);
    let classes = classes::of(access, users);
    let any = ClientClass {
        network: ipnet::Ipv4Net::default().into(),
        user: None,
        door: None,
        takes: Takes::Requests,
        lists: Default::default(),
    };
    let index = Index::of(&mentioned, &VerdictTable::new(access, &mentioned.segments, &any), &lists);
    let mut contents = Contents {
        access,
        mentioned: &mentioned,
        index: &index,
        lists: &lists,
        report,
        by_lists: BTreeMap::new(),
        allowing: HashSet::new(),
        denying: HashSet::new(),
        frozen: HashSet::new(),
    };
    let mut by_door: BTreeMap<Option<usize>, ByUser<'_>> = BTreeMap::new();
    for class in &classes {
        let content = contents.of(class, notes);
        let by_user = by_door.entry(class.door).or_default();
        by_user.entry(class.user.clone()).or_default().classes.push((class, content));
    }
    for rows in by_door.values_mut().flat_map(BTreeMap::values_mut) {
        for file in &client_files {
            rows.files.push(of_file(file, &rows.classes, &mut contents, notes));
        }
    }
    lists.tell(&contents.allowing.union(&contents.denying).copied().collect(), notes);
    access.tell(notes);
    access.tell_idle(notes);
    differences(access, contents.by_lists.values().map(Rc::as_ref), notes);
    let mut policies: Vec<DraftPolicy> = Vec::new();
    let mut kept: HashSet<usize> = HashSet::new();
    for (doors, by_user) in alike(by_door) {
        let listeners = doors.iter().filter_map(|door| access.doors.get(*door));
        let listeners = listeners.map(|door| door.listener.clone()).collect();
        let groups = of_users(access, by_user, &client_files);
        let taken = |name: &str| policies.iter().any(|policy| policy.name == name);
        let (made, of_files) = groups::needed(access, (groups, listeners), &client_files, report, taken);
        policies.extend(made);
        kept.extend(of_files);
    }
    for (number, file) in client_files.iter().enumerate() {
        if kept.contains(&number) {
            file.tell(notes);
        }
    }
    if policies.is_empty() {
        let blocker = access.blockers().first().copied().or_else(|| access.first_doubted());
        let place = blocker.or(access.rules.last());
        let place = place.map_or_else(|| access.whole.clone(), |rule| rule.place.clone());
        let why = if blocker.is_none() {
            ""
        } else {
            "; this line is why: what later lines allow may be denied by it"
        };
        notes.tell(
            &place,
            NoteKind::Lost,
            format!("nothing is allowed: `policies` is empty, and every request is denied{why}"),
        );
    } else {
        let Contents { allowing, denying, frozen, .. } = &contents;
        let uses = frozen::Uses { allowing, denying, written: frozen };
        let clients = client_files.iter().enumerate().filter(|(number, _)| kept.contains(number));
        let kept: BTreeSet<&str> = clients.map(|(_, file)| file.source.as_str()).small_collect();
        frozen::tell(access, files, &lists, &kept, &uses, notes);
    }
    (policies, lists)
}

/// Classes of clients by their users.
type ByUser<'a> = BTreeMap<Option<String>, ClassContents<'a>>;

/// The ports with what clients get who come by them; those where it is the same together. None, if it is the same at all of them.
fn alike(by_door: BTreeMap<Option<usize>, ByUser<'_>>) -> Vec<(Vec<usize>, ByUser<'_>)> {
    let mut found: Vec<(Vec<usize>, ByUser<'_>)> = Vec::new();
    for (door, by_user) in by_door {
        let same = |other: &ByUser<'_>| {
            other.len() == by_user.len()
                && other
                    .iter()
                    .zip(&by_user)
                    .all(|((one, rows), (two, like))| one == two && rows.is_like(like))
        };
        match found.iter_mut().find(|(_, other)| same(other)) {
            Some((doors, _)) => doors.extend(door),
            None => found.push((door.into_iter().collect(), by_user)),
        }
    }
    if let [(doors, _)] = found.as_mut_slice() {
        doors.clear();
    }
    found
}

/// The policies of clients who come by the same port, while their classes are gathered.
fn of_users(access: &Access<'_>, mut by_user: ByUser<'_>, client_files: &[ClientFile]) -> Vec<PolicyGroup> {
    // Users first: a policy without users fits everybody.
    let nobody = by_user.remove(&None).unwrap_or_default();
    let mut together: Vec<(Vec<String>, ClassContents<'_>)> = Vec::new();
    for (user, rows) in by_user {
        // Every client has some user there: what holds for each needs no names, and for a new one too.
        if !access.unasked && rows.is_like(&nobody) {
            continue;
        }
        match together.iter_mut().find(|(_, other)| other.is_like(&rows)) {
            Some((users, _)) => users.extend(user),
            None => together.push((user.into_iter().collect(), rows)),
        }
    }
    let mut groups: Vec<PolicyGroup> = Vec::new();
    for (users, rows) in together.into_iter().chain([(Vec::new(), nobody)]) {
        groups.extend(groups::placed(&users, &rows, client_files));
    }
    groups
}

/// Keeps, as comments, the policies that there would be without the lines that hold them back, and tells of those lines.
pub(super) fn held_back(
    access: &Access<'_>,
    policies: &[DraftPolicy],
    others: Vec<DraftPolicy>,
    draft: &mut Draft,
    notes: &mut Notes,
) {
    if others.is_empty() || others == policies {
        return;
    }
    for rule in access.blockers() {
        let text = format!(
            "{}: what the lines after it allow is in egressd.yaml as comments: to have it without this line, delete the line from a copy, and import again",
            rule.shown
        );
        notes.tell(&rule.place, NoteKind::Stricter, text);
        draft.held_by.push((rule.place.clone(), rule.shown.clone()));
    }
    draft.held_back = others;
}

/// What a policy takes, and what is known of its client lists.
type Lists = (Takes, Vec<(String, Truth)>);

/// The contents of policies, one for each set of client lists.
struct Contents<'a> {
    access: &'a Access<'a>,
    mentioned: &'a Mentioned,
    index: &'a Index<'a>,
    lists: &'a HostLists,
    report: bool,
    by_lists: BTreeMap<Lists, Rc<PolicyContent>>,
    /// The files that stay under `allow` and `deny`, by number, and those that deny whose lines are written into a policy.
    allowing: HashSet<usize>,
    denying: HashSet<usize>,
    frozen: HashSet<usize>,
}

impl Contents<'_> {
    fn of(&mut self, class: &ClientClass, notes: &mut Notes) -> Rc<PolicyContent> {
        let mut key: Vec<(String, Truth)> =
            class.lists.iter().map(|(name, is)| (name.clone(), *is)).collect();
        key.small_sort();
        let key = (class.takes, key);
        if let Some(content) = self.by_lists.get(&key) {
            return Rc::clone(content);
        }
        let content = Rc::new(self.gathered(class, notes));
        self.by_lists.insert(key, Rc::clone(&content));
        content
    }

    /// What is allowed and denied to one class of clients.
    fn gathered(&mut self, class: &ClientClass, notes: &mut Notes) -> PolicyContent {
        let segments = &self.mentioned.segments;
        let mut table = VerdictTable::new(self.access, segments, class);
        let mut gathering = Gathering {
            access: self.access,
            segments,
            report: self.report,
            content: PolicyContent::default(),
            notes,
        };
        gathering.everything(&table.row(AskedHost::OtherNames));
        let files = OfClass::of(&mut gathering, self.index, &mut table, class, self.lists);
        names::add(&mut gathering, self.index, &mut table, &files);
        addresses::add(&mut gathering, self.index, &mut table, &files);
        files.add_denying(&mut gathering, class, &mut self.denying, &mut self.frozen);
        let mut content = gathering.content;
        let number =
            |file: &AllowFile| self.lists.lists.iter().position(|list| list.file.path == file.list.path);
        self.allowing.extend(content.files.iter().filter_map(number));
        content.allow.small_sort();
        content.allow.dedup();
        content.deny.small_sort();
        content.deny.dedup();
        content
    }
}

/// What a client gets that is added to a file of networks later. None: that differs from one client to the next.
fn of_file(
    file: &ClientFile,
    classes: &[(&ClientClass, Rc<PolicyContent>)],
    contents: &mut Contents<'_>,
    notes: &mut Notes,
) -> Option<Rc<PolicyContent>> {
    let mut everybody =
        classes.iter().map(|(class, _)| *class).filter(|class| class.network.prefix_len() == 0);
    let first = contents.of(&file.fresh(everybody.next()?), notes);
    everybody.all(|class| contents.of(&file.fresh(class), notes).is_like(&first)).then_some(first)
}

/// What is carried over and means something else.
fn differences<'c>(
    access: &Access<'_>,
    contents: impl Iterator<Item = &'c PolicyContent>,
    notes: &mut Notes,
) {
    let mut connect: BTreeSet<usize> = BTreeSet::new();
    let (mut http, mut others, mut unless) = (connect.clone(), connect.clone(), connect.clone());
    for content in contents {
        connect.extend(&content.connect);
        http.extend(&content.http);
        others.extend(&content.other_ports);
        unless.extend(&content.unless);
    }
    let place = |number: &usize| access.rule(*number).map(|rule| rule.place.clone());
    if let Some(place) = connect.iter().next().and_then(place) {
        let squid = if access.bump.looks {
            "Squid compared the name with `ssl_bump` alone"
        } else {
            "Squid looked at neither"
        };
        let text = format!(
            "inside a tunnel there must be TLS, and the server name that it shows (SNI) must be the host of the CONNECT; {squid}"
        );
        notes.tell(&place, NoteKind::Differs, text);
    }
    if let Some(place) = connect.union(&http).next().and_then(place) {
        notes.tell(&place, NoteKind::Differs, "a name must lead to public addresses; for an internal one give the rule, or the policy, `private` with its network; Squid took any");
    }
    for number in others {
        if let Some(place) = place(&number) {
            notes.tell(&place, NoteKind::Differs, "a tunnel to a port other than 443 must carry TLS too; where it carries plain HTTP write the rule as http://host:port, and where it carries something else as tcp://host:port: an opaque tunnel, content not inspected");
        }
    }
    for number in unless {
        if let Some(rule) = access.rules.get(number) {
            let text = format!(
                "{}: each address of a name is judged separately: a denied one is skipped, the others may be dialled, where Squid denied the name",
                rule.shown
            );
            notes.tell(&rule.place, NoteKind::Wider, text);
        }
    }
    let backwards = access.backwards.borrow();
    let rules = connect.iter().chain(&http).chain(backwards.iter());
    let mut waiting: Vec<&Literal> =
        rules.filter_map(|number| access.rules.get(*number)).flat_map(|rule| &rule.literals).collect();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    while let Some(literal) = waiting.pop() {
        let Some(acl) = access.acls.get(&literal.acl).filter(|_| !literal.negated) else { continue };
        match &acl.test {
            AclTest::Host(hosts) if hosts.looks_backwards() => {
                notes.tell(&acl.place, NoteKind::Differs, "Squid let a literal address through if its PTR name was listed; egressd looks up no PTR names, so a literal address needs its own rule");
            }
            AclTest::Either(either) if seen.insert(&literal.acl) => waiting.extend(either.iter().flatten()),
            _ => {}
        }
    }
}
