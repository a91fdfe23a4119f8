//! The path of a unix socket under attack. What is replaced at the start is in tests/who/unix.rs.

use std::os::unix::net::{UnixListener, UnixStream};

use crate::support::{Egressd, config, directory};

#[test]
fn t92_a_path_that_was_replaced_under_it_is_left_alone_at_the_end() {
    let directory = directory();
    let path = directory.path().join("proxy.sock");
    let listener = "{name: proxy, address: 127.0.0.1:0}";
    let text = config(&["a.example"]);
    assert!(text.contains(listener), "the listener of `config` looks otherwise now");
    let text = text.replace(listener, &format!("{{name: proxy, address: \"unix:{}\"}}", path.display()));
    let proxy = Egressd::start(&text);
    std::fs::remove_file(&path).expect("it is there");
    let other = UnixListener::bind(&path).expect("there is room");
    // What was open goes on, and what is new comes to the other one.
    let asking = UnixStream::connect(&path).expect("the other one listens");
    other.accept().expect("it comes there");
    drop(asking);
    let ended = proxy.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(UnixStream::connect(&path).is_ok(), "the socket of the other one stays");
    drop(other);
}
