//! What strangers write is text, and what the page offers can be copied.

use serde_json::json;

use super::{assert_readable, open, picture, refused, start, window};
use crate::browser::Browser;
use crate::support::{Origin, write};

#[test]
fn what_clients_write_is_shown_as_text_only_and_the_rule_can_be_copied() {
    let origin = Origin::echo();
    let (proxy, text) = start(&origin);
    let browser = Browser::start();
    window(&browser, 1280, 900, "light");
    let long = "a".repeat(3_000);
    for target in [
        "\"><script>window.owned=1</script>:443",
        "<img/src=x/onerror=window.owned=1>:443",
        "\u{202e}moc.elpmaxe:443",
        "javascript:window.owned=1",
        &long,
        &format!("{}.example:443", ["b".repeat(60), "c".repeat(60), "d".repeat(60)].join(".")),
        "new.example:443",
        "new.example:22",
        "old.example:443",
    ] {
        refused(&proxy, format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    }
    open(&proxy, &browser);
    browser.wait("#refused-table", |text| text.contains("old.example"));
    let shown = browser.text("#refused-table");
    for part in [
        "onerror=window.owned=1",
        "<script>window.owned=1",
        "\\xe2\\x80\\xaemoc",
        "rule_expired",
        "host_not_allowed",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains('\u{202e}'), "nothing that turns the direction");
    assert_eq!(
        browser.run("return [document.scripts.length, document.images.length, window.owned ?? null]"),
        json!([1, 0, null])
    );
    assert_readable(&browser, "what strangers wrote");
    picture(&browser, "strangers");

    // The copy is confirmed, and is on the clipboard: once with the browser's clipboard API, once without it, as over http.
    let copy = |line: &str| format!("button[aria-label='Copy the rule {line}']");
    browser.click(&copy("- https://new.example"));
    let told = browser.wait("#toast", |text| text.starts_with("Copied: - https://new.example "));
    assert!(told.contains("Paste it under `allow` of policy `test` in "), "{told}");
    assert_eq!(browser.paste("#refused-filter"), "- https://new.example");
    browser.click("#refused-clear");
    browser.wait("#refused-table", |text| text.contains("old.example"));
    browser.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})");
    browser.click(&copy("- tcp://new.example:22"));
    let told = browser.wait("#toast", |text| text.starts_with("Copied: - tcp://new.example:22 "));
    assert!(told.contains("Warning: tcp: the content is not inspected"), "{told}");
    assert_eq!(browser.paste("#refused-filter"), "- tcp://new.example:22");
    browser.wait("#refused-none", |text| text == "Nothing in the last 24 hours is like that.");
    browser.click("#refused-clear");
    browser.wait("#refused-table", |text| text.contains("old.example"));

    browser.click("#tab-rules");
    browser.wait("#rules-count", |text| text == "2 rules");
    browser.keys("#rule-filter", "sec-1");
    browser.wait("#rules-count", |text| text == "1 matching of 2 rules");
    assert!(browser.text("#expiring-table").contains("expired "));
    assert_eq!(browser.console(), Vec::<String>::new());

    // A refused reload is shown with its line; once the file is fixed, the message is gone.
    write(&proxy.file("egressd.yaml"), text.replace("    allow:\n", "    allow:\n      - \"*.com\"\n"));
    browser.wait("#health", |text| text == "ready, on an old configuration");
    let told = browser.text("#refused-reload");
    assert!(told.contains("egressd.yaml:7:10 error: ") && told.contains("*.com"), "{told}");
    picture(&browser, "refused-reload");
    for (scheme, width) in [("dark", 1280), ("dark", 390), ("light", 390)] {
        window(&browser, width, 844, scheme);
        assert_readable(&browser, &format!("{scheme}, {width} wide"));
        picture(&browser, &format!("{scheme}-{width}"));
    }
    assert_eq!(browser.run("return getComputedStyle(document.body).backgroundColor"), "rgb(246, 247, 249)");
    write(&proxy.file("egressd.yaml"), &text);
    browser.wait("#health", |text| text == "ready");
    assert_eq!(browser.run("return document.getElementById('refused-reload').hidden"), true);
    assert_eq!(browser.console(), Vec::<String>::new());
}
