//! Clients in Go and Java, which a test compiles from their source before it runs them.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::tool::{Ran, tool};

/// The sources that the programs of tests/long compile, too.
pub(crate) const BY_GO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/long/clients/by_go.go");
pub(crate) const BY_JAVA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/long/clients/ByJava.java");
pub(crate) const BY_URL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/long/clients/ByUrl.java");

/// What Go compiles stays here, below cargo's target directory, for the next test and the next run. Without it each program compiles
/// much of the standard library: 6 s of CPU by Debian 12's Go, which brings a part compiled, and half a minute by one that brings none.
const GO_CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/go-cache");

/// Compiles a program of one file into `home`; returns its path. Nothing is downloaded.
pub(crate) fn go(source: &Path, home: &Path) -> String {
    /// Two tests that begin together would both compile the standard library.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = home.join(source.file_stem().expect("a file of Go"));
    let mut go = tool("go", home);
    go.env("GOCACHE", GO_CACHE).env("GOPATH", home.join("gopath")).env("GOPROXY", "off");
    go.env("GO111MODULE", "off").env("GOTOOLCHAIN", "local").env("GOFLAGS", "").env("CGO_ENABLED", "0");
    Ran::ok(go.args(["build", "-o"]).arg(&program).arg(source));
    program.into_os_string().into_string().expect("a path in UTF-8")
}

/// The release of Go: 19 for Go 1.19.
pub(crate) fn go_release(home: &Path) -> u32 {
    let version = Ran::ok(tool("go", home).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local"));
    // Also of `go1.23rc1` and `devel go1.25-1234567`.
    let release = version
        .rsplit_once("go1.")
        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    release.unwrap_or_else(|| panic!("{version}"))
}

/// Compiles the classes of a file into `home`.
pub(crate) fn java(source: &Path, home: &Path) {
    Ran::ok(tool("javac", home).arg("-J-XX:-UsePerfData").arg("-d").arg(home).arg(source));
}

/// What `java` is told to run such a class. Without -UsePerfData it would leave a directory in /tmp.
pub(crate) fn class(home: &Path, name: &str) -> [OsString; 4] {
    ["-XX:-UsePerfData".into(), "-cp".into(), home.into(), name.into()]
}
