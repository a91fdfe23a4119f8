//! Squid's access control lists: what each is true of, as far as egressd can know it.
//!
//! What cannot be known is [`Truth::Maybe`]; a rule that uses it decides against the request. Not here: those rules
//! ([`super::access`]).

mod values;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use self::values::{addresses, lost_type, range, v4, v6, way};
use super::files::Files;
use super::hosts::HostSet;
use super::lexer::{Line, Word};
use super::list_lines;
use super::regex;
use super::truth::Truth;
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};
use crate::words::io_error::reason;
use crate::words::target::Name;

/// A reference to a list in a rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Literal {
    pub(super) negated: bool,
    pub(super) acl: String,
}

impl Literal {
    pub(super) fn read(word: &str) -> Self {
        match word.strip_prefix('!') {
            Some(acl) => Literal { negated: true, acl: acl.to_owned() },
            None => Literal { negated: false, acl: word.to_owned() },
        }
    }

    /// Those that the words of a line are from this number on.
    pub(super) fn list(line: &Line, from: usize) -> Vec<Self> {
        line.from(from).map(Literal::read).collect()
    }
}

/// What a list is true of.
#[derive(Clone, Debug)]
pub(super) enum AclTest {
    /// The client's address.
    Client(Vec<IpNet>),
    /// The user of a password; `any`: every user; `folded`: upper and lower case are one.
    User { any: bool, names: HashSet<String>, folded: bool },
    /// The host that was asked for.
    Host(HostSet),
    /// An address that the host leads to.
    Destination(Vec<IpNet>),
    /// The port that was asked for.
    Port(Vec<(u16, u16)>),
    /// CONNECT, and plain HTTP.
    Way { connect: Truth, http: Truth },
    /// One of these, each a conjunction.
    Either(Vec<Vec<Literal>>),
    /// How many requests a client has under way.
    Connections(u64),
    /// The same for every request.
    Always(Truth),
}

impl AclTest {
    /// Whether it is true of a host by itself. None: it is about something else, or about where a name leads.
    pub(super) fn of_host(&self, host: AskedHost<'_>) -> Option<Truth> {
        Some(match (self, host) {
            (AclTest::Host(hosts), AskedHost::Name(name)) => hosts.has(name),
            (AclTest::Host(hosts), AskedHost::Below(name)) => hosts.has_below(name),
            (AclTest::Host(hosts), AskedHost::OtherNames) => hosts.has_others(),
            (AclTest::Host(hosts), AskedHost::Network(network)) => hosts.has_network(&network),
            (AclTest::Destination(listed), AskedHost::Network(network)) => {
                Truth::from(listed.iter().any(|listed| listed.contains(&network)))
            }
            _ => return None,
        })
    }
}

/// A list.
#[derive(Clone, Debug)]
pub(super) struct Acl {
    pub(super) place: SourceLine,
    /// As Squid calls it.
    pub(super) kind: String,
    pub(super) test: AclTest,
    /// A line of it could not be read: what is not in it may be.
    pub(super) partly: bool,
    /// Files that its values come from, as Squid's configuration names them.
    pub(super) files: Vec<(SourceLine, String)>,
    /// Where each host of it is listed first.
    pub(super) places: HashMap<String, SourceLine>,
    /// Why it is `Maybe`; empty if it never is.
    pub(super) why: String,
    /// How many of its values match nothing.
    pub(super) left_out: usize,
    /// What is to be told of it, if anything needs it.
    pub(super) notes: Vec<(SourceLine, NoteKind, String)>,
}

/// So many values that match nothing are told one by one.
const LEFT_OUT: usize = 20;

/// Every list by name.
pub(super) type Acls = BTreeMap<String, Acl>;

/// Lists that every Squid has.
fn built_in() -> Acls {
    let place = SourceLine { file: "squid".into(), line: 0 };
    let all = || vec![v4(Ipv4Addr::UNSPECIFIED, 0), v6(Ipv6Addr::UNSPECIFIED, 0)];
    let loopback = || vec![v4(Ipv4Addr::new(127, 0, 0, 0), 8), v6(Ipv6Addr::LOCALHOST, 128)];
    let to_localhost = loopback()
        .into_iter()
        .chain([v4(Ipv4Addr::UNSPECIFIED, 32), v6(Ipv6Addr::UNSPECIFIED, 128)])
        .collect();
    let linklocal =
        vec![v4(Ipv4Addr::new(169, 254, 0, 0), 16), v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)];
    let rows = [
        ("all", "src", AclTest::Client(all())),
        ("localhost", "src", AclTest::Client(loopback())),
        ("to_localhost", "dst", AclTest::Destination(to_localhost)),
        ("to_linklocal", "dst", AclTest::Destination(linklocal)),
        ("CONNECT", "method", AclTest::Way { connect: Truth::Yes, http: Truth::No }),
        // cache_object:// and /squid-internal-mgr/: there are no such requests.
        ("manager", "url_regex", AclTest::Always(Truth::No)),
    ];
    let acl = |kind: &str, test| Acl {
        place: place.clone(),
        kind: kind.to_owned(),
        test,
        partly: false,
        files: Vec::new(),
        places: HashMap::new(),
        why: String::new(),
        left_out: 0,
        notes: Vec::new(),
    };
    rows.into_iter().map(|(name, kind, test)| (name.to_owned(), acl(kind, test))).collect()
}

/// Every `acl` line.
pub(super) fn read(lines: &[Line], files: &Files, notes: &mut Notes) -> Acls {
    let mut acls = built_in();
    let mut own: HashSet<String> = HashSet::new();
    let mut quoted_values = false;
    for line in lines {
        if line.name == "configuration_includes_quoted_values" {
            quoted_values = line.word(0) == Some("on");
        }
        if line.name != "acl" {
            continue;
        }
        let (Some(name), Some(kind)) = (line.word(0), line.word(1)) else {
            notes.tell(
                &line.place,
                NoteKind::Lost,
                format!("{} names no list or no type: Squid refuses it", line.shown()),
            );
            continue;
        };
        if own.insert(name.to_owned()) && acls.contains_key(name) && name != "all" {
            acls.remove(name); // Older configurations define what is built in now.
        }
        let acl = acls.entry(name.to_owned()).or_insert_with(|| Acl {
            place: line.place.clone(),
            kind: kind.to_owned(),
            test: empty(kind, line),
            partly: false,
            files: Vec::new(),
            places: HashMap::new(),
            why: String::new(),
            left_out: 0,
            notes: Vec::new(),
        });
        if acl.kind != kind {
            acl.partly = true;
            acl.why = format!("`{name}` has two types");
        } else if line.doubtful {
            acl.partly = true;
            acl.why = "it is under an `if` that only the running Squid can evaluate".to_owned();
        } else {
            Reading { acl, line, files, quoted_values }.values();
        }
    }
    acls
}

/// A list of this type without values.
fn empty(kind: &str, line: &Line) -> AclTest {
    let numeric = line.words.iter().any(|word| word.text == "-n");
    match kind {
        "src" => AclTest::Client(Vec::new()),
        "dst" => AclTest::Destination(Vec::new()),
        "dstdomain" | "dstdom_regex" => AclTest::Host(HostSet::new(!numeric)),
        "ssl::server_name" => AclTest::Host(HostSet::new(false)),
        "port" => AclTest::Port(Vec::new()),
        "method" | "proto" => AclTest::Way { connect: Truth::No, http: Truth::No },
        "proxy_auth" => AclTest::User { any: false, names: HashSet::new(), folded: false },
        "any-of" | "all-of" => AclTest::Either(Vec::new()),
        "maxconn" => AclTest::Connections(u64::MAX),
        // Rules are evaluated as if the ClientHello were known: see [`super::access`].
        "at_step" => AclTest::Always(Truth::Yes),
        _ => AclTest::Always(Truth::Maybe),
    }
}

/// One line while its values are read.
struct Reading<'a> {
    acl: &'a mut Acl,
    line: &'a Line,
    files: &'a Files,
    /// What stands in quotes is a value, and `parameters()` names a file.
    quoted_values: bool,
}

impl Reading<'_> {
    fn values(&mut self) {
        let kind = self.acl.kind.clone();
        let known = !matches!(self.acl.test, AclTest::Always(Truth::Maybe));
        if !known {
            self.acl.why = lost_type(&kind);
            let text = format!("{}: {}; rules that use it fail closed", self.line.shown(), self.acl.why);
            return self.acl.notes.push((self.line.place.clone(), NoteKind::Stricter, text));
        }
        if kind == "all-of" {
            let literals = Literal::list(self.line, 2);
            if let AclTest::Either(either) = &mut self.acl.test {
                either.push(literals);
            }
            return;
        }
        let mut flags = true;
        let mut words = self.line.words.iter().skip(2);
        while let Some(word) = words.next() {
            if flags && !word.quoted && matches!(word.text.as_str(), "-i" | "-n" | "-m" | "--" | "+i") {
                if let ("-i", AclTest::User { folded, .. }) = (word.text.as_str(), &mut self.acl.test) {
                    *folded = true;
                }
                continue;
            }
            flags = false;
            match self.listed(word) {
                Some(lines) => {
                    for (place, value) in lines {
                        self.value(&kind, &value, &place);
                    }
                    if !self.quoted_values {
                        self.unread(&words.map(|word| word.text.as_str()).collect::<Vec<_>>());
                        return;
                    }
                }
                None => self.value(&kind, &word.text, &self.line.place.clone()),
            }
        }
    }

    /// The values of a file, where the word names one.
    fn listed(&mut self, word: &Word) -> Option<Vec<(SourceLine, String)>> {
        let path = match (self.quoted_values, word.text.strip_prefix("parameters(")) {
            (true, Some(path)) => path.trim_end_matches(')').trim_matches(['"', '\'']),
            (false, _) if word.quoted => &word.text,
            // An apostrophe begins a file's name too, and either ends it.
            (false, _) => word.text.strip_prefix('\'')?.split(['\'', '"']).next()?,
            (true, None) => return None,
        };
        let content = match self.files.read(path) {
            Ok(content) => content,
            Err(error) => {
                let text = format!(
                    "cannot read `{}`: {}; rules that use this list fail closed",
                    self.files.written(path),
                    reason(&error)
                );
                self.acl.notes.push((self.line.place.clone(), NoteKind::Stricter, text));
                self.doubt("its file could not be read");
                return Some(Vec::new());
            }
        };
        self.acl.files.push((self.line.place.clone(), path.to_owned()));
        let name: std::sync::Arc<str> = self.files.written(path).into();
        let values = list_lines::values(&content, self.quoted_values).into_iter();
        Some(values.map(|(line, value)| (SourceLine { file: name.clone(), line }, value)).collect())
    }

    /// Squid reads nothing of a line after a file in quotes.
    fn unread(&mut self, rest: &[&str]) {
        if rest.is_empty() {
            return;
        }
        let text = format!(
            "Squid reads nothing of an `acl` line after a file: `{}` was never in the list, and is left out; if it is meant, write it on an `acl` line of its own",
            cut(&rest.join(" "))
        );
        self.acl.notes.push((self.line.place.clone(), NoteKind::Lost, text));
    }

    fn doubt(&mut self, why: &str) {
        self.acl.partly = true;
        self.acl.why = why.to_owned();
        if let AclTest::Host(hosts) = &mut self.acl.test {
            hosts.unknown();
        }
    }

    fn value(&mut self, kind: &str, value: &str, place: &SourceLine) {
        let understood = match &mut self.acl.test {
            AclTest::Client(networks) | AclTest::Destination(networks) => {
                addresses(value).map(|listed| networks.extend(listed))
            }
            AclTest::Port(ports) => range(value).map(|range| ports.push(range)),
            AclTest::User { any, names, .. } => {
                if value == "REQUIRED" {
                    *any = true;
                } else if value.contains(':') || value.contains(char::is_control) {
                    // No such user can give a basic password: it is no member of any list.
                    let text = format!(
                        "`{}` cannot be the user name of a basic password: it is left out",
                        cut(value)
                    );
                    self.acl.notes.push((place.clone(), NoteKind::Lost, text));
                } else {
                    names.insert(value.to_owned());
                }
                Some(())
            }
            AclTest::Way { connect, http } => {
                if kind == "method" && value.eq_ignore_ascii_case("PURGE") {
                    let text =
                        "there is no cache to purge: PURGE is passed on wherever a plain request is allowed"
                            .to_owned();
                    self.acl.notes.push((place.clone(), NoteKind::Differs, text));
                }
                way(kind, value, connect, http)
            }
            AclTest::Either(either) => {
                either.push(vec![Literal::read(value)]);
                Some(())
            }
            AclTest::Connections(most) => value.parse().ok().map(|number| *most = number),
            AclTest::Always(_) => Some(()),
            AclTest::Host(_) => return self.host(kind, value, place),
        };
        if understood.is_none() {
            let text = format!(
                "`{}` is not understood as a value of `{kind}`; rules that use this list fail closed",
                cut(value)
            );
            self.acl.notes.push((place.clone(), NoteKind::Stricter, text));
            self.doubt("one of its values is not understood");
        }
    }

    fn host(&mut self, kind: &str, value: &str, place: &SourceLine) {
        let AclTest::Host(hosts) = &mut self.acl.test else { return };
        if kind == "dstdom_regex" {
            match regex::read(value) {
                Some(fits) => {
                    hosts.add(&fits.name, fits.itself, fits.below);
                    self.acl.places.entry(fits.name.clone()).or_insert_with(|| place.clone());
                    if !fits.exactly {
                        hosts.unknown();
                        self.acl.why = format!("`{}` matches more than `{}`", cut(value), fits.name);
                        let text = format!(
                            "`{}` also matches names that only end like this, such as `evil{}`: an allow using it covers the name and what is under it, a deny using it blocks everything",
                            cut(value),
                            fits.name
                        );
                        self.acl.notes.push((place.clone(), NoteKind::Stricter, text));
                    }
                }
                None => {
                    let text = format!(
                        "`{}`: unsupported regex (no plain suffix such as `\\.example\\.com$`); an allow using it is dropped, a deny using it blocks everything",
                        cut(value)
                    );
                    self.acl.notes.push((place.clone(), NoteKind::Stricter, text));
                    self.doubt("it has an unsupported regex");
                }
            }
            return;
        }
        if let Some(why) = list_lines::never_matches(value) {
            self.acl.left_out += 1;
            let more = if self.acl.left_out > LEFT_OUT { ", as are the like of it from here on" } else { "" };
            if self.acl.left_out <= LEFT_OUT + 1 {
                let text =
                    format!("`{}` matched nothing in Squid ({why}), and is left out{more}", cut(value));
                self.acl.notes.push((place.clone(), NoteKind::Lost, text));
            }
            return;
        }
        if let Some(address) = list_lines::address(value) {
            return hosts.add_address(address);
        }
        let (name, below) = match value.strip_prefix('.') {
            Some(name) => (name, true),
            None => (value, false),
        };
        if let Ok(name) = Name::parse(name) {
            hosts.add(name.as_str(), true, below);
            self.acl.places.entry(name.to_string()).or_insert_with(|| place.clone());
        }
    }
}

fn cut(value: &str) -> String {
    value.chars().take(80).collect()
}

/// What a list is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestKind<'a> {
    pub(super) client: &'a HashMap<String, Truth>,
    /// `CONNECT` or plain HTTP.
    pub(super) connect: bool,
    /// Any port of the segment.
    pub(super) port: u16,
    pub(super) host: AskedHost<'a>,
}

/// The host of a request: one, or all of a kind that no list tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum AskedHost<'a> {
    /// This name.
    Name(&'a str),
    /// The names under it that no list mentions.
    Below(&'a str),
    /// The names that no list mentions.
    OtherNames,
    /// The addresses of this network that no list mentions.
    Network(IpNet),
}

/// What a list answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum AclAnswer {
    Truth(Truth),
    /// It depends on the addresses that the name leads to.
    LeadsTo,
    /// The client has to say who it is first.
    AskPassword,
}

/// Whether a list is true of a request. Of one that is not there nothing is known.
pub(super) fn ask(acls: &Acls, literal: &Literal, request: &RequestKind<'_>, depth: usize) -> AclAnswer {
    let Some(acl) = acls.get(&literal.acl).filter(|_| depth < 8) else {
        return AclAnswer::Truth(Truth::Maybe);
    };
    let is = match &acl.test {
        AclTest::Client(_) | AclTest::User { .. } => match request.client.get(&literal.acl) {
            Some(is) => *is,
            None => return AclAnswer::AskPassword,
        },
        AclTest::Host(_) | AclTest::Destination(_) => match acl.test.of_host(request.host) {
            Some(truth) => truth,
            // Negated or not: the caller knows, and handles both.
            None if !acl.partly && depth == 0 => return AclAnswer::LeadsTo,
            None => Truth::Maybe,
        },
        AclTest::Port(ports) => {
            Truth::from(ports.iter().any(|(low, high)| (*low..=*high).contains(&request.port)))
        }
        AclTest::Way { connect, http } => {
            if request.connect {
                *connect
            } else {
                *http
            }
        }
        AclTest::Either(either) => either
            .iter()
            .map(|all| {
                all.iter()
                    .map(|part| match ask(acls, part, request, depth + 1) {
                        AclAnswer::Truth(is) if part.negated => !is,
                        AclAnswer::Truth(is) => is,
                        AclAnswer::LeadsTo | AclAnswer::AskPassword => Truth::Maybe,
                    })
                    .min()
                    .unwrap_or(Truth::Yes)
            })
            .max()
            .unwrap_or(Truth::No),
        AclTest::Connections(_) => Truth::Maybe,
        AclTest::Always(is) => *is,
    };
    let is = if acl.partly { is.max(Truth::Maybe) } else { is };
    AclAnswer::Truth(is)
}
