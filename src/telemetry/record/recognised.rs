//! What a record says that a request asked of Git, and by whose credentials it came to AWS: objects of their own in the line.

use super::super::json::Object;
use super::sealed::PLACE_BYTES;
use super::table::LINE_BOUND;
use super::table::{ID, PLAIN};
use crate::words::aws::{AccessKeyId, Account, Regions};
use crate::words::git::{Operation, RefChange};

/// What a request asked of a Git repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoggedGit<'a> {
    /// What was asked for, as far as it is known.
    pub operation: Option<Operation>,
    /// Of what.
    pub repository: &'a str,
    /// What a push changes, as far as it could be read.
    pub changes: &'a [RefChange],
    /// What a fetch said.
    pub negotiated: Option<Negotiated>,
    /// What a push said beside its changes.
    pub options: Option<PushOptions>,
}

/// How much the options of a push say, which are free text to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PushOptions {
    /// How many there are.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// How much a fetch said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// Objects and refs that it wants.
    pub wants: usize,
    /// Objects that it has.
    pub haves: usize,
    /// Bytes of its body, inflated.
    pub bytes: usize,
}

/// By whose credentials a request came to AWS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoggedAws<'a> {
    /// The account, if the key or the rule tells.
    pub account: Option<Account>,
    /// The id of the key; none for Git credentials.
    pub access_key: Option<AccessKeyId>,
    /// The service that they are for.
    pub service: &'a str,
    /// The region, or the regions with commas between them.
    pub regions: &'a Regions,
}

/// Room for what follows in the line: the names of all that may be cut, and the place in a sealed log.
const AFTER: usize = 512 + PLACE_BYTES;

/// Most bytes of a repository, of the name of a ref, and of regions, as written.
const REPOSITORY: usize = 1024;
const REF: usize = 512;
const SERVICE: usize = 64;
const REGIONS: usize = 256;

impl LoggedGit<'_> {
    /// Writes it as the member of this name. Refs that do not fit are left out, and the member is named in `cut`: there is room for
    /// `longest` bytes at least, and for more where the rest of the line is short.
    pub(super) fn write_json(&self, line: &mut Object<'_>, name: &'static str, longest: usize) {
        // What follows: the name of this member, the end of the line, and what `cut` names.
        let room = LINE_BOUND.saturating_sub(line.line_length() + AFTER).max(longest);
        let number = |count: usize| Some(count as u64);
        line.object(name, |git| {
            git.word("operation", self.operation.map(Operation::as_str));
            git.shown("repository", Some(self.repository), REPOSITORY);
            match self.negotiated {
                Some(Negotiated { wants, haves, bytes }) => {
                    git.number("wants", number(wants));
                    git.number("haves", number(haves));
                    git.number("negotiated", number(bytes));
                }
                None => ["wants", "haves", "negotiated"].into_iter().for_each(|name| git.null(name)),
            }
            let options = self.options;
            git.number("push_options", options.and_then(|options| number(options.count)));
            git.number("push_option_bytes", options.and_then(|options| number(options.bytes)));
            git.number("ref_count", number(self.changes.len()));
            git.objects("refs", room, self.changes, |to, change| {
                to.shown("name", Some(change.name.as_str()), REF);
                to.word("change", Some(change.change().as_str()));
                to.shown("old", change.old(), ID);
                to.shown("new", change.new_id(), ID);
            });
        });
    }
}

impl LoggedAws<'_> {
    /// Writes it as the member of this name.
    pub(super) fn write_json(&self, line: &mut Object<'_>, name: &'static str, _longest: usize) {
        let region = (*self.regions != Regions::Unknown).then_some(self.regions);
        line.object(name, |aws| {
            aws.shown("account", self.account, PLAIN);
            aws.shown("access_key", self.access_key, PLAIN);
            aws.shown("service", Some(self.service), SERVICE);
            aws.shown("region", region, REGIONS);
        });
    }
}
