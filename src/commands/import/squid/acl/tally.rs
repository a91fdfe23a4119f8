//! What is told of a list's values, once for all values of which the same is to be said.

use std::collections::BTreeMap;

use crate::commands::import::notes::{NoteKind, SourceLine};

/// What is to be said of a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Remark {
    /// A pattern that names hosts, and fits more.
    Open,
    /// A pattern without a name in it.
    Nameless,
    UnsupportedPattern,
    /// An address that Squid finds only from version 7 on.
    Overlapped,
    /// A prefix of 0.
    NoPrefix,
    /// `ipv4`, `ipv6`.
    Family,
    /// A name among addresses.
    NamedAddress,
    Unreadable,
    /// An end of addresses.
    Tail,
    NoUser,
    CapitalUser,
}

/// The remarks on one list.
#[derive(Default, Debug)]
pub(super) struct Tally(BTreeMap<Remark, Counted>);

#[derive(Debug)]
struct Counted {
    place: SourceLine,
    /// The first such value, and what is to be known of it.
    value: String,
    about: String,
    more: u32,
}

impl Tally {
    /// `about`: what the text says of the first value beside the value.
    pub(super) fn add(&mut self, remark: Remark, place: &SourceLine, value: &str, about: impl Into<String>) {
        self.0.entry(remark).and_modify(|counted| counted.more += 1).or_insert_with(|| Counted {
            place: place.clone(),
            value: value.chars().take(80).collect(),
            about: about.into(),
            more: 0,
        });
    }

    /// The notes, each at the first value that it is about, and those that matter only where the list made a verdict
    /// stricter. `kind`: the list's type.
    pub(super) fn notes(&self, kind: &str) -> [Vec<(SourceLine, NoteKind, String)>; 2] {
        let note = |(remark, counted): (&Remark, &Counted)| {
            let Counted { place, value, about, more } = counted;
            let more = match more {
                0 => String::new(),
                more => format!(" (and {more} more like it in this list)"),
            };
            let (note, text) = said(*remark, kind, &format!("`{value}`{more}"), about);
            (place.clone(), note, text)
        };
        let always = |remark: &Remark| !matches!(remark, Remark::Open | Remark::Nameless);
        [true, false]
            .map(|wanted| self.0.iter().filter(|(remark, _)| always(remark) == wanted).map(note).collect())
    }
}

fn said(remark: Remark, kind: &str, value: &str, about: &str) -> (NoteKind, String) {
    let stricter = |text: String| (NoteKind::Stricter, text);
    let lost = |text: String| (NoteKind::Lost, text);
    match remark {
        Remark::Open => stricter(format!(
            "{value}: this regex also fits names that are not written in it{}: an allow using it covers the names written in it and what is under them; a deny using it denies each listed name that it fits, and a whole suffix where it may fit a part of it",
            if about.is_empty() { String::new() } else { format!(", such as `{about}`") }
        )),
        Remark::Nameless => stricter(format!(
            "{value}: no whole name is written in this regex: an allow using it covers only what other lists name; a deny using it denies each listed name that it fits, and a whole suffix where it may fit a part of it"
        )),
        Remark::UnsupportedPattern => stricter(format!(
            "{value}: unsupported regex; an allow using it is dropped, a deny using it blocks everything: write the names as `dstdomain`"
        )),
        Remark::Overlapped => stricter(format!(
            "{value} overlaps `{about}` before it, and Squid before version 7 ignores it: where the list allows it is left out, where the list denies it counts; for the same in every version write the wider network first, or only that"
        )),
        Remark::NoPrefix => lost(format!(
            "{value}: to Squid a prefix of 0 is no prefix, so this is `{about}` alone; every address is `all`"
        )),
        Remark::Family => stricter(format!(
            "{value}: Squid before version 7 takes this for {}: where the list allows only that is in it, where the list denies the whole family is",
            if about == "ipv4" { "the address `::`" } else { "most of the unicast networks" }
        )),
        Remark::NamedAddress => stricter(format!(
            "{value} is a name, which Squid looked up when it started: write its addresses; rules that use this list fail closed"
        )),
        Remark::Unreadable => stricter(format!(
            "{value} is not understood as a value of `{kind}`; rules that use this list fail closed"
        )),
        Remark::Tail => stricter(format!(
            "{value}: Squid finds every literal address in it that ends like this, and no rule is for those: an allow using it drops them, a deny using it denies every network that has such addresses; write networks as `dst`"
        )),
        Remark::NoUser => {
            lost(format!("{value} cannot be the user name of a basic password: it is left out"))
        }
        Remark::CapitalUser => lost(format!(
            "{value} matched nobody, and is left out: without `auth_param basic casesensitive on` Squid takes every user name in lower case"
        )),
    }
}
