//! The page of `summary --html` in real Chromium: readable and whole on a desk and on a phone, in light and dark, without a script.
//!
//! With `EGRESSD_SCREENSHOTS=DIRECTORY` the tests keep their screenshots there.

use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::status_page::{assert_readable, picture, window};
use crate::support::{command, directory, write};

/// Pairs of texts in a figure that lie on each other.
const COLLISIONS: &str = r#"
const found = [];
for (const figure of document.querySelectorAll("figure")) {
  const walker = document.createTreeWalker(figure, NodeFilter.SHOW_TEXT);
  const texts = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.tagName === "title" || !parent.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) texts.push([node, rect]);
  }
  texts.forEach(([one, a], index) => {
    for (const [other, b] of texts.slice(index + 1)) {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (one !== other && wide > 1 && high > 1) found.push(`${one.data.trim()} / ${other.data.trim()}`);
    }
  });
}
return found;
"#;

/// The texts below the plots that reach out of the window, and those that are smaller than a person can read.
const BAD_TEXTS: &str = r#"
return [...document.querySelectorAll("figure text, .y span")].filter((text) => text.checkVisibility()).filter((text) => {
  const { left, right, height } = text.getBoundingClientRect();
  return left < 0 || right > document.documentElement.clientWidth || height < 10;
}).map((text) => text.textContent);
"#;

/// For each bar of each plot: what a browser shows with the pointer just below the top of the plot.
const UNDER_THE_POINTER: &str = r#"
const shown = [];
for (const svg of document.querySelectorAll("svg.bars")) {
  svg.scrollIntoView({ block: "center" });
  for (const bar of svg.querySelectorAll("g")) {
    const { left, width } = bar.querySelector(".hit").getBoundingClientRect();
    const at = document.elementFromPoint(left + width / 2, svg.getBoundingClientRect().top + 2);
    shown.push(at?.closest("g") === bar ? bar.querySelector("title").textContent : "nothing");
  }
}
return shown;
"#;

/// A line of a log. `at` is in seconds.
fn line(at: i64, event: &str, client: &str, target: &str, rest: &str) -> String {
    let time = Timestamp::from_second(at).expect("a moment");
    let method = if target.starts_with("http://") { "GET" } else { "CONNECT" };
    format!(
        "{{\"time\":\"{time}\",\"event\":\"{event}\",\"client\":\"{client}:40000\",\"method\":\"{method}\",\"target\":\"{target}\",{rest}}}\n"
    )
    .replace("Z\",\"event", ".000000Z\",\"event")
}

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A log of so many hours: mirrors by Gitaly, builds in report mode, and refusals.
fn log(hours: i64) -> String {
    const START: i64 = 1_772_323_200; // 2026-03-01
    let mut numbers = Numbers(7);
    let mut log = line(
        START,
        "open",
        "10.0.12.7",
        "codecommit.eu-west-1.amazonaws.com:443",
        r#""policy":"gitaly","mode":"enforce","rule":"codecommit.eu-west-1.amazonaws.com","decision":"allow","reason":null"#,
    );
    for hour in 0..hours {
        let busy = 2 + 8 * u64::from((7..19).contains(&(hour % 24)));
        for _ in 0..numbers.below(busy) {
            let at = START + hour * 3_600 + numbers.below(3_600) as i64;
            let mirror = [
                "git-codecommit.ap-northeast-1.amazonaws.com:443",
                "git-codecommit.eu-central-1.amazonaws.com:443",
            ];
            let client = format!("10.0.12.{}", 7 + numbers.below(3));
            let target = mirror[numbers.below(2) as usize];
            let of = r#""policy":"gitaly","mode":"enforce","rule":"git-codecommit.*.amazonaws.com","decision":"allow","reason":null"#;
            log += &line(at, "open", &client, target, of);
            let (sent, received) = (numbers.below(900_000_000), numbers.below(3_000_000));
            let of = format!("{of},\"sent\":{sent},\"received\":{received}");
            log += &line(at + 40, "close", &client, target, &of);
            let builds = [
                ("packages.example.org:443", "allow", "null"),
                ("wheels.example.org:443", "allow", "null"),
                ("files.example.org:443", "would_deny", "\"host_not_allowed\""),
                ("modules.example.org:443", "would_deny", "\"host_not_allowed\""),
            ];
            let (target, decision, reason) = builds[numbers.below(4) as usize];
            let client = format!("10.0.40.{}", 3 + numbers.below(12));
            let rule = if decision == "allow" {
                format!("\"{}\"", target.trim_end_matches(":443"))
            } else {
                "null".to_owned()
            };
            let of = format!(
                r#""policy":"ci","mode":"report","rule":{rule},"decision":"{decision}","reason":{reason},"sent":null"#
            );
            log += &line(at, "open", &client, target, &of);
            if numbers.below(5) == 0 {
                let refused = [
                    ("www.google.com:443", "host_not_allowed"),
                    ("10.0.12.9:5432", "address_prohibited"),
                    (
                        "a-name-that-is-so-long-that-no-table-has-room-for-it.internal.corp.example:8443",
                        "port_not_allowed",
                    ),
                ];
                let (target, reason) = refused[numbers.below(3) as usize];
                let of = format!(
                    r#""policy":"gitaly","mode":"enforce","rule":null,"decision":"deny","reason":"{reason}","sent":null"#
                );
                log += &line(at, "deny", "10.0.12.7", target, &of);
            }
        }
    }
    log
}

fn report(directory: &Path, log: &str) -> String {
    write(&directory.join("access.log"), log);
    let mut summary = command();
    summary.args(["summary", "--html", "report.html", "access.log"]).current_dir(directory);
    let made = summary.output().expect("it runs");
    assert!(made.status.success(), "{made:?}");
    format!("file://{}", directory.join("report.html").display())
}

#[test]
fn the_report_is_readable_on_a_desk_and_on_a_phone() {
    let directory = directory();
    let browser = Browser::start();
    // A page that somebody might make up: an hour, some days, half a year.
    for (hours, name) in [(1, "hour"), (45 * 24, "days"), (24 * 180, "half-a-year")] {
        let address = report(directory.path(), &log(hours));
        for (width, height, scheme, kind) in [
            (1280, 1000, "light", "light"),
            (1280, 1000, "dark", "dark"),
            (400, 900, "light", "phone"),
            (320, 900, "dark", "small"),
        ] {
            let what = format!("{name} {kind}");
            window(&browser, width, height, scheme);
            browser.go(&address);
            assert_readable(&browser, &what);
            assert_eq!(browser.run(COLLISIONS), json!([]), "texts on each other, {what}");
            assert_eq!(browser.run(BAD_TEXTS), json!([]), "cut or tiny texts, {what}");
            assert_eq!(browser.console(), Vec::<String>::new(), "{what}");
            picture(&browser, &format!("report-{name}-{kind}"));
            for part in ["matrix", "rules", "refused"] {
                browser.run(&format!("document.querySelector('#{part}')?.scrollIntoView()"));
                picture(&browser, &format!("report-{name}-{kind}-{part}"));
            }
        }
    }
}

#[test]
fn the_pointer_anywhere_over_a_bar_shows_its_values() {
    let directory = directory();
    let browser = Browser::start();
    for (width, height) in [(1280, 1000), (400, 900)] {
        window(&browser, width, height, "light");
        browser.go(&report(directory.path(), &log(30)));
        let shown: Vec<String> = serde_json::from_value(browser.run(UNDER_THE_POINTER)).expect("texts");
        assert!(shown.len() > 10, "{shown:?}");
        for text in &shown {
            assert!(
                text.starts_with("2026-03-0")
                    && (text.contains("\ndenied: ") || text.contains("\nreceived: ")),
                "{shown:?}"
            );
        }
    }
}

/// The matrix as rows of texts.
fn matrix(browser: &Browser) -> Vec<Vec<String>> {
    let script = "return [...document.querySelectorAll('.matrix tr')].map((row) => [...row.cells].map((cell) => cell.innerText.trim()))";
    serde_json::from_value(browser.run(script)).expect("texts")
}

#[test]
fn who_went_where_adds_up_in_the_page_and_report_mode_is_loud() {
    let directory = directory();
    let browser = Browser::start();
    window(&browser, 1280, 1000, "light");
    let text = log(72);
    browser.go(&report(directory.path(), &text));
    let records = || text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let passed = records().filter(|record| record["event"] == "open").count();
    let table = matrix(&browser);
    let sum: usize = table[1..]
        .iter()
        .flat_map(|row| &row[1..])
        .filter_map(|cell| cell.replace(',', "").parse::<usize>().ok())
        .sum();
    assert_eq!(sum, passed, "{table:?}");
    let mut told = String::new();
    for (column, client) in
        table[0].iter().enumerate().skip(1).filter(|(_, client)| !client.contains("other"))
    {
        for row in table[1..].iter().filter(|row| !row[0].contains("other target")) {
            let of = records().filter(|record| {
                let from = record["client"].as_str().and_then(|text| text.split(':').next())
                    == Some(client.as_str());
                record["event"] == "open" && from && record["target"] == row[0]
            });
            let (want, got) = (of.count(), row[column].replace(',', "").parse().unwrap_or(0_usize));
            if want != got {
                let _ = write!(told, "{client} to {}: {got} instead of {want}; ", row[0]);
            }
        }
    }
    assert_eq!(told, "");
    assert!(browser.text(".badge strong").starts_with("REPORT MODE"), "{}", browser.text(".badge"));
    // Loud: above everything else, and large.
    let place = browser.run("const { top, height } = document.querySelector('.badge').getBoundingClientRect(); return [top, height]");
    let place: Vec<f64> = serde_json::from_value(place).expect("numbers");
    assert!(place[0] < 300.0 && place[1] > 40.0, "{place:?}");
}
