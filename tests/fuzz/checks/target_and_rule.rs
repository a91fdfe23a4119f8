//! Targets and rule strings: what is accepted is canonical, its text parses to the same value, and a rule matches only the
//! hosts that its text names.

use egressd::rules::{HostPattern, RuleText};
use egressd::words::target::{Host, MAX_NAME, Target};

/// The first line is a target, the second one a rule; a single line is both.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (asked, rule) = text.split_once('\n').unwrap_or((text, text));
    let host = Host::parse(asked).ok();
    if let Some(host) = &host {
        canonical(host);
    }
    for target in [Target::connect(asked), Target::http(asked)].into_iter().flatten() {
        canonical(&target.host);
        let shown = target.to_string();
        let again = Target::connect(&shown).expect("what it shows is host:port");
        assert_eq!((again.host, again.port), (target.host, target.port), "{shown}");
    }
    let Ok(rule) = RuleText::parse(rule) else { return };
    let shown = rule.to_string();
    let again = RuleText::parse(&shown).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(again, rule, "{shown}");
    assert_eq!(again.to_string(), shown, "printing is canonical");
    if let Some(host) = &host {
        names_only_its_own(&rule.host, host);
    }
}

fn canonical(host: &Host) {
    let shown = host.to_string();
    assert_eq!(Host::parse(&shown).as_ref(), Ok(host), "{shown}");
    assert!(!shown.bytes().any(|byte| byte.is_ascii_uppercase()), "{shown}");
    if let Host::Name(name) = host {
        assert!(name.as_str().len() <= MAX_NAME && !name.as_str().ends_with('.'), "{shown}");
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        assert!(name.as_str().bytes().all(allowed), "{shown}");
    }
}

/// A second, slower reading of the rules' grammar.
fn names_only_its_own(pattern: &HostPattern, host: &Host) {
    if !pattern.matches(host) {
        return;
    }
    let (rule, host) = (pattern.to_string(), host.to_string());
    if let Some(suffix) = rule.strip_prefix('.') {
        assert!(host == suffix || host.ends_with(&rule), "{rule} matches {host}");
    } else if let HostPattern::Under(name) = pattern {
        let under = host.strip_suffix(name.as_str()).and_then(|labels| labels.strip_suffix('.'));
        assert!(under.is_some_and(|labels| !labels.is_empty()), "{rule} matches {host}");
    } else if rule.contains('*') {
        let (labels, wanted) = (host.split('.'), rule.split('.'));
        assert_eq!(labels.clone().count(), wanted.clone().count(), "{rule} matches {host}");
        for (label, wanted) in labels.zip(wanted) {
            let (before, after) =
                (wanted.split('*').next().unwrap_or(""), wanted.rsplit('*').next().unwrap_or(""));
            assert!(label.starts_with(before) && label.ends_with(after), "{rule} matches {host}");
            assert!(wanted.contains('*') || label == wanted, "{rule} matches {host}");
        }
    } else if let HostPattern::Exact(_) = pattern {
        assert_eq!(rule, host);
    }
}
