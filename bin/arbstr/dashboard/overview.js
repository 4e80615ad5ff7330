// The overview: what was spent and saved, how requests went and how fast, over a range, by who and what.

import { address, get, hasToken } from "./api.js";
import { Chart } from "./chart.js";
import { blank, copyButton, el, fill, name, segmented, Status } from "./dom.js";
import { clock, commonDecimals, count, duration, exact, percent, plural, sats, satsIn, short } from "./format.js";
import { Poll } from "./poll.js";
import { requestTable } from "./requests.js";
import { Table } from "./table.js";

/** Shows the overview in `root`; returns what ends it. */
export function overview(root, parameters) {
  const asked = parameters.get("range");
  let range = RANGES.some(([value]) => value === asked) ? asked : "24h";
  let group = "model";
  const status = new Status();
  const updated = el("span", { class: "muted updated" });
  const figures = el("dl", { class: "kpis" });
  const charts = makeCharts();
  const groups = groupTables();
  const latest = requestTable("Latest requests");
  const groupHost = el("div", {}, groups[group].node);
  const body = el("div", { class: "stack", hidden: true },
    figures,
    el("div", { class: "charts" }, charts.spend.node, charts.requests.node, charts.latency.node),
    el("section", { class: "card", "aria-labelledby": "by" },
      el("div", { class: "card-head" }, el("h2", { id: "by" }, "Where it went"),
        segmented("Group by", GROUPS, group, (value) => { group = value; fill(groupHost, groups[group].node); slow.now(); })),
      groupHost),
    el("section", { class: "card", "aria-labelledby": "latest" },
      el("div", { class: "card-head" }, el("h2", { id: "latest" }, "Latest requests"), el("a", { href: "#/requests" }, "All requests")),
      latest.node));
  const empty = el("div", { hidden: true });
  root.append(
    el("div", { class: "head" }, el("h1", {}, "Overview"),
      segmented("Range", RANGES, range, (value) => {
        range = value;
        history.replaceState(null, "", `#/?range=${value}`);
        slow.now();
      }), updated),
    status.node, empty, body);

  const slow = new Poll(10, async (signal) => {
    const [series, grouped, recent] = await Promise.all([
      seriesOf(range, body.clientWidth || root.clientWidth, signal),
      get("v1/stats", { ...bounds(range), group_by: group }, signal),
      get("v1/requests", { limit: 8 }, signal),
    ]);
    status.ok();
    updated.textContent = `as of ${clock(Date.now())}`;
    const none = grouped.totals.requests === 0;
    if (none && empty.hidden) fill(empty, emptiness(range, recent.data.length > 0));
    empty.hidden = !none;
    body.hidden = none;
    if (none) return;
    fill(figures, kpis(grouped.totals));
    showCharts(charts, series, grouped.totals);
    showGroups(groups[group], grouped.groups);
    latest.show(recent.data, { decimals: commonDecimals(recent.data.map((row) => row.cost_sats)) });
  }, (error) => status.fail(error)).start();

  return () => {
    slow.stop();
    for (const chart of Object.values(charts)) chart.destroy();
  };
}

function kpis(totals) {
  const saved = totals.savings_known > 0 ? totals.savings_sats : null;
  const dearest = totals.savings_known === totals.cost_known ? totals.cost_sats + saved : totals.reference_cost_sats;
  const share = saved !== null && dearest > 0 ? saved / dearest : null;
  const first = totals.latency_ms ?? {};
  return [
    kpi("Spent", amount(totals.cost_known > 0 ? totals.cost_sats : null, totals), spendNote(totals), "lead"),
    kpi("Saved", amount(saved, totals), share === null ? "nothing to compare with" : `${percent(share)} below the dearest choice`, "lead saved"),
    kpi("Requests", [count(totals.requests)], totals.in_progress > 0 ? `${count(totals.in_progress)} under way` : "none under way"),
    kpi("Success", [percent(totals.success_rate)], totals.failed > 0 ? plural(totals.failed, "failure") : "no failures", totals.failed > 0 ? "" : "calm"),
    kpi("First byte, p50", [duration(first.p50)], `p95 ${duration(first.p95)}`),
    kpi("Tokens in", [short(totals.input_tokens)], tokenNote(totals)),
  ];
}

function kpi(label, value, note, look = "") {
  return el("div", { class: `kpi ${look}`, "data-kpi": label }, el("dt", {}, label), el("dd", { class: "value" }, value), el("dd", { class: "note" }, note));
}

/** A sum in sats; without one, whether nobody knows it, it is to come, or there was nothing to pay. */
function amount(value, totals) {
  if (value === null) {
    const isUnknown = totals.cost_unknown > 0 || totals.cost_estimated > 0;
    return [isUnknown ? el("span", { class: "unknown" }, "unknown") : el("span", { class: "muted" }, totals.in_progress > 0 ? "…" : "–")];
  }
  return [el("span", { title: `${exact(value)} sats`, "data-exact": String(value) }, sats(value)), el("span", { class: "unit" }, "sats")];
}

function spendNote(totals) {
  const parts = [];
  if (totals.cost_estimated > 0) parts.push(`≈ ${sats(totals.estimated_cost_sats)} more by estimate`);
  if (totals.cost_sunk > 0) parts.push(`${sats(totals.sunk_cost_sats)} more on failed attempts`);
  if (totals.cost_unknown > 0) parts.push(`${plural(totals.cost_unknown, "request")} of unknown cost`);
  if (totals.unsent > 0) parts.push(`${plural(totals.unsent, "request")} reached no provider`);
  if (parts.length > 0) return parts.join(", ");
  if (totals.cost_known === 0) return "no request has ended yet";
  return totals.in_progress > 0 ? "every cost so far is known exactly" : "every cost is known exactly";
}

function tokenNote(totals) {
  const parts = [totals.cached_input_tokens > 0 && `${short(totals.cached_input_tokens)} of them cached`, `${short(totals.output_tokens)} out`];
  return parts.filter(Boolean).join(", ");
}

function makeCharts() {
  return {
    spend: new Chart({
      title: "Spend and savings", kind: "bars", format: (value) => `${sats(value)} sats`, axis: (value) => (value === 0 ? "0" : tick(value)),
      series: [{ label: "spent", color: "spent" }, { label: "by estimate", color: "estimated" }, { label: "saved", color: "saved" }],
    }),
    requests: new Chart({
      title: "Requests", kind: "bars", format: count, axis: (value) => (Number.isInteger(value) ? tick(value) : ""),
      series: [{ label: "answered", color: "answered" }, { label: "failed", color: "failed" }],
    }),
    latency: new Chart({
      title: "Time to first byte", kind: "lines", format: duration, axis: (ms) => (ms < 1000 && !Number.isInteger(ms) ? "" : duration(ms)),
      series: [{ label: "p50", color: "p50" }, { label: "p95", color: "p95" }],
    }),
  };
}

function tick(value) {
  return value >= 1000 ? short(value).replace(/\.0+(?=\D)/, "") : String(Number(value.toPrecision(6)));
}

function showCharts(charts, { times, step, utc, totals }, sum) {
  const column = (pick) => totals.map((each) => (each === null ? null : pick(each)));
  const show = (chart, picks) => chart.show({
    times, step, utc, columns: picks.map(column), sums: picks.map((pick) => pick(sum)),
  });
  show(charts.spend, [
    (each) => (each.cost_known > 0 ? each.cost_sats : null),
    (each) => (each.cost_estimated > 0 ? each.estimated_cost_sats : null),
    (each) => (each.savings_known > 0 ? each.savings_sats : null),
  ]);
  show(charts.requests, [(each) => each.succeeded, (each) => each.failed]);
  show(charts.latency, [(each) => each.latency_ms?.p50 ?? null, (each) => each.latency_ms?.p95 ?? null]);
}

function groupTables() {
  return Object.fromEntries(GROUPS.map(([group, label]) => [group, new Table({
    caption: `Spend and service by ${group}`,
    key: (row) => String(row.key),
    columns: [
      { head: label, kind: "text", cell: (row) => groupName(group, row.key) },
      { head: "Requests", kind: "num", cell: (row) => count(row.requests) },
      { head: "Success", kind: "num", cell: (row) => percent(row.success_rate) },
      { head: "Tokens in", kind: "num", cell: (row) => short(row.input_tokens) },
      { head: "Tokens out", kind: "num", cell: (row) => short(row.output_tokens) },
      { head: "Spent, sats", label: "Spent", kind: "num strong", cell: (row, { decimals }) => spent(row, decimals) },
      { head: "Saved, sats", label: "Saved", kind: "num saved", cell: (row, { savedDecimals }) => (row.savings_known > 0 ? satsIn(row.savings_sats, savedDecimals) : "–") },
      { head: "First byte p50", label: "p50", kind: "num", cell: (row) => duration(row.latency_ms?.p50) },
      { head: "p95", kind: "num", cell: (row) => duration(row.latency_ms?.p95) },
    ],
  })]));
}

function groupName(group, key) {
  if (key === null) return el("span", { class: "muted" }, { provider: "no provider", policy: "no policy", tier: "no provider", model: "no model" }[group]);
  if (group !== "model" && group !== "provider") return name(key);
  return el("a", { href: `#/requests?${new URLSearchParams({ [group]: key })}` }, name(key));
}

/** What was spent of a group's totals: the exact sum, and beside it what is an estimate or unknown. */
export function spent(row, decimals) {
  const notes = [];
  if (row.cost_estimated > 0) notes.push(el("span", { class: "sub", title: "by estimate, beside the exact sum" }, `+ ≈ ${sats(row.estimated_cost_sats)}`));
  if (row.cost_unknown > 0) notes.push(el("span", { class: "sub", title: "requests whose cost nobody knows" }, `${count(row.cost_unknown)} unknown`));
  const known = row.cost_known > 0
    ? el("span", { title: `${exact(row.cost_sats)} sats` }, satsIn(row.cost_sats, decimals))
    : el("span", { class: "unknown" }, row.cost_unknown > 0 || row.cost_estimated > 0 ? "unknown" : "–");
  return [known, notes];
}

function showGroups(table, groups) {
  table.show(groups, {
    decimals: commonDecimals(groups.map((each) => each.cost_sats)),
    savedDecimals: commonDecimals(groups.map((each) => each.savings_sats)),
  });
}

/** The parameters that stand for a range. */
function bounds(range) {
  return range === "all" ? {} : { range };
}

/** Totals in equal steps over a range: `{ times, step, utc, totals }`, null where nothing happened. */
async function seriesOf(range, width, signal) {
  if (range === "1h") return slotsOf(HOUR, 300, signal);
  const daily = range === "30d" || range === "all" || (range === "7d" && width < 640);
  const step = daily ? DAY : HOUR;
  const stats = await get("v1/stats", { ...bounds(range), group_by: daily ? "day" : "hour" }, signal);
  const found = new Map(stats.groups.map((each) => [Date.parse(each.key) / 1000, each]));
  const last = Math.floor(Date.now() / 1000 / step) * step;
  const first = SECONDS[range] ? Math.floor((Date.now() / 1000 - SECONDS[range]) / step) * step : Math.min(last - 6 * DAY, ...found.keys());
  const times = [];
  for (let at = first; at <= last; at += step) times.push(at);
  return { times, step, utc: daily, totals: times.map((at) => found.get(at) ?? null) };
}

/** The API counts by the hour at the finest: shorter steps are asked for one by one. */
async function slotsOf(length, step, signal) {
  const now = Math.floor(Date.now() / 1000);
  const times = [];
  for (let at = Math.floor((now - length) / step) * step; at <= now; at += step) times.push(at);
  const totals = await Promise.all(times.map(async (at) => {
    const since = Math.max(at, now - length) * 1000;
    const { totals: slot } = await get("v1/stats", { since, until: (at + step) * 1000 }, signal);
    return slot.requests > 0 ? slot : null;
  }));
  return { times, step, utc: false, totals };
}

function emptiness(range, isElsewhere) {
  if (isElsewhere) return blank("No requests in this range", el("p", {}, "Choose a longer one, or ", el("a", { href: "#/requests" }, "see all requests"), "."));
  const command = [
    `curl ${address("v1/chat/completions")}`,
    hasToken() && "-H \"authorization: Bearer $ARBSTR_TOKEN\"",
    "-H 'content-type: application/json'",
    "-d '{\"model\": \"gpt-4o\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'",
  ].filter(Boolean);
  return blank("No requests yet",
    el("p", {}, "Point a client's base URL at ", el("code", {}, address("v1").href), ", or send the first one by hand. It appears here within seconds."),
    el("pre", { tabindex: "0", "aria-label": "A first request" }, command.join(" \\\n  ")),
    copyButton("Copy", () => command.join(" ")));
}

const RANGES = [["1h", "1 h"], ["24h", "24 h"], ["7d", "7 d"], ["30d", "30 d"], ["all", "All"]];
const GROUPS = [["model", "Model"], ["provider", "Provider"], ["policy", "Policy"], ["tier", "Tier"]];
const HOUR = 3600;
const DAY = 86_400;
const SECONDS = { "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY };
