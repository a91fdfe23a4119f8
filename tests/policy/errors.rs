//! Every kind of text that is not a rule: where the error is, and what to write instead.

use egressd::rules::{
    BuildError, ClientMatch, HostPattern, Mode, OptionsId, Origin, PatternError, PolicyBuilder, RuleError,
    RuleText, Schemes,
};

/// Text, offset of the error, a part of the message.
type Row<'a> = (&'a str, usize, &'a str);

fn check(rows: &[Row<'_>]) {
    let mut wrong = Vec::new();
    for (text, offset, said) in rows {
        match RuleText::parse(text) {
            Ok(rule) => wrong.push(format!("{text:?} is taken for {rule}")),
            Err(RuleError { offset: at, kind }) => {
                let got = kind.to_string();
                if at != *offset || !got.contains(said) {
                    wrong.push(format!("{text:?}: {at}: {got}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn parts_of_a_url_that_a_rule_does_not_have_are_refused() {
    check(&[
        ("", 0, "write `host`, `host:port`"),
        ("ftp://example.com", 0, "https, http or tcp"),
        ("wss://example.com:443", 0, "https, http or tcp"),
        ("//example.com", 0, "scheme is missing"),
        ("://example.com", 0, "scheme is missing"),
        ("https://", 8, "host is missing"),
        ("https://:443", 8, "host is missing"),
        ("https://example.com/path", 19, "write `https://example.com`"),
        ("https://example.com/", 19, "write `https://example.com`"),
        ("example.com:8443/path", 16, "write `example.com:8443`"),
        ("example.com?q", 11, "write `example.com`"),
        ("example.com#part", 11, "write `example.com`"),
        ("203.0.113.9/index.html", 11, "write `203.0.113.9`"),
        ("[2001:db8::1]/", 13, "write `[2001:db8::1]`"),
        ("https://*/", 8, "matches every host"),
        ("https://user@example.com", 12, "user information"),
        ("https://user:secret@example.com:443", 19, "user information"),
        (" example.com", 0, "no spaces"),
        ("example.com ", 11, "no spaces"),
        ("a.example b.example", 9, "one rule per line"),
        ("a.example\u{3000}", 9, "no spaces"),
        ("a.example\r", 9, "control character"),
        ("a\0.example", 1, "control character"),
        ("\u{1b}[31m.example", 0, "control character"),
    ]);
    let long = "a".repeat(1101);
    check(&[(long.as_str(), 1100, "longer than 1100 bytes")]);
}

#[test]
fn a_port_is_a_number_or_a_range() {
    check(&[
        ("example.com:", 12, "remove the `:`"),
        ("example.com:0", 12, "from 1 to 65535"),
        ("example.com:65536", 12, "from 1 to 65535"),
        ("example.com:0443", 12, "without a leading zero"),
        ("example.com:+443", 12, "write a number"),
        ("example.com:https", 12, "write a number"),
        ("example.com:8000-", 17, "a range such as `8000-8010`"),
        ("example.com:-8000", 12, "a range such as `8000-8010`"),
        ("example.com:8000-70000", 17, "from 1 to 65535"),
        ("example.com:8000-8005-8010", 17, "a range such as `8000-8010`"),
        ("example.com:8010-8000", 17, "write `8000-8010`"),
        ("example.com:*", 12, "write `1-65535`"),
        ("example.com:80,443", 14, "one rule for each port"),
    ]);
}

#[test]
fn a_pattern_that_is_too_wide_is_refused() {
    check(&[
        ("*", 0, "list the names"),
        (".", 0, "list the names"),
        ("https://*", 8, "list the names"),
        ("*:443", 0, "list the names"),
        ("*.com", 0, "`*.example.com`"),
        (".com", 0, "public suffix `com`"),
        ("*.COM.", 0, "public suffix `com`"),
        ("https://*.co.uk:443", 8, "public suffix `co.uk`"),
        ("*.uk", 0, "public suffix `uk`"),
        ("*.ck", 0, "public suffix `ck`"),
        ("*.рф", 0, "public suffix `xn--p1ai`"),
        ("*amazonaws.com", 0, "write `*.amazonaws.com`"),
        ("*AmazonAWS.com", 0, "`evilamazonaws.com`"),
        ("*bbc.co.uk", 0, "write `*.bbc.co.uk`"),
        ("amazonaws*.com", 0, "public suffix `com`"),
        ("a*b.com", 0, "public suffix `com`"),
        ("*-x.com", 0, "public suffix `com`"),
        ("*.*.com", 0, "public suffix `com`"),
        ("git.*.com", 0, "public suffix `com`"),
        ("git.*.co.uk", 0, "public suffix `co.uk`"),
        ("amazonaws.*", 10, "last label"),
        ("*.*", 2, "last label"),
        ("www.amazon*", 4, "last label"),
        ("**", 0, "write `*.name`"),
        ("**.example.com", 0, "write `*.name`"),
        ("a.**.example.com", 2, "one or more characters"),
    ]);
}

#[test]
fn a_name_is_letters_digits_hyphens_and_underscores() {
    let label = "a".repeat(64);
    let long_label = format!("ok.{label}.example");
    let long_star = format!("ok.*{}.example", &label[1..]);
    let long_name = format!("*.{}example", "abcdefg.".repeat(31));
    let long_pattern = format!("a*.{}example", "abcdefg.".repeat(31));
    check(&[
        ("a..example", 2, "empty label"),
        ("..example", 1, "empty label"),
        ("*..example", 2, "empty label"),
        ("a.*..example", 4, "empty label"),
        (".*.example", 0, "empty label"),
        ("example.com..", 11, "empty label"),
        ("-a.example", 0, "hyphen"),
        ("ok.a-.example", 3, "hyphen"),
        ("*.ok.-a.example", 5, "hyphen"),
        ("ok.-*.example", 3, "hyphen"),
        (long_label.as_str(), 3, "63 characters"),
        (long_star.as_str(), 3, "63 characters"),
        (long_name.as_str(), 0, "253 characters"),
        (long_pattern.as_str(), 0, "253 characters"),
        ("cnn\\.com", 3, "regular expressions"),
        ("^example.com$", 0, "regular expressions"),
        ("(a|b).example", 0, "regular expressions"),
        ("a[0-9].example", 1, "regular expressions"),
        ("{a,b}.example", 0, "one rule for each name"),
        ("a,b.example", 1, "one rule for each name"),
        ("a?.example", 1, "the only wildcard"),
        ("!evil.example", 0, "`deny`"),
        ("'a.example'", 0, "without quotes"),
        ("%61.example", 0, "percent-encoding is not decoded"),
        ("a=b.example", 1, "letters, digits"),
        ("ok.exam\u{200b}ple.test", 3, "internationalised"),
        ("a\u{3002}example", 0, "internationalised"),
        ("\u{ff0a}.example", 0, "internationalised"),
        ("\u{ff45}xample.test", 0, "internationalised"),
        ("ok.b\u{fc}*.example", 3, "cannot have both a `*`"),
        ("ok.-*.b\u{fc}cher.example", 0, "hyphen"),
        ("\u{feff}example.com", 0, "internationalised"),
    ]);
}

#[test]
fn an_address_is_written_in_one_way() {
    check(&[
        ("10.0.*.*", 0, "write a network"),
        ("*.0.0.1", 0, "write a network"),
        ("2130706433", 0, "four decimal numbers"),
        ("127.1", 0, "four decimal numbers"),
        ("0x7f.1", 0, "four decimal numbers"),
        ("256.1.1.1", 0, "four decimal numbers"),
        ("*.example.1", 0, "four decimal numbers"),
        ("a*.1", 0, "four decimal numbers"),
        ("203.0.113.9/33", 12, "from 0 to 32"),
        ("203.0.113.9/024", 12, "from 0 to 32"),
        ("203.0.113.9/24", 0, "write `203.0.113.0/24`"),
        ("example.com/24", 11, "write `example.com`"),
        ("2001:db8::1", 0, "write `[2001:db8::1]`"),
        ("https://2001:db8::1", 8, "write `[2001:db8::1]`"),
        ("example.com:80:90", 0, "brackets"),
        ("[2001:db8::]/129", 13, "from 0 to 128"),
        ("[2001:db8::/129]", 12, "from 0 to 128"),
        ("[2001:db8::1]/32", 0, "write `[2001:db8::]/32`"),
        ("2001:db8::/200", 11, "from 0 to 128"),
        ("2001:db8::/32:443", 0, "needs brackets"),
        ("[2001:db8::]x:443", 12, "brackets"),
        ("[2001:db8::", 0, "brackets"),
        ("[example.com]", 1, "brackets"),
        ("[203.0.113.9]", 1, "brackets"),
        ("[fe80::1%25eth0]", 8, "zone"),
    ]);
}

#[test]
fn a_pattern_alone_says_the_same() {
    assert!(matches!(HostPattern::parse(""), Err(PatternError { offset: 0, .. })));
    for (text, said) in
        [("example.com/x", "no path"), ("a b", "one rule per line"), ("u@h", "user information")]
    {
        let error = HostPattern::parse(text).expect_err(text).to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn canonical_text_means_the_same_rule() {
    let rows = [
        ("HTTPS://Example.COM.:443", "https://example.com:443"),
        ("*.Example.com", "*.example.com"),
        (".Example.com.", ".example.com"),
        ("Git-*.Example.com", "git-*.example.com"),
        ("tcp://b\u{fc}cher.example:22-23", "tcp://xn--bcher-kva.example:22-23"),
        ("203.0.113.9/32", "203.0.113.9"),
        ("203.0.113.0/24:443", "203.0.113.0/24:443"),
        ("[2001:DB8:0::1]:443", "[2001:db8::1]:443"),
        ("[2001:db8::/32]", "[2001:db8::]/32"),
        ("2001:db8::/32", "[2001:db8::]/32"),
        ("[::ffff:10.0.0.0]/104", "10.0.0.0/8"),
        ("http://0.0.0.0/0:80-80", "http://0.0.0.0/0:80"),
    ];
    for (text, canonical) in rows {
        let rule = RuleText::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(rule.to_string(), canonical, "{text}");
        assert_eq!(RuleText::parse(canonical), Ok(rule), "{canonical}");
    }
}

fn build(
    add: impl FnOnce(&mut PolicyBuilder, Origin<'_>) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let mut builder = PolicyBuilder::new("test", ClientMatch::default(), Mode::Enforce, Vec::new());
    let file = builder.file("egressd.yaml");
    add(&mut builder, Origin { file, line: 1, inline: true, text: "x" })?;
    builder.build().map(drop)
}

#[test]
fn a_tcp_rule_that_allows_needs_a_port_and_one_that_denies_does_not() {
    let rule = RuleText::parse("tcp://git.example.com").expect("a rule");
    let none = OptionsId::default();
    let error =
        build(|builder, origin| builder.allow(&rule, Schemes::HTTPS, origin, none)).expect_err("no port");
    assert!(error.to_string().contains("write `tcp://git.example.com:PORT`"), "{error}");
    let bare = RuleText::parse("git.example.com").expect("a rule");
    assert!(build(|builder, origin| builder.allow(&bare, Schemes::ALL, origin, none)).is_err());
    assert_eq!(build(|builder, origin| builder.deny(&rule, origin)), Ok(()));
    let empty = Schemes::default();
    assert_eq!(build(|builder, origin| builder.allow(&bare, empty, origin, none)), Err(BuildError::NoScheme));
}

#[test]
fn patterns_are_at_most_a_thousand() {
    let add = |count: usize| {
        build(|builder, origin| {
            (0..count).try_for_each(|n| {
                let rule = RuleText::parse(&format!("git-{n}.*.example.com")).expect("a rule");
                builder.allow(&rule, Schemes::HTTPS, origin, OptionsId::default())
            })
        })
    };
    assert_eq!(add(1_000), Ok(()));
    assert_eq!(add(1_001), Err(BuildError::TooManyPatterns));
}

#[test]
fn rules_are_at_most_a_million() {
    let mut builder = PolicyBuilder::new("test", ClientMatch::default(), Mode::Enforce, Vec::new());
    let file = builder.file("egressd.yaml");
    let origin = Origin { file, line: 1, inline: true, text: "a.test" };
    let rule = RuleText::parse("a.test").expect("a rule");
    let pattern = RuleText::parse("a*.test").expect("a rule");
    for _ in 0..1_000_000 {
        builder.deny(&rule, origin).expect("room");
    }
    assert_eq!(builder.deny(&pattern, origin), Ok(()), "patterns are counted apart");
    assert_eq!(builder.deny(&rule, origin), Err(BuildError::TooManyRules));
}

#[test]
fn texts_and_files_have_bounds() {
    let long = "a".repeat(70_000);
    let rule = RuleText::parse("a.test").expect("a rule");
    let too_long = build(|builder, origin| builder.deny(&rule, Origin { text: &long, ..origin }));
    assert_eq!(too_long, Err(BuildError::TooLarge));
    let too_many = build(|builder, _| {
        (0..65_536).for_each(|_| _ = builder.file("x"));
        Ok(())
    });
    assert_eq!(too_many, Err(BuildError::TooManyFiles));
}
