//! The page by keyboard, and as a screen reader has it: Chromium's accessibility tree.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{open, press, refused_from, start, window};
use crate::browser::Browser;
use crate::support::{Origin, until};

/// One element as assistive technology sees it.
#[derive(Debug)]
struct Node {
    role: String,
    name: String,
    properties: BTreeMap<String, Value>,
}

/// What is not hidden, in the order of the document.
fn tree(browser: &Browser) -> Vec<Node> {
    browser.devtools("Accessibility.enable", &json!({}));
    let answer = browser.devtools("Accessibility.getFullAXTree", &json!({}));
    let nodes = answer["nodes"].as_array().expect("nodes").iter();
    let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
    nodes
        .filter(|node| node["ignored"] != true)
        .map(|node| Node {
            role: text(&node["role"]),
            name: text(&node["name"]),
            properties: node["properties"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|one| {
                    (one["name"].as_str().unwrap_or_default().to_owned(), one["value"]["value"].clone())
                })
                .collect(),
        })
        .collect()
}

fn names<'a>(nodes: &'a [Node], role: &str) -> Vec<&'a str> {
    nodes.iter().filter(|node| node.role == role).map(|node| node.name.as_str()).collect()
}

/// Roles that must have a name, by WCAG 2 (4.1.2) and ARIA.
const NAMED: &[&str] = &[
    "button",
    "link",
    "textbox",
    "searchbox",
    "combobox",
    "checkbox",
    "tab",
    "tablist",
    "tabpanel",
    "table",
    "image",
    "img",
    "search",
    "heading",
    "region",
    "group",
    "columnheader",
    "rowheader",
];

fn assert_named(nodes: &[Node], what: &str) {
    let nameless: Vec<&Node> = nodes
        .iter()
        .filter(|node| NAMED.contains(&node.role.as_str()) && node.name.trim().is_empty())
        .collect();
    assert!(nameless.is_empty(), "{what}: {nameless:?}");
    // A button that is read alone must say what it is for.
    for role in ["button", "link"] {
        let mut all = names(nodes, role);
        all.sort_unstable();
        let twice: Vec<&[&str]> = all.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        // The rule of a row can be copied in the row, and again in its detail.
        let twice: Vec<_> = twice.into_iter().filter(|pair| !pair[0].starts_with("Copy the ")).collect();
        assert!(twice.is_empty(), "{what}, {role}: {twice:?}");
    }
}

/// Structure that no tree shows: one `main`, headings without a gap, ids once, what `aria-*` and `for` name is there.
const STRUCTURE: &str = r#"
const bad = [];
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) bad.push(`id ${id} twice`);
for (const name of ["aria-controls", "aria-labelledby", "aria-describedby", "for"])
  for (const element of document.querySelectorAll(`[${name}]`))
    for (const id of element.getAttribute(name).split(" ")) if (!document.getElementById(id)) bad.push(`${name}=${id}`);
if (document.querySelectorAll("main").length !== 1) bad.push("main");
if (!document.documentElement.lang) bad.push("lang");
let level = 0;
for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
  if (!heading.checkVisibility()) continue;
  const own = Number(heading.tagName[1]);
  if (own > level + 1) bad.push(`${heading.tagName} ${heading.textContent} after h${level}`);
  level = own;
}
for (const element of document.querySelectorAll("a[href], button, input, select, [tabindex='0']")) {
  if (!element.checkVisibility() || element.classList.contains("skip")) continue;
  const box = element.getBoundingClientRect();
  if (box.width < 18 || box.height < 18) bad.push(`${element.textContent || element.id}: ${Math.round(box.width)} by ${Math.round(box.height)}`);
}
return bad;
"#;

#[test]
fn everything_has_a_role_and_a_name() {
    let origin = Origin::echo();
    let (proxy, _) = start(&origin);
    let _tunnel = proxy.tunnel(&origin.address().to_string());
    for number in 0..30 {
        refused_from(&proxy, [127, 0, 9, 1], &format!("n{number}.flood.example:443"));
        refused_from(&proxy, [127, 0, 9, 1], &format!("site{number}.example:22"));
    }
    let browser = Browser::start();
    window(&browser, 1280, 900, "light");
    open(&proxy, &browser);
    browser.wait("#refused-count", |text| text.starts_with("60 kinds"));
    browser.click("#refused-table button.open");
    let nodes = tree(&browser);
    assert_named(&nodes, "refused");
    let tabs = names(&nodes, "tab");
    assert!(tabs.len() == 6 && tabs[0] == "Refused 60" && tabs[5] == "Reasons", "{tabs:?}");
    let chosen = nodes
        .iter()
        .filter(|node| node.role == "tab" && node.properties.get("selected") == Some(&json!(true)));
    assert_eq!(chosen.count(), 1);
    assert_eq!(names(&nodes, "tabpanel"), ["Refused 60"]);
    assert_eq!(names(&nodes, "table"), ["Refused and failed, by domain"]);
    assert_eq!(names(&nodes, "columnheader")[..3], ["Times", "Target", "Decision"]);
    assert_eq!(names(&nodes, "searchbox"), ["Search"]);
    assert_eq!(names(&nodes, "combobox"), ["Decision", "Reason", "Policy", "Client"]);
    let open: Vec<_> =
        nodes.iter().filter(|node| node.properties.get("expanded") == Some(&json!(true))).collect();
    assert!(open.len() == 1 && open[0].name.contains(".example:"), "{open:?}");
    let pictures = nodes.iter().filter(|node| ["image", "img"].contains(&node.role.as_str()));
    let pictures: Vec<&str> = pictures.map(|node| node.name.as_str()).collect();
    assert!(
        pictures.len() == 4 && pictures[0].starts_with("Open tunnels since the start: open"),
        "{pictures:?}"
    );
    for tab in ["allowed", "tunnels", "rules", "configuration", "reasons"] {
        browser.click(&format!("#tab-{tab}"));
        until(tab, || {
            (browser.run(&format!("return document.getElementById('{tab}').innerText.length > 30")) == true)
                .then_some(())
        });
        if tab == "rules" {
            browser.wait("#rule-table", |text| text.contains("old.example"));
        }
        assert_named(&tree(&browser), tab);
        assert_eq!(browser.run(STRUCTURE), json!([]), "{tab}");
    }
    // As cards on a phone they are still tables.
    window(&browser, 400, 900, "light");
    browser.click("#tab-refused");
    browser.wait("#refused-count", |text| text.starts_with("60 kinds"));
    let nodes = tree(&browser);
    assert_named(&nodes, "refused, 400 wide");
    assert_eq!(names(&nodes, "table"), ["Refused and failed, by domain"]);
    assert!(nodes.iter().filter(|node| node.role == "row").count() > 20);
    assert_eq!(browser.run(STRUCTURE), json!([]), "refused, 400 wide");
}

/// What has the focus: its id, or its text or label.
fn focused(browser: &Browser) -> String {
    let script = "const at = document.activeElement; return at.id || at.getAttribute('aria-label') || at.textContent.trim()";
    browser.run(script).as_str().expect("a text").to_owned()
}

#[test]
fn everything_can_be_done_by_keyboard() {
    let origin = Origin::echo();
    let (proxy, _) = start(&origin);
    for number in 0..25 {
        refused_from(&proxy, [127, 0, 9, 1], &format!("site{number}.example:443"));
    }
    for number in 0..30 {
        refused_from(&proxy, [127, 0, 9, 1], &format!("n{number}.flood.example:443"));
    }
    let browser = Browser::start();
    window(&browser, 1280, 900, "light");
    open(&proxy, &browser);
    browser.wait("#refused-count", |text| text.starts_with("55 kinds"));
    // The first stop skips to the lists.
    press(&browser, "Tab");
    assert_eq!(focused(&browser), "Skip to the lists");
    assert_eq!(
        browser.run("return document.activeElement.getBoundingClientRect().left >= 0"),
        true,
        "it can be seen"
    );
    press(&browser, "Enter");
    until("the tabs", || (focused(&browser) == "tab-refused").then_some(()));
    press(&browser, "ArrowRight");
    assert_eq!(focused(&browser), "tab-allowed");
    assert_eq!(
        browser.run(
            "return [document.getElementById('allowed').hidden, document.getElementById('refused').hidden]"
        ),
        json!([false, true])
    );
    press(&browser, "End");
    assert_eq!(
        (focused(&browser).as_str(), browser.run("return location.hash")),
        ("tab-reasons", json!("#reasons"))
    );
    press(&browser, "ArrowRight");
    assert_eq!(focused(&browser), "tab-refused", "round");
    // The stops of the panel, in the order in which they are seen.
    let mut stops = Vec::new();
    for _ in 0..9 {
        press(&browser, "Tab");
        stops.push(focused(&browser));
    }
    assert_eq!(
        stops[..8],
        [
            "refused-before",
            "refused-after",
            "refused-filter",
            "refused-kind",
            "refused-reason",
            "refused-policy",
            "refused-client",
            "Only these: flood.example",
        ],
        "{stops:?}"
    );
    assert!(stops[8].contains(".flood.example:443"), "{stops:?}");
    let visible = "const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2";
    assert_eq!(browser.run(visible), true, "the focus can be seen");
    // A row opens, its rule is copied, and the focus stays.
    press(&browser, "Enter");
    browser.wait("#refused-table tr.detail", |text| text.contains("Copy rule"));
    assert!(focused(&browser).contains(".flood.example:443"));
    press(&browser, "Tab");
    assert!(focused(&browser).starts_with("Copy the rule - https://n"), "{}", focused(&browser));
    press(&browser, "Enter");
    browser.wait("#toast", |text| text.starts_with("Copied: - https://n"));
    assert!(focused(&browser).starts_with("Copy the rule - https://n"), "{}", focused(&browser));
    // One domain alone, and back.
    browser.run("document.querySelector('#refused-table .domain button').focus()");
    press(&browser, "Enter");
    browser.wait("#refused-where", |text| text == "1 to 20 of 30 lines");
    until("the focus beside the list", || (focused(&browser) == "refused-clear").then_some(()));
    press(&browser, " ");
    until("the search", || (focused(&browser) == "refused-filter").then_some(()));
    assert_eq!(browser.console(), Vec::<String>::new());
}
