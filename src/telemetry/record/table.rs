//! Reads the table of fields: the macro that makes the record, its JSON line and its notes, from one row each.
//!
//! How a value is written:
//!
//! | word | of | JSON | a note |
//! |---|---|---|---|
//! | `time` | a time | RFC 3339 with six decimals | – |
//! | `plain` | an address, an id, a hash: short, and never more than letters, digits and `:.-[]` | as text | as it is |
//! | `word` | one of our own lists of words | as text | as text |
//! | `number` | a whole number | as a number | as it is |
//! | `milliseconds` | a duration | as a number with three decimals | the same |
//! | `text LONGEST` | bytes, also of an untrusted peer | escaped, and cut | quoted |
//! | `shown LONGEST` | a value that can be displayed, of any length | escaped, and cut | quoted |
//! | `target LONGEST` | a request's target | escaped, and cut | – |
//! | `object LONGEST` | what was recognised in a request | an object of its own, and cut | – |
//!
//! Each row becomes a call of its own, by name: nothing is looked up or allocated when a record is written.

use std::fmt::Display;

/// One field of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name in the line.
    pub name: &'static str,
    /// Most bytes of its value as written, quotes not counted.
    pub(super) longest: usize,
    /// Whether a value that is longer is cut, so that `cut` may name it.
    pub(super) is_cut: bool,
}

/// Takes a field's value for a note of a `logformat`. A kind of value without a method here cannot be a note.
pub(in crate::telemetry) trait NoteWriter {
    /// To be quoted.
    fn text(&mut self, value: Option<&[u8]>);
    /// As it is.
    fn plain(&mut self, value: Option<impl Display>);
}

/// A line with its newline is shorter than this: container runtimes cut longer ones in two.
pub const LINE_BOUND: usize = 16 * 1024;

/// The largest of an address with its port, a time and an id.
pub(super) const PLAIN: usize = 64;
/// The longest of our own words; and of numbers, the largest duration in milliseconds.
pub(super) const WORD: usize = 40;

/// The digits of an object's id.
pub(super) const ID: usize = 64;

/// The length of the longest line with its newline, where every value is as long as it may be and all are named in `cut`.
pub(super) const fn widest(fields: &[Field]) -> usize {
    // Braces, the newline, and the brackets of `cut`.
    let mut widest = 3 + 2;
    let mut at = 0;
    while at < fields.len() {
        let field = &fields[at];
        // The name's quotes, a colon and a comma; the value's quotes.
        widest += field.name.len() + 4 + field.longest + 2;
        if field.is_cut {
            // With its quotes and a comma.
            widest += field.name.len() + 3;
        }
        at += 1;
    }
    widest
}

/// Whether a row and its note have one name.
pub(super) const fn same(name: &str, note: &str) -> bool {
    let (name, note) = (name.as_bytes(), note.as_bytes());
    let mut at = 0;
    while at < name.len() && at < note.len() && name[at] == note[at] {
        at += 1;
    }
    at == name.len() && at == note.len()
}

macro_rules! fields {
    (
        $(#[$meta:meta])*
        pub struct $record:ident<$life:lifetime> {
            always {
                $($(#[$always_doc:meta])* $always:ident: $always_type:ty = $always_name:literal $always_how:tt $(note $always_note:ident)?;)*
            }
            where_known {
                $($(#[$known_doc:meta])* $known:ident: $known_type:ty = $known_name:literal $known_how:tt $(note $known_note:ident)?;)*
            }
            for_squid_alone {
                $($(#[$squid_doc:meta])* $squid:ident: $squid_type:ty;)*
            }
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $record<$life> {
            $($(#[$always_doc])* pub $always: $always_type,)*
            $($(#[$known_doc])* pub $known: Option<$known_type>,)*
            $($(#[$squid_doc])* pub $squid: Option<$squid_type>,)*
        }

        /// Every field of a JSON line, in its order.
        pub const FIELDS: &[Field] = &[
            $(fields!(@field $always_name $always_how),)*
            $(fields!(@field $known_name $known_how),)*
            // Its value is counted where the values that it may name are.
            Field { name: "cut", longest: 0, is_cut: false },
        ];

        $($(const _: () = {
            use $crate::{telemetry::record::table::same, words::logformat::Note};
            assert!(same($always_name, Note::$always_note.as_str()), "the note has another name");
        };)?)*
        $($(const _: () = {
            use $crate::{telemetry::record::table::same, words::logformat::Note};
            assert!(same($known_name, Note::$known_note.as_str()), "the note has another name");
        };)?)*

        impl<$life> $record<$life> {
            fn bare($($always: $always_type),*) -> Self {
                $record { $($always,)* $($known: None,)* $($squid: None,)* }
            }

            /// Appends the JSON line, newline included: printable ASCII, shorter than [`LINE_BOUND`], every field present in
            /// the order of [`FIELDS`]. A value that was cut ends in `…` and is named in `cut`.
            pub fn write_json(&self, out: &mut Vec<u8>) {
                let mut line = $crate::telemetry::json::Object::open(out);
                $(fields!(@json $always_how line, $always_name, Some(self.$always));)*
                $(fields!(@json $known_how line, $known_name, self.$known);)*
                line.cut_names("cut");
                line.close();
            }

            /// Writes the field that is this note.
            pub(in $crate::telemetry) fn write_note(
                &self,
                note: $crate::words::logformat::Note,
                to: &mut impl $crate::telemetry::record::NoteWriter,
            ) {
                use $crate::words::logformat::Note;
                match note {
                    $($(Note::$always_note => fields!(@note $always_how to, Some(self.$always)),)?)*
                    $($(Note::$known_note => fields!(@note $known_how to, self.$known),)?)*
                }
            }
        }
    };

    (@field $name:literal [time]) => { fields!(@bounded $name, PLAIN, false) };
    (@field $name:literal [plain]) => { fields!(@bounded $name, PLAIN, false) };
    (@field $name:literal [$how:ident]) => { fields!(@bounded $name, WORD, false) };
    (@field $name:literal [$how:ident $longest:literal]) => { Field { name: $name, longest: $longest, is_cut: true } };
    (@bounded $name:literal, $longest:ident, $is_cut:literal) => {
        Field { name: $name, longest: $crate::telemetry::record::table::$longest, is_cut: $is_cut }
    };

    (@json [time] $line:ident, $name:literal, $value:expr) => {
        $line.plain($name, $value)
    };
    (@json [plain] $line:ident, $name:literal, $value:expr) => {
        $line.plain($name, $value)
    };
    (@json [word] $line:ident, $name:literal, $value:expr) => {
        $line.word($name, $value.map(|word| word.as_str()))
    };
    (@json [number] $line:ident, $name:literal, $value:expr) => {
        $line.number($name, $value.map(u64::from))
    };
    (@json [milliseconds] $line:ident, $name:literal, $value:expr) => {
        $line.milliseconds($name, $value)
    };
    (@json [text $longest:literal] $line:ident, $name:literal, $value:expr) => {
        $line.bytes($name, $value.as_ref().map(AsRef::<[u8]>::as_ref), $longest)
    };
    (@json [shown $longest:literal] $line:ident, $name:literal, $value:expr) => {
        $line.shown($name, $value, $longest)
    };
    (@json [target $longest:literal] $line:ident, $name:literal, $value:expr) => {
        match $value {
            Some(target) => target.write_json(&mut $line, $name, $longest),
            None => $line.null($name),
        }
    };

    (@json [object $longest:literal] $line:ident, $name:literal, $value:expr) => {
        match $value {
            Some(object) => object.write_json(&mut $line, $name, $longest),
            None => $line.null($name),
        }
    };

    (@note [plain] $to:ident, $value:expr) => { $to.plain($value) };
    (@note [number] $to:ident, $value:expr) => { $to.plain($value) };
    (@note [milliseconds] $to:ident, $value:expr) => { $to.plain($value.map($crate::telemetry::json::Milliseconds)) };
    (@note [word] $to:ident, $value:expr) => { $to.text($value.map(|word| word.as_str().as_bytes())) };
    (@note [text $longest:literal] $to:ident, $value:expr) => {
        $to.text($value.as_ref().map(AsRef::<[u8]>::as_ref))
    };
    (@note [shown $longest:literal] $to:ident, $value:expr) => {
        $to.text($value.map(|shown| shown.to_string()).as_ref().map(AsRef::<[u8]>::as_ref))
    };
}
pub(super) use fields;
