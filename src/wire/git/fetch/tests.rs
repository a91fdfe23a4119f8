use super::super::test_bodies::{NEW, OLD, lines};
use super::*;
use crate::words::git::Operation;

const V0: ProtocolVersion = ProtocolVersion::V0;
const V2: ProtocolVersion = ProtocolVersion::V2;

fn v2(capabilities: &[&str], arguments: Option<&[&str]>) -> Vec<u8> {
    let mut body = lines(capabilities);
    if let Some(arguments) = arguments {
        body.extend_from_slice(b"0001");
        body.extend(lines(arguments));
    }
    body.extend_from_slice(b"0000");
    body
}

fn told(operation: Operation, wants: usize, haves: usize) -> Result<FetchRequest, FetchError> {
    Ok(FetchRequest { operation: Some(operation), wants, haves })
}

#[test]
fn a_command_of_version_2_is_a_list_or_a_fetch() {
    let want = format!("want {OLD}\n");
    let have = format!("have {NEW}\n");
    let ls_refs = ["command=ls-refs\n", "agent=git/2.39.5", "object-format=sha1"];
    let fetch = ["command=fetch", "agent=git/2.39.5", "object-format=sha1"];
    let arguments = ["thin-pack", "ofs-delta", &want, &want, &have, "deepen 1", "filter blob:none", "done\n"];
    let long = format!("want {}", "1".repeat(64));
    let rows: &[(Vec<u8>, Result<FetchRequest, FetchError>)] = &[
        (
            v2(&ls_refs, Some(&["peel\n", "symrefs\n", "unborn\n", "ref-prefix refs/heads/\n"])),
            told(Operation::List, 0, 0),
        ),
        (v2(&["command=ls-refs"], None), told(Operation::List, 0, 0)),
        (v2(&fetch, Some(&arguments)), told(Operation::Fetch, 2, 1)),
        (v2(&["command=fetch"], Some(&["want-ref refs/heads/a"])), told(Operation::Fetch, 1, 0)),
        (v2(&["command=fetch", "object-format=sha256"], Some(&[&long])), told(Operation::Fetch, 1, 0)),
        (v2(&["command=object-info"], Some(&["size", &format!("oid {OLD}")])), told(Operation::Fetch, 1, 0)),
        (v2(&["command=bundle-uri"], None), told(Operation::Fetch, 0, 0)),
        // What is newer than egressd passes where nothing is to be fixed.
        (v2(&["command=fetch", "server-option=x", "new=1"], Some(&["new 1"])), told(Operation::Fetch, 0, 0)),
        (b"0000".to_vec(), Ok(FetchRequest { operation: None, wants: 0, haves: 0 })),
        (v2(&["command=fetch"], Some(&[&long])), Err(FetchError::Id)),
        (v2(&["command=fetch"], Some(&[&format!("want {OLD} x")])), Err(FetchError::Id)),
        (v2(&["command=fetch"], Some(&["want"])), Err(FetchError::Id)),
        (v2(&["command=fetch"], Some(&[&format!("want {}", "A".repeat(40))])), Err(FetchError::Id)),
        (v2(&["command=fetch"], Some(&["deepen x"])), Err(FetchError::Unknown)),
        (v2(&["command=fetch", "command=ls-refs"], None), Err(FetchError::Command)),
        (v2(&["command=push"], None), Err(FetchError::Command)),
        (v2(&["agent=x", "command=fetch"], None), Err(FetchError::Version)),
        (v2(&[&want], None), Err(FetchError::Version)),
        (
            v2(&["command=fetch", "object-format=md5"], None),
            Err(FetchError::Capabilities("an `object-format` that is neither sha1 nor sha256")),
        ),
        (v2(&["command=fetch", "agent=a\nb"], None), Err(FetchError::Text)),
        (v2(&["command=fetch", ""], None), Err(FetchError::Text)),
        ([&v2(&["command=ls-refs"], None)[..], b"0000"].concat(), Err(FetchError::After)),
        (
            [&v2(&["command=ls-refs"], None)[..], &v2(&["command=fetch"], None)].concat(),
            Err(FetchError::After),
        ),
        ([&lines(&["command=ls-refs"])[..], b"00010001"].concat(), Err(FetchError::Special)),
        ([&lines(&["command=ls-refs"])[..], b"0002"].concat(), Err(FetchError::Special)),
        (lines(&["command=ls-refs"]), Err(FetchError::Incomplete)),
        (b"".to_vec(), Err(FetchError::Incomplete)),
        (b"00000000".to_vec(), Err(FetchError::Command)),
    ];
    for (body, want) in rows {
        assert_eq!(FetchRequest::read(body, V2), *want, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn a_request_of_version_0_is_a_fetch() {
    let first = format!("want {OLD} multi_ack_detailed no-done side-band-64k thin-pack agent=git/2.39.5\n");
    let want = format!("want {NEW}\n");
    let have = format!("have {NEW}\n");
    let needs = [&lines(&[&first, &want])[..], b"0000"].concat();
    let haves = lines(&[&have, &have]);
    let depth = [&lines(&[&first, &format!("shallow {OLD}"), "deepen 3"])[..], b"0000"].concat();
    let done = b"0009done\n";
    let rows: &[(Vec<u8>, Result<FetchRequest, FetchError>)] = &[
        ([&needs[..], &haves, done].concat(), told(Operation::Fetch, 2, 2)),
        ([&needs[..], done].concat(), told(Operation::Fetch, 2, 0)),
        ([&needs[..], done, b"0000"].concat(), told(Operation::Fetch, 2, 0)),
        ([&needs[..], &haves, b"0000"].concat(), told(Operation::Fetch, 2, 2)),
        (depth, told(Operation::Fetch, 1, 0)),
        (needs.clone(), told(Operation::Fetch, 2, 0)),
        ([&needs[..], done, b"00000000"].concat(), Err(FetchError::After)),
        ([&needs[..], done, &haves].concat(), Err(FetchError::After)),
        ([&needs[..], &haves, b"0000", &haves].concat(), Err(FetchError::After)),
        ([&needs[..], b"0001"].concat(), Err(FetchError::Special)),
        ([&needs[..], b"000"].concat(), Err(FetchError::Incomplete)),
        (lines(&[&first]), Err(FetchError::Incomplete)),
        (v2(&["command=fetch"], None), Err(FetchError::Version)),
        ([&lines(&[&first, &first])[..], b"0000"].concat(), Err(FetchError::Id)),
        ([&lines(&[&first.replace(OLD, "x")])[..], b"0000"].concat(), Err(FetchError::Id)),
    ];
    for (body, want) in rows {
        assert_eq!(FetchRequest::read(body, V0), *want, "{}", String::from_utf8_lossy(body));
        assert_eq!(FetchRequest::read(body, ProtocolVersion::V1), *want);
    }
    assert_eq!(FetchRequest::read(&needs, V2), Err(FetchError::Version));
}

#[test]
fn the_fixed_form_says_only_what_a_fetch_needs() {
    let fetch = ["command=fetch", "agent=git/secret", "object-format=sha1", "session-id=secret\n"];
    let body = v2(&fetch, Some(&["thin-pack\n", &format!("want {OLD}")]));
    let want = v2(
        &["command=fetch", "agent=git/2.47.0-egressd", "object-format=sha1"],
        Some(&["thin-pack\n", &format!("want {OLD}")]),
    );
    assert_eq!(FetchRequest::fixed(&body, V2), Ok((told(Operation::Fetch, 1, 0).unwrap(), want)));
    // The case of a length's digits is gone, too.
    let upper = String::from_utf8(lines(&["ref-prefix refs/heads/"])).unwrap().replace("001a", "001A");
    let body = [&lines(&["command=ls-refs"])[..], b"0001", upper.as_bytes(), b"0000"].concat();
    let want = v2(&["command=ls-refs"], Some(&["ref-prefix refs/heads/"]));
    assert_eq!(FetchRequest::fixed(&body, V2).map(|(_, body)| body), Ok(want));
    for (capabilities, arguments) in [
        (&["command=fetch", "server-option=secret"][..], &[][..]),
        (&["command=fetch", "new=1"], &[]),
        (&["command=fetch"], &["new 1"]),
        (&["command=fetch"], &["done secret"]),
    ] {
        assert_eq!(FetchRequest::fixed(&v2(capabilities, Some(arguments)), V2), Err(FetchError::Unknown));
    }
    let first = format!("want {OLD} thin-pack agent=git/secret session-id=secret\n");
    let body = [&lines(&[&first, &format!("want {NEW}\n")])[..], b"0000", b"0009done\n"].concat();
    let first = format!("want {OLD} thin-pack agent=git/2.47.0-egressd\n");
    let want = [&lines(&[&first, &format!("want {NEW}\n")])[..], b"0000", b"0009done\n"].concat();
    assert_eq!(FetchRequest::fixed(&body, V0), Ok((told(Operation::Fetch, 2, 0).unwrap(), want)));
    assert_eq!(FetchRequest::fixed(b"0000", V2).unwrap().1, b"0000");
    // Words of the client's own are read where they may go out, and refused where only a fetch may.
    let first = format!("want {OLD} agent=x {}", "a".repeat(65_516 - 45 - 9));
    let body = [&lines(&[&first])[..], b"0000"].concat();
    assert!(FetchRequest::read(&body, V0).is_ok());
    assert_eq!(FetchRequest::fixed(&body, V0), Err(FetchError::Unknown));
}

/// What is free text in the protocol is a ref, a filter or a number where only a fetch may go out.
#[test]
fn the_fixed_form_has_no_free_text() {
    let long = "a".repeat(256);
    let rows: &[(&[&str], Result<(), FetchError>)] = &[
        (&["ref-prefix refs/heads/", "ref-prefix HEAD"], Ok(())),
        (&["ref-prefix refs/heads/ma"], Ok(())),
        (&["ref-prefix a secret"], Err(FetchError::Name)),
        (&["ref-prefix secret\\"], Err(FetchError::Name)),
        (&[&format!("ref-prefix {long}")], Err(FetchError::Name)),
        (&["peel", "peel"], Err(FetchError::Twice)),
    ];
    for (arguments, want) in rows {
        let body = v2(&["command=ls-refs"], Some(arguments));
        assert_eq!(FetchRequest::fixed(&body, V2).map(drop), *want, "{arguments:?}");
        assert!(FetchRequest::read(&body, V2).is_ok(), "{arguments:?}");
    }
    let rows: &[(&[&str], Result<(), FetchError>)] = &[
        (&["filter blob:none"], Ok(())),
        (&["filter blob:limit=10m"], Ok(())),
        (&["filter tree:0"], Ok(())),
        (&["filter object:type=commit"], Ok(())),
        (&["filter sparse:oid=secret"], Err(FetchError::Filter)),
        (&["filter combine:blob:none+secret"], Err(FetchError::Filter)),
        (&["filter secret"], Err(FetchError::Filter)),
        (&["filter blob:none", "filter tree:0"], Err(FetchError::Twice)),
        (&["deepen 1", "deepen 1"], Err(FetchError::Twice)),
        (&["deepen-since 1700000000"], Ok(())),
        (&["want-ref refs/heads/main"], Ok(())),
        (&["want-ref refs/heads/a secret"], Err(FetchError::Name)),
        (&["deepen-not refs/tags/v1"], Ok(())),
        (&["deepen-not secret^"], Err(FetchError::Name)),
        (&["packfile-uris https"], Err(FetchError::Unknown)),
    ];
    for (arguments, want) in rows {
        let body = v2(&["command=fetch"], Some(arguments));
        assert_eq!(FetchRequest::fixed(&body, V2).map(drop), *want, "{arguments:?}");
        assert!(FetchRequest::read(&body, V2).is_ok(), "{arguments:?}");
    }
    for number in ["deepen 01", "deepen 12345678901"] {
        assert_eq!(
            FetchRequest::fixed(&v2(&["command=fetch"], Some(&[number])), V2),
            Err(FetchError::Unknown),
            "{number}"
        );
    }
    let line = "object-format=sha1 agent=secret";
    let error = FetchError::Capabilities("an `object-format` that is neither sha1 nor sha256");
    assert_eq!(FetchRequest::fixed(&v2(&["command=fetch", line], Some(&[])), V2), Err(error));
}

fn archive(body: &[u8]) -> Result<FetchRequest, FetchError> {
    whole(FetchReader::new(body, FetchKind::Archive)).map(|(told, _)| told)
}

#[test]
fn an_archive_is_a_read() {
    let body = [&lines(&["argument --format=tar\n", "argument HEAD\n"])[..], b"0000"].concat();
    assert_eq!(archive(&body), told(Operation::Fetch, 0, 0));
    for bad in [&b"0000"[..], &lines(&["argument HEAD"]), &[&lines(&["HEAD"])[..], b"0000"].concat()] {
        assert_ne!(archive(bad), told(Operation::Fetch, 0, 0));
    }
    assert_eq!(archive(&[&body[..], b"x"].concat()), Err(FetchError::After));
    let many = |count: usize| [lines(&vec!["argument a"; count]), b"0000".to_vec()].concat();
    assert_eq!(archive(&many(64)), told(Operation::Fetch, 0, 0));
    assert_eq!(archive(&many(65)), Err(FetchError::Arguments));
}

#[test]
fn the_fixed_form_of_an_archive_says_what_is_read_and_in_which_form() {
    let fixed = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|text| format!("argument {text}\n")).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let body = [&lines(&arguments)[..], b"0000"].concat();
        let fixed = whole(FetchReader::fixing(&body, FetchKind::Archive)).map(|(_, fixed)| fixed);
        fixed.inspect(|fixed| assert!(*fixed == body)).map(drop)
    };
    let long = "a".repeat(256);
    let rows: &[(&[&str], bool)] = &[
        (&["--format=tar.gz", "--prefix=v1/", "-9", "refs/tags/v1", "src", "docs/a.md"], true),
        (&["-v", "-l", "--worktree-attributes", "HEAD:src", "--", "a"], true),
        (&["--format=secret", "HEAD"], false),
        (&["--format", "tar", "HEAD"], false),
        (&["--prefix=a secret", "HEAD"], false),
        (&["--mtime=secret", "HEAD"], false),
        (&["--add-virtual-file=a:secret", "HEAD"], false),
        (&["-99", "HEAD"], false),
        (&["-x", "HEAD"], false),
        (&["a:b:c"], false),
        (&["a secret"], false),
        (&[&long], false),
    ];
    for (arguments, passes) in rows {
        assert_eq!(fixed(arguments).is_ok(), *passes, "{arguments:?}");
    }
}

/// Two lines of a body that is read in several steps may be cut anywhere.
#[test]
fn a_long_body_is_read_in_steps() {
    let have = lines(&[&format!("have {NEW}\n")]);
    let body =
        [&lines(&[&format!("want {OLD} thin-pack")])[..], b"0000", &have.repeat(6_000), &lines(&["done\n"])]
            .concat();
    let mut reader = FetchReader::new(&body, FetchKind::Pack(V0));
    let mut steps = 1;
    while !reader.step().unwrap() {
        steps += 1;
    }
    assert_eq!(reader.into_parts().0, told(Operation::Fetch, 1, 6_000).unwrap());
    // 300,000 bytes, 64 KiB each.
    assert_eq!(steps, body.len().div_ceil(64 << 10));
    // What ends within its steps is found all the same.
    assert_eq!(FetchRequest::read(&body[..body.len() - 3], V0), Err(FetchError::Incomplete));
}
