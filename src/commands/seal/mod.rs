//! `egressd seal new`: a pair of keys for sealing the access log. Not here: what is sealed with it ([`crate::telemetry`]), and how a
//! log is checked ([`super::verify`]).

use std::path::{Path, PathBuf};

use super::new_files::{self, PUBLIC, SECRET};
use super::{FAILED, FINE, say};
use crate::wire::seal::key::{PublicKey, SealKey};

/// The names of the files.
const KEY: &str = "seal.key";
const PUBLIC_KEY: &str = "seal.pub";

/// `seal`.
#[derive(clap::Args, Debug)]
pub(crate) struct Seal {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Make a pair of Ed25519 keys: one for egressd, and one for checking its logs.
    New(New),
}

#[derive(clap::Args, Debug)]
struct New {
    /// Directory for the files. It is made if it is not there; nothing in it is overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Seal {
    pub(crate) fn run(self) -> u8 {
        let What::New(New { out }) = self.what;
        match make(&out) {
            Ok(key) => {
                say(next_steps(key.public(), &out));
                FINE
            }
            Err(error) => {
                eprintln!("egressd: {error}");
                FAILED
            }
        }
    }
}

fn make(out: &Path) -> Result<SealKey, String> {
    let key = SealKey::generate()?;
    let (secret, public) = (key.to_pem()?, key.public().to_pem());
    new_files::write(out, &[(KEY, &secret, SECRET), (PUBLIC_KEY, &public, PUBLIC)])?;
    Ok(key)
}

/// What to do with the files. More is in docs/seals.md.
fn next_steps(public: &PublicKey, directory: &Path) -> String {
    // Absolute, as the steps may be carried out in another directory.
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let path = |name: &str| directory.join(name).display().to_string();
    format!(
        "A pair of keys for sealing the access log, with the fingerprint {}.\n\n\
         {}\n    goes to egressd and nowhere else: anyone who has it can write a log anew, and seal it.\n\
         {}\n    goes to those who check logs: `egressd verify LOG --key {PUBLIC_KEY}`. Nothing of it is secret.\n\n\
         Copy the first beside egressd.yaml, where its paths begin, and write there:\n\n\
         access_log:\n  seal: {{key: {KEY}}}\n\n\
         Sealing begins with a restart; for another key later, a reload is enough. Keep the old {PUBLIC_KEY}: old logs are checked\n\
         with it. docs/seals.md says more.\n",
        public.fingerprint(),
        path(KEY),
        path(PUBLIC_KEY),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_for_its_owner_alone_and_nothing_is_overwritten() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("keys");
        let made = make(&directory).expect("made");
        let mode =
            |name: &str| fs::metadata(directory.join(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(KEY), mode(PUBLIC_KEY)), (0o600, 0o644));
        let content = fs::read(directory.join(KEY)).expect("readable");
        assert_eq!(SealKey::from_pem(&content).as_ref(), Ok(&made));
        let error = make(&directory).expect_err("there already");
        assert!(error.contains("has seal.key, seal.pub already, and nothing is overwritten"), "{error}");
        assert_eq!(fs::read(directory.join(KEY)).expect("readable"), content);
    }

    #[test]
    fn what_is_told_names_both_files_and_is_yaml() {
        let key = SealKey::generate().expect("a key");
        let text = next_steps(key.public(), Path::new("/srv/keys"));
        for want in [
            "\n/srv/keys/seal.key\n    goes to egressd",
            "\n/srv/keys/seal.pub\n    goes to those",
            "\naccess_log:\n  seal: {key: seal.key}\n",
        ] {
            assert!(text.contains(want), "{want}\n{text}");
        }
        assert!(text.contains(key.public().fingerprint()) && !text.contains("PRIVATE"), "{text}");
    }
}
