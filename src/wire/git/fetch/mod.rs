//! The body of a request to upload-pack or upload-archive, read whole: it is held under `negotiation_limit`.
//!
//! Whatever it asks for, it only reads. But it says things to the server: ids that need not exist, prefixes, options, names.
//! So it is counted for the record, and [`FetchRequest::fixed`] writes it anew where nothing shall go out but what a fetch needs.
//!
//! A body may be long, so [`FetchReader`] reads it in steps: the caller lets others have their turn between two of them.

mod arguments;
mod reader;
mod told;

pub use self::reader::FetchReader;
pub use self::told::{FetchError, FetchKind, FetchRequest};
use super::version::ProtocolVersion;

impl FetchRequest {
    /// Reads a body of upload-pack, all at once.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn read(body: &[u8], version: ProtocolVersion) -> Result<Self, FetchError> {
        whole(FetchReader::new(body, FetchKind::Pack(version))).map(|(told, _)| told)
    }

    /// Reads a body of upload-pack, and writes it in a form that says nothing of the client: agent and session are replaced,
    /// lengths written in one way. A server that gets it does the same as with the original.
    ///
    /// # Errors
    /// See [`FetchError`]; server options and lines that are not known are refused, too.
    pub fn fixed(body: &[u8], version: ProtocolVersion) -> Result<(Self, Vec<u8>), FetchError> {
        whole(FetchReader::fixing(body, FetchKind::Pack(version)))
    }
}

fn whole(mut reader: FetchReader<'_>) -> Result<(FetchRequest, Vec<u8>), FetchError> {
    while !reader.step()? {}
    Ok(reader.into_parts())
}

#[cfg(test)]
mod tests;
