//! Placeholders that nobody has filled in: `${NAME}`, `$(NAME)`, `{{ name }}`.
//!
//! egressd puts nothing in their place, so what was to be a host or a file stays as it is written. A template is filled in before
//! the file gets here. Not here: files that the configuration names.

use super::finding::{Position, Report};
use super::tree::{Kind, Node};
use crate::words::quote::quoted;

/// Warns of every placeholder in the values below `node`.
pub(super) fn tell(node: &Node<'_>, report: &Report<'_>) {
    match &node.kind {
        Kind::Plain(text) => of_text(text, node.position, Some(0), report),
        Kind::Quoted { text, verbatim } => {
            of_text(text, node.position, verbatim.then_some(1), report);
        }
        Kind::List(items) => items.iter().for_each(|item| tell(item, report)),
        Kind::Map(entries) => entries.iter().for_each(|(_, value)| tell(value, report)),
        Kind::Null | Kind::Refused => {}
    }
}

/// `inset`: how far right of `position` the text begins, if it is in the file as it is here.
fn of_text(text: &str, position: Position, inset: Option<usize>, report: &Report<'_>) {
    let mut from = 0;
    while let Some((at, found)) = text.get(from..).and_then(find) {
        let at = from + at;
        from = at + found.len();
        let before = text.get(..at).unwrap_or_default();
        let is_one_line = !before.contains('\n');
        let place = match inset {
            Some(inset) if is_one_line => position.right(inset + before.chars().count()),
            _ => position,
        };
        report.warning(
            place,
            format!(
                "{} is taken literally: nothing is put in its place; write the value, or let another program fill the file in \
                 before egressd reads it (`envsubst`, Helm, Kustomize)",
                quoted(found)
            ),
        );
    }
}

/// The first placeholder, and where it begins.
fn find(text: &str) -> Option<(usize, &str)> {
    let candidates = [("${", "}"), ("$(", ")"), ("{{", "}}")];
    let found = candidates.into_iter().filter_map(|(open, close)| {
        text.match_indices(open).find_map(|(at, _)| {
            let inside = text.get(at + open.len()..)?;
            let end = inside.find(close)?;
            let name = inside.get(..end)?;
            let fits = match open {
                "{{" => !name.is_empty(),
                _ => is_variable(name),
            };
            let whole = text.get(at..at + open.len() + end + close.len())?;
            fits.then_some((at, whole))
        })
    });
    found.min_by_key(|(at, _)| *at)
}

/// `NAME`, or `NAME:-default` as shells have it.
fn is_variable(text: &str) -> bool {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    is_name && (rest.is_empty() || rest.starts_with([':', '-', '+', '=', '?', '.', '%', '#', '/']))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Findings;
    use super::super::tree;
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let findings = Findings::default();
        let report = findings.of("f");
        tell(&tree::parse(text, &report).expect("a document"), &report);
        let places = findings.finish();
        let of = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
        places.iter().map(|told| format!("{}:{} {}", told.line, told.column, of(&told.text))).collect()
    }

    #[test]
    fn a_placeholder_is_told_where_it_stands() {
        let rows: &[(&str, &[&str])] = &[
            ("a: ${HOST}", &["1:4 ${HOST}"]),
            ("a: [x, \"pre-${HOST}-${PORT:-80}\"]", &["1:13 ${HOST}", "1:21 ${PORT:-80}"]),
            ("a: {b: '$(HOST)'}", &["1:9 $(HOST)"]),
            ("a: '{{ .Values.host }}'", &["1:5 {{ .Values.host }}"]),
            ("a: |\n  x\n  ${HOST}\n", &["2:3 ${HOST}"]),
            ("# ${HOST}\na: 1", &[]),
            ("a: $HOST", &[]),
            ("a: '${}'", &[]),
            ("a: '%{Host}>h $1 {x} ${1}'", &[]),
            ("a: '$(date +%s)'", &[]),
        ];
        for (text, want) in rows {
            assert_eq!(told(text), *want, "{text}");
        }
    }
}
