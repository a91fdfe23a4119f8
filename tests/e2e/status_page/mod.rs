//! The status page in real Chromium: what a person sees, clicks and copies.
//!
//! With `EGRESSD_SCREENSHOTS=DIRECTORY` the tests keep their screenshots there.

mod access;
mod allowed;
mod pictures;
mod plots;
mod refused;
mod tunnels;
mod written;

use std::net::IpAddr;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::support::{Egressd, Origin, Wire, config, until, write};

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

/// Asks for a tunnel from this client's address, and reads the refusal.
fn refused_from(proxy: &Egressd, client: [u8; 4], authority: &str) {
    let mut wire = Wire::connect_from(IpAddr::from(client), proxy.address());
    wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    wire.read_to_end();
}

/// The same for many, by a few clients at once.
fn refused_by_many(proxy: &Egressd, asks: &[([u8; 4], String)]) {
    std::thread::scope(|scope| {
        for part in asks.chunks(asks.len().div_ceil(4).max(1)) {
            scope.spawn(move || {
                part.iter().for_each(|(client, authority)| refused_from(proxy, *client, authority))
            });
        }
    });
}

/// Moves the mouse there, as a person does.
fn point(browser: &Browser, x: f64, y: f64) {
    browser.devtools("Input.dispatchMouseEvent", &json!({"type": "mouseMoved", "x": x, "y": y}));
}

/// Left, top, width and height of the first matching element, in the window.
fn place(browser: &Browser, css: &str) -> [f64; 4] {
    let script = format!(
        "const b = document.querySelector({}).getBoundingClientRect(); return [b.left, b.top, b.width, b.height]",
        json!(css)
    );
    serde_json::from_value(browser.run(&script)).expect("four numbers")
}

/// Moves the mouse over the middle of the first matching element.
fn point_at(browser: &Browser, css: &str) {
    let [left, top, width, height] = place(browser, css);
    point(browser, left + width / 2.0, top + height / 2.0);
}

/// Presses a key where the focus is.
fn press(browser: &Browser, key: &str) {
    let (code, text) = match key {
        "Tab" => (9, ""),
        "Enter" => (13, "\r"),
        " " => (32, " "),
        "End" => (35, ""),
        "Home" => (36, ""),
        "ArrowLeft" => (37, ""),
        "ArrowRight" => (39, ""),
        other => panic!("{other}: no code known"),
    };
    for kind in ["keyDown", "keyUp"] {
        let mut event = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code});
        if kind == "keyDown" && !text.is_empty() {
            event["text"] = json!(text);
        }
        browser.devtools("Input.dispatchKeyEvent", &event);
    }
}

fn height(browser: &Browser) -> u64 {
    browser.run("return document.documentElement.scrollHeight").as_u64().expect("a number")
}

pub(crate) fn picture(browser: &Browser, name: &str) {
    let png = browser.screenshot();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 5_000, "{name}: {} bytes", png.len());
    if let Some(directory) = std::env::var_os("EGRESSD_SCREENSHOTS") {
        write(&Path::new(&directory).join(format!("{name}.png")), png);
    }
}

pub(crate) fn window(browser: &Browser, width: u32, height: u32, scheme: &str) {
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

pub(crate) fn assert_readable(browser: &Browser, what: &str) {
    assert_eq!(browser.run(CONTRAST), json!([]), "contrast, {what}");
    assert_eq!(browser.run(NOTHING_BEYOND_THE_EDGE), true, "wider than the window, {what}");
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
