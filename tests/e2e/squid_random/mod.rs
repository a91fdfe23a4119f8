//! Random Squid configurations, each run by Squid and, imported, by egressd: what Squid refuses egressd refuses, and what egressd
//! refuses beyond that was told at a line that took part in Squid's verdict.
//!
//! Squid's own log says which of its lines made the verdict. `tests/long/squid_random` runs thousands; the number of a
//! configuration is its seed, and a failure names it.

mod addresses;
mod generate;
mod quoted;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use egressd::commands::import::squid::{self as import, Choices, Files, NoteKind};
use egressd::config;
use egressd::rules::Scheme;
use egressd::words::client::Client;
use egressd::words::target::Target;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::dns::Dnsmasq;
use crate::network::Network;
use crate::squid;
use crate::support::{Egressd, Numbers, command, directory, read, until, write};
use crate::tool::isolate;
use generate::{CLIENTS, Configuration, HOSTS, Request};

/// The first port of each; the second is the next one.
const SQUID: u16 = 3128;
const SECOND: u16 = SQUID + 1;
const EGRESSD: u16 = 4128;
/// The listeners that become of Squid's two ports.
const LISTENERS: [&str; 2] = ["people", "proxy"];
/// A parent proxy that answers 502.
const PARENT: u16 = 5128;
const REQUESTS: usize = 100;

/// Sends the requests of a line of JSON, each from its client's address, and prints the statuses; of Squid with what its log says of
/// each: the rule that matched.
const ASK: &str = r#"
import json, re, socket, sys, threading, time

def answer(stream):
    with stream:
        head = b""
        while b"\r\n\r\n" not in head:
            more = stream.recv(65536)
            if not more:
                return
            head += more
        stream.sendall(b"HTTP/1.1 502 parent\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

def parent():
    with socket.create_server(("127.0.0.1", 5128), backlog=128) as listening:
        while True:
            threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

threading.Thread(target=parent, daemon=True).start()

def accepts(port):
    # Squid says so a little before it does.
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.002)

def ask(port, client, method, target):
    six = ":" in client
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET) as s:
        s.settimeout(20)
        s.bind((client, 0))
        s.connect(("::1" if six else "127.0.0.1", port))
        host = target.split("://")[-1].split("/")[0]
        length = "Content-Length: 0\r\n" if method == "POST" else ""
        s.sendall(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}Connection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            more = s.recv(65536)
            if not more:
                break
            head += more
    head = head.decode("latin-1")
    error = re.search(r"X-Squid-Error: (\S+)", head)
    return [int(head.split(" ")[1]), error.group(1) if error else ""]

for line in sys.stdin:
    work = json.loads(line)
    log = open(work["log"], errors="replace") if work["log"] else None
    answers = []
    accepts(work["port"])
    accepts(work["port"] + 1)
    if log:
        log.read()
    for client, method, target, door in work["requests"]:
        try:
            said = ask(work["port"] + door, client, method, target)
        except OSError as error:
            said = [0, str(error)]
        rules = re.findall(r"checked: http_access#(\d+) = 1", log.read()) if log else []
        answers.append(said + [int(rules[-1]) if rules else 0])
    print(json.dumps(answers), flush=True)
"#;

/// A verdict, and the rule of Squid's that made it; 0: none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Verdict {
    passes: bool,
    rule: usize,
}

/// A network with clients of both families, in which Squid and egressd run in turn.
struct Arena {
    network: Network,
    _dns: Dnsmasq,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Arena {
    /// `names` with their addresses, as DNS tells them.
    fn new(names: &[(&str, &str)]) -> Self {
        let addresses: String = CLIENTS
            .iter()
            .filter(|client| !["127.0.0.1", "127.0.0.2", "::1"].contains(*client))
            .map(|client| {
                format!("ip address add {client}/{} dev lo; ", if client.contains(':') { 128 } else { 32 })
            })
            .collect();
        // Squid looks `localhost` up when it starts.
        let hosts = "printf '127.0.0.1 localhost\\n::1 localhost\\n' > \"$HOME/hosts\"; mount --bind \"$HOME/hosts\" /etc/hosts";
        let network = Network::with("nameserver 127.0.0.1\n", &format!("{addresses}{hosts}"));
        let launch = |program: &str| network.command(program);
        let dns = Dnsmasq::start(launch, ([127, 0, 0, 1], 53).into(), names);
        let script = network.home().join("ask.py");
        write(&script, ASK);
        let mut python = launch("python3");
        let mut child = python
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/run installs python3");
        let to = child.stdin.take().expect("piped");
        let from = BufReader::new(child.stdout.take().expect("piped"));
        Arena { network, _dns: dns, child, to, from }
    }

    fn ask(&mut self, port: u16, log: Option<&Path>, requests: &[Request]) -> Vec<(u64, String, usize)> {
        let asked: Vec<Value> = requests
            .iter()
            .map(|asked| json!([asked.client, asked.method, asked.target, asked.door]))
            .collect();
        let work = json!({"port": port, "log": log, "requests": asked});
        writeln!(self.to, "{work}").and_then(|()| self.to.flush()).expect("python reads");
        let mut line = String::new();
        self.from.read_line(&mut line).expect("python answers");
        let answers: Vec<(u64, String, usize)> = serde_json::from_str(&line).expect("a line of JSON");
        assert_eq!(answers.len(), requests.len());
        answers
    }

    /// None: Squid refuses the configuration.
    fn squid(&mut self, home: &Path, number: u64, requests: &[Request]) -> Option<Vec<Verdict>> {
        let network = &self.network;
        let service = format!("random{}x{number}", std::process::id());
        let daemon = squid::start(&|program: &str| network.command(program), home, &service)?;
        let answers = self.ask(SQUID, Some(&home.join("cache.log")), requests);
        // It holds nothing that matters, and would take its time to leave.
        daemon.signal(Signal::KILL);
        drop(daemon);
        let verdict = |(status, error, rule): (u64, String, usize)| {
            assert!(
                (500..600).contains(&status) || status == 403,
                "configuration {number}: Squid answered {status} {error}: {}",
                read(&home.join("cache.log"))
            );
            // The second: neither directly nor to a parent.
            Verdict { passes: !["ERR_ACCESS_DENIED", "ERR_CANNOT_FORWARD"].contains(&&*error), rule }
        };
        Some(answers.into_iter().map(verdict).collect())
    }

    fn egressd(&mut self, yaml: &str, requests: &[Request]) -> Vec<bool> {
        let own = directory();
        let file = own.path().join("egressd.yaml");
        let mut text = yaml.to_owned();
        for door in [0, 1] {
            let (of_squid, own) = (format!("[::]:{}", SQUID + door), format!("[::]:{}", EGRESSD + door));
            assert!(text.contains(&of_squid), "a port alone is a port of both families");
            text = text.replace(&of_squid, &own);
        }
        write(&file, text);
        let mut egressd = self.network.command(command().get_program().to_str().expect("a path in UTF-8"));
        isolate(&mut egressd, own.path());
        egressd.arg("run").arg("--config").arg(&file);
        let proxy = Egressd::spawn(own, egressd);
        until("egressd to listen", || {
            let said = proxy.stderr();
            [0, 1].iter().all(|door| said.contains(&format!("[::]:{}", EGRESSD + door))).then_some(())
        });
        let answers = self.ask(EGRESSD, None, requests);
        let verdict = |((status, ..), request): ((u64, String, usize), &Request)| {
            // Nothing listens at the targets: what passes ends at the dial.
            assert!(
                [403, 502, 504].contains(&status),
                "egressd answered {status} to {request:?}: {}",
                proxy.stderr()
            );
            status != 403
        };
        answers.into_iter().zip(requests).map(verdict).collect()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often what happened.
#[derive(Default, Debug)]
struct Counts {
    refused: u64,
    both_pass: u64,
    both_refuse: u64,
    /// Refused by egressd alone, which was told.
    told: u64,
    /// Tunnels that Squid refuses, and that carry plain requests to a host that Squid lets through as they are.
    carried: u64,
}

/// Which of these tunnels, with their numbers, an `http` rule carries where Squid lets a plain request to the same host and port
/// through: nothing else comes out of them.
fn carried<'r>(
    arena: &mut Arena,
    (home, number): (&Path, u64),
    yaml: &str,
    tunnels: impl Iterator<Item = (usize, &'r Request)>,
) -> HashSet<usize> {
    let read = |path: &Path| std::fs::read(path);
    let config = config::load_str("egressd.yaml", yaml, read).expect("egressd runs with it").config;
    let by_http = |request: &Request| {
        let mut client = Client::direct((request.client.parse::<IpAddr>().expect("an address"), 4711).into());
        client.listener = Some(LISTENERS[usize::from(request.door)].into());
        let target = Target::connect(&request.target).expect("a target");
        config
            .policies
            .decide(&target, &client, jiff::Timestamp::now())
            .is_ok_and(|p| p.scheme == Scheme::Http)
    };
    let (numbers, plain): (Vec<usize>, Vec<Request>) = tunnels
        .filter(|(_, request)| by_http(request))
        .map(|(at, request)| {
            let target = format!("http://{}/", request.target);
            (at, Request { method: "GET", target, ..request.clone() })
        })
        .unzip();
    if plain.is_empty() {
        return HashSet::new();
    }
    std::fs::remove_file(home.join("cache.log")).expect("Squid's");
    let verdicts = arena.squid(home, number, &plain).expect("Squid took it before");
    numbers.into_iter().zip(verdicts).filter(|(_, squid)| squid.passes).map(|(at, _)| at).collect()
}

/// One configuration. What is wrong is a panic that names its number.
fn compare(arena: &mut Arena, number: u64) -> Counts {
    let home = directory();
    let path = home.path();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    let mut numbers = Numbers::from(number);
    let made = generate::configuration(&mut numbers, path);
    let requests: Vec<Request> = (0..REQUESTS).map(|_| generate::request(&mut numbers)).collect();
    let hosts: String = HOSTS.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    write(&path.join("hosts"), hosts);
    let at = path.display();
    let rest = format!(
        "http_port {SQUID} name=people\nhttp_port {SECOND}\nhosts_file {at}/hosts\ndns_nameservers 127.0.0.1\npid_filename {at}/pid\n\
         cache_log {at}/cache.log\naccess_log none\ncache_mem 8 MB\npinger_enable off\nnetdb_filename none\n\
         shutdown_lifetime 0 seconds\nvisible_hostname squid.test\ndebug_options ALL,1 28,3\n"
    );
    let file = path.join("squid.conf");
    write(&file, format!("{}{rest}", made.text));
    let choices = Choices::default();
    let name = file.display().to_string();
    let imported = import::squid(&Files::on_disk(None), &name, choices)
        .unwrap_or_else(|error| panic!("configuration {number} is not imported: {error}\n{}", made.text));
    let Some(verdicts) = arena.squid(path, number, &requests) else {
        return Counts { refused: 1, ..Counts::default() };
    };
    let passes = arena.egressd(&imported.yaml, &requests);
    let beyond = |(((request, squid), passes), _): &(((&Request, &Verdict), &bool), usize)| {
        !squid.passes && **passes && request.method == "CONNECT"
    };
    let tunnels = requests.iter().zip(&verdicts).zip(&passes).zip(0..).filter(beyond);
    let carried =
        carried(arena, (path, number), &imported.yaml, tunnels.map(|((asked, _), at)| (at, asked.0)));
    let mut counts = Counts::default();
    for (at, ((request, squid), passes)) in requests.iter().zip(&verdicts).zip(passes).enumerate() {
        let all = || {
            let told: String = imported.notes.iter().map(|note| format!("{note}\n")).collect();
            format!(
                "configuration {number}: {request:?}\nSquid: {squid:?}\n{}\n{}\n{told}",
                made.text, imported.yaml
            )
        };
        match (squid.passes, passes) {
            (true, true) => counts.both_pass += 1,
            (false, true) if carried.contains(&at) => counts.carried += 1,
            (false, false) => counts.both_refuse += 1,
            (false, true) => panic!("wider: {}", all()),
            (true, false) => {
                assert!(
                    is_told(&made, &imported.notes, &name, request, squid.rule),
                    "narrower, and not told: {}",
                    all()
                );
                counts.told += 1;
            }
        }
    }
    counts
}

/// Whether a note says that requests are refused now, at a line that took part in the verdict.
fn is_told(made: &Configuration, notes: &[import::Note], conf: &str, request: &Request, rule: usize) -> bool {
    // No rule matched: all took part.
    let rule = if rule == 0 { made.rules.len() } else { rule };
    let (lines, files) = made.took_part(conf, rule);
    notes.iter().any(|note| {
        let here = if *note.file == *conf { lines.contains(&note.line) } else { files.contains(&*note.file) };
        let of_literals = note.kind == NoteKind::Differs && note.text.contains("PTR names");
        here && (note.kind == NoteKind::Stricter || (request.literal && of_literals))
    })
}

#[test]
fn random_configurations_are_never_wider_than_squid_and_never_narrower_without_a_word() {
    let setting = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number in the environment"))
    };
    let first = setting("EGRESSD_TEST_SQUID_FIRST", 1);
    let count = setting("EGRESSD_TEST_SQUID_COUNT", 40);
    let next = AtomicU64::new(first);
    let workers: Vec<Counts> = std::thread::scope(|scope| {
        let work = || {
            let mut arena = Arena::new(&[]);
            let mut sum = Counts::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= first + count {
                    return sum;
                }
                let counts = compare(&mut arena, number);
                sum.refused += counts.refused;
                sum.both_pass += counts.both_pass;
                sum.both_refuse += counts.both_refuse;
                sum.told += counts.told;
                sum.carried += counts.carried;
            }
        };
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let sum = |of: fn(&Counts) -> u64| workers.iter().map(of).sum::<u64>();
    let (refused, both_pass) = (sum(|counts| counts.refused), sum(|counts| counts.both_pass));
    let (both_refuse, told) = (sum(|counts| counts.both_refuse), sum(|counts| counts.told));
    let carried = sum(|counts| counts.carried);
    let requests = both_pass + both_refuse + told + carried;
    println!(
        "{count} configurations, of which Squid refuses {refused}; {requests} requests: both let {both_pass} through and refuse \
         {both_refuse}; egressd refuses {told} more, each told, and carries plain requests in {carried} tunnels"
    );
    // Otherwise an import that denies all would do.
    assert!(refused * 4 <= count, "{refused} of {count} are no configurations");
    assert!(
        both_pass * 20 >= requests && both_refuse * 10 >= requests,
        "{both_pass} and {both_refuse} of {requests}"
    );
    assert!(told * 2 <= requests, "{told} of {requests}");
}
