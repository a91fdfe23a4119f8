//! The list of open tunnels, and the requests inside them.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use super::{assert_readable, height, open, picture, raise_descriptor_limit, start, window};
use crate::browser::Browser;
use crate::support::{Authority, Egressd, Origin, Wire, config, directory, until, write};

/// The rows of the table of tunnels, as the texts of their cells.
fn rows(browser: &Browser) -> Vec<Vec<String>> {
    let script = "return [...document.querySelectorAll('#tunnel-table tbody tr')].map((row) => \
                  [...row.cells].filter((cell) => !cell.hidden).map((cell) => cell.innerText))";
    serde_json::from_value(browser.run(script)).expect("texts")
}

fn sort(browser: &Browser, column: usize) -> Value {
    browser.run(&format!("return document.querySelectorAll('#tunnel-table th')[{column}].ariaSort"))
}

#[test]
fn tunnels_are_shown_sorted_and_filtered() {
    raise_descriptor_limit();
    let origin = Origin::echo();
    let (proxy, _) = start(&origin);
    let browser = Browser::start();
    window(&browser, 1280, 900, "light");
    open(&proxy, &browser);

    browser.click("#tab-tunnels");
    browser.wait("#tunnels-none", |text| text == "No tunnel is open.");
    assert!(browser.text("#refused-none").starts_with("Nothing was refused"));
    assert!(browser.text("#plots").contains("0"));
    picture(&browser, "0-tunnels");
    assert_readable(&browser, "nothing yet");

    let authority = origin.address().to_string();
    let mut tunnels: Vec<Wire> = vec![proxy.tunnel(&authority)];
    browser.wait("#tunnels-count", |text| text == "1");
    let row = rows(&browser).remove(0);
    assert!(row[0].starts_with(&authority) && row[0].contains("content not inspected"), "{row:?}");
    assert_eq!(row[1], tunnels[0].local().to_string());
    assert!(row[2].starts_with("test") && row[2].contains("echo"), "{row:?}");
    picture(&browser, "1-tunnel");

    tunnels.extend((1..500).map(|_| proxy.tunnel(&authority)));
    let bytes = vec![b'x'; 300 * 1024];
    for (index, size) in [(17, bytes.len()), (400, 50 * 1024)] {
        let mut sending = tunnels[index].second();
        std::thread::scope(|scope| {
            scope.spawn(|| sending.send(&bytes[..size]));
            tunnels[index].read_exact(size);
        });
    }
    browser.wait("#tunnels-count", |text| text == "500");
    assert_eq!(rows(&browser).len(), 25, "the first page");
    for (width, last, scheme) in
        [(400, "1 to 6 of 500", "dark"), (320, "1 to 6 of 500", "light"), (1280, "1 to 25 of 500", "light")]
    {
        window(&browser, width, 900, scheme);
        browser.wait("#tunnels-where", |text| text == last);
        let tall = height(&browser);
        assert!(tall < 3_000, "{tall} px at {width}");
        assert_readable(&browser, &format!("500 tunnels, {width} wide"));
        picture(&browser, &format!("500-tunnels-{width}"));
    }
    // To the second page and back; before the first there is none.
    let first = rows(&browser);
    browser.click("#tunnels-before");
    assert_eq!(browser.text("#tunnels-where"), "1 to 25 of 500");
    browser.click("#tunnels-after");
    browser.wait("#tunnels-where", |text| text == "26 to 50 of 500");
    assert!(rows(&browser).iter().all(|row| first.iter().all(|other| other[1] != row[1])), "other tunnels");
    browser.click("#tunnels-before");
    browser.wait("#tunnels-where", |text| text == "1 to 25 of 500");

    // By a click, largest first; by key, smallest first.
    browser.click("#tunnel-table th:nth-child(6) button");
    assert_eq!(sort(&browser, 5), "descending");
    let first_two = until("the order of bytes sent", || {
        let rows = rows(&browser);
        (rows[0][4] == "300 KiB").then(|| rows[..2].to_vec())
    });
    assert_eq!(first_two[0][1], tunnels[17].local().to_string());
    assert_eq!(
        (first_two[1][1].as_str(), first_two[1][4].as_str()),
        (&*tunnels[400].local().to_string(), "50 KiB")
    );
    browser.keys("#tunnel-table th:nth-child(6) button", "\u{e007}");
    assert_eq!(sort(&browser, 5), "ascending");
    until("the other order", || (rows(&browser)[0][4] != "300 KiB").then_some(()));
    // On the last page there is the largest, and no page after it.
    for _ in 1..20 {
        browser.click("#tunnels-after");
    }
    browser.wait("#tunnels-where", |text| text == "476 to 500 of 500");
    assert_eq!(rows(&browser)[24][4], "300 KiB");
    browser.click("#tunnels-after");
    assert_eq!(browser.text("#tunnels-where"), "476 to 500 of 500");
    browser.keys("#tunnel-table th:nth-child(2) button", " ");
    assert_eq!((sort(&browser, 1), sort(&browser, 5)), (json!("ascending"), Value::Null));

    browser.keys("#tunnel-filter", &tunnels[17].local().to_string());
    browser.wait("#tunnels-count", |text| text == "1 matching of 500");
    assert_eq!(browser.text("#tunnels-where"), "", "one page");
    assert_eq!(rows(&browser)[0][4], "300 KiB");
    browser.keys("#tunnel-filter", "x");
    browser.click("#tab-tunnels");
    browser.wait("#tunnels-none", |text| text == "None of 500 tunnels matches the filter.");
    // A new page has no filter. A tunnel that ended is no longer shown, and the rest stays.
    open(&proxy, &browser);
    browser.click("#tab-tunnels");
    tunnels.truncate(20);
    browser.wait("#tunnels-count", |text| text == "20");

    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn rules_are_on_pages_too() {
    let hosts: Vec<String> = (0..60).map(|number| format!("n{number:02}.example")).collect();
    let rules: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let proxy = Egressd::start(&config(&rules));
    let browser = Browser::start();
    window(&browser, 1280, 900, "light");
    open(&proxy, &browser);
    browser.click("#tab-rules");
    browser.wait("#rules-where", |text| text == "1 to 25 of 60");
    let first = |browser: &Browser| -> Value {
        browser.run("return document.querySelector('#rule-table tbody tr td').innerText")
    };
    assert_eq!(first(&browser), "n00.example");
    browser.click("#rules-after");
    browser.click("#rules-after");
    browser.wait("#rules-where", |text| text == "51 to 60 of 60");
    assert_eq!(first(&browser), "n50.example");
    // Another order, and what matches, begin on their first page.
    browser.click("#rule-table th:nth-child(1) button");
    browser.wait("#rules-where", |text| text == "1 to 25 of 60");
    browser.click("#rules-after");
    browser.keys("#rule-filter", "n5");
    browser.wait("#rules-count", |text| text == "10 matching of 60 rules");
    assert_eq!((first(&browser), browser.text("#rules-where")), (json!("n50.example"), String::new()));
    browser.run("const field = document.getElementById('rule-filter'); field.value = ''; field.dispatchEvent(new Event('input'))");
    for width in [400, 320] {
        window(&browser, width, 900, "dark");
        browser.wait("#rules-where", |text| text == "1 to 6 of 60");
        let tall = height(&browser);
        // At 320 px each rule takes a line for every word of it.
        let most = if width < 400 { 3_500 } else { 3_000 };
        assert!(tall < most, "{tall} px at {width}");
        assert_readable(&browser, &format!("60 rules, {width} wide"));
    }
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// The requests of one tunnel in report mode, and a refused one of each kind among the refusals, although their target is the same.
#[test]
fn requests_inside_a_tunnel_are_shown_and_the_entry_that_lets_one_pass_can_be_copied() {
    let (targets, inspection) = (Authority::new(), Authority::new());
    let origin = Origin::tls(targets.issue(&["a.test"]).server_config(), |mut stream| {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while stream.read(&mut byte)? > 0 {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                head.clear();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                stream.flush()?;
            }
        }
        Ok(())
    });
    let port = origin.port();
    let directory = directory();
    for (name, text) in
        [("roots.pem", targets.pem()), ("ca.crt", inspection.pem()), ("ca.key", &inspection.key_pem())]
    {
        write(&directory.path().join(name), text);
    }
    let rule = format!("{{to: \"https://a.test:{port}\", requests: [{{methods: [GET], paths: [/ok]}}]}}");
    let text = config(&[&rule]).replace("    private:", "    mode: report\n    private:")
        + "certificates: {roots: roots.pem}\ninspection: {certificate: ca.crt, key: ca.key}\n\
           dns: {hosts: {a.test: [127.0.0.1]}}\n";
    let proxy = Egressd::start_in(directory, &text);
    let tunnel = proxy.tunnel(&format!("a.test:{port}"));
    let mut wire = Wire::through(inspection.client("a.test", tunnel));
    for path in ["/ok", "/it's(new)", "/other"] {
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n"));
        assert_eq!(wire.read_reply().status, 200);
    }
    let browser = Browser::start();
    window(&browser, 1280, 900, "light");
    open(&proxy, &browser);
    browser.click("#tab-tunnels");
    let shown = browser.wait("#tunnel-table", |text| text.contains("/ok"));
    for part in
        ["inspected, 3 requests", "GET /it's(new)", "200 would_deny request_not_allowed", "Copy entry"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    browser.click("#tab-refused");
    let refused = browser.wait("#refused-table", |text| text.contains("GET /other"));
    assert!(refused.contains("GET /it's(new)"), "both, although the target is one: {refused}");
    assert_readable(&browser, "requests inside a tunnel");
    browser.click("#tab-tunnels");
    picture(&browser, "inside");
    browser.click("#tunnel-table button[aria-label^='Copy the entry - {methods: [GET], paths: [\"/other\"']");
    let told = browser.wait("#toast", |text| text.starts_with("Copied: - {methods: [GET]"));
    assert!(told.contains(&format!("Paste it under `requests` of `https://a.test:{port}`")), "{told}");
    assert_eq!(browser.paste("#tunnel-filter"), "- {methods: [GET], paths: [\"/other\"]}");
    for width in [390, 1280] {
        window(&browser, width, 844, "dark");
        assert_readable(&browser, &format!("requests inside a tunnel, {width} wide"));
    }
    assert_eq!(browser.console(), Vec::<String>::new());
}
