//! Which clients the configuration tells apart: by network, by user, and by the port that they come by.
//!
//! Networks are nested or apart, so each is a class of its own, without those inside it.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;

use super::access::Access;
use super::acl::AclTest;
use super::asked::Takes;
use super::doors::Door;
use super::truth::Truth;
use crate::words::small_sort::SmallSort as _;

/// One kind of client.
#[derive(Clone, Debug)]
pub(super) struct ClientClass {
    /// Without the narrower ones, which are other classes.
    pub(super) network: IpNet,
    /// None: no password.
    pub(super) user: Option<String>,
    /// The port that it comes by; None: no line tells ports apart.
    pub(super) door: Option<usize>,
    pub(super) takes: Takes,
    /// Which client lists it is in. A list of users is missing where there is no password.
    pub(super) lists: HashMap<String, Truth>,
}

/// Every class: port by port, users first, narrow networks first.
///
/// Where every client is asked for a password, one without a user is one whom no list names.
pub(super) fn of(access: &Access<'_>, users: &[String]) -> Vec<ClientClass> {
    let used = access.used();
    let mut networks: BTreeSet<IpNet> = BTreeSet::new();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (_, acl) in &used {
        match &acl.test {
            // No client has the unspecified address.
            AclTest::Client(listed) => networks.extend(listed.networks().into_iter().filter(|network| {
                network.prefix_len() < network.max_prefix_len() || !network.addr().is_unspecified()
            })),
            // Every other known user too: a user who is on no list is treated differently.
            AclTest::User { names: listed, .. } => {
                names.extend(listed.iter().chain(users).map(String::as_str))
            }
            _ => {}
        }
    }
    networks.extend(["0.0.0.0/0", "::/0"].into_iter().filter_map(|all| all.parse::<IpNet>().ok()));
    let mut networks: Vec<IpNet> = networks.into_iter().collect();
    networks.small_sort_by_key(|network| (std::cmp::Reverse(network.prefix_len()), *network));
    let whom = || names.iter().copied().map(Some).chain([None]);
    let doors: Vec<Option<(usize, &Door)>> = match access.tells_doors_apart() && !access.doors.is_empty() {
        true => access.doors.iter().enumerate().map(Some).collect(),
        false => vec![None],
    };
    let classes = doors.iter().flat_map(|door| whom().map(move |user| (*door, user)));
    classes
        // Nobody can be asked for a password there.
        .filter(|(door, user)| user.is_none() || door.is_none_or(|(_, door)| door.takes == Takes::Requests))
        .flat_map(|(door, user)| networks.iter().map(move |network| (door, user, *network)))
        .map(|(door, user, network)| ClientClass {
            network,
            user: user.map(str::to_owned),
            door: door.map(|(number, _)| number),
            takes: door.map_or(Takes::Requests, |(_, door)| door.takes),
            lists: used
                .iter()
                .filter_map(|(name, acl)| {
                    let is = match &acl.test {
                        AclTest::Client(listed) => listed.has(&network),
                        AclTest::Door { .. } => door?.1.is_in(&acl.test)?,
                        AclTest::User { .. }
                            if door.is_some_and(|(_, door)| door.takes != Takes::Requests) =>
                        {
                            Truth::No
                        }
                        AclTest::User { any, .. } if user.is_none() && !access.unasked => Truth::from(*any),
                        AclTest::User { any, names, folded } => {
                            let user = user?;
                            let known = !access.unasked || users.iter().any(|known| known == user);
                            Truth::from(
                                names.contains(user)
                                    || (*folded && names.iter().any(|name| name.eq_ignore_ascii_case(user)))
                                    || (*any && known && access.may_log_in(user)),
                            )
                        }
                        _ => return None,
                    };
                    Some(((*name).to_owned(), is))
                })
                .collect(),
        })
        .collect()
}
