//! Random Squid configurations of the kinds that are easy to read wrongly, and random requests.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::support::Numbers;

/// Names, and the one address that each resolves to.
pub(super) const HOSTS: &[(&str, &str)] = &[
    ("example.com", "52.1.1.1"),
    ("a.example.com", "52.1.1.2"),
    ("b.a.example.com", "52.1.1.3"),
    ("www.example.com", "52.2.0.1"),
    ("ads1.example.com", "52.2.0.2"),
    ("evilexample.com", "52.2.0.3"),
    ("example.org", "52.3.0.2"),
    ("x.example.org", "52.3.0.1"),
    ("six.example.org", "2600::1"),
    ("zoom.us", "52.4.0.1"),
    ("foo.zoom.us", "2600::2"),
    ("other.test", "52.9.9.9"),
];
/// Addresses that are asked for as they are.
const LITERALS: &[&str] = &["52.1.1.1", "52.1.1.77", "52.9.9.9", "10.17.0.9", "[2600::1]", "[2600::77]"];
pub(super) const CLIENTS: &[&str] = &[
    "10.0.0.4",
    "10.0.0.9",
    "10.0.0.65",
    "10.1.2.3",
    "10.1.3.9",
    "10.2.0.1",
    "10.200.0.1",
    "192.168.1.5",
    "172.16.9.9",
    "127.0.0.1",
    "127.0.0.2",
    "::1",
    "::5",
    "2001:db8::20",
    "2001:db8:1::1",
    "2a01:4f8::20",
    "fd00::5",
    "fec0::7",
];
const PORTS: &[u16] = &[443, 443, 443, 80, 80, 8080, 22];

const SRC: &[&str] = &[
    "10.0.0.64/26",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3",
    "10.1.2.3/16",
    "10.1.2.0-10.1.3.255",
    "10.0.0.0-10.2.0.0/16",
    "10.0.0.4-10.0.0.9",
    "10.0.0.9-10.0.0.4",
    "10.0.0.4-10.0.0.9/24",
    "10.0.0.0/255.0.0.0",
    "10.0.0.0/255.0.255.0",
    "10.0.0.0/0",
    "10.0.0.0/8#office",
    "10.0.0.4/x",
    "192.168.0.0/255.255.0.0",
    "192.168.1.5",
    "172.16.0.0/12",
    "0.0.0.0/0",
    "0/0",
    "0.0.0.0/0.0.0.0",
    "0.0.0.0-255.255.255.255",
    "0.0.0.0/1",
    "::/0",
    "::/3",
    "::/64",
    "::ffff:a00:0/104",
    "all",
    "ipv4",
    "ipv6",
    "2001:db8::/32",
    "2001:db8::20",
    "2001:db8::-2001:db8:1::1",
    "fd00::/8",
    "fc00::/7",
    "fec0::/10",
    "127.0.0.1",
    "127.0.0.0/8",
    "::1",
    "localhost",
];
const DST: &[&str] = &[
    "52.1.0.0/16",
    "52.1.1.1",
    "52.1.1.1-52.2.0.9",
    "52.0.0.0/8",
    "52.9.9.9/24",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "0/0",
    "::/0",
    "all",
    "ipv4",
    "ipv6",
    "2600::/16",
    "2600::1",
    "2000::/3",
];
const DOMAINS: &[&str] = &[
    "example.com",
    ".example.com",
    ".EXAMPLE.com",
    "a.example.com",
    ".a.example.com",
    "b.a.example.com",
    "WWW.Example.Com",
    ".example.org",
    "x.example.org",
    "six.example.org",
    "zoom.us",
    ".us",
    "other.test",
    "a.example.com.",
    ".example.org.",
    "www.example.com#x",
    "52.1.1.1",
    "10.17.0.9",
    "052.1.1.1",
    ".9.9",
    "[2600::1]",
    "2600::1",
    "[2600:0::1]",
];
const PATTERNS: &[&str] = &[
    r"^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$",
    r"^\[?[0-9a-fA-F:]+\]?$",
    r"example\.com",
    r"example\.com$",
    "example.org",
    r"zoom.us",
    r"\.example\.(com|org)$",
    r"(^|\.)example\.com$",
    r"^(www\.)?example\.com$",
    r"^www\.",
    r"^ads[0-9]*\.",
    r"^(.*\.)?zoom\.us$",
    r"^a\.example\.com$",
    r"EXAMPLE\.COM",
    r"-i EXAMPLE\.ORG",
    r"-i WWW +i ZOOM",
    "evil|ads",
    r"^52\.",
    r"\.us$",
    "other",
    r"\d",
    r"[[:digit:]]\.example",
    r"[Zz]oo{1,2}m\.us$",
    r"^x\.[a-z]+\.org$",
    ".",
    "(",
    r"(o)\1",
    "zoom#us",
];
const URLS: &[&str] = &[
    r"example\.com",
    r"^http://www\.example\.com/",
    r"^https?://",
    r"^a\.example\.com:443$",
    ":443",
    r"\.exe$",
    "-i ADS",
    r":8080",
    r"^http://[^/]*example\.org[:/]",
    "zoom",
];
/// For paths, of which a CONNECT has none.
const PATHS: &[&str] = &[".", ".*", "^/", "^$", r"\.exe$", "-i EXE", "^[^/]"];
const PORT_LISTS: &[&str] = &["443", "80 443", "1-1023", "1025-65535", "8080", "22 80"];
const WAYS: &[&str] = &[
    "method CONNECT",
    "method connect",
    "method GET",
    "method GET POST",
    "method get CONNECT",
    "proto HTTP",
];
/// Of the ports [`crate::squid_random`] has.
const DOORS: &[&str] = &[
    "myportname people",
    "myportname 3129",
    "myportname People 3128",
    "myportname nobody 3129",
    "localport 3129",
    "localport 3000-3128",
    "localport 80 3128-3129",
];
const NAMES: &[&str] = &["ok", "Office", "bad", "SSL_ports", "s", "Team-1", "lists.all", "dmz"];
const BUILT_IN: &[&str] = &["all", "localhost", "CONNECT", "manager", "to_localhost"];

/// A configuration, and what its lines are.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) text: String,
    /// The line of each `http_access`, with the names of its lists.
    pub(super) rules: Vec<(u32, Vec<String>)>,
    /// The lines of each list, by its name in small letters, with the names of the lists in it and the files of its values.
    pub(super) lists: Vec<(String, u32, Vec<String>, Option<String>)>,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) client: &'static str,
    pub(super) method: &'static str,
    pub(super) target: String,
    /// 0 for the first port, 1 for the second.
    pub(super) door: u16,
    /// The host is an address.
    pub(super) literal: bool,
}

/// Some letters become capital, others small.
fn cased(numbers: &mut Numbers, text: &str) -> String {
    if numbers.chance(50) {
        return text.to_owned();
    }
    let mut case = |c: char| if numbers.chance(50) { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    text.chars().map(&mut case).collect()
}

struct Writer<'a> {
    numbers: &'a mut Numbers,
    directory: &'a Path,
    lines: u32,
    made: Configuration,
}

/// Makes a configuration; files that it names are written into the directory.
pub(super) fn configuration(numbers: &mut Numbers, directory: &Path) -> Configuration {
    let made = Configuration { text: String::new(), rules: Vec::new(), lists: Vec::new() };
    let mut writer = Writer { numbers, directory, lines: 0, made };
    let count = 2 + writer.numbers.below(5);
    let mut names: Vec<&str> = Vec::new();
    for (number, name) in NAMES.iter().take(count).enumerate() {
        match number {
            // Without a list of hosts nothing can be allowed.
            0 => writer.domains(name),
            1 => writer.values(name, "src", "", SRC),
            _ => writer.list(name, &names),
        }
        names.push(name);
    }
    // What is built in can be added to, too.
    if writer.numbers.chance(15) {
        let value = writer.numbers.one(SRC);
        let name = cased(writer.numbers, "localhost");
        writer.line(&name, "src", value, None);
    }
    let rules = 2 + writer.numbers.below(6);
    for _ in 0..rules {
        writer.rule(&names);
    }
    match writer.numbers.below(10) {
        0 => writer.access("allow", &["all".to_owned()]),
        1 | 2 => {}
        _ => writer.access("deny", &["all".to_owned()]),
    }
    writer.routes(&names);
    writer.made
}

impl Writer<'_> {
    fn push(&mut self, line: &str) -> u32 {
        writeln!(self.made.text, "{line}").expect("a String takes all");
        self.lines += 1;
        self.lines
    }

    fn line(&mut self, name: &str, kind: &str, values: &str, file: Option<String>) {
        let parts = match kind {
            "any-of" | "all-of" => {
                values.split(' ').map(|part| part.trim_start_matches('!').to_lowercase()).collect()
            }
            _ => Vec::new(),
        };
        let line = self.push(&format!("acl {name} {kind} {values}"));
        self.made.lists.push((name.to_lowercase(), line, parts, file));
    }

    fn list(&mut self, name: &str, earlier: &[&str]) {
        let kind = self.numbers.below(22);
        match kind {
            20 | 21 => {
                let (kind, values) = self.numbers.one(DOORS).split_once(' ').expect("two words");
                self.line(name, kind, values, None);
            }
            0..=5 => self.values(name, "src", "", SRC),
            6..=9 => self.domains(name),
            10 | 11 => {
                let option = if self.numbers.chance(25) { "-n " } else { "" };
                self.values(name, "dst", option, DST);
            }
            12..=14 => {
                let option = if self.numbers.chance(60) { "-n " } else { "" };
                self.values(name, "dstdom_regex", option, PATTERNS);
            }
            15 if self.numbers.chance(50) => self.values(name, "urlpath_regex", "", PATHS),
            15 => self.values(name, "url_regex", "", URLS),
            16 | 17 => {
                let values = self.numbers.one(PORT_LISTS);
                self.line(name, "port", values, None);
            }
            18 => {
                let (kind, values) = self.numbers.one(WAYS).split_once(' ').expect("two words");
                self.line(name, kind, values, None);
            }
            _ => {
                let kind = if self.numbers.chance(50) { "any-of" } else { "all-of" };
                let parts: Vec<String> = (0..2).map(|_| self.literal(earlier)).collect();
                self.line(name, kind, &parts.join(" "), None);
            }
        }
        // Squid refuses another type under the same name.
        if self.numbers.chance(2) {
            let name = cased(self.numbers, name);
            self.line(&name, "port", "443", None);
        }
    }

    /// One to four values: on a line, on several, or in a file.
    fn values(&mut self, name: &str, kind: &str, option: &str, from: &[&str]) {
        let count = 1 + self.numbers.below(4);
        let values: Vec<&str> = (0..count).map(|_| self.numbers.one(from)).collect();
        self.written(name, kind, option, &values);
    }

    fn written(&mut self, name: &str, kind: &str, option: &str, values: &[&str]) {
        let several = self.numbers.chance(25);
        let flags = values.iter().any(|value| value.starts_with("-i"));
        if self.numbers.chance(25) && !flags {
            let path = self.directory.join(format!("{name}.list")).display().to_string();
            let mut content = String::from("# a list\n\n");
            for value in values {
                let comment = self.numbers.one(&["", "", " # why", "\t#x", " "]);
                writeln!(content, "{value}{comment}").expect("a String takes all");
            }
            crate::support::write(Path::new(&path), content);
            let behind = if self.numbers.chance(10) { " .example.com" } else { "" };
            let values = format!("{option}\"{path}\"{behind}");
            return self.line(name, kind, &values, Some(path));
        }
        if several {
            for value in values {
                let name = cased(self.numbers, name);
                self.line(&name, kind, &format!("{option}{value}"), None);
            }
            return;
        }
        self.line(name, kind, &format!("{option}{}", values.join(" ")), None);
    }

    /// Domains of which none is under another: such a list Squid refuses, in most orders.
    fn domains(&mut self, name: &str) {
        let option = if self.numbers.chance(50) { "-n " } else { "" };
        let mut values: Vec<&str> = Vec::new();
        for _ in 0..2 + self.numbers.below(5) {
            let value = self.numbers.one(DOMAINS);
            let bare = |value: &str| value.trim_start_matches('.').to_lowercase();
            let under = |one: &str, other: &str| {
                bare(one) == bare(other) || bare(one).ends_with(&format!(".{}", bare(other)))
            };
            if self.numbers.chance(2)
                || !values.iter().any(|other| under(value, other) || under(other, value))
            {
                values.push(value);
            }
        }
        self.written(name, "dstdomain", option, &values);
    }

    fn literal(&mut self, names: &[&str]) -> String {
        let name = if names.is_empty() || self.numbers.chance(25) {
            self.numbers.one(BUILT_IN)
        } else {
            names[self.numbers.below(names.len())]
        };
        let not = if self.numbers.chance(25) { "!" } else { "" };
        format!("{not}{}", cased(self.numbers, name))
    }

    fn rule(&mut self, names: &[&str]) {
        let allow = self.numbers.chance(65);
        let action = if allow { "allow" } else { "deny" };
        let count = 1 + self.numbers.below(2 + usize::from(!allow));
        let mut literals: BTreeSet<String> = (0..count).map(|_| self.literal(names)).collect();
        if allow && self.numbers.chance(75) {
            literals.insert(cased(self.numbers, NAMES[0]));
        }
        self.access(action, &literals.into_iter().collect::<Vec<_>>());
    }

    /// By which way requests go. A parent looks names up, so that lists of addresses decide otherwise then, which is told.
    fn routes(&mut self, names: &[&str]) {
        if !self.numbers.chance(35) {
            return;
        }
        let leads =
            self.made.text.contains(" dst ") || self.made.text.to_lowercase().contains("to_localhost");
        let parent = !leads && self.numbers.chance(70);
        if parent {
            self.push(&format!(
                "cache_peer 127.0.0.1 parent {} 0 no-query no-digest name=up connect-fail-limit=1000000",
                super::PARENT
            ));
        }
        for directive in ["always_direct", "never_direct", "never_direct", "cache_peer_access up"] {
            if self.numbers.chance(50) || (directive.ends_with("up") && !parent) {
                continue;
            }
            let action = if self.numbers.chance(65) { "allow" } else { "deny" };
            let count = 1 + self.numbers.below(2);
            let literals: BTreeSet<String> = (0..count).map(|_| self.literal(names)).collect();
            // Where a name leads is another question than which way it goes.
            let literals: Vec<String> =
                literals.into_iter().filter(|one| !one.to_lowercase().contains("to_localhost")).collect();
            if !literals.is_empty() {
                self.push(&format!("{directive} {action} {}", literals.join(" ")));
            }
        }
    }

    fn access(&mut self, action: &str, literals: &[String]) {
        let line = self.push(&format!("http_access {action} {}", literals.join(" ")));
        let lists = literals.iter().map(|literal| literal.trim_start_matches('!').to_lowercase()).collect();
        self.made.rules.push((line, lists));
    }
}

impl Configuration {
    /// The lines, by file and number, that took part in a verdict: the rules up to the one that made it, and their lists.
    pub(super) fn took_part(&self, file: &str, rule: usize) -> (BTreeSet<u32>, BTreeSet<String>) {
        let mut lines: BTreeSet<u32> = BTreeSet::new();
        let mut files: BTreeSet<String> = BTreeSet::new();
        let mut waiting: Vec<String> = Vec::new();
        for (line, lists) in self.rules.iter().take(rule) {
            lines.insert(*line);
            waiting.extend(lists.iter().cloned());
        }
        let mut seen: BTreeSet<String> = BTreeSet::new();
        while let Some(name) = waiting.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            for (_, line, parts, list) in self.lists.iter().filter(|(list, ..)| *list == name) {
                lines.insert(*line);
                files.extend(list.clone());
                waiting.extend(parts.iter().cloned());
            }
        }
        files.remove(file);
        (lines, files)
    }
}

/// Makes a request.
pub(super) fn request(numbers: &mut Numbers) -> Request {
    let literal = numbers.chance(20);
    let host = if literal {
        numbers.one(LITERALS).to_owned()
    } else {
        let (name, _) = HOSTS[numbers.below(HOSTS.len())];
        let dot = if numbers.chance(5) { "." } else { "" };
        format!("{}{dot}", if numbers.chance(10) { cased(numbers, name) } else { name.to_owned() })
    };
    let port = PORTS[numbers.below(PORTS.len())];
    let method = numbers.one(&["CONNECT", "CONNECT", "CONNECT", "GET", "GET", "POST"]);
    let target = match (method, port) {
        ("CONNECT", _) => format!("{host}:{port}"),
        (_, 80) if numbers.chance(50) => format!("http://{host}/index.html"),
        _ => format!("http://{host}:{port}/get.exe"),
    };
    let door = u16::from(numbers.chance(40));
    Request { client: numbers.one(CLIENTS), method, target, door, literal }
}
