//! The table of clients in docs/inspection.md: the rows of those that `tests/run` installs are made again, and must be the same. The
//! program that makes it, tests/long/inspected_clients, tries the others as well.

use std::path::Path;

use crate::support::directory;
use crate::tool::{Ran, isolate};

#[test]
fn clients_print_what_the_table_says() {
    let home = directory();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/long/inspected_clients");
    let mut table = std::process::Command::new(program);
    isolate(&mut table, home.path());
    for name in ["RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = std::env::var_os(name) {
            table.env(name, value);
        }
    }
    // rustc is asked where cargo is, and finds its toolchain by the home of the user.
    if std::env::var_os("RUSTUP_HOME").is_none()
        && let Some(home) = std::env::home_dir()
    {
        table.env("RUSTUP_HOME", home.join(".rustup"));
    }
    table.env("EGRESSD_BIN", env!("CARGO_BIN_EXE_egressd")).env("TMPDIR", home.path());
    let ran = Ran::of(table.arg("--suite"));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    // Each of them ran: a list that became empty would pass, too.
    for client in
        ["curl", "wget", "git on GnuTLS", "Python urllib", "pip", "Node https", "npm", "cargo", "apt"]
    {
        assert!(ran.stdout.contains(&format!("| {client} |")), "{client}: {}", ran.stdout);
    }
}
