//! `egressd import squid`: a Squid configuration, as an egressd one on stdout; what is lost or different on stderr.

use std::io::{self, Read};
use std::path::PathBuf;

use crate::commands::import::squid::{self, Choices, Files};
use crate::commands::{FAILED, FINE, say};

/// At most so much is read from stdin: a Kubernetes object is under 2 MiB.
const MAX_STDIN: u64 = 64 << 20;

/// `import`.
#[derive(clap::Args, Debug)]
pub(crate) struct Import {
    #[command(subcommand)]
    from: From,
}

#[derive(clap::Subcommand, Debug)]
enum From {
    /// A squid.conf with the files that it names, or ConfigMaps.
    Squid(Squid),
}

#[derive(clap::Args, Debug)]
struct Squid {
    /// squid.conf; `-` reads from stdin ConfigMaps as `kubectl get cm NAME… -o yaml` prints them.
    #[arg(value_name = "SQUID.CONF")]
    file: String,
    /// Directory into which the files were copied: absolute paths are looked up below it.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Give every policy `mode: report`: let everything through, and log in JSON what it would deny.
    #[arg(long)]
    report: bool,
    /// Treat missing included files as empty: what they would deny is then allowed.
    #[arg(long)]
    skip_missing: bool,
}

impl Import {
    pub(crate) fn run(self) -> u8 {
        let From::Squid(squid) = self.from;
        match squid.import() {
            Ok(imported) => {
                imported.notes.iter().for_each(|note| eprintln!("{note}"));
                say(imported.yaml);
                FINE
            }
            Err(error) => {
                eprintln!("egressd: {error}");
                FAILED
            }
        }
    }
}

impl Squid {
    fn import(self) -> Result<squid::Imported, String> {
        let choices = Choices { report: self.report, skip_missing: self.skip_missing };
        if self.file != "-" {
            return squid::squid(&Files::on_disk(self.root), &self.file, choices);
        }
        let mut yaml = String::new();
        io::stdin()
            .lock()
            .take(MAX_STDIN)
            .read_to_string(&mut yaml)
            .map_err(|error| format!("cannot read stdin: {error}"))?;
        let (files, main) = Files::in_config_maps(&yaml)?;
        squid::squid(&files, &main, choices)
    }
}
