// The top of the page and its configuration, from `/api/status`.

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
  // Until the first hour is over, the time since the start.
  const span = Math.min(HOUR, Math.max(60, since(status.started, status.now)));
  const time = span < HOUR ? "since the start" : "in the last hour";
  const last = samples[samples.length - 1];
  const sum = (of) => samples.reduce((total, sample) => total + of(sample), 0);
  const of = status.limits.tunnels;
  plots.tunnels.update(samples, end, span, { text: number(status.tunnels), small: `of ${number(of)} at most` });
  const latest = [...samples].reverse().find((sample) => sample.setups > 0);
  plots.setup.update(samples, end, span, latest
    ? { text: seconds(latest.setup_p50), small: `median, 99 % in ${seconds(latest.setup_p99)}` }
    : { text: "–", small: "none yet" });
  plots.bytes.update(samples, end, span, last
    ? { text: `${bytes(last.sent / 10)}/s`, small: `sent, ${bytes(last.received / 10)}/s received` }
    : { text: "–", small: "first sample after 10 s" });
  const denied = sum((sample) => sample.denied);
  const failed = sum((sample) => sample.failed);
  // Requests inside tunnels are counted apart: their tunnels are what the plot shows.
  const inside = sum((sample) => sample.inside.denied);
  const also = inside ? `; ${many(inside, "request")} denied inside tunnels` : "";
  plots.denials.update(samples, end, span, { text: number(denied), small: `denied, ${number(failed)} failed ${time}${also}` });
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
  const report = showReportMode(status.config);
  document.title = `${fine ? "" : "! "}${report ? "REPORT MODE " : ""}egressd ${name}`;
  tell(byId("refused-number"), number(status.refused_kinds));
  tell(byId("tunnels-number"), number(status.tunnels));
  tell(byId("rules-number"), number(status.config.rules));
  tell(byId("version"), `egressd ${status.version} (${shown(status.revision)}), running for ${lasting(since(status.started, status.now))}.`);
  showReload(status);
  byId("warnings").hidden = status.warnings.length === 0;
  reconcile(byId("warnings"), status.warnings, (warning) => warning, () => make("li"), (row, warning) => tell(row, shown(warning)));
  showPlots(status);
  showExpiring(status);
  showFacts(status);
}

// Report mode lets out everything, and is meant for the time before the list is complete. Every reader has to know.
function showReportMode({ report_mode: names, report_mode_total: total }) {
  byId("report").hidden = total === 0;
  const more = total > names.length ? ` and ${number(total - names.length)} more` : "";
  if (total) tell(byId("report"), `REPORT MODE: ${total === 1 ? "policy" : "policies"} ${shown(names.join(", "))}${more} ${total === 1 ? "lets" : "let"} out every host`);
  return total > 0;
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

function sharing(store) {
  if (store === null) return "no: each replica counts by itself";
  if (store.up === null) return `by ${store.url}, which is not asked: no rule has a budget`;
  const state = store.up ? "answers" : `cannot be asked (${store.why})`;
  return `by ${store.url}, which ${state}, for ${lasting(store.since_seconds)}`;
}

function showFacts({ config, listeners, limits, access_log: log, shared_state: store, now, exchanges, verdicts }) {
  const described = listeners.map((listener) => {
    const speaks = [listener.protocols.includes("socks5") && (listener.protocols.includes("http") ? "SOCKS5 too" : "SOCKS5"), listener.protocols.includes("transparent") && "transparent", listener.proxy_protocol && "PROXY protocol", listener.tls && "TLS", listener.client_certificates && "client certificates",
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
    ...(log.seal ? [["Last seal", `${instant(log.seal.time)}: ${many(log.seal.seq === null ? 0 : log.seal.seq + 1, "record")} of boot ${log.seal.boot}, hash ${log.seal.hash}`]] : []),
    ["Shared budgets", sharing(store)],
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
