//! RFC 8785's own examples; and against another implementation, over generated JSON in any spelling.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

fn canonical(text: &str) -> Result<String, NotCanonical> {
    let mut object = Object::new();
    object.read(text.as_bytes())?;
    let mut out = Vec::new();
    object.write(&mut out, |_| true);
    Ok(String::from_utf8(out).expect("UTF-8"))
}

fn number(text: &str) -> Option<String> {
    canonical(&format!("{{\"n\":{text}}}"))
        .ok()
        .map(|text| text.trim_start_matches("{\"n\":").trim_end_matches('}').to_owned())
}

#[test]
fn the_examples_of_the_rfc() {
    // §3.2.2 and §3.2.3.
    let text = r#"{
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"#;
    let want = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
                \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
    assert_eq!(canonical(text).as_deref(), Ok(want));
    let text = r#"{
        "\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
        "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"
    }"#;
    let want = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\
                \"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}";
    assert_eq!(canonical(text).as_deref(), Ok(want));
}

#[test]
fn numbers_have_one_spelling() {
    // Appendix B of the RFC, by the decimal that each stands for; and what a log writes.
    for (text, want) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("5e-324", "5e-324"),
        ("-5e-324", "-5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("9007199254740992", "9007199254740992"),
        ("9007199254740993", "9007199254740992"),
        ("295147905179352830000", "295147905179352830000"),
        ("9.999999999999997e22", "9.999999999999997e+22"),
        ("1e23", "1e+23"),
        ("1.0000000000000001e23", "1.0000000000000001e+23"),
        ("999999999999999700000", "999999999999999700000"),
        ("1e21", "1e+21"),
        ("9.999999999999997e-7", "9.999999999999997e-7"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1e-7"),
        ("333333333.3333332", "333333333.3333332"),
        ("-0.0000033333333333333333", "-0.0000033333333333333333"),
        ("1424953923781206.25", "1424953923781206.2"),
        ("0.000", "0"),
        ("12.030", "12.03"),
        ("12.034e0", "12.034"),
        ("1.2034E+1", "12.034"),
        ("100", "100"),
        ("1e2", "100"),
        ("18446744073709551615", "18446744073709552000"),
    ] {
        assert_eq!(number(text).as_deref(), Some(want), "{text}");
    }
    for text in ["", "01", "-", "1.", ".5", "1e", "1e400", "-1e400", "+1", "0x1", "NaN", "1 2", "--1"] {
        assert_eq!(number(text), None, "{text}");
    }
}

#[test]
fn what_has_no_canonical_form_is_refused() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    for text in [
        "",
        "[]",
        "1",
        "{",
        "{}x",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{a:1}",
        "{\"a\":1,\"a\":1}",
        "{\"b\":0,\"a\":1,\"\\u0061\":2}",
        "{\"o\":{\"a\":1,\"a\":2}}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\\ud800\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":tru}",
        "{\"a\":[1,]}",
        &deep,
    ] {
        assert_eq!(canonical(text), Err(NotCanonical), "{text}");
    }
    assert_eq!(Object::new().read(b"{\"a\":\"\xff\"}"), Err(NotCanonical));
    // A line after one that was refused.
    let mut object = Object::new();
    assert!(object.read(b"{\"b\":1,\"a\":").is_err() && object.get("b").is_none());
    assert!(object.read(b"{\"b\":1,\"a\":2}").is_ok());
    assert_eq!(object.get("a"), Some(&b"2"[..]));
}

#[test]
fn members_can_be_left_out_and_the_order_is_found_anew_for_other_members() {
    let mut object = Object::new();
    let mut written = |text: &str| {
        object.read(text.as_bytes()).expect("JSON");
        let mut out = Vec::new();
        object.write(&mut out, |name| name != b"x");
        String::from_utf8(out).expect("UTF-8")
    };
    assert_eq!(written(r#"{"c":1,"x":2,"a":{"z":1,"y":[]}}"#), r#"{"a":{"y":[],"z":1},"c":1}"#);
    assert_eq!(written(r#"{"a":1,"x":2,"c":{}}"#), r#"{"a":1,"c":{}}"#);
    assert_eq!(
        written(r#"{"longer_name_2":1,"longer_name_1":2}"#),
        r#"{"longer_name_1":2,"longer_name_2":1}"#
    );
    assert_eq!(written("{}"), "{}");
}

fn json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<f64>()
            .prop_filter_map("finite", |value| serde_json::Number::from_f64(value).map(Value::Number)),
        any::<u32>().prop_map(Value::from),
        // Halfway between two decimals of 17 digits.
        (1_u64 << 50..1 << 51, 0..4_u32)
            .prop_map(|(whole, quarters)| Value::from(whole as f64 + f64::from(quarters) / 4.0)),
        (any::<u32>(), 0u32..8).prop_map(|(value, by)| Value::from(f64::from(value) / 10f64.powi(by as i32))),
    ];
    let text = prop_oneof!["[a-z]{0,6}", "\\PC{0,6}", "[\u{0}-\u{7f}\u{20ac}\u{fb33}\u{1f600}\u{e000}]{0,6}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number,
        text.clone().prop_map(Value::String)
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((text.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// JSON text of `value` in another spelling: escapes where none are needed, space, exponents, members the other way round.
fn respelled(value: &Value, odd: bool, out: &mut String) {
    use std::fmt::Write as _;
    let space = if odd { " \t\n" } else { "" };
    match value {
        Value::String(text) => quoted(text, odd, out),
        Value::Number(number) => match number.as_f64() {
            Some(value) if odd => {
                let _ = write!(out, "{value:e}");
            }
            _ => out.push_str(&number.to_string()),
        },
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                out.push_str(space);
                respelled(item, !odd, out);
            }
            out.push_str(space);
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            let mut members: Vec<_> = members.iter().collect();
            if odd {
                members.reverse();
            }
            for (at, (name, member)) in members.into_iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                quoted(name, odd, out);
                out.push_str(space);
                out.push(':');
                respelled(member, !odd, out);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
    }
}

fn quoted(text: &str, odd: bool, out: &mut String) {
    use std::fmt::Write as _;
    if !odd {
        out.push_str(&Value::from(text).to_string());
        return;
    }
    out.push('"');
    for unit in text.encode_utf16() {
        let _ = write!(out, "\\u{unit:04X}");
    }
    out.push('"');
}

proptest! {
    #[test]
    fn any_spelling_has_the_form_that_another_implementation_gives(value in json(), odd: bool) {
        let value = serde_json::json!({ "v": value });
        let want = String::from_utf8(serde_json_canonicalizer::to_vec(&value).expect("canonical")).expect("UTF-8");
        let mut text = String::new();
        respelled(&value, odd, &mut text);
        prop_assert_eq!(canonical(&text), Ok(want.clone()), "{}", text);
        prop_assert_eq!(canonical(&want), Ok(want));
    }

    #[test]
    fn any_bytes_are_refused_or_read_as_serde_reads_them(text in "[{}\\[\\]\",:0-9eE.\\-\\\\u/ntrfalsd \u{e9}\u{1f600}]{0,40}") {
        let text = format!("{{\"a\":{text}}}");
        if let Ok(form) = canonical(&text) {
            let value: Value = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(form.into_bytes(), serde_json_canonicalizer::to_vec(&value).expect("canonical"));
        }
    }
}
