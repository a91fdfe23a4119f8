//! `http_access` (and `ssl_bump`) with its first-match meaning, evaluated for one kind of request after another.
//!
//! Where a list cannot be known, a line that allows does not match and a line that denies does: the verdict is never
//! wider than Squid's. What that costs is told at the line. Not here: which requests there are ([`super::table`]).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::acl::{self, Acl, AclAnswer, AclTest, Acls, Literal, RequestKind, ask};
use super::asked::Takes;
use super::bump::{self, Bump};
use super::doors::Door;
use super::lexer::Line;
use super::routes::{NOWHERE, Routes};
use super::truth::Truth;
use super::why::{BACKWARDS, LATE, UNASKED, why};
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};

/// One line of a list of rules.
#[derive(Clone, Debug)]
pub(super) struct AccessRule {
    pub(super) place: SourceLine,
    pub(super) allow: bool,
    pub(super) literals: Vec<Literal>,
    /// Under an `if` that only the running Squid can evaluate.
    pub(super) doubtful: bool,
    pub(super) shown: String,
}

/// The rules of `http_access` and `ssl_bump`, with the lists that they use.
#[derive(Debug)]
pub(super) struct Access<'a> {
    /// The place of notes that are about no line.
    pub(super) whole: SourceLine,
    pub(super) acls: &'a Acls,
    /// The ports that become listeners.
    pub(super) doors: Vec<Door>,
    pub(super) routes: Routes,
    pub(super) rules: Vec<AccessRule>,
    /// What holds where no line matches: the opposite of the last one.
    pub(super) default: bool,
    /// The lines of `ssl_bump`, which decide on the SNI.
    pub(super) bump: Bump,
    /// The least of `maxconn`, and where it is used.
    pub(super) connections: Option<(u64, SourceLine)>,
    /// Lines that made a verdict stricter, with why; told at the end.
    pub(super) doubts: RefCell<BTreeSet<(usize, String)>>,
    /// The same for lines of `ssl_bump`.
    pub(super) bump_doubts: RefCell<BTreeSet<(usize, String)>>,
    /// Rules that may have allowed an address by its PTR name.
    pub(super) backwards: RefCell<BTreeSet<usize>>,
    /// Nobody's password is known: what is for users is for nobody.
    pub(super) unasked: bool,
    /// Users are compared as they give their names; else Squid takes every name in small letters.
    pub(super) exact_users: bool,
    /// Lines that decided on some request; and those that may have, with why that is not known.
    pub(super) deciding: RefCell<BTreeSet<usize>>,
    pub(super) unknown: RefCell<BTreeMap<usize, String>>,
    /// Lines of `ssl_bump` that have a part in a verdict.
    pub(super) bump_deciding: RefCell<BTreeSet<usize>>,
    /// What lines that are not known to deny it deny now, by the line.
    pub(super) denied_hosts: RefCell<BTreeMap<usize, BTreeSet<String>>>,
}

/// The verdict on one kind of request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum AccessVerdict {
    Denied {
        /// A line could not be evaluated, and Squid may allow it.
        perhaps: bool,
        /// The line that it is denied by, where Squid may not deny it.
        by: Option<usize>,
    },
    /// By this rule (one behind the last: by default), unless the name leads to one of the networks of these rules.
    /// `doubts`: earlier rules that might have allowed it too.
    Allowed { by: usize, unless: Vec<usize>, doubts: Vec<(usize, String)> },
}

/// How a line fits.
enum RuleFit {
    No,
    /// It may, for this reason.
    Maybe(String),
    Yes,
    /// Where the name leads to one of these; of some of the names it may not be so, for this reason.
    LeadsTo(Option<String>),
    /// Where the name leads to none of these.
    LeadsElsewhere,
    /// Squid asks for a password here, and goes no further without one. It may also have gone on, for this reason.
    Stop(Option<String>),
}

/// Reads the lines.
pub(super) fn read<'a>(main: &str, lines: &[Line], acls: &'a Acls, notes: &mut Notes) -> Access<'a> {
    let mut access = Access {
        whole: SourceLine { file: main.into(), line: 1 },
        acls,
        doors: Vec::new(),
        routes: Routes::read(lines),
        rules: Vec::new(),
        default: false,
        bump: bump::read(lines, notes),
        connections: None,
        doubts: RefCell::default(),
        bump_doubts: RefCell::default(),
        backwards: RefCell::default(),
        unasked: true,
        exact_users: acl::exact_users(lines),
        deciding: RefCell::default(),
        unknown: RefCell::default(),
        bump_deciding: RefCell::default(),
        denied_hosts: RefCell::default(),
    };
    for line in lines.iter().filter(|line| line.name == "http_access") {
        let Some(rule) = rule(line, acls, notes) else { continue };
        access.default = !rule.allow;
        let limit =
            rule.literals.iter().find_map(|literal| match acls.get(&literal.acl).map(|acl| &acl.test) {
                Some(AclTest::Connections(most)) if !literal.negated && !rule.allow => Some(*most),
                _ => None,
            });
        if let Some(most) = limit {
            let most = most.max(1);
            if access.connections.as_ref().is_none_or(|(least, _)| most < *least) {
                access.connections = Some((most, rule.place.clone()));
            }
            let text = format!(
                "{} becomes `limits.tunnels_per_client: {most}`, which holds for every client address",
                rule.shown
            );
            notes.tell(&rule.place, NoteKind::Stricter, text);
            continue;
        }
        access.rules.push(rule);
    }
    access
}

fn rule(line: &Line, acls: &Acls, notes: &mut Notes) -> Option<AccessRule> {
    let allow = match line.bare(0) {
        Some("allow") => true,
        Some("deny") => false,
        _ => {
            notes.tell(
                &line.place,
                NoteKind::Lost,
                format!("{} neither allows nor denies: Squid refuses it", line.shown()),
            );
            return None;
        }
    };
    let literals = Literal::list(line, 1);
    if literals.is_empty() {
        notes.tell(&line.place, NoteKind::Lost, format!("{} names no list: Squid ignores it", line.shown()));
        return None;
    }
    for literal in &literals {
        if !acls.contains_key(&literal.acl) {
            notes.tell(&line.place, NoteKind::Stricter, literal.missing());
        }
    }
    Some(AccessRule {
        place: line.place.clone(),
        allow,
        literals,
        doubtful: line.doubtful,
        shown: line.shown(),
    })
}

impl Access<'_> {
    /// Every list that decides something, those inside others included.
    pub(super) fn used(&self) -> Vec<(&str, &Acl)> {
        let mut used: BTreeSet<&str> = BTreeSet::new();
        let mut waiting: Vec<&str> = self
            .rules
            .iter()
            .map(|rule| &rule.literals)
            .chain(self.bump.rules.iter().map(|rule| &rule.literals))
            .flatten()
            .chain(self.routes.literals())
            .map(|literal| literal.acl.as_str())
            .collect();
        while let Some(name) = waiting.pop() {
            if !used.insert(name) {
                continue;
            }
            if let Some(Acl { test: AclTest::Either(either), .. }) = self.acls.get(name) {
                waiting.extend(either.iter().flatten().map(|literal| literal.acl.as_str()));
            }
        }
        used.into_iter().filter_map(|name| Some((name, self.acls.get(name)?))).collect()
    }

    /// The lists of a rule, those inside others included; of those inside a negated one each is negated the other way.
    pub(super) fn literals_of<'r>(&'r self, rule: &'r AccessRule) -> Vec<(bool, &'r str)> {
        let mut found: Vec<(bool, &str)> = Vec::new();
        let mut waiting: Vec<(bool, &Literal)> =
            rule.literals.iter().map(|literal| (false, literal)).collect();
        while let Some((turned, literal)) = waiting.pop() {
            let one = (literal.negated != turned, literal.acl.as_str());
            if found.contains(&one) {
                continue;
            }
            found.push(one);
            if let Some(Acl { test: AclTest::Either(either), .. }) = self.acls.get(&literal.acl) {
                waiting.extend(either.iter().flatten().map(|inner| (one.0, inner)));
            }
        }
        found
    }

    /// Whether Squid finds this user of the password file.
    pub(super) fn may_log_in(&self, user: &str) -> bool {
        self.exact_users || !user.contains(|c: char| c.is_ascii_uppercase())
    }

    /// The rule that a verdict names; of the default, the last.
    pub(super) fn rule(&self, number: usize) -> Option<&AccessRule> {
        self.rules.get(number).or(self.rules.last())
    }

    /// The networks that a rule denies by where a name leads.
    pub(super) fn networks(&self, rule: usize) -> Vec<IpNet> {
        let literals = self.rules.get(rule).map(|rule| rule.literals.as_slice()).unwrap_or_default();
        let found =
            literals.iter().find_map(|literal| match self.acls.get(&literal.acl).map(|acl| &acl.test) {
                Some(AclTest::Destination { addresses, .. }) => Some(addresses.networks()),
                _ => None,
            });
        found.unwrap_or_default()
    }

    /// Whether clients are told apart by the port that they come by.
    pub(super) fn tells_doors_apart(&self) -> bool {
        let redirected = self.doors.iter().any(|door| door.takes != Takes::Requests);
        redirected || self.used().iter().any(|(_, acl)| matches!(acl.test, AclTest::Door { .. }))
    }

    /// The verdict, which is never wider than Squid's. What is redirected has another: [`super::redirected`].
    pub(super) fn verdict(&self, request: &RequestKind<'_>) -> AccessVerdict {
        let mut doubts: Vec<(usize, String)> = Vec::new();
        let mut unless: Vec<usize> = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            let fit = self.fit(rule, request);
            self.reached(number, &fit, rule.allow);
            match (fit, rule.allow) {
                (RuleFit::No, _) => {}
                (RuleFit::Yes, true) => return self.spliced(request, number, unless, doubts),
                (RuleFit::LeadsElsewhere, true) => {
                    // Squid left names that lead there to later rules; they are denied now.
                    if self.could_allow(number + 1, request) {
                        self.doubt(&[(number, LATE.to_owned())]);
                    }
                    unless.push(number);
                    return self.spliced(request, number, unless, doubts);
                }
                (RuleFit::LeadsTo(why), false) => {
                    unless.push(number);
                    let lost = why.filter(|_| self.could_allow(number + 1, request));
                    self.doubt(&lost.map(|why| (number, why)).into_iter().collect::<Vec<_>>());
                }
                (RuleFit::Stop(None), allow) if self.unasked => {
                    let lost = allow || self.could_allow(number + 1, request);
                    if lost {
                        doubts.push((number, UNASKED.to_owned()));
                    }
                    return self.denied(doubts, lost.then_some(number));
                }
                (RuleFit::Yes, false) | (RuleFit::Stop(None), _) => return self.denied(doubts, None),
                (RuleFit::Stop(Some(why)), allow) => {
                    let lost = (allow && self.unasked) || self.could_allow(number + 1, request);
                    if lost {
                        doubts.push((number, why));
                    }
                    return self.denied(doubts, lost.then_some(number));
                }
                // Told once, at the list.
                (RuleFit::Maybe(why), true) if why.ends_with(BACKWARDS) => {
                    self.backwards.borrow_mut().insert(number);
                }
                (RuleFit::Maybe(why), true) => doubts.push((number, why)),
                (RuleFit::LeadsTo(_), true) => doubts.push((number, LATE.to_owned())),
                (RuleFit::Maybe(why), false) => {
                    let lost = self.could_allow(number + 1, request);
                    if lost {
                        doubts.push((number, why));
                    }
                    return self.denied(doubts, lost.then_some(number));
                }
                (RuleFit::LeadsElsewhere, false) => {
                    let lost = self.could_allow(number + 1, request);
                    if lost {
                        doubts.push((number, LATE.to_owned()));
                    }
                    return self.denied(doubts, lost.then_some(number));
                }
            }
        }
        match self.default {
            true => self.spliced(request, self.rules.len(), unless, doubts),
            false => self.denied(doubts, None),
        }
    }

    /// Writes down that a line has a part in a verdict; what one allows, `ssl_bump` may end.
    fn reached(&self, number: usize, fit: &RuleFit, allow: bool) {
        match fit {
            RuleFit::No => {}
            RuleFit::Yes | RuleFit::LeadsElsewhere if allow => {}
            RuleFit::Maybe(why) => {
                self.unknown.borrow_mut().entry(number).or_insert_with(|| why.clone());
            }
            RuleFit::Stop(_) if self.unasked => {
                self.unknown.borrow_mut().entry(number).or_insert_with(|| UNASKED.to_owned());
            }
            _ => {
                self.deciding.borrow_mut().insert(number);
            }
        }
    }

    fn denied(&self, doubts: Vec<(usize, String)>, by: Option<usize>) -> AccessVerdict {
        self.doubt(&doubts);
        AccessVerdict::Denied { perhaps: !doubts.is_empty(), by }
    }

    /// Writes down that these rules made a verdict stricter.
    pub(super) fn doubt(&self, doubts: &[(usize, String)]) {
        self.doubts.borrow_mut().extend(doubts.iter().cloned());
    }

    /// What `http_access` allows, `ssl_bump` may still end by the server name, which here is the CONNECT host.
    fn spliced(
        &self,
        request: &RequestKind<'_>,
        by: usize,
        unless: Vec<usize>,
        mut doubts: Vec<(usize, String)>,
    ) -> AccessVerdict {
        // An earlier rule may have let out what leads to a network that is denied now.
        if !unless.is_empty() {
            self.doubt(&doubts);
        }
        if let Some(rule) = self.ended_by(request).and_then(|number| self.bump.rules.get(number)) {
            let why = format!("{} ends the tunnels that it lets through", rule.shown);
            self.unknown.borrow_mut().entry(by).or_insert(why);
            return AccessVerdict::Denied { perhaps: false, by: None };
        }
        match self.is_stranded(request) {
            Truth::No => {}
            Truth::Yes => return AccessVerdict::Denied { perhaps: false, by: None },
            Truth::Maybe => {
                let by = by.min(self.rules.len().saturating_sub(1));
                doubts.push((by, NOWHERE.to_owned()));
                return self.denied(doubts, Some(by));
            }
        }
        self.deciding.borrow_mut().insert(by);
        AccessVerdict::Allowed { by, unless, doubts }
    }

    /// The line of `ssl_bump` that ends a tunnel, or may do so.
    fn ended_by(&self, request: &RequestKind<'_>) -> Option<usize> {
        let mut unsure: Vec<(usize, String)> = Vec::new();
        for (number, rule) in self.bump.rules.iter().enumerate().filter(|_| request.connect && request.hello)
        {
            let fit = self.fit_of(&rule.literals, rule.doubtful, rule.allow, request);
            if !matches!(fit, RuleFit::No) {
                self.bump_deciding.borrow_mut().insert(number);
            }
            match (fit, rule.allow) {
                (RuleFit::Yes, true) => return None,
                (RuleFit::No, _) => continue,
                (RuleFit::Yes, false) if !self.bump.elsewhere => {}
                (RuleFit::Yes, false) => unsure.push((number, bump::OTHER_PORT.to_owned())),
                (RuleFit::Maybe(why), _) => unsure.push((number, why)),
                _ => unsure.push((number, LATE.to_owned())),
            }
            if !rule.allow {
                self.bump_doubts.borrow_mut().extend(unsure);
                return Some(number);
            }
        }
        None
    }

    /// The first rule after one that lets every host out that lists what this request asks for: `rest` asks for hosts that
    /// nothing mentions.
    pub(super) fn listed_after(
        &self,
        open: usize,
        request: &RequestKind<'_>,
        rest: &RequestKind<'_>,
    ) -> Option<usize> {
        let fits = |rule: &AccessRule, request| matches!(self.fit(rule, request), RuleFit::Yes);
        let lists = |rule: &AccessRule| rule.allow && fits(rule, request) && !fits(rule, rest);
        let mut later = self.rules.iter().enumerate().skip(open + 1);
        later.find(|(_, rule)| lists(rule)).map(|(number, _)| number)
    }

    /// Whether a later rule may allow it.
    fn could_allow(&self, from: usize, request: &RequestKind<'_>) -> bool {
        for rule in self.rules.iter().skip(from) {
            match (self.fit(rule, request), rule.allow) {
                (RuleFit::No, _) => {}
                (RuleFit::Yes, allow) => return allow,
                (RuleFit::Stop(None), _) if !self.unasked => return false,
                (RuleFit::Maybe(why), true) if why.ends_with(BACKWARDS) => {}
                (_, true) => return true,
                (_, false) => {}
            }
        }
        self.default
    }

    /// Whether Squid had no way for it.
    pub(super) fn is_stranded(&self, request: &RequestKind<'_>) -> Truth {
        self.routes.is_stranded(|literals, doubtful| self.truth(literals, doubtful, request))
    }

    /// Whether these lists are true of it.
    fn truth(&self, literals: &[Literal], doubtful: bool, request: &RequestKind<'_>) -> Truth {
        match self.fit_of(literals, doubtful, true, request) {
            RuleFit::No => Truth::No,
            RuleFit::Yes => Truth::Yes,
            _ => Truth::Maybe,
        }
    }

    fn fit(&self, rule: &AccessRule, request: &RequestKind<'_>) -> RuleFit {
        self.fit_of(&rule.literals, rule.doubtful, rule.allow, request)
    }

    fn fit_of(
        &self,
        literals: &[Literal],
        doubtful: bool,
        allow: bool,
        request: &RequestKind<'_>,
    ) -> RuleFit {
        let mut fit = if doubtful {
            RuleFit::Maybe("it is under an `if` that only the running Squid can evaluate".to_owned())
        } else {
            RuleFit::Yes
        };
        for literal in literals {
            match ask(self.acls, literal, request, 0) {
                AclAnswer::Truth(is) => match if literal.negated { !is } else { is } {
                    Truth::No => return RuleFit::No,
                    Truth::Yes => {}
                    Truth::Maybe => match &fit {
                        RuleFit::Maybe(why) if !why.ends_with(BACKWARDS) => {}
                        _ => fit = RuleFit::Maybe(why(self.acls, literal, request)),
                    },
                },
                AclAnswer::AskPassword => {
                    return RuleFit::Stop(match fit {
                        RuleFit::Maybe(why) => Some(why),
                        // Squid looked the name up first, and asked only where it leads there.
                        RuleFit::LeadsTo(_) | RuleFit::LeadsElsewhere => Some(LATE.to_owned()),
                        _ => None,
                    });
                }
                AclAnswer::LeadsTo => {
                    fit = match (fit, literal.negated) {
                        (RuleFit::Yes, false) => RuleFit::LeadsTo(None),
                        // Deny every name that leads there, even if another list is unknown.
                        (RuleFit::Maybe(why), false) if !allow => RuleFit::LeadsTo(Some(why)),
                        (RuleFit::Yes, true) => RuleFit::LeadsElsewhere,
                        (RuleFit::Maybe(why), _) => RuleFit::Maybe(why),
                        _ => RuleFit::Maybe("it has more than one list of type `dst`".to_owned()),
                    };
                }
            }
        }
        fit
    }
}
