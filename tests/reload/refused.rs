//! Refused reloads: the old configuration stays, and log, metrics and status report the refusal.

use rustix::process::Signal;

use crate::support::{Authority, Egressd, Origin, config, until, write};
use crate::{configure, in_force, is_allowed, last_reload_successful, ping, refused, reloaded, tunnels_to};

#[test]
fn a_refused_reload_changes_nothing_and_names_file_line_and_column() {
    let (one, two) = (Origin::echo(), Origin::echo());
    let proxy = Egressd::start(&tunnels_to(&[&one]));
    let (hash, mut tunnel) = (in_force(&proxy), proxy.tunnel(&one.address().to_string()));
    // An error after a change that would revoke the tunnel.
    let wrong = format!("{}limits: {{tunnel: 5}}\n", tunnels_to(&[&two]));
    refused(&proxy, || configure(&proxy, &wrong));
    ping(&mut tunnel);
    assert!(is_allowed(&proxy, &one) && !is_allowed(&proxy, &two));
    let place = format!(
        "{}:8:10: error: unknown key `tunnel`; did you mean `tunnels`?",
        proxy.file("egressd.yaml").display()
    );
    let told = |proxy: &Egressd| proxy.stderr().matches(&place).count();
    until("the refusal on stderr", || (told(&proxy) == 1).then_some(()));
    let stays =
        format!("the changed configuration is refused; configuration {} stays in force", crate::short(&hash));
    until("what stays in force on stderr", || proxy.stderr().contains(&stays).then_some(()));

    // Written again unchanged, it is refused again without a message; after a HUP, with a message.
    configure(&proxy, &wrong);
    proxy.signal(Signal::HUP);
    until("the refusal to be told again", || (told(&proxy) == 2).then_some(()));
    assert!(!last_reload_successful(&proxy));

    reloaded(&proxy, || configure(&proxy, &tunnels_to(&[&one, &two])));
    assert!(last_reload_successful(&proxy) && is_allowed(&proxy, &two));
    ping(&mut tunnel);
}

#[test]
fn an_error_in_an_allow_file_is_reported_with_its_own_line() {
    let directory = crate::support::directory();
    let list = directory.path().join("list");
    write(&list, "a.test\n");
    let text = config(&[]).replace("allow: []", "allow_files: [list]");
    let proxy = Egressd::start_in(directory, &text);
    let told = |what: &str| until(what, || proxy.stderr().contains(what).then_some(()));
    refused(&proxy, || write(&list, "a.test\nb.test\n*.com\n"));
    told("list:3:1: error: ");
    reloaded(&proxy, || write(&list, "a.test\nb.test\n"));
    refused(&proxy, || write(&list, ""));
    told("egressd.yaml:6:19: error: the file ");
    reloaded(&proxy, || write(&list, "b.test\n"));
    refused(&proxy, || std::fs::remove_file(&list).expect("removed"));
    told("egressd.yaml:6:19: error: cannot read ");
    reloaded(&proxy, || write(&list, "c.test\n"));
    assert!(last_reload_successful(&proxy));
}

#[test]
fn an_error_in_a_deny_file_or_a_file_of_networks_is_reported_with_its_own_line() {
    let directory = crate::support::directory();
    let (blocked, offices) = (directory.path().join("blocked"), directory.path().join("offices"));
    write(&blocked, "# none\n");
    write(&offices, "127.0.0.0/8\n");
    let clients = "clients: {networks_files: [offices]}\n    deny_files: [blocked]\n    allow: []";
    let proxy = Egressd::start_in(directory, &config(&[]).replace("allow: []", clients));
    let told = |what: &str| until(what, || proxy.stderr().contains(what).then_some(()));
    refused(&proxy, || write(&blocked, "a.test\nb.test c.test\n"));
    told("blocked:2:7: error: a space inside a rule");
    reloaded(&proxy, || write(&blocked, "a.test\n"));
    refused(&proxy, || write(&offices, "127.0.0.0/8\n10.0.0.1/8\n"));
    told("offices:2:1: error: `10.0.0.1/8` has bits set after its prefix");
    reloaded(&proxy, || write(&offices, "127.0.0.0/8\n10.0.0.1\n"));
    for (file, key) in [(&blocked, "7:18"), (&offices, "6:32")] {
        let content = std::fs::read(file).expect("readable");
        refused(&proxy, || write(file, ""));
        told(&format!("egressd.yaml:{key}: error: the file "));
        reloaded(&proxy, || write(file, [content.as_slice(), b"# now\n"].concat()));
        refused(&proxy, || std::fs::remove_file(file).expect("removed"));
        told(&format!("egressd.yaml:{key}: error: cannot read "));
        reloaded(&proxy, || write(file, [content.as_slice(), b"# again\n"].concat()));
    }
    // The file may have been read once more, while it was written.
    until("the last reload to be a good one", || last_reload_successful(&proxy).then_some(()));
}

#[test]
fn a_configuration_that_names_a_missing_file_is_taken_when_the_file_comes() {
    let proxy = Egressd::start(&tunnels_to(&[]));
    refused(&proxy, || configure(&proxy, &config(&[]).replace("allow: []", "allow_files: [list]")));
    reloaded(&proxy, || write(&proxy.file("list"), "a.test\n"));
    assert!(last_reload_successful(&proxy));
}

#[test]
fn what_needs_a_restart_is_refused_with_that_reason() {
    let base = tunnels_to(&[]);
    let directory = crate::support::directory();
    let issued = Authority::new().issue(&["proxy.test"]);
    write(&directory.path().join("tls.crt"), &issued.pem);
    write(&directory.path().join("tls.key"), &issued.key_pem);
    let proxy = Egressd::start_in(directory, &base);
    let rows: &[(&str, &str, &str)] = &[
        (
            "proxy, address: 127.0.0.1:0",
            "proxy, address: 127.0.0.2:0",
            "1:36: error: `address` of the listener `proxy` changed from 127.0.0.1:0 to 127.0.0.2:0",
        ),
        ("name: proxy", "name: other", "1:12: error: the listener `proxy` was removed"),
        ("0}]", "0}, {name: other, address: 127.0.0.2:0}]", "1:73: error: the listener `other` was added"),
        (
            "admin: {address: 127.0.0.1:0}",
            "admin: {address: 127.0.0.2:0}",
            "2:18: error: `admin.address` changed from 127.0.0.1:0 to 127.0.0.2:0",
        ),
        (
            "policies:",
            "access_log: {output: log}\npolicies:",
            "3:22: error: `access_log.output` changed from stdout to ",
        ),
        (
            "127.0.0.1:0}]",
            "127.0.0.1:0, tls: {certificate: tls.crt, key: tls.key}}]",
            "1:54: error: `tls` of the listener `proxy` was added",
        ),
        (
            "127.0.0.1:0}]",
            "127.0.0.1:0, proxy_protocol: {trusted: [127.0.0.0/8]}}]",
            "1:65: error: `proxy_protocol` of the listener `proxy` was added",
        ),
        (
            "admin: {address: 127.0.0.1:0",
            "admin: {address: 127.0.0.1:0, proxy_protocol: {trusted: [127.0.0.0/8]}",
            "2:47: error: `admin.proxy_protocol` was added",
        ),
    ];
    for (what, by, why) in rows {
        assert!(base.contains(what), "{what}");
        refused(&proxy, || configure(&proxy, &base.replacen(what, by, 1)));
        let line = format!("{}:{why}", proxy.file("egressd.yaml").display());
        until(&line, || proxy.stderr().contains(&line).then_some(()));
        configure(&proxy, &base);
        until("the old one to be taken back", || last_reload_successful(&proxy).then_some(()));
    }
    let needs = || proxy.stderr().matches("which needs a restart: restart, or change it back").count();
    until("each to be told", || (needs() >= rows.len()).then_some(()));
}
