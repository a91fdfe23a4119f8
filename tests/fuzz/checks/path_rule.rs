//! Paths of requests and the patterns of rules: a path passes if and only if every reading that servers are known for leaves it as
//! it is, and a pattern stands for exactly the paths that a second, slower reading of its grammar finds.

use egressd::rules::{PathPattern, check_path};

/// The first line is a path, the second one a pattern, the third one another pattern; what is missing is the line before.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.splitn(3, '\n');
    let path = lines.next().unwrap_or_default();
    let written = lines.next().unwrap_or(path);
    let other = lines.next().unwrap_or(written);
    let passes = check_path(path).is_ok();
    assert_eq!(passes, is_read_in_one_way(path), "{path:?}");
    let (Ok(pattern), Ok(other)) = (PathPattern::parse(written), PathPattern::parse(other)) else {
        return refused(written);
    };
    for pattern in [&pattern, &other] {
        // It can match something: its own example.
        let example = pattern.example();
        assert!(is_read_in_one_way(&example) && pattern.matches(&example), "{pattern} {example}");
        assert_eq!(pattern.matches(path), matches(pattern.as_str(), path), "{pattern} {path}");
        assert!(pattern.covers(pattern), "{pattern}");
    }
    if pattern.covers(&other) {
        for path in [path, &other.example()] {
            assert!(
                !other.matches(path) || pattern.matches(path),
                "{pattern} covers {other}, and not {path}"
            );
        }
    }
}

/// What is refused says where and why, in one line.
fn refused(written: &str) {
    if let Err(error) = PathPattern::parse(written) {
        assert!(
            error.offset <= written.len() && written.is_char_boundary(error.offset),
            "{written:?} {error:?}"
        );
        assert!(!error.to_string().chars().any(char::is_control), "{written:?} {error}");
    }
}

/// What servers do to a path before they use it, each of which must change nothing: decode it once or twice, remove dot segments,
/// merge slashes, cut parameters, take a backslash for a slash, trim blanks or dots and blanks from each segment.
fn is_read_in_one_way(path: &str) -> bool {
    let visible = path.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && !b"?#".contains(&byte));
    let Some(decoded) = decoded(path.as_bytes()) else { return false };
    let Ok(text) = String::from_utf8(decoded.clone()) else { return false };
    visible
        && path.starts_with('/')
        && !path.contains("//")
        && !path.contains([';', '\\'])
        && without_dots(path) == path
        // Decoding makes no slash, no parameter, no control, and nothing that could be decoded again.
        && text.matches(['/', ';', '\\']).count() == path.matches('/').count()
        && !text.contains(char::is_control)
        && (0..decoded.len()).all(|at| escape(&decoded[at..]).is_none())
        && encoded_again(&decoded) == encoded_again_of_encoded(path)
        && text.split('/').all(|segment| {
            // `+` is a blank to some, where more than itself would be left.
            let spaced = segment.replace('+', " ");
            [segment, if segment.contains('.') { &spaced } else { segment }].iter().all(|segment| is_trimmed(segment))
        })
}

/// Whether there is something left of a segment, or it has no blank.
fn is_trimmed(segment: &str) -> bool {
    let is_blank = |c: char| c.is_whitespace() || "\u{200b}\u{feff}".contains(c);
    !segment.contains(is_blank) || !segment.trim_matches(|c| c == '.' || is_blank(c)).is_empty()
}

/// `None`: a percent sign without two digits.
fn decoded(path: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < path.len() {
        match (path[at], escape(&path[at..])) {
            (b'%', None) => return None,
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Some(out)
}

fn escape(at: &[u8]) -> Option<u8> {
    let digits = at.get(1..3).filter(|digits| at[0] == b'%' && digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

const UNRESERVED: &[u8] = b"-._~";

/// How many bytes must be themselves after decoding: the unreserved ones.
fn encoded_again(decoded: &[u8]) -> usize {
    decoded.iter().filter(|byte| byte.is_ascii_alphanumeric() || UNRESERVED.contains(byte)).count()
}

/// How many unreserved bytes stand in the path as themselves.
fn encoded_again_of_encoded(path: &str) -> usize {
    let (bytes, mut count, mut at) = (path.as_bytes(), 0, 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            at += 3;
            continue;
        }
        count += usize::from(bytes[at].is_ascii_alphanumeric() || UNRESERVED.contains(&bytes[at]));
        at += 1;
    }
    count
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." && out.len() > 1 {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            other => out.push(other),
        }
    }
    out.join("/")
}

/// Every place of the pattern that may have been reached, one byte of the path after the other.
fn matches(pattern: &str, path: &str) -> bool {
    // One symbol each: a byte, `*` within a segment, or `**` for all that is left.
    let (body, all) = match pattern.strip_suffix("/**") {
        Some(body) => (body, true),
        None => (pattern, false),
    };
    let symbols: Vec<u8> = body.bytes().chain(all.then_some(b'/')).collect();
    let mut reached = vec![false; symbols.len() + 1];
    reached[0] = true;
    for byte in path.bytes() {
        let mut next = vec![false; symbols.len() + 1];
        for (at, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
            match symbols.get(at) {
                // Once more within its segment, or done with it.
                Some(b'*') if byte != b'/' => {
                    next[at] = true;
                    next[at + 1] = true;
                }
                Some(symbol) if *symbol == byte && byte != b'*' => next[at + 1] = true,
                None if all => next[at] = true,
                _ => {}
            }
        }
        reached = next;
    }
    reached[symbols.len()]
}
