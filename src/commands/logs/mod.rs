//! Access logs read back: any number of lines, in memory that does not grow with them.
//!
//! A line is one JSON object as [`crate::telemetry::record`] writes it, in any order of its members and with others
//! beside them; or one of Squid's, in its native format or the deployment's ([`squid`]), so that a log from before a move
//! can be read.
//! What is neither is counted, with the first lines' numbers, and never an error: logs are rotated, cut, and mixed. Logs
//! packed by gzip are read as they are.
//!
//! Everything in a line may be a stranger's: an [`Entry`] gives text as it stands there, and [`Text::decoded`] holds
//! whatever characters the stranger sent. Not here: what the entries amount to ([`super::suggest`], [`super::summary`],
//! [`super::diff`]).

mod entry;
pub(crate) mod files;
mod json;
mod line;
mod read;
mod squid;
#[cfg(test)]
mod tests;

pub use entry::{Entry, Stands, Text};
pub use read::{Malformed, Reader};
