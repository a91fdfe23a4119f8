//! `egressd import squid`: a Squid configuration, as an egressd one whose rules are never wider.
//!
//! ```text
//! files, configmap → lexer → lines → acl → access (first match) → table → rules (policies)
//!                                 → settings (everything else)              → draft → emit → checked by `config`
//! ```
//!
//! What egressd cannot express fails closed and is told, with its line. What is carried over but means something else now
//! is told too. What Squid kept back by other means than `http_access`, and passes now, is told as wider. A configuration
//! that is not whole is refused, because the missing part may deny. Only [`Files`] touches the disk. Not here: moving the service
//! over (docs/squid.md).

mod access;
mod acl;
mod addresses;
mod asked;
mod bump;
mod classes;
mod configmap;
mod doors;
mod files;
mod hosts;
mod lexer;
mod list;
mod list_lines;
mod ports;
mod quotes;
mod redirected;
mod regex;
mod routes;
mod rules;
mod settings;
mod table;
mod telling;
mod truth;
mod unsaid;
mod why;

pub use self::files::Files;
use crate::commands::import::draft::{self, Draft, Setting};
use crate::commands::import::notes::Notes;
pub use crate::commands::import::notes::{Note, NoteKind};

/// What came of a Squid configuration.
#[derive(Debug)]
pub struct Imported {
    /// An egressd.yaml that `egressd check` takes.
    pub yaml: String,
    /// What is lost or different now; by file and line.
    pub notes: Vec<Note>,
}

/// How the policies are to begin.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Choices {
    /// With `mode: report`: let through and log what they would deny.
    pub report: bool,
    /// A missing included file is treated as empty.
    pub skip_missing: bool,
}

/// Translates the Squid configuration `main` of `files`.
///
/// # Errors
/// One sentence: `main` cannot be read, the configuration is not whole or too long, or egressd's own reader refuses the
/// result, which is a fault of the import.
pub fn squid(files: &Files, main: &str, choices: Choices) -> Result<Imported, String> {
    let mut notes = Notes::default();
    let lines = lexer::read(files, main, choices.skip_missing, &mut notes)?;
    if !lines.iter().any(|line| settings::is_known(&line.name)) {
        return Err(format!(
            "{main} has no directive of Squid's, such as `http_access`: name a squid.conf, or `-` for ConfigMaps on stdin"
        ));
    }
    let mut draft = Draft::new(format!("`egressd import squid` from {main}"), choices.report);
    let acls = acl::read(&lines, files, &mut notes);
    let (users, doors) = settings::read(&lines, &acls, files, &mut draft, &mut notes);
    let mut access = access::read(main, &lines, &acls, &mut notes);
    access.unasked = !draft.asks_passwords();
    access.doors = doors;
    access.routes.has_parent = draft.get(Setting::UpstreamProxy).is_some();
    let (policies, lists) = rules::policies(&access, &users, files, choices.report, &mut notes);
    if !access.blockers().is_empty() {
        let open = access.without_blockers();
        let (others, _) = rules::policies(&open, &users, files, choices.report, &mut Notes::default());
        rules::held_back(&access, &policies, others, &mut draft, &mut notes);
    }
    draft.policies = policies;
    settings::all_but_some_direct(&mut draft, files, &mut notes);
    settings::fit_to_policies(&mut draft, access.connections.as_ref(), &mut notes);
    let passwords = draft.get(Setting::UsersFile).map(|file| std::path::PathBuf::from(&file.text));
    let refused = draft.refused_users.clone();
    let read = |path: &std::path::Path| {
        let content = files.read_written(path)?;
        Ok(match &passwords {
            Some(users) if *users == *path => settings::without_lines(&content, &refused),
            _ => lists.without_leaving(path, content),
        })
    };
    let yaml = draft::check(draft, read, &mut notes)?;
    unsaid::tell(&lines, &access, &yaml, &mut notes);
    Ok(Imported { yaml, notes: notes.finish() })
}
