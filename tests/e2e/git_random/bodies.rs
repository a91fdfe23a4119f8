//! Bodies of pushes, from what git writes to what only a person would.

use std::fmt::Write as _;

use crate::support::Numbers;

/// A body, and how it was made.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) told: String,
}

const ZERO: &str = "0000000000000000000000000000000000000000";

const NAMES: [&[u8]; 24] = [
    b"refs/heads/main",
    b"refs/heads/main",
    b"refs/heads/old",
    b"refs/heads/gone",
    b"refs/heads/new",
    b"refs/heads/a/b",
    b"refs/tags/v1",
    b"refs/tags/v2",
    b"refs/notes/x",
    b"refs/x",
    b"HEAD",
    b"main",
    b"refs/heads/a b",
    b"refs/heads/../x",
    b"refs/heads/.x",
    b"refs/heads/x.lock",
    b"refs/heads/x.",
    b"refs/heads//x",
    b"refs/heads/x/",
    b"refs/heads/a..b",
    b"refs/heads/a~1",
    b"refs/heads/@{x",
    "refs/heads/日本".as_bytes(),
    b"refs/heads/\xe4",
];

const WORDS: [&str; 16] = [
    "report-status",
    "report-status-v2",
    "side-band-64k",
    "side-band",
    "atomic",
    "push-options",
    "object-format=sha1",
    "object-format=sha1",
    "object-format=sha256",
    "agent=git/2.39.5",
    "session-id=1",
    "quiet",
    "unknown",
    "push-options=",
    "object-format=",
    "push-cert=x",
];

/// A list of one command and a pack without objects.
pub(super) fn push_of(command: &str) -> Vec<u8> {
    let mut body = Vec::new();
    line(&mut body, command.as_bytes(), false);
    body.extend_from_slice(b"0000");
    body.extend_from_slice(PACK);
    body
}

/// A pack without objects: version 2, and its SHA-1.
const PACK: &[u8] = b"PACK\x00\x00\x00\x02\x00\x00\x00\x00\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

pub(super) fn random(numbers: &mut Numbers, commits: &[String; 2]) -> Body {
    let mut body = Vec::new();
    // Half are as git writes them, but for one thing; the others may have any.
    let tame = numbers.chance(60);
    let odd =
        |numbers: &mut Numbers, percent: usize| numbers.chance(if tame { percent / 8 } else { percent });
    for _ in 0..numbers.below(3) {
        if odd(numbers, 20) {
            shallow(&mut body, numbers, commits);
        }
    }
    let in_certificate = odd(numbers, 8);
    if in_certificate {
        line(&mut body, b"push-cert\0report-status\n", false);
        for text in ["certificate version 0.1\n", "pusher a <a> 1 +0000\n", "nonce x\n", "\n"] {
            line(&mut body, text.as_bytes(), false);
        }
    }
    let (mut options, mut used) = (false, Vec::new());
    for at in 0..numbers.below(5) {
        if odd(numbers, 4) {
            shallow(&mut body, numbers, commits);
        }
        let names = if tame { &NAMES[1..10] } else { &NAMES[..] };
        let name = numbers.one(names);
        if tame && !numbers.chance(5) && used.contains(&name) {
            continue;
        }
        used.push(name);
        let mut text = Vec::new();
        let ids = ids(numbers, commits, name, tame);
        for id in ids {
            text.extend_from_slice(if odd(numbers, 6) { id.to_uppercase() } else { id }.as_bytes());
            let gap: &[u8] =
                if odd(numbers, 4) { numbers.one(&[&b"  "[..], b"\t", b"", b"\0"]) } else { b" " };
            text.extend_from_slice(gap);
        }
        text.extend_from_slice(name);
        if (at == 0 && !odd(numbers, 15)) || odd(numbers, 8) {
            text.push(0);
            for _ in 0..numbers.below(6) {
                let words = if tame { &WORDS[..8] } else { &WORDS[..] };
                let word = numbers.one(words);
                let text_so_far = String::from_utf8_lossy(&text).into_owned();
                if tame && text_so_far.contains(word) {
                    continue;
                }
                options |= word == "push-options";
                let gap: &[u8] =
                    if odd(numbers, 8) { numbers.one(&[&b"\t"[..], b"\0", b"", b"  "]) } else { b" " };
                text.extend_from_slice(gap);
                text.extend_from_slice(word.as_bytes());
            }
        }
        let end: &[u8] =
            if odd(numbers, 40) { numbers.one(&[&b"\n"[..], b"\n\n", b" ", b"\0", b"\r\n"]) } else { b"" };
        text.extend_from_slice(end);
        line(&mut body, &text, odd(numbers, 10));
    }
    if in_certificate {
        line(&mut body, b"push-cert-end\n", false);
    }
    let end: &[u8] = if odd(numbers, 12) {
        numbers.one(&[&b"0001"[..], b"0002", b"0003", b"0004", b"", b"00000000"])
    } else {
        b"0000"
    };
    body.extend_from_slice(end);
    if options != odd(numbers, 10) {
        for _ in 0..numbers.below(3) {
            let option = numbers.one(&[&b"ci.skip"[..], b"a=b", b"\n", b"", b"a\0b"]);
            line(&mut body, option, false);
        }
        body.extend_from_slice(if odd(numbers, 10) { b"0001" } else { b"0000" });
    }
    if !odd(numbers, 15) {
        body.extend_from_slice(PACK);
    }
    if odd(numbers, 40) {
        for _ in 0..=numbers.below(2) {
            mutate(&mut body, numbers);
        }
    }
    let mut told = String::new();
    for byte in &body {
        write!(told, "{}", std::ascii::escape_default(*byte)).expect("into a text");
    }
    Body { bytes: body, told }
}

/// Old and new id: mostly what the ref points to, and another.
fn ids(numbers: &mut Numbers, commits: &[String; 2], name: &[u8], tame: bool) -> [String; 2] {
    let [first, second] = commits;
    let known = match name {
        b"refs/heads/main" | b"refs/heads/gone" | b"refs/tags/v1" => first,
        b"refs/heads/old" => second,
        _ => ZERO,
    };
    let any = [first.clone(), second.clone(), ZERO.to_owned()];
    let other = [known.to_owned(), "0".repeat(64), first[..39].to_owned(), "x".repeat(40)];
    let mut pick = |usual: &[String]| {
        if numbers.chance(if tame { 92 } else { 60 }) {
            numbers.one(usual)
        } else {
            numbers.one(&[&any[..], &other].concat())
        }
    };
    [pick(&[known.to_owned()]), pick(if known == ZERO { &any[..2] } else { &any })]
}

fn shallow(body: &mut Vec<u8>, numbers: &mut Numbers, commits: &[String; 2]) {
    let end = numbers.one(&["", "\n", " x", "0000"]);
    line(body, format!("shallow {}{end}", commits[numbers.below(2)]).as_bytes(), false);
}

fn line(body: &mut Vec<u8>, text: &[u8], upper: bool) {
    let length = text.len() + 4;
    let length = if upper { format!("{length:04X}") } else { format!("{length:04x}") };
    body.extend_from_slice(length.as_bytes());
    body.extend_from_slice(text);
}

/// Changes, takes out, doubles or moves a few bytes.
fn mutate(body: &mut Vec<u8>, numbers: &mut Numbers) {
    if body.is_empty() {
        return;
    }
    let at = numbers.below(body.len());
    match numbers.below(5) {
        0 => body[at] ^= 1 << numbers.below(8),
        1 => {
            body.remove(at);
        }
        2 => body.insert(at, numbers.one(b"0 \n\0ar/")),
        3 => body.truncate(at),
        _ => {
            let end = (at + numbers.below(80)).min(body.len());
            let piece = body[at..end].to_vec();
            let to = numbers.below(body.len());
            body.splice(to..to, piece);
        }
    }
}
