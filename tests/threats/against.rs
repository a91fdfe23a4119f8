//! Runs the suite against any proxy: `against egressd|squid|tinyproxy [ROW…]` inside the namespace that `tests/threats/run`
//! makes, `table FILE…` for SECURITY.md. This is not a test, and `cargo test` does not run it.
//!
//! Each proxy has the deployment's own configuration: it allows only `.amazonaws.com`, by CONNECT to 443 and by plain HTTP
//! on port 80. The verdict is about what the client got and what the targets, the name server and the log saw.

#[path = "../support/mod.rs"]
mod support;

mod suite;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use suite::case::{Case, Harm};
use suite::cases;
use suite::drive::{Patience, drive};
use suite::table::{self, Measured};
use suite::verdict::verdict;
use suite::world::{Mark, News, World};
use support::{DEADLINE, directory, read, until, write};

/// How long a proxy that leaves the connection open must be quiet before silence is the result of a case. Silence is not an
/// event to wait for: it needs a time, and every case that ends in silence costs this time. If nothing at all has come by
/// then, the proxy may only be slow, and [`PATIENT`] decides.
const QUIET: Duration = Duration::from_millis(400);
/// More than the 2 s after which egressd gives up on a silent client; the other two proxies never do.
const PATIENT: Duration = Duration::from_secs(3);
/// The pause between a case that did harm and its repetition. Late effects of the case before are on their way between the
/// proxy and its targets, and nothing says when the last of them has passed. So the pause is longer than the wait in which
/// everything settles.
const LATE: Duration = Duration::from_secs(1);
/// The row on silence, for which the suite waits longer.
const WAITS: u8 = 14;
/// After the client has its answer, the proxy still dials, sends and logs. The suite waits until nothing new has come for
/// this long.
const SETTLED: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["table", ref files @ ..] => write_table(files),
        [name @ ("egressd" | "squid" | "tinyproxy"), ref rows @ ..] => measure(name, rows),
        _ => {
            eprintln!("usage: egressd|squid|tinyproxy [ROW…], or table FILE…");
            ExitCode::from(2)
        }
    }
}

/// A proxy that runs until this value is dropped.
struct Proxy {
    child: Child,
    log: PathBuf,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    fn start(name: &str, world: &World, home: &Path) -> Self {
        let log = home.join("access.log");
        let mut command = match name {
            "egressd" => egressd(world, home),
            "squid" => squid(home),
            _ => tinyproxy(home),
        };
        let output = File::options().create(true).append(true).open(home.join("output")).expect("a file");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a descriptor"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        until("the proxy to listen", || {
            assert!(child.try_wait().expect("our child").is_none(), "{}", read(&home.join("output")));
            TcpStream::connect_timeout(&address(), DEADLINE).is_ok().then_some(())
        });
        Proxy { child, log }
    }

    fn written(&self) -> Vec<u8> {
        std::fs::read(&self.log).unwrap_or_default()
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
            && TcpStream::connect_timeout(&address(), DEADLINE).is_ok()
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 3128))
}

fn egressd(world: &World, home: &Path) -> Command {
    let file = home.join("egressd.yaml");
    write(&file, world.config() + "access_log: {output: access.log}\ntunnel: {client_hello_timeout: 2s}\n");
    let mut command = support::command();
    command.arg("run").arg("--config").arg(file);
    command
}

fn squid(home: &Path) -> Command {
    let at = home.display();
    write(&home.join("whitelist"), ".amazonaws.com\n");
    let file = home.join("squid.conf");
    let text = format!(
        "http_port 127.0.0.1:3128
acl localnet src 127.0.0.0/8
acl SSL_ports port 443
acl Safe_ports port 80
acl Safe_ports port 443
acl CONNECT method CONNECT
acl whitelist dstdomain \"{at}/whitelist\"
acl hasRequest has request
http_access deny !Safe_ports
http_access deny CONNECT !SSL_ports
http_access allow localnet whitelist
http_access deny all
logformat deployment %{{%Y/%m/%d %H:%M:%S}}tl| %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt
access_log none !hasRequest
access_log stdio:{at}/access.log deployment
cache deny all
cache_log {at}/cache.log
pid_filename {at}/squid.pid
coredump_dir {at}
visible_hostname unknown
forwarded_for off
request_header_access User-Agent deny all
request_header_access Referer deny all
request_header_access X-Forwarded-For deny all
request_header_access Via deny all
request_header_access Cache-Control deny all
shutdown_lifetime 0 seconds
"
    );
    write(&file, text.replace("acl CONNECT method CONNECT\n", ""));
    let mut command = Command::new("squid");
    command.args(["-N", "-f"]).arg(file);
    command
}

fn tinyproxy(home: &Path) -> Command {
    let at = home.display();
    write(&home.join("filter"), "(^|\\.)amazonaws\\.com$\n");
    let file = home.join("tinyproxy.conf");
    let text = format!(
        "Port 3128
Listen 127.0.0.1
Timeout 600
Allow 127.0.0.0/8
ConnectPort 443
Filter \"{at}/filter\"
FilterExtended On
FilterDefaultDeny Yes
DisableViaHeader Yes
LogFile \"{at}/access.log\"
LogLevel Connect
MaxClients 100
"
    );
    write(&file, text);
    let mut command = Command::new("tinyproxy");
    command.args(["-d", "-c"]).arg(file);
    command
}

/// Sends every case, or those of some rows, and prints `ROW<TAB>CASE<TAB>VERDICT` for each.
fn measure(name: &str, rows: &[&str]) -> ExitCode {
    let world = World::in_namespace();
    let home = directory();
    // Squid, which starts as root, writes its files as another user.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(home.path(), mode).expect("it is ours");
    let mut proxy = Proxy::start(name, &world, home.path());
    println!("{}", version(name));
    let mut surprises = 0;
    let is_wanted = |case: &Case| rows.is_empty() || rows.contains(&case.row.to_string().as_str());
    for case in cases::all().iter().filter(|case| is_wanted(case)) {
        let (mut came, mut detail) = send(case, &world, &proxy);
        // After its first question a name may be in a cache.
        if is_bad(&came) && !matches!(case.harm, Harm::Asked(_)) {
            // It may be a late effect of the case before.
            std::thread::sleep(LATE);
            (came, detail) = send(case, &world, &proxy);
        }
        if !proxy.is_alive() {
            came = "crashed".to_owned();
            drop(proxy);
            proxy = Proxy::start(name, &world, home.path());
        }
        println!("{}\t{}\t{came}", case.row, case.what);
        if is_bad(&came) != case.unstoppable {
            surprises += 1;
            if name == "egressd" {
                eprintln!("row {}, {}: {came}: {detail}", case.row, case.what);
            }
        }
    }
    // The proxy must work at all: otherwise every refusal would mean nothing.
    let right = suite::case::case(0, "right").tunnel("{OK}", suite::hello::real(suite::hello::OK));
    let said = drive(address(), &right, &world, Patience::Quiet(QUIET)).unwrap_or_default();
    let works = said.tail.starts_with(&[22, 3]);
    if !works {
        eprintln!("{name}: an allowed tunnel does not work: {said:?}\n{}", read(&home.path().join("output")));
    }
    eprintln!("{name}: {surprises} cases did harm or broke something");
    ExitCode::from(u8::from(!works || name == "egressd" && surprises > 0))
}

/// Sends one case: its verdict, and what led to it.
fn send(case: &Case, world: &World, proxy: &Proxy) -> (String, String) {
    let mark = world.mark();
    let written = proxy.written().len();
    let quiet = if case.row == WAITS { PATIENT } else { QUIET };
    let mut said = drive(address(), case, world, Patience::Quiet(quiet)).unwrap_or_default();
    if said.end.is_none() && said.all().is_empty() {
        // Is it slow, or silent for ever?
        said = drive(address(), case, world, Patience::Quiet(PATIENT)).unwrap_or_default();
    }
    let (news, log) = settled(world, &mark, proxy);
    let came = verdict(case, world, &said, &news, log.get(written..).unwrap_or_default());
    (came, format!("{said:?} {news:?}"))
}

/// What came since `mark`, and the log, once neither grows any more.
fn settled(world: &World, mark: &Mark, proxy: &Proxy) -> (News, Vec<u8>) {
    let look = || (world.since(mark), proxy.written());
    let size = |(news, log): &(News, Vec<u8>)| {
        let bytes: usize = news.reached.iter().map(|seen| seen.bytes.len()).sum();
        let ended = news.reached.iter().filter(|seen| seen.ended).count();
        (news.reached.len(), bytes, ended, news.asked.len(), news.inside.len(), log.len())
    };
    let (begun, mut before) = (Instant::now(), look());
    loop {
        std::thread::sleep(SETTLED);
        let now = look();
        // A proxy that never settles is judged by what it has done so far.
        if size(&now) == size(&before) || begun.elapsed() > PATIENT {
            return now;
        }
        before = now;
    }
}

/// What should not happen.
fn is_bad(verdict: &str) -> bool {
    table::badness(verdict) == 0 || verdict == "accepted"
}

/// The title of the column.
fn version(name: &str) -> String {
    let output = Command::new(name).arg("-v").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let is_version =
        |word: &&str| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.');
    let number = text.split_whitespace().find(is_version).unwrap_or("").to_owned();
    match name {
        "squid" => format!("Squid {number}"),
        "tinyproxy" => format!("tinyproxy {number}"),
        _ => "egressd".to_owned(),
    }
}

/// Writes SECURITY.md's table from what [`measure`] printed.
fn write_table(files: &[&str]) -> ExitCode {
    let measured = |file: &&str| {
        let text = read(Path::new(file));
        let mut lines = text.lines();
        let name = lines.next().unwrap_or_default().to_owned();
        let verdicts: BTreeMap<_, _> = lines
            .filter_map(|line| {
                let mut parts = line.split('\t');
                let row = parts.next()?.parse().ok()?;
                Some(((row, parts.next()?.to_owned()), parts.next()?.to_owned()))
            })
            .collect();
        Measured { name, verdicts }
    };
    let table = table::render(&files.iter().map(measured).collect::<Vec<_>>());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("SECURITY.md");
    match table::place(&read(&path), &table) {
        Some(text) => write(&path, text),
        None => {
            eprintln!("SECURITY.md has no place for the table: {} … {}", table::BEGIN, table::END);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
