//! The status page and its JSON: which clients may see it, under which host name, and that it is correct.

mod support;

use serde_json::{Value, json};
use support::{Egressd, Origin, Reply, Wire, client_hello, config, directory, until, write};

fn api(proxy: &Egressd, path: &str) -> Value {
    let reply = proxy.get(path);
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", reply.body))
}

fn ask(proxy: &Egressd, request: &str) -> Reply {
    let mut wire = Wire::connect(proxy.admin());
    wire.send(request);
    wire.read_reply()
}

fn echo_rule(origin: &Origin) -> String {
    format!("tcp://127.0.0.1:{}", origin.port())
}

fn connect(proxy: &Egressd, authority: &str) {
    let mut wire = proxy.connect();
    wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    wire.read_to_end();
}

/// A CONNECT to an address, and then a ClientHello that names this host: the one group of refusals on the page.
fn refused_after_naming(config: &str, authority: &str, name: &str) -> Value {
    let proxy = Egressd::start(config);
    let mut wire = proxy.tunnel(authority);
    wire.send(client_hello(Some(name)));
    until("the refusal on the page", || {
        let decisions = api(&proxy, "/api/decisions");
        let group = decisions["refused"][0].clone();
        group.is_object().then_some(group)
    })
}

#[test]
fn a_client_that_looked_the_name_up_itself_is_told_so_and_no_rule_for_the_address() {
    let origin = Origin::echo();
    let address = origin.address().to_string();
    let name = format!("https://mirror.test:{}", origin.port());
    let other = config(&[&format!("https://{address}")]);
    let listed = config(&[&name, &format!("https://{address}")]);
    for (config, name, advice) in [
        (&listed, "mirror.test", "mirror.test: make it send the name to the proxy"),
        (&listed, "mirror.test", "a rule allows that name"),
        (&other, "mirror.test", "the name needs a rule then"),
    ] {
        let group = refused_after_naming(config, &address, name);
        assert_eq!((&group["reason"], &group["sni"]), (&"sni_mismatch".into(), &name.into()), "{group}");
        assert!(group["allow"].is_null(), "a rule for the address is offered: {group}");
        let told = group["advice"].as_str().expect("advice");
        assert!(told.contains("the client looked the name up itself") && told.contains(advice), "{told}");
        assert!(told.contains("passthrough:///HOST:PORT"), "{told}");
    }
    // Before the 200 nothing shows the name; the body says what it may be.
    let proxy = Egressd::start(&config(&[&name]));
    let refused = proxy.refuses(
        "CONNECT 203.0.113.9:443 HTTP/1.1\r\nHost: 203.0.113.9:443\r\n\r\n",
        403,
        "host_not_allowed",
    );
    assert!(refused.reply.body.contains("the client looked the name up itself"), "{}", refused.reply.body);
}

#[test]
fn the_page_is_one_document_that_a_browser_lets_do_nothing_else() {
    let proxy = Egressd::start(&config(&["a.example"]));
    let page = proxy.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").expect("a policy");
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{part} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for path in ["/", "/api/status", "/metrics", "/nothing", "/livez"] {
        let reply = proxy.get(path);
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{name} of {path}");
        }
        assert!(reply.header("access-control-allow-origin").is_none());
        assert!(reply.header("content-security-policy").is_some_and(|v| v.contains("default-src 'none'")));
    }
}

#[test]
fn no_path_accepts_anything_but_get_and_head() {
    let proxy = Egressd::start(&config(&["a.example"]));
    for path in
        ["/", "/api/status", "/api/tunnels", "/api/decisions", "/api/allowed", "/api/policy", "/metrics"]
    {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"] {
            let target = if method == "CONNECT" { "a.example:443" } else { path };
            let reply = ask(&proxy, &format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
            assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
        let mut wire = Wire::connect(proxy.admin());
        wire.send(format!("HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
        let head = wire.read_head();
        assert_eq!(head.status, 200, "HEAD {path}");
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{head:?}");
        assert!(wire.read_to_end().0.is_empty(), "no body after HEAD {path}");
    }
}

#[test]
fn only_admin_networks_see_it() {
    let text = config(&["a.example"])
        .replace("admin: {address: 127.0.0.1:0}", "admin: {address: 127.0.0.1:0, networks: [192.0.2.0/24]}");
    let proxy = Egressd::start(&text);
    for path in [
        "/",
        "/api/status",
        "/api/tunnels",
        "/api/decisions",
        "/api/allowed",
        "/api/policy",
        "/metrics",
        "/nothing",
    ] {
        let reply = proxy.get(path);
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (403, "this address is not in admin.networks\n"),
            "{path}"
        );
    }
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(proxy.get(path).status, 200, "{path}");
    }
}

#[test]
fn an_unknown_host_name_shows_nothing() {
    let text = config(&["a.example"]).replace(
        "admin: {address: 127.0.0.1:0}",
        "admin: {address: 127.0.0.1:0, hosts: [status.corp.example]}",
    );
    let proxy = Egressd::start(&text);
    for (path, host, status) in [
        ("/", "rebind.example", 403),
        ("/api/tunnels", "rebind.example:9180", 403),
        ("/api/status", "", 403),
        ("/", "status.corp.example", 200),
        ("/api/tunnels", "status.corp.example:9180", 200),
        ("/api/status", "localhost:9180", 200),
        ("/api/status", "egressd.egressd.svc:9180", 200),
        // Probes and scrapes may use any name: egressd cannot know the names that a balancer uses.
        ("/healthz", "rebind.example", 200),
        ("/metrics", "prometheus-target.example:9180", 200),
    ] {
        let reply = ask(&proxy, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(reply.status, status, "{path} of {host:?}: {reply:?}");
    }
    let told = ask(&proxy, "GET / HTTP/1.1\r\nHost: rebind.example\r\n\r\n").body;
    assert!(told.contains("admin.hosts"), "{told}");
}

#[test]
fn a_wrong_parameter_is_reported() {
    let proxy = Egressd::start(&config(&["a.example"]));
    for (path, told) in [
        ("/api/tunnels?limit=10000", "limit: write a number from 0 to 2000\n"),
        ("/api/tunnels?what=1", "unknown parameter: the known ones are limit, filter, sort, order\n"),
        ("/api/status?limit=1", "this path has no parameters\n"),
        (
            "/api/decisions?sort=age",
            "unknown parameter: the known ones are limit, offset, filter, kind, reason, policy, client, domain, per_domain\n",
        ),
        ("/api/decisions?kind=denied", "kind: write one of deny, would_deny, error\n"),
        ("/api/allowed?offset=1", "unknown parameter: the known ones are limit, filter\n"),
        ("/api/policy?unused=x", "unused: write a number from 0 to 3650\n"),
    ] {
        let reply = proxy.get(path);
        assert_eq!((reply.status, reply.body.as_str()), (400, told), "{path}");
    }
}

#[test]
fn open_tunnels_are_listed_sorted_and_filtered() {
    let origin = Origin::echo();
    let proxy = Egressd::start(&config(&[&echo_rule(&origin)]));
    assert_eq!(api(&proxy, "/api/tunnels")["total"], 0);
    let authority = origin.address().to_string();
    let mut tunnels: Vec<Wire> = (0..5).map(|_| proxy.tunnel(&authority)).collect();
    for (index, tunnel) in tunnels.iter_mut().enumerate() {
        let bytes = vec![b'x'; 100 * (index + 1)];
        tunnel.send(&bytes);
        assert_eq!(tunnel.read_exact(bytes.len()), bytes);
    }
    let answer = until("the bytes of all", || {
        let answer = api(&proxy, "/api/tunnels?sort=bytes&order=desc");
        (answer["tunnels"][4]["received"] == 100).then_some(answer)
    });
    assert_eq!((&answer["total"], &answer["matching"]), (&json!(5), &json!(5)));
    let sent: Vec<u64> = answer["tunnels"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tunnel| tunnel["sent"].as_u64().expect("a number"))
        .collect();
    assert_eq!(sent, [500, 400, 300, 200, 100]);
    let first = &answer["tunnels"][0];
    assert_eq!(first["target"], authority);
    assert_eq!(first["client"], tunnels[4].local().to_string());
    assert_eq!((&first["policy"], &first["scheme"]), (&json!("test"), &json!("tcp")));

    let few = api(&proxy, "/api/tunnels?limit=2&sort=sent&order=asc");
    assert_eq!((&few["total"], few["tunnels"].as_array().map(Vec::len)), (&json!(5), Some(2)));
    assert_eq!(few["tunnels"][0]["sent"], 100);
    let one = api(&proxy, &format!("/api/tunnels?filter={}", tunnels[2].local()));
    assert_eq!((&one["matching"], &one["tunnels"][0]["sent"]), (&json!(1), &json!(300)));
    assert_eq!(api(&proxy, "/api/tunnels?filter=nobody")["matching"], 0);

    drop(tunnels);
    until("all to end", || (api(&proxy, "/api/tunnels")["total"] == 0).then_some(()));
}

#[test]
fn what_was_refused_is_grouped_and_says_what_to_add() {
    let directory = directory();
    write(&directory.path().join("list.txt"), "b.example\n");
    write(&directory.path().join("blocked.txt"), "c.example\n");
    let text = config(&["a.example"]).replace(
        "    allow:",
        "    allow_files: [list.txt]\n    deny_files: [blocked.txt]\n    deny: [evil.example]\n    allow:",
    );
    let proxy = Egressd::start_in(directory, &text);
    for authority in ["new.example:443", "new.example:443", "evil.example:443"] {
        connect(&proxy, authority);
    }
    proxy.refuses("CONNECT \"><script>:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target");
    let told = proxy
        .refuses("CONNECT new.example:22 HTTP/1.1\r\nHost: x\r\n\r\n", 403, "host_not_allowed")
        .reply
        .body;
    assert!(
        told.contains("names new.example; to allow it, write `tcp://new.example:22` under `allow` of policy `test` (request "),
        "{told}"
    );
    let answer = api(&proxy, "/api/decisions");
    let find = |target: &str| {
        let groups = answer["refused"].as_array().expect("a list");
        groups
            .iter()
            .find(|group| group["target"] == target)
            .unwrap_or_else(|| panic!("{target} in {answer}"))
    };
    let new = find("new.example:443");
    assert_eq!(
        (&new["count"], &new["kind"], &new["reason"]),
        (&json!(2), &json!("deny"), &json!("host_not_allowed"))
    );
    assert_eq!(new["allow"]["line"], "- https://new.example");
    assert_eq!(new["allow"]["rule"], "https://new.example");
    let place = new["allow"]["place"].as_str().expect("a text");
    assert!(
        place.starts_with("under `allow` of policy `test` in ") && place.ends_with("list.txt"),
        "{place}"
    );
    let last = proxy.records().into_iter().rfind(|record| record["target"] == "new.example:443");
    assert_eq!(new["id"], last.expect("a record")["id"], "the last one's record");
    let evil = find("evil.example:443");
    assert_eq!((&evil["reason"], &evil["allow"]), (&json!("host_denied"), &Value::Null));
    assert_eq!(find(r#"\"><script>:443"#)["reason"], "bad_target");
    assert_eq!(find("new.example:22")["allow"]["line"], "- tcp://new.example:22");
    assert_eq!(answer["verdicts"]["denied"], 5);
    let totals = answer["requests"].as_array().expect("a list");
    assert!(totals.iter().any(|row| row["reason"] == "host_not_allowed" && row["count"] == 3), "{answer}");

    // The rule that the page proposes allows the request.
    let added = text.replace("    allow:\n", "    allow:\n      - https://new.example\n");
    write(&proxy.file("egressd.yaml"), added);
    until("the rule to be in force", || {
        let answer = api(&proxy, "/api/decisions");
        let groups = answer["refused"].as_array()?;
        groups
            .iter()
            .any(|group| group["target"] == "new.example:443" && group["allowed_now"] == true)
            .then_some(())
    });
}

/// A copied rule could never work for these, and the reply, the page and `explain` say what does.
#[test]
fn what_belongs_into_no_proxy_gets_no_rule_anywhere() {
    let directory = directory();
    let text = config(&["http://169.254.170.23", "*.corp.example"])
        + "dns: {servers: [], hosts: {a.test: [127.0.0.1]}}\n";
    let text = text.replace("servers: [], ", "servers: [127.0.0.1:1], timeout: 1s, ");
    let proxy = Egressd::start_in(directory, &text);
    let own = proxy.admin();
    let rows = [
        (
            "CONNECT",
            "169.254.169.254:80",
            "169.254.169.254 is a credential endpoint, which no rule opens: the client's no_proxy must name it",
        ),
        (
            "GET",
            "169.254.170.2:80",
            "169.254.170.2 is a credential endpoint, which no rule opens: the client's no_proxy must name it",
        ),
        (
            "GET",
            "169.254.170.23:80",
            "169.254.170.23 is a credential endpoint, which no rule opens: the client's no_proxy must name it",
        ),
        ("CONNECT", "[fd00:ec2::254]:80", "no_proxy must name it"),
        ("CONNECT", "metadata.google.internal:80", "no_proxy must name it"),
        ("CONNECT", "127.0.0.1:15000", "127.0.0.1 is the client's own host"),
        ("CONNECT", "localhost:443", "no_proxy must name it"),
        (
            "CONNECT",
            &own.to_string(),
            "127.0.0.1 is where egressd itself listens: the client's no_proxy must name it",
        ),
        ("CONNECT", "kubernetes.default.svc:443", "no_proxy must name .svc"),
        ("CONNECT", "a.b.svc.cluster.local:443", "no_proxy must name .cluster.local"),
        ("CONNECT", "gitlab:443", "no_proxy must name it"),
    ];
    for (method, target, advice) in rows {
        let mut wire = proxy.connect();
        wire.send(match method {
            "CONNECT" => format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"),
            _ => format!("GET http://{target}/x HTTP/1.1\r\nHost: {target}\r\n\r\n"),
        });
        let reply = wire.read_reply();
        assert!(reply.status == 403 && reply.body.contains(advice), "{target}: {reply:?}");
        let asked = if method == "CONNECT" { target.to_owned() } else { format!("http://{target}") };
        let config = proxy.file("egressd.yaml");
        let told = support::run(&["explain", &asked, "-c", config.to_str().expect("a name")]);
        // The admin listener's port is the system's choice, so that a file alone does not tell it.
        if target != own.to_string() {
            let told = String::from_utf8_lossy(&told.stdout).into_owned();
            assert!(told.contains(advice), "{told}");
        }
    }
    let answer = api(&proxy, "/api/decisions");
    let groups = answer["refused"].as_array().expect("a list");
    assert_eq!(groups.len(), rows.len(), "{answer}");
    for group in groups {
        let target = group["target"].as_str().expect("a target");
        let (.., advice) = rows.iter().find(|(_, asked, _)| *asked == target).expect(target);
        assert_eq!(group["allow"], Value::Null, "{group}");
        assert!(group["advice"].as_str().is_some_and(|told| told.contains(advice)), "{group}");
    }
}

/// What `doctor` asks for to be refused gets no rule, and no other client's request for the same hides behind it.
#[test]
fn what_doctor_asks_for_to_be_refused_gets_no_rule() {
    let proxy = Egressd::start(&config(&[]));
    let (via, admin) = (format!("http://{}", proxy.address()), format!("http://{}", proxy.admin()));
    let doctor =
        ["doctor", "--via", &via, "--admin", &admin, "--allowed", "wanted.test", "--denied", "denied.test"];
    let ran = support::run(&doctor);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    for authority in ["denied.test:443", "egressd-doctor.invalid:443"] {
        connect(&proxy, authority);
    }
    let answer = until("each group", || {
        let answer = api(&proxy, "/api/decisions");
        (answer["refused"].as_array()?.len() == 5).then_some(answer)
    });
    let groups = answer["refused"].as_array().expect("a list");
    let offered = |target: &str| -> Vec<bool> {
        let of_target = groups.iter().filter(|group| group["target"] == target);
        let mut offered: Vec<bool> = of_target.map(|group| !group["allow"].is_null()).collect();
        offered.sort_unstable();
        offered
    };
    assert_eq!(offered("denied.test:443"), [false, true], "doctor's, and another client's: {answer}");
    assert_eq!(offered("egressd-doctor.invalid:443"), [false, false], "nobody has that name: {answer}");
    assert_eq!(offered("wanted.test:443"), [true], "doctor asked for it to pass: {answer}");
    let mut wire = proxy.connect();
    wire.send("CONNECT egressd-doctor.invalid:443 HTTP/1.1\r\nHost: egressd-doctor.invalid:443\r\n\r\n");
    let body = wire.read_reply().body;
    assert!(body.contains("no rule is needed") && !body.contains("under `allow`"), "{body}");
}

#[test]
fn a_request_beyond_its_clients_limit_is_listed_once() {
    let origin = Origin::echo();
    let text = config(&[&echo_rule(&origin)]) + "limits: {tunnels_per_client: 1}\n";
    let proxy = Egressd::start(&text);
    let authority = origin.address().to_string();
    let _held = proxy.tunnel(&authority);
    connect(&proxy, &authority);
    connect(&proxy, &authority);
    let answer = api(&proxy, "/api/decisions");
    let groups = answer["refused"].as_array().expect("a list");
    let told: Vec<_> =
        groups.iter().map(|group| (&group["reason"], &group["target"], &group["count"])).collect();
    assert_eq!(told, [(&json!("client_limit_reached"), &json!(authority), &json!(2))]);
}

#[test]
fn a_refused_reload_is_reported_with_its_line() {
    let proxy = Egressd::start(&config(&["a.example"]));
    let before = api(&proxy, "/api/status");
    assert_eq!(before["config"]["last_reload"]["successful"], true);
    assert_eq!((&before["not_ready"], &before["config"]["rules"]), (&Value::Null, &json!(1)));
    write(&proxy.file("egressd.yaml"), config(&["a.example", "*.com"]));
    let after = until("the refusal", || {
        let status = api(&proxy, "/api/status");
        (status["config"]["last_reload"]["successful"] == false).then_some(status)
    });
    let finding = &after["config"]["last_reload"]["findings"][0];
    assert_eq!((&finding["line"], &finding["severity"]), (&json!(8), &json!("error")), "{finding}");
    assert!(finding["text"].as_str().is_some_and(|text| text.contains("*.com")), "{finding}");
    assert_eq!(after["config"]["sha256"], before["config"]["sha256"], "the old one stays");
    assert_eq!(proxy.metrics().count("egressd_ready", &[]), 1);
    assert_eq!(proxy.metrics().count("egressd_access_log_available", &[]), 1);
}

#[test]
fn what_is_doubtful_about_the_configuration_in_force_is_shown_after_the_start_and_after_a_reload() {
    let wide = config(&["a.example"]).replace("    private:", "    mode: report\n    private:");
    let proxy = Egressd::start(&wide);
    let shown = || {
        let status = api(&proxy, "/api/status");
        let list = |of: &Value| of.as_array().expect("a list").clone();
        let told = list(&status["warnings"])
            .into_iter()
            .filter(|told| told.as_str().is_some_and(|told| told.contains(": warning: ")));
        let told: Vec<String> = told.map(|told| told.as_str().unwrap_or_default().to_owned()).collect();
        let reload = &status["config"]["last_reload"];
        assert_eq!(reload["successful"], true, "{status}");
        assert_eq!(reload["total"], json!(told.len()), "{status}");
        assert_eq!(list(&reload["findings"]).len(), told.len(), "{status}");
        told
    };
    let at_start = shown();
    let report = "policy `test` is in report mode: it lets out every host, and only records what it would deny. Write `mode: \
                  enforce` when its list is complete";
    assert!(at_start.len() == 1 && at_start[0].ends_with(report), "{at_start:?}");
    write(&proxy.file("denied.txt"), "# nothing yet\n");
    let text = config(&["a.example"]).replace("    private:", "    deny_files: [denied.txt]\n    private:");
    write(&proxy.file("egressd.yaml"), text);
    let after = until("the reload", || Some(shown()).filter(|told| *told != at_start));
    assert!(after.len() == 1 && after[0].contains("denied.txt:1:1: warning: "), "{after:?}");
    write(&proxy.file("denied.txt"), "b.example\n");
    until("no warnings", || shown().is_empty().then_some(()));
}

#[test]
fn rules_are_listed_with_their_place_and_what_expires() {
    let rules = [
        "a.example",
        "{to: b.example, owner: o@corp, ticket: SEC-1, expires: 2100-01-01}",
        "{to: c.example, expires: 2001-01-01}",
    ];
    let proxy = Egressd::start(&config(&rules));
    let policy = api(&proxy, "/api/policy?filter=sec-1");
    assert_eq!((&policy["total"], &policy["matching"]), (&json!(3), &json!(1)));
    let rule = &policy["rules"][0];
    assert_eq!(
        (&rule["rule"], &rule["owner"], &rule["list"]),
        (&json!("b.example"), &json!("o@corp"), &json!("allow"))
    );
    assert!(rule["source"].as_str().is_some_and(|source| source.ends_with("egressd.yaml:8")), "{rule}");
    assert_eq!(policy["policies"][0]["private"][0], "127.0.0.0/8");
    let status = api(&proxy, "/api/status");
    let expiring = status["expiring"]["rules"].as_array().expect("a list");
    let texts: Vec<&str> = expiring.iter().filter_map(|rule| rule["rule"].as_str()).collect();
    assert_eq!(texts, ["c.example", "b.example"], "the first to expire first");
}

#[test]
fn rules_and_networks_of_files_are_listed_with_their_files() {
    let directory = directory();
    write(&directory.path().join("blocked.txt"), "# Blocked\nevil.example\n");
    write(&directory.path().join("offices.txt"), "127.0.0.0/8\n192.0.2.7\n");
    let text = config(&["a.example"]).replace(
        "    allow:",
        "    clients: {networks: [10.0.0.0/8], networks_files: [offices.txt]}\n    deny_files: [blocked.txt]\n    allow:",
    );
    let proxy = Egressd::start_in(directory, &text);
    let policy = api(&proxy, "/api/policy?filter=evil");
    let rule = &policy["rules"][0];
    assert_eq!((&rule["rule"], &rule["list"]), (&json!("evil.example"), &json!("deny")));
    assert!(rule["source"].as_str().is_some_and(|source| source.ends_with("blocked.txt:2")), "{rule}");
    let shown = &policy["policies"][0];
    assert_eq!(shown["networks"], json!(["10.0.0.0/8"]));
    assert_eq!(shown["networks_files"][0]["networks"], 2, "{shown}");
    let file = shown["networks_files"][0]["file"].as_str();
    assert!(file.is_some_and(|file| file.ends_with("offices.txt")), "{shown}");
}

#[test]
fn a_client_that_makes_up_names_fills_no_more_than_its_share_and_no_answer() {
    let text = config(&["a.example"]) + "limits: {requests_per_second_per_client: 100000}\n";
    let proxy = Egressd::start(&text);
    for number in 0..20 {
        connect(&proxy, &format!("first{number}.example:443"));
    }
    let flood = || {
        for number in 0..600 {
            let mut wire = Wire::connect_from(std::net::Ipv4Addr::new(127, 0, 9, 9).into(), proxy.address());
            let authority = format!("n{number}.{}.example:443", "x".repeat(60));
            wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
            wire.read_to_end();
        }
    };
    flood();
    let answer = api(&proxy, "/api/decisions");
    assert_eq!(answer["total"], 620, "there is room for all");
    assert_eq!(answer["refused"].as_array().map(Vec::len), Some(500), "and not in one answer");
    assert_eq!(answer["verdicts"]["denied"], 620, "all are counted");
    let page = api(&proxy, "/api/decisions?limit=3&offset=600");
    assert_eq!(page["refused"].as_array().map(Vec::len), Some(3));
    let own = api(&proxy, "/api/decisions?client=127.0.0.1");
    assert_eq!((&own["matching"], &own["refused"][0]["client"]), (&json!(20), &json!("127.0.0.1")));
    let one = api(&proxy, "/api/decisions?filter=first7.&kind=deny&reason=host_not_allowed&policy=test");
    assert_eq!((&one["matching"], &one["refused"][0]["domain"]), (&json!(1), &json!("first7.example")));
    let keys: std::collections::BTreeSet<&str> = answer["refused"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|group| group["key"].as_str())
        .collect();
    assert_eq!(keys.len(), 500, "each has a key of its own");
}

#[test]
fn report_mode_and_what_passed_by_it_are_told() {
    let origin = Origin::echo();
    let text = config(&[&echo_rule(&origin)]).replace("    private:", "    mode: report\n    private:")
        + "dns: {hosts: {a.test: [127.0.0.1]}, servers: ['127.0.0.1:1'], timeout: 1s}\n";
    let proxy = Egressd::start(&text);
    let status = api(&proxy, "/api/status");
    assert_eq!(
        (&status["config"]["report_mode"], &status["config"]["report_mode_total"]),
        (&json!(["test"]), &json!(1))
    );
    let mut tunnels =
        vec![proxy.tunnel(&origin.address().to_string()), proxy.tunnel(&format!("a.test:{}", origin.port()))];
    for tunnel in &mut tunnels {
        tunnel.send(b"ping");
        assert_eq!(tunnel.read_exact(4), b"ping");
    }
    // DNS does not answer for it, and a rule would not help.
    connect(&proxy, "nowhere.test:443");
    let allowed = until("both", || {
        let allowed = api(&proxy, "/api/allowed");
        (allowed["total"] == 2).then_some(allowed)
    });
    let find = |name: String| {
        let targets = allowed["targets"].as_array().expect("a list");
        targets
            .iter()
            .find(|target| target["name"] == name)
            .unwrap_or_else(|| panic!("{name} in {allowed}"))
            .clone()
    };
    let listed = find(origin.address().to_string());
    assert_eq!((&listed["count"], &listed["by_report_mode"]), (&json!(1), &json!(0)));
    let noted = find(format!("a.test:{}", origin.port()));
    assert_eq!((&noted["count"], &noted["by_report_mode"]), (&json!(1), &json!(1)));
    assert_eq!(allowed["matrix"]["counts"], json!([[1, 1]]));
    let failed = until("the failure", || {
        let decisions = api(&proxy, "/api/decisions?filter=nowhere");
        let group = decisions["refused"][0].clone();
        group.is_object().then_some(group)
    });
    assert_eq!((&failed["kind"], &failed["allow"]), (&json!("would_deny"), &Value::Null), "{failed}");
    // The rule that was used, and the time.
    let rule = api(&proxy, "/api/policy")["rules"][0].clone();
    assert_eq!(rule["hits"], 1, "{rule}");
    assert!(rule["last_used"].is_string(), "{rule}");
    assert_eq!(api(&proxy, "/api/policy?unused=30")["matching"], 0);
}

#[test]
fn a_failing_log_is_reported() {
    let text = config(&["a.example"]) + "access_log: {output: /dev/full}\n";
    let proxy = Egressd::start(&text);
    assert_eq!(api(&proxy, "/api/status")["access_log"]["available"], true);
    connect(&proxy, "b.example:443");
    let status = until("the log to be unavailable", || {
        let status = api(&proxy, "/api/status");
        (status["access_log"]["available"] == false).then_some(status)
    });
    assert_eq!(status["access_log"]["on_failure"], "deny");
    assert_eq!(proxy.metrics().count("egressd_access_log_available", &[]), 0);
    until("it not to be ready", || {
        (api(&proxy, "/api/status")["not_ready"] == "log_unavailable").then_some(())
    });
    assert_eq!(proxy.metrics().count("egressd_ready", &[]), 0);
}

#[test]
fn plain_exchanges_and_failures_are_distinguished_from_denials() {
    let origin = Origin::start(support::any_port(), |mut conversation| {
        use std::io::{Read, Write};
        let mut head = [0; 1024];
        let _ = conversation.read(&mut head)?;
        conversation.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    });
    let proxy =
        Egressd::start(&config(&[&format!("http://127.0.0.1:{}", origin.port()), "http://127.0.0.1:1"]));
    let get = |authority: &str| {
        let mut wire = proxy.connect();
        wire.send(format!(
            "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
        ));
        wire.read_to_end();
    };
    get(&origin.address().to_string());
    get("127.0.0.1:1");
    get("other.example");
    let answer = until("all three", || {
        let answer = api(&proxy, "/api/decisions");
        (answer["verdicts"] == json!({"allowed": 1, "denied": 1, "would_deny": 0, "failed": 1}))
            .then_some(answer)
    });
    let groups = answer["refused"].as_array().expect("a list");
    let find = |target: &str| groups.iter().find(|group| group["target"] == target).expect(target);
    let failed = find("127.0.0.1:1");
    assert_eq!(
        (&failed["kind"], &failed["reason"], &failed["allow"]),
        (&json!("error"), &json!("connect_refused"), &Value::Null)
    );
    let denied = find("other.example:80");
    assert_eq!(
        (&denied["method"], &denied["allow"]["line"]),
        (&json!("http"), &json!("- http://other.example"))
    );
}
