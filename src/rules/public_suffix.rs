//! Which patterns are too wide: those that cover a whole public suffix, under which anyone can register a name.
//!
//! The source is the Public Suffix List (<https://publicsuffix.org/list/>), which its authors keep under the MPL 2.0. `public_suffixes.txt`
//! is that list by the crate `psl`, which finds the same by half a megabyte of code: a test holds the two against each other. A top-level
//! name that the list does not have (`test`, `internal`, a company's own) is not a public suffix. Not here: warnings for the list's private
//! section, where anyone can get a name under a company's domain ([`super::lint`]).

/// One rule a line, its labels in turned order, so that what is looked up from the last label on is found by halving. All are sorted by their
/// bytes. A name is in ASCII. Behind the name of a rule, `!` is an exception from a rule with `*`, and `~` a rule of the private section.
static LIST: &str = include_str!("public_suffixes.txt");

/// The section of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Icann,
    Private,
}

/// The longest suffix that the list has for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// In bytes, from the end of the name.
    pub(crate) len: usize,
    /// Where the rule stands. Without one, the last label is the suffix.
    pub(crate) section: Option<Section>,
}

/// What the list says of `name`, which is canonical: lower case, A-labels.
pub(crate) fn find(name: &str) -> Found {
    let mut turned = String::with_capacity(name.len() + 2);
    let mut found = Found { len: name.rsplit('.').next().unwrap_or(name).len(), section: None };
    for label in name.rsplit('.') {
        let parent = turned.len();
        if parent > 0 {
            turned.push_str(".*");
            if let Some((section, _)) = rule(&turned) {
                found = Found { len: parent + 1 + label.len(), section: Some(section) };
            }
            turned.truncate(parent + 1);
        }
        turned.push_str(label);
        match rule(&turned) {
            Some((section, true)) => return Found { len: parent, section: Some(section) },
            Some((section, false)) => found = Found { len: turned.len(), section: Some(section) },
            None => {}
        }
    }
    found
}

/// The section of the rule of exactly this name, and whether it is an exception.
fn rule(turned: &str) -> Option<(Section, bool)> {
    let (mut low, mut high) = (0, LIST.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let start = LIST.get(..middle)?.rfind('\n').map_or(0, |end| end + 1);
        let line = LIST.get(start..)?.lines().next()?;
        let name = line.trim_end_matches(['!', '~']);
        match name.cmp(turned) {
            std::cmp::Ordering::Less => low = start + line.len() + 1,
            std::cmp::Ordering::Greater => high = start,
            std::cmp::Ordering::Equal => {
                let section = if line.ends_with('~') { Section::Private } else { Section::Icann };
                return Some((section, line[name.len()..].starts_with('!')));
            }
        }
    }
    None
}

/// Whether "everything under `base`" covers an ICANN public suffix: `base` is one (`com`, `co.uk`), or the list has
/// only wildcard entries under it (`*.ck`, so `ck`). `base` is canonical: lower case, A-labels.
pub(crate) fn spans_public_suffix(base: &str) -> bool {
    // The list looks up names. No name has the label "-", so this one matches only entries for all of `base`.
    let found = find(&format!("-.{base}"));
    found.section == Some(Section::Icann) && found.len >= base.len()
}

/// The domain that someone registered, of a canonical name: its ICANN public suffix and one label more. The name itself
/// if it has no more than that. A name under `github.io` belongs to `github.io`, whatever the private section says: this
/// is for putting together what is alike, not for telling strangers apart.
pub(crate) fn registrable(name: &str) -> &str {
    // The list tells the longest suffix, and a private one has an ICANN one behind its first label.
    let mut rest = name;
    let suffix = loop {
        let found = find(rest);
        let start = rest.len().saturating_sub(found.len);
        let suffix = rest.get(start..).unwrap_or(rest);
        match suffix.split_once('.') {
            Some((_, behind)) if found.section == Some(Section::Private) => rest = behind,
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
    use proptest::prelude::*;
    use psl::Psl as _;

    /// What the crate says of the name.
    fn of_the_crate(name: &str) -> Found {
        let found = psl::List.find(name.rsplit('.').map(str::as_bytes));
        let section = found.typ.map(|section| match section {
            psl::Type::Icann => Section::Icann,
            psl::Type::Private => Section::Private,
        });
        Found { len: found.len, section }
    }

    /// What the crate says, or what the rules say where it has none of a name beside a wildcard: of `*.run.app` and `*.mtls.run.app` it has no
    /// suffix for `mtls.run.app`.
    fn expected(name: &str) -> Found {
        let of_the_crate = of_the_crate(name);
        let wildcard = name.split_once('.').is_some_and(|(_, parent)| {
            let turned = parent.rsplit('.').chain(std::iter::once("*")).collect::<Vec<_>>().join(".");
            LIST.lines().any(|line| line.trim_end_matches('~') == turned)
        });
        if !wildcard || of_the_crate.len >= name.len() || is_exception(name) {
            return of_the_crate;
        }
        // A suffix of a wildcard of the list's private section: there are no others beside a longer one.
        Found { len: name.len(), section: Some(Section::Private) }
    }

    fn is_exception(name: &str) -> bool {
        let turned = name.rsplit('.').collect::<Vec<_>>().join(".");
        LIST.lines().any(|line| line.trim_end_matches('~').strip_suffix('!') == Some(&turned))
    }

    /// The list that the crate was made from, as this module has it.
    fn list_of_the_crate() -> String {
        let metadata = std::process::Command::new(env!("CARGO"))
            .args(["metadata", "--offline", "--locked", "--format-version", "1", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .output()
            .expect("cargo runs");
        let metadata: serde_json::Value =
            serde_json::from_slice(&metadata.stdout).expect("cargo prints JSON");
        let crates = metadata["packages"].as_array().expect("packages");
        let psl = crates.iter().find(|one| one["name"] == "psl").expect("psl is a dependency");
        let folder =
            std::path::Path::new(psl["manifest_path"].as_str().expect("a path")).parent().expect("a folder");
        let rules = std::fs::read_to_string(folder.join("data/rules.txt")).expect("psl has its rules");
        let mut lines = std::collections::BTreeMap::new();
        for rule in rules.lines().filter(|line| !line.is_empty()) {
            let (name, exception) = rule.strip_prefix('!').map_or((rule, ""), |name| (name, "!"));
            let labels = name.split('.').map(|label| {
                if label == "*" { label.into() } else { idna::domain_to_ascii(label).expect(rule) }
            });
            let turned = labels.collect::<Vec<String>>().into_iter().rev().collect::<Vec<_>>();
            let asked =
                turned.iter().rev().map(|label| label.replace('*', "-")).collect::<Vec<_>>().join(".");
            let section = if of_the_crate(&asked).section == Some(Section::Private) { "~" } else { "" };
            lines.insert(turned.join("."), format!("{exception}{section}"));
        }
        lines.into_iter().map(|(name, marks)| format!("{name}{marks}\n")).collect()
    }

    /// `UPDATE_EXPECTED=1` writes the list anew, which `cargo update -p psl` calls for.
    #[test]
    fn the_list_is_that_of_the_crate() {
        let want = list_of_the_crate();
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/rules/public_suffixes.txt"), want)
                .unwrap();
            return;
        }
        assert!(want == LIST, "psl has another list: UPDATE_EXPECTED=1 cargo test --lib public_suffix");
        assert!(LIST.lines().count() > 9_000, "the list is whole");
    }

    /// For each name of the list, those right below and above it, and its neighbours.
    #[test]
    fn what_is_found_is_what_the_crate_finds() {
        for line in LIST.lines() {
            let name = line.trim_end_matches(['!', '~']);
            let name = name.rsplit('.').collect::<Vec<_>>().join(".");
            for name in [
                name.replace('*', "-"),
                name.replace('*', "www"),
                format!("a.{}", name.replace('*', "b")),
                format!("a.b.{}", name.replace('*', "c")),
            ] {
                let found = find(&name);
                assert!(found == of_the_crate(&name) || found == expected(&name), "{name}: {found:?}");
                for part in name.match_indices('.').map(|(dot, _)| &name[dot + 1..]) {
                    let found = find(part);
                    assert!(found == of_the_crate(part) || found == expected(part), "{part}: {found:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_found_in_any_name_is_what_the_crate_finds(
            labels in prop::collection::vec(prop_oneof!["[a-z0-9-]{1,3}", "com|uk|co|jp|ck|www|city|kawasaki|amazonaws|s3|github|io|compute"], 1..7)
        ) {
            let name = labels.join(".");
            let found = find(&name);
            prop_assert!(found == of_the_crate(&name) || found == expected(&name), "{name}: {found:?}");
        }
    }

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
