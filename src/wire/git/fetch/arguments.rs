//! The lines that a request to read is made of, and the form that each has where nothing else may go out.

use super::told::FetchError;

/// A line of a request: its name, and what follows it.
#[derive(Debug)]
pub(super) struct Argument(pub(super) &'static str, pub(super) Value);

/// What follows the name of a line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    None,
    Id,
    Number,
    /// A ref, or what refs begin with.
    Ref,
    Filter,
    Uris,
}

pub(super) const LS_REFS: [Argument; 4] = [
    Argument("peel", Value::None),
    Argument("symrefs", Value::None),
    Argument("unborn", Value::None),
    Argument("ref-prefix", Value::Ref),
];

pub(super) const FETCH: [Argument; 17] = [
    Argument("want", Value::Id),
    Argument("want-ref", Value::Ref),
    Argument("have", Value::Id),
    Argument("done", Value::None),
    Argument("wait-for-done", Value::None),
    Argument("thin-pack", Value::None),
    Argument("no-progress", Value::None),
    Argument("include-tag", Value::None),
    Argument("ofs-delta", Value::None),
    Argument("sideband-all", Value::None),
    Argument("shallow", Value::Id),
    Argument("deepen", Value::Number),
    Argument("deepen-relative", Value::None),
    Argument("deepen-since", Value::Number),
    Argument("deepen-not", Value::Ref),
    Argument("filter", Value::Filter),
    Argument("packfile-uris", Value::Uris),
];

pub(super) const OBJECT_INFO: [Argument; 2] = [Argument("size", Value::None), Argument("oid", Value::Id)];

pub(super) const V0_NEEDS: [Argument; 6] = [
    Argument("want", Value::Id),
    Argument("shallow", Value::Id),
    Argument("deepen", Value::Number),
    Argument("deepen-since", Value::Number),
    Argument("deepen-not", Value::Ref),
    Argument("filter", Value::Filter),
];

pub(super) const V0_HAVES: [Argument; 2] = [Argument("have", Value::Id), Argument("done", Value::None)];

pub(super) const OBJECT_FORMAT: &str = "an `object-format` that is neither sha1 nor sha256";

/// Written in one way, and no larger than a depth, or a second since 1970, is.
pub(super) fn is_number(text: &str) -> bool {
    (1..=10).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
}

/// What a ref may be called, or begin with (`git check-ref-format`), no longer than people call them.
pub(super) fn is_name(text: &str) -> bool {
    const LONGEST: usize = 255;
    let never = |char: char| " ~^:?*[\\".contains(char);
    text.len() <= LONGEST
        && !text.contains(never)
        && !text.contains("..")
        && !text.contains("@{")
        && !text.contains("//")
}

/// A filter of a partial clone, without those that name an object by free text (`git rev-list --filter`).
pub(super) fn is_filter(text: &str) -> bool {
    let size = |text: &str| is_number(text.strip_suffix(['k', 'm', 'g']).unwrap_or(text));
    match text.split_once(['=', ':']) {
        Some(("blob", "none")) => true,
        Some(("blob", limit)) => limit.strip_prefix("limit=").is_some_and(size),
        Some(("tree", depth)) => is_number(depth),
        Some(("object", kind)) => {
            matches!(kind, "type=commit" | "type=tree" | "type=blob" | "type=tag")
        }
        _ => false,
    }
}

pub(super) fn printable(line: &[u8]) -> Result<&str, FetchError> {
    let text = std::str::from_utf8(line).map_err(|_| FetchError::Text)?;
    if text.is_empty() || text.contains(char::is_control) { Err(FetchError::Text) } else { Ok(text) }
}

/// What git's server takes (`upload-archive.c`, `MAX_ARGS`).
pub(super) const MAX_ARGUMENTS: usize = 64;

/// An argument of `git archive` that only says what is to be read and in which form: a format that git has, a prefix, a level, a ref
/// and paths. The server reads each in its place, so its form alone is judged.
pub(super) fn is_of_archive(argument: &str) -> bool {
    if let Some(format) = argument.strip_prefix("--format=") {
        return ["tar", "tgz", "tar.gz", "zip"].contains(&format);
    }
    if let Some(prefix) = argument.strip_prefix("--prefix=") {
        return is_name(prefix);
    }
    match argument {
        "--" | "-v" | "--verbose" | "-l" | "--list" | "--worktree-attributes" => true,
        _ => match argument.strip_prefix('-') {
            Some(level) => level.len() == 1 && is_number(level),
            // A ref may name a path in it.
            None => argument.split(':').count() <= 2 && argument.split(':').all(is_name),
        },
    }
}
