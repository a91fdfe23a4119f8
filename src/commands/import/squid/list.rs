//! A list, and what it answers for a kind of request.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::addresses::AddressList;
use super::asked::{AskedHost, Takes};
use super::hosts::HostSet;
use super::lexer::{Line, Word};
use super::regex::UrlSet;
use super::truth::Truth;
use crate::commands::import::notes::{NoteKind, SourceLine};

/// A reference to a list in a rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Literal {
    pub(super) negated: bool,
    /// The key of the list.
    pub(super) acl: String,
    /// Its name as it is written here.
    pub(super) shown: String,
}

impl Literal {
    pub(super) fn read(word: &str) -> Self {
        let (negated, name) = match word.strip_prefix('!') {
            Some(name) => (true, name),
            None => (false, word),
        };
        Literal { negated, acl: key(name), shown: name.to_owned() }
    }

    /// Those that the words of a line are from this number on. A word in quotes is no list's name, but that of a file.
    pub(super) fn list(line: &Line, from: usize) -> Vec<Self> {
        let read = |word: &Word| match word.quoted {
            true => Literal::read(&format!("\"{}\"", word.text)),
            false => Literal::read(&word.text),
        };
        line.words.iter().skip(from).map(read).collect()
    }

    /// What to say where no list has this name.
    pub(super) fn missing(&self) -> String {
        if self.shown.starts_with(['"', '\'']) {
            return format!(
                "Squid takes {} for a file with names of lists, and here it fails closed: write the names without quotation marks",
                self.shown
            );
        }
        format!("no `acl` is called `{}`: Squid refuses this, and here it fails closed", self.shown)
    }
}

/// What a list is true of.
#[derive(Clone, Debug)]
pub(super) enum AclTest {
    /// The client's address.
    Client(AddressList),
    /// The user of a password; `any`: every user; `folded`: upper and lower case are one.
    User { any: bool, names: HashSet<String>, folded: bool },
    /// The host that was asked for.
    Host(HostSet),
    /// An address that the host leads to; without `lookups`, only one that is written as the target.
    Destination { addresses: AddressList, lookups: bool },
    /// The URL of a request.
    Url(UrlSet),
    /// The port that was asked for.
    Port(Vec<(u16, u16)>),
    /// The port by which the client came.
    Door { names: HashSet<String>, ports: Vec<(u16, u16)> },
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
            (AclTest::Destination { addresses, .. }, AskedHost::Network(network)) => addresses.has(&network),
            (AclTest::Destination { lookups: false, .. }, _) => Truth::No,
            // Every name leads somewhere, or nowhere at all.
            (AclTest::Destination { addresses, .. }, _) if addresses.everything() != Truth::No => {
                addresses.everything()
            }
            _ => return None,
        })
    }
}

/// Lists within lists.
pub(super) const MAX_DEPTH: usize = 8;

/// The key of a list: Squid takes both cases of a letter for one.
pub(super) fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// A list.
#[derive(Clone, Debug)]
pub(super) struct Acl {
    pub(super) place: SourceLine,
    /// Its name as it is first written.
    pub(super) name: String,
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
    /// What is to be told of it, if it made a verdict stricter.
    pub(super) doubt_notes: Vec<(SourceLine, NoteKind, String)>,
}

impl Acl {
    /// One without values.
    pub(super) fn new(place: &SourceLine, name: &str, kind: &str, test: AclTest) -> Self {
        Acl {
            place: place.clone(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            test,
            partly: false,
            files: Vec::new(),
            places: HashMap::new(),
            why: String::new(),
            left_out: 0,
            notes: Vec::new(),
            doubt_notes: Vec::new(),
        }
    }
}

/// Every list by its key.
pub(super) type Acls = BTreeMap<String, Acl>;

/// What a list is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestKind<'a> {
    pub(super) client: &'a HashMap<String, Truth>,
    /// What comes by the port.
    pub(super) takes: Takes,
    /// Whether a ClientHello is there: before that, `ssl_bump` ends nothing.
    pub(super) hello: bool,
    /// `CONNECT` or plain HTTP.
    pub(super) connect: bool,
    /// The ports of a segment, which no list tells apart.
    pub(super) ports: (u16, u16),
    pub(super) host: AskedHost<'a>,
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
    let Some(acl) = acls.get(&literal.acl).filter(|_| depth < MAX_DEPTH) else {
        return AclAnswer::Truth(Truth::Maybe);
    };
    let is = match &acl.test {
        AclTest::Client(_) | AclTest::User { .. } => match request.client.get(&literal.acl) {
            Some(is) => *is,
            None => return AclAnswer::AskPassword,
        },
        AclTest::Door { .. } => request.client.get(&literal.acl).copied().unwrap_or(Truth::Maybe),
        AclTest::Host(_) | AclTest::Destination { .. } => match acl.test.of_host(request.host) {
            Some(truth) => truth,
            // Negated or not: the caller knows, and handles both.
            None if !acl.partly && depth == 0 => return AclAnswer::LeadsTo,
            None => Truth::Maybe,
        },
        AclTest::Port(ports) => {
            Truth::from(ports.iter().any(|(low, high)| (*low..=*high).contains(&request.ports.0)))
        }
        AclTest::Url(urls) => urls.fits(request.connect, request.host, request.ports),
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
