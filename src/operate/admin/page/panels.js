// The content of the page, from the answers of `/api`.

const plots = {
  tunnels: new Plot({ title: "Open tunnels", shape: "lines", format: number, ceiling: top, least: 4,
    series: [{ word: "open", value: (sample) => sample.tunnels }] }),
  setup: new Plot({ title: "Tunnel setup", shape: "lines", format: seconds, least: 0.001,
    series: [{ word: "median", value: (sample) => sample.setup_p50 }, { word: "99 %", value: (sample) => sample.setup_p99 }] }),
  bytes: new Plot({ title: "Bytes per second", shape: "lines", format: (value) => `${bytes(value)}/s`, ceiling: topOfBytes, least: 1024,
    series: [{ word: "sent", value: (sample) => sample.sent / 10 }, { word: "received", value: (sample) => sample.received / 10 }] }),
  denials: new Plot({ title: "Refused and failed", shape: "bars", format: number, least: 4,
    series: [{ word: "denied", value: (sample) => sample.denied }, { word: "failed", value: (sample) => sample.failed },
      { word: "would be denied", value: (sample) => sample.would_deny }] }),
};

function showPlots(status) {
  const { samples } = status.history;
  const end = Math.floor(Date.parse(status.now) / 1000);
  const last = samples[samples.length - 1];
  const sum = (of) => samples.reduce((total, sample) => total + of(sample), 0);
  const of = status.limits.tunnels;
  plots.tunnels.update(samples, end, { text: number(status.tunnels), small: `of ${number(of)} at most` });
  const latest = [...samples].reverse().find((sample) => sample.setups > 0);
  plots.setup.update(samples, end, latest
    ? { text: seconds(latest.setup_p50), small: `median, 99 % in ${seconds(latest.setup_p99)}` }
    : { text: "–", small: "none yet" });
  plots.bytes.update(samples, end, last
    ? { text: `${bytes(last.sent / 10)}/s`, small: `sent, ${bytes(last.received / 10)}/s received` }
    : { text: "–", small: "first sample after 10 s" });
  const denied = sum((sample) => sample.denied);
  const failed = sum((sample) => sample.failed);
  // Requests inside tunnels are counted apart: their tunnels are what the plot shows.
  const inside = sum((sample) => sample.inside.denied);
  const also = inside ? `; ${many(inside, "request")} denied inside tunnels` : "";
  plots.denials.update(samples, end, { text: number(denied), small: `denied, ${number(failed)} failed this hour${also}` });
}

const WORDS = { draining: "draining: shutting down", log_unavailable: "the access log cannot be written" };

function showStatus(status) {
  const name = shown(status.instance);
  tell(byId("instance"), name);
  const fine = status.not_ready === null && status.config.last_reload.successful;
  const word = status.not_ready !== null ? `not ready: ${WORDS[status.not_ready] ?? status.not_ready}`
    : fine ? "ready" : "ready, on an old configuration";
  byId("health").className = fine ? "good" : "bad";
  tell(byId("health-word"), word);
  document.title = `${fine ? "" : "! "}egressd ${name}`;
  tell(byId("version"), `egressd ${status.version} (${shown(status.revision)}), running for ${lasting(since(status.started, status.now))}.`);
  showReload(status);
  byId("warnings").hidden = status.warnings.length === 0;
  reconcile(byId("warnings"), status.warnings, (warning) => warning, () => make("li"), (row, warning) => tell(row, shown(warning)));
  showPlots(status);
  showExpiring(status);
  showFacts(status);
}

function showReload({ config, now }) {
  const reload = config.last_reload;
  byId("refused-reload").hidden = reload.successful;
  if (reload.successful) return;
  tell(byId("reload-told"), `Configuration ${config.sha256.slice(0, 12)} stays in force, since ${instant(config.since)}. Last attempt: ${ago(reload.at, now)}.`);
  reconcile(byId("findings"), reload.findings, (one) => `${one.file}:${one.line}:${one.column}:${one.text}`,
    (one) => make("li", { class: one.severity },
      make("code", { class: "where" }, shown(`${one.file}:${one.line}:${one.column}`)), ` ${one.severity}: `, shown(one.text)),
    () => {});
}

function showFacts({ config, listeners, limits, access_log: log, now, exchanges, verdicts }) {
  const described = listeners.map((listener) => {
    const speaks = [listener.proxy_protocol && "PROXY protocol", listener.tls && "TLS", listener.client_certificates && "client certificates",
      listener.basic_auth && "passwords"].filter(Boolean).join(", ");
    return `${listener.name} on ${listener.address}${speaks ? ` (${speaks})` : ""}`;
  });
  const facts = [
    ["In force", `${config.sha256.slice(0, 12)} since ${instant(config.since)}, for ${lasting(since(config.since, now))}`],
    ["Last reload", `${instant(config.last_reload.at)}: ${config.last_reload.successful ? "accepted" : "refused"}`],
    ["SHA-256", config.sha256],
    ["Files", config.default ? "none: the built-in configuration" : config.files.join(", ")],
    ["Policies", `${many(config.policies, "policy", "policies")}, ${many(config.rules, "rule")}`],
    ["Listeners", described.join("; ")],
    ["Descriptors", limits.descriptors_open === null ? `${number(limits.descriptors)} at most`
      : `${number(limits.descriptors_open)} open of ${number(limits.descriptors)}`],
    ["Memory held", `${bytes(limits.memory_held)} of ${bytes(limits.memory)}`],
    ["Access log", `${log.available ? "written" : `cannot be written${log.unavailable_seconds === null ? "" : `, for ${lasting(log.unavailable_seconds)}`}`}: ${many(log.written, "record")}, ${number(log.queued)} waiting, ${number(log.lost)} lost`],
    ["Since the start", `${number(verdicts.allowed)} allowed, ${number(verdicts.denied)} denied, ${number(verdicts.would_deny)} would be denied, ${number(verdicts.failed)} failed; ${many(exchanges, "plain HTTP exchange")} now`],
  ];
  const list = byId("facts");
  if (list.children.length !== facts.length * 2) {
    list.replaceChildren(...facts.flatMap(([name]) => [make("dt", {}, name), make("dd")]));
  }
  facts.forEach(([, text], index) => tell(list.children[index * 2 + 1], shown(text)));
}

const SOON = 14 * 86400;

const expiring = new Table({
  label: "Rules and certificates that expire", sorted: "expires", keyOf: (item) => item.key,
  columns: [
    { key: "what", label: "What", sort: (item) => item.what, cell: (item) => foreign(item.what) },
    { key: "expires", label: "Expires", sort: (item) => item.left, tone: (item) => (item.left <= 0 ? "past" : item.left < SOON ? "soon" : ""),
      cell: (item) => (item.left <= 0 ? `expired ${lasting(-item.left)} ago` : `in ${lasting(item.left)}`) },
    { key: "at", label: "At", cell: (item) => instant(item.at) },
    { key: "owner", label: "Owner", sort: (item) => item.owner, cell: (item) => shown(item.owner) },
    { key: "where", label: "Where", sort: (item) => item.where, cell: (item) => shown(item.where) },
  ],
});

function showExpiring({ expiring: list, listeners, now }) {
  const left = (moment) => -since(moment, now);
  const items = list.rules.map((rule) => ({
    key: `${rule.source}|${rule.rule}`, what: rule.rule, at: rule.expires, left: left(rule.expires),
    owner: [rule.owner, rule.ticket].filter(Boolean).join(", "), where: `${rule.source} (policy ${rule.policy})`,
  }));
  for (const listener of listeners) {
    if (listener.certificate_expires) {
      items.push({ key: `listener|${listener.name}`, what: `certificate of listener ${listener.name}`, at: listener.certificate_expires,
        left: left(listener.certificate_expires), owner: "", where: listener.address });
    }
  }
  expiring.show(items);
  byId("expiring-table").hidden = items.length === 0;
  byId("expiring-none").hidden = items.length > 0;
  tell(byId("expiring-none"), "No rule has `expires`, and no listener has a certificate.");
  tell(byId("expiring-count"), list.total > list.rules.length ? `the first ${number(list.rules.length)} of ${many(list.total, "rule")}` : "");
}

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
  label: "Open tunnels", sorted: "age", descending: false, keyOf: (item) => item.id, onSort: () => refreshTunnels().catch(() => {}),
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

function showTunnels(answer, filter) {
  measure(answer);
  tunnels.hide("identity", !answer.tunnels.some((tunnel) => tunnel.identity));
  tunnels.show(answer.tunnels);
  const [cut, sifted] = [answer.tunnels.length < answer.matching, filter !== ""];
  tell(byId("tunnels-count"), [
    cut && `${number(answer.tunnels.length)} shown of`,
    sifted ? `${number(answer.matching)} matching of ${number(answer.total)}` : number(answer.total),
  ].filter(Boolean).join(" "));
  byId("tunnel-table").hidden = answer.tunnels.length === 0;
  byId("tunnels-none").hidden = answer.tunnels.length > 0;
  tell(byId("tunnels-none"), sifted ? `None of ${many(answer.total, "tunnel")} matches the filter.` : "No tunnel is open.");
}

const KINDS = { deny: "denied", would_deny: "would be denied", error: "failed" };
const FILTERS = { "show-all": null, "show-deny": "deny", "show-would": "would_deny", "show-error": "error" };
let kind = null;
let decisions = null;

function chooseKind(id) {
  kind = FILTERS[id];
  for (const other of Object.keys(FILTERS)) byId(other).setAttribute("aria-pressed", String(other === id));
  if (decisions) showDecisions(decisions);
}

function showDecisions(answer) {
  decisions = answer;
  const groups = answer.refused.filter((group) => kind === null || group.kind === kind);
  reconcile(byId("denial-list"), groups,
    (group) => [group.kind, group.reason, group.policy, group.target, group.method, group.listener, group.request].join("|"), denial,
    (row, group) => fillDenial(row, group, answer.now));
  byId("denials-none").hidden = groups.length > 0;
  tell(byId("denials-none"), answer.refused.length ? "None of this kind in the last 24 hours." : "Nothing was refused and nothing failed in the last 24 hours, or since the start.");
  tell(byId("denials-count"), groups.length ? `${many(groups.length, "kind")} in 24 hours` : "");
}

function denial() {
  const row = make("li");
  row.parts = {
    times: make("div", { class: "times" }), asked: make("div", { class: "asked" }), why: make("p", { class: "why" }),
    meta: make("p", { class: "meta" }), remedy: make("div", { class: "remedy" }),
  };
  const { times, asked, why, meta, remedy } = row.parts;
  row.append(times, make("div", {}, asked, why, meta), remedy);
  return row;
}

function fillDenial(row, group, now) {
  const { times, asked, why, meta, remedy } = row.parts;
  tell(times, "");
  times.append(`${number(group.count)}×`, make("small", {}, ago(group.last, now)));
  const way = group.method === "http" ? "http://" : "";
  const told = JSON.stringify([group.allow, group.allowed_now, group.rule, group.recognised]);
  if (row.told !== told) {
    row.told = told;
    asked.replaceChildren(
      make("span", { class: `tag ${group.kind}` }, KINDS[group.kind] ?? group.kind),
      group.target === null ? make("span", { class: "meta" }, "no request") : foreign(way + group.target),
      ...(group.request ? [foreign(group.request)] : []),
      ...(group.recognised ? [foreign(group.recognised)] : []),
      make("code", { class: "tag" }, group.reason),
      ...(group.allowed_now ? [make("span", { class: "tag ok" }, "allowed now")] : []));
    fillRemedy(remedy, group);
  }
  tell(why, shown(group.advice));
  const clients = group.clients.slice(0, 4).join(", ") + (group.clients.length > 4 || group.more_clients ? " and others" : "");
  tell(meta, shown([clients && `from ${clients}`, group.identity && `as ${group.identity}`, group.sni && `server name ${group.sni}`,
    group.auth_scheme && `credentials of the scheme ${group.auth_scheme}`, group.policy && `policy ${group.policy}`, `listener ${group.listener}`, group.id && `last id ${group.id}`].filter(Boolean).join(" · ")));
}

function fillRemedy(remedy, group) {
  remedy.replaceChildren();
  if (!group.allow) return;
  const { line, place, warnings } = group.allow;
  remedy.append(make("code", {}, shown(line)), copying(line, place, warnings, group.request ? "entry" : "rule"),
    ...warnings.map((warning) => make("p", { class: "caution" }, shown(warning))));
}

const copying = (line, place, warnings, what) => make("button",
  { type: "button", class: "copy", "aria-label": `Copy the ${what} ${shown(line)}`, on: { click: () => copy(line, place, warnings) } }, `Copy ${what}`);

// Without https a browser does not give pages its clipboard: then a selection is copied.
async function copy(line, place, warnings) {
  let done = false;
  try {
    await navigator.clipboard.writeText(line);
    done = true;
  } catch {
    const field = make("textarea", { readonly: true, "aria-hidden": "true", class: "skip" });
    field.value = line;
    const focused = document.activeElement;
    document.body.append(field);
    field.select();
    done = document.execCommand("copy");
    field.remove();
    focused?.focus();
  }
  const warning = warnings.length ? ` Warning: ${warnings.join("; ")}.` : "";
  toast(done ? `Copied: ${line} Paste it ${place}.${warning}` : `Could not copy. The line is: ${line}`);
}

let hiding = 0;

function toast(text) {
  tell(byId("toast"), shown(text));
  byId("toast").classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => byId("toast").classList.remove("shown"), 8000);
}

const policies = new Table({
  label: "Policies", sorted: null, keyOf: (item) => item.name,
  columns: [
    { key: "name", label: "Policy", cell: (item) => foreign(item.name) },
    { key: "mode", label: "Mode", cell: (item) => item.mode },
    { key: "clients", label: "Clients", cell: (item) => shown([...item.networks, ...item.networks_files.map((list) => `${list.file} (${list.networks})`), ...item.identities, ...item.vpc_endpoints].join(", ")) },
    { key: "private", label: "Private", cell: (item) => item.private.join(", ") },
    { key: "rules", label: "Rules", number: true, cell: (item) => number(item.rules) },
  ],
});

// The notes of a rule: notes as they are, every other option with its key. A number is a number of bytes, a time has a
// `T` after its day, and an option that is not set is null, false or an empty list.
const NOTES = ["name", "description", "owner", "ticket"];

function notesOf({ policy, list, rule, label, source, ...options }) {
  const told = ([key, value]) => {
    if (value === null || value === false || value.length === 0) return "";
    if (value === true) return key;
    if (Array.isArray(value)) return `${key} ${value.join(", ")}`;
    if (typeof value === "number") return `${key} ${bytes(value)}`;
    return `${key} ${/^\d{4}-\d\d-\d\dT/.test(value) ? instant(value) : value}`;
  };
  const others = Object.entries(options).filter(([key]) => !NOTES.includes(key));
  return [...NOTES.map((key) => options[key]), ...others.map(told)].filter(Boolean).join(", ");
}

const rules = new Table({
  label: "Rules", sorted: null, keyOf: (item) => `${item.policy}|${item.list}|${item.source}|${item.rule}`,
  columns: [
    { key: "rule", label: "Rule", sort: (item) => item.rule, cell: (item) => foreign(item.rule) },
    { key: "list", label: "List", sort: (item) => item.list, cell: (item) => item.list },
    { key: "policy", label: "Policy", sort: (item) => item.policy, cell: (item) => shown(item.policy) },
    { key: "source", label: "Where", sort: (item) => item.source, cell: (item) => shown(item.source) },
    { key: "notes", label: "Notes", cell: (item) => shown(notesOf(item)) },
  ],
});

function showPolicy(answer, filter) {
  policies.show(answer.policies);
  rules.show(answer.rules);
  const shownOf = answer.rules.length < answer.matching ? `${number(answer.rules.length)} shown of ` : "";
  tell(byId("rules-count"), filter ? `${shownOf}${number(answer.matching)} matching of ${many(answer.total, "rule")}` : `${shownOf}${many(answer.total, "rule")}`);
}
