//! Which of the refusals an answer shows: those that the query asks for, by domain or by time, one page of them.
//!
//! Only these are judged again and written: there may be thousands, and the page asks every three seconds. Not here: how
//! one of them is shown ([`super::decisions`]).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::query::{KINDS, Query};
use crate::rules::registrable;
use crate::state::recent::{AskedFor, Group};
use crate::telemetry::record::{Cause, Event};
use crate::words::outcome::Decision;
use crate::words::small_sort::SmallSort as _;
use crate::words::target::{Host, Target};

/// Clients and policies to choose from: those with the most kinds.
const CHOICES: usize = 100;

/// What stands in place of a domain. No name has a space.
const ADDRESSES: &str = "IP addresses";
const MALFORMED: &str = "malformed targets";
const NOTHING: &str = "no request";

/// One page.
pub(super) struct Page {
    /// All groups.
    pub(super) total: usize,
    /// Those that the query asks for.
    pub(super) matching: usize,
    /// Those of them that are listed on some page.
    pub(super) listed: usize,
    pub(super) refused: Vec<Listed>,
    pub(super) domains: Vec<Domain>,
    pub(super) choices: Choices,
}

/// A group on the page.
pub(super) struct Listed {
    pub(super) number: u64,
    pub(super) group: Arc<Group>,
    pub(super) domain: String,
}

/// What is known of a domain, of the groups that the query asks for.
#[derive(Clone, Serialize)]
pub(super) struct Domain {
    domain: String,
    /// Groups.
    kinds: usize,
    /// Requests.
    count: u64,
    last: Timestamp,
}

/// What to choose from, whatever the query asks for: each with its number of groups, the one with the most first.
#[derive(Default, Serialize)]
pub(super) struct Choices {
    kinds: Vec<(String, usize)>,
    reasons: Vec<(String, usize)>,
    policies: Vec<(String, usize)>,
    clients: Vec<(String, usize)>,
}

/// `groups` are in order, the most recent first.
pub(super) fn page(query: &Query, groups: Vec<(u64, Arc<Group>)>) -> Page {
    let (total, choices, sieve) = (groups.len(), choices(&groups), &query.refused);
    let mut found: Vec<Listed> = Vec::new();
    for (number, group) in groups {
        let domain = domain(&group.asked);
        if is_wanted(query, &group, domain) {
            let domain = domain.to_owned();
            found.push(Listed { number, group, domain });
        }
    }
    let matching = found.len();
    let mut domains: HashMap<String, Domain> = HashMap::new();
    for Listed { group, domain, .. } in &found {
        let known = domains.entry(domain.clone()).or_insert_with(|| Domain {
            domain: domain.clone(),
            kinds: 0,
            count: 0,
            // The first one is the most recent.
            last: group.last,
        });
        known.kinds += 1;
        known.count = known.count.saturating_add(group.count);
    }
    if sieve.per_domain.is_some() {
        let fit = found.len() <= query.limit || sieve.domain.is_some();
        let most = sieve.per_domain.filter(|_| !fit).unwrap_or(usize::MAX);
        found = by_domain(found, &domains, most);
    }
    let listed = found.len();
    let refused: Vec<Listed> = found.into_iter().skip(sieve.offset).take(query.limit).collect();
    let mut of_page: Vec<Domain> = Vec::new();
    for Listed { domain, .. } in &refused {
        if of_page.last().is_none_or(|last| last.domain != *domain)
            && let Some(known) = domains.remove(domain)
        {
            of_page.push(known);
        }
    }
    Page { total, matching, listed, refused, domains: of_page, choices }
}

/// In place of the order by time: domains by their most recent group, and at most so many groups of each.
fn by_domain(mut found: Vec<Listed>, domains: &HashMap<String, Domain>, most: usize) -> Vec<Listed> {
    let last = |domain: &str| domains.get(domain).map(|known| known.last);
    // Stable: within a domain the order stays.
    found.small_sort_by(|a, b| last(&b.domain).cmp(&last(&a.domain)).then_with(|| a.domain.cmp(&b.domain)));
    let (mut before, mut of_domain) = (String::new(), 0);
    found.retain(|one| {
        if one.domain != before {
            before.clone_from(&one.domain);
            of_domain = 0;
        }
        of_domain += 1;
        of_domain <= most
    });
    found
}

fn is_wanted(query: &Query, group: &Group, domain: &str) -> bool {
    let sieve = &query.refused;
    let is = |wanted: Option<&str>, value: &str| wanted.is_none_or(|wanted| wanted == value);
    is(sieve.kind, kind(group))
        && is(sieve.reason, group.cause.as_str())
        && is(sieve.policy.as_deref(), group.policy.as_deref().unwrap_or_default())
        && is(sieve.domain.as_deref(), domain)
        && sieve.client.as_deref().is_none_or(|wanted| has_client(group, wanted))
        && (query.filter.is_empty() || has_text(query, group))
}

fn has_client(group: &Group, wanted: &str) -> bool {
    let is = |client: &IpAddr| client.to_string() == wanted;
    group.clients.iter().chain(&group.client).any(is)
}

fn has_text(query: &Query, group: &Group) -> bool {
    let own = [
        Some(group.cause.as_str()),
        group.policy.as_deref(),
        group.rule.as_deref(),
        group.identity.as_deref(),
        group.sni.as_deref(),
        group.recognised.as_deref(),
        group.request.as_ref().map(|(_, path, _)| &**path),
    ];
    query.takes(&own)
        || query.takes(&[Some(&group.asked.to_string()), Some(&group.id.to_string())])
        || group.clients.iter().chain(&group.client).any(|client| query.takes(&[Some(&client.to_string())]))
}

fn domain(asked: &AskedFor) -> &str {
    match asked {
        AskedFor::Target(Target { host: Host::Name(name), .. }) => registrable(name.as_str()),
        AskedFor::Target(Target { host: Host::Address(_), .. }) => ADDRESSES,
        AskedFor::Malformed(_) => MALFORMED,
        AskedFor::Nothing => NOTHING,
    }
}

/// `deny`, `error`, or `would_deny` of report mode.
pub(super) fn kind(group: &Group) -> &'static str {
    let [deny, would_deny, error] = KINDS;
    match group.cause {
        _ if group.decision == Some(Decision::WouldDeny) => would_deny,
        Cause::Refused(reason) if Event::of(reason.into()).as_str() == deny => deny,
        Cause::Refused(_) | Cause::ClientGone => error,
    }
}

fn choices(groups: &[(u64, Arc<Group>)]) -> Choices {
    let mut kinds = BTreeMap::new();
    let mut reasons = BTreeMap::new();
    let mut policies: BTreeMap<&str, usize> = BTreeMap::new();
    let mut clients: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (_, group) in groups {
        *kinds.entry(kind(group)).or_default() += 1;
        *reasons.entry(group.cause.as_str()).or_default() += 1;
        if let Some(policy) = group.policy.as_deref() {
            *policies.entry(policy).or_default() += 1;
        }
        for client in &group.clients {
            *clients.entry(*client).or_default() += 1;
        }
    }
    Choices {
        kinds: most_first(kinds),
        reasons: most_first(reasons),
        policies: most_first(policies),
        clients: most_first(clients),
    }
}

fn most_first<K: ToString + Ord>(counts: BTreeMap<K, usize>) -> Vec<(String, usize)> {
    let mut counts: Vec<(K, usize)> = counts.into_iter().collect();
    counts.small_sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
    counts.truncate(CHOICES);
    counts.into_iter().map(|(key, count)| (key.to_string(), count)).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::query::Endpoint;
    use super::*;
    use crate::state::recent::{Asking, Recent, Refusal};
    use crate::words::outcome::Reason;

    fn ask(recent: &Recent, second: i64, authority: &str, from: u8, reason: Reason) {
        let target = Target::connect(authority).expect(authority);
        let client = Some(IpAddr::from([10, 0, 0, from]));
        recent.note(&Refusal {
            at: Timestamp::from_second(second).expect("a moment"),
            id: Uuid::nil(),
            listener: &Arc::from("proxy"),
            policy: Some(&Arc::from(if from < 5 { "low" } else { "high" })),
            rule: None,
            decision: reason.is_denial().then_some(Decision::Deny),
            cause: reason.into(),
            asked: Asking::Target(&target),
            request: None,
            recognised: None,
            told: None,
            client,
            account: client,
            identity: None,
            sni: None,
            auth_scheme: None,
            expected: false,
        });
    }

    fn told(recent: &Recent, query: &str) -> (usize, usize, Vec<String>, Vec<String>) {
        let query = Query::parse(query, Endpoint::Decisions).expect(query);
        let page = page(&query, recent.groups(Timestamp::from_second(100).expect("a moment")));
        let targets = page.refused.iter().map(|one| one.group.asked.to_string()).collect();
        let domains =
            page.domains.iter().map(|of| format!("{} {} {}", of.domain, of.kinds, of.count)).collect();
        (page.matching, page.listed, targets, domains)
    }

    #[test]
    fn refusals_are_sifted_put_together_by_domain_and_cut_to_a_page() {
        let recent = Recent::default();
        for (second, authority, from, reason) in [
            (1, "a.one.test:443", 1, Reason::HostNotAllowed),
            (2, "b.one.test:443", 1, Reason::HostNotAllowed),
            (3, "two.test:22", 2, Reason::PortNotAllowed),
            (4, "10.1.2.3:443", 6, Reason::HostNotAllowed),
            (5, "c.one.test:443", 6, Reason::ConnectRefused),
            (6, "d.one.test:443", 1, Reason::HostNotAllowed),
            (7, "10.9.9.9:443", 1, Reason::HostNotAllowed),
        ] {
            ask(&recent, second, authority, from, reason);
        }
        ask(&recent, 2, "a.one.test:443", 1, Reason::HostNotAllowed);
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
        // By time.
        let (matching, listed, targets, _) = told(&recent, "limit=3");
        assert_eq!((matching, listed), (7, 7));
        assert_eq!(targets, texts(&["10.9.9.9:443", "d.one.test:443", "c.one.test:443"]));
        // By domain; all, if they fit, and else two of each.
        assert_eq!(told(&recent, "per_domain=2&limit=7").1, 7);
        let (matching, listed, targets, domains) = told(&recent, "per_domain=2&limit=6");
        assert_eq!((matching, listed), (7, 5));
        assert_eq!(
            targets,
            texts(&["10.9.9.9:443", "10.1.2.3:443", "d.one.test:443", "c.one.test:443", "two.test:22"])
        );
        assert_eq!(domains, texts(&["IP addresses 2 2", "one.test 4 5", "two.test 1 1"]));
        let (_, listed, targets, domains) = told(&recent, "per_domain=2&limit=2&offset=3");
        assert_eq!((listed, targets), (5, texts(&["c.one.test:443", "two.test:22"])));
        assert_eq!(domains, texts(&["one.test 4 5", "two.test 1 1"]));
        // One domain alone is not cut.
        assert_eq!(told(&recent, "per_domain=2&domain=one.test&limit=3").1, 4);
        for (query, matching) in [
            ("kind=error", 1),
            ("reason=port_not_allowed", 1),
            ("policy=high", 2),
            ("client=10.0.0.1", 4),
            ("client=10.0.0.6&kind=deny", 1),
            ("filter=ONE.test", 4),
            ("filter=10.0.0.6", 2),
            ("filter=connect_", 1),
            ("offset=100", 7),
        ] {
            assert_eq!(told(&recent, query).0, matching, "{query}");
        }
        let query = Query::parse("kind=error", Endpoint::Decisions).expect("a query");
        let choices = page(&query, recent.groups(Timestamp::from_second(100).expect("a moment"))).choices;
        assert_eq!(
            choices.clients,
            [("10.0.0.1".to_owned(), 4), ("10.0.0.6".to_owned(), 2), ("10.0.0.2".to_owned(), 1)]
        );
        assert_eq!(choices.kinds, [("deny".to_owned(), 6), ("error".to_owned(), 1)]);
    }
}
