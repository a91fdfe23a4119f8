//! The list of commands with which the body of a push begins (`gitprotocol-pack`, "Pushing Data To a Server").
//!
//! ```text
//! *shallow  OLD SP NEW SP REF NUL CAPABILITIES  *(OLD SP NEW SP REF)  flush  [*OPTION flush]  PACK…
//! ```
//!
//! Git's own server is laxer: it ends the list at any special line, reads capabilities on any line, takes ids in upper case,
//! spaces in a ref's name, `shallow` among the commands, and commands from a push certificate. All of that is refused, so that
//! there is one reading. Nothing of the list may go on before the whole of it is read.

use std::collections::HashSet;

use thiserror::Error;

use super::capabilities::Capabilities;
use super::pkt_line::{self, Packet, PacketError, chomped};
use crate::words::git::{ObjectFormat, ObjectId, RefChange, RefName, RefNameError};

/// The most refs that one push changes: what CodeCommit takes.
pub const MAX_CHANGES: usize = 4_000;
/// The most bytes of commands and options together, their lengths included.
pub const MAX_LIST: usize = 1 << 20;

/// The most push options: more than hooks know.
pub const MAX_OPTIONS: usize = 256;
/// The most bytes of all options together: they are free text to the server, such as the description of a merge request.
pub const MAX_OPTION_BYTES: usize = 16 * 1024;

/// Reads the list from the beginning of a body. What it makes of it is at most 128 bytes a command beside the names, and so
/// less than 2 MiB in all.
#[derive(Debug, Default)]
pub struct PushReader {
    /// How many bytes are read.
    at: usize,
    stage: Stage,
    /// How long the ids of `shallow` lines are. They come before the command that says how long ids are.
    shallow: Option<ObjectFormat>,
    list: PushList,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Stage {
    /// Nothing but `shallow` lines so far.
    #[default]
    Shallow,
    Commands,
    Options,
    Done,
}

/// What a push asks for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PushList {
    /// The changes, in their order, each ref once.
    pub changes: Vec<RefChange>,
    /// What the client can do.
    pub capabilities: Capabilities,
    /// What is passed to the server's hooks (`git push -o`).
    pub options: Vec<Box<str>>,
    /// How many commits the client has without their parents.
    pub shallow: usize,
    /// The number of bytes of the list; what follows it is the pack.
    pub length: usize,
}

/// How far a list is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More bytes are needed: this is no failure, unless the body ends here.
    NeedMore,
    /// The list is whole.
    Done,
}

/// What comes after the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// The end of the body: a list without commands is the probe, `0000`, by which git finds out whether it may send more.
    End,
    /// Nothing, or a pack that the server does not read: refs are only deleted.
    Ignored,
    /// A pack.
    Pack,
}

/// Why a list is refused. Quotes nothing from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ListError {
    /// Not a line.
    #[error("{0}")]
    Packet(#[from] PacketError),
    /// A special line that is not a flush.
    #[error("a list of commands that does not end with a flush")]
    NotFlush,
    /// Not `OLD NEW REF`, in lower case.
    #[error("a command that is not two ids and a ref")]
    Command,
    /// The ref.
    #[error("a ref with {0}")]
    Ref(RefNameError),
    /// Both ids are zero.
    #[error("a command that neither creates nor deletes: both ids are zero")]
    NoChange,
    /// A ref twice: git applies one of the commands.
    #[error("a ref that is named twice")]
    Twice,
    /// A NUL anywhere but once on the first command.
    #[error("a NUL that is not on the first command alone")]
    Nul,
    /// Capabilities.
    #[error("{0}")]
    Capabilities(&'static str),
    /// A signed push.
    #[error("a push certificate, which is not supported: push without --signed")]
    Certificate,
    /// A `shallow` line that is none, or after a command.
    #[error("a `shallow` line that is not before the commands with one id")]
    Shallow,
    /// An option with a character that options do not have.
    #[error("a push option that is empty or not text in one line")]
    Option,
    /// More than [`MAX_OPTIONS`], or than [`MAX_OPTION_BYTES`].
    #[error("more than 256 push options, or more than 16 KiB of them")]
    TooManyOptions,
    /// More than [`MAX_CHANGES`].
    #[error("more than 4,000 refs in one push")]
    TooMany,
    /// More than [`MAX_LIST`].
    #[error("a list of commands of more than 1 MiB")]
    TooLong,
}

impl PushReader {
    /// A reader of one body.
    pub fn new() -> Self {
        PushReader::default()
    }

    /// Reads on. `body` is all of the body that is there so far, from its first byte; what was read before is not read again.
    /// The caller holds it, at most [`MAX_LIST`] bytes and what came in with the last of them.
    ///
    /// # Errors
    /// See [`ListError`]. The push is refused then; [`PushReader::list`] still says what was read.
    pub fn read(&mut self, body: &[u8]) -> Result<Progress, ListError> {
        while self.stage != Stage::Done {
            let rest = body.get(self.at..).unwrap_or_default();
            let Some((packet, length)) = pkt_line::next(rest)? else {
                // A line that cannot end within the bound is refused before it is whole.
                return if self.at + rest.len() > MAX_LIST {
                    Err(ListError::TooLong)
                } else {
                    Ok(Progress::NeedMore)
                };
            };
            if self.at + length > MAX_LIST {
                return Err(ListError::TooLong);
            }
            self.line(packet)?;
            self.at += length;
        }
        self.list.length = self.at;
        Ok(Progress::Done)
    }

    /// What was read. All of it once [`Progress::Done`] was returned.
    pub fn list(&self) -> &PushList {
        &self.list
    }

    /// What was read.
    pub fn into_list(self) -> PushList {
        self.list
    }

    fn line(&mut self, packet: Packet<'_>) -> Result<(), ListError> {
        let line = match packet {
            Packet::Data(line) => line,
            Packet::Flush => return self.flush(),
            Packet::Delimiter | Packet::ResponseEnd => return Err(ListError::NotFlush),
        };
        match self.stage {
            Stage::Options => self.option(line),
            Stage::Shallow | Stage::Commands => self.command_or_shallow(line),
            Stage::Done => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), ListError> {
        let options_follow = self.list.capabilities.push_options && !self.list.changes.is_empty();
        self.stage = match self.stage {
            Stage::Shallow | Stage::Commands if options_follow => Stage::Options,
            _ => Stage::Done,
        };
        if self.stage == Stage::Options {
            return Ok(());
        }
        // One pass at the end: a set that grew with the list would hold every name twice.
        let mut names = HashSet::with_capacity(self.list.changes.len());
        if self.list.changes.iter().all(|change| names.insert(change.name.as_str())) {
            Ok(())
        } else {
            Err(ListError::Twice)
        }
    }

    fn command_or_shallow(&mut self, line: &[u8]) -> Result<(), ListError> {
        if let Some(id) = chomped(line).strip_prefix(b"shallow ") {
            let mut formats = [ObjectFormat::Sha1, ObjectFormat::Sha256].into_iter();
            let format = formats.find(|format| matches!(ObjectId::read(id, *format), Some(Some(_))));
            if self.stage == Stage::Commands
                || format.is_none()
                || !self.shallow.is_none_or(|s| Some(s) == format)
            {
                return Err(ListError::Shallow);
            }
            self.shallow = format;
            self.list.shallow += 1;
            return Ok(());
        }
        let first = self.stage == Stage::Shallow;
        self.stage = Stage::Commands;
        let line = chomped(line);
        let mut parts = line.splitn(2, |byte| *byte == 0);
        let (command, words) = (parts.next().unwrap_or_default(), parts.next());
        if command == b"push-cert" {
            return Err(ListError::Certificate);
        }
        match words {
            Some(_) if !first => return Err(ListError::Nul),
            Some(words) if words.contains(&0) => return Err(ListError::Nul),
            Some(words) => {
                self.list.capabilities = Capabilities::read(words).map_err(ListError::Capabilities)?
            }
            None => {}
        }
        if self.shallow.is_some_and(|format| format != self.list.capabilities.format) {
            return Err(ListError::Shallow);
        }
        if self.list.changes.len() == MAX_CHANGES {
            return Err(ListError::TooMany);
        }
        self.list.changes.push(change(command, self.list.capabilities.format)?);
        Ok(())
    }

    fn option(&mut self, line: &[u8]) -> Result<(), ListError> {
        let option = std::str::from_utf8(chomped(line)).map_err(|_| ListError::Option)?;
        if option.is_empty() || option.contains(char::is_control) {
            return Err(ListError::Option);
        }
        let bytes = self.list.options.iter().map(|option| option.len()).sum::<usize>() + option.len();
        if self.list.options.len() == MAX_OPTIONS || bytes > MAX_OPTION_BYTES {
            return Err(ListError::TooManyOptions);
        }
        self.list.options.push(option.into());
        Ok(())
    }
}

impl PushList {
    /// What comes after it.
    pub fn after(&self) -> After {
        if self.changes.is_empty() {
            return After::End;
        }
        if self.changes.iter().all(|change| change.new_id().is_none()) { After::Ignored } else { After::Pack }
    }
}

fn change(command: &[u8], format: ObjectFormat) -> Result<RefChange, ListError> {
    let digits = format.digits();
    let id = |at: usize| {
        let id = ObjectId::read(command.get(at..at + digits)?, format)?;
        (command.get(at + digits) == Some(&b' ')).then_some(id)
    };
    let (Some(old), Some(new)) = (id(0), id(digits + 1)) else { return Err(ListError::Command) };
    let name = command.get(2 * (digits + 1)..).unwrap_or_default();
    let name = RefName::new(name).map_err(ListError::Ref)?;
    RefChange::new(name, old, new).ok_or(ListError::NoChange)
}

#[cfg(test)]
mod tests;
