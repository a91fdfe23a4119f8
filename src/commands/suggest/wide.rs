//! Patterns that would fit many of the names seen: never suggested, only told of, with what the lint has against them.

use std::collections::{BTreeSet, HashMap};

use crate::config;

/// Names that make a pattern worth a word.
const MANY: usize = 4;
/// Patterns told.
const TOLD: usize = 10;
/// Most names looked at: each stands under a few patterns.
const LOOKED_AT: usize = 20_000;

/// One line for each pattern, that of the most names first.
pub(super) fn patterns<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let names: BTreeSet<&str> = names.take(LOOKED_AT).collect();
    let mut fits: HashMap<String, usize> = HashMap::new();
    for name in names {
        let labels: Vec<&str> = name.split('.').collect();
        let Some((_, parent)) = name.split_once('.').filter(|_| labels.len() > 2) else { continue };
        *fits.entry(format!("*.{parent}")).or_default() += 1;
        // `git-codecommit.*.amazonaws.com`: never the first label, which `*.` is for, nor the last two.
        for star in 1..labels.len().saturating_sub(2) {
            let with_star = labels.iter().enumerate().map(|(at, label)| if at == star { "*" } else { label });
            *fits.entry(with_star.collect::<Vec<_>>().join(".")).or_default() += 1;
        }
    }
    let mut fits: Vec<(String, usize)> = fits.into_iter().filter(|(_, count)| *count >= MANY).collect();
    fits.sort_by(|(one, most), (other, more)| more.cmp(most).then_with(|| one.cmp(other)));
    fits.truncate(TOLD);
    fits.into_iter().map(|(pattern, count)| told(&pattern, count)).collect()
}

fn told(pattern: &str, count: usize) -> String {
    let text = format!("policies:\n  - name: suggested\n    allow:\n      - \"{pattern}\"\n");
    let none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let findings = match config::load_str("suggested.yaml", &text, none) {
        Ok(loaded) => loaded.warnings,
        Err(findings) => findings,
    };
    // Of the pattern, and not of what the fragment leaves out.
    let against: Vec<&str> =
        findings.iter().filter(|finding| finding.line == 4).map(|finding| &*finding.text).collect();
    if against.is_empty() {
        format!(
            "{count} names fit `{pattern}`: one rule in place of {count}, and every other such name with them"
        )
    } else {
        format!("{count} names fit `{pattern}`, which is too wide: {}", against.join("; "))
    }
}
