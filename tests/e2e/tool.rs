//! Real programs: run to their end, or in the background until the test ends.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long one run of a program may take, in seconds: several times as long as the largest push.
const LIMIT: &str = "180";

/// A command for a program that sees nothing of our environment: no proxy variables, no user's `.gitconfig` or `.curlrc`.
/// Its home is `home`. `timeout` (coreutils) ends it and its children if it hangs.
pub(crate) fn tool(program: &str, home: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT, program]);
    isolate(&mut command, home);
    command
}

/// A program in the network of the test itself; [`crate::network::Network::command`] runs one in a separate network.
pub(crate) fn here(program: &str) -> Command {
    Command::new(program)
}

/// Removes our environment from a command.
pub(crate) fn isolate(command: &mut Command, home: &Path) {
    command.env_clear().stdin(Stdio::null()).env("HOME", home).env("LC_ALL", "C.UTF-8");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", home.join("gitconfig"));
    command.env("GIT_TERMINAL_PROMPT", "0");
    // Debian has the daemons in sbin, which is not in every user's PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
}

/// The exit code and the output of a program.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs it to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Its output; if it fails, the test fails.
    pub(crate) fn ok(command: &mut Command) -> String {
        let ran = Ran::of(command);
        assert_eq!(ran.code, Some(0), "{command:?}\n{}{}", ran.stdout, ran.stderr);
        ran.stdout
    }
}

/// A server that runs in the foreground; it ends with the test.
#[derive(Debug)]
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(command: &mut Command) -> Self {
        Daemon(
            command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}; tests/run installs what is needed")),
        )
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it is our child");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    pub(crate) fn assert_alive(&mut self) {
        if let Ok(Some(status)) = self.0.try_wait() {
            panic!("a server that the test started has ended: {status}");
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // TERM first: on TERM, nginx's master ends its workers.
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
