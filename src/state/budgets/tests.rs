use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Barrier;
use std::time::Duration;

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::time::advance;

use super::*;
use crate::config;
use crate::transport::held::HeldBytes;
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

impl Budgets {
    fn len(&self) -> usize {
        self.table().len()
    }
}

fn left(budgets: &Budgets, permit: &Permit) -> u64 {
    budgets.open(client(1), permit).map_or(0, |allowance| allowance.left().expect("has a budget"))
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_of_one_client_and_one_rule_and_refuses_once_it_is_used_up() {
    let budgets = Budgets::new(1000, &HeldBytes::unlimited());
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
    let budgets = Budgets::new(1000, &HeldBytes::unlimited());
    let permit = permit("a.test", "upload_budget: 100B/1h");
    let mut tunnels: Vec<Allowance> = (0..10).map(|_| budgets.open(client(1), &permit).unwrap()).collect();
    let sent: usize = tunnels.iter_mut().map(|tunnel| tunnel.take(30)).sum();
    assert_eq!(sent, 100);
}

#[tokio::test(start_paused = true)]
async fn what_did_not_move_is_put_back() {
    let budgets = Budgets::new(1000, &HeldBytes::unlimited());
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
    let budgets = Budgets::new(1000, &HeldBytes::unlimited());
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
    let budgets = Budgets::new(1000, &HeldBytes::unlimited());
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
    let budgets = Budgets::new(65_536, &HeldBytes::unlimited());
    let permit = permit("a.test", "upload_budget: 100B/1m");
    for number in 0..30_000_u32 {
        let client = IpAddr::V4(Ipv4Addr::from(number));
        assert_eq!(budgets.open(client, &permit).unwrap().take(1), 1);
        advance(Duration::from_millis(100)).await;
    }
    // At most a thousand were within a window and a step of each other.
    assert!(budgets.len() <= 4 * 1000, "{} accounts", budgets.len());
}

/// The permit of one rule of many, with the same options.
fn permit_of_rule(number: usize, permit: &Permit) -> Permit {
    let mut permit = permit.clone();
    permit.policy = format!("p{number}").into();
    permit
}

fn numbered(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(number))
}

#[tokio::test(start_paused = true)]
async fn one_client_with_a_long_list_takes_no_other_clients_place() {
    let budgets = Budgets::new(64, &HeldBytes::unlimited());
    let permit = permit("a.test", "upload_budget: 5000B/1m");
    for number in 0..1000 {
        let mut allowance = budgets.open(client(1), &permit_of_rule(number, &permit)).unwrap();
        assert_eq!(allowance.take(1), 1, "{number}");
        // It has all places as long as nobody else wants one.
        assert_eq!(budgets.len(), (number + 1).min(64), "{number}");
    }
    // Until each has two, all of 31 others get a place with every account.
    for number in 0..62 {
        let mut allowance =
            budgets.open(numbered(number / 2), &permit_of_rule(number as usize, &permit)).unwrap();
        assert_eq!(allowance.take(5000), 5000, "its budget is whole");
        assert_eq!(budgets.len(), 64);
    }
    assert_eq!(budgets.accounts().merged, 1 + 62);
}

#[tokio::test(start_paused = true)]
async fn only_where_each_place_has_another_client_with_a_tunnel_is_one_refused() {
    let budgets = Budgets::new(64, &HeldBytes::unlimited());
    let permit = permit("a.test", "upload_budget: 100B/1m");
    let mut held = Vec::new();
    for number in 0..64 {
        let mut allowance = budgets.open(numbered(number), &permit).unwrap();
        allowance.take(1);
        held.push(allowance);
    }
    assert_eq!(budgets.open(numbered(64), &permit).unwrap_err(), Reason::BudgetTableFull);
    assert_eq!(budgets.open(numbered(0), &permit).unwrap().left(), Some(99), "one that is known is counted");
    // One that has an account counts its other rules on it.
    let other = permit_of_rule(1, &permit);
    assert_eq!(budgets.open(numbered(0), &other).unwrap().left(), Some(99));
    assert_eq!(budgets.len(), 64);
    // Open tunnels keep their accounts, whatever the clock says.
    advance(2 * MINUTE).await;
    assert_eq!(budgets.open(numbered(64), &permit).unwrap_err(), Reason::BudgetTableFull);
    held.clear();
    advance(2 * MINUTE).await;
    budgets.open(numbered(64), &permit).unwrap();
    assert!(budgets.len() < 64, "some of the others are gone, and none of them is refused");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_keeps_no_newcomer_out_and_nobody_sends_more() {
    let budgets = Budgets::new(64, &HeldBytes::unlimited());
    let permit = permit("a.test", "upload_budget: 100B/1m");
    let other = permit_of_rule(1, &permit);
    assert_eq!(budgets.open(client(1), &permit).unwrap().take(90), 90);
    assert_eq!(budgets.open(client(1), &other).unwrap().take(80), 80);
    for number in 0..300 {
        let mut allowance = budgets.open(numbered(number), &permit).unwrap();
        let begins = 100 - u32::try_from(allowance.left().unwrap()).unwrap();
        // Each time that all places have another client, what is assumed grows by what each of them sends.
        assert!(begins <= 3 * (1 + number / 31), "client {number} begins with {begins}");
        assert_eq!(allowance.take(1 + number as usize % 3), 1 + number as usize % 3);
        assert!(budgets.len() <= 64);
    }
    // The two accounts of the first client are one by now, from which most was sent.
    assert_eq!(budgets.open(client(1), &permit).unwrap_err(), Reason::BudgetTableFull);
    // One that was given up comes back: its three bytes and some of others count.
    let left = budgets.open(numbered(2), &permit).unwrap().left().unwrap();
    assert!((67..=97).contains(&left), "{left}");
    assert_eq!(
        budgets.open(numbered(5000), &other).unwrap().left(),
        Some(100),
        "of that rule none was given up"
    );
    advance(3 * MINUTE).await;
    assert_eq!(budgets.open(numbered(2), &permit).unwrap().left(), Some(100));
    assert_eq!(budgets.open(client(1), &permit).unwrap().left(), Some(100));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_is_refused_for_the_table_by_what_others_sent_and_for_the_budget_by_its_own() {
    let budgets = Budgets::new(1, &HeldBytes::unlimited());
    let rule = permit("a.test", "upload_budget: 100B/1m");
    assert_eq!(budgets.open(client(1), &rule).unwrap().take(60), 60);
    let mut second = budgets.open(client(2), &rule).unwrap();
    assert_eq!((second.take(100), second.refuses(1)), (40, Some(Reason::BudgetTableFull)));
    drop(second);
    assert_eq!(budgets.open(client(3), &rule).unwrap_err(), Reason::BudgetTableFull);
    assert_eq!(
        budgets.open(client(1), &rule).unwrap_err(),
        Reason::BudgetTableFull,
        "it may send 40 and nobody knows it"
    );
    advance(2 * MINUTE).await;
    let mut third = budgets.open(client(3), &rule).unwrap();
    assert_eq!((third.take(101), third.refuses(1)), (100, Some(Reason::UploadBudget)));
}

#[tokio::test(start_paused = true)]
async fn a_reason_says_whether_the_budget_or_the_table_was_too_small() {
    let budgets = Budgets::new(1, &HeldBytes::unlimited());
    let rule = permit("a.test", "upload_budget: 100B/1m");
    let other = permit("b.test", "upload_budget: 100B/1m");
    assert_eq!(budgets.open(client(1), &rule).unwrap().take(100), 100);
    assert_eq!(budgets.open(client(1), &rule).unwrap_err(), Reason::UploadBudget);
    assert_eq!(budgets.open(client(1), &other).unwrap_err(), Reason::BudgetTableFull);
    assert_eq!(budgets.open(client(1), &rule).unwrap_err(), Reason::BudgetTableFull, "they are merged now");
    assert_eq!(budgets.open(client(2), &rule).unwrap_err(), Reason::BudgetTableFull);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_goes_on_over_a_merge_and_its_bytes_still_count() {
    let budgets = Budgets::new(2, &HeldBytes::unlimited());
    let (a, b) = (permit("a.test", "upload_budget: 100B/1m"), permit("b.test", "upload_budget: 100B/1m"));
    let mut first = budgets.open(client(1), &a).unwrap();
    let mut second = budgets.open(client(1), &b).unwrap();
    assert_eq!((first.take(30), second.take(20)), (30, 20));
    // A newcomer: the two become one.
    assert_eq!(budgets.open(client(2), &a).unwrap().left(), Some(100));
    assert_eq!((first.left(), second.left()), (Some(50), Some(50)));
    assert_eq!((first.take(30), second.take(30)), (30, 20));
    assert_eq!(first.refuses(1), Some(Reason::BudgetTableFull));
    second.put_back(10);
    assert_eq!(budgets.open(client(1), &a).unwrap().left(), Some(10));
}

#[tokio::test(start_paused = true)]
async fn a_smaller_table_merges_and_a_larger_one_has_room_again() {
    let budgets = Budgets::new(1000, &HeldBytes::unlimited());
    let permit = permit("a.test", "upload_budget: 1000B/1m");
    for number in 0..900 {
        assert_eq!(budgets.open(client(1), &permit_of_rule(number, &permit)).unwrap().take(1), 1);
    }
    budgets.open(client(2), &permit).unwrap().take(1);
    budgets.set_most(10);
    assert_eq!(budgets.len(), 10);
    assert_eq!(budgets.open(client(1), &permit_of_rule(0, &permit)).unwrap().left(), Some(1000 - 892));
    budgets.set_most(1000);
    // The old account counts beside the new one until its bytes have left the window.
    let mut again = budgets.open(client(1), &permit_of_rule(1, &permit)).unwrap();
    assert_eq!((again.left(), again.take(8)), (Some(1000 - 892), 8));
    assert_eq!(budgets.open(client(1), &permit_of_rule(2, &permit)).unwrap().left(), Some(1000 - 892));
    advance(2 * MINUTE).await;
    assert_eq!(budgets.open(client(1), &permit_of_rule(3, &permit)).unwrap().left(), Some(1000));
}

/// What the generated steps found: a tunnel that sends from the rest does not see what an account beside it counts.
#[tokio::test(start_paused = true)]
async fn a_rule_gets_no_new_account_while_a_tunnel_sends_from_the_rest() {
    let budgets = Budgets::new(1, &HeldBytes::unlimited());
    let rules: Vec<Permit> =
        (0..2).map(|number| permit_of_rule(number, &permit("a.test", "upload_budget: 100B/1m"))).collect();
    assert_eq!(budgets.open(client(1), &rules[0]).unwrap().take(1), 1);
    let mut on_the_rest = budgets.open(client(1), &rules[1]).unwrap();
    budgets.set_most(3);
    // Nothing counts any more, and there is room.
    advance(2 * MINUTE).await;
    let mut later = budgets.open(client(1), &rules[1]).unwrap();
    assert_eq!((later.take(60), on_the_rest.take(60)), (60, 40));
    drop((later, on_the_rest));
    advance(2 * MINUTE).await;
    let _other = budgets.open(client(1), &rules[0]).unwrap();
    assert_eq!(budgets.open(client(1), &rules[1]).unwrap().take(100), 100);
    assert_eq!(budgets.open(client(1), &rules[0]).unwrap().left(), Some(100), "they are apart again");
}

/// What is done with the table: clients and rules by number, tunnels by any number.
#[derive(Clone, Debug)]
enum Step {
    Open { client: u8, rule: usize },
    Send { tunnel: Index, want: usize, unused: usize },
    Close(Index),
    Wait { millis: u64 },
    Most(usize),
}

const HOUR_OF_MILLIS: u64 = 3_600_000;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // The first client opens most: it is the one with the long list. The last ones are a fleet.
    let who = prop_oneof![3 => Just(0..1u8), 1 => Just(1..8u8), 1 => Just(8..40u8)]
        .prop_flat_map(|clients| clients);
    let open = (who, 0..40usize).prop_map(|(client, rule)| Step::Open { client, rule });
    let send = (any::<Index>(), 1..80usize, 0..20usize).prop_map(|(tunnel, want, unused)| Step::Send {
        tunnel,
        want,
        unused,
    });
    let wait = prop_oneof![
        4 => 0..2_000u64,
        2 => 0..90_000u64,
        1 => 0..2 * HOUR_OF_MILLIS,
        1 => 0..50 * HOUR_OF_MILLIS
    ];
    let step = prop_oneof![
        6 => open,
        8 => send,
        3 => any::<Index>().prop_map(Step::Close),
        4 => wait.prop_map(|millis| Step::Wait { millis }),
        1 => (1..12usize).prop_map(Step::Most),
    ];
    vec(step, 1..150)
}

/// What really was sent.
#[derive(Default)]
struct Sent(HashMap<(u8, usize), Vec<(tokio::time::Instant, u64)>>);

impl Sent {
    fn within(&self, of: (u8, usize), window: Duration) -> u64 {
        let counts = |at: &tokio::time::Instant| at.elapsed() < window;
        self.0.get(&of).into_iter().flatten().filter(|(at, _)| counts(at)).map(|(_, bytes)| bytes).sum()
    }

    fn of_client(&self, client: u8, window: Duration) -> u64 {
        self.0.keys().filter(|(of, _)| *of == client).map(|of| self.within(*of, window)).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is merged, given up and removed: no client sends more than the budget of a rule within any window. And a client is
    /// refused for the table's sake only if it sent something itself, if as many others have a place that they use, or if others that
    /// were given up sent a whole budget.
    #[test]
    fn no_client_ever_sends_more_than_its_budget_and_none_is_refused_for_another(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(Box::pin(hold(steps)))?;
    }
}

async fn hold(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let options =
        ["100B/1m", "150B/7m", "60B/1h", "200B/24h"].map(|budget| format!("upload_budget: {budget}"));
    let permits: Vec<Permit> =
        (0..40).map(|number| permit_of_rule(number, &permit("a.test", &options[number % 4]))).collect();
    let budget = |rule: usize| permits[rule].upload_budget.as_ref().unwrap();
    let longest = 2 * 24 * HOUR;
    let mut most = 6;
    let budgets = Budgets::new(most, &HeldBytes::unlimited());
    let mut tunnels: Vec<((u8, usize), Allowance)> = Vec::new();
    let mut sent = Sent::default();
    for step in steps {
        let before = budgets.len();
        match step {
            Step::Open { client: of, rule } => match budgets.open(client(of), &permits[rule]) {
                Ok(allowance) => tunnels.push(((of, rule), allowance)),
                Err(Reason::UploadBudget) => {
                    let (bytes, window) = (budget(rule).bytes, budget(rule).window);
                    let counted = sent.within((of, rule), window + window / 20 + Duration::from_millis(2));
                    prop_assert!(counted >= bytes, "{counted} of {bytes} used");
                }
                Err(reason) => {
                    prop_assert_eq!(reason, Reason::BudgetTableFull);
                    let table = budgets.table();
                    let rule_text = permits[rule].rule.as_ref().map_or("", |rule| &rule.text);
                    let (kept, begins) = (table.kept(), table.begins_with(&permits[rule].policy, rule_text));
                    prop_assert!(
                        sent.of_client(of, longest) > 0 || kept >= most || begins >= budget(rule).bytes,
                        "{kept} kept of {most}, {begins} sent from what was given up"
                    );
                }
            },
            Step::Send { tunnel, want, unused } if !tunnels.is_empty() => {
                let at = tunnel.index(tunnels.len());
                let (of, allowance) = &mut tunnels[at];
                let granted = allowance.take(want);
                let unused = unused.min(granted);
                allowance.put_back(unused);
                let now = tokio::time::Instant::now();
                sent.0.entry(*of).or_default().push((now, (granted - unused) as u64));
                let (bytes, window) = (budget(of.1).bytes, budget(of.1).window);
                let counted = sent.within(*of, window);
                prop_assert!(counted <= bytes, "{of:?} sent {counted} of {bytes}");
            }
            Step::Close(at) if !tunnels.is_empty() => drop(tunnels.swap_remove(at.index(tunnels.len()))),
            Step::Send { .. } | Step::Close(_) => {}
            Step::Wait { millis } => advance(Duration::from_millis(millis)).await,
            Step::Most(number) => {
                most = number;
                budgets.set_most(most);
                prop_assert!(
                    budgets.len() <= most.max(budgets.table().kept()),
                    "{} of {most}",
                    budgets.len()
                );
            }
        }
        let table = budgets.table();
        table.check();
        prop_assert!(table.len() <= most.max(before), "{} of {most}", table.len());
    }
    tunnels.clear();
    advance(longest).await;
    budgets.set_most(most);
    prop_assert_eq!(budgets.len(), 0, "nothing is left once all is over");
    Ok(())
}

#[test]
fn threads_that_draw_at_once_get_the_budget_exactly_once() {
    const BYTES: usize = 100_000;
    let budgets = Budgets::new(1000, &HeldBytes::unlimited());
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
