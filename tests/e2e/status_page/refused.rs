//! The list of refusals: short whatever comes, and still under the pointer.

use serde_json::{Value, json};

use super::{
    assert_readable, height, open, picture, place, point, point_at, refused_by_many, refused_from, window,
};
use crate::browser::Browser;
use crate::support::{Egressd, config, until, write};

const KINDS: usize = 5_000;

fn start(mode: &str) -> (Egressd, String) {
    let text = config(&["a.example", "*.listed.example"])
        .replace("    private:", &format!("    mode: {mode}\n    private:"))
        + "limits: {tunnels: 2000, requests_per_second_per_client: 100000}\n";
    (Egressd::start(&text), text)
}

/// Most by one client, under a few domains and under thousands; some by others.
fn many() -> Vec<([u8; 4], String)> {
    let target = |number: usize| match number % 4 {
        0 => format!("host{number}.flood.example:443"),
        1 => format!("n{number}.region{}.cloud.example:443", number % 7),
        2 => format!("www.site{number}.example:443"),
        _ => format!("198.51.{}.{}:443", number / 256 % 256, number % 256),
    };
    let client = |number: usize| if number.is_multiple_of(50) { [127, 0, 9, 2] } else { [127, 0, 9, 1] };
    (0..KINDS).map(|number| (client(number), target(number))).collect()
}

/// The texts of the rows that are shown, each in one line.
fn rows(browser: &Browser) -> Vec<String> {
    let script = "return [...document.querySelectorAll('#refused-table tbody tr')].map((row) => row.innerText.replaceAll(/\\s+/g, ' '))";
    serde_json::from_value(browser.run(script)).expect("texts")
}

#[test]
fn with_5000_kinds_the_page_stays_short_and_usable() {
    let (proxy, _) = start("enforce");
    refused_from(&proxy, [127, 0, 9, 3], "wanted.new.example:443");
    refused_by_many(&proxy, &many());
    let browser = Browser::start();
    window(&browser, 1280, 900, "light");
    open(&proxy, &browser);
    let count = format!("{} kinds in 24 hours", "5,001");
    browser.wait("#refused-count", |text| text == count);
    for (width, scheme) in [(1280, "light"), (400, "light"), (400, "dark"), (320, "light"), (1280, "dark")] {
        window(&browser, width, 900, scheme);
        until("the rows", || (!rows(&browser).is_empty()).then_some(()));
        let tall = height(&browser);
        assert!(tall < 3_000, "{tall} px at {width}");
        assert_readable(&browser, &format!("5,000 kinds, {width} wide, {scheme}"));
        picture(&browser, &format!("5000-{width}-{scheme}"));
    }
    // Each kind is one line, and a domain with many shows a few of them.
    let lines = "const rows = [...document.querySelectorAll('#refused-table tr.kind')]; \
                 return [rows.length, Math.max(...rows.map((row) => row.offsetHeight))]";
    let [shown, tallest]: [u64; 2] = serde_json::from_value(browser.run(lines)).expect("two numbers");
    assert!(shown == 20 && tallest < 42, "{shown} rows, {tallest} px");
    let headers = rows(&browser).into_iter().filter(|row| row.contains("kinds, ")).collect::<Vec<_>>();
    assert!(headers.iter().any(|row| row.starts_with("flood.example 1,250 kinds")), "{headers:?}");

    // Only one domain, and its last page.
    browser.click("button[aria-label='Only these: flood.example']");
    browser.wait("#refused-count", |text| text == "1,250 matching of 5,001 kinds in 24 hours");
    browser.wait("#refused-where", |text| text == "1 to 20 of 1,250 lines");
    browser.click("#refused-after");
    browser.wait("#refused-where", |text| text == "21 to 40 of 1,250 lines");
    browser.click("#refused-before");
    browser.wait("#refused-where", |text| text == "1 to 20 of 1,250 lines");
    browser.click("#refused-clear");
    browser.wait("#refused-count", |text| text == count);

    // By search, and by client: one client made thousands, and the others' are still there.
    browser.keys("#refused-filter", "wanted.new");
    browser.wait("#refused-count", |text| text == "1 matching of 5,001 kinds in 24 hours");
    assert!(
        rows(&browser)[0].contains("wanted.new.example:443 denied host_not_allowed 127.0.9.3"),
        "{:?}",
        rows(&browser)
    );
    browser.click("#refused-clear");
    choose(&browser, "refused-client", "127.0.9.2");
    browser.wait("#refused-count", |text| text == "100 matching of 5,001 kinds in 24 hours");
    choose(&browser, "refused-kind", "deny");
    choose(&browser, "refused-reason", "host_not_allowed");
    browser.keys("#refused-filter", "198.51.");
    browser.wait("#refused-count", |text| text == "0 matching of 5,001 kinds in 24 hours");
    browser.wait("#refused-none", |text| text == "Nothing in the last 24 hours is like that.");
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// Chooses from a list, as the event of a choice by hand does.
fn choose(browser: &Browser, id: &str, value: &str) {
    browser.run(&format!(
        "const field = document.getElementById('{id}'); field.value = '{value}'; \
         if (field.value !== '{value}') throw new Error('no such choice'); field.dispatchEvent(new Event('change'))"
    ));
}

#[test]
fn rows_do_not_move_under_the_pointer_or_the_focus() {
    let (proxy, text) = start("enforce");
    for number in 0..8 {
        refused_from(&proxy, [127, 0, 9, 1], &format!("n{number}.first{number}.example:443"));
    }
    let browser = Browser::start();
    window(&browser, 1280, 900, "light");
    open(&proxy, &browser);
    let before = until("eight rows", || Some(rows(&browser)).filter(|rows| rows.len() == 8));
    let third = "#refused-table tbody tr:nth-child(3)";
    point_at(&browser, third);
    let here = place(&browser, third);
    let [left, top, width, tall] = here;
    let under = format!(
        "return document.elementFromPoint({}, {}).closest('tr')?.innerText.replaceAll(/\\s+/g, ' ') ?? null",
        left + width / 2.0,
        top + tall / 2.0
    );
    let pointed = browser.run(&under);
    assert!(pointed.as_str().is_some_and(|row| row.contains(".first5.example")), "{pointed}");

    // Newer kinds, a warning above, and another count of the same kind.
    for number in 0..5 {
        refused_from(&proxy, [127, 0, 9, 1], &format!("n{number}.later{number}.example:443"));
    }
    refused_from(&proxy, [127, 0, 9, 1], "n5.first5.example:443");
    write(&proxy.file("egressd.yaml"), text.replace("    allow:\n", "    allow:\n      - \"*.com\"\n"));
    browser.wait("#health", |text| text == "ready, on an old configuration");
    browser.wait("#refused-held", |text| text.contains("5 other kinds came first meanwhile"));
    let now = browser.run(&under);
    assert!(
        now.as_str().is_some_and(|row| row.starts_with("2× ") && row.contains(".first5.example")),
        "{now}"
    );
    let order = |rows: &[String]| -> Vec<String> {
        rows.iter().map(|row| row.split(' ').nth(1).unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(order(&rows(&browser)), order(&before), "the same rows in the same order");

    // The pointer leaves, and the list follows.
    point(&browser, 5.0, 5.0);
    until("the later ones first", || rows(&browser)[0].contains("first5.example").then_some(()));
    assert!(rows(&browser)[1].contains(".later4.example"), "{:?}", rows(&browser));

    // The same for the focus: a row is open, and stays where it is.
    browser.run("document.querySelectorAll('#refused-table button.open')[2].focus()");
    super::press(&browser, "Enter");
    browser.wait("#refused-table tr.detail", |text| text.contains("no rule of policy `test` names"));
    let focused =
        "return document.activeElement.closest('tr').innerText.replaceAll(/\\s+/g, ' ').split(' ')[1]";
    let (before, at) = (browser.run(focused), place(&browser, "#refused-table tr:has(:focus)"));
    write(&proxy.file("egressd.yaml"), &text);
    refused_from(&proxy, [127, 0, 9, 1], "n.latest.example:443");
    browser.wait("#health", |text| text == "ready");
    browser.wait("#refused-held", |text| text.contains("1 other kind came first meanwhile"));
    assert_eq!(browser.run(focused), before);
    let moved = place(&browser, "#refused-table tr:has(:focus)")[1] - at[1];
    assert!(moved.abs() < 2.0, "moved by {moved} px");
    browser.click("#refused-now");
    until("the latest", || rows(&browser)[0].contains("n.latest.example").then_some(()));
    assert!(
        browser.run("return document.querySelectorAll('#refused-table tr.detail').length") == 1,
        "it is still open"
    );
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_row_opens_to_the_advice_and_leads_to_its_reason() {
    let (proxy, _) = start("enforce");
    refused_from(&proxy, [127, 0, 9, 1], "new.example:8443");
    refused_from(&proxy, [127, 0, 9, 2], "new.example:8443");
    refused_from(&proxy, [127, 0, 9, 1], "169.254.169.254:80");
    let browser = Browser::start();
    window(&browser, 400, 900, "light");
    open(&proxy, &browser);
    until("both rows", || (rows(&browser).len() == 2).then_some(()));
    browser.click("#refused-table tr.kind:nth-child(2) button.open");
    let told = browser.wait("#refused-table tr.detail", |text| text.contains("Copy rule"));
    for part in [
        "no rule of policy `test` names new.example",
        "- https://new.example:8443",
        "Paste it under `allow` of policy `test` in ",
        "127.0.9.1, 127.0.9.2",
        "host_not_allowed: no rule names this host.",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_readable(&browser, "an open row, 400 wide");
    picture(&browser, "open-row-400");
    // A client's own mistake is told, and no rule offered.
    browser.click("#refused-table tr.kind button.open");
    let told = browser.wait("#refused-table tr.detail", |text| text.contains("169.254.169.254"));
    assert!(told.contains("the client's no_proxy must name it") && !told.contains("Copy"), "{told}");
    // Its reason.
    browser.click("#refused-table tr.detail a");
    until("the reason", || {
        (browser.run("return document.activeElement.id") == "reason-host_not_allowed").then_some(())
    });
    assert_eq!(browser.run("return location.hash"), "#reason-host_not_allowed");
    let [_, top, ..] = place(&browser, "#reason-host_not_allowed");
    assert!((0.0..900.0).contains(&top), "in the window: {top}");
    assert_readable(&browser, "the reasons");
    let all =
        browser.run("return document.querySelectorAll('#reasons dt').length").as_u64().expect("a number");
    assert!(all > 50, "{all}");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn report_mode_is_loud_until_it_is_over() {
    let (proxy, text) = start("report");
    let browser = Browser::start();
    window(&browser, 400, 900, "dark");
    open(&proxy, &browser);
    browser.wait("#report", |text| text == "REPORT MODE: policy test lets out every host");
    assert!(
        browser.run("return document.title").as_str().is_some_and(|title| title.starts_with("REPORT MODE "))
    );
    assert_readable(&browser, "report mode");
    picture(&browser, "report-mode-400");
    // It stays in sight.
    browser.run("window.scrollTo(0, document.documentElement.scrollHeight)");
    let [_, top, _, tall] = place(&browser, "#report");
    assert!(top >= 0.0 && tall > 10.0, "{top}");
    write(&proxy.file("egressd.yaml"), text.replace("mode: report", "mode: enforce"));
    until("the end of report mode", || {
        (browser.run("return document.getElementById('report').hidden") == true).then_some(())
    });
    assert_eq!(browser.run("return document.title.startsWith('egressd')"), json!(true));
    assert_ne!(browser.run("return document.getElementById('rules-number').innerText"), Value::Null);
}
