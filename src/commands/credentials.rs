//! A file of one line `USER:PASSWORD` for the proxy.

use std::path::Path;

use crate::words::io_error::reason;

/// The one line `USER:PASSWORD` of a file.
pub(crate) fn credentials(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {}", path.display(), reason(&error)))?;
    let line = text.trim_end_matches(['\r', '\n']);
    if !line.contains(':') || line.contains(char::is_control) {
        return Err(format!("{}: the file must contain one line USER:PASSWORD", path.display()));
    }
    Ok(line.to_owned())
}
