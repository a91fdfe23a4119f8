//! Plots as inline SVG: no script, no style attribute, and no text but numbers and fixed words.

use std::fmt::Write as _;

use super::count::Bins;
use super::text::moment;
use super::{Bin, Tally};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 22.0;
const TOP: f64 = 8.0;

/// One part of a bar, from the bottom up: the class that colours it, its name, and how much.
pub(super) type Part = (&'static str, &'static str, fn(&Bin) -> u64);

/// Bars over time, their parts on top of each other.
pub(super) fn bars(bins: &Bins, title: &str, parts: &[Part], shown: fn(u64) -> String) -> String {
    let sum = |bin: &Bin| parts.iter().map(|(_, _, of)| of(bin)).fold(0_u64, u64::saturating_add);
    let most = bins.bins.iter().map(sum).max().unwrap_or(0);
    if most == 0 {
        return String::new();
    }
    let (inner, floor) = (WIDTH - LEFT, HEIGHT - BOTTOM);
    let mut svg = format!("<figure><figcaption>{title}<span class=\"legend\">");
    for (class, name, _) in parts {
        let _ = write!(svg, "<i class=\"{class}\"></i>{name} ");
    }
    let _ = write!(
        svg,
        "</span></figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title} over time\">"
    );
    for step in 0..=2 {
        let y = floor - (floor - TOP) * f64::from(step) / 2.0;
        let value = (most as f64 * f64::from(step) / 2.0) as u64;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            shown(value)
        );
    }
    let step = inner / bins.bins.len().max(1) as f64;
    // A single bar would fill the whole plot.
    let wide = (step * 0.86).min(48.0);
    for (index, bin) in bins.bins.iter().enumerate() {
        if sum(bin) == 0 {
            continue;
        }
        let x = LEFT + step * index as f64;
        let at = bins.start.saturating_add(bins.width.saturating_mul(index as i64));
        let _ = write!(svg, "<g><title>{}", moment(at));
        for (_, name, of) in parts {
            let _ = write!(svg, "\n{name}: {}", shown(of(bin)));
        }
        svg.push_str("</title>");
        let mut y = floor;
        for (class, _, of) in parts {
            let height = (floor - TOP) * of(bin) as f64 / most as f64;
            if height <= 0.0 {
                continue;
            }
            // Even a single request must be visible.
            let height = height.max(1.0);
            y -= height;
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{height:.1}\"/>"
            );
        }
        svg.push_str("</g>");
    }
    let end = bins.start.saturating_add(bins.width.saturating_mul(bins.bins.len() as i64));
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{0:.0}\">{1}</text><text x=\"{WIDTH}\" y=\"{0:.0}\" text-anchor=\"end\">{2}</text>",
        HEIGHT - 5.0,
        moment(bins.start),
        moment(end)
    );
    svg.push_str("</svg></figure>");
    svg
}

/// A bar next to a row of a table; its length is the row's share of the largest.
pub(super) fn share(value: u64, most: u64, class: &str) -> String {
    let width = if most == 0 { 0.0 } else { value as f64 / most as f64 * 100.0 };
    format!(
        "<svg class=\"share\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"{class}\" width=\"{width:.1}\" height=\"8\"/></svg>"
    )
}

/// What the plots show of requests.
pub(super) const REQUESTS: &[Part] = &[
    ("passed", "let through by a rule", |bin: &Tally| bin.passed),
    ("would", "let through by report mode", |bin: &Tally| bin.would_deny),
    ("denied", "denied", |bin: &Tally| bin.denied),
    ("failed", "failed", |bin: &Tally| bin.failed),
];

/// What they show of bytes, which are counted when a request ends.
pub(super) const BYTES: &[Part] =
    &[("sent", "sent", |bin: &Tally| bin.sent), ("received", "received", |bin: &Tally| bin.received)];
