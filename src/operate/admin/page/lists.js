// Open tunnels, rules, and who went where.

const rates = new Map();

// Bytes per second since the previous answer.
function measure(answer) {
  const at = Date.parse(answer.now);
  const open = new Set();
  for (const tunnel of answer.tunnels) {
    const total = tunnel.sent + tunnel.received;
    const before = rates.get(tunnel.id);
    open.add(tunnel.id);
    if (before && at - before.at < 500) { tunnel.rate = before.rate; continue; }
    tunnel.rate = before ? Math.max(0, (total - before.total) * 1000 / (at - before.at)) : null;
    rates.set(tunnel.id, { at, total, rate: tunnel.rate });
  }
  for (const id of rates.keys()) if (!open.has(id)) rates.delete(id);
}

const tunnels = new Table({
  label: "Open tunnels", pages: "tunnels", sorted: "age", descending: false, keyOf: (item) => item.id, onSort: () => refreshTunnels(true).catch(() => {}),
  columns: [
    { key: "target", label: "Target", sort: (item) => item.target, cell: (item) => {
      const notes = [item.scheme === "tcp" && "opaque tunnel, content not inspected", item.would_deny && `report mode: ${item.would_deny}`,
        item.sni && !item.target.startsWith(`${item.sni}:`) && `server name ${shown(item.sni)}`, item.by_parent && "through the parent proxy",
        item.inspected && "inspected", item.requests > 0 && many(item.requests, "request"), item.ending && `ending: ${item.ending}`].filter(Boolean);
      if (!notes.length) return foreign(item.target);
      return make("span", {}, foreign(item.target), " ", make("span", { class: "quiet" }, notes.join(", ")),
        ...item.last_requests.map((request) => make("div", { class: "inside" }, foreign(`${request.method ?? "?"} ${request.path ?? ""}`), " ",
          make("span", { class: "quiet" }, [request.status, request.decision !== "allow" && request.decision, request.reason].filter(Boolean).join(" ")),
          ...(request.allow ? [" ", copying(request.allow.line, request.allow.place, [], "entry")] : []))));
    } },
    { key: "client", label: "Client", sort: (item) => item.client, cell: (item) => shown(item.client) },
    { key: "identity", label: "Identity", sort: (item) => item.identity ?? "", cell: (item) => shown(item.identity ?? "") },
    { key: "policy", label: "Policy", sort: (item) => item.policy, cell: (item) =>
      item.rule ? make("span", {}, shown(item.policy), " ", make("span", { class: "quiet" }, shown(item.rule))) : shown(item.policy) },
    { key: "age", label: "Age", number: true, sort: (item) => item.age_seconds, cell: (item) => lasting(item.age_seconds) },
    { key: "sent", label: "Sent", number: true, sort: (item) => item.sent, cell: (item) => bytes(item.sent) },
    { key: "received", label: "Received", number: true, sort: (item) => item.received, cell: (item) => bytes(item.received) },
    { key: "rate", label: "Rate", number: true, sort: (item) => item.rate ?? -1, cell: (item) => (item.rate === null ? "–" : `${bytes(item.rate)}/s`) },
  ],
});

function showTunnels(answer, filter, asked) {
  measure(answer);
  tunnels.hide("identity", !answer.tunnels.some((tunnel) => tunnel.identity));
  tunnels.show(answer.tunnels, asked);
  const [cut, sifted] = [answer.tunnels.length < answer.matching, filter !== ""];
  tell(byId("tunnels-count"), [
    cut && `${number(answer.tunnels.length)} shown of`,
    sifted ? `${number(answer.matching)} matching of ${number(answer.total)}` : number(answer.total),
  ].filter(Boolean).join(" "));
  byId("tunnel-table").hidden = answer.tunnels.length === 0;
  byId("tunnels-none").hidden = answer.tunnels.length > 0;
  tell(byId("tunnels-none"), sifted ? `None of ${many(answer.total, "tunnel")} matches the filter.` : "No tunnel is open.");
}

const policies = new Table({
  label: "Policies", sorted: null, keyOf: (item) => item.name,
  columns: [
    { key: "name", label: "Policy", cell: (item) => foreign(item.name) },
    { key: "mode", label: "Mode", tone: (item) => (item.mode === "report" ? "past" : ""), cell: (item) => (item.mode === "report" ? "report: lets out every host" : item.mode) },
    { key: "clients", label: "Clients", cell: (item) => shown([...item.networks, ...item.networks_files.map((list) => `${list.file} (${list.networks})`), ...item.identities, ...item.vpc_endpoints, ...item.listeners.map((name) => `by ${name}`)].join(", ")) },
    { key: "private", label: "Private", cell: (item) => item.private.join(", ") },
    { key: "rules", label: "Rules", number: true, cell: (item) => number(item.rules) },
  ],
});

// The notes of a rule: notes as they are, every other option with its key. A number is a number of bytes, a time has a
// `T` after its day, and an option that is not set is null, false or an empty list, or says what is so anyway.
const NOTES = ["name", "description", "owner", "ticket"];

function notesOf({ policy, list, rule, label, source, hits, last_used, now, unused, ...options }) {
  const told = ([key, value]) => {
    if (value === null || value === false || value.length === 0 || (key === "ech" && value === "allow")) return "";
    if (value === true) return key;
    if (Array.isArray(value)) return `${key} ${value.join(", ")}`;
    if (typeof value === "number") return `${key} ${bytes(value)}`;
    return `${key} ${/^\d{4}-\d\d-\d\dT/.test(value) ? instant(value) : value}`;
  };
  const others = Object.entries(options).filter(([key]) => !NOTES.includes(key));
  return [...NOTES.map((key) => options[key]), ...others.map(told)].filter(Boolean).join(", ");
}

const rules = new Table({
  label: "Rules", pages: "rules", sorted: null, keyOf: (item) => `${item.policy}|${item.list}|${item.source}|${item.rule}`,
  columns: [
    { key: "rule", label: "Rule", sort: (item) => item.rule, cell: (item) => foreign(item.rule) },
    { key: "list", label: "List", sort: (item) => item.list, cell: (item) => item.list },
    { key: "policy", label: "Policy", sort: (item) => item.policy, cell: (item) => shown(item.policy) },
    { key: "hits", label: "Hits", number: true, sort: (item) => item.hits, cell: (item) => number(item.hits) },
    { key: "used", label: "Last used", sort: (item) => item.unused, tone: (item) => (item.unused > UNUSED ? "soon" : ""),
      cell: (item) => (item.last_used ? ago(item.last_used, item.now) : "not since the start") },
    { key: "source", label: "Where", sort: (item) => item.source, cell: (item) => shown(item.source) },
    { key: "notes", label: "Notes", cell: (item) => shown(notesOf(item)) },
  ],
});

// A rule that was not used for so long is pointed out, in seconds.
const UNUSED = 30 * 86400;

function showPolicy(answer, filter, asked) {
  policies.show(answer.policies, asked);
  const { now, started } = answer;
  rules.show(answer.rules.map((rule) => ({ ...rule, now, unused: since(rule.last_used ?? started, now) })), asked);
  const unused = byId("rules-unused").checked;
  const shownOf = answer.rules.length < answer.matching ? `${number(answer.rules.length)} shown of ` : "";
  const found = filter || unused ? `${number(answer.matching)} ${unused ? "unused" : "matching"} of ` : "";
  tell(byId("rules-count"), `${shownOf}${found}${many(answer.total, "rule")}`);
  // What was used before the start is not known.
  const young = since(started, now) < UNUSED;
  tell(byId("rules-unused-word"), young ? `Unused since the start, ${ago(started, now)}` : "Unused for 30 days");
  byId("rule-table").hidden = answer.rules.length === 0;
  byId("rules-none").hidden = answer.rules.length > 0;
  tell(byId("rules-none"), answer.total ? "No rule is like that." : "There are no rules: nothing is allowed.");
}

const side = (label, others) => new Table({
  label, sorted: null, keyOf: (item) => item.name,
  columns: [
    { key: "name", label, cell: (item) => (item.identity ? make("span", {}, foreign(item.name), " ", make("span", { class: "quiet" }, shown(item.identity))) : foreign(item.name)) },
    { key: "count", label: "Requests", number: true, cell: (item) =>
      (item.by_report_mode ? make("span", {}, number(item.count), " ", make("span", { class: "quiet" }, `${number(item.by_report_mode)} by report mode`)) : number(item.count)) },
    { key: "others", label: others, number: true, cell: (item) => number(item.others) },
    { key: "last", label: "Last", number: true, cell: (item) => ago(item.last, item.now) },
  ],
});

const targets = side("Target", "Clients");
const clients = side("Client", "Targets");
const SIDES = 12;

function showAllowed(answer, filter, asked) {
  const { now, matrix } = answer;
  const some = (list) => list.slice(0, SIDES).map((item) => ({ ...item, now }));
  targets.show(some(answer.targets), asked);
  clients.show(some(answer.clients), asked);
  const more = (total, one) => (total > SIDES ? `and ${many(total - SIDES, `more ${one}`)}` : "");
  tell(byId("targets-more"), more(answer.targets_total, "target"));
  tell(byId("clients-more"), more(answer.clients_total, "client"));
  const empty = answer.matching === 0;
  byId("allowed-sides").hidden = byId("matrix-part").hidden = empty;
  byId("allowed-none").hidden = !empty;
  tell(byId("allowed-none"), answer.total ? "Nothing that was allowed matches the filter." : "Nothing was allowed since the start.");
  tell(byId("allowed-count"), empty ? "" : `${many(answer.targets_total, "target")}, ${many(answer.clients_total, "client")} since the start, ${ago(answer.since, now)}${filter ? ", matching" : ""}`);
  showMatrix(matrix);
}

// Targets have the long names, so they are the rows.
function showMatrix({ clients: across, targets: down, counts }) {
  const told = JSON.stringify([across, down, counts]);
  const place = byId("matrix");
  if (place.told === told) return;
  place.told = told;
  const most = Math.max(1, ...counts.flat());
  // By magnitude, because a few pairs have most of the requests.
  const heat = (count) => (count === 0 ? 0 : 1 + Math.floor(3 * Math.log(count) / Math.max(Math.log(most), 1)));
  const cell = (count) => make("td", { class: `number heat-${Math.min(4, heat(count))}` }, count ? number(count) : "0");
  place.replaceChildren(make("table", { class: "matrix", "aria-label": "Requests by client and target" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Target"), ...across.map((client) => make("th", { scope: "col" }, foreign(client))))),
    make("tbody", {}, ...down.map((target, index) =>
      make("tr", {}, make("th", { scope: "row" }, foreign(target)), ...counts.map((row) => cell(row[index])))))));
}
