//! Runs a client once, with a deadline, and reads from what it prints which way it went.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::kinds::Kind;
use crate::commands::env::Variable;
use crate::words::outcome::Reason;
use crate::words::target::PROBE;

/// The longest that one run may take. The JVM and npm start slowly on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
/// Most bytes of its output that are kept.
const MOST: usize = 64 << 10;

/// Which way a client went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// To egressd: it printed this reason.
    Refused(&'static str),
    /// To a proxy that answered this status.
    RefusedBy(&'static str),
    /// It looked the name up itself.
    Direct,
    /// It is set to a proxy that it cannot reach. The line says so.
    Unreachable(String),
    /// What it printed does not tell.
    Unclear(String),
    /// It did not end.
    Silent,
}

/// Runs the client. With `variables`, these stand in place of every variable about proxies that is set here.
pub(super) fn ask(kind: &Kind, variables: &[Variable]) -> io::Result<Way> {
    let here = scratch()?;
    let filled = |text: &str| text.replace("{probe}", PROBE).replace("{here}", &here.path);
    let mut command = Command::new(kind.program);
    command.args(kind.arguments.iter().map(|argument| filled(argument)));
    command.current_dir(&here.path).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command.envs(kind.environment.iter().map(|(name, value)| (*name, filled(value))));
    command.envs(variables.iter().map(|variable| (variable.name, &variable.value)));
    // Its own group, so that what it starts ends with it.
    let mut child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let printed = [read(child.stdout.take()), read(child.stderr.take())];
    let until = Instant::now() + DEADLINE;
    let in_time = wait(&child, until);
    end(&mut child);
    // What the client left behind has ended, too, so both pipes are at their end.
    let text: String =
        printed.iter().map(|pipe| pipe.recv_timeout(Duration::from_secs(5)).unwrap_or_default()).collect();
    Ok(if in_time { way(&text) } else { Way::Silent })
}

/// A directory that is removed with everything in it.
struct Scratch {
    path: String,
}

fn scratch() -> io::Result<Scratch> {
    let name = format!("egressd-doctor-{}", uuid::Uuid::now_v7());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path)?;
    let path = path.into_os_string().into_string().map_err(|_| io::Error::other("TMPDIR is not UTF-8"))?;
    Ok(Scratch { path })
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Go makes what it downloads read-only; nothing is downloaded here.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Reads a pipe to its end, and keeps its beginning.
fn read(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (done, text) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = (&mut pipe).take(MOST as u64).read_to_end(&mut kept);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        // Nobody waits any more if it is late.
        let _ = done.send(String::from_utf8_lossy(&kept).into_owned());
    });
    text
}

/// Whether it ends by then. It is not taken away yet, so that its number still means its group.
fn wait(child: &Child, until: Instant) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while Instant::now() < until {
        match group(child).map(|leader| waitid(WaitId::Pid(leader), options)) {
            Some(Ok(None)) => thread::sleep(Duration::from_millis(20)),
            Some(Ok(Some(_)) | Err(_)) | None => return true,
        }
    }
    false
}

fn group(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Ends the client and all that it started.
fn end(child: &mut Child) {
    if let Some(group) = group(child) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// What stands before a name that was looked up here, in lower case: of the target, or of a proxy that is not known.
const LOOKED_UP: &[&str] = &[
    "could not resolve host: ",
    "unable to resolve host address ",
    "temporary failure resolving ",
    "could not resolve '",
    "failed to resolve '",
    "enotfound ",
    "eai_again ",
    "unknownhostexception: ",
    // Of Go, whatever the answer was.
    "dial tcp: lookup ",
];

/// What tells that a name was looked up here, by clients that do not say which. Of the target it is the usual case.
const LOOKED_UP_UNNAMED: &[&str] = &[
    "name or service not known",
    "temporary failure in name resolution",
    "no address associated",
    "nodename nor servname",
    "unknownhostexception",
    "no such host",
    "server misbehaving",
];

/// What tells that a connection failed: of the probe nobody has an address, so it was one to a proxy.
const UNREACHABLE: &[&str] = &[
    "connection refused",
    "econnrefused",
    "failed to connect",
    "could not connect",
    "couldn't connect",
    "no route to host",
    "network is unreachable",
];

/// The reason of egressd, else the status of a proxy, else the cause of an error.
fn way(text: &str) -> Way {
    for reason in Reason::ALL {
        // As egressd writes it, because words such as `loop` stand in other messages.
        if text.contains(&format!("egressd: {}", reason.as_str())) {
            return Way::Refused(reason.as_str());
        }
    }
    let lower = text.to_ascii_lowercase();
    let line_of = |marks: &[&str]| {
        let has = |line: &&str| marks.iter().any(|mark| line.to_ascii_lowercase().contains(mark));
        text.lines().find(has).map(shown)
    };
    if let Some(line) = line_of(&["resolve proxy"]) {
        return Way::Unreachable(line);
    }
    for status in ["403", "407", "429", "502", "503", "504"] {
        if words(&lower).any(|word| word == status) {
            return Way::RefusedBy(status);
        }
    }
    // A tunnel that the proxy refused has its status in the same line.
    if let Some(line) = line_of(&["cannot connect to proxy"]) {
        return Way::Unreachable(line);
    }
    if let Some((line, name)) = text.lines().find_map(|line| Some((line, looked_up(line)?))) {
        return if name == PROBE { Way::Direct } else { Way::Unreachable(shown(line)) };
    }
    if LOOKED_UP_UNNAMED.iter().any(|mark| lower.contains(mark)) {
        return Way::Direct;
    }
    match line_of(UNREACHABLE) {
        Some(line) => Way::Unreachable(line),
        None => Way::Unclear(
            text.lines().rev().find(|line| !line.trim().is_empty()).map(shown).unwrap_or_default(),
        ),
    }
}

/// The name that was looked up here, in lower case, if the line says which.
fn looked_up(line: &str) -> Option<String> {
    let line = line.to_ascii_lowercase();
    let (_, after) = LOOKED_UP.iter().find_map(|mark| line.split_once(mark))?;
    let ends = |c: char| !c.is_ascii_alphanumeric() && !".-_".contains(c);
    // Some quote it.
    let name = after.trim_start_matches(ends).split(ends).next()?.trim_end_matches('.');
    (!name.is_empty()).then(|| name.to_owned())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
}

/// A line as a terminal may show it.
fn shown(line: &str) -> String {
    line.trim().chars().filter(|c| !c.is_control()).take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_print_tells_which_way_they_went() {
        let unreachable = |line: &str| Way::Unreachable(line.to_owned());
        let cases = [
            (
                "fatal: unable to access 'https://egressd-doctor.invalid/doctor.git/': CONNECT tunnel failed, response 403",
                Way::RefusedBy("403"),
            ),
            (
                "fatal: unable to access 'https://egressd-doctor.invalid/doctor.git/': Could not resolve host: egressd-doctor.invalid",
                Way::Direct,
            ),
            (
                "curl: (5) Could not resolve proxy: proxy.corp",
                unreachable("curl: (5) Could not resolve proxy: proxy.corp"),
            ),
            (
                "Proxy tunneling failed: egressd: host_not_allowedUnable to establish SSL connection.",
                Way::Refused("host_not_allowed"),
            ),
            ("wget: unable to resolve host address ‘egressd-doctor.invalid’", Way::Direct),
            ("OSError: Tunnel connection failed: 407 egressd: auth_required", Way::Refused("auth_required")),
            ("urllib.error.URLError: <urlopen error [Errno -2] Name or service not known>", Way::Direct),
            ("Error: getaddrinfo ENOTFOUND egressd-doctor.invalid", Way::Direct),
            ("Error: Proxy response (403) !== 200 when HTTP Tunneling", Way::RefusedBy("403")),
            (
                "Caused by: java.io.IOException: Unable to tunnel through proxy. Proxy returns \"HTTP/1.1 403 egressd: host_not_allowed\"",
                Way::Refused("host_not_allowed"),
            ),
            ("Caused by: java.net.UnknownHostException: egressd-doctor.invalid", Way::Direct),
            ("dial tcp: lookup egressd-doctor.invalid on 10.0.0.2:53: no such host", Way::Direct),
            (
                "dial tcp: lookup egressd-doctor.invalid on 127.0.0.1:53: read udp 127.0.0.1:40322->127.0.0.1:53: read: connection refused",
                Way::Direct,
            ),
            (
                "proxyconnect tcp: dial tcp: lookup proxy.corp on 10.0.0.2:53: no such host",
                unreachable("proxyconnect tcp: dial tcp: lookup proxy.corp on 10.0.0.2:53: no such host"),
            ),
            (
                "proxyconnect tcp: dial tcp 10.0.0.9:3128: connect: connection refused",
                unreachable("proxyconnect tcp: dial tcp 10.0.0.9:3128: connect: connection refused"),
            ),
            (
                "npm ERR! request to https://egressd-doctor.invalid/x failed, reason: getaddrinfo ENOTFOUND proxy.corp",
                unreachable(
                    "npm ERR! request to https://egressd-doctor.invalid/x failed, reason: getaddrinfo ENOTFOUND proxy.corp",
                ),
            ),
            (
                "java.net.UnknownHostException: proxy.corp",
                unreachable("java.net.UnknownHostException: proxy.corp"),
            ),
            ("getaddrinfo ENOTFOUND egressd-doctor.invalid.", Way::Direct),
            ("NameResolutionError: Failed to resolve 'egressd-doctor.invalid'", Way::Direct),
            (
                "ProxyError('Cannot connect to proxy.', NewConnectionError('[Errno -2] Name or service not known'))",
                unreachable(
                    "ProxyError('Cannot connect to proxy.', NewConnectionError('[Errno -2] Name or service not known'))",
                ),
            ),
            (
                "ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403 egressd: host_not_allowed'))",
                Way::Refused("host_not_allowed"),
            ),
            ("Err: Temporary failure resolving 'egressd-doctor.invalid'", Way::Direct),
            (
                "Err: Temporary failure resolving 'proxy.corp'",
                unreachable("Err: Temporary failure resolving 'proxy.corp'"),
            ),
            (
                "wget: unable to resolve host address ‘proxy.corp’",
                unreachable("wget: unable to resolve host address ‘proxy.corp’"),
            ),
            (
                "curl: (7) Failed to connect to proxy.corp port 3128",
                unreachable("curl: (7) Failed to connect to proxy.corp port 3128"),
            ),
            ("an error on port 40322\n\n", Way::Unclear("an error on port 40322".to_owned())),
            ("", Way::Unclear(String::new())),
        ];
        for (text, want) in cases {
            assert_eq!(way(text), want, "{text}");
        }
    }

    #[test]
    fn a_client_that_does_not_end_is_ended_with_what_it_started() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 600 & echo $!; exec sleep 600"])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let printed = read(child.stdout.take());
        assert!(!wait(&child, Instant::now() + Duration::from_millis(200)));
        end(&mut child);
        // The pipe is at its end only when nobody holds it.
        assert!(printed.recv_timeout(DEADLINE).is_ok_and(|text| text.trim().parse::<i32>().is_ok()));
    }
}
