//! Squid's access control lists: what each is true of, as far as egressd can know it.
//!
//! What cannot be known is [`Truth::Maybe`]; a rule that uses it decides against the request. Not here: those rules
//! ([`super::access`]).

mod options;
mod tally;
mod values;

use std::collections::{HashMap, HashSet};

use self::options::Options;
use self::tally::{Remark, Tally};
use self::values::{lost_type, range, way};
use super::addresses::{AddressList, OddValue};
pub(super) use super::asked::AskedHost;
use super::files::Files;
use super::hosts::HostSet;
use super::lexer::{Line, Word};
use super::list::key;
pub(super) use super::list::{Acl, AclAnswer, AclTest, Acls, Literal, MAX_DEPTH, RequestKind, ask};
use super::list_lines;
use super::regex::{Reading as Regex, UrlSet, read as read_regex, written};
use super::truth::Truth;
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};
use crate::words::io_error::reason;
use crate::words::small_sort::SmallCollect as _;
use crate::words::target::Name;

/// So many values that match nothing are told one by one.
const LEFT_OUT: usize = 20;

/// Lists that every Squid has; `to_linklocal` only from version 6 on. A line of the same name adds to them.
fn built_in() -> Acls {
    let place = SourceLine { file: "squid".into(), line: 0 };
    let dst = |values: &[&str]| AclTest::Destination { addresses: AddressList::of(values), lookups: true };
    let rows = [
        ("all", "src", AclTest::Client(AddressList::of(&["all"]))),
        ("localhost", "src", AclTest::Client(AddressList::of(&["127.0.0.1/32", "::1"]))),
        ("to_localhost", "dst", dst(&["127.0.0.0/8", "0.0.0.0/32", "::1/128", "::/128"])),
        ("to_linklocal", "dst", dst(&["169.254.0.0/16", "fe80::/10"])),
        ("CONNECT", "method", AclTest::Way { connect: Truth::Yes, http: Truth::No }),
        // cache_object:// and /squid-internal-mgr/: there are no such requests.
        ("manager", "url_regex", AclTest::Always(Truth::No)),
    ];
    rows.into_iter().map(|(name, kind, test)| (key(name), Acl::new(&place, name, kind, test))).small_collect()
}

/// Whether users are compared as they give their names.
pub(super) fn exact_users(lines: &[Line]) -> bool {
    let is_auth = |line: &&Line| line.name == "auth_param" && line.word(1) == Some("casesensitive");
    lines.iter().rfind(is_auth).is_some_and(|line| line.word(2) == Some("on"))
}

/// Every `acl` line.
pub(super) fn read(lines: &[Line], files: &Files, notes: &mut Notes) -> Acls {
    let mut acls = built_in();
    let mut tallies: HashMap<String, Tally> = HashMap::new();
    let exact_users = exact_users(lines);
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
        // Squid ignores this old definition of a list that is built in now.
        if key(name) == "manager" && kind == "proto" {
            continue;
        }
        let acl = acls.entry(key(name)).or_insert_with(|| Acl::new(&line.place, name, kind, empty(kind)));
        if acl.kind != kind || !options::is_type(kind) {
            let text = refused(line, acl, kind);
            notes.tell(&line.place, NoteKind::Stricter, text);
            acl.partly = true;
            acl.why = if acl.kind == kind {
                format!("Squid has no list type `{}`", cut(kind))
            } else {
                format!("`{name}` has two types")
            };
        } else if line.doubtful {
            acl.partly = true;
            acl.why = "it is under an `if` that only the running Squid can evaluate".to_owned();
        } else {
            let tally = tallies.entry(key(name)).or_default();
            Reading { acl, line, files, tally, exact_users, quoted_values }.values();
        }
    }
    for (name, acl) in &mut acls {
        match &mut acl.test {
            AclTest::Host(hosts) => hosts.seal(),
            AclTest::Url(urls) => urls.seal(),
            _ => {}
        }
        if let Some(tally) = tallies.get(name) {
            let [always, doubted] = tally.notes(&acl.kind);
            acl.notes.extend(always);
            acl.doubt_notes = doubted;
        }
    }
    acls
}

/// Why Squid refuses a line of this type.
fn refused(line: &Line, acl: &Acl, kind: &str) -> String {
    let shown = line.shown();
    if !options::is_type(kind) {
        let like = if acl.kind == kind { "dstdomain" } else { &acl.kind };
        return format!(
            "{shown}: Squid has no list type `{}`, and refuses this line; is the type missing, such as `{like}`? Rules that use the list fail closed",
            cut(kind)
        );
    }
    format!(
        "{shown}: the list is of type `{}` since {}:{}, so Squid refuses this line: give it a name of its own; rules that use the list fail closed",
        acl.kind, acl.place.file, acl.place.line
    )
}

/// A list of this type without values.
fn empty(kind: &str) -> AclTest {
    match kind {
        "src" => AclTest::Client(AddressList::default()),
        "dst" => AclTest::Destination { addresses: AddressList::default(), lookups: true },
        "dstdomain" | "dstdom_regex" => AclTest::Host(HostSet::new(true)),
        "ssl::server_name" | "ssl::server_name_regex" => AclTest::Host(HostSet::new(false)),
        "url_regex" => AclTest::Url(UrlSet::default()),
        "port" => AclTest::Port(Vec::new()),
        "myportname" | "localport" | "myport" => AclTest::Door { names: HashSet::new(), ports: Vec::new() },
        // A CONNECT has no path, so no pattern fits it.
        "urlpath_regex" => AclTest::Way { connect: Truth::No, http: Truth::Maybe },
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
    tally: &'a mut Tally,
    /// The names of users are compared as they are given.
    exact_users: bool,
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
        if kind == "urlpath_regex" {
            self.acl.why = lost_type(&kind);
            let text = format!(
                "{}: {}; rules for plain requests that use it fail closed, and a CONNECT has no path, so it is never in the list",
                self.line.shown(),
                self.acl.why
            );
            self.acl.notes.push((self.line.place.clone(), NoteKind::Stricter, text));
        }
        if kind == "all-of" {
            let literals = Literal::list(self.line, 2);
            if let AclTest::Either(either) = &mut self.acl.test {
                either.push(literals);
            }
            return;
        }
        let words = self.line.words.get(2..).unwrap_or_default();
        let options = options::read(&kind, words);
        self.options(&options);
        let words = words.get(options.words..).unwrap_or_default();
        let mut folded = options.ends_with("-i", "+i");
        let mut first = options.names.is_empty();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let listed = self.listed(word);
            // A backslash takes the blank behind it into a pattern, and the word behind that: such a one is not followed.
            if listed.is_none() && kind.ends_with("_regex") && word.text.ends_with('\\') {
                words.next();
            }
            let is_file = listed.is_some();
            for (place, value) in listed.unwrap_or_else(|| vec![(self.line.place.clone(), word.text.clone())])
            {
                match (&mut self.acl.test, value.as_str()) {
                    (AclTest::Host(_) | AclTest::Url(_), "-i" | "+i") if kind.ends_with("_regex") => {
                        folded = value == "-i";
                    }
                    (AclTest::Host(_) | AclTest::Url(_), _) if kind.ends_with("_regex") => {
                        self.pattern(&value, folded, &place);
                    }
                    // A user may have this name, too.
                    (AclTest::User { any, .. }, "REQUIRED") if first => *any = true,
                    _ => self.value(&kind, &value, &place),
                }
                first = false;
            }
            if is_file && !self.quoted_values {
                self.unread(&words.map(|word| word.text.as_str()).collect::<Vec<_>>());
                return;
            }
        }
    }

    fn options(&mut self, options: &Options) {
        if let Some(unknown) = &options.unknown {
            let text = format!(
                "{}: `{}` is no option of `{}`, so Squid refuses this line; rules that use the list fail closed",
                self.line.shown(),
                cut(unknown),
                self.acl.kind
            );
            self.acl.notes.push((self.line.place.clone(), NoteKind::Stricter, text));
            self.doubt("it has an option that its type does not have");
        }
        match &mut self.acl.test {
            AclTest::Host(hosts) if options.has("-n") => hosts.never_look_backwards(),
            AclTest::Destination { lookups, .. } if options.has("-n") => *lookups = false,
            AclTest::User { folded, .. } if options.has("-i") => *folded = true,
            _ => {}
        }
        if options.has("--server-provided") || options.has("--consensus") {
            let text = format!(
                "{}: it looks at the names in the target's certificate, and egressd at the ClientHello; rules that use the list fail closed",
                self.line.shown()
            );
            self.acl.notes.push((self.line.place.clone(), NoteKind::Stricter, text));
            self.doubt("it looks at the names in the target's certificate");
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
            AclTest::Client(addresses) | AclTest::Destination { addresses, .. } => {
                let added = addresses.add(value);
                return self.address(added, value, place);
            }
            AclTest::Port(ports) => range(value).map(|range| ports.push(range)),
            AclTest::Door { names, .. } if kind == "myportname" => {
                names.insert(value.to_owned());
                Some(())
            }
            AclTest::Door { ports, .. } => range(value).map(|range| ports.push(range)),
            AclTest::User { names, folded, .. } => {
                if value.contains(':') || value.contains(char::is_control) {
                    // No such user can give a basic password: it is no member of any list.
                    self.tally.add(Remark::NoUser, place, value, "");
                } else if !*folded && !self.exact_users && value.contains(|c: char| c.is_ascii_uppercase()) {
                    self.tally.add(Remark::CapitalUser, place, value, "");
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
            AclTest::Always(Truth::No) => None,
            AclTest::Always(_) | AclTest::Url(_) => Some(()),
            AclTest::Host(_) => return self.host(value, place),
        };
        if understood.is_none() {
            self.tally.add(Remark::Unreadable, place, value, "");
            self.doubt("one of its values is not understood");
        }
    }

    fn address(&mut self, added: Result<(), OddValue>, value: &str, place: &SourceLine) {
        let Err(odd) = added else { return };
        let (remark, about) = match odd {
            OddValue::Overlaps(earlier) => (Remark::Overlapped, earlier),
            OddValue::Single(address) => (Remark::NoPrefix, address.to_string()),
            OddValue::Family => (Remark::Family, value.to_owned()),
            OddValue::Name => (Remark::NamedAddress, String::new()),
            OddValue::Unreadable => (Remark::Unreadable, String::new()),
        };
        self.tally.add(remark, place, value, about);
        match remark {
            Remark::NamedAddress => self.doubt("one of its values is a name"),
            Remark::Unreadable => self.doubt("one of its values is not understood"),
            _ => {}
        }
    }

    fn host(&mut self, value: &str, place: &SourceLine) {
        let AclTest::Host(hosts) = &mut self.acl.test else { return };
        let lower = value.to_ascii_lowercase();
        // Squid takes an end of an address for a domain that the address is under.
        let numbers = lower.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if numbers && lower.starts_with('.') && !lower.ends_with('.') {
            hosts.add_tail(&lower);
            return self.tally.add(Remark::Tail, place, value, "");
        }
        if let Some(why) = list_lines::never_matches(value) {
            return self.matches_nothing(value, &why, place);
        }
        if let Some(address) = list_lines::address(value) {
            let text = written(address.to_canonical());
            if text == lower {
                return hosts.add_address(address);
            }
            return self.matches_nothing(value, &format!("the host is written `{text}`"), place);
        }
        let (name, below) = match lower.strip_prefix('.') {
            Some(name) => (name, true),
            None => (lower.as_str(), false),
        };
        if let Ok(name) = Name::parse(name) {
            hosts.add(name.as_str(), true, below);
            self.acl.places.entry(name.to_string()).or_insert_with(|| place.clone());
        }
    }

    fn matches_nothing(&mut self, value: &str, why: &str, place: &SourceLine) {
        self.acl.left_out += 1;
        let more = if self.acl.left_out > LEFT_OUT { ", as are the like of it from here on" } else { "" };
        if self.acl.left_out <= LEFT_OUT + 1 {
            let text = format!("`{}` matched nothing in Squid ({why}), and is left out{more}", cut(value));
            self.acl.notes.push((place.clone(), NoteKind::Lost, text));
        }
    }

    fn pattern(&mut self, value: &str, folded: bool, place: &SourceLine) {
        let mut named = Vec::new();
        let (mut remark, mut about) = (None, String::new());
        match (&mut self.acl.test, read_regex(value, folded)) {
            (AclTest::Url(urls), _) => match urls.add(value, folded) {
                Some(names) => named = names,
                None => remark = Some(Remark::UnsupportedPattern),
            },
            (AclTest::Host(hosts), Regex::Name(one)) => {
                hosts.add(&one.name, one.itself, one.below);
                named.push(one.name);
            }
            (AclTest::Host(hosts), Regex::Pattern(pattern)) => {
                hosts.add_pattern(&pattern);
                named.extend(pattern.names.iter().map(|named| named.name.clone()));
                if pattern.others != Truth::No {
                    remark = Some(if named.is_empty() { Remark::Nameless } else { Remark::Open });
                    about = pattern.example.clone().unwrap_or_default();
                }
            }
            _ => remark = Some(Remark::UnsupportedPattern),
        }
        if let Some(remark) = remark {
            self.tally.add(remark, place, value, about);
            if remark == Remark::UnsupportedPattern {
                self.doubt("it has an unsupported regex");
            }
        }
        for name in named {
            self.acl.places.entry(name).or_insert_with(|| place.clone());
        }
    }
}

fn cut(value: &str) -> String {
    value.chars().take(80).collect()
}
