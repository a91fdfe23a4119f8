//! Git between two requests: after it has listed the refs, its hook or its compression may take longer than egressd keeps the connection of
//! an inspected tunnel (`http.keepalive_timeout`). Git then goes on over another tunnel, and nobody sees anything of it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::git::User;
use crate::git_server::{GitServer, HOST};
use crate::inspected::inspecting_with;
use crate::support::{Authority, write};
use crate::tool::Ran;

/// A connection is kept for 1.5 s, the least that is possible.
const KEPT: f64 = 1.5;

#[test]
fn a_push_goes_on_over_another_tunnel_when_git_takes_longer_than_a_connection_is_kept() {
    let (targets, inspection) = (Authority::new(), Authority::new());
    let server = GitServer::start(&targets);
    let rule = format!(
        "{{to: \"https://{HOST}{}\", requests: [{{git: [push], repositories: [\"/v1/repos/*\"]}}]}}",
        server.port_suffix()
    );
    let more =
        format!("dns: {{hosts: {{{HOST}: [{}]}}}}\nhttp: {{keepalive_timeout: 1s}}\n", server.address().ip());
    let proxy = inspecting_with(&targets, &inspection, &rule, &more);
    let user = User::new(&inspection);
    let work = user.repository("work", 3 << 20);
    server.create("kept");
    let url = server.url("kept");
    let hook = work.join(".git/hooks/pre-push");
    let mut branches = Vec::new();
    // Long before, just when egressd closes it, so that the request crosses the close, and long after.
    let around = (-4..=4).map(|step| KEPT + f64::from(step) * 0.02);
    for (number, delay) in std::iter::once(0.0).chain(around).chain([3.0]).enumerate() {
        write(&hook, format!("#!/bin/sh\nexec sleep {delay:.2}\n"));
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("our file");
        let branch = format!("b{number}");
        Ran::ok(user.git(&work).args(["commit", "--quiet", "--allow-empty", "--message", &branch]));
        let mut push = user.git(&work);
        push.env("https_proxy", format!("http://{}", proxy.address()));
        // The first sends more than git holds: it could not send it again.
        push.args(["push", "--quiet", &url]).arg(format!("HEAD:refs/heads/{branch}"));
        let pushed = Ran::of(&mut push);
        assert_eq!(pushed.code, Some(0), "{delay:.2} s: {}", pushed.stderr);
        branches.push(branch);
    }
    let listed = Ran::ok(user.git(&work).env("https_proxy", format!("http://{}", proxy.address())).args([
        "ls-remote",
        "--heads",
        &url,
    ]));
    for branch in &branches {
        assert!(listed.contains(&format!("refs/heads/{branch}\n")), "{branch}: {listed}");
    }
    // The last one took two tunnels.
    let ended = proxy.stop();
    let idle = ended.records.iter().filter(|record| record["ending"] == "idle_timeout");
    assert!(idle.count() >= 1, "{:?}", ended.records);
    let pushed = ended.records.iter().filter(|record| {
        record["event"] == "request" && record["git"]["refs"].as_array().is_some_and(|refs| !refs.is_empty())
    });
    for record in pushed.clone() {
        assert_eq!(record["decision"], json!("allow"), "{record:?}");
    }
    assert_eq!(pushed.count(), branches.len(), "each push was run once");
}
