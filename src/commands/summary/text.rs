//! The summary for a terminal.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use jiff::Timestamp;

use super::{Counter, Inside, Summary, Tally};
use crate::words::counted::counted;
use crate::words::small_sort::SmallSort as _;

/// Clients in the matrix.
const COLUMNS: usize = 6;

impl Summary {
    /// As text, with at most `top` lines of each kind. No text of a client can move the cursor or break a line.
    pub fn to_text(&self, top: usize) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out, top);
        out
    }

    fn write_text(&self, out: &mut String, top: usize) -> fmt::Result {
        let all = &self.all;
        for told in self.modes.told(moment, number) {
            let word = if self.modes.is_report() { "REPORT MODE" } else { "report mode" };
            writeln!(out, "{word:<11} {}", shown(&told))?;
        }
        if let Some((first, last)) = all.span {
            writeln!(out, "time        {} to {}", moment(first), moment(last))?;
        }
        let passed = if all.brief == all.requests() && all.brief > 0 {
            format!("{} let through", number(all.passed))
        } else {
            format!("{} let through by a rule, {} by report mode", number(all.passed), number(all.would_deny))
        };
        writeln!(
            out,
            "requests    {}: {passed}, {} denied, {} failed",
            number(all.requests()),
            number(all.denied),
            number(all.failed)
        )?;
        writeln!(out, "bytes       {} sent, {} received", sent(all), bytes(all.received))?;
        if self.inside.all.requests() > 0 {
            writeln!(out, "inside      {}", self.inside.told())?;
        }
        if all.brief > 0 {
            writeln!(out, "unknown     {}", unknown(all))?;
        }
        if self.left_out > 0 {
            writeln!(out, "left out    {}", self.without_record())?;
        }
        if self.without_end() > 0 {
            writeln!(
                out,
                "tunnels     {} without an end in these logs: their bytes are not counted",
                number(self.without_end())
            )?;
        }
        table(out, "targets reached, by bytes", &self.reached, top, Tally::bytes)?;
        self.refused(out, top)?;
        table(out, "clients, by bytes", &self.clients, top, Tally::bytes)?;
        self.matrix(out, top)?;
        table(out, "identities, by bytes", &self.identities, top, Tally::bytes)?;
        table(out, "policies", &self.policies, top, Tally::requests)?;
        self.rules(out, top)?;
        reasons(out, "refused, would be refused, or failed, by reason", &self.reasons)?;
        let Inside { reached, refused, reasons: inside, .. } = &self.inside;
        table(out, "reached inside tunnels, by requests", reached, top, Tally::requests)?;
        table(out, "refused inside tunnels", refused, top, Tally::requests)?;
        reasons(out, "refused, would be refused, or failed inside tunnels, by reason", inside)?;
        table(out, "refs pushed: who, where, what", &self.pushes.reached, top, Tally::requests)?;
        table(out, "pushes refused: who, where, what", &self.pushes.refused, top, Tally::requests)?;
        let of_doctor = "asked by egressd doctor, or a client that sends its User-Agent, and refused: counted nowhere else";
        table(out, of_doctor, &self.doctor, top, Tally::requests)
    }

    /// Targets that were refused, with the reasons, the clients and the policies.
    fn refused(&self, out: &mut String, top: usize) -> fmt::Result {
        table_of(out, "targets refused", &self.refused, top, Tally::requests, |name| {
            let why = self.refusals.of(name).map(|why| why.told()).filter(|told| !told.is_empty());
            why.map_or_else(|| shown(name), |why| format!("{} ({})", shown(name), shown(&why)))
        })
    }

    /// Which client reached which target.
    fn matrix(&self, out: &mut String, top: usize) -> fmt::Result {
        let Some(some) = self.matrix.shown(top, COLUMNS.min(top)) else { return Ok(()) };
        let mut heads: Vec<String> = some.clients.iter().map(|client| shown(client)).collect();
        if some.has_other_clients() {
            heads.push(counted(some.other_clients, "other", "others"));
        }
        let wide: Vec<usize> = heads.iter().map(|head| head.chars().count().max(8)).collect();
        let row = |out: &mut String, cells: &[String], name: &str| {
            let cells = cells.iter().zip(&wide).map(|(cell, wide)| format!("  {cell:>wide$}"));
            writeln!(out, "{}  {name}", cells.collect::<String>())
        };
        writeln!(out, "\nrequests that were let through, by client and target")?;
        row(out, &heads, "target")?;
        let numbers = |cells: &[super::matrix::Cell]| -> Vec<String> {
            cells
                .iter()
                .map(|cell| if cell.requests == 0 { ".".to_owned() } else { number(cell.requests) })
                .collect()
        };
        for (target, cells) in &some.rows {
            row(out, &numbers(cells), &shown(target))?;
        }
        if let Some(others) = &some.others {
            row(out, &numbers(others), &counted(some.other_targets, "other target", "other targets"))?;
        }
        Ok(())
    }

    /// Rules with their last use, and those that were not used in the last 30 days of the log.
    fn rules(&self, out: &mut String, top: usize) -> fmt::Result {
        table_of(out, "last used             rules, by bytes", &self.rules, top, Tally::bytes, |name| {
            let last = self.rules.of(name).and_then(|tally| tally.span).map(|(_, last)| moment(last));
            format!("{:<20}  {}", last.unwrap_or_default(), shown(name))
        })?;
        let unused = self.unused_rules();
        if unused.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:<20}  rules unused for 30 days: review whether they are still needed",
            "last used"
        )?;
        for (name, last) in unused.iter().take(top) {
            writeln!(out, "{}  {}", moment(*last), shown(name))?;
        }
        let more = unused.len().saturating_sub(top);
        if more > 0 {
            writeln!(out, "{:22}and {} more", "", number(more as u64))?;
        }
        Ok(())
    }

    /// What is said of records that the log left out.
    pub(super) fn without_record(&self) -> String {
        format!(
            "{} because their rate is limited (`suppressed`): they count by reason alone",
            counted(self.left_out, "record is left out of the log", "records are left out of the log")
        )
    }
}

impl Inside {
    /// What is said of them above the tables.
    pub(super) fn told(&self) -> String {
        let Tally { passed, would_deny, denied, failed, .. } = self.all;
        format!(
            "{} inside tunnels: {} let through by a rule, {} by report mode, {} denied, {} failed",
            counted(self.all.requests(), "request", "requests"),
            number(passed),
            number(would_deny),
            number(denied),
            number(failed)
        )
    }
}

/// The most frequent first.
pub(super) fn by_count(reasons: &BTreeMap<&'static str, u64>) -> Vec<(&'static str, u64)> {
    let mut reasons: Vec<_> = reasons.iter().map(|(reason, count)| (*reason, *count)).collect();
    reasons.small_sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
    reasons
}

fn reasons(out: &mut String, title: &str, reasons: &BTreeMap<&'static str, u64>) -> fmt::Result {
    if reasons.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:>10}  {title}", "requests")?;
    for (reason, count) in by_count(reasons) {
        writeln!(out, "{:>10}  {reason}", number(count))?;
    }
    Ok(())
}

fn table(
    out: &mut String,
    title: &str,
    counter: &Counter,
    top: usize,
    key: impl Fn(&Tally) -> u64,
) -> fmt::Result {
    table_of(out, title, counter, top, key, shown)
}

/// `named` is what stands for a name.
fn table_of(
    out: &mut String,
    title: &str,
    counter: &Counter,
    top: usize,
    key: impl Fn(&Tally) -> u64,
    named: impl Fn(&str) -> String,
) -> fmt::Result {
    if counter.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:>10} {:>9} {:>10} {:>10}  {title}", "requests", "refused", "sent", "received")?;
    for (name, tally) in counter.top(top, key) {
        row(out, tally, &named(name))?;
    }
    let more = counter.len().saturating_sub(top);
    if more > 0 {
        writeln!(out, "{:>42}  and {} more", "", number(more as u64))?;
    }
    if counter.beyond.requests() > 0 {
        row(out, &counter.beyond, "all others: there are more distinct names than are kept")?;
    }
    Ok(())
}

/// A name of a log, which may contain any text.
fn shown(name: &str) -> String {
    name.escape_debug().to_string()
}

fn row(out: &mut String, tally: &Tally, name: &str) -> fmt::Result {
    let refused = tally.denied + tally.failed;
    writeln!(
        out,
        "{:>10} {:>9} {:>10} {:>10}  {name}",
        number(tally.requests()),
        number(refused),
        sent(tally),
        bytes(tally.received)
    )
}

/// What the lines in Squid's format do not say.
pub(super) fn unknown(all: &Tally) -> String {
    format!(
        "{} in Squid's format, which does not say how many bytes the client sent, why a request was refused, and \
         whether a rule or report mode let it through",
        counted(all.brief, "request is", "requests are")
    )
}

/// Bytes from clients: `unknown`, or at least so many: `1.2 GiB+`.
pub(super) fn sent(tally: &Tally) -> String {
    match (tally.sent, tally.sent_unknown) {
        (known, 0) => bytes(known),
        (0, _) => "unknown".to_owned(),
        (known, _) => format!("{}+", bytes(known)),
    }
}

/// `1,234,567`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1.2 GiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS.iter();
    let mut name = unit.next().copied().unwrap_or_default();
    while let Some(next) = unit.next().filter(|_| value >= 1023.95) {
        (value, name) = (value / 1024.0, next);
    }
    format!("{value:.1} {name}")
}

pub(super) fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |moment| moment.to_string())
}
