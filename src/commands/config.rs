//! `egressd config`: prints the built-in configuration or the schema.

use clap::ValueEnum;

use super::{FINE, say};
use crate::config;

/// `config default`, `config schema`.
#[derive(clap::Args, Debug)]
pub(super) struct Show {
    /// What to print.
    what: What,
}

#[derive(ValueEnum, Clone, Debug)]
enum What {
    /// The configuration that egressd uses without a file.
    Default,
    /// The JSON Schema of the configuration file, for editors and CI.
    Schema,
}

impl Show {
    pub(super) fn run(&self) -> u8 {
        match self.what {
            What::Default => say(format_args!("{}", config::DEFAULT)),
            What::Schema => say(format_args!("{:#}\n", config::schema())),
        }
        FINE
    }
}
