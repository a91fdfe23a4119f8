//! Which patterns are too wide: those that cover a whole public suffix, under which anyone can register a name.
//!
//! The source is the ICANN section of the Public Suffix List (<https://publicsuffix.org/list/>), which is compiled into
//! the program. A top-level name that the list does not have (`test`, `internal`, a company's own) is not a public
//! suffix. Not here: warnings for the list's private section, where anyone can get a name under a company's domain
//! ([`super::lint`]).

use psl::Psl as _;

/// Whether "everything under `base`" covers an ICANN public suffix: `base` is one (`com`, `co.uk`), or the list has
/// only wildcard entries under it (`*.ck`, so `ck`). `base` is canonical: lower case, A-labels.
pub(crate) fn spans_public_suffix(base: &str) -> bool {
    // The list looks up names. No name has the label "-", so this one matches only entries for all of `base`.
    let labels = base.rsplit('.').map(str::as_bytes).chain(std::iter::once(&b"-"[..]));
    let found = psl::List.find(labels);
    found.typ == Some(psl::Type::Icann) && found.len >= base.len()
}

#[cfg(test)]
mod tests {
    use super::*;

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
