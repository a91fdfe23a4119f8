//! `egressd suggest`: prints the shortest exact allowlist that would have allowed the recorded requests.

use std::path::PathBuf;

use crate::commands::logs::files::read_all;
use crate::commands::suggest::Suggestion;
use crate::commands::{FAILED, FINE, say};

/// `suggest`.
#[derive(clap::Args, Debug)]
pub(crate) struct Suggest {
    /// Access logs, in JSON or in Squid's format, plain or packed with gzip; `-` is stdin.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Leave out denied targets: any client may have chosen their names.
    #[arg(long)]
    without_denied: bool,
    /// Round clients up: those of a /24 (IPv6: of a /64) share a list, and the policy is for the whole network.
    #[arg(long)]
    networks: bool,
}

impl Suggest {
    pub(crate) fn run(&self) -> u8 {
        let mut suggestion = Suggestion::new(self.networks);
        if let Err(error) = read_all(&self.logs, |entry| suggestion.add(entry)) {
            eprintln!("egressd: {error}");
            return FAILED;
        }
        say(suggestion.to_yaml(!self.without_denied));
        FINE
    }
}
