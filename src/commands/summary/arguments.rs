//! `egressd summary`: shows which clients reached which targets, on a terminal or as a page.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::commands::logs::files::read_all;
use crate::commands::summary::Summary as Added;
use crate::commands::{FAILED, FINE, say};
use crate::words::io_error::reason;

/// `summary`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Access logs, in JSON or in Squid's format, plain or packed with gzip; `-` is stdin.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Write one self-contained page with plots to this file, and print nothing.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Number of rows in each table.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = number)]
    top: usize,
}

fn number(text: &str) -> Result<usize, &'static str> {
    text.parse().map_err(|_| "write a number")
}

impl Arguments {
    pub(crate) fn run(&self) -> u8 {
        let mut added = Added::new();
        if let Err(error) = read_all(&self.logs, |entry| added.add(entry)) {
            eprintln!("egressd: {error}");
            return FAILED;
        }
        let Some(file) = &self.html else {
            say(added.to_text(self.top));
            return FINE;
        };
        let names: Vec<String> = self.logs.iter().map(|log| log.display().to_string()).collect();
        match std::fs::write(file, added.to_html(&names, Timestamp::now(), self.top)) {
            Ok(()) => FINE,
            Err(error) => {
                let error = match error.kind() {
                    io::ErrorKind::NotFound => "there is no such directory".to_owned(),
                    _ => reason(&error),
                };
                eprintln!("egressd: cannot write {}: {error}", file.display());
                FAILED
            }
        }
    }
}
