//! What a rule says about requests, from the keys as typed to [`Requests`] and [`HeaderEdits`]: `requests` and `headers`.
//!
//! The files that these keys name are read here. An error never shows a byte of their content. Not here: which rules may
//! have these keys ([`crate::rules`]).

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::finding::{Position, Report};
use super::keys::{Key, List, items, value};
use super::named_files::NamedFiles;
use super::secret_files::{one_line, user_password};
use super::typed::At;
use super::values::{Field, FieldFiles, FieldValues, FilePath, Line, MethodName};
use crate::rules::{Credentials, Entry, HeaderEdits, PathPattern, Requests, SetField};
use crate::words::quote::quoted;

/// Most entries of one rule, and most paths in all of them: each request is compared with each.
const MAX_ENTRIES: usize = 1_000;

/// Requests that a rule lets through. Every key that is set must fit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Request", deny_unknown_fields)]
pub(super) struct EntryFile {
    /// Methods, in upper case. Left out: any.
    pub(super) methods: List<MethodName>,
    /// Paths without the query. `*` stands for one or more characters within a segment, `/**` at the end for everything below.
    /// Left out: any.
    pub(super) paths: List<Line>,
    /// What the connection may become. Left out: nothing.
    pub(super) upgrade: List<UpgradeFile>,
    /// File with one line USER:PASSWORD, sent as Basic credentials in place of what the client sent.
    pub(super) credentials_file: Key<FilePath>,
}

/// What a connection may become.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Upgrade")]
pub(super) enum UpgradeFile {
    /// A WebSocket. What follows is not looked at.
    Websocket,
}

/// Fields that are changed in each request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Headers", deny_unknown_fields)]
pub(super) struct HeadersFile {
    /// Fields with their values, in place of all that the client sent of these names.
    pub(super) set: Key<FieldValues>,
    /// The same, each value being the one line of a file. For secrets.
    pub(super) set_files: Key<FieldFiles>,
    /// Fields that are removed.
    pub(super) remove: List<Field>,
}

/// The entries of `requests`.
pub(super) fn requests(
    list: &List<EntryFile>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Option<Arc<Requests>> {
    let at = list.as_ref()?;
    let written = at.value.as_deref()?;
    if written.is_empty() {
        report.error(
            at.position,
            "`requests` is empty and lets no request through: write at least one entry, such as `{methods: [GET]}`, or \
             remove the key",
        );
    }
    if written.len() > MAX_ENTRIES {
        let text = format!("more than {MAX_ENTRIES} entries: write wider paths, or several rules");
        report.error(at.position, text);
    }
    let mut entries = Vec::with_capacity(written.len());
    let mut paths = 0;
    for (file, position) in items(list) {
        let entry = entry(file, position, report, files);
        paths += entry.paths.as_ref().map_or(0, |paths| paths.len());
        entries.push(entry);
    }
    if paths > MAX_ENTRIES {
        let text = format!("more than {MAX_ENTRIES} paths: write wider ones, such as `/v1/**`");
        report.error(at.position, text);
    }
    Some(Arc::new(Requests::new(entries)))
}

fn entry(file: &EntryFile, position: Position, report: &Report<'_>, files: &mut NamedFiles<'_>) -> Entry {
    let EntryFile { methods, paths, upgrade, credentials_file } = file;
    let keys = ["methods", "paths", "upgrade", "credentials_file"];
    let is_misspelled = keys.iter().any(|key| report.is_misspelled(position, key));
    let is_empty = methods.is_none() && paths.is_none() && upgrade.is_none() && credentials_file.is_none();
    if is_empty && !is_misspelled {
        report.error(
            position,
            "an entry without a key says nothing: write `methods`, `paths`, `upgrade` or `credentials_file`",
        );
    }
    let methods = methods.as_ref().map(|at| {
        let mut seen: Vec<Box<str>> = Vec::new();
        for (method, position) in items(methods) {
            once(&mut seen, method.0.clone(), "methods", position, report);
        }
        not_empty(at, "methods", "GET", report);
        seen.into_boxed_slice()
    });
    let paths = paths.as_ref().map(|at| {
        not_empty(at, "paths", "/v1/**", report);
        let mut seen: Vec<Box<str>> = Vec::new();
        let mut patterns = Vec::new();
        for at in value(paths).into_iter().flatten() {
            let Some(text) = at.value.as_ref().map(|line| &*line.0) else { continue };
            match PathPattern::parse(text) {
                Ok(pattern) => {
                    once(&mut seen, text.into(), "paths", at.position, report);
                    patterns.push(pattern);
                }
                Err(error) => {
                    report.error(at.inside(text, error.offset), format!("{}: {error}", quoted(text)));
                }
            }
        }
        patterns.into_boxed_slice()
    });
    if let Some(at) = upgrade {
        not_empty(at, "upgrade", "websocket", report);
        let mut seen = Vec::new();
        for (UpgradeFile::Websocket, position) in items(upgrade) {
            once(&mut seen, "websocket".into(), "upgrade", position, report);
        }
    }
    let credentials = credentials_file.as_ref().and_then(|at| credentials(at, report, files));
    Entry { methods, paths, websocket: upgrade.is_some(), credentials, git: None, aws: None }
}

fn once(seen: &mut Vec<Box<str>>, text: Box<str>, key: &str, position: Position, report: &Report<'_>) {
    if seen.contains(&text) {
        report.error(position, format!("{} is twice in `{key}`: remove one of them", quoted(&text)));
    }
    seen.push(text);
}

fn not_empty<T>(at: &At<Vec<T>>, key: &str, example: &str, report: &Report<'_>) {
    if at.value.as_ref().is_some_and(Vec::is_empty) {
        report.error(
            at.position,
            format!("`{key}` is empty and fits no request: write at least one, such as [{example}], or remove the key"),
        );
    }
}

fn credentials(
    at: &At<FilePath>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Option<Arc<Credentials>> {
    let name = &*at.value.as_ref()?.0;
    let content = files.read(name, at.position, report)?;
    match user_password(&content) {
        Ok(text) => Some(Arc::new(Credentials::new(name, text))),
        Err(wrong) => {
            report.error(at.position, wrong);
            None
        }
    }
}

/// The fields of `headers`.
pub(super) fn headers(
    key: &Key<HeadersFile>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> Option<Arc<HeaderEdits>> {
    let at = key.as_ref()?;
    let file = at.value.as_ref()?;
    let mut seen: Vec<HeaderName> = Vec::new();
    let mut claim = |name: &HeaderName, position: Position| {
        if seen.contains(name) {
            report.error(position, format!("`headers` names `{name}` twice: remove one of them"));
        }
        seen.push(name.clone());
    };
    let mut set = Vec::new();
    for (name, text) in value(&file.set).map(|fields| fields.0.as_slice()).unwrap_or_default() {
        let Some(Field(field)) = &name.value else { continue };
        claim(field, name.position);
        if [http::header::AUTHORIZATION, http::header::COOKIE].contains(field) {
            let text = format!(
                "`{field}` holds a secret, and `set` is shown on the status page and in `explain`: write it under \
                 `set_files`"
            );
            report.error(name.position, text);
        }
        let Some(line) = &text.value else { continue };
        match field_value(&line.0) {
            Ok(value) => set.push(SetField { name: field.clone(), value, file: None }),
            Err(wrong) => report.error(text.position, wrong),
        }
    }
    for (name, path) in value(&file.set_files).map(|fields| fields.0.as_slice()).unwrap_or_default() {
        let Some(Field(field)) = &name.value else { continue };
        claim(field, name.position);
        let Some(path_text) = path.value.as_ref().map(|path| &*path.0) else { continue };
        let Some(content) = files.read(path_text, path.position, report) else { continue };
        match one_line(&content, "write one line with the value").and_then(field_value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                set.push(SetField { name: field.clone(), value, file: Some(path_text.into()) });
            }
            Err(wrong) => report.error(path.position, wrong),
        }
    }
    let mut remove = Vec::new();
    for (Field(name), position) in items(&file.remove) {
        claim(name, position);
        remove.push(name.clone());
    }
    let named = [
        value(&file.set).map_or(0, |fields| fields.0.len()),
        value(&file.set_files).map_or(0, |fields| fields.0.len()),
        value(&file.remove).map_or(0, Vec::len),
    ];
    if named == [0; 3] {
        report.error(
            at.position,
            "`headers` names no field: write `set`, `set_files` or `remove`, or remove the key",
        );
    }
    Some(Arc::new(HeaderEdits { remove: remove.into(), set: set.into() }))
}

/// A value as it may be sent (RFC 9110 §5.5), without what only some programs read. The text is not shown: it may be of
/// a file.
fn field_value(text: &str) -> Result<HeaderValue, String> {
    if text.trim() != text {
        return Err("the value begins or ends with a space, which is not sent: remove it".to_owned());
    }
    if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err("the value has a character that is not visible ASCII: write only such".to_owned());
    }
    HeaderValue::from_str(text).map_err(|_| "this is not a value of a header: write visible ASCII".to_owned())
}

/// Whether an entry names a file with credentials, and where.
pub(super) fn credentials_position(list: &List<EntryFile>) -> Option<Position> {
    items(list).find_map(|(entry, _)| entry.credentials_file.as_ref().map(|at| at.position))
}
