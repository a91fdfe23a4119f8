//! Plots as inline SVG: no script, no style attribute, and no text but numbers and fixed words.
//!
//! Places from left to right are shares of the width, so that a plot is as wide as its window while its text keeps its size. The
//! values of a bar are its `<title>`, which a browser shows under the pointer anywhere above or below the bar.

use std::fmt::Write as _;

use super::count::Bins;
use super::text::moment;
use super::{Bin, Tally, ticks};

/// In pixels; the style sheet has the same.
const HEIGHT: f64 = 160.0;

/// One part of a bar, from the bottom up: the class that colours it, its name, and how much.
pub(super) type Part = (&'static str, &'static str, fn(&Bin) -> u64);

/// What a plot shows.
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) parts: &'static [Part],
    /// How a value is written.
    pub(super) shown: fn(u64) -> String,
    /// The marks of its axis, from the largest value.
    pub(super) marks: fn(u64) -> Vec<u64>,
}

/// Bars over time, their parts on top of each other.
pub(super) fn bars(bins: &Bins, plot: &Plot) -> String {
    let Plot { title, parts, shown, marks } = plot;
    let sum = |bin: &Bin| parts.iter().map(|(_, _, of)| of(bin)).fold(0_u64, u64::saturating_add);
    let most = bins.bins.iter().map(sum).max().unwrap_or(0);
    if most == 0 {
        return String::new();
    }
    let marks = marks(most);
    let top = marks.last().copied().unwrap_or(most).max(1) as f64;
    let mut svg = format!("<figure><figcaption>{title}, UTC<span class=\"legend\">");
    for (class, name, _) in *parts {
        let _ = write!(svg, "<span class=\"of-legend\"><i class=\"{class}\"></i>{name}</span> ");
    }
    svg.push_str("</span></figcaption><div class=\"plot\"><div class=\"y\" aria-hidden=\"true\">");
    for mark in marks.iter().rev() {
        let _ = write!(svg, "<span>{}</span>", shown(*mark).replace(".0 ", " "));
    }
    let _ = write!(svg, "</div><svg class=\"bars\" role=\"img\" aria-label=\"{title} over time\">");
    for mark in &marks {
        let y = HEIGHT * (1.0 - *mark as f64 / top);
        let _ = write!(svg, "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
    }
    let step = 100.0 / bins.bins.len().max(1) as f64;
    // A single bar would fill the whole plot.
    let wide = (step * 0.86).min(6.0);
    for (index, bin) in bins.bins.iter().enumerate().filter(|(_, bin)| sum(bin) > 0) {
        let x = step * index as f64;
        let at = bins.start.saturating_add(bins.width.saturating_mul(index as i64));
        let _ = write!(svg, "<g><title>{}", moment(at));
        for (_, name, of) in *parts {
            let _ = write!(svg, "\n{name}: {}", shown(of(bin)));
        }
        let _ = write!(
            svg,
            "</title><rect class=\"hit\" x=\"{x:.3}%\" y=\"0\" width=\"{step:.3}%\" height=\"{HEIGHT}\"/>"
        );
        let mut y = HEIGHT;
        for (class, _, of) in *parts {
            let height = HEIGHT * of(bin) as f64 / top;
            if height <= 0.0 {
                continue;
            }
            // Even a single request must be visible.
            let height = height.max(1.0);
            y -= height;
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{x:.3}%\" y=\"{y:.1}\" width=\"{wide:.3}%\" height=\"{height:.1}\"/>"
            );
        }
        svg.push_str("</g>");
    }
    svg.push_str("</svg><svg class=\"x\" aria-hidden=\"true\">");
    let span = bins.width.saturating_mul(bins.bins.len() as i64);
    for (index, (at, text)) in ticks::times(bins.start, span).iter().enumerate() {
        let share = (at - bins.start) as f64 / span.max(1) as f64 * 100.0;
        let anchor = match share {
            ..6.0 => "start",
            94.0.. => "end",
            _ => "middle",
        };
        // Every other mark gives way on a narrow screen.
        let class = if index % 2 == 1 { " class=\"wide-only\"" } else { "" };
        let _ = write!(svg, "<text{class} x=\"{share:.3}%\" y=\"12\" text-anchor=\"{anchor}\">{text}</text>");
    }
    svg.push_str("</svg></div></figure>");
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
