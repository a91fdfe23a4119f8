//! For which DNS names an authority may sign: the name constraints of its certificates (RFC 5280 section 4.2.1.10), and
//! whether they exclude all addresses. Not here: constraints of a root that is not in the file, which nobody can see here.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree};

use super::der::{self, SEQUENCE};
use crate::words::target::Name;

/// The object identifier of the extension (RFC 5280 section 4.2.1.10).
pub(crate) const IDENTIFIER: &[u64] = &[2, 5, 29, 30];

/// The extension of a certificate that may sign for these hosts and what is below them: no address, no mail and no URI.
///
/// Addresses are excluded whole: else OpenSSL, Node and Java accept a certificate for one. There is no excluded subtree that holds
/// every mail address or URI for OpenSSL, so of both one host is permitted that never exists (RFC 2606).
pub(crate) fn of_hosts(hosts: &[Name]) -> Vec<u8> {
    const MAIL: u8 = der::implicit(1);
    const DNS: u8 = der::implicit(2);
    const URI: u8 = der::implicit(6);
    const ADDRESS: u8 = der::implicit(7);
    let tree = |tag: u8, base: &[u8]| der::value(SEQUENCE, &[&der::value(tag, &[base])]);
    let mut permitted: Vec<Vec<u8>> = hosts.iter().map(|host| tree(DNS, host.as_str().as_bytes())).collect();
    permitted.extend([tree(MAIL, b"invalid"), tree(URI, b"invalid")]);
    // An address and its mask.
    let excluded = [tree(ADDRESS, &[0; 8]), tree(ADDRESS, &[0; 32])];
    let trees = |number: u8, trees: &[Vec<u8>]| der::value(der::explicit(number), &[&trees.concat()]);
    der::value(SEQUENCE, &[&trees(0, &permitted), &trees(1, &excluded)])
}

/// What the certificates of an authority's file say together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Constraints {
    /// One entry for each certificate that permits only some DNS names: a name must be below one of each.
    permitted: Vec<Vec<Subtree>>,
    excluded: Vec<Subtree>,
    addresses: Addresses,
}

/// What is said of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Addresses {
    /// A leaf for an address would be accepted.
    #[default]
    Possible,
    /// Both families are excluded whole.
    Excluded,
}

/// A name and what is below it; with `below` alone, only that.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Subtree {
    /// In lower case, without the leading dot; empty for every name.
    base: Box<str>,
    below_alone: bool,
}

impl Constraints {
    /// Adds what one certificate says.
    ///
    /// # Errors
    /// The extension cannot be read.
    pub(super) fn add(&mut self, certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
        let found = certificate.name_constraints().map_err(|_| "has malformed name constraints")?;
        let Some(found) = found else { return Ok(()) };
        let dns = |trees: &Option<Vec<GeneralSubtree<'_>>>| -> Vec<Subtree> {
            let bases = trees.iter().flatten().filter_map(|tree| match tree.base {
                GeneralName::DNSName(base) => Some(Subtree::new(base)),
                _ => None,
            });
            bases.collect()
        };
        let permitted = dns(&found.value.permitted_subtrees);
        if !permitted.is_empty() {
            self.permitted.push(permitted);
        }
        self.excluded.extend(dns(&found.value.excluded_subtrees));
        let excludes = |length: usize| {
            found.value.excluded_subtrees.iter().flatten().any(|tree| match tree.base {
                GeneralName::IPAddress(bytes) => bytes.len() == length && bytes.iter().all(|byte| *byte == 0),
                _ => false,
            })
        };
        // An address and its mask: 0.0.0.0/0 and ::/0.
        if excludes(8) && excludes(32) {
            self.addresses = Addresses::Excluded;
        }
        Ok(())
    }

    /// Whether any DNS name at all is kept out.
    pub fn limit_names(&self) -> bool {
        self.permitted.iter().any(|trees| trees.iter().all(|tree| !tree.base.is_empty()))
    }

    /// Whether no leaf for an address would be accepted.
    pub fn exclude_addresses(&self) -> bool {
        self.addresses == Addresses::Excluded
    }

    /// Whether a leaf for any name below `base` would be accepted, and, if it is asked for `itself`, one for `base`.
    pub fn permit_all_below(&self, base: &str, itself: bool) -> bool {
        let covers = |tree: &Subtree| tree.has(base) || (tree.below_alone && !itself && *tree.base == *base);
        let touches = |tree: &Subtree| {
            tree.has(base) || Subtree { base: base.into(), below_alone: false }.has(&tree.base)
        };
        self.permitted.iter().all(|trees| trees.iter().any(covers)) && !self.excluded.iter().any(touches)
    }

    /// Whether a leaf for this name would be accepted.
    pub fn permit(&self, name: &Name) -> bool {
        let name = name.as_str();
        self.permitted.iter().all(|trees| trees.iter().any(|tree| tree.has(name)))
            && !self.excluded.iter().any(|tree| tree.has(name))
    }
}

impl Subtree {
    fn new(base: &str) -> Self {
        let base = base.to_ascii_lowercase();
        match base.strip_prefix('.') {
            Some(rest) => Subtree { base: rest.into(), below_alone: true },
            None => Subtree { base: base.into(), below_alone: false },
        }
    }

    /// Labels count, not characters: `evilexample.com` is not below `example.com`.
    fn has(&self, name: &str) -> bool {
        match name.strip_suffix(&*self.base) {
            Some("") => !self.below_alone,
            Some(before) => self.base.is_empty() || before.ends_with('.'),
            None => false,
        }
    }
}
