//! The plots: values under the pointer and by key, the time since the start, captions that fit.

use serde_json::{Value, json};

use super::{open, picture, place, point, press, refused_from, start, window};
use crate::browser::Browser;
use crate::support::{Origin, until};

/// Texts of the plots that touch each other, or are wider than their plot.
const COLLISIONS: &str = r#"
const bad = [];
for (const plot of document.querySelectorAll(".plot")) {
  const box = plot.getBoundingClientRect();
  const texts = [];
  const walk = document.createTreeWalker(plot, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    if (!node.data.trim() || !node.parentElement.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const b of range.getClientRects()) texts.push([node.data.trim(), b]);
  }
  texts.forEach(([text, b], index) => {
    if (b.right > box.right + 0.5 || b.left < box.left - 0.5) bad.push(`${text} leaves its plot`);
    for (const [other, c] of texts.slice(index + 1)) {
      const apart = b.right <= c.left + 0.5 || c.right <= b.left + 0.5 || b.bottom <= c.top + 2 || c.bottom <= b.top + 2;
      if (!apart) bad.push(`${text} and ${other}`);
    }
  });
}
return bad;
"#;

#[test]
fn plots_tell_their_values_begin_with_the_start_and_fit_on_a_phone() {
    let origin = Origin::echo();
    let (proxy, _) = start(&origin);
    let authority = origin.address().to_string();
    let _tunnels: Vec<_> = (0..3).map(|_| proxy.tunnel(&authority)).collect();
    refused_from(&proxy, [127, 0, 9, 1], "new.example:443");
    let browser = Browser::start();
    window(&browser, 1280, 900, "light");
    open(&proxy, &browser);
    // A sample is taken every ten seconds.
    let denied = browser.wait("#plots .plot:nth-child(4) .now", |text| text.starts_with('1'));
    assert_eq!(denied.split_whitespace().collect::<Vec<_>>().join(" "), "1 denied, 0 failed since the start");
    let from = browser.text("#plots .plot:nth-child(1) .axis span");
    assert!(from.starts_with("start, ") && from.ends_with(" min ago"), "not an hour that was not: {from}");
    // What is drawn fills the plot: a sample moves a tenth of the width in a few seconds.
    let first = "return document.querySelector('#plots .plot .curve').getAttribute('d').match(/^M([\\d.]+)/)?.[1] ?? null";
    until("the first sample to move", || {
        let first: f64 = browser.run(first).as_str()?.parse().ok()?;
        (first < 324.0).then_some(())
    });

    let [left, top, width, tall] = place(&browser, "#plots .plot:nth-child(1) .frame");
    point(&browser, left + width - 20.0, top + tall / 2.0);
    let tip = "#plots .plot:nth-child(1) .tip";
    let shown = browser.wait(tip, |text| text.contains("open 3"));
    assert!(shown.contains(" UTC"), "{shown}");
    assert_eq!(browser.run("return document.querySelectorAll('.tip:not([hidden])').length"), 1);
    picture(&browser, "plot-pointed");
    point(&browser, 5.0, 5.0);
    until("the values to go", || {
        (browser.run("return document.querySelector('.tip').hidden") == true).then_some(())
    });
    // By key.
    browser.run("document.querySelector('#plots .plot:nth-child(1) .frame').focus()");
    press(&browser, "ArrowLeft");
    browser.wait(tip, |text| text.contains("open 3"));
    press(&browser, "Tab");
    assert_eq!(browser.run("return document.querySelector('.tip').hidden"), true);
    press(&browser, "Tab");

    for width in [1280, 760, 400, 360, 320] {
        window(&browser, width, 900, "light");
        assert_eq!(browser.run(COLLISIONS), json!([]), "{width} wide");
    }
    // With the longest values that there are.
    browser.run(
        "for (const [selector, text] of [['.most', '999.9 MiB/s'], ['.axis span', 'start, 59 min ago']]) \
         for (const place of document.querySelectorAll(selector)) if (place.textContent !== 'now') place.textContent = text",
    );
    let wrong: Value = browser.run(COLLISIONS);
    assert_eq!(wrong, json!([]), "the longest captions, 320 wide");
    assert_eq!(browser.console(), Vec::<String>::new());
}
