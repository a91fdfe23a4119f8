//! Basic authentication: the password file, and the users in it.

use std::collections::BTreeSet;

use super::super::lexer::Line;
use super::reader::Reader;
use crate::commands::import::draft::Setting;
use crate::commands::import::notes::{NoteKind, SourceLine};
use crate::config::users::Users;
use crate::words::io_error::reason;
use crate::words::small_sort::SmallCollect as _;

/// So many lines of the file are told one by one.
const REFUSED: usize = 20;

/// `auth_param`: the password file of `basic_ncsa_auth`.
pub(super) fn auth(reader: &mut Reader<'_>, line: &Line) {
    if line.word(0) != Some("basic") {
        return reader.tell(
            line,
            NoteKind::Stricter,
            format!(
                "{} is not carried over: egressd identifies users by a basic password or a client certificate",
                line.shown()
            ),
        );
    }
    if line.word(1) != Some("program") {
        return; // How many helpers, what the prompt says, how long a verdict lasts.
    }
    let program = line.word(2).unwrap_or_default();
    let Some(path) = line
        .words
        .last()
        .map(|word| word.text.as_str())
        .filter(|path| program.ends_with("basic_ncsa_auth") && *path != program)
    else {
        return reader.tell(line, NoteKind::Stricter, format!("{} is not carried over: egressd reads passwords from an htpasswd file with bcrypt or argon2 (`htpasswd -B`)", line.shown()));
    };
    match reader.files.read(path) {
        Ok(content) => users(reader, line, path, &content),
        Err(error) => {
            reader.tell(line, NoteKind::Stricter, format!("cannot read `{}`: {}; no passwords are asked for, so clients known only by a password are denied", reader.files.written(path), reason(&error)));
        }
    }
}

/// Takes the users of the file whose lines egressd accepts.
fn users(reader: &mut Reader<'_>, line: &Line, path: &str, content: &[u8]) {
    let written = reader.files.written(path);
    let refused = Users::parse(content).err().unwrap_or_default();
    let numbers: BTreeSet<u32> = refused.iter().map(|problem| problem.line).small_collect();
    let kept = without(content, &numbers);
    let accepted = Users::parse(&kept).is_ok_and(|(users, _)| !users.is_empty());
    reader.users = String::from_utf8_lossy(if accepted { &kept } else { content })
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(user, _)| user.trim().to_owned())
        .filter(|user| !user.is_empty() && !user.starts_with('#') && !user.contains(char::is_control))
        .collect();
    let first = refused.first().map(|problem| format!(": {} ({written}:{})", problem.text, problem.line));
    if !accepted {
        let text = format!(
            "no passwords are asked for, so clients known only by a password are denied: `{written}` has no user with a hash that egressd accepts{}",
            first.unwrap_or_default()
        );
        return reader.tell(line, NoteKind::Stricter, text);
    }
    for (number, problem) in refused.iter().enumerate().take(REFUSED + 1) {
        let place = SourceLine { file: written.as_str().into(), line: problem.line };
        let text = match refused.len() - number {
            more if number == REFUSED => format!("{more} more lines of this file are refused, from here on"),
            _ => format!(
                "this user is denied: {}; egressd reads the file when this line is out of it, or right",
                problem.text
            ),
        };
        reader.notes.tell(&place, NoteKind::Stricter, text);
    }
    reader.draft.refused_users = numbers;
    reader.set(line, Setting::UsersFile, Some(written));
    reader.tell(line, NoteKind::Differs, "every client of these listeners is asked for a password, even where Squid let it through without asking");
}

/// A file without these lines.
pub(in crate::commands::import::squid) fn without(content: &[u8], lines: &BTreeSet<u32>) -> Vec<u8> {
    let numbered = content.split_inclusive(|byte| *byte == b'\n').zip(1_u32..);
    numbered.flat_map(|(line, number)| if lines.contains(&number) { b"#\n" } else { line }).copied().collect()
}
