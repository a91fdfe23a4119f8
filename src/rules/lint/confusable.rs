//! Names that look like other names: letters of two scripts in one label, or letters that are taken for ASCII.
//!
//! A reviewer reads `аmazonaws.com` as `amazonaws.com`, and the rule is for a name that anybody may have registered. This follows
//! Unicode's security mechanisms (UTS #39): a label is mixed if no script has all of its characters (§5.1, with the sets for
//! Japanese, Korean and Bopomofo), and it looks like ASCII if each of its characters does. Not here: names in ASCII that
//! look like each other (`paypa1`), and scripts whose letters few readers take for Latin ones.

use std::fmt;

use icu_properties::props::Script;
use icu_properties::script::ScriptWithExtensions;

/// For each character of a name in ASCII, lower-case letters and digits of other blocks that look like it: those of UTS #39's
/// confusables.txt, version 18.0, that a name may contain, of the scripts whose letters are taken for Latin ones. Letters of
/// Latin itself are among them.
#[rustfmt::skip]
const LOOKS_LIKE: [(char, &str); 31] = [
    ('-', "\u{2cbb}"),
    ('2', "\u{14bf}\u{1616}"),
    ('6', "\u{431}\u{2cd3}"),
    ('8', "\u{223}"),
    ('9', "\u{2ccb}\u{a76f}"),
    ('a', "\u{251}\u{3b1}\u{430}\u{15c5}\u{a4ee}\u{ab64}"),
    ('b', "\u{1472}\u{15af}\u{15f7}\u{a4d0}"),
    ('c', "\u{441}\u{1d04}\u{2ca5}\u{a4da}\u{1043d}"),
    ('d', "\u{501}\u{146f}\u{15de}\u{15ea}\u{a4d2}\u{a4d3}"),
    ('e', "\u{435}\u{4bd}\u{2d39}\u{a4f0}\u{ab32}"),
    ('f', "\u{192}\u{284}\u{584}\u{15b4}\u{1e9d}\u{a4dd}\u{a799}\u{ab35}"),
    ('g', "\u{18d}\u{261}\u{581}\u{1d83}\u{a4d6}"),
    ('h', "\u{4bb}\u{570}\u{157c}\u{a4e7}"),
    ('i', "\u{131}\u{269}\u{26a}\u{3b9}\u{456}\u{582}\u{2c93}\u{a647}"),
    ('j', "\u{237}\u{3f3}\u{458}\u{575}\u{148d}\u{a4d9}"),
    ('k', "\u{a4d7}"),
    ('l', "\u{1c0}\u{4cf}\u{14aa}\u{2d4a}\u{2d4f}\u{a4e1}\u{a4f2}\u{a781}\u{a7fe}"),
    ('m', "\u{560}\u{15f0}\u{a4df}"),
    ('n', "\u{578}\u{57c}\u{a4e0}\u{11abe}"),
    ('o', "\u{3bf}\u{3c3}\u{3ed}\u{43e}\u{585}\u{10ff}\u{1d0f}\u{1d11}\u{2c9f}\u{2d54}\u{a4f3}\u{ab3d}\u{1042c}"),
    ('p', "\u{fe}\u{1bf}\u{3c1}\u{3f8}\u{440}\u{146d}\u{2ca3}\u{2ccf}\u{a4d1}"),
    ('q', "\u{51b}\u{563}\u{566}\u{2d55}"),
    ('r', "\u{433}\u{1587}\u{1d26}\u{2c85}\u{a4e3}\u{ab47}\u{ab48}"),
    ('s', "\u{1bd}\u{455}\u{10fd}\u{a4e2}\u{a731}\u{10448}"),
    ('t', "\u{a4d4}"),
    ('u', "\u{28b}\u{3c5}\u{57d}\u{144c}\u{1d1c}\u{a4f4}\u{a79f}\u{ab4e}\u{ab52}"),
    ('v', "\u{3bd}\u{475}\u{142f}\u{1d20}\u{2d38}\u{a4e6}"),
    ('w', "\u{26f}\u{448}\u{461}\u{51d}\u{561}\u{1d21}\u{2cbd}\u{a4ea}\u{a7fa}"),
    ('x', "\u{445}\u{1541}\u{157d}\u{2d5d}\u{a4eb}"),
    ('y', "\u{263}\u{28f}\u{3b3}\u{443}\u{4af}\u{10e7}\u{1d8c}\u{1eff}\u{2ca9}\u{a4ec}\u{ab5a}"),
    ('z', "\u{1d22}\u{2c6c}\u{2c8d}\u{2d2d}\u{a4dc}\u{11abc}"),
];

/// What a reader may be misled about in a host, in A-labels: `xn--mazonaws-06g.com`, or a pattern for such hosts.
pub struct Confusable {
    /// The host as it is shown.
    shown: String,
    /// The host as it is looked up.
    host: String,
    found: Found,
}

enum Found {
    /// The ASCII host that it looks like, and a character that only looks like one of it.
    LooksLike { ascii: String, odd: char },
    /// A label with letters of two scripts.
    Mixed { label: String, scripts: Vec<Script> },
}

/// What a reader may be misled about; `host` is canonical.
pub fn confusable(host: &str) -> Option<Confusable> {
    if !host.split('.').any(|label| label.starts_with("xn--")) {
        return None; // nearly every host
    }
    let labels: Vec<String> = host.split('.').map(unicode).collect();
    let found = labels.iter().filter(|label| !label.is_ascii()).find_map(|label| {
        if let Some(odd) = label.chars().find(|c| !c.is_ascii())
            && in_ascii(label).is_some()
        {
            let all: Vec<String> =
                labels.iter().map(|label| in_ascii(label).unwrap_or_else(|| label.clone())).collect();
            return Some(Found::LooksLike { ascii: all.join("."), odd });
        }
        let scripts = mixed(label)?;
        Some(Found::Mixed { label: label.clone(), scripts })
    })?;
    Some(Confusable { shown: labels.join("."), host: host.to_owned(), found })
}

/// A label as it is shown. What cannot be decoded is shown as it is written.
fn unicode(label: &str) -> String {
    match label.starts_with("xn--") {
        true => {
            let (shown, decoded) = idna::domain_to_unicode(label);
            if decoded.is_ok() { shown } else { label.to_owned() }
        }
        false => label.to_owned(),
    }
}

/// The label in ASCII that looks the same.
fn in_ascii(label: &str) -> Option<String> {
    let looks_like = |c: char| match c.is_ascii() {
        true => Some(c),
        false => LOOKS_LIKE.iter().find(|(_, others)| others.contains(c)).map(|(ascii, _)| *ascii),
    };
    label.chars().map(looks_like).collect()
}

/// The scripts of a label, if no single one has all of its characters. Latin letters in Chinese, Japanese and Korean names are
/// usual, and taken for no other.
fn mixed(label: &str) -> Option<Vec<Script>> {
    let of_all = ScriptWithExtensions::new();
    let mut seen: Vec<Script> = Vec::new();
    // The scripts that have all characters so far, those of Latin apart.
    let mut left: Option<Vec<Script>> = None;
    for c in label.chars() {
        let own: Vec<Script> = of_all.get_script_extensions_val(c).iter().collect();
        if own.iter().any(|script| matches!(*script, Script::Common | Script::Inherited)) {
            continue;
        }
        let main = of_all.get_script_val(c);
        if !seen.contains(&main) {
            seen.push(main);
        }
        if main == Script::Latin {
            continue;
        }
        let own = with_combined(own);
        left = Some(match left {
            None => own,
            Some(left) => left.into_iter().filter(|script| own.contains(script)).collect(),
        });
    }
    let left = left?;
    let is_eastern = left.iter().any(|script| EASTERN.contains(script));
    let fits = if seen.contains(&Script::Latin) { is_eastern } else { !left.is_empty() };
    (!fits).then_some(seen)
}

/// Those that stand for the scripts that are written together.
const EASTERN: [Script; 3] = [Script::Katakana, Script::Hangul, Script::Bopomofo];

/// Adds what stands for the scripts that are written together: Katakana for those of Japanese, Hangul for those of Korean, and
/// Bopomofo for itself with Han.
fn with_combined(mut own: Vec<Script>) -> Vec<Script> {
    let has = |own: &[Script], any: &[Script]| own.iter().any(|script| any.contains(script));
    let japanese = [Script::Han, Script::Hiragana, Script::Katakana];
    let korean = [Script::Han, Script::Hangul];
    let bopomofo = [Script::Han, Script::Bopomofo];
    let combined =
        [(&japanese[..], Script::Katakana), (&korean[..], Script::Hangul), (&bopomofo[..], Script::Bopomofo)];
    let more: Vec<Script> =
        combined.iter().filter(|(any, _)| has(&own, any)).map(|(_, stands)| *stands).collect();
    own.extend(more);
    own
}

fn name(script: Script) -> &'static str {
    match script {
        Script::Latin => "Latin",
        Script::Cyrillic => "Cyrillic",
        Script::Greek => "Greek",
        Script::Armenian => "Armenian",
        Script::Hebrew => "Hebrew",
        Script::Arabic => "Arabic",
        Script::Georgian => "Georgian",
        Script::Han => "Han",
        Script::Hiragana => "Hiragana",
        Script::Katakana => "Katakana",
        Script::Hangul => "Hangul",
        Script::Thai => "Thai",
        Script::Devanagari => "Devanagari",
        _ => "another script",
    }
}

/// The end of a sentence that begins with the rule or the name.
impl fmt::Display for Confusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Confusable { shown, host, found } = self;
        match found {
            Found::LooksLike { ascii, odd } => {
                let script = name(ScriptWithExtensions::new().get_script_val(*odd));
                write!(
                    f,
                    "is for {host}, which is shown as {shown} and looks like {ascii}, but its {odd} is U+{:04X} ({script}): \
                     write `{ascii}` if that is meant, and remove this",
                    u32::from(*odd)
                )
            }
            Found::Mixed { label, scripts } => {
                let scripts: Vec<&str> = scripts.iter().map(|script| name(*script)).collect();
                write!(
                    f,
                    "is for {host}, which is shown as {shown}: {label} has letters of {}, as a name has that is to look like \
                     another one; write the name that is meant, in letters of one script",
                    scripts.join(" and ")
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::HostPattern;

    fn told(host: &str) -> String {
        let host = HostPattern::parse(host).unwrap_or_else(|error| panic!("{host}: {error}")).to_string();
        confusable(&host).map(|found| found.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_name_that_looks_like_another_is_told_with_its_a_label() {
        let rows = [
            // The first letter is Cyrillic.
            ("\u{430}mazonaws.com", "looks like amazonaws.com, but its \u{430} is U+0430 (Cyrillic)"),
            ("xn--mazonaws-06g.com", "is for xn--mazonaws-06g.com, which is shown as \u{430}mazonaws.com"),
            ("*.\u{430}mazonaws.com", "looks like *.amazonaws.com"),
            (".\u{430}mazonaws.com", "looks like .amazonaws.com"),
            ("git-*.\u{430}mazonaws.com", "looks like git-*.amazonaws.com"),
            // All of it is Cyrillic.
            ("\u{430}\u{440}\u{440}\u{4cf}\u{435}.com", "looks like apple.com"),
            ("\u{441}\u{43e}\u{440}\u{435}.example", "looks like cope.example"),
            // Greek omicron, Armenian oh, a Latin alpha, a dotless i.
            ("g\u{3bf}\u{3bf}gle.com", "(Greek)"),
            ("g\u{585}ogle.com", "(Armenian)"),
            ("\u{251}mazonaws.com", "(Latin)"),
            ("g\u{131}thub.com", "looks like github.com"),
            ("a.g\u{131}thub.com", "looks like a.github.com"),
            // Letters of two scripts, of which not all look like ASCII.
            ("\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}-shop.example", "letters of Cyrillic and Latin"),
            ("amazon\u{924}.example", "letters of Latin and Devanagari"),
            ("\u{3b1}\u{43f}.example", "letters of Greek and Cyrillic"),
        ];
        for (host, want) in rows {
            assert!(told(host).contains(want), "{host}: {:?}", told(host));
        }
    }

    #[test]
    fn a_name_in_one_script_is_not() {
        let rows = [
            "amazonaws.com",
            "m\u{fc}nchen.example",
            "stra\u{df}e.example",
            "xn--mnchen-3ya.example",
            "\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.example",
            "\u{3b5}\u{3bb}\u{3bb}\u{3b7}\u{3bd}.example",
            // Kana with Han and Latin; Hangul with Han; Han with digits.
            "\u{65e5}\u{672c}\u{8a9e}\u{30c6}\u{30b9}\u{30c8}.example",
            "\u{306e}\u{65e5}.example",
            "\u{30c6}\u{30b9}\u{30c8}-shop.example",
            "\u{d55c}\u{570b}.example",
            "\u{4e2d}\u{6587}123.example",
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd}.example",
            "\u{e44}\u{e17}\u{e22}.example",
            // Each label has a script of its own.
            "\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.m\u{fc}nchen.example",
        ];
        for host in rows {
            assert_eq!(told(host), "", "{host}");
        }
    }

    #[test]
    fn the_table_names_no_character_twice() {
        let all: Vec<char> = LOOKS_LIKE.iter().flat_map(|(_, others)| others.chars()).collect();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(all.len(), once.len());
        assert!(all.iter().all(|c| !c.is_ascii() && !c.is_uppercase()));
    }
}
