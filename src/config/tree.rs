//! YAML text as a tree in which every node has its position.
//!
//! A configuration needs little of YAML: one document of mappings, lists and scalars. Anchors, aliases, merge keys,
//! tags and further documents are refused, so the file means what a reviewer reads, and no alias can grow a small file
//! into a large tree. Nesting is limited, so the recursion here is limited too. Not here: what the keys mean.

use std::borrow::Cow;

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::finding::{Position, Report};
use crate::words::quote::quoted;

/// The limit of nested block collections, and of nested flow collections. The schema itself needs eight.
const MAX_NESTING: usize = 24;

/// A value and where it begins.
#[derive(Debug)]
pub(super) struct Node<'i> {
    pub(super) position: Position,
    pub(super) kind: Kind<'i>,
}

/// What a value is. The code that reads a plain scalar decides whether it is a number.
#[derive(Debug)]
pub(super) enum Kind<'i> {
    /// Nothing after the colon, `~` or `null`.
    Null,
    /// A scalar without quotes.
    Plain(Cow<'i, str>),
    /// A scalar in quotes, or a block scalar. `verbatim`: the characters are the same in the source, directly after the
    /// opening quote, so a column inside the text is a column in the file.
    Quoted { text: Cow<'i, str>, verbatim: bool },
    /// `[…]` or `- …`.
    List(Vec<Node<'i>>),
    /// `{…}` or `key: …`, in the order of the file, duplicates included.
    Map(Vec<(Node<'i>, Node<'i>)>),
    /// Refused, and already reported.
    Refused,
}

impl Kind<'_> {
    /// For "this is …" in an error.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Kind::Null => "nothing",
            Kind::Plain(_) | Kind::Quoted { .. } => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
            Kind::Refused => "something refused",
        }
    }

    /// Whether it is a mapping that names a rule set; the key `set` may be misspelt.
    pub(super) fn names_a_set(&self) -> bool {
        let Kind::Map(entries) = self else { return false };
        let has = |wanted: &str| {
            let keys = entries.iter().map(|(key, _)| &key.kind);
            keys.into_iter()
                .any(|key| matches!(key, Kind::Plain(text) | Kind::Quoted { text, .. } if text == wanted))
        };
        has("set") || (has("version") && !has("to"))
    }
}

/// Parses one document. None if there is none (only comments), or after a syntax error, which is reported.
pub(super) fn parse<'i>(text: &'i str, report: &Report<'_>) -> Option<Node<'i>> {
    let options = granit_parser::options! {
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        disallow_directives: true,
        flow_nesting_limit: MAX_NESTING,
        block_nesting_limit: MAX_NESTING,
    };
    let mut tree = Tree {
        source: text,
        events: Parser::new_from_str_with_options(text, options),
        report: report.clone(),
    };
    match tree.document() {
        Ok(root) => root,
        Err(error) => {
            let instead = if error.info().contains("tab") { ": write spaces" } else { "" };
            report.error(position_of(error.marker()), format!("not valid YAML: {}{instead}", error.info()));
            None
        }
    }
}

/// Where the next key of the file begins behind the value of `key`.
pub(super) fn end_of(key: &str, root: Option<&Node<'_>>) -> Position {
    let Some(Kind::Map(entries)) = root.map(|root| &root.kind) else { return Position::END };
    let is_key = |(node, _): &(Node<'_>, Node<'_>)| matches!(&node.kind, Kind::Plain(text) | Kind::Quoted { text, .. } if text == key);
    let mut behind = entries.iter().skip_while(|entry| !is_key(entry)).skip(1);
    behind.next().map_or(Position::END, |(key, _)| key.position)
}

struct Tree<'i, 'r> {
    source: &'i str,
    events: Parser<'i, StrInput<'i>>,
    report: Report<'r>,
}

impl<'i> Tree<'i, '_> {
    fn document(&mut self) -> Result<Option<Node<'i>>, ScanError> {
        let mut root = None;
        while let Some(next) = self.events.next_event() {
            let (event, span) = next?;
            self.refuse_anchor(&event, &span);
            match event {
                Event::DocumentStart(..) if root.is_some() => {
                    self.report.error(
                        position_of(&span.start),
                        "a second YAML document begins here: a configuration is one document; remove the `---`",
                    );
                    break;
                }
                event if begins_node(&event) => root = Some(self.node(event, span)?),
                _ => {}
            }
        }
        Ok(root)
    }

    /// The node that begins with `event`; consumes the events up to its end.
    fn node(&mut self, event: Event<'i>, span: Span) -> Result<Node<'i>, ScanError> {
        let position = position_of(&span.start);
        if let Some(tag) = event.tag() {
            let written = span.tag_start().map_or(position, |start| position_of(&start));
            let tag = quoted(&tag.original());
            self.report.error(written, format!("a YAML tag ({tag}) is not accepted: remove it"));
        }
        let kind = match event {
            Event::Scalar(text, style, ..) => scalar(text, style, &span, self.source),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                while let Some((event, span)) = self.child()? {
                    items.push(self.node(event, span)?);
                }
                Kind::List(items)
            }
            Event::MappingStart(..) => {
                let mut entries = Vec::new();
                while let Some((event, span)) = self.child()? {
                    let key = self.node(event, span)?;
                    let Some((event, span)) = self.child()? else { break };
                    entries.push((key, self.node(event, span)?));
                }
                Kind::Map(entries)
            }
            _ => {
                let alias = span.slice(self.source).unwrap_or("*name");
                self.report.error(
                    position,
                    format!(
                        "a YAML alias ({}) is not accepted: put a pattern that begins with `*` in quotes, as in \
                         \"*.example.com\"",
                        quoted(alias)
                    ),
                );
                Kind::Refused
            }
        };
        Ok(Node { position, kind })
    }

    /// The next event that begins a child; None at the end of the collection.
    fn child(&mut self) -> Result<Option<(Event<'i>, Span)>, ScanError> {
        while let Some(next) = self.events.next_event() {
            let (event, span) = next?;
            self.refuse_anchor(&event, &span);
            if begins_node(&event) {
                return Ok(Some((event, span)));
            }
            if matches!(event, Event::SequenceEnd | Event::MappingEnd | Event::DocumentEnd | Event::StreamEnd)
            {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn refuse_anchor(&self, event: &Event<'_>, span: &Span) {
        if let Event::Anchor(_, name) = event {
            let name = quoted(&format!("&{name}"));
            let text =
                format!("a YAML anchor ({name}) is not accepted: write the value itself where it is needed");
            self.report.error(position_of(&span.start), text);
        }
    }
}

fn begins_node(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::MappingStart(..)
            | Event::Alias(_)
            | Event::UnresolvedAlias(_)
    )
}

fn scalar<'i>(text: Cow<'i, str>, style: ScalarStyle, span: &Span, source: &str) -> Kind<'i> {
    match style {
        // YAML 1.2.2 §10.3.2, the core schema's null.
        ScalarStyle::Plain if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") => Kind::Null,
        ScalarStyle::Plain => Kind::Plain(text),
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
            let inside = span.slice(source).and_then(|raw| raw.get(1..raw.len().saturating_sub(1)));
            let verbatim = inside == Some(&*text);
            Kind::Quoted { text, verbatim }
        }
        ScalarStyle::Literal | ScalarStyle::Folded => Kind::Quoted { text, verbatim: false },
    }
}

/// The parser counts lines from 1 and columns from 0.
fn position_of(marker: &Marker) -> Position {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Position { line: number(marker.line()).max(1), column: number(marker.col()).saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Findings;
    use super::*;

    fn read(text: &str) -> (Option<String>, Vec<String>) {
        let findings = Findings::default();
        let root = parse(text, &findings.of("f")).map(|node| sketch(&node));
        (root, findings.finish().iter().map(ToString::to_string).collect())
    }

    /// `LINE:COLUMN` and kind of every node.
    fn sketch(node: &Node<'_>) -> String {
        let inner = match &node.kind {
            Kind::Null => "null".to_owned(),
            Kind::Plain(text) => text.to_string(),
            Kind::Quoted { text, verbatim } => format!("{text:?}{}", if *verbatim { "" } else { "~" }),
            Kind::List(items) => format!("[{}]", items.iter().map(sketch).collect::<Vec<_>>().join(" ")),
            Kind::Map(entries) => {
                let entry =
                    |(key, value): &(Node<'_>, Node<'_>)| format!("{}={}", sketch(key), sketch(value));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
            Kind::Refused => "refused".to_owned(),
        };
        format!("{}:{}{inner}", node.position.line, node.position.column)
    }

    #[test]
    fn every_node_knows_its_position() {
        let rows = [
            ("a: 1\nb: [x, 'y']\n", "1:1{1:1a=1:41 2:1b=2:4[2:5x 2:8\"y\"]}"),
            ("é: \"ü\"\n", "1:1{1:1é=1:4\"ü\"}"),
            ("a: \"\\x41\"\n", "1:1{1:1a=1:4\"A\"~}"),
            ("a: ~\nb:\n", "1:1{1:1a=1:4null 2:1b=2:2null}"),
            ("- a: 1\n  a: 2\n", "1:1[1:3{1:3a=1:61 2:3a=2:62}]"),
        ];
        for (text, want) in rows {
            let (got, findings) = read(text);
            assert_eq!(got.as_deref(), Some(want), "{text:?}");
            assert_eq!(findings, <[String; 0]>::default(), "{text:?}");
        }
    }

    #[test]
    fn comments_alone_are_no_document() {
        assert_eq!(read("# nothing\n\n# here\n"), (None, Vec::new()));
    }

    #[test]
    fn what_a_reviewer_could_misread_is_refused() {
        let rows = [
            (
                "a: &x 1\nb: *x\n",
                vec!["f:1:4: error: a YAML anchor (`&x`)", "f:2:4: error: a YAML alias (`*x`)"],
            ),
            ("a: *gone\n", vec!["f:1:4: error: a YAML alias (`*gone`)"]),
            ("a: !!str 1\n", vec!["f:1:4: error: a YAML tag (`!!str`)"]),
            ("a: 1\n---\nb: 2\n", vec!["f:2:1: error: a second YAML document"]),
            ("%YAML 1.1\n---\na: 1\n", vec!["f:1:1: error: not valid YAML"]),
            ("a: [1\n", vec!["f:1:4: error: not valid YAML"]),
        ];
        for (text, want) in rows {
            let (_, got) = read(text);
            assert_eq!(got.len(), want.len(), "{text:?}: {got:?}");
            for (got, want) in got.iter().zip(want) {
                assert!(got.starts_with(want), "{text:?}: {got}");
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        for deep in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
            let (_, findings) = read(&deep);
            assert_eq!(findings.len(), 1, "{findings:?}");
        }
    }
}
