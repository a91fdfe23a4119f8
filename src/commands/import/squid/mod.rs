//! `egressd import squid`: a Squid configuration, as an egressd one whose rules are never wider.
//!
//! ```text
//! files, configmap → lexer → lines → acl → access (first match) → table → rules (policies)
//!                                 → settings (everything else)              → emit → checked by `config`
//! ```
//!
//! What cannot be said in egressd's terms fails closed and is told, with the line that it came from; so is what is
//! carried over and means something else now; what Squid kept back by other means than `http_access`, and passes now, is told
//! as wider. A configuration that is not whole is refused, because what is missing may deny. Pure but for the reading of files. Not here: moving the service over
//! (docs/squid.md).

mod access;
mod acl;
mod classes;
mod configmap;
#[path = "../draft/emit.rs"]
mod emit;
mod files;
mod hosts;
mod lexer;
mod ports;
mod regex;
mod rules;
mod settings;
mod table;

use std::path::Path;

pub use self::files::Files;
pub use crate::commands::import::notes::{Kind, Note};
use crate::commands::import::notes::{Notes, Place};
use crate::config::{self, Finding, Severity};

/// Things that egressd's own reader refuses of what was carried over are left out one by one, so many at the most.
const LEFT_OUT: usize = 512;

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
    /// An included file that is not there is taken for an empty one.
    pub skip_missing: bool,
}

/// Translates the Squid configuration `main` of `files`.
///
/// # Errors
/// One sentence: `main` cannot be read, the configuration is not whole or too long, or what came out is refused by egressd's own reader, which is a fault of the
/// import.
pub fn squid(files: &Files, main: &str, choices: Choices) -> Result<Imported, String> {
    let mut notes = Notes::default();
    let lines = lexer::read(files, main, choices, &mut notes)?;
    let mut settings = settings::read(&lines, files, &mut notes);
    let acls = acl::read(&lines, files, &mut notes);
    let access = access::read(&lines, &acls, &mut notes);
    let mut policies = rules::policies(&access, &settings.users, files, &mut notes);
    settings.admit(&policies);
    if let Some(parent) = settings.parent.as_ref().filter(|_| policies.deny_networks()) {
        notes.tell(
            &parent.place,
            Kind::Wider,
            "Squid looked names up and denied by where they lead (`dst`): through the parent a name that leads there passes",
        );
    }
    if choices.report {
        settings.log_all(&mut notes);
    }
    // What the running program does not take is left out, one thing after the other, and told.
    for _ in 0..LEFT_OUT {
        let draft = emit::yaml(main, &settings, &policies, choices);
        let loaded = config::load_str(OUTPUT, &draft.text, |path| files.read_written(path));
        let (findings, refused) = match loaded {
            Ok(loaded) => (loaded.warnings, false),
            Err(findings) => (findings, true),
        };
        if !refused {
            advise(&findings, &draft, &mut notes);
            return Ok(Imported { yaml: draft.text, notes: notes.finish() });
        }
        let error = findings.iter().find(|finding| finding.severity == Severity::Error);
        let Some(error) = error else { break };
        if !settings.leave_out(error, &draft, &mut notes)
            && !rules::leave_out(&mut policies, error, &draft, &mut notes)
        {
            return Err(format!("what came out is refused, which is a fault of the import: {error}"));
        }
    }
    Err("what came out is refused, which is a fault of the import".to_owned())
}

/// The name under which the result is checked.
const OUTPUT: &str = "egressd.yaml";

/// The lint's advice on what was carried over, at the line of Squid's configuration where there is one.
fn advise(warnings: &[Finding], draft: &emit::Draft, notes: &mut Notes) {
    for warning in warnings {
        // Told in other words, or meant.
        if warning.text.starts_with("`policies` is empty")
            || warning.text.ends_with("allows nothing: it denies every request")
        {
            continue;
        }
        let place = if Path::new(&*warning.file) == Path::new(OUTPUT) {
            match draft.origin(warning.line) {
                Some(place) => place.clone(),
                None => Place { file: OUTPUT.into(), line: warning.line },
            }
        } else {
            Place { file: warning.file.clone(), line: warning.line }
        };
        notes.tell(&place, Kind::Advice, warning.text.clone());
    }
}
