//! What to know of a rule that looks at requests: what its paths say nothing about, and the other names of the same service.

use jiff::Timestamp;

use super::super::http::Requests;
use super::super::policy::Policy;
use crate::words::target::Target;

/// The entry that has paths, if any.
pub(super) fn with_paths(requests: &Requests) -> Option<usize> {
    requests.entries().iter().position(|entry| entry.paths.is_some()).map(|at| at + 1)
}

/// A name of the same service as `host` that the policy lets through unseen on 443, with the rule that does.
pub(super) fn other_name(policy: &Policy, host: &str, now: Timestamp) -> Option<(String, u32)> {
    others(host).into_iter().find_map(|name| {
        let target = Target::connect(&format!("{name}:443")).ok()?;
        let found = policy.search(&target, now);
        let (rule, scheme) = found.allow.filter(|_| found.deny.is_none())?;
        (!policy.looks(policy.store.rule(rule), scheme)).then_some((name, rule))
    })
}

/// Other names under which the service at `host` answers, as far as they are known.
fn others(host: &str) -> Vec<String> {
    let aws = |tail: &str| -> Option<Vec<String>> {
        let rest = host.strip_suffix(tail)?;
        let (service, region) = rest.split_once('.')?;
        let plain = service.strip_suffix("-fips").unwrap_or(service);
        let mut names = vec![format!("{plain}.{region}{tail}"), format!("{plain}-fips.{region}{tail}")];
        names.push(format!("vpce-0a.{plain}.{region}.vpce{tail}"));
        if let Some(api) = plain.strip_prefix("git-") {
            // The API of CodeCommit writes to repositories, too.
            names.extend([format!("{api}.{region}{tail}"), format!("{api}-fips.{region}{tail}")]);
        }
        Some(names)
    };
    let known = match host {
        "github.com" => Some(vec![
            "api.github.com".to_owned(),
            "ssh.github.com".to_owned(),
            "uploads.github.com".to_owned(),
        ]),
        "gitlab.com" => Some(vec!["altssh.gitlab.com".to_owned()]),
        "bitbucket.org" => Some(vec!["api.bitbucket.org".to_owned(), "altssh.bitbucket.org".to_owned()]),
        _ => aws(".amazonaws.com").or_else(|| aws(".amazonaws.com.cn")),
    };
    let mut names = known.unwrap_or_default();
    names.retain(|name| name != host);
    names
}
