//! What a person sees on a terminal, and a script does not: `script` (bsdutils) gives a command a pseudo-terminal.

use crate::support::{command, directory, write};
use crate::tool::{Ran, tool};

#[test]
fn check_says_what_it_checked_on_a_terminal_alone() {
    let directory = directory();
    let file = directory.path().join("egressd.yaml");
    write(&file, "policies: [{name: p, allow: [a.example, b.example], deny: [c.example]}]\n");
    let program = command();
    let check = format!("{} check -c {}", program.get_program().display(), file.display());
    let on_terminal = Ran::of(tool("script", directory.path()).args(["-qec", &check, "/dev/null"]));
    assert_eq!(on_terminal.code, Some(0), "{on_terminal:?}");
    let want = format!("{}: ok: 1 policy, 3 rules\r\n", file.display());
    assert!(on_terminal.stdout.ends_with(&want), "{on_terminal:?}");
    let piped = Ran::of(tool("sh", directory.path()).args(["-c", &check]));
    assert_eq!((piped.code, &*piped.stdout, &*piped.stderr), (Some(0), "", ""));
    // Findings stay alone on stdout.
    write(&file, "policies: [{name: p, allow: [\"db.example:5432\"]}]\n");
    let to_file = Ran::of(tool("script", directory.path()).args([
        "-qec",
        &format!("{check} 2>&1 >/dev/null"),
        "/dev/null",
    ]));
    let want = format!("{}: ok, with 1 warning: 1 policy, 1 rule\r\n", file.display());
    assert_eq!(to_file.stdout, want);
}
