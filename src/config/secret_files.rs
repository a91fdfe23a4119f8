//! Files that hold one secret line: credentials and tokens; and who may read a secret file. An error never shows a byte of the
//! content.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::finding::{Position, Report};
use super::named_files::NamedFiles;

/// The longest line. A session token of AWS has some 1,500 bytes; much more does not fit into a head.
const MAX_LINE: usize = 8 << 10;

/// One line, with a line end as editors write it.
pub(super) fn one_line<'c>(content: &'c [u8], example: &str) -> Result<&'c str, String> {
    let text = std::str::from_utf8(content).map_err(|_| format!("the file is not UTF-8 text: {example}"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains(['\n', '\r']) {
        return Err(format!("the file has more than one line: {example}"));
    }
    // Nothing sends control characters: they would end the field, or be read differently.
    if line.contains(char::is_control) {
        return Err(format!("the file contains a control character: {example}"));
    }
    if line.len() > MAX_LINE {
        return Err(format!("the line is longer than {MAX_LINE} bytes: {example}"));
    }
    Ok(line)
}

/// `USER:PASSWORD`. RFC 7617 §2: the first colon ends the user name.
pub(super) fn user_password(content: &[u8]) -> Result<&str, String> {
    let example = "write one line USER:PASSWORD";
    let line = one_line(content, example)?;
    match line.split_once(':') {
        Some((user, _)) if !user.is_empty() => Ok(line),
        _ => Err(format!("there is no USER: before the password: {example}")),
    }
}

/// What a secret file is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Secret {
    /// A listener's private key.
    ListenerKey,
    /// The key of the authority for inspection.
    AuthorityKey,
    /// The key that seals the access log.
    SealKey,
    /// Hashes of clients' passwords.
    Users,
    /// The password for a parent proxy.
    Parent,
    /// The credentials that a rule sends.
    Sent,
    /// The value of a field that a rule sets.
    Field,
    /// The headers for an OTLP receiver.
    OtlpHeaders,
    /// The password for the store of shared budgets.
    Store,
}

impl Secret {
    fn what(self) -> &'static str {
        match self {
            Secret::ListenerKey => "the listener's key, and with it pass for this proxy",
            Secret::AuthorityKey => "the authority's key, and with it sign what clients accept",
            Secret::SealKey => "the key that seals the access log, and with it write a log anew",
            Secret::Users => "the hashes of the clients' passwords, and try passwords on them",
            Secret::Parent => "the password for the parent proxy",
            Secret::Sent => "the password that is sent",
            Secret::Field => "the value that is sent",
            Secret::OtlpHeaders => "the headers for the OTLP receiver",
            Secret::Store => "the password for the store",
        }
    }
}

/// Warns of a secret file that users of the machine may read who have nothing to do with egressd. `position` is where it is named.
pub(super) fn tell_of_readers(
    secret: Secret,
    (files, name): (&NamedFiles<'_>, &str),
    position: Position,
    report: &Report<'_>,
) {
    let mode = files.are_in_place().then(|| mode_for_all(&files.path(name))).flatten();
    if let Some(mode) = mode {
        let what = secret.what();
        report.warning(
            position,
            format!(
                "every user of this machine may read {what} (mode {mode:03o}): `chmod 640`; in Kubernetes `defaultMode: 0440`, \
                 and the pod's `fsGroup`"
            ),
        );
    }
}

/// The file's mode, if others than its owner and group may read or write it.
fn mode_for_all(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o006 != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_and_no_error_shows_it() {
        assert_eq!(user_password(b"user:pass:word\n"), Ok("user:pass:word"));
        assert_eq!(user_password("\u{feff}u:p\u{e9}\r\n".as_bytes()), Ok("u:p\u{e9}"));
        assert_eq!(one_line(b"token", ""), Ok("token"));
        let long = format!("s3cret:{}", "x".repeat(MAX_LINE));
        let rows: &[(&[u8], &str)] = &[
            (b"s3cret:a\ns3cret:b", "more than one line"),
            (b"s3cret:a\rs3cret:b", "more than one line"),
            (b"s3cret:a\tb", "control character"),
            (b"s3cret:a\0", "control character"),
            (b"s3cret:\xff", "not UTF-8"),
            (b"s3cret", "no USER:"),
            (b":s3cret", "no USER:"),
            (long.as_bytes(), "longer than 8192 bytes"),
        ];
        for (content, want) in rows {
            let wrong = user_password(content).expect_err(want);
            assert!(wrong.contains(want) && !wrong.contains("s3cret"), "{wrong}");
        }
    }
}
