//! What a reload promises, step by step and without waiting: each test takes the reloader's turns itself.

use std::fs;
use std::net::SocketAddr;
use std::sync::Weak;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::*;
use crate::config::ListenAddress;
use crate::operate::server::Server;
use crate::rules::Scheme;
use crate::state::live::{LiveTunnel, Registration, TunnelFacts};
use crate::transport::cancel::Cancel;
use crate::words::client::Client;
use crate::words::outcome::{Ending, Reason};
use crate::words::target::Target;

const ADDRESSES: &str = "listeners: [{name: proxy, address: 127.0.0.1:0}]\nadmin: {address: 127.0.0.1:0}\n";
const HUP: Wakeup = Wakeup { changed: false, requested: true, stop: false };

/// A server that accepts nothing, and its reloader.
struct Bench {
    directory: TempDir,
    reloader: Reloader,
    _server: Server,
    _runtime: Runtime,
}

impl Bench {
    /// With an `egressd.yaml` of the addresses and `rest`, and these files next to it.
    fn new(rest: &str, files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a directory");
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("written");
        }
        let file = directory.path().join("egressd.yaml");
        fs::write(&file, format!("{ADDRESSES}{rest}")).expect("written");
        Bench::of(directory, Some(file), load)
    }

    fn of(directory: TempDir, file: Option<PathBuf>, load: Load) -> Self {
        let (loaded, seen) = self::load(file.as_deref());
        let mut config = loaded.expect("a configuration").config;
        let free = || SocketAddr::from(([127, 0, 0, 1], 0));
        for listener in &mut config.listeners {
            listener.address = ListenAddress::Ip(free());
        }
        config.admin.address = free();
        let runtime = Runtime::new().expect("a runtime");
        let server = runtime.block_on(Server::bind(config)).expect("bound");
        let source = Source { file, seen };
        let reloader = Reloader::new(Arc::clone(server.shared()), source, Arc::default(), load);
        Bench { directory, reloader, _server: server, _runtime: runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn configure(&self, rest: &str) {
        self.write("egressd.yaml", &format!("{ADDRESSES}{rest}"));
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.reloader.shared
    }

    /// Why the last reload was refused.
    fn refused(&self) -> Vec<String> {
        let directory = format!("{}/", self.directory.path().display());
        let in_force = self.shared().current.in_force();
        in_force
            .last_reload
            .refused
            .iter()
            .map(|finding| finding.to_string().replace(&directory, ""))
            .collect()
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.shared().metrics.render().expect("rendered");
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in\n{text}"));
        line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok()).expect("a value")
    }

    /// A tunnel to `host` at port 443 that was decided just now.
    fn tunnel(&self, host: &str) -> LiveTunnel {
        let live = &self.shared().live;
        let facts = TunnelFacts {
            id: Uuid::nil(),
            client: Arc::new(Client::direct("127.0.0.1:5".parse().expect("an address"))),
            proof: Arc::default(),
            target: Target::connect(&format!("{host}:443")).expect("a target"),
            policy: "p".into(),
            rule: None,
            listener: "proxy".into(),
            upstream: "198.18.0.9:443".parse().expect("an address"),
            by_parent: false,
            scheme: Scheme::Https,
            inspected: false,
            started: Timestamp::now(),
        };
        match live.register(facts, Arc::default(), Cancel::new(), live.generation()) {
            Registration::Current(guard) => guard,
            Registration::JudgeAgain(_) => panic!("nothing moved"),
        }
    }
}

fn limit(tunnels: usize) -> String {
    format!("limits: {{tunnels: {tunnels}}}\n")
}

fn listed(rest: &str) -> String {
    format!("policies: [{{name: p, private: [198.18.0.0/15], allow_files: [list]{rest}}}]\n")
}

#[test]
fn each_way_of_changing_a_file_comes_into_force_or_is_refused_with_its_place() {
    type Change = fn(&Bench);
    /// The result: in force with so many tunnels, or refused with this beginning.
    type Became = Result<usize, &'static str>;
    let rows: &[(&str, Change, Became)] = &[
        ("nothing", |_| {}, Ok(3)),
        ("overwritten", |bench| bench.configure(&limit(4)), Ok(4)),
        (
            "renamed over",
            |bench| {
                bench.write("new", &format!("{ADDRESSES}{}", limit(5)));
                fs::rename(bench.path("new"), bench.path("egressd.yaml")).expect("renamed");
            },
            Ok(5),
        ),
        ("written as it was", |bench| bench.configure(&limit(3)), Ok(3)),
        (
            "removed",
            |bench| fs::remove_file(bench.path("egressd.yaml")).expect("removed"),
            Err("egressd.yaml:1:1: error: cannot read the file: there is no such file"),
        ),
        (
            "of 0 bytes",
            |bench| bench.write("egressd.yaml", ""),
            Err("egressd.yaml:1:1: error: the file is empty"),
        ),
        ("half written", |bench| bench.configure("limits: {tunnels: 6, head_"), Err("egressd.yaml:3:")),
        ("wrong", |bench| bench.configure("limits: {tunnel: 6}\n"), Err("egressd.yaml:3:10: error: ")),
        (
            "needs a restart",
            |bench| bench.configure("access_log: {output: log}\n"),
            Err(
                "egressd.yaml:3:22: error: `access_log.output` changed from stdout to log, which needs a restart",
            ),
        ),
        (
            "a directory",
            |bench| {
                fs::remove_file(bench.path("egressd.yaml")).expect("removed");
                fs::create_dir(bench.path("egressd.yaml")).expect("made");
            },
            Err("egressd.yaml:1:1: error: cannot read the file: it is a directory"),
        ),
    ];
    for (what, change, became) in rows {
        let mut bench = Bench::new(&limit(3), &[]);
        change(&bench);
        bench.reloader.turn(Wakeup::default());
        let tunnels = bench.shared().current.load().limits.tunnels;
        let (refused, successful) = (bench.refused(), bench.metric("egressd_config_last_reload_successful"));
        match became {
            Ok(want) => assert_eq!((tunnels, refused, successful), (*want, Vec::new(), 1.0), "{what}"),
            Err(want) => {
                assert_eq!((tunnels, successful), (3, 0.0), "{what}");
                assert!(refused.iter().any(|line| line.starts_with(want)), "{what}: {refused:?}");
            }
        }

        // And fixed: back to the configuration in force, or to a different one.
        let _ = fs::remove_dir(bench.path("egressd.yaml"));
        for tunnels in [tunnels, 9] {
            bench.configure(&limit(tunnels));
            bench.reloader.turn(Wakeup::default());
            let now = bench.shared().current.load().limits.tunnels;
            let successful = bench.metric("egressd_config_last_reload_successful");
            assert_eq!((now, bench.refused(), successful), (tunnels, Vec::new(), 1.0), "{what}, fixed");
        }
    }
}

#[test]
fn a_named_file_is_followed_as_the_configuration_is() {
    let mut bench = Bench::new(&listed(""), &[("list", "a.example\n")]);
    let rules = |bench: &Bench| -> Vec<String> {
        bench.shared().current.load().policies.rules().map(|rule| rule.text().to_owned()).collect()
    };
    let before = bench.shared().current.load().hash;
    bench.write("list", "b.example\n");
    bench.reloader.turn(Wakeup::default());
    assert_eq!(rules(&bench), ["b.example"]);
    assert_ne!(bench.shared().current.load().hash, before);
    for (text, refusal) in [
        (Some(""), "egressd.yaml:3:62: error: the file "),
        (None, "egressd.yaml:3:62: error: cannot read "),
        (Some("b.example\n*\n"), "list:2:1: error: "),
    ] {
        match text {
            Some(text) => bench.write("list", text),
            None => fs::remove_file(bench.path("list")).expect("removed"),
        }
        bench.reloader.turn(Wakeup::default());
        let refused = bench.refused();
        assert!(refused.first().is_some_and(|line| line.starts_with(refusal)), "{refused:?}");
        assert_eq!(rules(&bench), ["b.example"]);
    }
    bench.write("list", "c.example\n");
    bench.reloader.turn(Wakeup::default());
    assert_eq!((rules(&bench), bench.refused()), (vec!["c.example".to_owned()], vec![]));
}

#[test]
fn a_refused_configuration_is_taken_when_the_file_that_it_lacked_comes() {
    let mut bench = Bench::new("", &[]);
    bench.configure(&listed(""));
    bench.reloader.turn(Wakeup::default());
    assert!(bench.refused()[0].contains("list"), "{:?}", bench.refused());
    let followed: Vec<PathBuf> = bench.reloader.seen.paths().map(Path::to_owned).collect();
    assert_eq!(followed, [bench.path("egressd.yaml"), bench.path("list")]);
    bench.write("list", "a.example\n");
    bench.reloader.turn(Wakeup::default());
    assert_eq!(bench.refused(), Vec::<String>::new());
    assert_eq!(bench.shared().current.load().policies.rules().count(), 1);
}

#[test]
fn an_included_file_that_comes_goes_or_changes_is_noticed() {
    let team = |number: u8, rules: &str| {
        format!(
            "policies: [{{name: p{number}, clients: {{networks: [10.{number}.0.0/16]}}, allow: [{rules}]}}]\n"
        )
    };
    let (one, two) = (team(1, "a.example"), team(2, "b.example"));
    let mut bench = Bench::new("include: [team-*.yaml]\n", &[("team-1.yaml", &one)]);
    let rules = |bench: &Bench| -> Vec<String> {
        bench.shared().current.load().policies.rules().map(|rule| rule.text().to_owned()).collect()
    };
    assert_eq!(rules(&bench), ["a.example"]);
    let turn = |bench: &mut Bench| {
        bench.reloader.turn(Wakeup::default());
        (rules(bench), bench.refused())
    };
    let in_force =
        |rules: &[&str]| (rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>(), Vec::new());
    bench.write("team-2.yaml", &two);
    assert_eq!(turn(&mut bench), in_force(&["a.example", "b.example"]), "come");
    bench.write("team-2.yaml", &team(2, "c.example"));
    assert_eq!(turn(&mut bench), in_force(&["a.example", "c.example"]), "changed");
    fs::rename(bench.path("team-1.yaml"), bench.path("team-3.yaml")).expect("renamed");
    assert_eq!(turn(&mut bench), in_force(&["c.example", "a.example"]), "renamed");
    fs::remove_file(bench.path("team-3.yaml")).expect("removed");
    assert_eq!(turn(&mut bench), in_force(&["c.example"]), "gone");
    let generation = bench.shared().live.generation();
    bench.write("other.yaml", "of another program");
    assert_eq!(turn(&mut bench), in_force(&["c.example"]), "another file");
    assert_eq!(bench.shared().live.generation(), generation, "nothing is judged again");

    fs::remove_file(bench.path("team-2.yaml")).expect("removed");
    let (rules_in_force, refused) = turn(&mut bench);
    assert_eq!(rules_in_force, ["c.example"], "a pattern without a match opens and closes nothing");
    assert!(
        refused[0].starts_with("egressd.yaml:3:11: error: `team-*.yaml`: no file has such a path"),
        "{refused:?}"
    );
    bench.write("team-4.yaml", "limits: {tunnels: 1}\npolicies: []\n");
    let (_, refused) = turn(&mut bench);
    assert!(
        refused[0].starts_with("team-4.yaml:1:1: error: `limits` has no place in an included file"),
        "{refused:?}"
    );
    bench.write("team-4.yaml", &one);
    assert_eq!(turn(&mut bench), in_force(&["a.example"]), "corrected");
}

#[test]
fn the_same_files_change_nothing_and_count_as_a_success() {
    let mut bench = Bench::new(&listed(""), &[("list", "a.example\n")]);
    let before = bench.shared().current.in_force();
    let generation = bench.shared().live.generation();
    bench.reloader.turn(HUP);
    let after = bench.shared().current.in_force();
    assert!(Arc::ptr_eq(&before.config, &after.config));
    assert_eq!(before.since, after.since);
    assert!(after.last_reload.at >= before.last_reload.at && !Arc::ptr_eq(&before, &after));
    assert_eq!(bench.shared().live.generation(), generation, "nothing is judged again");
}

#[test]
fn a_reload_ends_the_tunnels_that_it_no_longer_allows_and_no_others() {
    let mut bench = Bench::new(&listed(""), &[("list", "a.example\nb.example\n")]);
    let (kept, revoked) = (bench.tunnel("a.example"), bench.tunnel("b.example"));
    bench.write("list", "a.example\n");
    bench.reloader.turn(Wakeup::default());
    assert_eq!(kept.cancel().ending(), None);
    assert_eq!(revoked.cancel().ending(), Some(Ending::PolicyRevoked));
    assert_eq!(revoked.tunnel().revoked(), Some(Reason::HostNotAllowed));
    // A refused one ends nothing.
    bench.write("list", "");
    bench.reloader.turn(Wakeup::default());
    assert_eq!(kept.cancel().ending(), None);
}

#[test]
fn who_was_decided_before_a_reload_or_an_expiry_is_told_to_be_judged_again() {
    let mut bench =
        Bench::new(&listed(", allow: [{to: c.example, expires: 2020-01-01}]"), &[("list", "a.example\n")]);
    let decided = bench.shared().live.generation();
    bench.write("list", "b.example\n");
    bench.reloader.turn(Wakeup::default());
    let reloaded = bench.shared().live.generation();
    assert!(reloaded > decided);
    bench.reloader.judged = Timestamp::UNIX_EPOCH;
    bench.reloader.turn(Wakeup::default());
    assert!(bench.shared().live.generation() > reloaded);
}

#[test]
fn an_expiry_is_judged_once_at_its_moment_and_again_when_the_clock_was_put_back() {
    let rules = ", allow: [{to: c.example, expires: 2020-01-01}, {to: d.example, expires: 2120-01-01}]";
    let mut bench = Bench::new(&listed(rules), &[("list", "a.example\n")]);
    let [kept, late, expired] = ["a.example", "d.example", "c.example"].map(|host| bench.tunnel(host));
    let moment = |text: &str| -> Timestamp { text.parse().expect("a moment") };
    bench.reloader.turn(Wakeup::default());
    assert_eq!(expired.cancel().ending(), None, "its moment was before the start");

    bench.reloader.judged = moment("2019-12-31T23:59:59Z");
    assert_eq!(bench.reloader.patience(), Duration::ZERO);
    bench.reloader.turn(Wakeup::default());
    assert_eq!(expired.tunnel().revoked(), Some(Reason::RuleExpired));
    assert_eq!((kept.cancel().ending(), late.cancel().ending()), (None, None));
    assert_eq!(bench.reloader.patience(), LOOK);

    let generation = bench.shared().live.generation();
    bench.reloader.turn(Wakeup::default());
    assert_eq!(bench.shared().live.generation(), generation, "once");
    // As if the clock had been at 2130 when it was last judged: the expiry of 2120 is still to come.
    bench.reloader.judged = moment("2130-01-01T00:00:00Z");
    bench.reloader.turn(Wakeup::default());
    assert!(bench.reloader.judged <= Timestamp::now());
}

#[test]
fn what_was_in_force_is_freed_here_once_no_request_needs_it() {
    let mut bench = Bench::new(&limit(3), &[]);
    let request = bench.shared().current.load();
    let weak: Weak<Config> = Arc::downgrade(&request);
    bench.configure(&limit(4));
    bench.reloader.turn(Wakeup::default());
    drop(request);
    assert!(weak.upgrade().is_some(), "not by the request");
    bench.reloader.turn(Wakeup::default());
    assert!(weak.upgrade().is_none());
}

#[test]
fn the_resolver_and_its_cache_stay_unless_dns_changes() {
    let mut bench = Bench::new("dns: {timeout: 2s}\n", &[]);
    let before = bench.shared().resolver();
    let followed = |bench: &Bench| bench.shared().resolver();
    bench.configure("dns: {timeout: 2s}\nlimits: {tunnels: 5}\n");
    bench.reloader.turn(Wakeup::default());
    assert!(Arc::ptr_eq(&before, &followed(&bench)));
    bench.configure("dns: {timeout: 3s}\n");
    bench.reloader.turn(Wakeup::default());
    assert_eq!(followed(&bench).settings().timeout, Duration::from_secs(3));
}

#[test]
fn a_refusal_that_needs_a_second_try_gets_one() {
    let mut bench = Bench::new(&limit(3), &[]);
    bench.configure("limits: {tunnels: 0}\n");
    bench.reloader.turn(Wakeup::default());
    assert!(!bench.refused().is_empty() && !bench.reloader.seen.contents_differ());
    // Long after it was read: a file that is written in the moment it is read is checked again in any case.
    let read_at = bench.reloader.read_at;
    let attempt = bench.shared().current.in_force();
    if let Some(long_ago) = read_at.checked_sub(RETRY) {
        bench.reloader.read_at = long_ago;
        bench.reloader.turn(Wakeup::default());
        assert!(bench.shared().current.in_force().last_reload.at > attempt.last_reload.at);
    }
}

#[test]
fn the_embedded_default_has_nothing_to_reload() {
    let directory = TempDir::new().expect("a directory");
    let mut bench = Bench::of(directory, None, load);
    let before = bench.shared().current.in_force();
    bench.reloader.turn(HUP);
    assert!(Arc::ptr_eq(&before, &bench.shared().current.in_force()));
}

#[test]
fn a_fault_while_reading_is_a_refusal_and_not_the_end_of_reading() {
    fn faulty(_: Option<&Path>) -> (Result<Loaded, Vec<Finding>>, Seen) {
        panic!("on purpose");
    }
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("egressd.yaml");
    fs::write(&file, ADDRESSES).expect("written");
    let bench = Bench::of(directory, Some(file), faulty);
    let shared = Arc::clone(bench.shared());
    let wakeups = Arc::clone(&bench.reloader.wakeups);
    let Bench { reloader, directory: _directory, _server, _runtime } = bench;
    wakeups.request();
    let running = thread::spawn(move || reloader.run());
    let deadline = Instant::now() + Duration::from_secs(30);
    while shared.current.in_force().last_reload.is_successful() {
        assert!(Instant::now() < deadline && !running.is_finished());
        thread::sleep(Duration::from_millis(5));
    }
    let refused = shared.current.in_force().last_reload.refused[0].to_string();
    assert!(refused.contains("egressd.yaml:1:1: error: a bug in egressd"), "{refused}");
    wakeups.stop();
    assert!(running.join().is_ok());
}
