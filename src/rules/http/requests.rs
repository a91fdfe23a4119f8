//! `requests` of a rule: entries, of which one must fit a request, and of it every key that is there.
//!
//! The first entry that fits, as written, is the one that counts. A request that asks for a WebSocket is fitted only by
//! entries that allow one, so an earlier entry without `upgrade` never hides a later one with it.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::path::PathPattern;
use super::credentials::Credentials;
use super::request::{HttpRequest, Upgrade};
use crate::rules::aws::{AwsObjection, AwsRule};
use crate::rules::git::{GitObjection, GitRule};

/// Which requests a rule lets through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requests {
    entries: Box<[Entry]>,
}

/// One entry of `requests`. A key that is left out fits any request, save `upgrade`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Entry {
    /// Methods, as they are sent.
    pub methods: Option<Box<[Box<str>]>>,
    /// Paths.
    pub paths: Option<Box<[PathPattern]>>,
    /// Whether the connection may become a WebSocket.
    pub websocket: bool,
    /// What is sent in place of the client's credentials.
    pub credentials: Option<Arc<Credentials>>,
    /// What may be asked of Git repositories. Nothing else fits the entry then.
    pub git: Option<Arc<GitRule>>,
    /// By whose credentials a request may come to AWS. One without fits the entry no more then.
    pub aws: Option<Arc<AwsRule>>,
}

/// The entry that a request was let through by, and what follows from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MatchedEntry {
    /// Its number in the list, from 1.
    pub number: usize,
    /// What is sent in place of the client's credentials.
    pub credentials: Option<Arc<Credentials>>,
}

/// The entry that came nearest to a request that none fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nearest {
    /// Its number in the list, from 1.
    pub number: usize,
    /// What of it does not fit.
    pub misfit: Misfit,
}

/// What of an entry does not fit a request; the nearest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Misfit {
    /// It does not let the connection become what the request asks for.
    Upgrade,
    /// The method alone.
    Method,
    /// The path.
    Path,
    /// Method and path.
    Both,
}

impl Requests {
    /// Of at least one entry.
    pub fn new(entries: Vec<Entry>) -> Self {
        Requests { entries: entries.into() }
    }

    /// The entries, as written.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The first entry that fits `request`, whose path passed [`check`](super::super::check_path).
    ///
    /// # Errors
    /// The entry that came nearest.
    pub fn find(&self, request: &HttpRequest<'_>) -> Result<MatchedEntry, Nearest> {
        let fits = |entry: &Entry| {
            entry.allows_method(request.method)
                && entry.allows_upgrade(request.upgrade)
                && entry.allows_path(request.path)
                && entry.git_misfit(request).is_none()
                && entry.aws_misfit(request).is_none()
        };
        match self.entries.iter().position(fits).and_then(|at| Some((at, self.entries.get(at)?))) {
            Some((at, entry)) => Ok(MatchedEntry { number: at + 1, credentials: entry.credentials.clone() }),
            None => Err(self.nearest(request)),
        }
    }

    fn nearest(&self, request: &HttpRequest<'_>) -> Nearest {
        let weighed = self.entries.iter().zip(1..).map(|(entry, number)| {
            let (misfit, shared) = entry.misfit(request);
            ((misfit, std::cmp::Reverse(shared), number), Nearest { number, misfit })
        });
        let nearest = weighed.min_by_key(|(order, _)| *order).map(|(_, nearest)| nearest);
        nearest.unwrap_or(Nearest { number: 0, misfit: Misfit::Both })
    }
}

impl Entry {
    /// The entry for this request alone, whatever its query; `None`: none can be written, or it would be too long to be of use.
    pub fn for_request(request: &HttpRequest<'_>) -> Option<Entry> {
        /// Longer ones are for no person to read.
        const LONGEST: usize = 256;
        let path = Some(request.path).filter(|path| path.len() <= LONGEST && !path.contains('*'))?;
        Some(Entry {
            methods: Some([request.method.into()].into()),
            paths: Some([PathPattern::parse(path).ok()?].into()),
            websocket: request.upgrade == Upgrade::Websocket,
            credentials: None,
            git: None,
            aws: None,
        })
    }

    /// Whether it allows the method.
    pub fn allows_method(&self, method: &str) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.iter().any(|allowed| **allowed == *method))
    }

    /// Whether it allows the path.
    pub fn allows_path(&self, path: &str) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.iter().any(|pattern| pattern.matches(path)))
    }

    /// What of `git` does not fit. Where the body decides and is not read yet, an entry fits that may fit then.
    fn git_misfit(&self, request: &HttpRequest<'_>) -> Option<Option<GitObjection>> {
        let rule = self.git.as_ref()?;
        match request.recognised.map(|recognised| &recognised.git) {
            Some(Ok(ask)) => rule.fits(ask).err().map(Some),
            Some(Err(_)) | None => Some(None),
        }
    }

    /// What of `aws` does not fit.
    fn aws_misfit(&self, request: &HttpRequest<'_>) -> Option<Option<AwsObjection>> {
        let rule = self.aws.as_ref()?;
        match request.recognised.map(|recognised| &recognised.aws) {
            Some(Ok(aws)) => rule.may(aws).err().map(Some),
            Some(Err(_)) | None => Some(None),
        }
    }

    fn allows_upgrade(&self, upgrade: Upgrade) -> bool {
        match upgrade {
            Upgrade::None => true,
            Upgrade::Websocket => self.websocket,
            Upgrade::Other => false,
        }
    }

    /// What does not fit, and how many bytes of the path the nearest of its patterns begins with.
    fn misfit(&self, request: &HttpRequest<'_>) -> (Misfit, usize) {
        let misfit = match (self.allows_method(request.method), self.allows_path(request.path)) {
            (true, true) => return (Misfit::Upgrade, 0),
            (false, true) => return (Misfit::Method, 0),
            (true, false) => Misfit::Path,
            (false, false) => Misfit::Both,
        };
        let shared = |pattern: &PathPattern| {
            // All of it begins with `/`, and mostly no more.
            let (start, path) = (pattern.literal_start().as_bytes(), request.path.as_bytes());
            start.iter().zip(path).take_while(|(one, other)| one == other).count()
        };
        (misfit, self.paths.iter().flatten().map(shared).max().unwrap_or(0))
    }
}

impl Requests {
    /// For the admin API and `explain`: a list of the entries.
    pub fn to_json(&self) -> Value {
        self.entries.iter().map(Entry::to_json).collect()
    }
}

/// As the configuration writes it, in one line.
impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, entry) in self.entries.iter().enumerate() {
            write!(f, "{}{entry}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl Entry {
    fn to_json(&self) -> Value {
        let Entry { methods, paths, websocket, credentials, git: _, aws: _ } = self;
        let mut keys = Map::new();
        if let Some(methods) = methods {
            keys.insert("methods".to_owned(), methods.iter().map(|method| Value::from(&**method)).collect());
        }
        if let Some(paths) = paths {
            keys.insert("paths".to_owned(), paths.iter().map(|path| Value::from(path.as_str())).collect());
        }
        if *websocket {
            keys.insert("upgrade".to_owned(), ["websocket"].into_iter().map(Value::from).collect());
        }
        if let Some(credentials) = credentials {
            keys.insert("credentials_file".to_owned(), Value::from(credentials.file()));
        }
        Value::Object(keys)
    }
}

/// As the configuration writes it, in one line.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { methods, paths, websocket, credentials, git: _, aws: _ } = self;
        let methods = methods.as_ref().map(|methods| {
            let methods: Vec<String> = methods.iter().map(|method| plain_or_quoted(method)).collect();
            format!("methods: [{}]", methods.join(", "))
        });
        let paths = paths.as_ref().map(|paths| {
            let paths: Vec<String> =
                paths.iter().map(|path| Value::from(path.as_str()).to_string()).collect();
            format!("paths: [{}]", paths.join(", "))
        });
        let upgrade = websocket.then(|| "upgrade: [websocket]".to_owned());
        let credentials = credentials
            .as_ref()
            .map(|credentials| format!("credentials_file: {}", Value::from(credentials.file())));
        let keys: Vec<String> = [methods, paths, upgrade, credentials].into_iter().flatten().collect();
        write!(f, "{{{}}}", keys.join(", "))
    }
}

/// Methods are written without quotes, as people write them, unless YAML would read something else.
fn plain_or_quoted(method: &str) -> String {
    // What YAML 1.1 or 1.2 reads as null or as a boolean.
    const WORDS: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let plain = method.starts_with(|c: char| c.is_ascii_alphabetic())
        && !WORDS.iter().any(|word| method.eq_ignore_ascii_case(word))
        && method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if plain { method.to_owned() } else { Value::from(method).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(methods: &[&str], paths: &[&str], websocket: bool) -> Entry {
        Entry {
            methods: (!methods.is_empty()).then(|| methods.iter().map(|method| (*method).into()).collect()),
            paths: (!paths.is_empty())
                .then(|| paths.iter().map(|path| PathPattern::parse(path).expect(path)).collect()),
            websocket,
            credentials: None,
            git: None,
            aws: None,
        }
    }

    #[test]
    fn a_method_that_is_a_word_of_yaml_is_quoted() {
        let shown = entry(&["GET", "M-SEARCH", "NULL", "True", "NO", "1X"], &[], false).to_string();
        assert_eq!(shown, r#"{methods: [GET, M-SEARCH, "NULL", "True", "NO", "1X"]}"#);
    }

    #[test]
    fn one_entry_must_fit_and_of_it_every_key() {
        let requests = Requests::new(vec![
            entry(&["GET", "HEAD"], &["/status", "/v1/**"], false),
            entry(&["POST"], &["/v1/*/items"], false),
            entry(&[], &["/live"], false),
            entry(&["GET"], &["/live", "/v1/**"], true),
        ]);
        let (none, ws, other) = (Upgrade::None, Upgrade::Websocket, Upgrade::Other);
        type Row<'a> = (&'a str, &'a str, Upgrade, Result<usize, (usize, Misfit)>);
        let rows: &[Row<'_>] = &[
            ("GET", "/status", none, Ok(1)),
            ("HEAD", "/v1/a/b", none, Ok(1)),
            ("POST", "/v1/a/items", none, Ok(2)),
            ("DELETE", "/live", none, Ok(3)),
            // Both fit: the first counts.
            ("GET", "/live", none, Ok(3)),
            // The first that fits has no `upgrade`: it does not hide the one that has.
            ("GET", "/live", ws, Ok(4)),
            ("GET", "/v1/a", ws, Ok(4)),
            ("GET", "/status", ws, Err((1, Misfit::Upgrade))),
            ("GET", "/live", other, Err((3, Misfit::Upgrade))),
            ("get", "/status", none, Err((1, Misfit::Method))),
            ("PUT", "/v1/a/items", none, Err((1, Misfit::Method))),
            ("POST", "/v1/a", none, Err((1, Misfit::Method))),
            ("GET", "/stat", none, Err((1, Misfit::Path))),
            ("POST", "/v2", none, Err((2, Misfit::Path))),
            ("PUT", "/liv", none, Err((3, Misfit::Path))),
            ("DELETE", "/x", none, Err((3, Misfit::Path))),
        ];
        for (method, path, upgrade, want) in rows {
            let request = HttpRequest {
                method,
                path,
                query: None,
                upgrade: *upgrade,
                inspected: true,
                recognised: None,
            };
            let found = requests.find(&request);
            let found = found.map(|entry| entry.number).map_err(|nearest| (nearest.number, nearest.misfit));
            assert_eq!(found, *want, "{method} {path} {upgrade:?}");
        }
    }
}
