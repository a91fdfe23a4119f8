//! The table in SECURITY.md: a line for each row, a column for each proxy.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::case::{Case, Expect, Harm};
use super::cases;
use super::catalogue::{PTR, ROWS, Row};

/// A proxy that was measured: its name and its results.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Measured {
    /// The title of its column, with its version.
    pub name: String,
    /// The verdict by row and case, as [`super::verdict::verdict`] gives it.
    pub verdicts: BTreeMap<(u8, String), String>,
}

/// The line before the table in SECURITY.md; [`END`] is the line after it.
pub const BEGIN: &str = "<!-- made by tests/threats/run --write -->";
/// See [`BEGIN`].
pub const END: &str = "<!-- the end of what it made -->";

/// The whole table, with these columns next to egressd's.
pub fn render(others: &[Measured]) -> String {
    let mut text = String::from("| | attack | egressd |");
    others.iter().for_each(|other| write!(text, " {} |", other.name).expect("a String takes all"));
    text.push_str("\n|---|---|---|");
    others.iter().for_each(|_| text.push_str("---|"));
    text.push('\n');
    for row in ROWS {
        write!(text, "{}", egressd(row)).expect("a String takes all");
        for other in others {
            write!(text, " {} |", summary(row, other)).expect("a String takes all");
        }
        text.push('\n');
    }
    text
}

/// Number, attack, and what egressd does: the first three cells of a line.
pub fn egressd(row: &Row) -> String {
    let number = if row.number == PTR { "–".to_owned() } else { row.number.to_string() };
    let answers = answers(&cases::of_row(row.number));
    let does = row.does;
    let answers = if answers.is_empty() { answers } else { format!(": {answers}") };
    format!("| {number} | {} | {does}{answers} |", row.attack)
}

/// What the cases expect of egressd, each answer once.
fn answers(cases: &[Case]) -> String {
    let mut answers: Vec<String> = Vec::new();
    for case in cases.iter().filter(|case| !case.unstoppable && !matches!(case.harm, Harm::None)) {
        let answer = match case.expect {
            Expect::Reply(status, reason) | Expect::Late(status, reason) => format!("{status} `{reason}`"),
            Expect::Alert(_, reason) => format!("alert `{reason}`"),
            Expect::Close(reason) => format!("close `{reason}`"),
            Expect::Flows | Expect::Answers(_) => continue,
        };
        if !answers.contains(&answer) {
            answers.push(answer);
        }
    }
    answers.join(", ")
}

/// What another proxy did with a row.
fn summary(row: &Row, other: &Measured) -> String {
    let cases = cases::of_row(row.number);
    if cases.is_empty() {
        return format!("not sent: {}", row.not_sent);
    }
    let verdict = |case: &Case| {
        other.verdicts.get(&(case.row, case.what.clone())).map_or("not measured", |v| v.as_str())
    };
    let attacks = cases.iter().filter(|case| !matches!(case.harm, Harm::None)).count();
    // The worst comes first.
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for case in &cases {
        let verdict = verdict(case);
        match told.iter_mut().find(|(known, _)| known == verdict) {
            Some((_, cases)) => cases.push(&case.what),
            None if verdict == "passed" => {}
            None => told.push((verdict.to_owned(), vec![&case.what])),
        }
    }
    told.sort_by_key(|(verdict, _)| (badness(verdict), verdict.clone()));
    let parts: Vec<String> = told
        .iter()
        .map(|(verdict, cases)| {
            let verdict = if badness(verdict) == 0 { format!("**{verdict}**") } else { verdict.clone() };
            match cases.len() {
                count if count == attacks => verdict,
                1 => format!("{verdict}: {}", cases[0]),
                count => format!("{verdict} {count} of {attacks}"),
            }
        })
        .collect();
    parts.join("; ").replace('|', "\\|")
}

/// 0 for what should not happen, 1 for what is lenient, 2 for any kind of refusal.
pub fn badness(verdict: &str) -> u8 {
    const BAD: [&str; 8] =
        ["forwarded", "asked", "told", "logged", "served", "crashed", "broken", "not measured"];
    const LENIENT: [&str; 4] = ["accepted", "left open", "rewritten", "passed"];
    let is_one_of = |words: &[&str]| words.iter().any(|word| verdict.starts_with(word));
    match verdict {
        _ if is_one_of(&BAD) => 0,
        _ if is_one_of(&LENIENT) => 1,
        _ => 2,
    }
}

/// `text` with everything between [`BEGIN`] and [`END`] replaced by `table`. None: `text` does not have these lines.
pub fn place(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

/// The text between [`BEGIN`] and [`END`].
pub fn placed(text: &str) -> Option<&str> {
    Some(text.split_once(BEGIN)?.1.split_once(END)?.0.trim_start_matches('\n'))
}
