//! Requests, from what git writes to what its server also understands.

use crate::support::Numbers;

#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
}

/// A list of all refs, by protocol v2.
pub(super) const LS_REFS: &[u8] = b"0014command=ls-refs\n0000";

const REPOSITORIES: [&str; 17] = [
    "/one",
    "/one",
    "/group/two",
    "/group/two.git",
    "/three",
    "/one.git",
    "/three.git",
    "/three/.git",
    "/one/",
    "/group//two",
    "/group/./two",
    "/x/../one",
    "/group%2Ftwo",
    "/%6fne",
    "/one%2egit",
    "/ONE",
    "/one.git.git",
];

const SERVICES: [&str; 6] = [
    "git-upload-pack",
    "git-receive-pack",
    "git-upload-pack",
    "git-receive-pack",
    "git-upload-archive",
    "upload-pack",
];

pub(super) fn random(numbers: &mut Numbers) -> Request {
    let tame = numbers.chance(50);
    let odd =
        |numbers: &mut Numbers, percent: usize| numbers.chance(if tame { percent / 10 } else { percent });
    let repositories = if tame { &REPOSITORIES[..7] } else { &REPOSITORIES[..] };
    let repository = numbers.one(repositories);
    let service = numbers.one(&SERVICES).to_owned();
    let service = if odd(numbers, 15) { encoded(&service, numbers) } else { service };
    let mut request = if numbers.chance(60) {
        let query = match odd(numbers, 40) {
            false => Some(format!("service={service}")),
            true => match numbers.below(8) {
                0 => None,
                1 => Some(String::new()),
                2 => Some(format!("x=1&service={service}")),
                3 => Some(format!("service={}&service={service}", numbers.one(&SERVICES))),
                4 => Some(format!("s%65rvice={service}")),
                5 => Some(format!("service={service}&")),
                6 => Some(format!("service={service};x")),
                _ => Some(format!("service={}", encoded(&service, numbers))),
            },
        };
        Request { method: "GET".to_owned(), path: format!("{repository}/info/refs"), query }
    } else {
        Request { method: "POST".to_owned(), path: format!("{repository}/{service}"), query: None }
    };
    if odd(numbers, 15) {
        request.method = numbers.one(&["HEAD", "GET", "POST", "get", "PUT", "PROPFIND"]).to_owned();
    }
    if odd(numbers, 10) {
        request.path = numbers.one(&[
            format!("{repository}/HEAD"),
            format!("{repository}/objects/info/packs"),
            format!("{}/", request.path),
            request.path.replacen('/', "//", 1),
            format!("{}/info/refs", request.path),
            request.path.replace("info", "%69nfo"),
            request.path.replace("/info/refs", "/info//refs"),
        ]);
    }
    request
}

fn encoded(text: &str, numbers: &mut Numbers) -> String {
    let at = numbers.below(text.len());
    text.char_indices()
        .map(|(index, c)| if index == at { format!("%{:02x}", c as u32) } else { c.to_string() })
        .collect()
}

/// As a web server decodes a path before it asks the program.
pub(super) fn decoded(path: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next().expect("two digits")).to_digit(16).expect("a digit");
            let (high, low) = (digit(), digit());
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).expect("of ASCII")
}
