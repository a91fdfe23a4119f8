//! Basic authentication: the password file, and the users in it.

use super::super::lexer::Line;
use super::reader::Reader;
use crate::commands::import::draft::Setting;
use crate::commands::import::notes::NoteKind;
use crate::words::io_error::reason;

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
        Ok(content) => {
            let content = String::from_utf8_lossy(&content);
            reader.users = content
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(user, _)| user.trim().to_owned())
                .filter(|user| !user.is_empty() && !user.starts_with('#') && !user.contains(char::is_control))
                .collect();
            reader.set(line, Setting::UsersFile, Some(reader.files.written(path)));
            reader.tell(line, NoteKind::Differs, "every client of these listeners is asked for a password, even where Squid let it through without asking");
        }
        Err(error) => {
            reader.tell(line, NoteKind::Stricter, format!("cannot read `{}`: {}; no passwords are asked for, so clients known only by a password are denied", reader.files.written(path), reason(&error)));
        }
    }
}
