//! From the tree to typed structs, with serde, without stopping at the first error.
//!
//! serde stops at the first `Err`. Here every value is inside an [`At`], which asks the deserializer for its position
//! and for the value. If the value is wrong, the deserializer reports it with that position and the `At` has no value,
//! so the struct around it is still read. Unknown and duplicate keys are found before serde sees them. A caller that
//! has an `At` without a value may use any value instead: the configuration is refused in any case.

mod wrong;

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use self::wrong::Wrong;
use super::finding::{Position, Report, nearest};
use super::tree::{Kind, Node};
use crate::words::quote::quoted;
use crate::words::units::{is_negative, meant_number};

/// The name by which [`At`] asks for its position.
const AT: &str = "@at";
/// The serde name of an enum: its variants are for text, for a mapping, and for a mapping that names a rule set.
pub(super) const TEXT_OR_MAP: &str = "@text_or_map";
/// The [`At::inset`] of a text that is not in the file in the same form.
const NOT_VERBATIM: u32 = u32::MAX;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    /// None: something is wrong with it, which was already reported.
    pub(super) value: Option<T>,
    pub(super) position: Position,
    /// How far to the right of `position` the text begins: 1 after a quote. None if it has escapes or spans several
    /// lines.
    inset: Option<u8>,
}

impl<T> At<T> {
    /// Whether it is written without quotes.
    pub(super) fn is_plain(&self) -> bool {
        self.inset == Some(0)
    }

    /// The position of the character at byte `offset` of `text`, which is this value's text; else the value's position.
    pub(super) fn inside(&self, text: &str, offset: usize) -> Position {
        match (self.inset, text.get(..offset)) {
            (Some(inset), Some(before)) => self.position.right(usize::from(inset) + before.chars().count()),
            _ => self.position,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AtVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
            type Value = At<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a configuration file")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
                let line = parts.next_element()?.unwrap_or(1);
                let column = parts.next_element()?.unwrap_or(1);
                let inset = parts.next_element::<u32>()?.unwrap_or(NOT_VERBATIM);
                let value = parts.next_element()?;
                Ok(At { value, position: Position { line, column }, inset: u8::try_from(inset).ok() })
            }
        }

        deserializer.deserialize_tuple_struct(AT, 4, AtVisitor(PhantomData))
    }
}

/// Reads a whole tree. All errors go to `report`; the valid values are in the result.
pub(super) fn read<'de, T: Deserialize<'de>>(node: &'de Node<'de>, report: &Report<'_>) -> Option<At<T>> {
    // An `At` fails only with a deserializer that is not ours.
    At::deserialize(Cursor { node, key: None, report }).ok()
}

/// Words that people write for a key with a different name.
const OTHER_WORDS: [(&str, &str); 2] = [("host", "to"), ("target", "to")];

/// Keys that people write one mapping too high.
const BELOW: [(&str, &str); 4] =
    [("accounts", "aws"), ("services", "aws"), ("regions", "aws"), ("key_accounts", "aws")];

/// One node, ready to be read as whatever serde asks for.
#[derive(Clone, Copy)]
struct Cursor<'de, 'r> {
    node: &'de Node<'de>,
    /// The key whose value the node is, for messages.
    key: Option<&'de str>,
    report: &'r Report<'r>,
}

impl<'de, 'r> Cursor<'de, 'r> {
    fn tell(&self, wrong: Wrong) {
        if let Some(text) = wrong.0 {
            let text = match self.key {
                Some(key) => format!("{}: {text}", quoted(key)),
                None => text,
            };
            self.report.error(self.node.position, text);
        }
    }

    /// The error "this is a list: write text".
    fn mismatch(&self, expected: &str) -> Wrong {
        match &self.node.kind {
            Kind::Refused => Wrong(None),
            Kind::Null => Wrong(Some(format!("the value is missing: write {expected}, or remove the key"))),
            kind => Wrong(Some(format!("this is {}: write {expected}", kind.describe()))),
        }
    }

    /// What to write for a list that is not one.
    fn list_instead(&self) -> String {
        let fits = |text: &str| text.len() <= 60 && !text.contains(['[', ']', '{', '}', ',', '#']);
        match (&self.node.kind, self.key) {
            (Kind::Plain(_), Some("listeners" | "policies")) => "a list, such as [{name: NAME}]".to_owned(),
            (Kind::Plain(_), Some("git")) => {
                "a list of what may be done, such as [fetch] or [push]".to_owned()
            }
            (Kind::Plain(text), _) if fits(text) => format!("a list, such as [{text}]"),
            (Kind::Map(_), _) => {
                "a list: `- ` before its first key, and the other keys below that one".to_owned()
            }
            _ => "a list, such as [a, b]".to_owned(),
        }
    }

    fn text(&self, expected: &str) -> Result<&'de str, Wrong> {
        match &self.node.kind {
            Kind::Plain(text) | Kind::Quoted { text, .. } => Ok(text),
            _ => Err(self.mismatch(expected)),
        }
    }

    fn number<T: std::str::FromStr>(&self) -> Result<T, Wrong> {
        let meant = self.text("").ok().and_then(meant_number);
        let expected = meant.unwrap_or_else(|| "a whole number, such as 100".to_owned());
        let wrong = |text: &str, why: &str| Wrong(Some(format!("{} {why}: write {expected}", quoted(text))));
        match &self.node.kind {
            Kind::Plain(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
                // `0100` is 64 to YAML 1.1 and 100 to YAML 1.2.
                if text.len() > 1 && text.starts_with('0') {
                    return Err(wrong(text, "begins with a zero"));
                }
                text.parse().map_err(|_| wrong(text, "is too large"))
            }
            Kind::Plain(text) if is_negative(text) => Err(wrong(text, "is less than nothing")),
            Kind::Plain(text) => Err(wrong(text, "is not a whole number")),
            Kind::Quoted { text, .. } => Err(wrong(text, "is text because it is in quotes")),
            _ => Err(self.mismatch(&expected)),
        }
    }

    fn boolean(&self) -> Result<bool, Wrong> {
        match &self.node.kind {
            Kind::Plain(text) if text == "true" => Ok(true),
            Kind::Plain(text) if text == "false" => Ok(false),
            Kind::Plain(text) | Kind::Quoted { text, .. } => Err(Wrong(Some(format!(
                "{} is not a boolean: write true or false, without quotes",
                quoted(text)
            )))),
            _ => Err(self.mismatch("true or false")),
        }
    }

    fn items(&self) -> Result<Items<'de, 'r>, Wrong> {
        match &self.node.kind {
            Kind::List(items) => Ok(Items { of: *self, items: items.iter() }),
            _ => Err(self.mismatch(&self.list_instead())),
        }
    }

    /// The entries whose key is text, not a duplicate and, if `known` is given, one of those.
    fn entries(&self, known: Option<&[&str]>) -> Result<Entries<'de, 'r>, Wrong> {
        let Kind::Map(all) = &self.node.kind else {
            let keys = known.map(|known| format!(" with keys of these: {}", known.join(", ")));
            return Err(self.mismatch(&format!("a mapping (`key: value`){}", keys.unwrap_or_default())));
        };
        let mut seen: HashMap<&str, Position> = HashMap::with_capacity(all.len());
        let mut entries = Vec::with_capacity(all.len());
        for (key, value) in all {
            let (Kind::Plain(text) | Kind::Quoted { text, .. }) = &key.kind else {
                if !matches!(key.kind, Kind::Refused) {
                    self.report
                        .error(key.position, format!("a key cannot be {}: write text", key.kind.describe()));
                }
                continue;
            };
            if let Some(first) = seen.get(&**text) {
                self.report.error(
                    key.position,
                    format!(
                        "duplicate key {}, first at line {}, column {}: remove one of them",
                        quoted(text),
                        first.line,
                        first.column
                    ),
                );
                continue;
            }
            seen.insert(text, key.position);
            match known {
                Some(known) if !known.contains(&&**text) => self.unknown_key(key.position, text, known),
                _ => entries.push((key, value)),
            }
        }
        entries.reverse();
        Ok(Entries { of: *self, entries, value: None })
    }

    fn unknown_key(&self, position: Position, key: &str, known: &[&str]) {
        let other = OTHER_WORDS.iter().find(|(word, meant)| *word == key && known.contains(meant));
        let below = BELOW.iter().find(|(word, under)| *word == key && known.contains(under));
        let meant = other.or(below).map(|(_, meant)| *meant).or_else(|| nearest(key, known));
        if let Some(meant) = meant {
            self.report.misspelled(self.node.position, meant);
        }
        let help = match (other, meant) {
            _ if below.is_some() => format!("it belongs under `aws`: write `aws: {{{key}: …}}`"),
            (Some((word, meant)), _) => format!("write `{meant}` instead of `{word}`"),
            (None, Some(meant)) => format!("did you mean `{meant}`?"),
            (None, None) => format!("known here: {}", known.join(", ")),
        };
        self.report.error(position, format!("unknown key {}; {help}", quoted(key)));
    }
}

impl<'de> Deserializer<'de> for Cursor<'de, '_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.kind {
            Kind::Plain(text) | Kind::Quoted { text, .. } => visitor.visit_borrowed_str(text),
            Kind::List(_) => visitor.visit_seq(self.items()?),
            Kind::Map(_) => visitor.visit_map(self.entries(None)?),
            Kind::Null | Kind::Refused => Err(self.mismatch("a value")),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_bool(self.boolean()?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_u32(self.number()?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_u64(self.number()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let expected: &dyn de::Expected = &visitor;
        match &self.node.kind {
            Kind::Plain(text) | Kind::Quoted { text, .. } => visitor.visit_borrowed_str(text),
            _ => Err(self.mismatch(&expected.to_string())),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    /// A key that is present must have a value: an empty value is not the same as a missing key.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.kind {
            Kind::List(_) => visitor.visit_seq(self.items()?),
            _ => {
                let expected: &dyn de::Expected = &visitor;
                let expected = expected.to_string();
                // That is the text of serde's own lists.
                let plain = expected == "a sequence";
                Err(self.mismatch(&if plain { self.list_instead() } else { expected }))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_map(self.entries(None)?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_map(self.entries(Some(fields))?)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if name == AT {
            visitor.visit_seq(Positioned { of: self, next: 0 })
        } else {
            self.deserialize_seq(visitor)
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if name == TEXT_OR_MAP {
            let index = match &self.node.kind {
                Kind::Plain(_) | Kind::Quoted { .. } => 0,
                kind if variants.len() > 2 && kind.names_a_set() => 2,
                Kind::Map(_) => 1,
                _ => return Err(self.mismatch("text or a mapping (`key: value`)")),
            };
            let variant = variants.get(index).copied().unwrap_or_default();
            return visitor.visit_enum(Variant { name: variant, of: self });
        }
        let text = self.text(&format!("one of {}", variants.join(", ")))?;
        if let Some(variant) = variants.iter().find(|variant| **variant == text) {
            return visitor.visit_enum((*variant).into_deserializer());
        }
        let help = match nearest(text, variants) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("write one of {}", variants.join(", ")),
        };
        Err(Wrong(Some(format!("unknown {}; {help}", quoted(text)))))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
    }
}

/// What an [`At`] reads: line, column, inset, and the value, which is `None` if it is wrong.
struct Positioned<'de, 'r> {
    of: Cursor<'de, 'r>,
    next: u8,
}

impl<'de> de::SeqAccess<'de> for Positioned<'de, '_> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        let part = self.next;
        self.next = part.saturating_add(1);
        let number = match part {
            0 => self.of.node.position.line,
            1 => self.of.node.position.column,
            2 => match &self.of.node.kind {
                Kind::Plain(text) if !text.contains('\n') => 0,
                Kind::Quoted { verbatim: true, .. } => 1,
                _ => NOT_VERBATIM,
            },
            _ => {
                return Ok(match seed.deserialize(self.of) {
                    Ok(value) => Some(value),
                    Err(wrong) => {
                        self.of.tell(wrong);
                        None
                    }
                });
            }
        };
        seed.deserialize(number.into_deserializer()).map(Some)
    }
}

struct Items<'de, 'r> {
    of: Cursor<'de, 'r>,
    items: std::slice::Iter<'de, Node<'de>>,
}

impl<'de> de::SeqAccess<'de> for Items<'de, '_> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        self.items.next().map(|node| seed.deserialize(Cursor { node, ..self.of })).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'de, 'r> {
    of: Cursor<'de, 'r>,
    /// Last first.
    entries: Vec<(&'de Node<'de>, &'de Node<'de>)>,
    value: Option<Cursor<'de, 'r>>,
}

impl<'de> de::MapAccess<'de> for Entries<'de, '_> {
    type Error = Wrong;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        let Some((key, value)) = self.entries.pop() else { return Ok(None) };
        let key = Cursor { node: key, ..self.of };
        self.value = Some(Cursor { node: value, key: key.text("a key").ok(), ..self.of });
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        let value = self.value.take().ok_or(Wrong(None))?;
        seed.deserialize(value)
    }
}

/// One variant of a [`TEXT_OR_MAP`] enum; its content is the node itself.
struct Variant<'de, 'r> {
    name: &'static str,
    of: Cursor<'de, 'r>,
}

impl<'de, 'r> de::EnumAccess<'de> for Variant<'de, 'r> {
    type Error = Wrong;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Wrong> {
        seed.deserialize(IntoDeserializer::<Wrong>::into_deserializer(self.name))
            .map(|variant| (variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'de, '_> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        Err(Wrong(None))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Wrong> {
        seed.deserialize(self.of)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Wrong> {
        Err(Wrong(None))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.of.deserialize_struct("", fields, visitor)
    }
}
