//! The status page: one document with its style and its script, put together once.
//!
//! The script builds everything from `/api` as text, never as markup. What each reason means is part of the document. The Content-Security-Policy names the script and
//! the style by hash, so nothing else would run even if something got in. Not here: the numbers ([`super::api`]).

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::session::refuse::reply::{self, WireForm, wire_form};
use crate::words::outcome::Reason;

const HTML: &str = include_str!("page.html");
const CSS: &str = include_str!("page.css");
/// In the order in which they run.
const SCRIPTS: [&str; 10] = [
    include_str!("text.js"),
    include_str!("hold.js"),
    include_str!("plots.js"),
    include_str!("tables.js"),
    include_str!("copy.js"),
    include_str!("status.js"),
    include_str!("refused.js"),
    include_str!("lists.js"),
    include_str!("tabs.js"),
    include_str!("page.js"),
];

/// The reply to `/`.
pub(super) struct Document {
    pub(super) html: String,
    pub(super) security_policy: String,
}

/// The only document.
pub(super) fn document() -> &'static Document {
    static DOCUMENT: LazyLock<Document> = LazyLock::new(put_together);
    &DOCUMENT
}

fn put_together() -> Document {
    // One scope for all of it, with nothing in `window`.
    let script = format!("(() => {{\n\"use strict\";\n{}}})();\n", SCRIPTS.concat());
    let html = HTML.replacen("/*reasons*/", &reasons(), 1);
    let html = html.replacen("/*style*/", CSS, 1).replacen("/*script*/", &script, 1);
    // connect-src: its own /api. img-src: the empty icon, without which browsers ask for /favicon.ico.
    let security_policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        source(&script),
        source(CSS),
    );
    Document { html, security_policy }
}

/// Every reason with what a client sees of it and what it means; the page's links to a reason lead here.
fn reasons() -> String {
    let rows = Reason::ALL.iter().map(|reason| {
        let seen = match wire_form(*reason) {
            WireForm::Reply { status, .. } => status.to_string(),
            WireForm::Either { status, .. } => format!("{status}, or a TLS alert after the 200"),
            WireForm::InTunnel(Some(_)) => "a TLS alert after the 200".to_owned(),
            WireForm::InTunnel(None) => "closed after the 200".to_owned(),
            WireForm::Closed => "closed without a reply".to_owned(),
        };
        let meaning = escaped(reply::advice(*reason));
        format!(
            "<dt id=\"reason-{reason}\" tabindex=\"-1\"><code>{reason}</code> <span>{seen}</span></dt><dd>{meaning}</dd>\n"
        )
    });
    rows.collect()
}

/// Our own text, where markup is expected.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The hash in CSP's notation.
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_nobody_else() {
        let Document { html, security_policy } = document();
        assert!(["/*style*/", "/*script*/", "/*reasons*/"].iter().all(|place| !html.contains(place)));
        for reason in Reason::ALL {
            assert!(html.contains(&format!("<dt id=\"reason-{reason}\"")), "{reason}");
        }
        assert_eq!(html.matches("<script>").count(), 1);
        assert_eq!(html.matches("<style>").count(), 1);
        // SVG's namespace is a name, not an address.
        let elsewhere = html.replace("http://www.w3.org/2000/svg", "");
        for reference in ["://www", "src=", "@import", "url("] {
            assert!(!elsewhere.contains(reference), "{reference}: nothing from elsewhere");
        }
        for word in ["unsafe", "*", "http:"] {
            assert!(!security_policy.contains(word), "{security_policy}");
        }
    }

    #[test]
    fn nothing_is_ever_shown_as_markup() {
        let script = SCRIPTS.concat();
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
        ] {
            assert!(!script.contains(sink), "{sink}");
        }
        assert!(!script.contains("</script"), "would end the script early");
    }
}
