//! What `suggest` and `summary` make of the log of an inspecting egressd.

use crate::support::{run, write};
use crate::world::{HOST, World, get};

#[test]
fn a_list_that_is_made_of_the_log_allows_what_was_seen_inside_and_nothing_else() {
    let world = World::new();
    let site = world.site();
    let proxy = world.egressd(&site, ", requests: [{methods: [GET, POST]}]");
    let port = site.port();
    let mut wire = world.inside(&proxy, port);
    for path in ["/a?secret=1", "/b/c"] {
        wire.send(get(port, path));
        assert_eq!(wire.read_reply().status, 200);
    }
    wire.send(format!("POST /b/c HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Length: 3\r\n\r\nabc"));
    assert_eq!(wire.read_reply().status, 200);
    wire.send(format!("PUT /p/q HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(wire.read_reply().status, 403);
    drop(wire);
    proxy.record(|record| record["event"] == "close");
    let directory = world.directory();
    let (log, list) = (directory.path().join("access.log"), directory.path().join("list.yaml"));
    let (log_name, list_name) = (log.to_str().expect("UTF-8"), list.to_str().expect("UTF-8"));
    write(&log, proxy.log());

    let suggested = run(&["suggest", "--without-denied", log_name]);
    let text = String::from_utf8(suggested.stdout).expect("UTF-8");
    assert!(!text.contains("secret") && !text.contains("/p/q"), "{text}");
    write(&list, text.replace("authority.", "ca."));
    let explain = |path: &str, method: &str| {
        let target = format!("https://{HOST}:{port}{path}");
        run(&["explain", &target, "--method", method, "--client", "127.0.0.1", "-c", list_name])
    };
    for (path, method, code) in [
        ("/a", "GET", 0),
        ("/b/c", "GET", 0),
        ("/b/c", "POST", 0),
        ("/a", "POST", 1),
        ("/b", "GET", 1),
        ("/p/q", "PUT", 1),
    ] {
        let told = explain(path, method);
        assert_eq!(told.status.code(), Some(code), "{method} {path}: {told:?}\n{text}");
    }
    let text = String::from_utf8(run(&["summary", log_name]).stdout).expect("UTF-8");
    for line in [
        "inside      4 requests inside tunnels: 3 let through by a rule, 0 by report mode, 1 denied, 0 failed".to_owned(),
        format!("GET https://{HOST}:{port}/b/**"),
        format!("PUT https://{HOST}:{port}/p/**"),
        "         1  request_not_allowed".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
}
