//! `egressd ca new`: the command line.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{earlier, make, permit, tell, write};
use crate::commands::{FAILED, FINE, WRONG_USAGE, say};

/// `ca`.
#[derive(clap::Args, Debug)]
pub(crate) struct Ca {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Make a root, and under it an authority for `inspection`. Both can sign for the permitted hosts alone.
    New(New),
}

#[derive(clap::Args, Debug)]
struct New {
    /// A host that may be inspected. Every name below it is permitted as well: certificates cannot say less (RFC 5280).
    #[arg(long, value_name = "HOST", required = true, num_args = 1..)]
    permit: Vec<String>,
    /// Directory for the files. It is made if it is not there; nothing in it is overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Leave the root without name constraints, so that it can be the root of authorities for other hosts. Anyone who
    /// gets its key can then sign for every name.
    #[arg(long)]
    open_root: bool,
    /// Days for which the authority is valid.
    #[arg(long, value_name = "DAYS", default_value_t = 730, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    /// Directory with the root.crt and root.key of an earlier `ca new`: only the authority is made, under that root, so that
    /// clients need no change.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["open_root", "root_days"])]
    root: Option<PathBuf>,
    /// Days for which the root is valid.
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u16).range(1..=10_950))]
    root_days: u16,
}

impl Ca {
    pub(crate) fn run(self) -> u8 {
        let What::New(new) = self.what;
        new.run()
    }
}

impl New {
    fn run(self) -> u8 {
        let hosts = match permit::hosts(&self.permit) {
            Ok(hosts) => hosts,
            Err(problems) => {
                problems.iter().for_each(|problem| eprintln!("egressd: {problem}"));
                return WRONG_USAGE;
            }
        };
        if self.days > self.root_days {
            eprintln!(
                "egressd: --days {} is more than --root-days {}: an authority ends with its root; write fewer",
                self.days, self.root_days
            );
            return WRONG_USAGE;
        }
        let now = Timestamp::now();
        let root =
            match self.root.as_deref().map(|root| earlier::read(root, &hosts, self.days, now)).transpose() {
                Ok(root) => root,
                Err(error) => {
                    eprintln!("egressd: {error}");
                    return FAILED;
                }
            };
        let terms = make::Terms {
            hosts: &hosts,
            open_root: self.open_root,
            days: self.days,
            root_days: self.root_days,
            root: root.as_ref(),
            now,
        };
        let made = make::make(&terms);
        match made.and_then(|made| write::write(&self.out, &made).map(|()| made)) {
            Ok(made) => {
                say(tell::next_steps(&terms, &made, &self.out));
                FINE
            }
            Err(error) => {
                eprintln!("egressd: {error}");
                FAILED
            }
        }
    }
}
