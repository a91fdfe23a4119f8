//! Squid itself, as the oracle of the import.

use std::path::Path;
use std::process::Command;

use crate::network::is_user;
use crate::support::until;
use crate::tool::{Daemon, isolate};

/// Starts Squid with `squid.conf` of this directory, which names `cache.log` there as its log. Squid switches to the user `proxy`,
/// who must be able to write in the directory. None: Squid refuses the configuration.
pub(crate) fn start(launch: &impl Fn(&str) -> Command, directory: &Path, service: &str) -> Option<Daemon> {
    let mut squid = match is_user() {
        false => launch("squid"),
        // In the test's namespace only root exists, so there is no user that Squid could switch to, which it insists on.
        // So Squid is started as another user from the beginning.
        true => {
            let mut unshare = launch("unshare");
            unshare.args(["--user", "--map-user=13", "--map-group=13", "squid"]);
            unshare
        }
    };
    isolate(&mut squid, directory);
    // Squid names its shared memory after the service: only letters and digits.
    squid.args(["-n", service, "-N", "-f"]).arg(directory.join("squid.conf"));
    // What it has to say is in its log too.
    squid.stderr(std::process::Stdio::null());
    let mut squid = Daemon::start(&mut squid);
    let listens = until("Squid to listen, or to end", || {
        if squid.has_ended() {
            return Some(false);
        }
        let log = std::fs::read_to_string(directory.join("cache.log")).unwrap_or_default();
        log.contains("Accepting HTTP Socket connections").then_some(true)
    });
    listens.then_some(squid)
}
