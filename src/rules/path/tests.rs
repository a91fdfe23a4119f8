use super::*;

#[test]
fn what_programs_read_in_several_ways_is_refused() {
    use PathError::*;
    let rows: &[(&str, Result<(), PathError>)] = &[
        ("/", Ok(())),
        ("/a", Ok(())),
        ("/a/", Ok(())),
        ("/a/b.c/.well-known/...", Ok(())),
        ("/a%20b/%C3%A9/%F0%9F%98%80", Ok(())),
        ("/%c3%a9", Ok(())),
        ("/100%25", Ok(())),
        ("/100%25/2", Ok(())),
        ("/a%3Fb%23c%26", Ok(())),
        ("/@scope/x:y=z,$&'()*+!", Ok(())),
        ("/[slug]|{x}^\"<>`", Ok(())),
        ("", Err(NotAbsolute)),
        ("a", Err(NotAbsolute)),
        ("*", Err(NotAbsolute)),
        ("//", Err(EmptySegment)),
        ("//a", Err(EmptySegment)),
        ("/a//b", Err(EmptySegment)),
        ("/a//", Err(EmptySegment)),
        ("/.", Err(DotSegment)),
        ("/..", Err(DotSegment)),
        ("/a/./b", Err(DotSegment)),
        ("/a/../b", Err(DotSegment)),
        ("/a/..", Err(DotSegment)),
        ("/..%20/a", Err(BlankSegment)),
        ("/a/%20..", Err(BlankSegment)),
        ("/a/%20.%20/b", Err(BlankSegment)),
        ("/a/..%20.", Err(BlankSegment)),
        ("/a/...%20", Err(BlankSegment)),
        ("/a/%20/b", Err(BlankSegment)),
        ("/a/%C2%A0..", Err(BlankSegment)),
        ("/a/..%E3%80%80/b", Err(BlankSegment)),
        ("/a/..%E2%80%8B", Err(BlankSegment)),
        ("/a/%EF%BB%BF..", Err(BlankSegment)),
        ("/a/..+/b", Err(BlankSegment)),
        ("/a/+.", Err(BlankSegment)),
        ("/..%09/a", Err(Encoded(9))),
        ("/a/+/b", Ok(())),
        ("/a/..a%20", Ok(())),
        ("/a/%20a", Ok(())),
        ("/a/...", Ok(())),
        ("/a/..%2B", Err(BlankSegment)),
        ("/a/%2B/b", Ok(())),
        ("/%2e%2e/a", Err(Encoded(b'.'))),
        ("/.%2E/a", Err(Encoded(b'.'))),
        ("/a%2Fb", Err(Encoded(b'/'))),
        ("/a%2fb", Err(Encoded(b'/'))),
        ("/a%5Cb", Err(Encoded(b'\\'))),
        ("/a%3Bb", Err(Encoded(b';'))),
        ("/%70rojects", Err(Encoded(b'p'))),
        ("/%7E", Err(Encoded(b'~'))),
        ("/%2D", Err(Encoded(b'-'))),
        ("/%5F", Err(Encoded(b'_'))),
        ("/%30", Err(Encoded(b'0'))),
        ("/a%00", Err(Encoded(0))),
        ("/a%0d%0a", Err(Encoded(13))),
        ("/a%7f", Err(Encoded(0x7f))),
        ("/a%C2%85", Err(Encoded(0xc2))),
        ("/a;x=1/b", Err(Byte(b';'))),
        ("/a/..;/b", Err(Byte(b';'))),
        ("/a\\b", Err(Byte(b'\\'))),
        ("/a#b", Err(Byte(b'#'))),
        ("/a?b", Err(Byte(b'?'))),
        ("/a b", Err(Byte(b' '))),
        ("/a\tb", Err(Byte(b'\t'))),
        ("/é", Err(Byte(0xc3))),
        ("/%", Err(Percent)),
        ("/%2", Err(Percent)),
        ("/%2/a", Err(Percent)),
        ("/%zz", Err(Percent)),
        ("/%+1", Err(Percent)),
        ("/%252e", Err(EncodedTwice)),
        ("/%25%32%65", Err(Encoded(b'2'))),
        ("/%C3", Err(NotUtf8)),
        ("/%C3/%A9", Err(NotUtf8)),
        ("/%C3a", Err(NotUtf8)),
        ("/%A9", Err(NotUtf8)),
        // `.` and `/` in forms that are too long, and half of a surrogate pair.
        ("/%C0%AE", Err(NotUtf8)),
        ("/%E0%80%AF", Err(NotUtf8)),
        ("/%ED%A0%80", Err(NotUtf8)),
        ("/%FF", Err(NotUtf8)),
    ];
    for (path, want) in rows {
        assert_eq!(check(path), *want, "{path}");
    }
}

#[test]
fn a_pattern_stands_for_these_paths_and_not_for_those() {
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        ("/", &["/"], &["/a", "//"]),
        ("/status", &["/status"], &["/status/", "/Status", "/status2", "/", "/a/status"]),
        ("/v1/", &["/v1/"], &["/v1", "/v1/a"]),
        ("/**", &["/", "/a", "/a/b/"], &[]),
        ("/v1/**", &["/v1/", "/v1/a", "/v1/a/b/"], &["/v1", "/v12", "/v2/a", "/"]),
        ("/v1/*", &["/v1/a", "/v1/a.b"], &["/v1/", "/v1", "/v1/a/", "/v1/a/b"]),
        ("/v1/*/", &["/v1/a/"], &["/v1/a", "/v1//"]),
        ("/infra-*", &["/infra-a", "/infra--"], &["/infra-", "/infra", "/infra-a/b"]),
        ("/*-a*", &["/b-ab", "/--aa", "/x-a-a"], &["/-ab", "/b-a", "/ba"]),
        ("/a*b*c", &["/axbxc", "/abbcc", "/axbbc"], &["/abc", "/abxc", "/axbc", "/axbxcd"]),
        ("/a*aa", &["/axaa", "/aaaa"], &["/aaa", "/aa"]),
        ("/*/b/**", &["/a/b/", "/a/b/c"], &["/a/b", "/b/c", "/a/c/b", "//b/c"]),
        ("/*/*", &["/a/b"], &["/a", "/a/", "/a/b/c"]),
        ("/%C3%A9*", &["/%C3%A9a"], &["/%c3%a9a"]),
    ];
    for (pattern, these, those) in rows {
        let parsed = PathPattern::parse(pattern).expect(pattern);
        assert_eq!(parsed.as_str(), *pattern);
        for path in *these {
            assert!(parsed.matches(path), "{pattern} {path}");
        }
        for path in *those {
            assert!(!parsed.matches(path), "{pattern} {path}");
        }
    }
}

#[test]
fn what_is_no_pattern_says_where_and_what_to_write() {
    let rows = [
        ("", 0, "begins with `/`"),
        ("v1", 0, "begins with `/`"),
        ("https://a.example/v1", 0, "begins with `/`"),
        ("/a?b=c", 2, "write `/a`"),
        ("/a#b", 2, "write `/a`"),
        ("/a/**/b", 3, "stands alone at the end"),
        ("/a**", 2, "stands alone at the end"),
        ("/**a", 1, "stands alone at the end"),
        ("/a/***", 3, "stands alone at the end"),
        ("/a//b", 2, "write one `/`"),
        ("//**", 0, "write one `/`"),
        ("/a/../b", 3, "write the path that it leads to"),
        ("/a/.", 3, "write the path that it leads to"),
        ("/a%C3%A9/..+/b", 9, "refused in any case"),
        ("/a+b/c%20d/..%20", 11, "refused in any case"),
        ("/a/%20/b", 3, "refused in any case"),
        ("/b/..%20/c", 3, "refused in any case"),
        ("/b/%41", 3, "write `A` itself"),
        ("/b/%2Fc", 3, "refused in any case"),
        ("/b/%252e", 3, "refused in any case"),
        ("/b;c", 2, "refused in any case"),
        ("/b\\c", 2, "refused in any case"),
        ("/b c", 2, "write `%20`"),
        ("/bé", 2, "write `%C3%A9`"),
        ("/b\u{1}", 2, "refused in any case"),
        ("/b%", 2, "write `%25`"),
        ("/b%2*", 2, "write `%25`"),
        ("/b%C0%AE", 2, "write the bytes of UTF-8"),
    ];
    for (text, offset, want) in rows {
        let error = PathPattern::parse(text).expect_err(text);
        assert_eq!(error.offset, offset, "{text}: {error}");
        assert!(error.to_string().contains(want), "{text}: {error}");
    }
    assert!(PathPattern::parse(&format!("/{}", "a".repeat(MAX_PATTERN))).is_err());
}
