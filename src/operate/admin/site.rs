//! The names under which the status page may be requested.
//!
//! The page and its JSON change nothing, but they show which client reaches which target. A foreign web page cannot
//! read them, since no reply allows another origin. There is one exception: the page's own name may resolve to this
//! address (DNS rebinding). For the browser they are then one origin, and the browser is inside `admin.networks`. Such
//! a request has the foreign name in `Host`. So only names that no outsider can have are accepted: an address,
//! `localhost`, a name without a dot, a name under one of [`INSIDE`], or one of `admin.hosts`. Probes and `/metrics`
//! are answered under any name: we cannot know the names that a load balancer and Prometheus use, and these answers
//! reveal nothing about clients.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::reply::text;
use crate::words::target::{Host, Name, split_port};

/// Suffixes that nobody can register: RFC 6761 and RFC 8375, ICANN's `internal`, Kubernetes' own, multicast DNS.
const INSIDE: [&str; 6] = ["localhost", "internal", "svc", "local", "home.arpa", "test"];

/// The refusal, as a reply; `None` if the name is accepted.
pub(super) fn refusal(host: Option<&HeaderValue>, hosts: &[Name]) -> Option<Response<Full<Bytes>>> {
    let written = host.and_then(|value| value.to_str().ok()).unwrap_or_default();
    if is_ours(written, hosts) {
        return None;
    }
    Some(text(
        StatusCode::FORBIDDEN,
        "the status page is not served under this name, because an outsider could have made it resolve to this address: \
         use the address, or add the name to admin.hosts\n",
    ))
}

fn is_ours(written: &str, hosts: &[Name]) -> bool {
    let Ok((host, _port)) = split_port(written) else { return false };
    match Host::parse(host) {
        Ok(Host::Address(_)) => true,
        Ok(Host::Name(name)) => {
            let text = name.as_str();
            let under = |suffix: &str| text.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
            !text.contains('.') || INSIDE.iter().any(|suffix| under(suffix)) || hosts.contains(&name)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_an_outsider_can_have_is_refused() {
        let hosts = [Name::parse("egressd.corp.example").expect("a name")];
        for (written, ours) in [
            ("10.1.2.3:9180", true),
            ("[fd00::1]:9180", true),
            ("127.0.0.1", true),
            ("localhost:9180", true),
            ("status.localhost", true),
            ("egressd:9180", true),
            ("egressd.egressd.svc:9180", true),
            ("egressd.egressd.svc.cluster.local:9180", true),
            ("ip-10-0-0-1.eu-west-1.compute.internal", true),
            ("egressd.corp.example:9180", true),
            ("EGRESSD.corp.example.", true),
            ("rebind.example:9180", false),
            ("corp.example", false),
            ("x.egressd.corp.example", false),
            ("10.1.2.3.rebind.example", false),
            ("evillocal.example", false),
            ("x.notlocal", false),
            ("10.1.2.3@rebind.example", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(is_ours(written, &hosts), ours, "{written}");
        }
        assert!(refusal(None, &hosts).is_some(), "a browser always names the host");
    }
}
