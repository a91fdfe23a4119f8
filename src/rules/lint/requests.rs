//! What to know of a rule that looks at requests: what its paths say nothing about, entries that never decide, and what goes past
//! the rule: wider rules, other names of the same service, and addresses.

use jiff::Timestamp;

use super::super::entry_place::{EntryKey, EntryPlace};
use super::super::http::{Requests, covers};
use super::super::pattern::HostPattern;
use super::super::policy::Policy;
use super::super::rule::Scheme;
use super::super::store::{Kind, RuleId};
use super::super::{aws, git};
use super::cover::{Neighbours, has_unseen, overlaps};
use super::told::{At, LintKind, Told};
use crate::words::target::Target;

/// Most rules for addresses that a rule is compared with.
const COMPARED: usize = 32;

/// The rules of one policy that let requests to addresses pass unseen; found when first needed.
#[derive(Default)]
pub(super) struct Doors(Option<Vec<RuleId>>);

impl Doors {
    /// The first of them on a port of the rule `id`.
    fn beside(&mut self, policy: &Policy, id: RuleId) -> Option<RuleId> {
        let doors = self.0.get_or_insert_with(|| {
            let ids = policy.store.ids().filter(|id| {
                let rule = policy.store.rule(*id);
                rule.kind() == Kind::Address && !rule.is_deny() && has_unseen(policy, rule)
            });
            ids.take(COMPARED).collect()
        });
        let looks = policy.store.rule(id);
        doors.iter().copied().find(|door| overlaps(policy.store.rule(*door), looks))
    }
}

/// Warns of what goes past the rule, and of what its `requests` do not do.
pub(super) fn tell(
    at: &At<'_>,
    neighbours: &Neighbours<'_>,
    doors: &mut Doors,
    now: Timestamp,
    told: &mut Told,
) {
    let Some(given) = at.given(at.id).filter(|given| !given.looks().is_empty()) else { return };
    let text = at.text();
    let mut beside = |way: String| {
        told.tell(LintKind::Beside, at, || format!("`{text}` looks at each request, and {way}"))
    };
    let mut known: Vec<RuleId> = Vec::new();
    if let Some(wider) = neighbours.beside(at.policy, at.id) {
        known.push(wider);
        beside(format!(
            "{} lets requests to other names pass unseen: if one of them is the same service, write a narrower rule there",
            at.other(wider)
        ));
    }
    for (door, rule) in opened(at, given.requests.as_deref(), now) {
        // Each rule once.
        if known.contains(&rule) {
            continue;
        }
        known.push(rule);
        beside(format!(
            "{} also opens {}:{}, {}: what this rule refuses goes out there; remove it, or write a `deny` rule",
            at.other(rule),
            door.host,
            door.port,
            door.what
        ));
    }
    if at.policy.store.rule(at.id).kind() == Kind::Exact {
        for (name, rule) in other_names(at.policy, at.policy.store.host(at.id), now) {
            if known.contains(&rule) {
                continue;
            }
            known.push(rule);
            beside(format!(
                "{} lets requests to `{name}` pass unseen, which is the same service: write the same `requests` there, or a `deny` \
                 rule",
                at.other(rule)
            ));
        }
    }
    if let Some(door) = doors.beside(at.policy, at.id) {
        beside(format!(
            "{} lets requests to addresses pass unseen: if the service answers there, a client that looks its name up itself \
             goes past this rule; write the names that are meant, or other ports",
            at.other(door)
        ));
    }
    let Some(requests) = given.requests.as_deref() else { return };
    tell_recognised(at, requests, told);
    // Once: it is true of each.
    if !told.has(LintKind::Query)
        && let Some(entry) = with_paths(requests)
    {
        told.tell_within(LintKind::Query, at, (entry, EntryPlace::Key(EntryKey::Paths)), || {
            format!(
                "`{text}`: `paths` of entry {entry} says nothing of the query: what follows `?` passes, whatever it is"
            )
        });
    }
    if let Some((entry, before)) = never_decides(requests) {
        told.tell_within(LintKind::Entry, at, (entry, EntryPlace::Whole), || {
            format!(
                "`{text}`: entry {entry} of `requests` never decides: entry {before} comes first and allows all of it; remove \
                 entry {entry}, or write it before entry {before}"
            )
        });
    }
}

/// Warns of what entries say about Git and AWS.
fn tell_recognised(at: &At<'_>, requests: &Requests, told: &mut Told) {
    let Ok(host) = HostPattern::parse(at.policy.store.host(at.id)) else { return };
    let mut doubts: Vec<String> = Vec::new();
    let mut doubt = |number: usize, place: EntryPlace, text: String| {
        // Of several entries with the same fault one is told of.
        if !doubts.contains(&text) {
            told.tell_within(LintKind::Recognised, at, (number, place), || {
                format!("`{}`: entry {number} of `requests`: {text}", at.text())
            });
            doubts.push(text);
        }
    };
    if let Some(number) = requests.lets_git_past() {
        let text = "by its method and paths git's requests pass, pushes among them, and no entry about Git judges them: write `git` \
                    there, or other paths";
        doubt(number, EntryPlace::Key(EntryKey::Paths), text.to_owned());
    }
    for (entry, number) in requests.entries().iter().zip(1..) {
        let about_git = entry.git.iter().flat_map(|rule| git::doubts(rule, entry.aws.as_deref(), &host));
        about_git.for_each(|(place, text)| doubt(number, place, text));
        // Git's requests are all for CodeCommit.
        let about_aws = entry.aws.iter().filter(|_| entry.git.is_none()).flat_map(|rule| aws::doubts(rule));
        about_aws.for_each(|(place, text)| doubt(number, place, text));
        if entry.git.is_some() && (entry.methods.is_some() || entry.paths.is_some()) {
            let text = "beside `git`, which knows the methods and paths of git's client, `methods` and `paths` can only \
                        break it: remove them, and write `repositories`";
            let key = if entry.methods.is_some() { EntryKey::Methods } else { EntryKey::Paths };
            doubt(number, EntryPlace::Key(key), text.to_owned());
        }
        let asks = entry.git.is_some() || entry.aws.is_some();
        if asks && at.policy.store.rule(at.id).schemes().contains(Scheme::Http) {
            let text = "over http, passwords go in clear text, and anyone on the way can change what is asked: write an https rule";
            let key = if entry.git.is_some() { EntryKey::Git } else { EntryKey::Aws };
            doubt(number, EntryPlace::Key(key), text.to_owned());
        }
    }
}

/// What goes past entries about Git by other rules of the policy, and by which.
fn opened(at: &At<'_>, requests: Option<&Requests>, now: Timestamp) -> Vec<(git::Door, RuleId)> {
    let host = HostPattern::parse(at.policy.store.host(at.id)).ok();
    let Some(host) = host.filter(|_| requests.is_some_and(Requests::asks_git)) else { return Vec::new() };
    let opens = |door: git::Door| {
        let target = Target::connect(&format!("{}:{}", door.host, door.port)).ok()?;
        let found = at.policy.search(&target, now);
        let (rule, scheme) = found.allow.filter(|_| found.deny.is_none())?;
        let looks = at.policy.looks(at.policy.store.rule(rule), scheme);
        let judges = at.given(rule).is_some_and(|given| given.requests.is_some());
        (!(looks && judges)).then_some((door, rule))
    };
    git::doors(&host).into_iter().filter_map(opens).collect()
}

/// The first entry that an earlier one comes before in all that it allows, and that one.
fn never_decides(requests: &Requests) -> Option<(usize, usize)> {
    /// Entries that are compared with each other: some five thousand comparisons of entries at most.
    const FIRST: usize = 100;
    let entries = requests.entries().get(..FIRST).unwrap_or(requests.entries());
    entries.iter().enumerate().find_map(|(at, entry)| {
        let before = entries.iter().take(at).position(|earlier| covers(earlier, entry))?;
        Some((at + 1, before + 1))
    })
}

/// The entry that has paths, if any.
fn with_paths(requests: &Requests) -> Option<usize> {
    requests.entries().iter().position(|entry| entry.paths.is_some()).map(|at| at + 1)
}

/// Names of the same service as `host` that the policy lets through unseen on 443, with the rules that do.
fn other_names(policy: &Policy, host: &str, now: Timestamp) -> Vec<(String, RuleId)> {
    let unseen = |name: String| {
        let target = Target::connect(&format!("{name}:443")).ok()?;
        let found = policy.search(&target, now);
        let (rule, scheme) = found.allow.filter(|_| found.deny.is_none())?;
        (!policy.looks(policy.store.rule(rule), scheme)).then_some((name, rule))
    };
    others(host).into_iter().chain(endpoints(policy, host)).filter_map(unseen).collect()
}

/// The names of VPC endpoints of the service at `host` for which the policy has rules: `vpce-….SERVICE.REGION.vpce.amazonaws.com`.
fn endpoints(policy: &Policy, host: &str) -> Vec<String> {
    let tail = |host: &str| -> Option<String> {
        let (service, region) = host.split_once('.')?;
        let service = service.strip_suffix("-fips").unwrap_or(service);
        let (region, amazon) =
            region.split_once('.').filter(|(_, rest)| rest.starts_with("amazonaws.com"))?;
        Some(format!(".{service}.{region}.vpce.{amazon}"))
    };
    let Some(tail) = tail(host) else { return Vec::new() };
    // The API of CodeCommit writes to repositories, too.
    let api = tail.strip_prefix(".git-").map(|rest| format!(".{rest}"));
    let exact = policy.store.ids().filter(|id| {
        let rule = policy.store.rule(*id);
        rule.kind() == Kind::Exact && !rule.is_deny()
    });
    let names = exact.map(|id| policy.store.host(id)).filter(|name| {
        *name != host
            && name.starts_with("vpce-")
            && (name.ends_with(&tail) || api.as_ref().is_some_and(|api| name.ends_with(api)))
    });
    names.map(str::to_owned).collect()
}

/// Other names under which the service at `host` answers, as far as they are known.
fn others(host: &str) -> Vec<String> {
    let aws = |tail: &str| -> Option<Vec<String>> {
        let rest = host.strip_suffix(tail)?;
        let (service, region) = rest.split_once('.')?;
        let plain = service.strip_suffix("-fips").unwrap_or(service);
        let mut names = vec![format!("{plain}.{region}{tail}"), format!("{plain}-fips.{region}{tail}")];
        names.push(format!("vpce-0a.{plain}.{region}.vpce{tail}"));
        if let Some(api) = plain.strip_prefix("git-") {
            // The API of CodeCommit writes to repositories, too.
            names.extend([format!("{api}.{region}{tail}"), format!("{api}-fips.{region}{tail}")]);
        }
        Some(names)
    };
    let known = match host {
        "github.com" => Some(vec![
            "api.github.com".to_owned(),
            "ssh.github.com".to_owned(),
            "uploads.github.com".to_owned(),
        ]),
        "gitlab.com" => Some(vec!["altssh.gitlab.com".to_owned()]),
        "bitbucket.org" => Some(vec!["api.bitbucket.org".to_owned(), "altssh.bitbucket.org".to_owned()]),
        _ => aws(".amazonaws.com").or_else(|| aws(".amazonaws.com.cn")),
    };
    let mut names = known.unwrap_or_default();
    names.retain(|name| name != host);
    names
}
