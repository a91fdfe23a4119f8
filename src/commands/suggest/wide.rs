//! Patterns that would match many of the names seen: never suggested, only mentioned, with the lint's warnings about them.

use std::collections::{BTreeSet, HashMap};

use crate::config;
use crate::words::small_sort::{SmallCollect as _, SmallSort as _};

/// A pattern that matches this many names is mentioned.
const MANY: usize = 4;
/// Most patterns that are mentioned.
const MENTIONED: usize = 10;
/// Most names that are looked at: each matches a few patterns.
const LOOKED_AT: usize = 20_000;

/// One line per pattern; the one that matches most names comes first.
pub(super) fn patterns<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let names: BTreeSet<&str> = names.take(LOOKED_AT).small_collect();
    let mut fits: HashMap<String, usize> = HashMap::new();
    for name in names {
        let labels: Vec<&str> = name.split('.').collect();
        let Some((_, parent)) = name.split_once('.').filter(|_| labels.len() > 2) else { continue };
        *fits.entry(format!("*.{parent}")).or_default() += 1;
        // `git-codecommit.*.amazonaws.com`: never the first label, which `*.` covers, nor the last two.
        for star in 1..labels.len().saturating_sub(2) {
            let with_star = labels.iter().enumerate().map(|(at, label)| if at == star { "*" } else { label });
            *fits.entry(with_star.collect::<Vec<_>>().join(".")).or_default() += 1;
        }
    }
    let mut fits: Vec<(String, usize)> = fits.into_iter().filter(|(_, count)| *count >= MANY).collect();
    fits.small_sort_by(|(one, most), (other, more)| more.cmp(most).then_with(|| one.cmp(other)));
    fits.truncate(MENTIONED);
    fits.into_iter().map(|(pattern, count)| mention(&pattern, count)).collect()
}

fn mention(pattern: &str, count: usize) -> String {
    let text = format!("policies:\n  - name: suggested\n    allow:\n      - \"{pattern}\"\n");
    let none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let findings = match config::load_str("suggested.yaml", &text, none) {
        Ok(loaded) => loaded.warnings,
        Err(findings) => findings,
    };
    // Only about the pattern, not about keys that the fragment does not set.
    let against: Vec<&str> =
        findings.iter().filter(|finding| finding.line == 4).map(|finding| &*finding.text).collect();
    if against.is_empty() {
        format!(
            "{count} names match `{pattern}`: one rule instead of {count}, but it allows every other matching name too"
        )
    } else {
        format!("{count} names match `{pattern}`, which is too wide: {}", against.join("; "))
    }
}
