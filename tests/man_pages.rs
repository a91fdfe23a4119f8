//! The man pages in docs/man are what the command line is. `EGRESSD_WRITE_MAN=1 cargo test --test man_pages` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use clap_mangen::Man;

const PAGES: &str = "docs/man";

/// What the page of egressd itself has beyond its command line.
const MORE: &str = r#".SH FILES
.TP
.I /etc/egressd/egressd.yaml
The configuration, where a package has installed egressd. \fBegressd config default\fR prints every key with its default.
.TP
.I /var/log/egressd/access.log
The access log, by that configuration.
.SH ENVIRONMENT
.TP
.B EGRESSD_CONFIG
The configuration file, if no option names one.
.TP
.BR NOTIFY_SOCKET ", " WATCHDOG_USEC ", " WATCHDOG_PID
Set by a service manager. \fBegressd run\fR tells it when it is ready, reloads and stops, and that it is alive (\fBsd_notify\fR(3)).
.TP
.BR LISTEN_FDS ", " LISTEN_PID ", " LISTEN_FDNAMES
Set by a service manager that passes sockets (\fBsd_listen_fds\fR(3)). Each must have the name of a listener, or \fBadmin\fR, and listen
on the address that the configuration says.
.SH SIGNALS
.TP
.BR SIGTERM ", " SIGINT
Drain: accept no more, let open tunnels end for \fBshutdown.grace_period\fR. A second one ends the program at once.
.TP
.B SIGHUP
Read the configuration and its certificates again, and reopen log files.
.SH EXIT STATUS
.TP
.B 0
Success.
.TP
.B 1
Failure.
.TP
.B 2
Wrong command line.
.TP
.B 78
The configuration is missing or invalid, or a passed socket does not fit it.
"#;

/// The pages, by the names of their files.
fn pages() -> BTreeMap<String, String> {
    let mut command = egressd::commands::command().disable_help_subcommand(true);
    command.build();
    let mut pages = BTreeMap::new();
    page(command, &mut pages);
    pages
}

fn page(command: clap::Command, pages: &mut BTreeMap<String, String>) {
    for below in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        page(below.clone(), pages);
    }
    let is_whole = command.get_name() == "egressd";
    let has_more = command.has_subcommands();
    let after = command.get_after_help().is_some() && !is_whole;
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    // Neither the version nor a date: a page changes when what it says does.
    let man = Man::new(command).title(name.clone()).source("egressd").manual("User Commands");
    let mut text = Vec::new();
    man.render_title(&mut text).expect("memory takes all");
    man.render_name_section(&mut text).expect("memory takes all");
    man.render_synopsis_section(&mut text).expect("memory takes all");
    man.render_description_section(&mut text).expect("memory takes all");
    man.render_options_section(&mut text).expect("memory takes all");
    if has_more {
        man.render_subcommands_section(&mut text).expect("memory takes all");
    }
    if after {
        man.render_extra_section(&mut text).expect("memory takes all");
    }
    if is_whole {
        text.write_all(MORE.as_bytes()).expect("memory takes all");
    } else {
        text.write_all(b".SH SEE ALSO\n.BR egressd (1)\n").expect("memory takes all");
    }
    pages.insert(format!("{name}.1"), String::from_utf8(text).expect("roff is text"));
}

#[test]
fn the_pages_are_what_the_command_line_is() {
    let pages = pages();
    if std::env::var_os("EGRESSD_WRITE_MAN").is_some() {
        let _ = fs::remove_dir_all(PAGES);
        fs::create_dir_all(PAGES).expect("made");
        for (name, text) in &pages {
            fs::write(Path::new(PAGES).join(name), text).expect("written");
        }
    }
    let there = fs::read_dir(PAGES).expect("in the repository");
    let there: BTreeMap<String, String> = there
        .map(|entry| entry.expect("readable").path())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(path).expect("text"))
        })
        .collect();
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    let anew = "EGRESSD_WRITE_MAN=1 cargo test --test man_pages";
    assert_eq!(names(&there), names(&pages), "write them anew: {anew}");
    for (name, text) in &pages {
        assert!(
            there[name] == *text,
            "{PAGES}/{name} is not what the command line is; write it anew: {anew}"
        );
    }
}

#[test]
fn every_command_has_a_page_and_every_page_its_parts() {
    let pages = pages();
    for name in [
        "egressd",
        "egressd-run",
        "egressd-check",
        "egressd-config",
        "egressd-import-squid",
        "egressd-ca-new",
    ] {
        let page = pages.get(&format!("{name}.1")).unwrap_or_else(|| panic!("{name} has no page"));
        for section in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
            assert!(page.contains(section), "{name}: {section}");
        }
    }
    assert!(pages["egressd.1"].contains(".SH EXIT STATUS"));
}
