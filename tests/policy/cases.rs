//! What a rule matches, and what it does not match.

use egressd::rules::Mode;

use crate::check;

#[test]
fn without_rules_nothing_is_allowed() {
    check(
        Mode::Enforce,
        &[
            (&[], "CONNECT example.com:443", "host_not_allowed"),
            (&[], "GET example.com", "host_not_allowed"),
            (&[], "CONNECT 203.0.113.9:443", "host_not_allowed"),
            (&["deny evil.example"], "CONNECT example.com:443", "host_not_allowed"),
        ],
    );
}

#[test]
fn an_exact_name_is_that_name_alone() {
    let rules: &[&str] = &["allow example.com"];
    check(
        Mode::Enforce,
        &[
            (rules, "CONNECT example.com:443", "https by 1"),
            (rules, "CONNECT EXAMPLE.com:443", "https by 1"),
            (rules, "CONNECT example.com.:443", "https by 1"),
            (rules, "CONNECT www.example.com:443", "host_not_allowed near 1"),
            (rules, "CONNECT evilexample.com:443", "host_not_allowed"),
            (rules, "CONNECT example.com.evil.test:443", "host_not_allowed"),
            (rules, "CONNECT example.co:443", "host_not_allowed"),
            (rules, "CONNECT com:443", "host_not_allowed"),
            (&["allow Example.COM."], "CONNECT example.com:443", "https by 1"),
            (&["allow _dmarc.example.com"], "CONNECT _dmarc.example.com:443", "https by 1"),
            (&["allow xn--bcher-kva.example"], "CONNECT xn--bcher-kva.example:443", "https by 1"),
            (&["allow bücher.example"], "CONNECT xn--bcher-kva.example:443", "https by 1"),
            (&["allow BÜCHER.Example"], "CONNECT xn--bcher-kva.example:443", "https by 1"),
            (&["allow localhost"], "CONNECT localhost:443", "https by 1"),
        ],
    );
}

#[test]
fn star_dot_name_is_everything_under_it() {
    let rules: &[&str] = &["allow *.amazonaws.com"];
    check(
        Mode::Enforce,
        &[
            (rules, "CONNECT s3.amazonaws.com:443", "https by 1"),
            (rules, "CONNECT a.b.c.amazonaws.com:443", "https by 1"),
            (rules, "CONNECT S3.AMAZONAWS.COM.:443", "https by 1"),
            (rules, "CONNECT amazonaws.com:443", "host_not_allowed near 1"),
            (rules, "CONNECT evilamazonaws.com:443", "host_not_allowed"),
            (rules, "CONNECT amazonaws.com.evil.com:443", "host_not_allowed"),
            (rules, "CONNECT s3.amazonaws.com.cn:443", "host_not_allowed"),
            (rules, "CONNECT s3-amazonaws.com:443", "host_not_allowed"),
            (&["allow *.bücher.example"], "CONNECT a.xn--bcher-kva.example:443", "https by 1"),
            (&["allow *.test"], "CONNECT git.test:443", "https by 1"),
            (&["allow *.s3.amazonaws.com"], "CONNECT b.s3.amazonaws.com:443", "https by 1"),
        ],
    );
}

#[test]
fn dot_name_is_the_name_and_everything_under_it() {
    let rules: &[&str] = &["allow .example.com"];
    check(
        Mode::Enforce,
        &[
            (rules, "CONNECT example.com:443", "https by 1"),
            (rules, "CONNECT www.example.com:443", "https by 1"),
            (rules, "CONNECT a.b.example.com:443", "https by 1"),
            (rules, "CONNECT evilexample.com:443", "host_not_allowed"),
            (rules, "CONNECT example.com.evil.test:443", "host_not_allowed"),
            (&["allow .example.com."], "CONNECT example.com:443", "https by 1"),
        ],
    );
}

#[test]
fn a_star_in_a_label_stays_in_its_label() {
    let git: &[&str] = &["allow git-codecommit.*.amazonaws.com"];
    let ec2: &[&str] = &["allow ec2-*.amazonaws.com"];
    let many: &[&str] = &["allow a*b.*.c-*-d.example.com"];
    check(
        Mode::Enforce,
        &[
            (git, "CONNECT git-codecommit.us-east-1.amazonaws.com:443", "https by 1"),
            (git, "CONNECT GIT-codecommit.x.amazonaws.com:443", "https by 1"),
            (git, "CONNECT git-codecommit.a.b.amazonaws.com:443", "host_not_allowed near 1"),
            (git, "CONNECT git-codecommit.amazonaws.com:443", "host_not_allowed"),
            (git, "CONNECT evil.git-codecommit.a.amazonaws.com:443", "host_not_allowed"),
            (git, "CONNECT git-codecommitx.a.amazonaws.com:443", "host_not_allowed"),
            (git, "CONNECT git-codecommit.a.amazonaws.com.evil.com:443", "host_not_allowed"),
            (git, "CONNECT git-codecommit.a.evilamazonaws.com:443", "host_not_allowed"),
            (ec2, "CONNECT ec2-1-2-3-4.amazonaws.com:443", "https by 1"),
            (ec2, "CONNECT ec2.amazonaws.com:443", "host_not_allowed"),
            (ec2, "CONNECT ec2-1.compute.amazonaws.com:443", "host_not_allowed near 1"),
            (ec2, "CONNECT ec3-1.amazonaws.com:443", "host_not_allowed"),
            (ec2, "CONNECT x.ec2-1.amazonaws.com:443", "host_not_allowed"),
            (many, "CONNECT axb.y.c-z-d.example.com:443", "https by 1"),
            (many, "CONNECT axxb.yy.c-z-z-d.example.com:443", "https by 1"),
            (many, "CONNECT ab.y.c-z-d.example.com:443", "host_not_allowed"),
            (many, "CONNECT axb.y.c--d.example.com:443", "host_not_allowed"),
            (many, "CONNECT axb.c-z-d.example.com:443", "host_not_allowed"),
            (&["allow *.*.example.com"], "CONNECT a.b.example.com:443", "https by 1"),
            (&["allow *.*.example.com"], "CONNECT a.b.c.example.com:443", "host_not_allowed near 1"),
            (&["allow *.s3.*.amazonaws.com"], "CONNECT b.s3.eu-west-1.amazonaws.com:443", "https by 1"),
            (&["allow *s3.amazonaws.com"], "CONNECT evils3.amazonaws.com:443", "https by 1"),
            (&["allow git.*.bücher.example"], "CONNECT git.a.xn--bcher-kva.example:443", "https by 1"),
            (&["allow GIT.*.Example.COM."], "CONNECT git.a.example.com:443", "https by 1"),
        ],
    );
}

#[test]
fn an_address_rule_is_for_an_address_written_as_the_target() {
    let one: &[&str] = &["allow 203.0.113.9"];
    let net: &[&str] = &["allow 203.0.113.0/24"];
    let v6: &[&str] = &["allow [2001:db8::1]"];
    let v6_net: &[&str] = &["allow [2001:db8::]/32"];
    check(
        Mode::Enforce,
        &[
            (one, "CONNECT 203.0.113.9:443", "https by 1"),
            (one, "CONNECT 203.0.113.10:443", "host_not_allowed"),
            (one, "CONNECT [::ffff:203.0.113.9]:443", "https by 1"),
            (one, "CONNECT [64:ff9b::203.0.113.9]:443", "host_not_allowed"),
            (one, "CONNECT name.example:443", "host_not_allowed"),
            (&["allow 203.0.113.9/32"], "CONNECT 203.0.113.9:443", "https by 1"),
            (net, "CONNECT 203.0.113.0:443", "https by 1"),
            (net, "CONNECT 203.0.113.255:443", "https by 1"),
            (net, "CONNECT 203.0.112.255:443", "host_not_allowed"),
            (net, "CONNECT 203.0.114.0:443", "host_not_allowed"),
            (net, "GET 203.0.113.9", "scheme_not_allowed near 1"),
            (v6, "CONNECT [2001:db8::1]:443", "https by 1"),
            (v6, "CONNECT [2001:DB8:0:0::1]:443", "https by 1"),
            (v6, "CONNECT [2001:db8::2]:443", "host_not_allowed"),
            (v6_net, "CONNECT [2001:db8:ffff::1]:443", "https by 1"),
            (v6_net, "CONNECT [2001:db9::1]:443", "host_not_allowed"),
            (&["allow 2001:db8::/32"], "CONNECT [2001:db8::1]:443", "https by 1"),
            (&["allow [2001:db8::/32]:8443"], "CONNECT [2001:db8::1]:8443", "https by 1"),
            (&["allow [::ffff:203.0.113.0]/120"], "CONNECT 203.0.113.9:443", "https by 1"),
            (&["allow tcp://203.0.113.0/24:22"], "CONNECT 203.0.113.9:22", "tcp by 1"),
            (&["allow *.example.com"], "CONNECT 203.0.113.9:443", "host_not_allowed"),
        ],
    );
}

#[test]
fn a_rule_is_for_its_ports() {
    let range: &[&str] = &["allow example.com:8000-8010"];
    check(
        Mode::Enforce,
        &[
            (&["allow example.com"], "CONNECT example.com:22", "port_not_allowed near 1"),
            (&["allow example.com"], "CONNECT example.com:80", "port_not_allowed near 1"),
            (&["allow example.com:8443"], "CONNECT example.com:8443", "https by 1"),
            (&["allow example.com:8443"], "CONNECT example.com:443", "port_not_allowed near 1"),
            (range, "CONNECT example.com:7999", "port_not_allowed near 1"),
            (range, "CONNECT example.com:8000", "https by 1"),
            (range, "CONNECT example.com:8010", "https by 1"),
            (range, "CONNECT example.com:8011", "port_not_allowed near 1"),
            (&["allow example.com:1-65535"], "CONNECT example.com:65535", "https by 1"),
            (&["allow *.example.com"], "CONNECT a.example.com:22", "port_not_allowed near 1"),
            (&["allow g.*.example.com"], "CONNECT g.a.example.com:22", "port_not_allowed near 1"),
        ],
    );
}

#[test]
fn a_rule_is_for_its_way_of_asking() {
    let http: &[&str] = &["allow http://mirror.example.org"];
    let tcp: &[&str] = &["allow tcp://git.example.com:22"];
    let both: &[&str] = &["both .example.com"];
    let raw: &[&str] = &["raw git.example.com:22-443"];
    check(
        Mode::Enforce,
        &[
            (http, "GET mirror.example.org", "http by 1"),
            (http, "GET mirror.example.org:80", "http by 1"),
            (http, "GET mirror.example.org:8080", "port_not_allowed near 1"),
            (http, "CONNECT mirror.example.org:80", "http by 1"),
            (http, "CONNECT mirror.example.org:443", "scheme_not_allowed near 1"),
            (&["allow example.com"], "GET example.com", "scheme_not_allowed near 1"),
            (&["allow example.com"], "GET example.com:443", "scheme_not_allowed near 1"),
            (&["allow https://example.com"], "CONNECT example.com:443", "https by 1"),
            (&["allow HTTPS://example.com"], "CONNECT example.com:443", "https by 1"),
            (tcp, "CONNECT git.example.com:22", "tcp by 1"),
            (tcp, "CONNECT git.example.com:443", "port_not_allowed near 1"),
            (tcp, "GET git.example.com:22", "scheme_not_allowed near 1"),
            (both, "CONNECT example.com:443", "https by 1"),
            (both, "GET www.example.com", "http by 1"),
            (both, "CONNECT example.com:80", "http by 1"),
            (both, "CONNECT example.com:81", "port_not_allowed near 1"),
            (both, "GET example.com:443", "port_not_allowed near 1"),
            (&["both http://example.com"], "CONNECT example.com:443", "scheme_not_allowed near 1"),
            (&["both example.com:8080"], "GET example.com:8080", "http by 1"),
            (&["both example.com:8080"], "CONNECT example.com:8080", "https by 1"),
            (raw, "CONNECT git.example.com:443", "https by 1"),
            (raw, "CONNECT git.example.com:22", "tcp by 1"),
        ],
    );
}

#[test]
fn the_nearest_miss_gives_the_reason() {
    let https_and_http: &[&str] = &["allow example.com", "allow http://example.com:8080"];
    check(
        Mode::Enforce,
        &[
            (https_and_http, "CONNECT example.com:8081", "port_not_allowed near 1"),
            (
                &["allow example.com", "allow http://example.com:443"],
                "GET example.com:80",
                "port_not_allowed near 2",
            ),
            (
                &["allow example.com:1-999", "allow http://example.com"],
                "GET example.com:443",
                "scheme_not_allowed near 1",
            ),
            (https_and_http, "CONNECT example.com:22", "port_not_allowed near 1"),
            (https_and_http, "GET example.com:81", "port_not_allowed near 2"),
            (
                &["allow *.example.com", "allow a.example.com:8443"],
                "CONNECT a.example.com:22",
                "port_not_allowed near 2",
            ),
            (
                &["allow example.com until 2027-01-01T00:00:00Z"],
                "CONNECT example.com:22",
                "host_not_allowed near 1",
            ),
        ],
    );
}
