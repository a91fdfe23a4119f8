//! Which policy decides for which clients, before an edit and after it.
//!
//! The first policy that fits a client decides. So a policy that no longer fits a client leaves it to a later one, and a policy
//! that comes earlier now takes clients from others. Not here: what the policies allow ([`super::rules`]).

use ipnet::IpNet;

use super::both::Both;
use super::change::{Details, Effect, Opens};
use crate::rules::{AddressSet, ClientMatch, Mode, Policy};

/// So many policies are compared with each other.
const COMPARED: usize = 2_000;

/// Whether the policy lets anything out.
pub(super) fn allows_something(policy: &Policy) -> bool {
    policy.mode() == Mode::Report || policy.rules().any(|rule| !rule.is_deny())
}

/// Whether a client may fit both.
fn meet(one: (&AddressSet, &ClientMatch), other: (&AddressSet, &ClientMatch)) -> bool {
    // A client may have several identities, but comes through one endpoint and by one listener.
    let share = |mine: &[Box<str>], theirs: &[Box<str>]| {
        mine.is_empty() || theirs.is_empty() || mine.iter().any(|id| theirs.contains(id))
    };
    share(&one.1.vpc_endpoints, &other.1.vpc_endpoints)
        && share(&one.1.listeners, &other.1.listeners)
        && one.0.meets(other.0)
}

/// What it means that some clients at `addresses` no longer fit the policy `gone` of `old`: a later one that lets something out may
/// decide for them.
pub(super) fn left_to_others(gone: &Policy, addresses: &AddressSet, both: &Both<'_>) -> Opens {
    let mut later = both.old.iter().skip_while(|policy| policy.name() != gone.name()).skip(1);
    // One that is new, or comes earlier now, is told by itself.
    let takes = later.any(|policy| {
        both.now(policy).is_some_and(|now| {
            allows_something(now) && meet((addresses, gone.clients()), (now.addresses(), now.clients()))
        })
    });
    if takes { Opens::Perhaps } else { Opens::No }
}

/// How the clients of a policy have changed.
pub(super) fn compare(old: &Policy, new: &Policy, both: &Both<'_>, details: &mut Details) {
    // Each field by name: a new one must be compared.
    let ClientMatch { networks: before, files: _, identities, vpc_endpoints, listeners } = old.clients();
    let ClientMatch {
        networks: after,
        files: _,
        identities: new_identities,
        vpc_endpoints: new_endpoints,
        listeners: new_listeners,
    } = new.clients();
    let more = if allows_something(new) { Opens::Yes } else { Opens::No };
    let fewer = |left: &AddressSet| left_to_others(old, left, both);
    compare_networks("clients.networks", (before, after), (more, &fewer), details);
    let lists = [
        ("clients.identities", identities, new_identities),
        ("clients.vpc_endpoints", vpc_endpoints, new_endpoints),
        ("clients.listeners", listeners, new_listeners),
    ];
    for (key, old_list, new_list) in lists {
        let all_of_them = || fewer(old.addresses());
        match (old_list.is_empty(), new_list.is_empty()) {
            (true, true) => {}
            (true, false) => {
                details.add(Effect::Narrowed, all_of_them(), format!("{key} any → {}", new_list.join(" ")));
            }
            (false, true) => {
                details.add(Effect::Widened, more, format!("{key} {} → any", old_list.join(" ")));
            }
            (false, false) => {
                for one in new_list.iter().filter(|one| !old_list.contains(one)) {
                    details.add(Effect::Widened, more, format!("{key} +{one}"));
                }
                for one in old_list.iter().filter(|one| !new_list.contains(one)) {
                    details.add(Effect::Narrowed, all_of_them(), format!("{key} -{one}"));
                }
            }
        }
    }
}

/// Networks that are new or gone, by their addresses: the same ones may be written otherwise. `fewer` says what it means that
/// addresses left.
pub(super) fn compare_networks(
    key: &str,
    (old, new): (&[IpNet], &[IpNet]),
    (more, fewer): (Opens, &dyn Fn(&AddressSet) -> Opens),
    details: &mut Details,
) {
    let (before, after) = (AddressSet::of(old), AddressSet::of(new));
    let mut told = std::collections::HashSet::new();
    let written: (std::collections::HashSet<&IpNet>, std::collections::HashSet<&IpNet>) =
        (old.iter().collect(), new.iter().collect());
    for net in new.iter().filter(|net| !written.0.contains(net)) {
        if !told.insert(net) {
            continue;
        }
        match before.holds(net) {
            true => details.add(Effect::Noted, Opens::No, format!("{key} +{net}")),
            false => details.add(Effect::Widened, more, format!("{key} +{net}")),
        }
    }
    told.clear();
    for net in old.iter().filter(|net| !written.1.contains(net)) {
        if !told.insert(net) {
            continue;
        }
        match after.holds(net) {
            true => details.add(Effect::Noted, Opens::No, format!("{key} -{net}")),
            false => {
                details.add(Effect::Narrowed, fewer(&AddressSet::of([net])), format!("{key} -{net}"));
            }
        }
    }
}

/// Whether another order of the same policies lets another one decide for some client.
pub(super) fn reordered(both: &Both<'_>) -> Opens {
    let new = both.new;
    let place = |policy: &Policy| {
        let now = both.now(policy)?;
        new.iter().position(|one| one.name() == now.name())
    };
    let kept: Vec<(&Policy, usize)> =
        both.old.iter().filter_map(|policy| Some((policy, place(policy)?))).collect();
    if kept.len() > COMPARED {
        return Opens::Perhaps;
    }
    let now: Vec<&Policy> = new.iter().collect();
    for (at, (first, first_now)) in kept.iter().enumerate() {
        for (second, second_now) in kept.iter().skip(at + 1).filter(|(_, now)| now < first_now) {
            // As they were or as they are.
            let apart = |one: &Policy, other: &Policy| {
                !meet((one.addresses(), one.clients()), (other.addresses(), other.clients()))
            };
            let are_apart = match (now.get(*first_now), now.get(*second_now)) {
                (Some(one), Some(other)) => apart(one, other),
                _ => false,
            };
            let lets_nothing = now.get(*second_now).is_some_and(|policy| !allows_something(policy));
            let changes_nothing = lets_nothing || (apart(first, second) && are_apart);
            if !changes_nothing {
                return Opens::Perhaps;
            }
        }
    }
    Opens::No
}
