//! The bound and the shares of refusals, and what a group keeps.

use std::net::Ipv4Addr;

use super::*;
use crate::words::outcome::Reason;

fn client(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn ask(recent: &Recent, second: i64, target: &str, from: u8, reason: Reason) {
    let target = Target::connect(target).expect(target);
    recent.note(&Refusal {
        at: Timestamp::from_second(second).expect("a moment"),
        id: Uuid::now_v7(),
        listener: &Arc::from("proxy"),
        policy: Some(&Arc::from("p")),
        rule: None,
        decision: Some(Decision::Deny),
        cause: reason.into(),
        asked: Asking::Target(&target),
        request: None,
        recognised: None,
        told: None,
        client: Some(client(from)),
        account: Some(client(from)),
        identity: None,
        sni: None,
        auth_scheme: None,
        expected: false,
    });
}

fn groups(recent: &Recent, second: i64) -> Vec<(String, u64)> {
    let groups = recent.groups(Timestamp::from_second(second).expect("a moment"));
    groups.into_iter().map(|(_, group)| (group.asked.to_string(), group.count)).collect()
}

#[test]
fn what_has_target_and_reason_in_common_is_one_group() {
    let recent = Recent::default();
    ask(&recent, 1, "a.test:443", 1, Reason::HostNotAllowed);
    ask(&recent, 2, "b.test:443", 1, Reason::HostNotAllowed);
    ask(&recent, 3, "a.test:443", 2, Reason::HostNotAllowed);
    ask(&recent, 4, "a.test:443", 2, Reason::HostDenied);
    let now = Timestamp::from_second(5).expect("a moment");
    let found: Vec<Arc<Group>> = recent.groups(now).into_iter().map(|(_, group)| group).collect();
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].cause, Reason::HostDenied.into(), "the last one first");
    assert_eq!((found[1].asked.to_string(), found[1].count), ("a.test:443".to_owned(), 2));
    assert_eq!(found[1].clients, [client(1), client(2)]);
    assert_eq!(found[1].client, Some(client(2)), "the last one's");
    assert_eq!((found[1].first.as_second(), found[1].last.as_second()), (1, 3));
}

#[test]
fn a_push_is_not_hidden_behind_a_clone_nor_an_account_behind_another() {
    let recent = Recent::default();
    let target = Target::connect("a.test:443").expect("a target");
    let own = Account::new("111111111111");
    let rows = [
        (Operation::Fetch, own),
        (Operation::Push, own),
        (Operation::Push, Account::new("222222222222")),
        (Operation::Push, own),
    ];
    for (operation, account) in rows {
        let path = "/a/info/refs";
        let asks = Asks { method: "GET", path, within: true, operation: Some(operation), account };
        let refusal = Refusal {
            at: Timestamp::UNIX_EPOCH,
            id: Uuid::nil(),
            listener: &Arc::from("proxy"),
            policy: None,
            rule: None,
            decision: Some(Decision::Deny),
            cause: Reason::GitNotAllowed.into(),
            asked: Asking::Target(&target),
            request: Some(asks),
            recognised: None,
            told: None,
            client: Some(client(1)),
            account: Some(client(1)),
            identity: None,
            sni: None,
            auth_scheme: None,
            expected: false,
        };
        recent.note(&refusal);
    }
    let groups = recent.groups(Timestamp::UNIX_EPOCH);
    let mut counts: Vec<u64> = groups.iter().map(|(_, group)| group.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 2]);
}

#[test]
fn a_client_that_makes_up_names_pushes_out_its_own() {
    let recent = Recent::default();
    for number in 0..100 {
        ask(&recent, 1, &format!("wanted{number}.test:443"), 1, Reason::HostNotAllowed);
    }
    for number in 0..20_000 {
        ask(&recent, 2, &format!("n{number}.test:443"), 9, Reason::HostNotAllowed);
    }
    ask(&recent, 3, "later.test:443", 2, Reason::HostNotAllowed);
    let found = groups(&recent, 4);
    assert!((5_000..15_000).contains(&found.len()), "{}", found.len());
    let wanted = found.iter().filter(|(target, _)| target.starts_with("wanted"));
    assert_eq!(wanted.count(), 100);
    assert!(found.contains(&("later.test:443".to_owned(), 1)));
}

#[test]
fn a_client_with_many_addresses_and_long_texts_has_one_share() {
    let recent = Recent::default();
    ask(&recent, 1, "wanted.test:443", 1, Reason::HostNotAllowed);
    let (long, told) = ("x".repeat(100_000), "y".repeat(TOLD * 2));
    for number in 0..10_000_u128 {
        let address = IpAddr::from(std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + number));
        let target = Target::connect(&format!("n{number}.{}.test:443", "l".repeat(63))).expect("a target");
        recent.note(&Refusal {
            at: Timestamp::from_second(2).expect("a moment"),
            id: Uuid::nil(),
            listener: &Arc::from("proxy"),
            policy: None,
            rule: Some(&long),
            decision: Some(Decision::Deny),
            cause: Reason::RequestNotAllowed.into(),
            asked: Asking::Target(&target),
            request: Some(Asks {
                method: "GET",
                path: &long[..LONGEST],
                within: true,
                operation: None,
                account: None,
            }),
            recognised: Some(&long),
            told: Some((&told, Some(&told[..TOLD]))),
            client: Some(address),
            account: "2001:db8::".parse().ok(),
            identity: Some(&long),
            sni: Some(&long),
            auth_scheme: None,
            expected: false,
        });
    }
    let found = recent.groups(Timestamp::from_second(3).expect("a moment"));
    let bytes: usize = found.iter().map(|(_, group)| group.bytes()).sum();
    assert!(bytes <= BYTES && found.len() > 1_000, "{} groups of {bytes} bytes", found.len());
    assert!(found.iter().any(|(_, group)| group.asked.to_string() == "wanted.test:443"));
}

#[test]
fn what_a_client_writes_is_kept_short_and_printable() {
    let recent = Recent::default();
    let long = "x".repeat(100_000);
    let evil = [b"\"><script>\x1b[2J\xe2\x80\xae\r\n".as_slice(), long.as_bytes()].concat();
    recent.note(&Refusal {
        at: Timestamp::UNIX_EPOCH,
        id: Uuid::nil(),
        listener: &Arc::from("proxy"),
        policy: None,
        rule: None,
        decision: Some(Decision::Deny),
        cause: Reason::BadTarget.into(),
        asked: Asking::Malformed(&evil),
        request: None,
        recognised: None,
        told: None,
        client: None,
        account: None,
        identity: Some(&long),
        sni: Some(&"é".repeat(1_000)),
        auth_scheme: None,
        expected: false,
    });
    let group = recent.groups(Timestamp::UNIX_EPOCH).remove(0).1;
    let AskedFor::Malformed(text) = &group.asked else { panic!("{:?}", group.asked) };
    assert!(text.starts_with(r#"\"><script>\x1b[2J\xe2\x80\xae\r\nxxx"#), "{text}");
    assert!(text.len() < LONGEST + 8 && text.ends_with('…'), "{text}");
    for value in [&group.identity, &group.sni] {
        assert!(value.as_ref().is_some_and(|value| value.len() < LONGEST + 8), "{value:?}");
    }
}

#[test]
fn of_many_clients_some_are_named_and_a_day_is_remembered() {
    let recent = Recent::default();
    for last in 0..20 {
        ask(&recent, 100, "a.test:443", last, Reason::HostNotAllowed);
    }
    let now = |second| Timestamp::from_second(second).expect("a moment");
    let group = recent.groups(now(101)).remove(0).1;
    assert_eq!((group.clients.len(), group.more_clients, group.count), (CLIENTS, true, 20));
    assert_eq!(recent.groups(now(100 + 86_400)).len(), 1);
    assert_eq!(recent.groups(now(101 + 86_400)).len(), 0);
}
