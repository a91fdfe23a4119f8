//! The ways in which files change.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;

use crate::support::{Egressd, Origin, Volume, directory, until, write};
use crate::{
    configure, connect, in_force, is_allowed, last_reload_successful, refused, reloaded, rule, tunnels_to,
};

#[test]
fn updates_of_a_configmap_come_into_force() {
    let origins = [Origin::echo(), Origin::echo()];
    let [one, two] = &origins;
    let named = |list: &str| {
        let text = tunnels_to(&[]).replace("allow: []", &format!("allow_files: [{list}]"));
        text.replace("allow_files", "deny: []\n    allow_files")
    };
    let lists = |origin: &Origin| format!("{}\n", rule(origin));
    let directory = directory();
    let root = directory.path().join("volume");
    let config = named("list");
    let mut volume = Volume::new(root.clone(), &[("egressd.yaml", &config), ("list", &lists(one))]);
    let proxy = Egressd::start_at(directory, &root.join("egressd.yaml"));
    assert!(is_allowed(&proxy, one) && !is_allowed(&proxy, two));

    // Only the list changes, and changes back: egressd notices each update, not only the first.
    for now in [two, one, two] {
        reloaded(&proxy, || volume.update(&[("egressd.yaml", &config), ("list", &lists(now))]));
        assert_eq!(
            origins.each_ref().map(|origin| is_allowed(&proxy, origin)),
            [now.port() == one.port(), now.port() == two.port()]
        );
    }
    // Both change.
    symlink("..data/other", root.join("other")).expect("linked");
    reloaded(&proxy, || volume.update(&[("egressd.yaml", &named("other")), ("other", &lists(one))]));
    assert!(is_allowed(&proxy, one) && !is_allowed(&proxy, two));
}

/// Each team's policies are a key of one ConfigMap, or of its own.
#[test]
fn included_files_of_a_configmap_come_go_and_change() {
    let origins = [Origin::echo(), Origin::echo()];
    let [one, two] = &origins;
    let (main, policies) = {
        let whole = tunnels_to(&[]);
        let (rest, policies) = whole.split_once("policies:").expect("there are policies");
        (format!("{rest}include: [policies.d/*.yaml]\n"), format!("policies:{policies}"))
    };
    let lets = |origin: &Origin| policies.replace("allow: []", &format!("allow: ['{}']", rule(origin)));
    let directory = directory();
    let root = directory.path().join("etc");
    fs::create_dir(&root).expect("made");
    write(&root.join("egressd.yaml"), &main);
    let mut volume = Volume::new(root.join("policies.d"), &[("a.yaml", &lets(one))]);
    let proxy = Egressd::start_at(directory, &root.join("egressd.yaml"));
    assert!(is_allowed(&proxy, one) && !is_allowed(&proxy, two));
    for now in [two, one] {
        reloaded(&proxy, || volume.update(&[("a.yaml", &lets(now))]));
        assert_eq!(
            origins.each_ref().map(|origin| is_allowed(&proxy, origin)),
            [now.port() == one.port(), now.port() == two.port()]
        );
    }
    // A new key, then its link, as the kubelet does; then the old one goes.
    reloaded(&proxy, || {
        volume.update(&[("a.yaml", "# moved\n"), ("b.yaml", &lets(two))]);
        symlink("..data/b.yaml", root.join("policies.d/b.yaml")).expect("linked");
    });
    until("the new file to be in force", || is_allowed(&proxy, two).then_some(()));
    assert!(!is_allowed(&proxy, one));
    reloaded(&proxy, || {
        fs::remove_file(root.join("policies.d/a.yaml")).expect("removed");
        volume.update(&[("b.yaml", &lets(one))]);
    });
    until("what is left to be in force", || is_allowed(&proxy, one).then_some(()));
    refused(&proxy, || write(&root.join("policies.d/c.yaml"), "admin: {networks: [0.0.0.0/0]}\n"));
    proxy.says("c.yaml:1:1: error: `admin` has no place in an included file");
    assert!(is_allowed(&proxy, one) && !is_allowed(&proxy, two));
}

#[test]
fn a_file_may_be_overwritten_or_renamed_over() {
    let (one, two) = (Origin::echo(), Origin::echo());
    let proxy = Egressd::start(&tunnels_to(&[&one]));
    reloaded(&proxy, || configure(&proxy, &tunnels_to(&[&two])));
    assert!(!is_allowed(&proxy, &one) && is_allowed(&proxy, &two));
    // As editors do; twice, because the second time replaces another file than the one that was there at the start.
    for origin in [&one, &two] {
        reloaded(&proxy, || {
            write(&proxy.file("new"), tunnels_to(&[origin]));
            fs::rename(proxy.file("new"), proxy.file("egressd.yaml")).expect("renamed");
        });
        assert!(is_allowed(&proxy, origin));
    }
}

#[test]
fn a_file_may_be_deleted_and_restored() {
    let (one, two) = (Origin::echo(), Origin::echo());
    let proxy = Egressd::start(&tunnels_to(&[&one]));
    let before = in_force(&proxy);
    refused(&proxy, || fs::remove_file(proxy.file("egressd.yaml")).expect("removed"));
    assert!(is_allowed(&proxy, &one), "what was in force stays");
    configure(&proxy, &tunnels_to(&[&one]));
    until("the restored file to be taken", || last_reload_successful(&proxy).then_some(()));
    assert_eq!(in_force(&proxy), before);

    refused(&proxy, || fs::remove_file(proxy.file("egressd.yaml")).expect("removed"));
    reloaded(&proxy, || configure(&proxy, &tunnels_to(&[&two])));
    assert!(!is_allowed(&proxy, &one) && is_allowed(&proxy, &two) && last_reload_successful(&proxy));
}

#[test]
fn a_directory_may_go_and_come_back() {
    let (one, two) = (Origin::echo(), Origin::echo());
    let directory = directory();
    let inside = directory.path().join("inside");
    let file = inside.join("egressd.yaml");
    fs::create_dir(&inside).expect("made");
    write(&file, tunnels_to(&[&one]));
    let proxy = Egressd::start_at(directory, &file);
    refused(&proxy, || fs::remove_dir_all(&inside).expect("removed"));
    reloaded(&proxy, || {
        fs::create_dir(&inside).expect("made");
        write(&file, tunnels_to(&[&two]));
    });
    assert!(!is_allowed(&proxy, &one) && is_allowed(&proxy, &two));
    reloaded(&proxy, || write(&file, tunnels_to(&[&one])));
    assert!(is_allowed(&proxy, &one));
}

#[test]
fn half_a_file_and_an_empty_one_are_refused_until_the_rest_comes() {
    let (one, two) = (Origin::echo(), Origin::echo());
    let proxy = Egressd::start(&tunnels_to(&[&one]));
    let whole = tunnels_to(&[&two]);
    let half = &whole[..whole.len() / 2];
    refused(&proxy, || configure(&proxy, half));
    assert!(is_allowed(&proxy, &one));
    reloaded(&proxy, || configure(&proxy, &whole));
    assert!(is_allowed(&proxy, &two) && last_reload_successful(&proxy));

    refused(&proxy, || configure(&proxy, ""));
    proxy.says("egressd.yaml:1:1: error: the file is empty");
    reloaded(&proxy, || configure(&proxy, &tunnels_to(&[&one])));
    assert!(is_allowed(&proxy, &one));
}

#[test]
fn hup_reloads_although_nothing_changed() {
    let proxy = Egressd::start(&tunnels_to(&[]));
    let time = || proxy.metrics().sum("egressd_config_last_reload_success_timestamp_seconds", &[]);
    let (started, hash) = (time(), in_force(&proxy));
    proxy.signal(Signal::HUP);
    until("the time of the last success to move", || (time() > started).then_some(()));
    assert_eq!(in_force(&proxy), hash);
    proxy.says(&format!("the files match configuration {}", crate::short(&hash)));
}

#[test]
fn limits_and_diagnostics_follow_the_file() {
    let origin = Origin::echo();
    let with = |rest: &str| format!("{}{rest}", tunnels_to(&[&origin]));
    let proxy = Egressd::start(&with("limits: {tunnels: 1}\n"));
    let authority = origin.address().to_string();
    let first = proxy.tunnel(&authority);
    assert_eq!(connect(&proxy, &authority), 503);
    reloaded(&proxy, || configure(&proxy, &with("limits: {tunnels: 3}\n")));
    let more = [proxy.tunnel(&authority), proxy.tunnel(&authority)];
    assert_eq!(connect(&proxy, &authority), 503);
    reloaded(&proxy, || configure(&proxy, &with("limits: {tunnels: 3}\nlog: {format: json}\n")));
    let hash = in_force(&proxy);
    until("a diagnostic in JSON", || {
        let stderr = proxy.stderr();
        let said = stderr
            .lines()
            .filter(|line| line.starts_with('{'))
            .any(|line| line.contains(crate::short(&hash)));
        said.then_some(())
    });
    drop((first, more));
}
