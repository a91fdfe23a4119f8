use std::net::Ipv4Addr;
use std::sync::Barrier;

use jiff::Timestamp;
use tokio::time::advance;

use super::*;
use crate::config;
use crate::words::client::Client;
use crate::words::target::Target;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The permit of a client that asks for `host`, from a rule of that text with these options.
fn permit(host: &str, options: &str) -> Permit {
    let text = format!("policies: [{{name: p, allow: [{{to: {host}, {options}}}]}}]");
    let loaded = config::load_str("test.yaml", &text, |_| Err(std::io::ErrorKind::NotFound.into()));
    let policies = loaded.unwrap_or_else(|findings| panic!("{findings:?}")).config.policies;
    let target = Target::connect(&format!("{host}:443")).unwrap();
    policies.decide(&target, &Client::direct("10.0.0.1:1".parse().unwrap()), Timestamp::UNIX_EPOCH).unwrap()
}

fn client(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn left(budgets: &Budgets, permit: &Permit) -> u64 {
    budgets.open(client(1), permit).map_or(0, |allowance| allowance.left().expect("has a budget"))
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_of_one_client_and_one_rule_and_refuses_once_it_is_used_up() {
    let budgets = Budgets::new();
    let (a, b) = (permit("a.test", "upload_budget: 100B/1h"), permit("b.test", "upload_budget: 100B/1h"));
    let mut first = budgets.open(client(1), &a).unwrap();
    assert_eq!(first.take(70), 70);
    assert_eq!(budgets.open(client(1), &a).unwrap().left(), Some(30));
    assert_eq!(first.take(70), 30, "no more than there is");
    assert_eq!(first.take(1), 0);
    assert_eq!(first.refuses(1), Some(Reason::UploadBudget));
    assert_eq!(budgets.open(client(1), &a).unwrap_err(), Reason::UploadBudget);
    assert_eq!(budgets.open(client(2), &a).unwrap().left(), Some(100), "another client has its own");
    assert_eq!(budgets.open(client(1), &b).unwrap().left(), Some(100), "another rule has its own");
}

#[tokio::test(start_paused = true)]
async fn all_tunnels_of_a_client_together_send_no_more_than_the_budget() {
    let budgets = Budgets::new();
    let permit = permit("a.test", "upload_budget: 100B/1h");
    let mut tunnels: Vec<Allowance> = (0..10).map(|_| budgets.open(client(1), &permit).unwrap()).collect();
    let sent: usize = tunnels.iter_mut().map(|tunnel| tunnel.take(30)).sum();
    assert_eq!(sent, 100);
}

#[tokio::test(start_paused = true)]
async fn what_did_not_move_is_put_back() {
    let budgets = Budgets::new();
    let permit = permit("a.test", "upload_limit: 80B, upload_budget: 100B/1h");
    let mut allowance = budgets.open(client(1), &permit).unwrap();
    assert_eq!(allowance.take(1000), 80, "the smaller of limit and budget");
    assert_eq!((left(&budgets, &permit), allowance.refuses(1)), (20, Some(Reason::UploadLimit)));
    allowance.put_back(75);
    assert_eq!((left(&budgets, &permit), allowance.left()), (80, Some(75)));
    advance(30 * MINUTE).await;
    assert_eq!(allowance.take(10), 10);
    // Of two steps, the later one first.
    allowance.put_back(12);
    assert_eq!(left(&budgets, &permit), 80);
    assert_eq!(allowance.left(), Some(77));
}

/// At most 100 bytes in any hour; an hour and a minute after the last byte, all of it is available again.
#[tokio::test(start_paused = true)]
async fn bytes_leave_the_window_a_sixtieth_at_a_time_and_never_too_early() {
    let budgets = Budgets::new();
    let permit = permit("a.test", "upload_budget: 100B/1h");
    let mut sent = Vec::new();
    let mut open = budgets.open(client(1), &permit).unwrap();
    for minute in 0..60 {
        advance(Duration::from_millis(59_999)).await;
        sent.push((minute, open.take(1)));
        advance(Duration::from_millis(1)).await;
    }
    assert!(sent.iter().all(|(_, bytes)| *bytes == 1));
    assert_eq!(left(&budgets, &permit), 40);
    assert_eq!(open.take(40), 40);
    advance(Duration::from_millis(59_998)).await;
    assert_eq!(left(&budgets, &permit), 0, "an hour has not passed since the first byte");
    advance(MINUTE).await;
    assert_eq!(left(&budgets, &permit), 0, "an hour and a step are not over");
    advance(Duration::from_millis(1)).await;
    assert_eq!(left(&budgets, &permit), 1);
    for gone in 2..=59 {
        advance(MINUTE).await;
        assert_eq!(left(&budgets, &permit), gone);
    }
    advance(MINUTE).await;
    assert_eq!(left(&budgets, &permit), 100);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_outlives_an_edit_of_the_budget() {
    let budgets = Budgets::new();
    let old = permit("a.test", "upload_budget: 100B/1h");
    let mut running = budgets.open(client(1), &old).unwrap();
    assert_eq!(running.take(60), 60);
    let smaller = permit("a.test", "upload_budget: 50B/1h");
    assert_eq!(budgets.open(client(1), &smaller).unwrap_err(), Reason::UploadBudget);
    assert_eq!(running.take(60), 40, "a tunnel keeps the budget that it was opened with");
    let longer = permit("a.test", "upload_budget: 150B/24h");
    assert_eq!(left(&budgets, &longer), 50);
    advance(2 * HOUR).await;
    assert_eq!(left(&budgets, &longer), 50, "the longer window holds what the shorter one held");
    let shorter = permit("a.test", "upload_budget: 150B/1m");
    assert_eq!(left(&budgets, &shorter), 150);
}

#[tokio::test(start_paused = true)]
async fn clients_that_come_and_go_do_not_grow_the_table() {
    let budgets = Budgets::new();
    let permit = permit("a.test", "upload_budget: 100B/1m");
    for number in 0..30_000_u32 {
        let client = IpAddr::V4(Ipv4Addr::from(number));
        assert_eq!(budgets.open(client, &permit).unwrap().take(1), 1);
        advance(Duration::from_millis(100)).await;
    }
    // At most a thousand were within a window and a step of each other.
    assert!(budgets.len() <= 4 * 1000, "{} accounts", budgets.len());
}

#[tokio::test(start_paused = true)]
async fn a_full_table_refuses_whom_it_cannot_count_and_keeps_whom_it_counts() {
    let budgets = Budgets::with_capacity(SHARDS * 4);
    let permit = permit("a.test", "upload_budget: 100B/1m");
    let (mut held, mut refused) = (Vec::new(), 0);
    for number in 0..10_000_u32 {
        match budgets.open(IpAddr::V4(Ipv4Addr::from(number)), &permit) {
            Ok(mut allowance) => {
                allowance.take(1);
                held.push((number, allowance));
            }
            Err(reason) => {
                assert_eq!(reason, Reason::LocalResources);
                refused += 1;
            }
        }
    }
    assert_eq!((held.len(), refused, budgets.len()), (SHARDS * 4, 10_000 - SHARDS * 4, SHARDS * 4));
    let known = IpAddr::V4(Ipv4Addr::from(held[0].0));
    assert_eq!(budgets.open(known, &permit).unwrap().left(), Some(99));

    // Open tunnels keep their accounts, whatever the clock says.
    advance(2 * MINUTE).await;
    assert_eq!(budgets.open(client(250), &permit).unwrap_err(), Reason::LocalResources);
    held.clear();
    advance(2 * MINUTE).await;
    budgets.open(client(250), &permit).unwrap();
    assert!(budgets.len() <= SHARDS * 4);
}

#[test]
fn threads_that_draw_at_once_get_the_budget_exactly_once() {
    const BYTES: usize = 100_000;
    let budgets = Budgets::new();
    let permit = permit("a.test", &format!("upload_budget: {BYTES}B/31d"));
    let barrier = Barrier::new(4);
    let sent: usize = std::thread::scope(|scope| {
        let draw = || {
            let mut allowance = budgets.open(client(1), &permit).unwrap();
            barrier.wait();
            let mut sent = 0;
            // As a relay does: it takes more than it then uses.
            for _ in 0..BYTES {
                let granted = allowance.take(16);
                let used = granted.min(3);
                allowance.put_back(granted - used);
                sent += used;
            }
            sent
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(draw)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(sent, BYTES);
    assert_eq!(left(&budgets, &permit), 0);
}
