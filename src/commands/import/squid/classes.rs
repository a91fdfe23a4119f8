//! Which clients the configuration tells apart: by network and by user.
//!
//! Networks are nested or apart, so each is a class of its own, without those inside it.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;

use super::access::Access;
use super::acl::AclTest;
use super::truth::Truth;

/// One kind of client.
#[derive(Clone, Debug)]
pub(super) struct ClientClass {
    /// Without the narrower ones, which are other classes.
    pub(super) network: IpNet,
    /// None: no password.
    pub(super) user: Option<String>,
    /// Which client lists it is in. A list of users is missing where there is no password.
    pub(super) lists: HashMap<String, Truth>,
}

/// Every class: users first, narrow networks first.
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
    networks.sort_by_key(|network| (std::cmp::Reverse(network.prefix_len()), *network));
    let whom = names.into_iter().map(Some).chain([None]);
    whom.flat_map(|user| networks.iter().map(move |network| (user, *network)))
        .map(|(user, network)| ClientClass {
            network,
            user: user.map(str::to_owned),
            lists: used
                .iter()
                .filter_map(|(name, acl)| {
                    let is = match &acl.test {
                        AclTest::Client(listed) => listed.has(&network),
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
