//! What was allowed: who went where, and which rules are used.

use std::net::IpAddr;

use super::{assert_readable, open, picture, start, window};
use crate::browser::Browser;
use crate::support::{Origin, Wire, until};

#[test]
fn who_went_where_and_which_rules_were_used_is_shown() {
    let (origin, other) = (Origin::echo(), Origin::echo());
    let (proxy, text) = start(&origin);
    crate::support::write(
        &proxy.file("egressd.yaml"),
        text.replace("    allow:\n", &format!("    allow:\n      - tcp://127.0.0.1:{}\n", other.port())),
    );
    until("the rule", || proxy.get("/api/status").body.contains("\"rules\":3").then_some(()));
    let tunnel = |client: [u8; 4], origin: &Origin| {
        let mut wire = Wire::connect_from(IpAddr::from(client), proxy.address());
        let authority = origin.address();
        wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
        assert_eq!(wire.read_head().status, 200);
    };
    for _ in 0..4 {
        tunnel([127, 0, 9, 1], &origin);
    }
    tunnel([127, 0, 9, 2], &origin);
    tunnel([127, 0, 9, 2], &other);
    let browser = Browser::start();
    window(&browser, 1280, 900, "light");
    open(&proxy, &browser);
    browser.click("#tab-allowed");
    browser.wait("#allowed-count", |text| text.starts_with("2 targets, 2 clients since the start"));
    let cells = |css: &str| -> Vec<String> {
        let script = format!("return [...document.querySelectorAll('{css}')].map((cell) => cell.innerText)");
        serde_json::from_value(browser.run(&script)).expect("texts")
    };
    assert_eq!(
        cells("#target-table td")[..3],
        [origin.address().to_string(), "5".to_owned(), "2".to_owned()]
    );
    assert_eq!(cells("#client-table td")[..3], ["127.0.9.1", "4", "1"]);
    assert_eq!(
        cells("#matrix th"),
        [
            "Target".to_owned(),
            "127.0.9.1".to_owned(),
            "127.0.9.2".to_owned(),
            origin.address().to_string(),
            other.address().to_string()
        ]
    );
    assert_eq!(cells("#matrix td"), ["4", "1", "0", "1"]);
    assert_readable(&browser, "who went where");
    picture(&browser, "allowed");
    browser.keys("#allowed-filter", "127.0.9.1");
    browser.wait("#allowed-count", |text| text.starts_with("1 target, 1 client since"));
    for width in [400, 320] {
        window(&browser, width, 900, "dark");
        assert_readable(&browser, &format!("who went where, {width} wide"));
        picture(&browser, &format!("allowed-{width}"));
    }

    window(&browser, 1280, 900, "light");
    browser.click("#tab-rules");
    browser.wait("#rule-table", |text| text.contains("old.example"));
    let rule = |name: &str| -> String {
        let rows = cells("#rule-table tbody tr");
        rows.into_iter().find(|row| row.contains(name)).expect(name).replace(['\t', '\n'], " ")
    };
    assert!(rule("echo").contains(" 5 ") && rule("echo").contains(" ago"), "{}", rule("echo"));
    assert!(rule("old.example").contains(" 0 not since the start "), "{}", rule("old.example"));
    picture(&browser, "rules");
    browser.click("#rules-unused");
    browser.wait("#rules-count", |text| text == "1 unused of 3 rules");
    assert_readable(&browser, "the rules");
    window(&browser, 400, 900, "light");
    assert_readable(&browser, "the rules, 400 wide");
    assert_eq!(browser.console(), Vec::<String>::new());
}
