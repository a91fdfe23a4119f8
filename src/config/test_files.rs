//! Files for configurations of unit tests: an authority that may sign for every host, and credentials under any other name.

use std::io;
use std::path::Path;

/// What names the authority.
pub(crate) const INSPECTION: &str = "inspection: {certificate: authority.crt, key: authority.key}\n";

/// The file of that name.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file: &[u8] = match path.file_name().and_then(|name| name.to_str()) {
        Some("authority.crt") => include_bytes!("../../tests/lint/files/authority-free.crt"),
        Some("authority.key") => include_bytes!("../../tests/lint/files/authority.key"),
        _ => b"user:s3cret\n",
    };
    Ok(file.to_vec())
}
