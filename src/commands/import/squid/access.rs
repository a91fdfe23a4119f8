//! `http_access` (and `ssl_bump`) with its first-match meaning, judged for one kind of request after another.
//!
//! Where a list cannot be known, a line that allows does not match and a line that denies does: the verdict is never
//! wider than Squid's. What that costs is told at the line. Not here: which requests there are (`table`).

use std::cell::RefCell;
use std::collections::BTreeSet;

use ipnet::IpNet;

use super::acl::{Acl, Acls, Answer, Asked, Literal, Question, Test, ask};
use super::lexer::Line;
use super::truth::Truth;
use crate::commands::import::notes::{Kind, Notes, Place};

/// One line of a list of rules.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) place: Place,
    pub(super) allow: bool,
    pub(super) literals: Vec<Literal>,
    /// Under an `if` that only the running Squid can judge.
    pub(super) doubtful: bool,
    pub(super) shown: String,
}

/// Who may do what.
#[derive(Debug)]
pub(super) struct Access<'a> {
    pub(super) acls: &'a Acls,
    pub(super) rules: Vec<Rule>,
    /// What holds where no line matches: the opposite of the last one.
    pub(super) default: bool,
    /// `ssl_bump`, as the SNI is judged by it.
    bump: Vec<Rule>,
    /// The least of `maxconn`, and where it is used.
    pub(super) connections: Option<(u64, Place)>,
    /// Lines that made a verdict stricter, with why; told at the end.
    doubts: RefCell<BTreeSet<(usize, String)>>,
}

/// The verdict on one kind of request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Denied,
    /// By this rule (one behind the last: by default), unless the name leads to one of the networks of these rules.
    /// `doubts`: earlier rules that might have allowed it too.
    Allowed {
        by: usize,
        unless: Vec<usize>,
        doubts: Vec<(usize, String)>,
    },
}

/// How a line fits.
enum Fit {
    No,
    /// It may, for this reason.
    Maybe(String),
    Yes,
    /// Where the name leads to one of these.
    LeadsTo,
    /// Where the name leads to none of these.
    LeadsElsewhere,
    /// Squid asks for a password here, and goes no further without one. It may also have gone on, for this reason.
    Stop(Option<String>),
}

/// Reads the lines.
pub(super) fn read<'a>(lines: &[Line], acls: &'a Acls, notes: &mut Notes) -> Access<'a> {
    let mut access = Access {
        acls,
        rules: Vec::new(),
        default: false,
        bump: Vec::new(),
        connections: None,
        doubts: RefCell::default(),
    };
    for line in lines.iter().filter(|line| line.name == "http_access") {
        let Some(rule) = rule(line, acls, notes) else { continue };
        access.default = !rule.allow;
        let limit =
            rule.literals.iter().find_map(|literal| match acls.get(&literal.acl).map(|acl| &acl.test) {
                Some(Test::Connections(most)) if !literal.negated && !rule.allow => Some(*most),
                _ => None,
            });
        if let Some(most) = limit {
            let most = most.max(1);
            if access.connections.as_ref().is_none_or(|(least, _)| most < *least) {
                access.connections = Some((most, rule.place.clone()));
            }
            let text = format!(
                "{} is now `limits.tunnels_per_client: {most}`, for every client and by its address",
                rule.shown
            );
            notes.tell(&rule.place, Kind::Stricter, text);
            continue;
        }
        access.rules.push(rule);
    }
    for line in lines.iter().filter(|line| line.name == "ssl_bump") {
        let allow = match line.word(0) {
            Some("peek" | "stare") | None => continue,
            Some("terminate") => false,
            Some("splice" | "none") => true,
            Some(_) => {
                let text = format!(
                    "{}: egressd never decrypts; it holds the server name against the host of the CONNECT",
                    line.shown()
                );
                notes.tell(&line.place, Kind::Lost, text);
                true
            }
        };
        let literals = line.words.iter().skip(1).map(|word| Literal::read(&word.text)).collect();
        access.bump.push(Rule {
            place: line.place.clone(),
            allow,
            literals,
            doubtful: line.doubtful,
            shown: line.shown(),
        });
    }
    access
}

fn rule(line: &Line, acls: &Acls, notes: &mut Notes) -> Option<Rule> {
    let allow = match line.word(0) {
        Some("allow") => true,
        Some("deny") => false,
        _ => {
            notes.tell(
                &line.place,
                Kind::Lost,
                format!("{} neither allows nor denies: Squid refuses it", line.shown()),
            );
            return None;
        }
    };
    let literals: Vec<Literal> = line.words.iter().skip(1).map(|word| Literal::read(&word.text)).collect();
    if literals.is_empty() {
        notes.tell(&line.place, Kind::Lost, format!("{} names no list: Squid passes it over", line.shown()));
        return None;
    }
    for literal in &literals {
        if !acls.contains_key(&literal.acl) {
            let text =
                format!("no `acl` is called `{}`: Squid refuses this, and here it fails closed", literal.acl);
            notes.tell(&line.place, Kind::Stricter, text);
        }
    }
    Some(Rule { place: line.place.clone(), allow, literals, doubtful: line.doubtful, shown: line.shown() })
}

impl Access<'_> {
    /// Every list that decides something, those inside others included.
    pub(super) fn used(&self) -> Vec<(&str, &Acl)> {
        let mut used: BTreeSet<&str> = BTreeSet::new();
        let mut waiting: Vec<&str> = self
            .rules
            .iter()
            .chain(&self.bump)
            .flat_map(|rule| &rule.literals)
            .map(|literal| literal.acl.as_str())
            .collect();
        while let Some(name) = waiting.pop() {
            if !used.insert(name) {
                continue;
            }
            if let Some(Acl { test: Test::Either(either), .. }) = self.acls.get(name) {
                waiting.extend(either.iter().flatten().map(|literal| literal.acl.as_str()));
            }
        }
        used.into_iter().filter_map(|name| Some((name, self.acls.get(name)?))).collect()
    }

    /// The rule that a verdict names; of the default, the last.
    pub(super) fn rule(&self, number: usize) -> Option<&Rule> {
        self.rules.get(number).or(self.rules.last())
    }

    /// The networks that a rule denies by where a name leads.
    pub(super) fn networks(&self, rule: usize) -> &[IpNet] {
        let literals = self.rules.get(rule).map(|rule| rule.literals.as_slice()).unwrap_or_default();
        let found =
            literals.iter().find_map(|literal| match self.acls.get(&literal.acl).map(|acl| &acl.test) {
                Some(Test::Destination(networks)) => Some(networks.as_slice()),
                _ => None,
            });
        found.unwrap_or_default()
    }

    /// The verdict, which is never wider than Squid's.
    pub(super) fn judge(&self, question: &Question<'_>) -> Verdict {
        let mut doubts: Vec<(usize, String)> = Vec::new();
        let mut unless: Vec<usize> = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            match (self.fit(rule, question), rule.allow) {
                (Fit::No, _) => {}
                (Fit::Yes, true) => return self.spliced(question, number, unless, doubts),
                (Fit::LeadsElsewhere, true) => {
                    // What leads there was for later rules to judge, and is denied now.
                    if self.could_allow(number + 1, question) {
                        self.doubt(&[(number, LATE.to_owned())]);
                    }
                    unless.push(number);
                    return self.spliced(question, number, unless, doubts);
                }
                (Fit::LeadsTo, false) => unless.push(number),
                (Fit::Yes, false) | (Fit::Stop(None), _) => return self.denied(doubts),
                (Fit::Stop(Some(why)), _) => {
                    if self.could_allow(number + 1, question) {
                        doubts.push((number, why));
                    }
                    return self.denied(doubts);
                }
                // Told once, at the list.
                (Fit::Maybe(why), true) if why.ends_with(BACKWARDS) => {}
                (Fit::Maybe(why), true) => doubts.push((number, why)),
                (Fit::LeadsTo, true) => doubts.push((number, LATE.to_owned())),
                (Fit::Maybe(why), false) => {
                    if self.could_allow(number + 1, question) {
                        doubts.push((number, why));
                    }
                    return self.denied(doubts);
                }
                (Fit::LeadsElsewhere, false) => {
                    if self.could_allow(number + 1, question) {
                        doubts.push((number, LATE.to_owned()));
                    }
                    return self.denied(doubts);
                }
            }
        }
        match self.default {
            true => self.spliced(question, self.rules.len(), unless, doubts),
            false => self.denied(doubts),
        }
    }

    fn denied(&self, doubts: Vec<(usize, String)>) -> Verdict {
        self.doubt(&doubts);
        Verdict::Denied
    }

    /// Writes down that these rules made a verdict stricter.
    pub(super) fn doubt(&self, doubts: &[(usize, String)]) {
        self.doubts.borrow_mut().extend(doubts.iter().cloned());
    }

    /// What `http_access` allows, `ssl_bump` may still end by the server name, which here is the CONNECT host.
    fn spliced(
        &self,
        question: &Question<'_>,
        by: usize,
        unless: Vec<usize>,
        doubts: Vec<(usize, String)>,
    ) -> Verdict {
        // An earlier rule may have let out what leads to a network that is denied now.
        if !unless.is_empty() {
            self.doubt(&doubts);
        }
        let allowed = Verdict::Allowed { by, unless, doubts };
        if !question.connect {
            return allowed;
        }
        for rule in &self.bump {
            match (self.fit(rule, question), rule.allow) {
                (Fit::Yes, true) => return allowed,
                (Fit::No, _) | (_, true) => {}
                (_, false) => return Verdict::Denied,
            }
        }
        allowed
    }

    /// Whether a later rule may allow it.
    fn could_allow(&self, from: usize, question: &Question<'_>) -> bool {
        for rule in self.rules.iter().skip(from) {
            match (self.fit(rule, question), rule.allow) {
                (Fit::No, _) => {}
                (Fit::Yes, allow) => return allow,
                (Fit::Stop(None), _) => return false,
                (Fit::Maybe(why), true) if why.ends_with(BACKWARDS) => {}
                (_, true) => return true,
                (_, false) => {}
            }
        }
        self.default
    }

    fn fit(&self, rule: &Rule, question: &Question<'_>) -> Fit {
        let mut fit = if rule.doubtful { Fit::Maybe("it stands under an `if`".to_owned()) } else { Fit::Yes };
        for literal in &rule.literals {
            match ask(self.acls, literal, question, 0) {
                Answer::Truth(is) => match if literal.negated { !is } else { is } {
                    Truth::No => return Fit::No,
                    Truth::Yes => {}
                    Truth::Maybe => match &fit {
                        Fit::Maybe(why) if !why.ends_with(BACKWARDS) => {}
                        _ => fit = Fit::Maybe(self.why(literal, question)),
                    },
                },
                Answer::AskPassword => {
                    return Fit::Stop(match fit {
                        Fit::Maybe(why) => Some(why),
                        // Squid looked the name up first, and asked only where it leads there.
                        Fit::LeadsTo | Fit::LeadsElsewhere => Some(LATE.to_owned()),
                        _ => None,
                    });
                }
                Answer::LeadsTo => {
                    fit = match (fit, literal.negated) {
                        (Fit::Yes, false) => Fit::LeadsTo,
                        // Deny all that leads there, whatever else may be the case.
                        (Fit::Maybe(_), false) if !rule.allow => Fit::LeadsTo,
                        (Fit::Yes, true) => Fit::LeadsElsewhere,
                        (Fit::Maybe(why), _) => Fit::Maybe(why),
                        _ => Fit::Maybe("it has more than one list of type `dst`".to_owned()),
                    };
                }
            }
        }
        fit
    }

    fn why(&self, literal: &Literal, question: &Question<'_>) -> String {
        let Some(acl) = self.acls.get(&literal.acl) else {
            return format!("there is no list `{}`", literal.acl);
        };
        let why = match (&acl.test, question.host) {
            _ if !acl.why.is_empty() => acl.why.as_str(),
            (Test::Host(_) | Test::Either(_), Asked::Network(_)) if literal.negated => {
                "whether the PTR name of an address is listed, egressd never asks"
            }
            (Test::Host(_) | Test::Either(_), Asked::Network(_)) => BACKWARDS,
            (Test::Way { .. }, _) => {
                "of a plain request egressd does not tell one method or protocol from another"
            }
            (Test::Connections(_), _) => "egressd counts by client alone",
            (Test::Destination(_), _) => LATE,
            (Test::Either(_), _) => "one of its lists cannot be carried over",
            _ => "it cannot be carried over",
        };
        format!("`{}`: {why}", literal.acl)
    }

    /// Tells what failed closed.
    pub(super) fn tell(&self, notes: &mut Notes) {
        for (_, acl) in self.used() {
            for (place, kind, text) in &acl.notes {
                notes.tell(place, *kind, text.clone());
            }
        }
        for (number, why) in self.doubts.borrow().iter() {
            let Some(rule) = self.rules.get(*number) else { continue };
            let does = if rule.allow { "allows less" } else { "denies more" };
            let text = format!("{} {does} than it did, because it fails closed: {why}", rule.shown);
            notes.tell(&rule.place, Kind::Stricter, text);
        }
    }
}

/// Why `dstdomain` is not known of an address.
const BACKWARDS: &str = "of an address Squid looks the name up, and egressd never does";
/// Why `dst` cannot allow a name.
const LATE: &str = "`dst`: a name is allowed or not before it is looked up";
