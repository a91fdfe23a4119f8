//! The hosts of `--permit`: names that a name constraint can say (RFC 5280 section 4.2.1.10), and that are not too wide.
//!
//! A constraint permits a name and every name below it. So it has no patterns, and each refusal says what to write instead.

use crate::rules::pattern::literal_suffix;
use crate::rules::{HostPattern, spans_public_suffix};
use crate::words::quote::quoted;
use crate::words::target::Name;

/// The names, in the order of the command line, each once.
///
/// # Errors
/// A sentence for each text that names no permitted host.
pub(super) fn hosts(texts: &[String]) -> Result<Vec<Name>, Vec<String>> {
    let (mut hosts, mut problems): (Vec<Name>, Vec<String>) = (Vec::new(), Vec::new());
    for text in texts {
        match host(text) {
            Ok(host) if hosts.contains(&host) => {}
            Ok(host) => hosts.push(host),
            Err(problem) => problems.push(format!("--permit {}: {problem}", quoted(text))),
        }
    }
    if problems.is_empty() { Ok(hosts) } else { Err(problems) }
}

fn host(text: &str) -> Result<Name, String> {
    if let Some((_, rest)) = text.split_once("://") {
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let rest = rest.rsplit('@').next().and_then(|place| place.split(':').next()).unwrap_or_default();
        return Err(format!("write the host alone: {rest}"));
    }
    if let Some((name, port)) = text.split_once(':')
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
    {
        return Err(format!("certificates say nothing of ports: write {name}"));
    }
    match HostPattern::parse(text).map_err(|error| error.to_string())? {
        HostPattern::Exact(name) => narrow(name),
        HostPattern::Under(name) | HostPattern::UnderOrSelf(name) => Err(format!(
            "a certificate's constraints have no patterns: write {name}, which permits it and every name below it; or each \
             host by its name"
        )),
        HostPattern::Labels(pattern) => {
            let example = pattern.as_str().replace('*', filling(pattern.as_str()));
            let domain = literal_suffix(pattern.as_str());
            Err(format!(
                "a certificate's constraints have no patterns: write each host that it stands for, as in --permit {example}; \
                 or {domain}, which permits every name below it"
            ))
        }
        HostPattern::Address(_) | HostPattern::Network(_) => Err(
            "only names can be inspected: addresses are excluded from every authority that is made here; write the \
             target's name"
                .to_owned(),
        ),
    }
}

fn narrow(name: Name) -> Result<Name, String> {
    if spans_public_suffix(name.as_str()) {
        return Err(format!(
            "{name} is a public suffix: this would permit every name under it; write a host, or a domain such as example.{name}"
        ));
    }
    if !name.as_str().contains('.') {
        return Err(format!(
            "{name} has one label: this would permit every name that ends in .{name}; write a host with its domain"
        ));
    }
    Ok(name)
}

/// What a `*` may stand for, as an example.
fn filling(pattern: &str) -> &'static str {
    if pattern.contains(".amazonaws.com") { "eu-west-1" } else { "a" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        host(text).map(|name| name.to_string())
    }

    #[test]
    fn a_name_is_permitted_in_its_canonical_form() {
        for (text, want) in [
            ("github.com", "github.com"),
            ("GitHub.com.", "github.com"),
            ("git-codecommit.eu-west-1.amazonaws.com", "git-codecommit.eu-west-1.amazonaws.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("_srv.example.com", "_srv.example.com"),
            // Under which strangers have names, but it is a host, too.
            ("s3.amazonaws.com", "s3.amazonaws.com"),
            ("gitlab.internal", "gitlab.internal"),
        ] {
            assert_eq!(of(text), Ok(want.to_owned()), "{text}");
        }
        let twice = ["a.example.com", "b.example.com", "A.example.com"].map(str::to_owned);
        let names: Vec<String> = hosts(&twice).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a.example.com", "b.example.com"]);
    }

    #[test]
    fn what_a_constraint_cannot_say_is_refused_with_what_to_write() {
        for (text, want) in [
            ("*.example.com", "write example.com, which permits it and every name below it"),
            (".example.com", "write example.com, which"),
            (
                "git-codecommit.*.amazonaws.com",
                "as in --permit git-codecommit.eu-west-1.amazonaws.com; or amazonaws.com, which",
            ),
            ("ec2-*.example.com", "as in --permit ec2-a.example.com; or example.com, which"),
            ("203.0.113.9", "only names can be inspected"),
            ("[2001:db8::1]", "only names can be inspected"),
            ("10.0.0.0/8", "only names can be inspected"),
            ("com", "com is a public suffix"),
            ("co.uk", "write a host, or a domain such as example.co.uk"),
            ("localhost", "localhost has one label"),
            ("https://example.com/path", "write the host alone: example.com"),
            ("example.com:443", "certificates say nothing of ports: write example.com"),
            ("", "the host is missing"),
            ("*", "this matches every host"),
            ("a b.example", "is not accepted in a host"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        let all = ["*.example.com", "example.com", "10.0.0.1"].map(str::to_owned);
        assert_eq!(hosts(&all).unwrap_err().len(), 2, "all are told at once");
    }
}
