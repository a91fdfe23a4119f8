//! The regular expressions of `dstdom_regex`, `ssl::server_name_regex` and `url_regex`: which hosts they fit.
//!
//! A pattern fits a text somewhere, so most fit hosts without end. Of a host that is known the answer is exact. The names that are
//! written in a pattern are taken out of it, so that they can become rules.

mod automaton;
mod parse;
mod url;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use regex_syntax::hir::Hir;

use self::automaton::{Automaton, InName, NAME_BYTES, State, reach};
use self::parse::Part;
pub(super) use self::url::UrlSet;
use super::truth::Truth;
use crate::words::target::Name;

/// At most so many texts are taken out of one pattern.
const MAX_TEXTS: usize = 64;
/// What is repeated at most so often is written out.
const MAX_TIMES: u32 = 4;
/// So many patterns share an automaton, if it does not become too large.
const TOGETHER: usize = 64;

/// A name, which a pattern fits itself, or with everything under it, or both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct NamedHost {
    pub(super) name: String,
    pub(super) itself: bool,
    pub(super) below: bool,
}

/// A pattern that was understood.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    hir: Hir,
    /// The names that are written in it.
    pub(super) names: Vec<NamedHost>,
    /// Whether it fits host names that are none of these.
    pub(super) others: Truth,
    /// One of those, if it looks like a name of its first one.
    pub(super) example: Option<String>,
}

/// What became of a pattern.
#[derive(Clone, Debug)]
pub(super) enum Reading {
    /// This name alone, or what is under it, or both: no more.
    Name(NamedHost),
    Pattern(Box<Pattern>),
    /// It is not understood.
    Unsupported,
}

/// Reads a pattern; with `folded`, both cases of a letter are one.
pub(super) fn read(pattern: &str, folded: bool) -> Reading {
    let lower = pattern.to_ascii_lowercase();
    if let Some(name) = suffix(if folded { &lower } else { pattern }) {
        return Reading::Name(name);
    }
    understood(pattern, folded).map_or(Reading::Unsupported, |pattern| Reading::Pattern(Box::new(pattern)))
}

fn understood(pattern: &str, folded: bool) -> Option<Pattern> {
    let part = parse::parse(pattern, folded)?;
    let hir = part.hir();
    let automaton = Automaton::of(std::slice::from_ref(&hir))?;
    let found = names_in(&part).into_iter().map(|name| NamedHost {
        itself: automaton.of_all(&automaton.after(&[automaton.begin()], &name)) == Truth::Yes,
        below: automaton.of_all(&automaton.after_under(&name)) == Truth::Yes,
        name,
    });
    let names: Vec<NamedHost> = found.filter(|found| found.itself || found.below).collect();
    let others = others(&automaton, &names)?;
    let example = names.first().and_then(|named| example(&automaton, &named.name, &names));
    Some(Pattern { hir, names, others, example })
}

/// A name that looks like this one and that a pattern fits, though it is none of these: somebody else's.
fn example(automaton: &Automaton, name: &str, names: &[NamedHost]) -> Option<String> {
    let likes = [
        format!("evil{name}"),
        format!("{name}.evil.test"),
        format!("www.{name}.evil.test"),
        format!("evil.{name}"),
        name.replacen('.', "-", 1),
    ];
    let listed = |like: &str| {
        names.iter().any(|NamedHost { name, itself, below }| {
            (*itself && like == name)
                || (*below && like.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
        })
    };
    likes.into_iter().find(|like| {
        let fits = automaton.of_all(&automaton.after(&[automaton.begin()], like)) == Truth::Yes;
        fits && is_name(like) && !listed(like)
    })
}

/// The names that are written in a pattern.
fn names_in(part: &Part) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for text in texts(part) {
        let parts = text.split('\0').map(|part| part.trim_matches('.'));
        names.extend(parts.filter(|name| name.contains('.') && is_name(name)).map(str::to_owned));
    }
    names
}

fn is_name(text: &str) -> bool {
    Name::parse(text).is_ok_and(|name| name.as_str() == text)
}

/// The texts that a pattern stands for, with NUL where anything may stand; any one byte is taken for the dot that was meant.
fn texts(part: &Part) -> Vec<String> {
    match part {
        Part::At(_) => vec![String::new()],
        Part::Bytes(set) if set.is_any() => vec![".".to_owned()],
        Part::Bytes(set) => {
            let bytes: Vec<u8> = set.of_hosts().collect();
            // What is in no host is around one, as in a URL.
            if bytes.is_empty() || bytes.len() > 3 {
                return vec!["\0".to_owned()];
            }
            bytes.into_iter().map(|byte| char::from(byte).to_string()).collect()
        }
        Part::All(parts) => {
            let mut all = vec![String::new()];
            for part in parts {
                let further = texts(part);
                let joined =
                    all.iter().flat_map(|text| further.iter().map(move |more| format!("{text}{more}")));
                all = joined.take(MAX_TEXTS).collect();
            }
            all
        }
        Part::One(parts) => parts.iter().flat_map(texts).take(MAX_TEXTS).collect(),
        Part::Times(part, min, max) => {
            let mut all = if *min == 0 { vec![String::new()] } else { Vec::new() };
            match (&**part, max) {
                (Part::Bytes(set), _) if set.of_hosts().nth(3).is_some() => all.push("\0".to_owned()),
                (part, Some(max)) if *max <= MAX_TIMES => {
                    let (once, mut some) = (texts(part), vec![String::new()]);
                    for times in 1..=*max {
                        let joined =
                            some.iter().flat_map(|text| once.iter().map(move |more| format!("{text}{more}")));
                        some = joined.take(MAX_TEXTS).collect();
                        if times >= *min {
                            all.extend(some.iter().take(MAX_TEXTS - all.len().min(MAX_TEXTS)).cloned());
                        }
                    }
                }
                (part, _) if *min == 1 => all.extend(texts(part)),
                _ => all.push("\0".to_owned()),
            }
            all
        }
    }
}

/// Whether host names fit that are none of these.
fn others(automaton: &Automaton, names: &[NamedHost]) -> Option<Truth> {
    let mut covers = Vec::new();
    for NamedHost { name, itself, below } in names {
        let before = match (itself, below) {
            (true, true) => "([^.]+[.])*",
            (false, _) => "([^.]+[.])+",
            (true, false) => "",
        };
        covers.push(parse::parse(&format!("^{before}{}$", name.replace('.', "[.]")), false)?.hir());
    }
    let cover = if covers.is_empty() { None } else { Some(Automaton::of(&covers)?) };
    let in_cover = |state: Option<State>, byte: u8| Some(cover.as_ref()?.step(state?, byte));
    let begin = (automaton.begin(), cover.as_ref().map(Automaton::begin), InName::Begin);
    let reached = reach(vec![begin], |(state, covered, name)| {
        let next =
            |byte: &u8| Some((automaton.step(state, *byte), in_cover(covered, *byte), name.after(*byte)?));
        NAME_BYTES.iter().filter_map(next).collect()
    });
    let uncovered = reached.into_iter().filter(|(_, covered, name)| {
        let is_covered = covered.zip(cover.as_ref()).is_some_and(|(state, cover)| cover.ends(state));
        *name == InName::Letters && !is_covered
    });
    let states: Vec<State> = uncovered.map(|(state, ..)| state).collect();
    Some(automaton.of_all(&states))
}

/// Reads `^a\.example$`, `\.example\.com$`, `(^|\.)example\.com$`, `^(.*\.)?example\.com$` and their like, which fit nothing but
/// that name, or what is under it, or both.
fn suffix(pattern: &str) -> Option<NamedHost> {
    let body = pattern.strip_suffix('$')?;
    let (itself, below, name) = before(body)?;
    let mut text = String::new();
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                '.' => text.push('.'),
                '-' => text.push('-'),
                _ => return None,
            },
            'a'..='z' | '0'..='9' | '-' | '_' => text.push(character),
            _ => return None,
        }
    }
    is_name(&text).then_some(NamedHost { name: text, itself, below })
}

/// Itself, below, and the rest.
fn before(body: &str) -> Option<(bool, bool, &str)> {
    let both = ["(^|\\.)", "(\\.|^)", "^(.*\\.)?", "^(.+\\.)?", "^([^.]+\\.)*"];
    if let Some(rest) = both.iter().find_map(|start| body.strip_prefix(start)) {
        return Some((true, true, rest));
    }
    let under = ["^.*\\.", "^.+\\.", ".*\\.", ".+\\.", "\\."];
    if let Some(rest) = under.iter().find_map(|start| body.strip_prefix(start)) {
        return Some((false, true, rest));
    }
    body.strip_prefix('^').map(|rest| (true, false, rest))
}

/// The patterns of a list.
#[derive(Clone, Default, Debug)]
pub(super) struct Patterns {
    waiting: Vec<Hir>,
    automata: Vec<Automaton>,
    /// One was too large beside the others.
    unsupported: bool,
    known: RefCell<HashMap<String, Known>>,
}

/// What was found of a name, and of the names under it.
#[derive(Clone, Default, Debug)]
struct Known {
    itself: Option<Truth>,
    below: Option<Truth>,
}

impl Patterns {
    pub(super) fn add(&mut self, pattern: &Pattern) {
        self.waiting.push(pattern.hir.clone());
    }

    /// No more are added: from here on there are answers.
    pub(super) fn seal(&mut self) {
        for together in std::mem::take(&mut self.waiting).chunks(TOGETHER) {
            self.build(together);
        }
    }

    fn build(&mut self, patterns: &[Hir]) {
        match (Automaton::of(patterns), patterns) {
            (Some(automaton), _) => self.automata.push(automaton),
            (None, [] | [_]) => self.unsupported = true,
            (None, _) => {
                let (one, other) = patterns.split_at(patterns.len() / 2);
                self.build(one);
                self.build(other);
            }
        }
    }

    fn of(&self, states: impl Fn(&Automaton) -> Vec<State>) -> Truth {
        let least = if self.unsupported { Truth::Maybe } else { Truth::No };
        let each = self.automata.iter().map(|automaton| automaton.of_all(&states(automaton)));
        each.max().unwrap_or(Truth::No).max(least)
    }

    /// Whether one fits a name.
    pub(super) fn name(&self, name: &str) -> Truth {
        self.known(
            name,
            |known| &mut known.itself,
            || self.of(|automaton| automaton.after(&[automaton.begin()], name)),
        )
    }

    /// Whether one fits the names under a name.
    pub(super) fn below(&self, name: &str) -> Truth {
        self.known(name, |known| &mut known.below, || self.of(|automaton| automaton.after_under(name)))
    }

    /// An answer, which is found once: every class of clients asks for it.
    fn known(
        &self,
        name: &str,
        which: fn(&mut Known) -> &mut Option<Truth>,
        find: impl Fn() -> Truth,
    ) -> Truth {
        if self.automata.is_empty() {
            return find();
        }
        if let Some(known) = self.known.borrow_mut().get_mut(name)
            && let Some(truth) = which(known)
        {
            return *truth;
        }
        let truth = find();
        *which(self.known.borrow_mut().entry(name.to_owned()).or_default()) = Some(truth);
        truth
    }

    /// Whether one fits the addresses of a network, as they are written as a target.
    pub(super) fn network(&self, network: &IpNet) -> Truth {
        self.of(|automaton| addresses(automaton, &[automaton.begin()], network))
    }
}

/// The states after the addresses of a network, as Squid writes them.
fn addresses(automaton: &Automaton, from: &[State], network: &IpNet) -> Vec<State> {
    if network.prefix_len() == network.max_prefix_len() {
        return automaton.after(from, &written(network.addr()));
    }
    match network {
        IpNet::V4(network) => {
            let octets = network.network().octets();
            let fixed = usize::from(network.prefix_len() / 8);
            let mut states = from.to_vec();
            for (number, octet) in octets.iter().enumerate() {
                if number > 0 {
                    states = automaton.after(&states, ".");
                }
                states = match number < fixed {
                    true => automaton.after(&states, &octet.to_string()),
                    false => automaton.runs(&states, b"0123456789", 1, Some(3)),
                };
            }
            states
        }
        IpNet::V6(_) => {
            let states = automaton.after(from, "[");
            let states = automaton.runs(&states, b"0123456789abcdef:.", 2, None);
            automaton.after(&states, "]")
        }
    }
}

/// An address as the host of a target.
pub(super) fn written(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, itself: bool, below: bool) -> NamedHost {
        NamedHost { name: name.to_owned(), itself, below }
    }

    #[test]
    fn plain_suffixes_are_names_and_nothing_else() {
        let rows = [
            (r"\.example\.com$", named("example.com", false, true)),
            (r"(^|\.)example\.com$", named("example.com", true, true)),
            (r"^(.*\.)?example\.com$", named("example.com", true, true)),
            (r"^www\.example\.com$", named("www.example.com", true, false)),
            (r"^.*\.example\.com$", named("example.com", false, true)),
        ];
        for (pattern, want) in rows {
            assert!(matches!(read(pattern, false), Reading::Name(found) if found == want), "{pattern}");
            // The long way says the same, and that there is nothing else.
            let long = understood(pattern, false).expect("understood");
            assert_eq!((long.names, long.others), (vec![want], Truth::No), "{pattern}");
        }
        assert!(matches!(read(r"\.Example\.com$", true), Reading::Name(_)));
    }

    #[test]
    fn the_names_that_are_written_in_a_pattern_are_taken_out() {
        let both = |name: &str| named(name, true, true);
        let rows = [
            (r"example\.com", vec![both("example.com")], Truth::Maybe),
            ("zoom.us", vec![both("zoom.us")], Truth::Maybe),
            (r"example\.com$", vec![both("example.com")], Truth::Maybe),
            (r".example\.com$", vec![named("example.com", false, true)], Truth::Maybe),
            (r"\.example.com$", vec![named("example.com", false, true)], Truth::Maybe),
            (r"^www\.example\.", vec![], Truth::Maybe),
            (r"(^|\.)(google|bing)\.com$", vec![both("bing.com"), both("google.com")], Truth::No),
            (
                r"^(www\.)?example\.com$",
                vec![named("example.com", true, false), named("www.example.com", true, false)],
                Truth::No,
            ),
            (r"^ec2-.*\.amazonaws\.com$", vec![], Truth::Maybe),
            (r"^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$", vec![], Truth::No),
            (r"^\[?[0-9a-fA-F:]+\]?$", vec![], Truth::Maybe),
            ("facebook", vec![], Truth::Maybe),
            (r"EXAMPLE\.com", vec![], Truth::No),
            (".*", vec![], Truth::Yes),
            ("|zoom", vec![], Truth::Yes),
            (r"^\.", vec![], Truth::No),
            ("zoom#us", vec![], Truth::No),
        ];
        for (pattern, names, others) in rows {
            let found = understood(pattern, false).expect("understood");
            assert_eq!((found.names, found.others), (names, others), "{pattern}");
        }
    }

    /// Each row as Squid 5.7 answers it.
    #[test]
    fn of_a_host_that_is_known_the_answer_is_exact() {
        let hosts = [
            "a.example.com",
            "example.com",
            "www.example.com",
            "foo.zoom.us",
            "zoom.us",
            "52.1.1.1",
            "[2600::1]",
        ];
        let examples = "a.example.com example.com www.example.com";
        let zooms = "foo.zoom.us zoom.us";
        let all = hosts.join(" ");
        let rows = [
            (r"^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$", "52.1.1.1"),
            (r"^\[?[0-9a-fA-F:]+\]?$", "[2600::1]"),
            (r"\d", ""),
            (r"(^|\.)example\.com$", examples),
            (r"a\.example|zoom", "a.example.com foo.zoom.us zoom.us"),
            (r"[\.]", "a.example.com example.com www.example.com foo.zoom.us zoom.us 52.1.1.1"),
            ("a{2}", ""),
            ("m{2,}", ""),
            (r"\bzoom\b", zooms),
            (r"\<com\>", examples),
            ("zo+m?", zooms),
            ("^.*zoom", zooms),
            (".*", &all),
            ("^", &all),
            ("()", &all),
            ("[[:alpha:]]oom", zooms),
            ("zoom#us", ""),
            (r"e\.c$|\.us", zooms),
            (r"\w+\.us", zooms),
            (r"\zoom", zooms),
            (r"zoom\/", ""),
            ("ZO{2}M|zO{0}oom", zooms),
            ("^zo^om", ""),
            ("[^a-y]oom", zooms),
            ("[]z]oom", zooms),
            ("none", ""),
        ];
        for (pattern, want) in rows {
            let mut patterns = Patterns::default();
            patterns.add(&understood(pattern, false).unwrap_or_else(|| panic!("{pattern}")));
            patterns.seal();
            let fit = |host: &&str| patterns.name(host) == Truth::Yes;
            let found: Vec<&str> = hosts.iter().copied().filter(|host| fit(host)).collect();
            assert_eq!(found.join(" "), want, "{pattern}");
        }
    }

    #[test]
    fn what_a_pattern_fits_under_a_name_or_in_a_network_is_all_some_or_none_of_it() {
        use Truth::{Maybe, No, Yes};
        let rows = [
            (r"example\.com", Yes, No, No),
            ("facebook", Maybe, No, No),
            (r"^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$", No, Yes, No),
            (r"^\[?[0-9a-fA-F:]+\]?$", No, No, Maybe),
            (r"^10\.", Maybe, Yes, No),
            (r"^10\.16\.9\.", Maybe, Maybe, No),
            (":", No, No, Maybe),
            (r"^\[", No, No, Yes),
            (r"^.*$", Yes, Yes, Yes),
            (r"^a\.", Maybe, No, No),
        ];
        for (pattern, below, four, six) in rows {
            let mut patterns = Patterns::default();
            patterns.add(&understood(pattern, false).unwrap_or_else(|| panic!("{pattern}")));
            patterns.seal();
            let network = |text: &str| patterns.network(&text.parse().expect("a network"));
            let found = (patterns.below("example.com"), network("10.16.0.0/16"), network("2600::/32"));
            assert_eq!(found, (below, four, six), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_would_be_too_large_is_not_followed() {
        let large = "(a|b)*a(a|b){40}x{200}y";
        assert!(matches!(read(large, false), Reading::Unsupported));
        // Patterns that are too large together are taken apart.
        let mut patterns = Patterns::default();
        for number in 0..20 {
            patterns.add(&understood(&format!("a.*b.*c.*{number}"), false).expect("understood"));
        }
        patterns.seal();
        assert_eq!((patterns.name("a-b-c-19.test"), patterns.name("a-b-d.test")), (Truth::Yes, Truth::No));
    }
}
