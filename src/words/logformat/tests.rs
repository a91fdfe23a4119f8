//! Which formats are read, and what is said of those that are not.

use proptest::prelude::*;

use super::*;

const DEPLOYMENT: &str = "%{%Y/%m/%d %H:%M:%S}tl| %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt";

fn code_of(text: &str) -> Code {
    let format = Logformat::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    match format.pieces.as_slice() {
        [Piece::Code(code)] => code.clone(),
        pieces => panic!("{text}: {pieces:?}"),
    }
}

#[test]
fn a_code_is_read_with_its_modifiers() {
    let plain = Code {
        what: What::ClientAddress,
        quoting: Quoting::None,
        left: false,
        zero: false,
        width: 0,
        longest: None,
    };
    let status = Code { what: What::Status, zero: true, width: 3, ..plain.clone() };
    let rows: &[(&str, Code)] = &[
        ("%>a", plain.clone()),
        ("%http::>a", plain.clone()),
        ("%03>Hs", status.clone()),
        ("%03Hs", status),
        ("%-20>a", Code { left: true, width: 20, ..plain.clone() }),
        ("%5.7>a", Code { width: 5, longest: Some(7), ..plain.clone() }),
        ("%.7>a", Code { longest: Some(7), ..plain.clone() }),
        ("%[un", Code { what: What::Identity, quoting: Quoting::Brackets, ..plain.clone() }),
        ("%\"ru", Code { what: What::Uri, quoting: Quoting::Quotes, ..plain.clone() }),
        ("%#ru", Code { what: What::Uri, quoting: Quoting::Url, ..plain.clone() }),
        ("%'ru", Code { what: What::Uri, quoting: Quoting::Raw, ..plain.clone() }),
        (
            "%\"-030.40{User-Agent}>h",
            Code {
                what: What::UserAgent,
                quoting: Quoting::Quotes,
                left: true,
                zero: true,
                width: 30,
                longest: Some(40),
            },
        ),
        ("%>h{user-agent}", Code { what: What::UserAgent, ..plain.clone() }),
        ("%ssl::>sni", Code { what: What::Sni, ..plain.clone() }),
        ("%{policy}note", Code { what: What::Note(Note::Policy), ..plain.clone() }),
        (
            "%tl",
            Code {
                what: What::Time(Moment { format: "%d/%b/%Y:%H:%M:%S %z".into(), local: true }),
                ..plain.clone()
            },
        ),
        ("%{%%H}tg", Code { what: What::Time(Moment { format: "%%H".into(), local: false }), ..plain }),
    ];
    for (text, want) in rows {
        assert_eq!(code_of(text), *want, "{text}");
    }
}

#[test]
fn formats_in_use_are_read() {
    let common = "%>a %[ui %[un [%tl] \"%rm %ru HTTP/%rv\" %>Hs %<st %Ss:%Sh";
    for text in [NATIVE, DEPLOYMENT, common] {
        Logformat::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn what_stands_around_a_code_quotes_it() {
    let format = Logformat::parse("%ru \"%ru\" %ru [%ru] %ru \"[%'ru%ru").expect("a format");
    let quotings: Vec<Quoting> = format
        .pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Code(code) => Some(code.quoting),
            Piece::Literal(_) => None,
        })
        .collect();
    let want = [
        Quoting::None,
        Quoting::Quotes,
        Quoting::None,
        Quoting::Brackets,
        Quoting::None,
        Quoting::Raw,
        Quoting::Quotes,
    ];
    assert_eq!(quotings, want);
}

#[test]
fn a_wrong_format_says_where_and_what_to_write() {
    let rows: &[(&str, &str)] = &[
        ("%>a %xy b", "`%xy`, character 5 of the format: there is no such code; the codes are %>a"),
        ("ä %", "`%`, character 3 of the format: there is no such code"),
        ("%>A", "`%>A`, character 1 of the format: egressd makes no reverse lookups: write %>a"),
        ("%>st", "`%>st`, character 1 of the format: heads are not counted separately: write %{sent}note"),
        ("%{Referer}>h", "User-Agent is the only request header that is recorded"),
        ("%>h", "User-Agent is the only request header that is recorded"),
        ("%/ru", "shell quoting is not supported"),
        ("%{%Y", "the `{` is not closed"),
        ("%{x}note", "there is no such note; the notes are event, listener"),
        ("%note", "the name is missing: write one, as in %{policy}note"),
        ("%{x}ru", "%ru takes no argument"),
        ("%2000ru", "a width must be at most 1024"),
        ("%99999999999999999999ru", "a width must be at most 1024"),
        ("%.ru", "a number must follow the dot, as in %.20ru"),
        ("%.3tu", "a maximum length is for text, and %tu is a number"),
        ("%{%!}tl", "see `man strftime`"),
        ("%{%n}tl", "control character"),
        ("%ru\n", "control character"),
        ("%icap::tt", "there is no ICAP"),
        ("%credentials", "credentials are never logged"),
        ("100%%", "no % code"),
    ];
    for (text, want) in rows {
        let error = Logformat::parse(text).expect_err(text).to_string();
        assert!(error.contains(want), "{text}: {error}");
        assert!(!error.contains(char::is_control), "{text}: {error}");
    }
    let long = "%ru".repeat(2000);
    assert!(Logformat::parse(&long).expect_err("long").to_string().contains("longer than 4096 bytes"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_told_in_one_line(text in "\\PC{0,40}|[%\"\\[#'/\\-0-9.{}<>a-zA-Z: ]{0,40}") {
        if let Err(error) = Logformat::parse(&text) {
            prop_assert!(!error.to_string().contains(char::is_control));
        }
    }
}
