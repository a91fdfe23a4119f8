// What was refused or failed: a page of kinds, put together by domain, each in one line that opens.

const PAGE = 20;
const OF_DOMAIN = 3;
const KINDS = { deny: "denied", would_deny: "would be denied", error: "failed" };
const CHOICES = { kind: "decisions", reason: "reasons", policy: "policies", client: "clients" };
const COLUMNS = ["Times", "Target", "Decision", "Reason", "Client", "Policy", "Last", "Copy"];

const wanted = { offset: 0, domain: "" };
let refusedShown = null;
let refusedTurn = 0;
const opened = new Set();

const refusedBody = make("tbody", { role: "rowgroup" });
const refusedTable = make("table", { role: "table", class: "refused", "aria-label": "Refused and failed, by domain" },
  make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...COLUMNS.map((label) =>
    make("th", { scope: "col", role: "columnheader", class: `of-${label.toLowerCase()}` }, make("span", {}, label))))),
  refusedBody);
const refusedHold = new Hold(refusedBody);

function refusedPath() {
  const query = new URLSearchParams({ limit: PAGE, offset: wanted.offset, per_domain: OF_DOMAIN });
  for (const name of Object.keys(CHOICES)) if (byId(`refused-${name}`).value) query.set(name, byId(`refused-${name}`).value);
  const filter = byId("refused-filter").value.trim();
  if (filter) query.set("filter", filter);
  if (wanted.domain) query.set("domain", wanted.domain);
  return `/api/decisions?${query}`;
}

// `asked`: the person wants other rows than these.
async function refreshRefused(asked = false) {
  const mine = ++refusedTurn;
  const answer = await ask(refusedPath());
  if (mine !== refusedTurn) return;
  // The page that was shown may be gone.
  if (answer.refused.length === 0 && wanted.offset > 0) {
    wanted.offset = 0;
    return refreshRefused(asked);
  }
  steady(() => showRefused(answer, asked));
}

function sieve(changes = {}) {
  Object.assign(wanted, { offset: 0 }, changes);
  return refreshRefused(true);
}

function showRefused(answer, asked) {
  for (const name of Object.keys(CHOICES)) fillChoices(name, answer.choices[name === "policy" ? "policies" : `${name}s`]);
  const rows = kept.get(refusedBody);
  if (!asked && refusedHold.held && refusedShown?.refused.length) {
    let newer = 0;
    for (const group of answer.refused) {
      const row = rows.get(`kind ${group.key}`);
      if (!row) { newer += 1; continue; }
      const at = refusedShown.refused.findIndex((old) => old.key === group.key);
      refusedShown.refused[at] = group;
      fillKind(row, group, answer.now);
      const detail = rows.get(`detail ${group.key}`);
      if (detail) fillDetail(detail, group, answer.now);
    }
    tell(byId("refused-held"), newer ? `The list stays while you are in it; ${many(newer, "other kind")} came first meanwhile.` : "The list stays while you are in it.");
    byId("refused-now").hidden = newer === 0;
    return;
  }
  tell(byId("refused-held"), "");
  byId("refused-now").hidden = true;
  refusedShown = answer;
  drawRefused();
}

function drawRefused() {
  const { refused, domains, now, total, matching, listed } = refusedShown;
  const items = [];
  let before = null;
  for (const group of refused) {
    const domain = domains.find((of) => of.domain === group.domain);
    if (group.domain !== before && domain && domain.kinds > 1) items.push({ key: `domain ${group.domain}`, domain });
    before = group.domain;
    items.push({ key: `kind ${group.key}`, group });
    if (opened.has(group.key)) items.push({ key: `detail ${group.key}`, group, detail: true });
  }
  reconcile(refusedBody, items, (item) => item.key,
    (item) => (item.domain ? domainRow() : item.detail ? detailRow(item.group) : kindRow()),
    (row, item) => (item.domain ? fillDomain(row, item.domain) : item.detail ? fillDetail(row, item.group, now) : fillKind(row, item.group, now)));
  const sifted = sifting();
  refusedTable.hidden = refused.length === 0;
  byId("refused-none").hidden = refused.length > 0;
  tell(byId("refused-none"), total ? "Nothing in the last 24 hours is like that." : "Nothing was refused and nothing failed in the last 24 hours, or since the start.");
  tell(byId("refused-count"), total === 0 ? "" : sifted ? `${number(matching)} matching of ${many(total, "kind")} in 24 hours` : `${many(total, "kind")} in 24 hours`);
  tell(byId("refused-where"), listed > PAGE ? `${number(wanted.offset + 1)} to ${number(wanted.offset + refused.length)} of ${number(listed)} lines` : "");
  for (const [id, off] of [["refused-before", wanted.offset === 0], ["refused-after", wanted.offset + refused.length >= listed]]) {
    byId(id).hidden = listed <= PAGE;
    // Not `disabled`: the focus would be lost on the last page.
    set(byId(id), { "aria-disabled": off ? "true" : null });
  }
  byId("refused-clear").hidden = !sifted;
  tell(byId("refused-clear"), wanted.domain ? `Only ${shown(wanted.domain)}: show all` : "Show all");
}

const sifting = () => wanted.domain !== "" || byId("refused-filter").value.trim() !== "" || Object.keys(CHOICES).some((name) => byId(`refused-${name}`).value !== "");

// The list of what there is, with the choice kept although it may be gone.
function fillChoices(name, list) {
  const field = byId(`refused-${name}`);
  const told = JSON.stringify(list);
  if (field.told === told || document.activeElement === field) return;
  field.told = told;
  const value = field.value;
  const all = list.some(([word]) => word === value) || value === "" ? list : [...list, [value, 0]];
  field.replaceChildren(make("option", { value: "" }, `all ${CHOICES[name]}`),
    ...all.map(([word, kinds]) => make("option", { value: word }, `${shown(name === "kind" ? KINDS[word] : word)} (${number(kinds)})`)));
  field.value = value;
}

function domainRow() {
  const row = make("tr", { role: "row", class: "domain" });
  row.only = make("button", { type: "button", class: "plain" }, "Only these");
  // The button goes, and the focus with it.
  row.only.addEventListener("click", () => sieve({ domain: row.domain }).then(() => byId("refused-clear").focus()).catch(() => {}));
  row.name = make("code");
  row.sum = make("span", { class: "count" });
  row.append(make("td", { role: "cell", colspan: COLUMNS.length }, make("div", {}, row.name, row.sum, row.only)));
  return row;
}

function fillDomain(row, { domain, kinds, count }) {
  row.domain = domain;
  tell(row.name, shown(domain));
  tell(row.sum, `${many(kinds, "kind")}, ${number(count)}×`);
  row.only.hidden = wanted.domain !== "";
  set(row.only, { "aria-label": `Only these: ${shown(domain)}` });
}

const kindCell = (label, ...children) => make("td", { role: "cell", class: `of-${label.toLowerCase()}` }, ...children);

function kindRow() {
  const row = make("tr", { role: "row", class: "kind" });
  row.target = make("code");
  row.request = make("code", { class: "quiet" });
  row.open = make("button", { type: "button", class: "open", "aria-expanded": "false" },
    make("span", { class: "mark", "aria-hidden": "true" }), row.target, row.request);
  row.open.addEventListener("click", () => toggle(row.group.key));
  row.tag = make("span");
  row.reason = make("code");
  row.parts = Object.fromEntries(COLUMNS.map((label) => [label, kindCell(label)]));
  row.parts.Target.append(row.open);
  row.parts.Decision.append(row.tag);
  row.parts.Reason.append(row.reason);
  row.append(...Object.values(row.parts));
  return row;
}

function fillKind(row, group, now) {
  row.group = group;
  tell(row.parts.Times, `${number(group.count)}×`);
  tell(row.target, group.target === null ? "no request" : shown((group.method === "http" ? "http://" : "") + group.target));
  tell(row.request, group.request ? ` ${shown(group.request)}` : group.recognised ? ` ${shown(group.recognised)}` : "");
  const open = opened.has(group.key);
  set(row.open, { "aria-expanded": String(open), "aria-controls": open ? `detail-${group.key}` : null, "data-target": group.target });
  row.tag.className = `tag ${group.allowed_now ? "ok" : group.kind}`;
  tell(row.tag, group.allowed_now ? "allowed now" : KINDS[group.kind] ?? group.kind);
  tell(row.reason, group.reason);
  const more = group.clients.length - 1;
  const others = group.more_clients ? ` +${more} or more` : more > 0 ? ` +${more}` : "";
  tell(row.parts.Client, group.client ? `${group.client}${others}` : "");
  tell(row.parts.Policy, shown(group.policy ?? ""));
  tell(row.parts.Last, ago(group.last, now));
  fillCopy(row.parts.Copy, group);
}

// Only if it changes: a button may have the focus.
function fillCopy(place, group) {
  const told = JSON.stringify([group.allow, group.request]);
  if (place.told === told) return;
  place.told = told;
  const { line, place: where, warnings } = group.allow ?? {};
  place.replaceChildren(...(line ? [copying(line, where, warnings, group.request ? "entry" : "rule")] : []));
}

function toggle(key) {
  if (!opened.delete(key)) opened.add(key);
  drawRefused();
}

function detailRow(group) {
  const row = make("tr", { role: "row", class: "detail", id: `detail-${group.key}` });
  row.why = make("p", { class: "why" });
  row.remedy = make("div", { class: "remedy" });
  row.facts = make("dl");
  row.meaning = make("span");
  row.link = make("a", { href: `#reason-${group.reason}` }, "All reasons");
  row.append(make("td", { role: "cell", colspan: COLUMNS.length }, make("div", {}, row.why, row.remedy, row.facts,
    make("p", { class: "quiet" }, row.meaning, " ", row.link))));
  return row;
}

function fillDetail(row, group, now) {
  tell(row.why, shown(group.advice));
  tell(row.meaning, `${group.reason}: ${group.meaning}.`);
  row.link.hidden = !byId(`reason-${group.reason}`);
  const told = JSON.stringify([group.allow, group.allowed_now, group.request]);
  if (row.remedy.told !== told) {
    row.remedy.told = told;
    const { line, place, warnings } = group.allow ?? {};
    row.remedy.replaceChildren(...(group.allowed_now ? [make("p", { class: "good" }, "The rules in force allow this request now.")] : []),
      ...(line ? [make("code", {}, shown(line)), copying(line, place, warnings, group.request ? "entry" : "rule"),
        make("span", { class: "quiet" }, `Paste it ${shown(place)}.`), ...warnings.map((text) => make("p", { class: "caution" }, shown(text)))] : []));
  }
  const clients = group.clients.join(", ") + (group.more_clients ? " and others" : "");
  const facts = [["Clients", clients], ["Identity", group.identity], ["Asked", group.request], ["Recognised", group.recognised],
    ["Server name", group.sni], ["Credentials", group.auth_scheme && `of the scheme ${group.auth_scheme}`], ["Policy", group.policy], ["Rule", group.rule],
    ["Listener", group.listener], ["First", `${instant(group.first)}, ${ago(group.first, now)}`], ["Last", `${instant(group.last)}, ${ago(group.last, now)}`],
    ["Last record", group.id]].filter(([, text]) => text);
  const names = facts.map(([name]) => name).join();
  if (row.facts.names !== names) {
    row.facts.names = names;
    row.facts.replaceChildren(...facts.map(([name]) => make("div", {}, make("dt", {}, name), make("dd"))));
  }
  facts.forEach(([, text], index) => tell(row.facts.children[index].lastChild, shown(text)));
}

byId("refused-table").append(refusedTable);
byId("refused-filter").addEventListener("input", () => later(() => sieve()));
for (const name of Object.keys(CHOICES)) byId(`refused-${name}`).addEventListener("change", () => sieve().catch(() => {}));
byId("refused-clear").addEventListener("click", () => {
  byId("refused-filter").value = "";
  for (const name of Object.keys(CHOICES)) byId(`refused-${name}`).value = "";
  byId("refused-filter").focus();
  sieve({ domain: "" }).catch(() => {});
});
byId("refused-now").addEventListener("click", () => { refusedHold.release(); refreshRefused(true).catch(() => {}); });
for (const [id, way] of [["refused-before", -1], ["refused-after", 1]]) {
  byId(id).addEventListener("click", () => {
    if (byId(id).getAttribute("aria-disabled")) return;
    wanted.offset = Math.max(0, wanted.offset + way * PAGE);
    refreshRefused(true).catch(() => {});
  });
}
