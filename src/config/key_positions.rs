//! The positions of the keys of a file, for errors that are found after the configuration is loaded.
//!
//! Not here: which keys a caller will ask for.

use std::collections::BTreeMap;

use super::finding::Position;
use super::tree::{Kind, Node};

/// Not recorded: it can be a million rules long, and each rule knows its line.
const POLICIES: &str = "policies";

/// Where each value outside `policies` was written.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Positions {
    /// As findings show it.
    file: Box<str>,
    places: BTreeMap<String, Position>,
}

impl Positions {
    /// The positions of a whole file. It is empty for None, which is a file with only comments.
    pub(super) fn of(file: &str, root: Option<&Node<'_>>) -> Self {
        let mut positions = Positions { file: file.into(), ..Positions::default() };
        if let Some(root) = root {
            positions.inside(None, root);
        }
        positions
    }

    /// The position of the value of a key. The key is written `admin.address`, or `listeners.0.tls` for the first item
    /// of a list. A key that is not set has the position of what is around it, where it would be written.
    pub fn of_key(&self, path: &str) -> Position {
        let around = std::iter::successors(Some(path), |path| Some(path.rsplit_once('.')?.0));
        around.filter_map(|path| self.places.get(path)).next().copied().unwrap_or(Position::START)
    }

    /// The file, as findings show it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Every key with the position of its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Position)> {
        self.places.iter().map(|(key, position)| (&**key, *position))
    }

    fn inside(&mut self, path: Option<&str>, node: &Node<'_>) {
        match &node.kind {
            Kind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.add(path, &index.to_string(), item);
                }
            }
            Kind::Map(entries) => {
                for (key, value) in entries {
                    if let Kind::Plain(key) | Kind::Quoted { text: key, .. } = &key.kind
                        && (path.is_some() || key != POLICIES)
                    {
                        self.add(path, key, value);
                    }
                }
            }
            Kind::Null | Kind::Plain(_) | Kind::Quoted { .. } | Kind::Refused => {}
        }
    }

    fn add(&mut self, around: Option<&str>, key: &str, node: &Node<'_>) {
        let path = around.map_or_else(|| key.to_owned(), |around| format!("{around}.{key}"));
        self.inside(Some(&path), node);
        self.places.insert(path, node.position);
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Findings;
    use super::super::tree;
    use super::*;

    #[test]
    fn a_key_stands_at_its_value_or_at_what_is_around_it() {
        let text =
            "listeners:\n  - {name: a, tls: {key: k}}\n  - name: b\npolicies: [{name: p}]\nadmin: {}\n";
        let findings = Findings::default();
        let positions = Positions::of("f", tree::parse(text, &findings.of("f")).as_ref());
        let rows = [
            ("listeners", (2, 3)),
            ("listeners.0.tls.key", (2, 26)),
            ("listeners.0.tls.certificate", (2, 20)),
            ("listeners.1.name", (3, 11)),
            ("listeners.1.tls", (3, 5)),
            ("listeners.2.tls", (2, 3)),
            ("admin.address", (5, 8)),
            ("access_log.output", (1, 1)),
            ("policies.0.name", (1, 1)),
        ];
        for (path, (line, column)) in rows {
            assert_eq!(positions.of_key(path), Position { line, column }, "{path}");
        }
        assert_eq!(Positions::of("f", None).of_key("admin"), Position::START);
    }
}
