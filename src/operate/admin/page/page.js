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
let turn = 0;

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
async function refreshTunnels() {
  const mine = ++turn;
  const filter = byId("tunnel-filter").value.trim();
  const answer = await ask(tunnelsPath());
  if (mine === turn) showTunnels(answer, filter);
}

let ruleTurn = 0;

async function refreshRules() {
  if (!byId("rules").open) return;
  const mine = ++ruleTurn;
  const filter = byId("rule-filter").value.trim();
  const answer = await ask(`/api/policy?${new URLSearchParams(filter ? { limit: LIMIT, filter } : { limit: LIMIT })}`);
  if (mine === ruleTurn) showPolicy(answer, filter);
}

let asking = false;

async function refresh() {
  if (asking) return;
  asking = true;
  clearTimeout(next);
  try {
    const [status, refused] = await Promise.all([ask("/api/status"), ask("/api/decisions"), refreshTunnels()]);
    showStatus(status);
    showDecisions(refused);
    answered = Date.now();
    failures = 0;
  } catch (error) {
    failures += 1;
    why = error.name === "TimeoutError" ? "no answer in time" : error.message;
  }
  asking = false;
  const pause = document.hidden ? HIDDEN : Math.min(LONGEST, EVERY * 2 ** failures);
  next = setTimeout(refresh, pause);
  age();
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
byId("tunnel-table").append(tunnels.element);
byId("expiring-table").append(expiring.element);
byId("policy-table").append(policies.element);
byId("rule-table").append(rules.element);
byId("tunnel-filter").addEventListener("input", () => later(refreshTunnels));
byId("rule-filter").addEventListener("input", () => later(refreshRules));
byId("rules").addEventListener("toggle", () => later(refreshRules));
for (const id of Object.keys(FILTERS)) byId(id).addEventListener("click", () => chooseKind(id));
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
setInterval(age, 1000);
refresh();
