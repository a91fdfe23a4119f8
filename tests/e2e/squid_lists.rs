//! Every kind of line in a list of hosts, asked of a real Squid, of the configuration that is imported from it, and of the file
//! itself as an allow file: the import gives Squid's verdicts, and `check` warns where the file alone would be wider.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use egressd::commands::import::squid::{self, Choices, Files};
use egressd::config::{self, Config};
use egressd::words::client::Client;
use egressd::words::target::Target;
use tempfile::TempDir;

use crate::doctor::free_address;
use crate::support::{Wire, directory, until, write};
use crate::tool::{Daemon, isolate};

/// How a line compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    /// Both programs read it alike.
    Alike,
    /// Squid matches nothing by it, and as an allow file it is a rule; `check` warns.
    Warned,
    /// The same, by what egressd alone knows how to write: `check` has nothing to say.
    Own,
    /// egressd refuses it.
    Refused,
}

use Line::{Alike, Own, Refused, Warned};

/// The content of a file, in which `X` and `Y` are names that no other row has and `9` is the last byte of an address; and how it
/// compares.
const ROWS: &[(&str, Line)] = &[
    (".X\n", Alike),
    ("X\n", Alike),
    ("X", Alike),
    (" X \n\tY\t\n", Alike),
    ("X\r\nY\r\n", Alike),
    ("X #Y\n", Alike),
    ("X\t# a Y\nY\n", Alike),
    ("X # c\r\nY\r\n", Alike),
    ("#X\n #Y\n", Alike),
    ("\u{feff}# c\nY\n", Alike),
    ("_X\n", Alike),
    ("a_b.X\n", Alike),
    (".X\n.Y\n", Alike),
    ("203.0.113.9\n", Alike),
    ("[2001:db8::9]\n", Alike),
    ("[2001:DB8::9]\n", Alike),
    (".UPPER.X\n", Alike),
    ("X.\n", Warned),
    (".X.\n", Warned),
    ("Y\n.X.\n", Warned),
    ("X#off\n", Warned),
    (".X#\n", Warned),
    ("X#off # c\nY\n", Warned),
    ("\u{feff}X\nY\n", Warned),
    ("*.X\n", Own),
    ("a*.X\n", Own),
    ("https://X\n", Own),
    ("http://X:80\n", Own),
    ("X:443\n", Own),
    ("203.0.113.9/32\n", Own),
    ("203.0.113.8/29\n", Own),
    ("[2001:db8:0::9]\n", Own),
    ("b\u{fc}cher.X\n", Own),
    ("X Y\n", Refused),
    ("X Y # c\nY\n", Refused),
    ("X,Y\n", Refused),
    ("X;Y\n", Refused),
    ("-i X\n", Refused),
    ("-i\nX\n", Refused),
    ("-n\nX\n", Refused),
    ("\"X\"\nY\n", Refused),
    ("'X'\nY\n", Refused),
    ("..X\n", Refused),
    (".\nX\n", Refused),
    ("*\nX\n", Refused),
    ("http://X/\nY\n", Refused),
    ("X/\n", Refused),
    ("X\\\nY\n", Refused),
    ("2001:db8::9\n", Refused),
    ("X\u{b}Y\n", Refused),
    ("\u{a0}X\nY\n", Refused),
    ("X\0Y\nY\n", Refused),
    ("include X\nY\n", Refused),
];

/// A text of a row, with its own names.
fn own(text: &str, row: usize) -> String {
    text.replace('X', &format!("x{row}.test"))
        .replace('Y', &format!("y{row}.test"))
        .replace("UPPER", "UPPER.EXAMPLE")
        .replace("113.9", &format!("113.{}", row + 1))
        .replace("113.8/29", &format!("113.{}/32", row + 1))
        .replace("::9]", &format!("::{}]", row + 1))
        .replace("::9\n", &format!("::{}\n", row + 1))
}

/// What a row's lines could match.
fn hosts(row: usize) -> Vec<String> {
    let names = [
        "X",
        "a.X",
        "ab.X",
        "_X",
        "a_b.X",
        "upper.example.X",
        "Y",
        "a.Y",
        "off.X",
        "xn--bcher-kva.X",
        "203.0.113.9",
        "[2001:db8::9]",
    ];
    names.iter().map(|name| own(name, row)).collect()
}

#[test]
fn the_import_of_every_kind_of_line_gives_squids_verdicts() {
    let home = directory();
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    let mut conf = String::new();
    for (row, (content, _)) in ROWS.iter().enumerate() {
        let list = home.path().join(format!("list{row}"));
        write(&list, own(content, row));
        std::fs::set_permissions(&list, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("ours");
        conf += &format!("acl r{row} dstdomain -n \"{}\"\nhttp_access allow r{row}\n", list.display());
    }
    conf += "http_access deny all\n";
    let squid = Squid::start(&home, &conf);
    write(&home.path().join("imported.conf"), &conf);
    let imported = squid::squid(
        &Files::on_disk(None),
        &home.path().join("imported.conf").display().to_string(),
        Choices::default(),
    )
    .expect("imported");
    let read = |path: &Path| std::fs::read(path);
    let config = config::load_str("egressd.yaml", &imported.yaml, read).expect("it was checked").config;
    let (mut passed, mut asked) = (0, 0);
    for (row, (content, line)) in ROWS.iter().enumerate() {
        let told = as_allow_file(&home.path().join(format!("list{row}")));
        match line {
            Refused => assert!(told.is_err(), "{content:?}"),
            _ => assert_eq!(told, Ok(*line == Warned), "{content:?}"),
        }
        for host in hosts(row) {
            for connect in [true, false] {
                let by_squid = squid.allows(&host, connect);
                let by_us = allows(&config, &host, connect);
                assert_eq!(
                    by_us, by_squid,
                    "{content:?}: {host} (CONNECT: {connect}): egressd, then Squid\n{}\n{:#?}",
                    imported.yaml, imported.notes
                );
                passed += usize::from(by_squid);
                asked += 1;
            }
        }
    }
    assert!(passed > 60 && asked > 1000, "{passed} of {asked} passed");
}

/// Loads a list as an allow file. Whether `check` warns that Squid reads a line of it otherwise; an error where it refuses one.
fn as_allow_file(list: &Path) -> Result<bool, String> {
    let text = format!(
        "policies: [{{name: p, allow_files: [{{file: {}, schemes: [https, http]}}]}}]\n",
        list.display()
    );
    let read = |path: &Path| std::fs::read(path);
    match config::load_str("egressd.yaml", &text, read) {
        Ok(loaded) => Ok(loaded.warnings.iter().any(|warning| warning.text.contains("in a dstdomain file"))),
        Err(findings) => Err(findings.iter().map(ToString::to_string).collect()),
    }
}

fn allows(config: &Config, host: &str, connect: bool) -> bool {
    let target =
        if connect { Target::connect(&format!("{host}:443")) } else { Target::http(&format!("{host}:80")) };
    let client = Client::direct(([127, 0, 0, 1], 4711).into());
    config.policies.decide(&target.expect("a target"), &client, jiff::Timestamp::now()).is_ok()
}

/// A Squid that connects to nothing: what it allows ends with 502 or 503.
struct Squid {
    address: std::net::SocketAddr,
    _daemon: Daemon,
}

impl Squid {
    fn start(home: &TempDir, access: &str) -> Self {
        let (address, path) = (free_address(), home.path().display());
        let conf = format!(
            "http_port {address}\n{access}never_direct allow all\ndns_nameservers 127.0.0.1\npid_filename none\n\
             coredump_dir {path}\nnetdb_filename none\naccess_log none\ncache_log {path}/cache.log\ncache deny all\n\
             shutdown_lifetime 1 second\n"
        );
        write(&home.path().join("squid.conf"), conf);
        let mut squid = Command::new("squid");
        isolate(&mut squid, home.path());
        let service = format!("lists{}", std::process::id());
        squid.args(["-n", &service, "-N", "-f"]).arg(home.path().join("squid.conf"));
        let mut daemon = Daemon::start(&mut squid);
        until("Squid to accept", || {
            daemon.assert_alive();
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
        });
        Squid { address, _daemon: daemon }
    }

    fn allows(&self, host: &str, connect: bool) -> bool {
        let mut wire = Wire::connect(self.address);
        let request = if connect {
            format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n")
        } else {
            format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        };
        wire.send(request);
        match wire.read_head().status {
            403 => false,
            500 | 502 | 503 => true,
            other => panic!("{host}: status {other}"),
        }
    }
}
