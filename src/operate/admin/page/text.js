// Elements and texts. Everything shown goes through `textContent`: nothing is ever read as markup.

const byId = (id) => document.getElementById(id);

// An element with properties and children; a child is an element or a text.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  set(element, properties);
  element.append(...children);
  return element;
}

function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") for (const [event, run] of Object.entries(value)) element.addEventListener(event, run);
    else if (value === null || value === undefined || value === false) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : value);
  }
}

// Only if it changes: a selection, the focus and a screen reader stay undisturbed.
function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Text from untrusted clients: invisible characters, bidirectional controls and other controls are shown as escapes.
function shown(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}]/gu, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");
}

const foreign = (text, tag = "code") => make(tag, { class: tag === "code" ? "" : "foreign" }, shown(text));

// Updates children by key: those that stay are kept, so that the focus stays, too.
const kept = new WeakMap();

function reconcile(parent, items, keyOf, create, update) {
  const old = kept.get(parent) ?? new Map();
  const rows = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    const row = old.get(key) ?? create(item);
    old.delete(key);
    rows.set(key, row);
    update(row, item);
    if (row === place) place = place.nextSibling;
    else parent.insertBefore(row, place);
  }
  for (const row of old.values()) row.remove();
  kept.set(parent, rows);
}

const whole = new Intl.NumberFormat("en");
const number = (value) => whole.format(value);
const many = (count, one, more = one + "s") => `${number(count)} ${count === 1 ? one : more}`;

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (value >= 1023.5 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1).replace(".0", "")} ${units[unit]}`;
}

function seconds(value) {
  if (value < 0.0995) return `${value < 0.00995 ? (value * 1000).toFixed(1) : Math.round(value * 1000)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return `${value.toFixed(1)} s`;
}

// 75 → "1 min 15 s": two units at most.
function lasting(value) {
  value = Math.max(0, Math.floor(value));
  if (value < 60) return `${value} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${value % 60} s`;
  if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.floor(value / 60) % 60} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor(value / 3600) % 24} h`;
}

const since = (moment, now) => (Date.parse(now) - Date.parse(moment)) / 1000;

// One unit is enough for times in the past.
function ago(moment, now) {
  const value = since(moment, now);
  if (value < 1) return "just now";
  if (value < 100) return `${Math.floor(value)} s ago`;
  if (value < 6000) return `${Math.floor(value / 60)} min ago`;
  return value < 172800 ? `${Math.floor(value / 3600)} h ago` : `${Math.floor(value / 86400)} d ago`;
}

// 2026-11-25 20:14:03 UTC: as in the log, and not in the reader's time zone.
const instant = (moment) => `${new Date(moment).toISOString().slice(0, 19).replace("T", " ")} UTC`;
