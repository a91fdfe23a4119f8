//! What shared budgets cost: 1,000 of them at 10,000 requests a second, beside the same budgets counted by this replica alone. Needs
//! redis-server. Prints the CPU of both processes, and what goes over the wire.
//!
//! ```text
//! cargo bench --bench shared_state [-- SECONDS [BYTES [RATE]]]
//! ```

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use egressd::config;
use egressd::rules::Permit;
use egressd::state::budgets::Budgets;
use egressd::state::budgets::shared::{Settings, SharedBudgets};
use egressd::transport::held::HeldBytes;
use egressd::words::client::Client;
use egressd::words::target::Target;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};

const BUDGETS: u32 = 1_000;

struct Redis(Child, u16);

impl Redis {
    fn start() -> Self {
        let port = TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("bound").port();
        let mut redis = Command::new("redis-server");
        redis.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]);
        let child = redis.stdout(Stdio::null()).spawn().expect("redis-server: apt install redis-server");
        #[expect(clippy::disallowed_methods, reason = "a benchmark dials its own store")]
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Redis(child, port)
    }

    /// A number of INFO.
    fn told(&self, name: &str) -> f64 {
        let ask = |section: &str| {
            let output =
                Command::new("redis-cli").args(["-p", &self.1.to_string(), "INFO", section]).output();
            String::from_utf8_lossy(&output.expect("redis-cli").stdout).into_owned()
        };
        let text = ask("everything");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    }

    fn cpu(&self) -> f64 {
        self.told("used_cpu_sys") + self.told("used_cpu_user")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn cpu() -> f64 {
    // In ticks of a hundredth of a second, behind the name in parentheses.
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn loaded(store: &str) -> (config::Config, Permit) {
    let text =
        format!("{store}\npolicies: [{{name: p, allow: [{{to: git.example, upload_budget: 5GiB/24h}}]}}]\n");
    let nothing = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let config = config::load_str("bench.yaml", &text, nothing).expect("a configuration").config;
    let target = Target::connect("git.example:443").expect("a target");
    let client = Client::direct("10.0.0.1:1".parse().expect("an address"));
    let permit = config.policies.decide(&target, &client, Timestamp::now()).expect("allowed");
    (config, permit)
}

/// As requests do: each takes what it sends, a piece at a time.
async fn requests(budgets: &Budgets, permit: &Permit, seconds: u64, bytes: usize, rate: u32) -> u64 {
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (end, mut next, mut refused) = (Instant::now() + Duration::from_secs(seconds), 0u32, 0u64);
    while Instant::now() < end {
        tick.tick().await;
        for _ in 0..rate / 1000 {
            next = (next + 1) % BUDGETS;
            let client = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + next));
            match budgets.afford(client, permit).await {
                Ok(mut allowance) => {
                    let mut left = bytes;
                    while left > 0 && allowance.secure(1).await.is_ok() {
                        let want = left.min(16 * 1024);
                        left -= allowance.take(want).min(want);
                    }
                }
                Err(_) => refused += 1,
            }
        }
    }
    refused
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut argument =
        |default: usize| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seconds, bytes, rate) = (argument(20) as u64, argument(4096), argument(10_000) as u32);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let held = HeldBytes::unlimited();
        let (_, permit) = loaded("");
        let alone = Budgets::new(100_000, &held);
        requests(&alone, &permit, 2, bytes, rate).await;
        let before = cpu();
        requests(&alone, &permit, seconds, bytes, rate).await;
        let alone = cpu() - before;

        let redis = Redis::start();
        let (config, permit) = loaded(&format!("shared_state: {{url: \"redis://127.0.0.1:{}\"}}", redis.1));
        let settings = Settings::new(&config).expect("no TLS").expect("a store");
        let store = SharedBudgets::start(settings);
        let shared = Budgets::with(100_000, &held, Some(Arc::clone(&store)));
        // The first epoch settles, and every account gets its first lease.
        requests(&shared, &permit, 10, bytes, rate).await;
        let (before, store_before) = (cpu(), redis.cpu());
        let count = |name: &str| redis.told(name);
        let (commands, input, output) = (
            count("total_commands_processed"),
            count("total_net_input_bytes"),
            count("total_net_output_bytes"),
        );
        let refused = requests(&shared, &permit, seconds, bytes, rate).await;
        let (own, of_store) = (cpu() - before, redis.cpu() - store_before);
        let per = |amount: f64| amount / seconds as f64;
        println!(
            "{BUDGETS} budgets, {rate} requests a second of {bytes} bytes, {seconds} s; {refused} refused"
        );
        println!("egressd, counted alone:    {:.1} ms of CPU a second", 1000.0 * per(alone));
        println!("egressd, with the store:   {:.1} ms of CPU a second", 1000.0 * per(own));
        println!("the store:                 {:.1} ms of CPU a second", 1000.0 * per(of_store));
        println!(
            "commands in scripts and out: {:.0} a second",
            per(count("total_commands_processed") - commands)
        );
        println!(
            "to the store {:.0} and from it {:.0} bytes a second; its memory {:.1} MB",
            per(count("total_net_input_bytes") - input),
            per(count("total_net_output_bytes") - output),
            count("used_memory") / 1e6
        );
        store.finish(Duration::from_secs(2)).await;
    });
}
