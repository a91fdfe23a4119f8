//! A router may have written the log anew, in any way that JSON allows: what is suggested stays the same.

use proptest::prelude::*;

use super::tests::line;
use super::*;
use crate::commands::logs::Reader;
use crate::commands::logs::respelled::respelled;

/// Requests of every kind that decides what is suggested.
fn any_line() -> impl Strategy<Value = String> {
    let rests = [
        r#""event":"open","decision":"allow","rule":"*.example","sni":"HOST","user_agent":"git/2.39""#,
        r#""event":"open","decision":"allow","rule":"tcp://*.example:443","sni":null,"upstream":"10.7.0.1:443""#,
        r#""event":"open","decision":"allow","rule":"HOST","sni":"HOST","user_agent":"egressd-doctor/1""#,
        r#""event":"open","decision":"would_deny","mode":"report","reason":"host_not_allowed","sni":"HOST","identity":"user:ci""#,
        r#""event":"deny","decision":"deny","reason":"host_not_allowed","sent":null,"suppressed":3"#,
        r#""event":"deny","decision":"deny","reason":"address_prohibited","rule":"https://HOST","sent":null"#,
        r#""event":"deny","decision":"deny","reason":"sni_mismatch","rule":"HOST","sent":17,"status":200"#,
        r#""event":"error","decision":"allow","reason":"dns_no_such_name""#,
        r#""event":"close","decision":"allow","sent":12,"received":34,"status":200"#,
    ];
    let inside = [
        r#""event":"request","decision":"allow","tunnel":"t","status":200,"git":{"operation":"push","repository":"a/b.git","ref_count":1,"refs":[{"name":"refs/heads/main","change":"update"}]}"#,
        r#""event":"request","decision":"would_deny","reason":"request_not_allowed","tunnel":"t","status":200"#,
        r#""event":"http","decision":"allow","rule":"http://HOST","sent":1"#,
    ];
    let client = proptest::sample::select(vec!["10.0.0.1", "10.0.0.2", "10.0.1.1"]);
    let host = proptest::sample::select(vec!["a.example", "b.example", "203.0.113.9", "new.example"]);
    let tunnel = proptest::sample::select(rests.to_vec()).prop_map(|rest| ("CONNECT", "HOST:443", rest));
    let plain = (proptest::sample::select(inside.to_vec()), proptest::sample::select(vec!["GET", "POST"]))
        .prop_map(|(rest, method)| {
            (method, if rest.contains("tunnel") { "https://HOST:443/a/b" } else { "http://HOST:80/a" }, rest)
        });
    (0..60u32, client, host, prop_oneof![2 => tunnel, 1 => plain]).prop_map(
        |(second, client, host, (method, target, rest))| {
            line(second, client, (method, &target.replace("HOST", host)), &rest.replace("HOST", host))
        },
    )
}

proptest! {
    /// A router may have spelled every line of the log in another way: nothing wider is suggested, and nothing else.
    #[test]
    fn a_log_in_another_spelling_suggests_the_same(
        lines in proptest::collection::vec(any_line(), 1..30), seed in any::<u64>(), networks in any::<bool>(),
    ) {
        let other: Vec<String> = (0..)
            .zip(&lines)
            .map(|(number, line)| respelled(line, seed.wrapping_add(number)) + "\n")
            .collect();
        let suggest = |lines: &[String]| {
            let mut suggestion = Suggestion::new(networks);
            let mut reader = Reader::new();
            reader.read("a.log", lines.concat().as_bytes(), |entry| suggestion.add(entry)).expect("it can be read");
            assert_eq!(reader.malformed().count, 0, "{}", lines.concat());
            suggestion.to_yaml(true)
        };
        prop_assert_eq!(suggest(&other), suggest(&lines), "{}", other.concat());
    }
}
