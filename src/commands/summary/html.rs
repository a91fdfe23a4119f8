//! Writes the summary as one page to send to a reviewer: it loads nothing, runs no script, and escapes everything shown.
//!
//! Its Content-Security-Policy allows only its own style sheet, by hash.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::text::{by_count, bytes, moment, number, sent, unknown};
use super::{Counter, Inside, Summary, Tally, plot};
use crate::words::counted::counted;

const STYLE: &str = include_str!("page.css");

impl Summary {
    /// The page, with at most `top` rows in each table. `logs` is what was read, and `now` when.
    pub fn to_html(&self, logs: &[String], now: Timestamp, top: usize) -> String {
        let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{hash}'; \
             base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>Egress summary</title>\n<style>{STYLE}</style></head><body>\n<h1>Egress summary</h1>\n"
        );
        self.head(&mut page, logs, now);
        page.push_str(&plot::bars(&self.bins, "Requests", plot::REQUESTS, number));
        page.push_str(&plot::bars(&self.bins, "Bytes, counted when a request ended", plot::BYTES, bytes));
        reasons(&mut page, "Refused, would be refused, or failed", &self.reasons);
        table(&mut page, "Targets reached", "by bytes", &self.reached, top, Tally::bytes);
        table(
            &mut page,
            "Targets refused",
            "by requests; any client may have chosen these names",
            &self.refused,
            top,
            Tally::requests,
        );
        table(&mut page, "Clients", "by bytes", &self.clients, top, Tally::bytes);
        table(&mut page, "Identities", "by bytes", &self.identities, top, Tally::bytes);
        table(&mut page, "Policies", "by requests", &self.policies, top, Tally::requests);
        table(&mut page, "Rules", "by bytes", &self.rules, top, Tally::bytes);
        let Inside { reached, refused, reasons: inside, .. } = &self.inside;
        table(&mut page, "Reached inside tunnels", "by requests", reached, top, Tally::requests);
        let chosen = "by requests; any client may have chosen these paths";
        table(&mut page, "Refused inside tunnels", chosen, refused, top, Tally::requests);
        reasons(&mut page, "Refused, would be refused, or failed inside tunnels", inside);
        let (reached, refused) = (&self.pushes.reached, &self.pushes.refused);
        table(&mut page, "Refs pushed", "who, where, what", reached, top, Tally::requests);
        table(&mut page, "Pushes refused", "who, where, what", refused, top, Tally::requests);
        page.push_str("</body></html>\n");
        page
    }

    fn head(&self, page: &mut String, logs: &[String], now: Timestamp) {
        let all = &self.all;
        let span = all.span.map_or_else(
            || "no recorded request".to_owned(),
            |(first, last)| format!("{} to {}", moment(first), moment(last)),
        );
        let named: Vec<String> = logs.iter().take(8).map(|log| escaped(log)).collect();
        let more = if logs.len() > named.len() { ", …" } else { "" };
        let _ = writeln!(
            page,
            "<p class=\"of\">{span}<br>from {}: {}{more}<br>written {} by egressd {}</p>",
            counted(logs.len(), "log", "logs"),
            named.join(", "),
            moment(now.as_second()),
            env!("CARGO_PKG_VERSION")
        );
        page.push_str("<ul class=\"tiles\">");
        let passed = if all.brief == 0 { "let through by a rule" } else { "let through" };
        let tiles = [
            ("", "requests", number(all.requests())),
            ("passed", passed, number(all.passed)),
            ("would", "let through by report mode", number(all.would_deny)),
            ("denied", "denied", number(all.denied)),
            ("failed", "failed", number(all.failed)),
            ("sent", "sent", sent(all)),
            ("received", "received", bytes(all.received)),
        ];
        for (class, name, value) in tiles {
            let _ = write!(page, "<li><b><i class=\"{class}\"></i>{value}</b> {name}</li>");
        }
        page.push_str("</ul>\n");
        if self.inside.all.requests() > 0 {
            let _ = writeln!(page, "<p class=\"of\">{}.</p>", self.inside.told());
        }
        if all.brief > 0 {
            let _ = writeln!(page, "<p class=\"of\">{}.</p>", unknown(all));
        }
        if self.left_out > 0 {
            let _ = writeln!(page, "<p class=\"of\">{}.</p>", self.without_record());
        }
        if self.without_end() > 0 {
            let _ = writeln!(
                page,
                "<p class=\"of\">Tunnels without an end in these logs: {}. Their bytes are not counted.</p>",
                number(self.without_end())
            );
        }
    }
}

fn reasons(page: &mut String, title: &str, reasons: &BTreeMap<&'static str, u64>) {
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

fn table(
    page: &mut String,
    title: &str,
    by: &str,
    counter: &Counter,
    top: usize,
    key: impl Fn(&Tally) -> u64,
) {
    if counter.is_empty() {
        return;
    }
    let rows = counter.top(top, &key);
    let most = rows.first().map_or(0, |(_, tally)| key(tally));
    let colour =
        if rows.iter().any(|(_, tally)| tally.passed + tally.would_deny > 0) { "passed" } else { "denied" };
    let _ = write!(
        page,
        "<h2>{title} <small>{by}</small></h2>\n<div class=\"wide\"><table><thead><tr><th class=\"name\">name</th><th></th>\
         <th>requests</th><th>refused</th><th>sent</th><th>received</th><th>first</th><th>last</th></tr></thead><tbody>\n"
    );
    for (name, tally) in &rows {
        row(page, &escaped(name), tally, &plot::share(key(tally), most, colour));
    }
    if counter.beyond.requests() > 0 {
        row(page, "<em>all others: there are more distinct names than are kept</em>", &counter.beyond, "");
    }
    page.push_str("</tbody></table></div>\n");
    let more = counter.len().saturating_sub(rows.len());
    if more > 0 {
        let _ = writeln!(page, "<p class=\"of\">and {} more</p>", number(more as u64));
    }
}

fn row(page: &mut String, name: &str, tally: &Tally, bar: &str) {
    let (first, last) =
        tally.span.map_or_else(Default::default, |(first, last)| (moment(first), moment(last)));
    let _ = writeln!(
        page,
        "<tr><td class=\"name\">{name}</td><td class=\"bar\">{bar}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{first}</td><td>{last}</td></tr>",
        number(tally.requests()),
        number(tally.denied + tally.failed),
        sent(tally),
        bytes(tally.received)
    );
}

/// Text that an untrusted client may have chosen: markup is escaped, and characters that are invisible or change the
/// direction of the line are written as their codes.
fn escaped(text: &str) -> String {
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
