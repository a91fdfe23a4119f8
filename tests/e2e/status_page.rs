//! The status page in real Chromium: what a person sees, clicks and copies.
//!
//! With `EGRESSD_SCREENSHOTS=DIRECTORY` the tests keep their screenshots there.

use std::io::{Read as _, Write as _};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::support::{Authority, Egressd, Origin, Wire, config, directory, until, write};

/// 500 tunnels need 1,000 sockets in the test itself, which is more than the usual soft limit.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .expect("to the hard one");
}

fn start(origin: &Origin) -> (Egressd, String) {
    let text = config(&[
        &format!("{{to: \"tcp://127.0.0.1:{}\", name: echo, owner: o@corp.example}}", origin.port()),
        "{to: old.example, expires: 2001-01-01, ticket: SEC-1}",
    ]) + "limits: {tunnels: 2000, requests_per_second_per_client: 100000}\n";
    (Egressd::start(&text), text)
}

fn open(proxy: &Egressd, browser: &Browser) {
    browser.go(&format!("http://{}/", proxy.admin()));
    browser.wait("#health", |text| text == "ready");
}

/// Sends a request and reads the reply to its end.
fn refused(proxy: &Egressd, request: &[u8]) {
    let mut wire = proxy.connect();
    wire.send(request);
    wire.read_to_end();
}

fn picture(browser: &Browser, name: &str) {
    let png = browser.screenshot();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 5_000, "{name}: {} bytes", png.len());
    if let Some(directory) = std::env::var_os("EGRESSD_SCREENSHOTS") {
        write(&Path::new(&directory).join(format!("{name}.png")), png);
    }
}

fn window(browser: &Browser, width: u32, height: u32, scheme: &str) {
    let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
    browser.devtools("Emulation.setDeviceMetricsOverride", &size);
    let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
    browser.devtools("Emulation.setEmulatedMedia", &media);
}

/// The contrast of every text with its background, by WCAG 2: at least 4.5.
const CONTRAST: &str = r#"
const rgb = (text) => text.match(/[\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const [r, g, b, a = 1] = rgb(getComputedStyle(at).backgroundColor);
    if (a === 1) return [r, g, b];
  }
  return [255, 255, 255];
};
const bad = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility({ opacityProperty: true }) || ["STYLE", "SCRIPT"].includes(element.tagName)) continue;
  const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) bad.push(`${element.className || element.tagName} ${element.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
}
return bad;
"#;

const NOTHING_BEYOND_THE_EDGE: &str =
    "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";

fn assert_readable(browser: &Browser, what: &str) {
    assert_eq!(browser.run(CONTRAST), json!([]), "contrast, {what}");
    assert_eq!(browser.run(NOTHING_BEYOND_THE_EDGE), true, "wider than the window, {what}");
}

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

    browser.wait("#tunnels-none", |text| text == "No tunnel is open.");
    assert!(browser.text("#denials-none").starts_with("Nothing was refused"));
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
    assert_eq!(rows(&browser).len(), 500);
    picture(&browser, "500-tunnels");
    assert_readable(&browser, "500 tunnels");

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
    until("the other order", || (rows(&browser)[499][4] == "300 KiB").then_some(()));
    browser.keys("#tunnel-table th:nth-child(2) button", " ");
    assert_eq!((sort(&browser, 1), sort(&browser, 5)), (json!("ascending"), Value::Null));

    browser.keys("#tunnel-filter", &tunnels[17].local().to_string());
    browser.wait("#tunnels-count", |text| text == "1 matching of 500");
    assert_eq!(rows(&browser)[0][4], "300 KiB");
    browser.keys("#tunnel-filter", "x");
    browser.wait("#tunnels-none", |text| text == "None of 500 tunnels matches the filter.");
    // A new page has no filter. A tunnel that ended is no longer shown, and the rest stays.
    open(&proxy, &browser);
    tunnels.truncate(20);
    browser.wait("#tunnels-count", |text| text == "20");

    assert_eq!(browser.console(), Vec::<String>::new());
}

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
    browser.wait("#denial-list", |text| text.contains("old.example"));
    let shown = browser.text("#denial-list");
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
    assert_eq!(browser.paste("#tunnel-filter"), "- https://new.example");
    browser.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})");
    browser.click(&copy("- tcp://new.example:22"));
    let told = browser.wait("#toast", |text| text.starts_with("Copied: - tcp://new.example:22 "));
    assert!(told.contains("Warning: tcp: the content is not inspected"), "{told}");
    assert_eq!(browser.paste("#tunnel-filter"), "- tcp://new.example:22");
    let buttons = "return document.querySelectorAll('#denial-list button').length";
    let all = browser.run(buttons);
    browser.click("#show-error");
    browser.wait("#denials-none", |text| text.starts_with("None of this kind"));
    browser.click("#show-deny");
    until("the denials again", || (browser.run(buttons) == all).then_some(()));

    browser.click("#rules summary");
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
    let shown = browser.wait("#tunnel-table", |text| text.contains("/ok"));
    for part in
        ["inspected, 3 requests", "GET /it's(new)", "200 would_deny request_not_allowed", "Copy entry"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let refused = browser.wait("#denial-list", |text| text.contains("GET /other"));
    assert!(refused.contains("GET /it's(new)"), "both, although the target is one: {refused}");
    assert_readable(&browser, "requests inside a tunnel");
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

#[test]
fn the_page_runs_nothing_else_and_says_when_it_is_old() {
    let origin = Origin::echo();
    let (proxy, _) = start(&origin);
    let browser = Browser::start();
    open(&proxy, &browser);
    assert_eq!(browser.console(), Vec::<String>::new());

    // Injected code would not run, and could not send anything out.
    browser.run(
        "document.body.insertAdjacentHTML('beforeend', '<p id=slipped onclick=\"window.owned=1\">x</p><img src=x \
         onerror=\"window.owned=2\"><style>body { color: rgb(1, 2, 3) }</style>'); \
         const script = document.createElement('script'); script.textContent = 'window.owned = 3'; document.body.append(script); \
         document.getElementById('slipped').click();",
    );
    assert_eq!(browser.run("return window.owned ?? null"), Value::Null);
    assert_ne!(browser.run("return getComputedStyle(document.body).color"), "rgb(1, 2, 3)");
    let violations = until("the violations", || {
        let lines = browser.console();
        (lines.len() >= 3).then_some(lines)
    });
    assert!(violations.iter().all(|line| line.contains("Content Security Policy")), "{violations:?}");

    drop(proxy);
    browser.wait("#stale", |text| text.starts_with("Not current: the last answer is from "));
    assert_eq!(browser.text("#health"), "no answer");
}
