//! What becomes of a host that is added to a file later: whether a file can stand under `deny`, and what one without names is
//! for.
//!
//! Such a host is in the lists of that file. Whether it is in others depends on the host, so the question is asked for none of
//! them, and for any. Not here: hosts that are listed now ([`super::super::table`]).

use std::collections::BTreeSet;

use super::super::access::{Access, AccessRule};
use super::super::acl::{Acl, AclAnswer, AclTest, AskedHost, Literal, RequestKind, ask};
use super::super::asked::Takes;
use super::super::classes::ClientClass;
use super::super::ports::Segments;
use super::super::table::WAYS;
use super::super::truth::Truth;

/// Hosts that only the files of these lists name.
pub(super) struct FreshHost<'a> {
    pub(super) access: &'a Access<'a>,
    pub(super) class: &'a ClientClass,
    pub(super) segments: &'a Segments,
    /// The lists that they are in.
    pub(super) acls: &'a BTreeSet<String>,
}

/// How a rule fits such a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FreshFit {
    No,
    Maybe,
    Yes,
    /// Where the host leads into a network of it, or where it does not.
    LeadsTo,
    /// Squid asks for a password, and goes no further without one.
    Stop,
    /// It may do so.
    MayStop,
}

impl FreshHost<'_> {
    /// Whether a line denies them in every way and on every port before any line can allow them, whatever else lists them.
    pub(super) fn are_denied(&self) -> bool {
        let mut requests =
            WAYS.iter().flat_map(|connect| self.segments.iter().map(move |(_, ports)| (*connect, ports)));
        requests.all(|(connect, ports)| self.is_denied(connect, ports))
    }

    /// Whether a line that names their lists may deny them, whatever else lists them.
    pub(super) fn may_be_denied(&self) -> bool {
        let named = |rule: &&AccessRule| {
            let literals = self.access.literals_of(rule);
            !rule.allow && literals.iter().any(|(negated, acl)| !negated && self.acls.contains(*acl))
        };
        self.access.rules.iter().filter(named).any(|rule| {
            WAYS.iter().any(|connect| {
                self.segments
                    .iter()
                    .any(|(_, ports)| self.fit(rule, *connect, ports, Truth::Maybe) != FreshFit::No)
            })
        })
    }

    fn is_denied(&self, connect: bool, ports: (u16, u16)) -> bool {
        for rule in &self.access.rules {
            match (self.fit(rule, connect, ports, Truth::Maybe), rule.allow) {
                (FreshFit::No | FreshFit::MayStop, _) => {}
                (FreshFit::Yes, false) | (FreshFit::Stop, _) => return true,
                (_, true) => return false,
                (_, false) => {}
            }
        }
        !self.access.default
    }

    /// The rule that allows them on this port where no other list holds them, and those that deny by where a name leads.
    pub(super) fn allowed(&self, connect: bool, ports: (u16, u16)) -> Option<(usize, Vec<usize>)> {
        let request = self.request(connect, ports);
        let taken = match self.class.takes {
            Takes::Requests => true,
            Takes::RedirectedHttp => !connect,
            Takes::RedirectedTls => false,
        };
        if !taken || self.access.is_stranded(&request) != Truth::No {
            return None;
        }
        let mut unless = Vec::new();
        for (number, rule) in self.access.rules.iter().enumerate() {
            match (self.fit(rule, connect, ports, Truth::No), rule.allow) {
                (FreshFit::Yes, true) => return Some((number, unless)),
                (FreshFit::LeadsTo, false) => unless.push(number),
                (FreshFit::Stop | FreshFit::MayStop, _) => return None,
                (FreshFit::No, _) | (_, true) => {}
                (_, false) => return None,
            }
        }
        None
    }

    fn request(&self, connect: bool, ports: (u16, u16)) -> RequestKind<'_> {
        let ClientClass { lists, takes, .. } = self.class;
        RequestKind { client: lists, takes: *takes, hello: true, connect, ports, host: AskedHost::OtherNames }
    }

    fn fit(&self, rule: &AccessRule, connect: bool, ports: (u16, u16), elsewhere: Truth) -> FreshFit {
        let mut fit = if rule.doubtful { FreshFit::Maybe } else { FreshFit::Yes };
        let request = self.request(connect, ports);
        for literal in &rule.literals {
            match self.ask(literal, &request, elsewhere, 0) {
                AclAnswer::Truth(is) => match if literal.negated { !is } else { is } {
                    Truth::No => return FreshFit::No,
                    Truth::Maybe => fit = FreshFit::Maybe,
                    Truth::Yes => {}
                },
                AclAnswer::LeadsTo if literal.negated || fit != FreshFit::Yes => fit = FreshFit::Maybe,
                AclAnswer::LeadsTo => fit = FreshFit::LeadsTo,
                AclAnswer::AskPassword if fit == FreshFit::Yes => return FreshFit::Stop,
                AclAnswer::AskPassword => return FreshFit::MayStop,
            }
        }
        fit
    }

    /// What a list answers; `elsewhere`: what is said of hosts by the lists that they are not known to be in.
    fn ask(&self, literal: &Literal, request: &RequestKind<'_>, elsewhere: Truth, depth: usize) -> AclAnswer {
        let Some(acl) = self.access.acls.get(&literal.acl).filter(|_| depth < 8) else {
            return AclAnswer::Truth(Truth::Maybe);
        };
        match &acl.test {
            AclTest::Host(_) if self.acls.contains(&literal.acl) => AclAnswer::Truth(Truth::Yes),
            AclTest::Host(hosts) => AclAnswer::Truth(hosts.has_others().max(elsewhere)),
            AclTest::Destination { .. } => {
                acl.test.of_host(request.host).map_or(AclAnswer::LeadsTo, AclAnswer::Truth)
            }
            AclTest::Either(either) => self.either(acl, either, request, elsewhere, depth),
            _ => ask(self.access.acls, literal, request, depth),
        }
    }

    fn either(
        &self,
        acl: &Acl,
        either: &[Vec<Literal>],
        request: &RequestKind<'_>,
        elsewhere: Truth,
        depth: usize,
    ) -> AclAnswer {
        let part = |literal: &Literal| match self.ask(literal, request, elsewhere, depth + 1) {
            AclAnswer::Truth(is) if literal.negated => !is,
            AclAnswer::Truth(is) => is,
            AclAnswer::LeadsTo | AclAnswer::AskPassword => Truth::Maybe,
        };
        let all = |literals: &Vec<Literal>| literals.iter().map(part).min().unwrap_or(Truth::Yes);
        let is = either.iter().map(all).max().unwrap_or(Truth::No);
        AclAnswer::Truth(if acl.partly { is.max(Truth::Maybe) } else { is })
    }
}
