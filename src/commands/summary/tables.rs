//! The tables of the page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::matrix::{Cell, Matrix};
use super::text::{by_count, bytes, moment, number, sent};
use super::{Counter, Summary, Tally, UNUSED, plot};
use crate::words::counted::counted;

/// Targets and clients in the matrix: as much as fits a page.
const ROWS: usize = 20;
const COLUMNS: usize = 8;
/// Shades of its cells, which the style sheet has.
const SHADES: u64 = 5;

/// Which client reached which target, as a table with the number of requests.
pub(super) fn matrix(page: &mut String, matrix: &Matrix, top: usize) {
    let Some(shown) = matrix.shown(top.min(ROWS), top.min(COLUMNS)) else { return };
    let most = shown.most();
    page.push_str(
        "<h2 id=\"matrix\">Who went where <small>requests that were let through, by target and client; those with the most requests</small></h2>\n\
         <div class=\"wide\"><table class=\"matrix\"><thead><tr><th class=\"name\" scope=\"col\">target</th>",
    );
    let mut heads: Vec<String> = shown.clients.iter().map(|client| escaped(client)).collect();
    if shown.has_other_clients() {
        heads.push(counted(shown.other_clients, "other", "others"));
    }
    for head in &heads {
        let _ = write!(page, "<th scope=\"col\"><span>{head}</span></th>");
    }
    page.push_str("</tr></thead><tbody>\n");
    for (target, cells) in &shown.rows {
        matrix_row(page, &escaped(target), cells, &heads, (shown.clients.len(), most));
    }
    if let Some(others) = &shown.others {
        let name = counted(shown.other_targets, "other target", "other targets");
        matrix_row(page, &name, others, &heads, (0, most));
    }
    page.push_str("</tbody></table></div>\n");
    if shown.rows.iter().any(|(_, cells)| cells.iter().any(|cell| cell.by_report > 0)) {
        page.push_str("<p class=\"of\">A bar at its left: report mode alone let some of them through.</p>\n");
    }
}

/// `name` and `heads` are escaped. The first `shaded` cells are of one client each, of which `most` is the largest.
fn matrix_row(page: &mut String, name: &str, cells: &[Cell], heads: &[String], (shaded, most): (usize, u64)) {
    let _ = write!(page, "<tr><th class=\"name\" scope=\"row\">{name}</th>");
    for (index, (cell, head)) in cells.iter().zip(heads).enumerate() {
        if cell.requests == 0 {
            page.push_str("<td></td>");
            continue;
        }
        // The square root shows small numbers beside large ones.
        let share = (cell.requests as f64 / most.max(1) as f64).sqrt() * SHADES as f64;
        let shade = if index < shaded { (share.ceil() as u64).clamp(1, SHADES) } else { 0 };
        let report = match cell.by_report {
            0 => String::new(),
            by_report => format!(", {} of them by report mode alone", number(by_report)),
        };
        let class = if cell.by_report > 0 { " by-report" } else { "" };
        let _ = write!(
            page,
            "<td class=\"s{shade}{class}\" title=\"{head} to {name}: {}{report}; {}\">{}</td>",
            counted(cell.requests, "request", "requests"),
            bytes(cell.bytes),
            number(cell.requests)
        );
    }
    page.push_str("</tr>\n");
}

pub(super) fn reasons(page: &mut String, title: &str, reasons: &BTreeMap<&'static str, u64>) {
    let reasons = by_count(reasons);
    let Some((_, most)) = reasons.first() else { return };
    let _ = writeln!(page, "<h2>{title} <small>by reason</small></h2>\n<div class=\"wide\"><table><tbody>");
    for (reason, count) in &reasons {
        let _ = writeln!(
            page,
            "<tr><td class=\"name\">{reason}</td><td class=\"bar\">{}</td><td>{}</td></tr>",
            plot::share(*count, *most, "denied"),
            number(*count)
        );
    }
    page.push_str("</tbody></table></div>\n");
}

/// One row of a table: the name and what stands beside it, escaped.
struct Row<'r> {
    name: String,
    tally: &'r Tally,
    bar: String,
    /// Cells before the last ones.
    more: String,
    /// What stands beside the time of the last request.
    mark: &'r str,
    /// Nothing of it was let through: there are no bytes to show.
    refused: bool,
}

pub(super) fn table(
    page: &mut String,
    title: &str,
    by: &str,
    counter: &Counter,
    top: usize,
    key: impl Fn(&Tally) -> u64,
) {
    let plain = |name: &str, _: &Tally| (escaped(name), String::new(), "");
    table_of(page, ("", title, by, ""), counter, top, key, plain);
}

/// Rules with their last use.
pub(super) fn rules(page: &mut String, summary: &Summary, top: usize) {
    let end = summary.all.span.map_or(i64::MIN, |(_, end)| end);
    let marked = |name: &str, tally: &Tally| {
        let is_unused = tally.span.is_some_and(|(_, last)| last.saturating_add(UNUSED) < end);
        let mark = if is_unused { "<br><span class=\"mark\">unused for 30 days</span>" } else { "" };
        (escaped(name), String::new(), mark)
    };
    table_of(page, (" id=\"rules\"", "Rules", "by bytes", ""), &summary.rules, top, Tally::bytes, marked);
    let unused = summary.unused_rules();
    if !unused.is_empty() {
        let named = unused
            .iter()
            .take(top)
            .map(|(name, last)| format!("<code>{}</code> (last used {})", escaped(name), moment(*last)));
        let named: Vec<String> = named.collect();
        let more = unused.len().saturating_sub(named.len());
        let more = if more > 0 { format!(", and {} more", number(more as u64)) } else { String::new() };
        let _ = writeln!(
            page,
            "<p class=\"of\">Unused in the last 30 days of the log: {}{more}. Review whether they are still needed.</p>",
            named.join(", ")
        );
    }
}

/// Targets that were refused, with the reasons, the clients and the policies.
pub(super) fn refused(page: &mut String, summary: &Summary, top: usize) {
    let with_why = |name: &str, _: &Tally| {
        let why = summary.refusals.of(name);
        let cells = why.map(|why| [why.reasons(), why.clients(), why.policies()]).unwrap_or_default();
        let [reasons, clients, policies] = cells.map(|cell| escaped(&cell));
        let cells = format!(
            "<td class=\"text why\">{reasons}</td><td class=\"text\">{clients}</td><td class=\"text\">{policies}</td>"
        );
        (escaped(name), cells, "")
    };
    let by = "by requests; any client may have chosen these names";
    let more =
        "<th class=\"text why\">why</th><th class=\"text\">clients</th><th class=\"text\">policies</th>";
    table_of(
        page,
        (" id=\"refused\"", "Targets refused", by, more),
        &summary.refused,
        top,
        Tally::requests,
        with_why,
    );
}

/// `beside` gives the escaped name, further cells, and a mark beside the last use. `more` are the heads of those cells, which only
/// the table of what was refused has.
fn table_of<'m>(
    page: &mut String,
    (id, title, by, more): (&str, &str, &str, &str),
    counter: &Counter,
    top: usize,
    key: impl Fn(&Tally) -> u64,
    beside: impl Fn(&str, &Tally) -> (String, String, &'m str),
) {
    if counter.is_empty() {
        return;
    }
    let refused = !more.is_empty();
    let rows = counter.top(top, &key);
    let most = rows.first().map_or(0, |(_, tally)| key(tally));
    let colour =
        if rows.iter().any(|(_, tally)| tally.passed + tally.would_deny > 0) { "passed" } else { "denied" };
    let _ = write!(
        page,
        "<h2{id}>{title} <small>{by}</small></h2>\n<div class=\"wide\"><table><thead><tr><th class=\"name\">name</th>\
         <th class=\"wide-only\"></th>{more}<th>requests</th>{}<th class=\"wide-only\">first</th><th>last</th></tr></thead><tbody>\n",
        if refused { "" } else { "<th>refused</th><th>sent</th><th>received</th>" }
    );
    for (name, tally) in &rows {
        let (name, more, mark) = beside(name, tally);
        row(page, &Row { name, tally, bar: plot::share(key(tally), most, colour), more, mark, refused });
    }
    if counter.beyond.requests() > 0 {
        let name = "<em>all others: there are more distinct names than are kept</em>".to_owned();
        let more = "<td></td>".repeat(more.matches("<th").count());
        row(page, &Row { name, tally: &counter.beyond, bar: String::new(), more, mark: "", refused });
    }
    page.push_str("</tbody></table></div>\n");
    let more = counter.len().saturating_sub(rows.len());
    if more > 0 {
        let _ = writeln!(page, "<p class=\"of\">and {} more</p>", number(more as u64));
    }
}

fn row(page: &mut String, Row { name, tally, bar, more, mark, refused }: &Row<'_>) {
    let (first, last) =
        tally.span.map_or_else(Default::default, |(first, last)| (moment(first), moment(last)));
    let _ = write!(
        page,
        "<tr><td class=\"name\">{name}</td><td class=\"bar wide-only\">{bar}</td>{more}<td>{}</td>",
        number(tally.requests())
    );
    if !refused {
        let (refused, received) = (number(tally.denied + tally.failed), bytes(tally.received));
        let _ = write!(page, "<td>{refused}</td><td>{}</td><td>{received}</td>", sent(tally));
    }
    let _ = writeln!(page, "<td class=\"wide-only\">{first}</td><td>{last}{mark}</td></tr>");
}

/// Text that an untrusted client may have chosen: markup is escaped, and characters that are invisible or change the
/// direction of the line are written as their codes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            ' '..='~' => out.push(character),
            _ => drop(write!(out, "\\u{{{:x}}}", character as u32)),
        }
    }
    out
}
