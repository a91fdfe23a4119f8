//! Which of several rules decides: any matching `deny`, otherwise only the most specific `allow`.

use egressd::rules::Mode;

use crate::check;

#[test]
fn deny_wins_over_every_allow() {
    let tenant: &[&str] = &["allow *.amazonaws.com", "deny https://*.s3.amazonaws.com"];
    check(
        Mode::Enforce,
        &[
            (tenant, "CONNECT b.s3.amazonaws.com:443", "host_denied by 2"),
            (tenant, "CONNECT s3.amazonaws.com:443", "https by 1"),
            (tenant, "CONNECT ec2.amazonaws.com:443", "https by 1"),
            (&["allow a.example.com", "deny .example.com"], "CONNECT a.example.com:443", "host_denied by 2"),
            (&["deny .example.com", "allow a.example.com"], "CONNECT a.example.com:443", "host_denied by 1"),
            (
                &["allow a.example.com", "deny a.*.com.example", "deny *.test"],
                "CONNECT a.example.com:443",
                "https by 1",
            ),
            (
                &["allow *.example.com", "deny ev*.example.com"],
                "CONNECT evil.example.com:443",
                "host_denied by 2",
            ),
            (&["allow *.example.com", "deny ev*.example.com"], "CONNECT good.example.com:443", "https by 1"),
            (&["allow 203.0.113.9", "deny 203.0.113.0/24"], "CONNECT 203.0.113.9:443", "host_denied by 2"),
            (
                &["allow 203.0.113.9", "deny 203.0.113.0/24"],
                "CONNECT [::ffff:203.0.113.9]:443",
                "host_denied by 2",
            ),
            (
                &["allow [64:ff9b::]/96", "deny 203.0.113.0/24"],
                "CONNECT [64:ff9b::203.0.113.9]:443",
                "host_denied by 2",
            ),
            (&["deny evil.example"], "CONNECT evil.example:443", "host_denied by 1"),
        ],
    );
}

#[test]
fn a_deny_rule_without_scheme_or_port_is_for_any() {
    let host: &[&str] = &["allow tcp://e.test:1-65535", "allow http://e.test:1-65535", "deny e.test"];
    let port: &[&str] = &["allow tcp://e.test:1-65535", "deny e.test:22-23"];
    let http: &[&str] = &["both e.test:1-65535", "deny http://e.test"];
    let https: &[&str] = &["both e.test:1-65535", "deny https://e.test"];
    let tcp: &[&str] = &["both e.test:1-65535", "deny tcp://e.test"];
    check(
        Mode::Enforce,
        &[
            (host, "CONNECT e.test:1", "host_denied by 3"),
            (host, "CONNECT e.test:65535", "host_denied by 3"),
            (host, "GET e.test", "host_denied by 3"),
            (port, "CONNECT e.test:21", "tcp by 1"),
            (port, "CONNECT e.test:22", "host_denied by 2"),
            (port, "CONNECT e.test:23", "host_denied by 2"),
            (http, "GET e.test", "host_denied by 2"),
            (http, "GET e.test:8080", "host_denied by 2"),
            (http, "CONNECT e.test:443", "https by 1"),
            (https, "GET e.test", "http by 1"),
            (https, "CONNECT e.test:443", "host_denied by 2"),
            (https, "CONNECT e.test:8443", "host_denied by 2"),
            // Before its first byte, a CONNECT may become either scheme.
            (tcp, "CONNECT e.test:443", "host_denied by 2"),
            (tcp, "GET e.test", "http by 1"),
            (&["allow tcp://e.test:443", "deny https://e.test"], "CONNECT e.test:443", "host_denied by 2"),
        ],
    );
}

#[test]
fn of_several_deny_rules_the_most_specific_is_named() {
    check(
        Mode::Enforce,
        &[
            (&["deny .test", "deny a.test"], "CONNECT a.test:443", "host_denied by 2"),
            (&["deny a.test", "deny a.test:443"], "CONNECT a.test:443", "host_denied by 2"),
            (&["deny 203.0.113.0/24", "deny 203.0.113.9"], "CONNECT 203.0.113.9:443", "host_denied by 2"),
        ],
    );
}

#[test]
fn an_exact_name_comes_before_a_star_before_a_suffix() {
    let all: &[&str] =
        &["allow .example.com", "allow *.b.example.com", "allow a.*.example.com", "allow a.b.example.com"];
    check(
        Mode::Enforce,
        &[
            (all, "CONNECT a.b.example.com:443", "https by 4"),
            (all, "CONNECT a.c.example.com:443", "https by 3"),
            (all, "CONNECT c.b.example.com:443", "https by 2"),
            (all, "CONNECT c.c.example.com:443", "https by 1"),
            (all, "CONNECT example.com:443", "https by 1"),
            // A longer suffix does not beat a star, however short the pattern is.
            (
                &["allow *.us.git.example.com", "allow g.us.*.example.com"],
                "CONNECT g.us.git.example.com:443",
                "https by 2",
            ),
            // `.x` for `x` itself is a suffix: the exact name is more specific.
            (&["allow .example.com", "allow example.com:1-65535"], "CONNECT example.com:443", "https by 2"),
            (&["allow *.x.test", "allow .a.x.test"], "CONNECT a.x.test:443", "https by 2"),
        ],
    );
}

#[test]
fn of_two_stars_more_literal_characters_come_first() {
    check(
        Mode::Enforce,
        &[
            (
                &["allow g*.a.example.com", "allow git-*.a.example.com"],
                "CONNECT git-1.a.example.com:443",
                "https by 2",
            ),
            (
                &["allow *.b.example.com", "allow a*.b.example.com"],
                "CONNECT a1.b.example.com:443",
                "https by 2",
            ),
            (
                &["allow a.*.example.com", "allow *.bbb.*.com.test"],
                "CONNECT a.b.example.com:443",
                "https by 1",
            ),
            (&["allow g*t.x.test", "allow *it.x.test"], "CONNECT git.x.test:443", "https by 1"),
            (&["allow *git.*.test", "allow a*.longer.test"], "CONNECT agit.longer.test:443", "https by 2"),
            // More stars with more written out.
            (&["allow a.*.c.test", "allow a.b*b*b.c.test"], "CONNECT a.bxbxb.c.test:443", "https by 2"),
            // The same number of literal characters: narrower ports, then the order in which they are written.
            (&["allow a*.x.test:1-999", "allow *a.x.test"], "CONNECT aba.x.test:443", "https by 2"),
        ],
    );
}

#[test]
fn the_longer_suffix_comes_first() {
    check(
        Mode::Enforce,
        &[
            (&["allow *.example.com", "allow *.b.example.com"], "CONNECT a.b.example.com:443", "https by 2"),
            (&["allow *.b.example.com", "allow .example.com"], "CONNECT a.b.example.com:443", "https by 1"),
            (&["allow .b.example.com", "allow *.b.example.com"], "CONNECT a.b.example.com:443", "https by 1"),
            (&["allow *.b.example.com", "allow .b.example.com"], "CONNECT a.b.example.com:443", "https by 1"),
            (&["allow .b.example.com", "allow *.b.example.com"], "CONNECT b.example.com:443", "https by 1"),
        ],
    );
}

#[test]
fn an_address_comes_before_the_longer_prefix() {
    let nested: &[&str] =
        &["allow 203.0.112.0/20", "allow 203.0.113.0/24", "allow 203.0.113.9", "allow 203.0.113.8/30"];
    let v6: &[&str] = &["allow [2001:db8::]/32", "allow [2001:db8::1]", "allow [2001:db8::]/64"];
    check(
        Mode::Enforce,
        &[
            (nested, "CONNECT 203.0.113.9:443", "https by 3"),
            (nested, "CONNECT 203.0.113.10:443", "https by 4"),
            (nested, "CONNECT 203.0.113.12:443", "https by 2"),
            (nested, "CONNECT 203.0.114.1:443", "https by 1"),
            (nested, "CONNECT 203.0.128.1:443", "host_not_allowed"),
            (v6, "CONNECT [2001:db8::1]:443", "https by 2"),
            (v6, "CONNECT [2001:db8::2]:443", "https by 3"),
            (v6, "CONNECT [2001:db8:1::]:443", "https by 1"),
        ],
    );
}

#[test]
fn then_come_narrower_ports() {
    check(
        Mode::Enforce,
        &[
            (
                &["allow e.test:1-65535", "allow e.test:400-500", "allow e.test:443"],
                "CONNECT e.test:443",
                "https by 3",
            ),
            (
                &["allow e.test:1-65535", "allow e.test:400-500", "allow e.test:443"],
                "CONNECT e.test:444",
                "https by 2",
            ),
            (&["allow e.test:400-500", "allow e.test"], "CONNECT e.test:443", "https by 2"),
            (&["allow e.test", "allow e.test:443"], "CONNECT e.test:443", "https by 1"),
            // The host is compared before the ports.
            (&["allow *.e.test:443", "allow a.e.test:1-65535"], "CONNECT a.e.test:443", "https by 2"),
            (&["file e.test:443", "allow e.test:442-443"], "CONNECT e.test:443", "https by 1"),
            (&["allow 203.0.113.9:1-999", "allow 203.0.113.9"], "CONNECT 203.0.113.9:443", "https by 2"),
        ],
    );
}

#[test]
fn then_comes_the_configuration_before_a_file_then_as_written() {
    check(
        Mode::Enforce,
        &[
            (&["file e.test", "allow e.test"], "CONNECT e.test:443", "https by 2"),
            (&["file *.e.test", "allow .e.test"], "CONNECT a.e.test:443", "https by 2"),
            (&["allow e.test", "allow e.test"], "CONNECT e.test:443", "https by 1"),
            (&["file e.test", "file e.test"], "CONNECT e.test:443", "https by 1"),
            (&["allow tcp://e.test:443", "allow e.test"], "CONNECT e.test:443", "tcp by 1"),
            (&["allow e.test", "allow tcp://e.test:443"], "CONNECT e.test:443", "https by 1"),
            (&["file a.*.test", "allow a.*.test"], "CONNECT a.b.test:443", "https by 2"),
            // A host in a file that is more specific still comes first.
            (&["file a.e.test", "allow *.e.test"], "CONNECT a.e.test:443", "https by 1"),
        ],
    );
}

#[test]
fn a_connect_is_carried_by_an_http_rule_only_where_no_other_allows_it() {
    let expired = "until 2020-01-01T00:00:00Z";
    let (gone, gone_http) = (format!("allow e.test:80 {expired}"), format!("allow http://e.test {expired}"));
    check(
        Mode::Enforce,
        &[
            (&["allow http://e.test"], "CONNECT e.test:80", "http by 1"),
            (&["allow http://e.test:8080-8090"], "CONNECT e.test:8085", "http by 1"),
            (&["allow http://e.test"], "CONNECT e.test:443", "scheme_not_allowed near 1"),
            // What worked before stays, however specific the http rule is.
            (&["allow http://a.e.test", "allow tcp://*.e.test:80"], "CONNECT a.e.test:80", "tcp by 2"),
            (&["allow http://a.e.test", "file *.e.test:1-65535"], "CONNECT a.e.test:80", "https by 2"),
            (&["both e.test:80", "allow http://e.test"], "CONNECT e.test:80", "https by 1"),
            (&["both e.test", "allow http://e.test:1-99"], "CONNECT e.test:80", "http by 1"),
            (&["both e.test", "allow http://e.test:1-99"], "CONNECT e.test:81", "http by 2"),
            // Of http rules the most specific.
            (&["allow http://*.e.test", "allow http://a.e.test"], "CONNECT a.e.test:80", "http by 2"),
            // What denies plain requests denies them inside a tunnel too, and no other tunnel.
            (&["allow http://e.test", "deny http://e.test"], "CONNECT e.test:80", "host_denied by 2"),
            (&["allow http://e.test", "deny http://.e.test"], "CONNECT e.test:80", "host_denied by 2"),
            (&["allow http://e.test", "deny http://e.test:81"], "CONNECT e.test:80", "http by 1"),
            (&["allow http://e.test", "deny tcp://e.test"], "CONNECT e.test:80", "host_denied by 2"),
            (&["allow http://e.test", "deny e.test"], "CONNECT e.test:80", "host_denied by 2"),
            (&["allow tcp://e.test:80", "deny http://e.test"], "CONNECT e.test:80", "tcp by 1"),
            (
                &["allow tcp://e.test:80", "allow http://e.test", "deny http://e.test"],
                "CONNECT e.test:80",
                "tcp by 1",
            ),
            (&["allow e.test", "deny http://e.test"], "CONNECT e.test:80", "port_not_allowed near 1"),
            (&["deny http://e.test"], "CONNECT e.test:80", "host_not_allowed"),
            // The same for addresses, and for addresses inside others.
            (&["allow http://[64:ff9b::]/96"], "CONNECT [64:ff9b::203.0.113.9]:80", "http by 1"),
            (
                &["allow http://[64:ff9b::]/96", "deny http://203.0.113.0/24"],
                "CONNECT [64:ff9b::203.0.113.9]:80",
                "host_denied by 2",
            ),
            (
                &["allow tcp://[64:ff9b::]/96:80", "deny http://203.0.113.0/24"],
                "CONNECT [64:ff9b::203.0.113.9]:80",
                "tcp by 1",
            ),
            // Expired rules are passed over.
            (&[&gone, "allow http://e.test"], "CONNECT e.test:80", "http by 2"),
            (&[&gone, &gone_http], "CONNECT e.test:80", "rule_expired by 1"),
            (&[&gone_http], "CONNECT e.test:80", "rule_expired by 1"),
            (&[&gone_http, "deny http://e.test"], "CONNECT e.test:80", "rule_expired by 1"),
            (&[&gone_http, "allow tcp://e.test:80"], "CONNECT e.test:80", "tcp by 2"),
        ],
    );
    check(
        Mode::Report,
        &[
            (&["allow http://e.test"], "CONNECT e.test:80", "http by 1"),
            (&["allow http://e.test"], "CONNECT e.test:81", "would scheme_not_allowed tcp"),
            (
                &["allow http://e.test", "deny http://e.test"],
                "CONNECT e.test:80",
                "would host_denied by 2 http",
            ),
            (&["allow http://e.test", "deny e.test"], "CONNECT e.test:80", "would host_denied by 2 http"),
            (&[&gone_http], "CONNECT e.test:80", "would rule_expired by 1 tcp"),
        ],
    );
}

#[test]
fn a_rule_that_does_not_fit_leaves_the_decision_to_a_wider_one() {
    check(
        Mode::Enforce,
        &[
            (&["allow a.e.test", "allow *.e.test:8443"], "CONNECT a.e.test:8443", "https by 2"),
            (&["allow http://a.e.test", "allow *.e.test"], "CONNECT a.e.test:443", "https by 2"),
        ],
    );
}

#[test]
fn expired_rules_are_passed_over() {
    let before = "allow a.e.test until 2027-03-31T00:00:00Z"; // the moment of the decision: no longer
    let after = "allow a.e.test until 2027-03-31T00:00:01Z";
    check(
        Mode::Enforce,
        &[
            (&[after], "CONNECT a.e.test:443", "https by 1"),
            (&[before], "CONNECT a.e.test:443", "rule_expired by 1"),
            (&[before], "CONNECT a.e.test:22", "host_not_allowed near 1"),
            (&[before], "GET a.e.test", "host_not_allowed near 1"),
            (&[before, "allow *.e.test"], "CONNECT a.e.test:443", "https by 2"),
            (&[before, "allow *.e.test:8443"], "CONNECT a.e.test:443", "rule_expired by 1"),
            (&[before, "allow *.e.test:8443"], "CONNECT a.e.test:22", "port_not_allowed near 2"),
            (&[before, "deny a.e.test"], "CONNECT a.e.test:443", "host_denied by 2"),
            (&["allow a.*.test until 2020-01-01T00:00:00Z"], "CONNECT a.b.test:443", "rule_expired by 1"),
        ],
    );
}

#[test]
fn report_mode_lets_through_what_the_rules_deny() {
    let http: &[&str] = &["allow http://e.test"];
    check(
        Mode::Report,
        &[
            (&["allow e.test"], "CONNECT e.test:443", "https by 1"),
            (&[], "CONNECT e.test:443", "would host_not_allowed https"),
            (&[], "CONNECT e.test:8443", "would host_not_allowed tcp"),
            (&[], "GET e.test", "would host_not_allowed http"),
            (&["allow e.test"], "CONNECT e.test:22", "would port_not_allowed tcp"),
            (http, "CONNECT e.test:443", "would scheme_not_allowed https"),
            (
                &["allow e.test until 2020-01-01T00:00:00Z"],
                "CONNECT e.test:443",
                "would rule_expired by 1 https",
            ),
            (&["deny e.test"], "CONNECT e.test:443", "would host_denied by 1 https"),
            (&["deny e.test", "allow tcp://e.test:443"], "CONNECT e.test:443", "would host_denied by 1 tcp"),
        ],
    );
}

#[test]
fn where_a_rule_that_looks_matches_no_other_decides() {
    let rows: &[(&[&str], &str, &str)] = &[
        (&["allow *.a.test looks", "allow x.a.test"], "CONNECT x.a.test:443", "https by 1"),
        (&["allow x.a.test", "allow *.a.test looks"], "CONNECT x.a.test:443", "https by 2"),
        (&["allow x.a.test", "allow *.a.test looks"], "CONNECT x.b.test:443", "host_not_allowed"),
        (&["allow tcp://x.a.test:443", "allow x.a.test looks"], "CONNECT x.a.test:443", "https by 2"),
        // Of several that look, the most specific.
        (&["allow *.a.test looks", "allow x.a.test looks"], "CONNECT x.a.test:443", "https by 2"),
        // On another port it does not match.
        (&["allow x.a.test:8443", "allow *.a.test looks"], "CONNECT x.a.test:8443", "https by 1"),
        (&["allow x.a.test", "allow *.a.test looks"], "CONNECT x.a.test:22", "port_not_allowed near 1"),
        // An expired one denies, unless another looks.
        (
            &["allow x.a.test", "allow *.a.test looks until 2020-01-01T00:00:00Z"],
            "CONNECT x.a.test:443",
            "rule_expired by 2",
        ),
        (
            &["allow *.test looks", "allow *.a.test looks until 2020-01-01T00:00:00Z", "allow x.a.test"],
            "CONNECT x.a.test:443",
            "https by 1",
        ),
        (&["allow *.a.test looks", "deny x.a.test"], "CONNECT x.a.test:443", "host_denied by 2"),
        // Plain requests, and the same in a CONNECT.
        (&["allow http://x.a.test", "allow http://*.a.test looks"], "GET x.a.test:80", "http by 2"),
        (&["allow tcp://x.a.test:80", "allow http://*.a.test looks"], "CONNECT x.a.test:80", "http by 2"),
        (&["allow https://x.a.test:80", "allow http://*.a.test looks"], "CONNECT x.a.test:80", "http by 2"),
        (
            &["allow tcp://x.a.test:80", "allow http://*.a.test looks until 2020-01-01T00:00:00Z"],
            "CONNECT x.a.test:80",
            "rule_expired by 2",
        ),
        (
            &["allow tcp://x.a.test:80", "allow http://*.a.test looks", "deny http://x.a.test"],
            "CONNECT x.a.test:80",
            "host_denied by 3",
        ),
        (&["allow http://x.a.test", "allow *.a.test looks"], "GET x.a.test:80", "http by 1"),
    ];
    check(Mode::Enforce, rows);
    let rows: &[(&[&str], &str, &str)] = &[(
        &["allow x.a.test", "allow *.a.test looks until 2020-01-01T00:00:00Z"],
        "CONNECT x.a.test:443",
        "would rule_expired by 2 https",
    )];
    check(Mode::Report, rows);
    // It goes on to look, as before it expired.
    let (lines, request) = (rows[0].0, rows[0].1);
    assert!(crate::decide(lines, Mode::Report, request).is_ok_and(|permit| permit.inspect));
}
