//! Writes the summary as one page to send to a reviewer: it loads nothing, runs no script, and escapes everything shown.
//!
//! Its Content-Security-Policy allows only its own style sheet, by hash.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::plot::{self, Plot};
use super::tables::{escaped, matrix, reasons, refused, rules, table};
use super::text::{bytes, moment, number, sent, unknown};
use super::{Inside, Summary, Tally, ticks};
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
        let requests =
            Plot { title: "Requests", parts: plot::REQUESTS, shown: number, marks: ticks::numbers };
        let sizes = Plot {
            title: "Bytes, counted when a request ended",
            parts: plot::BYTES,
            shown: bytes,
            marks: ticks::sizes,
        };
        page.push_str(&plot::bars(&self.bins, &requests));
        page.push_str(&plot::bars(&self.bins, &sizes));
        matrix(&mut page, &self.matrix, top);
        table(&mut page, "Targets reached", "by bytes", &self.reached, top, Tally::bytes);
        table(&mut page, "Clients", "by bytes", &self.clients, top, Tally::bytes);
        table(&mut page, "Identities", "by bytes", &self.identities, top, Tally::bytes);
        table(&mut page, "Policies", "by requests", &self.policies, top, Tally::requests);
        rules(&mut page, self, top);
        refused(&mut page, self, top);
        reasons(&mut page, "Refused, would be refused, or failed", &self.reasons);
        let Inside { reached, refused: refused_inside, reasons: inside, .. } = &self.inside;
        table(&mut page, "Reached inside tunnels", "by requests", reached, top, Tally::requests);
        let chosen = "by requests; any client may have chosen these paths";
        table(&mut page, "Refused inside tunnels", chosen, refused_inside, top, Tally::requests);
        reasons(&mut page, "Refused, would be refused, or failed inside tunnels", inside);
        let (reached, refused_pushes) = (&self.pushes.reached, &self.pushes.refused);
        table(&mut page, "Refs pushed", "who, where, what", reached, top, Tally::requests);
        table(&mut page, "Pushes refused", "who, where, what", refused_pushes, top, Tally::requests);
        let by = "or by a client that sends its User-Agent, and refused: counted nowhere else";
        table(&mut page, "Asked by egressd doctor", by, &self.doctor, top, Tally::requests);
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
        let told = self.modes.told(moment, number);
        if !told.is_empty() {
            let (class, word) = match self.modes.is_report() {
                true => ("badge", "REPORT MODE: what the list lacks is let out, and only recorded"),
                false => ("badge past", "There was report mode"),
            };
            let told: Vec<String> = told.iter().map(|told| escaped(told)).collect();
            let _ =
                writeln!(page, "<p class=\"{class}\"><strong>{word}</strong><br>{}</p>", told.join("<br>"));
        }
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
