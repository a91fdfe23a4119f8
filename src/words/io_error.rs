//! The operating system's errors, as a message says them.

use std::io;

/// The operating system's text without its error number, so that messages are the same everywhere.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        // An error with a text of its own, such as that of a key that no ConfigMap has.
        _ if error.get_ref().is_some() => error.to_string(),
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}
