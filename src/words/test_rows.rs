//! Tables for tests of parsers: a text, and what it is read as or the error that it gives.

/// The value as `show` writes it, or `error:` and the text of the error.
pub(crate) fn told<T>(result: Result<T, String>, show: impl Fn(T) -> String) -> String {
    match result {
        Ok(value) => show(value),
        Err(text) => format!("error: {text}"),
    }
}

/// Checks that each text gives `want` in full, or an error that contains `want` after `error:`.
#[track_caller]
pub(crate) fn check<T>(
    rows: &[(&str, &str)],
    parse: fn(&str) -> Result<T, String>,
    show: impl Fn(T) -> String,
) {
    for (text, want) in rows {
        let got = told(parse(text), &show);
        match want.strip_prefix("error: ") {
            Some(part) => assert!(got.starts_with("error: ") && got.contains(part), "{text:?}: {got}"),
            None => assert_eq!(got, *want, "{text:?}"),
        }
    }
}
