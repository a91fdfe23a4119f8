//! Which patterns are too wide: those that cover a whole public suffix, under which anyone can register a name.
//!
//! The source is the ICANN section of the Public Suffix List (<https://publicsuffix.org/list/>), which is compiled into
//! the program. A top-level name that the list does not have (`test`, `internal`, a company's own) is not a public
//! suffix. Not here: warnings for the list's private section, where anyone can get a name under a company's domain
//! ([`super::lint`]).

use psl::Psl as _;

/// What the list says of a name with these labels, the last one first. The list is code, of half a megabyte for each type of iterator:
/// all of the program uses this one.
pub(crate) fn find(labels: &mut dyn Iterator<Item = &[u8]>) -> psl::Info {
    psl::List.find(labels)
}

/// Whether "everything under `base`" covers an ICANN public suffix: `base` is one (`com`, `co.uk`), or the list has
/// only wildcard entries under it (`*.ck`, so `ck`). `base` is canonical: lower case, A-labels.
pub(crate) fn spans_public_suffix(base: &str) -> bool {
    // The list looks up names. No name has the label "-", so this one matches only entries for all of `base`.
    let found = find(&mut base.rsplit('.').map(str::as_bytes).chain(std::iter::once(&b"-"[..])));
    found.typ == Some(psl::Type::Icann) && found.len >= base.len()
}

/// The domain that someone registered, of a canonical name: its ICANN public suffix and one label more. The name itself
/// if it has no more than that. A name under `github.io` belongs to `github.io`, whatever the private section says: this
/// is for putting together what is alike, not for telling strangers apart.
pub(crate) fn registrable(name: &str) -> &str {
    // The list tells the longest suffix, and a private one has an ICANN one behind its first label.
    let mut rest = name;
    let suffix = loop {
        let found = find(&mut rest.rsplit('.').map(str::as_bytes));
        let start = rest.len().saturating_sub(found.len);
        let suffix = rest.get(start..).unwrap_or(rest);
        match suffix.split_once('.') {
            Some((_, behind)) if found.typ == Some(psl::Type::Private) => rest = behind,
            _ => break suffix,
        }
    };
    let Some(head) = name.strip_suffix(suffix).and_then(|head| head.strip_suffix('.')) else { return name };
    let start = head.rfind('.').map_or(0, |dot| dot + 1);
    name.get(start..).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_registered_is_one_label_more_than_its_icann_suffix() {
        let rows = [
            ("www.example.com", "example.com"),
            ("example.com", "example.com"),
            ("com", "com"),
            ("a.b.example.co.uk", "example.co.uk"),
            ("git-codecommit.eu-west-1.amazonaws.com", "amazonaws.com"),
            ("bucket.s3.eu-west-1.amazonaws.com", "amazonaws.com"),
            ("s3.amazonaws.com", "amazonaws.com"),
            ("someone.github.io", "github.io"),
            ("github.io", "github.io"),
            ("a.www.ck", "www.ck"),
            ("a.b.c.ck", "b.c.ck"),
            ("a.b.new.test", "new.test"),
            ("git.corp.internal", "corp.internal"),
            ("gitlab", "gitlab"),
            ("a.xn--p1ai", "a.xn--p1ai"),
        ];
        for (name, want) in rows {
            assert_eq!(registrable(name), want, "{name}");
        }
    }

    #[test]
    fn only_whole_icann_suffixes_are_spanned() {
        let rows = [
            ("com", true),
            ("co.uk", true),
            ("uk", true),
            ("ck", true),            // the list has only `*.ck`
            ("foo.ck", true),        // and so every name right under ck is a suffix
            ("www.ck", false),       // save its exception `!www.ck`
            ("kawasaki.jp", true),   // `*.kawasaki.jp`
            ("xn--p1ai", true),      // an A-label
            ("xn--55qx5d.cn", true), // a suffix with an A-label inside
            ("amazonaws.com", false),
            ("s3.amazonaws.com", false), // private section: a warning, not an error
            ("github.io", false),
            ("example.co.uk", false),
            ("test", false),
            ("internal", false),
            ("svc.cluster.local", false),
        ];
        for (base, want) in rows {
            assert_eq!(spans_public_suffix(base), want, "{base}");
        }
    }
}
