//! Reads access logs back: any number of lines, in memory that does not grow with them.
//!
//! A line is one JSON object as [`crate::telemetry::record`] writes it, with its members in any order and possibly others
//! among them; the same in the words of ECS or OCSF ([`schemas`]); or a line of Squid, in its native format or in that of the deployment that egressd replaces ([`squid`]), so
//! that a log from before the migration can be read. A line that is neither is never an error, because logs are rotated,
//! cut and mixed. Such lines are counted, and the numbers of the first ones are kept. Logs packed with gzip need not be
//! unpacked first, and what a container runtime or a log router put around a line is taken off ([`wrapped`]). The seals of a
//! sealed log are no records ([`super::verify`] reads them).
//!
//! Everything in a line may come from an untrusted client: an [`Entry`] gives text as it is in the line, and
//! [`Text::decoded`] contains whatever characters the client sent. Not here: what the entries are used for
//! ([`super::suggest`], [`super::summary`], [`super::diff`]).

mod entry;
pub(crate) mod files;
mod json;
mod line;
mod lines;
mod read;
mod recognised;
#[cfg(test)]
pub(in crate::commands) mod respelled;
mod schemas;
mod squid;
#[cfg(test)]
mod tests;
mod wrapped;

pub use entry::{Entry, Stands, Text};
pub(super) use json::seconds;
pub(super) use lines::{End, lines};
pub use read::{Malformed, Reader};
pub use recognised::LoggedGit;
pub(super) use wrapped::{DEEPEST, WRAPPERS, inside, is_stderr, object, of_stream};
