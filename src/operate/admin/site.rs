//! Under which names the status page may be asked for.
//!
//! The page and its JSON change nothing, but they tell who goes where. A foreign web page cannot read them, since no
//! reply allows another origin; unless its own name leads to this address (DNS rebinding): to the browser they are then
//! one origin, and the browser sits in `admin.networks`. Such a request carries the foreign name in `Host`, so a
//! name is taken only where nobody outside can have it: an address, `localhost`, a name without a dot, a name under one of
//! [`INSIDE`], or one of `admin.hosts`. Probes and `/metrics` are asked for under any name: a balancer's and Prometheus'
//! are none of ours to know, and they tell nothing of clients.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::reply::text;
use crate::words::target::{Host, Name, split_port};

/// Suffixes that nobody can register: RFC 6761 and RFC 8375, ICANN's `internal`, Kubernetes' own, multicast DNS.
const INSIDE: [&str; 6] = ["localhost", "internal", "svc", "local", "home.arpa", "test"];

/// Why not, as a reply; None where the name will do.
pub(super) fn refusal(host: Option<&HeaderValue>, hosts: &[Name]) -> Option<Response<Full<Bytes>>> {
    let written = host.and_then(|value| value.to_str().ok()).unwrap_or_default();
    if is_ours(written, hosts) {
        return None;
    }
    Some(text(
        StatusCode::FORBIDDEN,
        "the status page is not served under this name, which may be a stranger's that was made to lead here: ask for the \
         address, or add the name to admin.hosts\n",
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
    fn a_name_that_a_stranger_can_have_is_refused() {
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
