// Asks again and again, and says when the data shown is no longer current.

const EVERY = 3000;
const HIDDEN = 60000;
const LONGEST = 30000;
const STALE = 8000;
const PATIENCE = 10000;
const LIMIT = 500;

let answered = 0;
let failures = 0;
let why = "";
let next = 0;

async function ask(path) {
  const reply = await fetch(path, { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(PATIENCE) });
  if (!reply.ok) throw new Error(`${reply.status}: ${(await reply.text()).trim().slice(0, 300)}`);
  return reply.json();
}

const SORTED_THERE = ["age", "sent", "received", "client", "identity", "target", "policy"];

function tunnelsPath() {
  const query = new URLSearchParams({ limit: LIMIT });
  const filter = byId("tunnel-filter").value.trim();
  if (filter) query.set("filter", filter);
  if (SORTED_THERE.includes(tunnels.sorted)) {
    query.set("sort", tunnels.sorted);
    query.set("order", tunnels.descending ? "desc" : "asc");
  } else {
    query.set("sort", "bytes");
  }
  return `/api/tunnels?${query}`;
}

// If there is a later question already, this answer is not shown.
const turns = new Map();

async function latest(name, path, show) {
  const mine = (turns.get(name) ?? 0) + 1;
  turns.set(name, mine);
  const answer = await ask(path);
  if (mine === turns.get(name)) steady(() => show(answer));
}

function refreshTunnels(asked = false) {
  const filter = byId("tunnel-filter").value.trim();
  return latest("tunnels", tunnelsPath(), (answer) => showTunnels(answer, filter, asked));
}

function refreshRules(asked = false) {
  const filter = byId("rule-filter").value.trim();
  const query = new URLSearchParams({ limit: LIMIT });
  if (filter) query.set("filter", filter);
  if (byId("rules-unused").checked) query.set("unused", 30);
  return latest("rules", `/api/policy?${query}`, (answer) => showPolicy(answer, filter, asked));
}

function refreshAllowed(asked = false) {
  const filter = byId("allowed-filter").value.trim();
  const query = new URLSearchParams(filter ? { limit: SIDES, filter } : { limit: SIDES });
  return latest("allowed", `/api/allowed?${query}`, (answer) => showAllowed(answer, filter, asked));
}

const LISTS = { refused: refreshRefused, allowed: refreshAllowed, tunnels: refreshTunnels, rules: refreshRules };

// The list that is chosen; the others are asked for when they are.
async function refreshList() {
  for (const [name, refreshOne] of Object.entries(LISTS)) if (shows(name)) await refreshOne();
}

let asking = false;

async function refresh() {
  if (asking) return;
  asking = true;
  clearTimeout(next);
  try {
    const [status] = await Promise.all([ask("/api/status"), refreshList()]);
    steady(() => showStatus(status));
    answered = Date.now();
    failures = 0;
  } catch (error) {
    failures += 1;
    why = error.name === "TimeoutError" ? "no answer in time" : error.message;
  }
  asking = false;
  const pause = document.hidden ? HIDDEN : Math.min(LONGEST, EVERY * 2 ** failures);
  next = setTimeout(refresh, pause);
  steady(age);
}

// Shows each second whether the data is current.
function age() {
  const old = Date.now() - answered;
  const stale = failures > 0 && (answered === 0 || old > STALE);
  tell(byId("fresh"), answered === 0 ? "" : old < 5000 ? "current" : `${Math.round(old / 1000)} s old`);
  byId("stale").hidden = !stale;
  document.body.classList.toggle("is-stale", stale);
  if (!stale) return;
  tell(byId("stale"), answered === 0 ? `No answer yet: ${shown(why)}` : `Not current: the last answer is from ${instant(answered)}. ${shown(why)}`);
  byId("health").className = "bad";
  tell(byId("health-word"), "no answer");
}

let typing = 0;

function later(run) {
  clearTimeout(typing);
  typing = setTimeout(() => run().catch(() => {}), 150);
}

byId("plots").append(...Object.values(plots).map((plot) => plot.element));
for (const [id, table] of Object.entries({
  "tunnel-table": tunnels, "expiring-table": expiring, "policy-table": policies, "rule-table": rules, "target-table": targets, "client-table": clients,
})) byId(id).append(table.element);
// What matches begins on its first page.
const first = (table, run) => () => later(() => { table.from = 0; return run(true); });
byId("tunnel-filter").addEventListener("input", first(tunnels, refreshTunnels));
byId("rule-filter").addEventListener("input", first(rules, refreshRules));
byId("allowed-filter").addEventListener("input", () => later(() => refreshAllowed(true)));
byId("rules-unused").addEventListener("change", first(rules, refreshRules));
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
setInterval(() => steady(age), 1000);
follow();
refresh();
