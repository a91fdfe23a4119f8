//! `headers` of a rule: fields that are set or removed in each request.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::finding::{Position, Report};
use super::super::keys::{Key, List, items, value};
use super::super::named_files::NamedFiles;
use super::super::secret_files::{Secret, one_line, tell_of_readers};
use super::super::values::{Field, FieldFiles, FieldValues};
use crate::rules::{HeaderEdits, SetField};

/// Fields that are changed in each request.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(rename = "Headers", deny_unknown_fields))]
pub(in crate::config) struct HeadersFile {
    /// Fields with their values, in place of all that the client sent of these names.
    pub(in crate::config) set: Key<FieldValues>,
    /// The same, each value being the one line of a file. For secrets.
    pub(in crate::config) set_files: Key<FieldFiles>,
    /// Fields that are removed.
    pub(in crate::config) remove: List<Field>,
}

/// The fields of `headers`.
pub(in crate::config) fn headers(
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
        tell_of_readers(Secret::Field, (files, path_text), path.position, report);
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
