//! Configurations before and after an edit of one key, and whether it lets more out or in.

use egressd::commands::diff::Opens;

/// One rule with these options, before and after.
pub(crate) fn rule(old: &str, new: &str, opens: Opens) -> (String, String, Opens) {
    let text = |options: &str| {
        let authority = "inspection: {certificate: authority-free.crt, key: authority.key}\n";
        format!("{authority}policies: [{{name: p, allow: [{{to: a.example, {options}}}]}}]\n")
    };
    (text(old), text(new), opens)
}

/// One entry of `requests`.
pub(crate) fn entry(old: &str, new: &str, opens: Opens) -> (String, String, Opens) {
    rule(&format!("requests: [{{{old}}}]"), &format!("requests: [{{{new}}}]"), opens)
}

/// One rule set.
pub(crate) fn set(old: &str, new: &str, opens: Opens) -> (String, String, Opens) {
    let text = |keys: &str| format!("policies: [{{name: p, allow: [{{version: 2026-11, {keys}}}]}}]\n");
    (text(old), text(new), opens)
}

pub(crate) fn policy(old: &str, new: &str, opens: Opens) -> (String, String, Opens) {
    let text = |keys: &str| format!("policies: [{{name: p, {keys}}}]\n");
    (text(old), text(new), opens)
}

pub(crate) fn listener(old: &str, new: &str, opens: Opens) -> (String, String, Opens) {
    let text = |keys: &str| format!("listeners: [{{name: l, address: '127.0.0.1:3128', {keys}}}]\n");
    (text(old), text(new), opens)
}

pub(crate) fn keys(old: &str, new: &str, opens: Opens) -> (String, String, Opens) {
    (format!("{old}\n"), format!("{new}\n"), opens)
}
