// One list at a time. The choice is the fragment of the address, so that a link can lead to it.

const tabs = [...byId("parts").querySelectorAll("[role=tab]")];
const panelOf = (tab) => byId(tab.getAttribute("aria-controls"));
let chosen = null;

function choose(tab) {
  if (chosen === tab) return;
  chosen = tab;
  for (const other of tabs) {
    const is = other === tab;
    set(other, { "aria-selected": String(is), tabindex: is ? "0" : "-1" });
    panelOf(other).hidden = !is;
  }
  refreshList().catch(() => {});
}

const shows = (name) => chosen !== null && panelOf(chosen).id === name;

function go(tab) {
  history.replaceState(null, "", tab.getAttribute("href"));
  choose(tab);
}

for (const tab of tabs) {
  tab.addEventListener("click", (event) => { event.preventDefault(); go(tab); });
}

byId("parts").addEventListener("keydown", (event) => {
  const at = tabs.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (at < 0 || to === undefined || event.ctrlKey || event.altKey || event.metaKey) {
    if (event.key === " " && at >= 0) { event.preventDefault(); go(tabs[at]); }
    return;
  }
  event.preventDefault();
  const tab = tabs[(to + tabs.length) % tabs.length];
  go(tab);
  tab.focus();
});

// By the address: a list, or one reason.
function follow() {
  const name = decodeURIComponent(location.hash.slice(1));
  const reason = name.startsWith("reason-") ? byId(name) : null;
  const tab = reason ? byId("tab-reasons") : tabs.find((tab) => tab.getAttribute("href") === `#${name}`);
  choose(tab ?? chosen ?? tabs[0]);
  if (reason) {
    reason.focus();
    reason.scrollIntoView();
  } else if (name === "parts") {
    chosen.focus();
  }
}

window.addEventListener("hashchange", follow);
