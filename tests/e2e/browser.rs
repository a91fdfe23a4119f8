//! A real Chromium, driven by the WebDriver protocol (W3C), without a display and without the network.

use std::fs::File;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Wire, directory, until};
use crate::tool::{Daemon, tool};

/// The key of an element in WebDriver's JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const ARGUMENTS: &[&str] = &[
    "--headless=new",
    // As root, Chromium has no sandbox; the test is about what the page may do.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
];

/// One browser with one window.
pub(crate) struct Browser {
    driver: SocketAddr,
    session: String,
    _home: TempDir,
    _chromedriver: Daemon,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let home = directory();
        // It takes a free port of IPv4, and exits where somebody has the same one of IPv6: then it takes another.
        let (chromedriver, port) = (0..5).find_map(|_| listening(&home)).expect("a port for chromedriver");
        let driver = SocketAddr::from(([127, 0, 0, 1], port));
        let mut arguments: Vec<String> = ARGUMENTS.iter().map(|text| (*text).to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", home.path().join("profile").display()));
        let options = json!({"args": arguments});
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let value = ask(driver, "POST", "/session", &wanted).expect("a session");
        let session = value["sessionId"].as_str().expect("an id").to_owned();
        Browser { driver, session, _home: home, _chromedriver: chromedriver }
    }

    fn try_post(&self, path: &str, body: &Value) -> Result<Value, String> {
        ask(self.driver, "POST", &format!("/session/{}/{path}", self.session), body)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.try_post(path, body).unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    pub(crate) fn go(&self, url: &str) {
        self.post("url", &json!({"url": url}));
    }

    /// Runs the body of a function in the page, outside its content security policy, and returns its result.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// The text of the first matching element, as it is shown.
    pub(crate) fn text(&self, css: &str) -> String {
        let script = format!("return document.querySelector({})?.innerText ?? null", json!(css));
        self.run(&script).as_str().unwrap_or_else(|| panic!("no {css}")).to_owned()
    }

    /// Waits until `wanted` accepts the text of the first matching element.
    pub(crate) fn wait(&self, css: &str, wanted: impl Fn(&str) -> bool) -> String {
        until(&format!("{css}, which is {:?}", self.text(css)), || {
            let text = self.text(css);
            wanted(&text).then_some(text)
        })
    }

    fn element(&self, css: &str) -> String {
        let value = self.post("element", &json!({"using": "css selector", "value": css}));
        value[ELEMENT].as_str().expect("an element").to_owned()
    }

    /// Clicks as a person does: an element that cannot be clicked is a failure. A row that is replaced meanwhile is tried again.
    pub(crate) fn click(&self, css: &str) {
        until(&format!("a click on {css}"), || {
            let element = self.element(css);
            self.run(&format!("document.querySelector({}).scrollIntoView({{block: 'center'}})", json!(css)));
            self.try_post(&format!("element/{element}/click"), &json!({})).ok()
        });
    }

    /// Types into an element.
    pub(crate) fn keys(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/value"), &json!({"text": text}));
    }

    /// Empties an element, pastes the clipboard into it, and returns what it then holds.
    pub(crate) fn paste(&self, css: &str) -> String {
        let element = self.element(css);
        self.post(&format!("element/{element}/clear"), &json!({}));
        // Control, then v, then release.
        self.keys(css, "\u{e009}v\u{e000}");
        let value = self.run(&format!("return document.querySelector({}).value", json!(css)));
        value.as_str().expect("a text").to_owned()
    }

    /// A command of the Chrome DevTools protocol.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// The window as a PNG.
    pub(crate) fn screenshot(&self) -> Vec<u8> {
        let value = ask(self.driver, "GET", &format!("/session/{}/screenshot", self.session), &Value::Null)
            .expect("a screenshot");
        STANDARD.decode(value.as_str().expect("a text")).expect("base64")
    }

    /// What the console got since the last call, including violations of the content security policy.
    pub(crate) fn console(&self) -> Vec<String> {
        let entries = self.post("se/log", &json!({"type": "browser"}));
        let entries = entries.as_array().expect("a list").iter();
        entries.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; the guard of chromedriver ends chromedriver.
        let _ = ask(self.driver, "DELETE", &format!("/session/{}", self.session), &Value::Null);
    }
}

/// A chromedriver and its port; `None` if it found none and has exited.
fn listening(home: &TempDir) -> Option<(Daemon, u16)> {
    let said = home.path().join("chromedriver.log");
    let mut command = tool("chromedriver", home.path());
    command.arg("--port=0").env("XDG_RUNTIME_DIR", home.path()).env("TMPDIR", home.path());
    let log = || File::options().create(true).append(true).open(&said).expect("a log");
    File::create(&said).expect("a new file");
    command.stdout(log()).stderr(log());
    let chromedriver = Daemon::start(&mut command);
    let port = until("chromedriver to listen", || {
        let text = std::fs::read_to_string(&said).ok()?;
        match text.split_once("successfully on port ") {
            Some((_, rest)) => Some(Some(rest.split_once('.')?.0.parse::<u16>().ok()?)),
            None => text.contains("Exiting").then_some(None),
        }
    });
    Some((chromedriver, port?))
}

fn ask(driver: SocketAddr, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut wire = Wire::connect(driver);
    wire.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: {driver}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let reply = wire.read_reply();
    let mut answer: Value = serde_json::from_str(&reply.body).map_err(|error| error.to_string())?;
    match reply.status {
        200 => Ok(answer["value"].take()),
        _ => Err(answer["value"]["message"].as_str().unwrap_or(&reply.body).to_owned()),
    }
}
