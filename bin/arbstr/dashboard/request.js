// One request: what came of it, what it cost part by part, whom it could have gone to, and whom it went to.

import { get, Refused } from "./api.js";
import { blank, copyButton, el, fill, name, Status } from "./dom.js";
import { clock, commonDecimals, count, date, duration, exact, isKnown, percent, plain, plainJson, plural, sats, satsIn, span } from "./format.js";
import { Poll } from "./poll.js";
import { badge, isUnsent, missing, outcome } from "./requests.js";
import { Table } from "./table.js";
import { attemptEnd } from "./words.js";

/** Shows the request `id` in `root`; returns what ends it. */
export function request(root, id) {
  const status = new Status();
  const body = el("div", { class: "stack" });
  const path = `v1/requests/${encodeURIComponent(id)}`;
  root.append(el("p", { class: "back" }, el("a", { href: "#/requests" }, "← All requests")), status.node, body);
  document.title = `Request ${plain(id)} · arbstr`;

  const poll = new Poll(1, async (signal) => {
    const row = await get(path, {}, signal);
    const offers = await offersNow(signal);
    status.ok();
    fill(body, head(row), figures(row), costCard(row, offers), attemptsCard(row), planCard(row), rawCard(row));
    if (row.error_message !== "in_progress") poll.stop();
  }, (error) => {
    if (!(error instanceof Refused) || error.status !== 404) return status.fail(error);
    status.ok();
    poll.stop();
    fill(body, blank("No such request", el("p", {}, "There is no record with the id ", el("code", {}, name(id)), ". It may be older than the config's retention_days.")));
  }).start();
  return () => poll.stop();
}

/** What providers charge now, for the parts of a cost; without it the parts are left out. */
async function offersNow(signal) {
  try {
    return (await get("providers", {}, signal)).data;
  } catch (error) {
    if (signal.aborted) throw error;
    return [];
  }
}

function head(row) {
  const at = row.timestamp;
  return el("div", { class: "request-head" },
    el("h1", {}, name(row.model), badge(row)),
    el("p", { class: "muted" },
      el("time", { datetime: new Date(at).toISOString() }, `${date(at)} ${clock(at)}`), ` · ${row.endpoint} · ${row.streaming ? "stream" : "not a stream"}`,
      row.policy !== null && [" · policy ", name(row.policy)]),
    el("p", { class: "id" }, el("code", {}, row.correlation_id), copyButton("Copy id", () => row.correlation_id)),
    problem(row));
}

function problem(row) {
  const [look, , note] = outcome(row);
  const lines = [];
  if (note !== null && look !== "running") lines.push([look, name(note)]);
  if (row.cost_disagrees) lines.push(["warn", `The provider says this cost ${exact(row.provider_cost_sats)} sats: more than 1 % away from arbstr's figure.`]);
  if (row.uncovered_units) lines.push(["warn", "Units were used that no rate covers, such as cache writes, audio or images: the cost may be higher."]);
  if (row.implausible_usage) lines.push(["warn", "The token counts that the provider reported do not fit the text."]);
  return lines.map(([kind, text]) => el("p", { class: `notice ${kind}` }, text));
}

function figures(row) {
  const running = row.error_message === "in_progress";
  const pending = (value) => (running && value === "–" ? "…" : value);
  const saved = row.cost_sats !== null && row.reference_cost_sats !== null ? row.reference_cost_sats - row.cost_sats : null;
  const share = saved !== null && row.reference_cost_sats > 0 ? ` (${percent(saved / row.reference_cost_sats)})` : "";
  const parts = [
    ["Provider", row.provider === null ? (running ? "…" : "none") : name(row.provider), row.served_model !== null && row.served_model !== row.model ? ["as ", name(row.served_model)] : row.tier ?? ""],
    ["Cost", total(row), row.cost_sats === null && row.estimated_cost_sats !== null ? "by estimate" : "sats"],
    ["Saved", saved === null ? pending("–") : sats(Number(saved.toFixed(9))), saved === null ? "" : `sats${share}`],
    ["First byte", pending(duration(row.latency_ms)), "of the winning attempt"],
    ["Duration", pending(duration(row.duration_ms)), "arrival to end"],
    ["Finish", row.finish_reason === null ? pending("–") : name(row.finish_reason), "as the provider says"],
  ];
  return el("dl", { class: "kpis small" }, parts.map(([label, value, note]) =>
    el("div", { class: "kpi", "data-kpi": label }, el("dt", {}, label), el("dd", { class: "value" }, value), el("dd", { class: "note" }, note))));
}

function total(row) {
  if (row.cost_sats !== null) return el("span", { title: `${exact(row.cost_sats)} sats` }, sats(row.cost_sats));
  if (row.estimated_cost_sats !== null) return el("span", { class: "estimate" }, `≈ ${sats(row.estimated_cost_sats)}`);
  return missing(row);
}

/** Tokens × rates, when today's rates still give the cost on record; else the tokens alone. */
function costCard(row, providers) {
  const parts = partsOf(row, providers);
  const counted = [
    ["Input", row.input_tokens === null ? null : row.input_tokens - (row.cached_input_tokens ?? 0)],
    ["Cached input", row.cached_input_tokens],
    ["Output", row.output_tokens],
  ];
  const lines = parts ?? counted.filter(([label, tokens]) => label !== "Cached input" || tokens > 0).map(([label, tokens]) => ({ label, tokens, rate: null, sats: null }));
  const decimals = commonDecimals([...lines.map((line) => line.sats), row.cost_sats]);
  const figure = (value, text) => (value === null ? "" : text(value));
  const rows = lines.map((line) => el("tr", {},
    el("th", { scope: "row" }, line.label),
    el("td", { class: "num" }, line.tokens === undefined ? "" : line.tokens === null ? missing(row) : count(line.tokens)),
    el("td", { class: "num" }, figure(line.rate, exact)),
    el("td", { class: "num strong" }, figure(line.sats, (value) => satsIn(value, decimals)))));
  const sum = el("tr", {}, el("th", { scope: "row" }, "Total"), el("td"), el("td"),
    el("td", { class: "num strong" }, row.cost_sats === null ? total(row) : satsIn(row.cost_sats, decimals)));
  return el("section", { class: "card", "aria-labelledby": "cost" },
    el("h2", { id: "cost" }, "Cost"),
    el("table", { class: "parts" }, el("caption", {}, "Parts of the cost"),
      el("thead", {}, el("tr", {}, ["Part", "Tokens", "Sats per 1M", "Sats"].map((text, at) => el("th", { scope: "col", class: at > 0 ? "num" : null }, text)))),
      el("tbody", {}, rows), el("tfoot", {}, sum)),
    costNotes(row, parts).map((note) => el("p", { class: "muted" }, note)));
}

function costNotes(row, parts) {
  const notes = [];
  if (row.reasoning_tokens > 0) notes.push(`${count(row.reasoning_tokens)} of the output tokens were reasoning.`);
  if (row.reference_cost_sats !== null) notes.push(`The same tokens at the dearest candidate: ${exact(row.reference_cost_sats)} sats.`);
  if (row.provider_cost_sats !== null) notes.push(`The provider itself says ${exact(row.provider_cost_sats)} sats.`);
  if (row.cost_sats !== null && parts === null) notes.push("The provider's rates have changed since, so the parts cannot be shown.");
  if (row.cost_sats === null && row.error_message !== "in_progress") {
    if (isUnsent(row)) notes.push("Nobody was asked, so it cost nothing.");
    else notes.push(row.estimated_cost_sats === null
      ? "The cost is unknown: the provider reported no usage, or has no known rate."
      : `The cost is not known for sure. What was seen would cost ${exact(row.estimated_cost_sats)} sats.`);
  }
  return notes;
}

function partsOf(row, providers) {
  const offer = providers.find((each) => each.name === row.provider)?.models
    .find((each) => each.model === row.model || each.upstream_model === row.served_model);
  if (!offer || row.cost_sats === null || row.input_tokens === null || offer.input_rate === null) return null;
  const cached = row.cached_input_tokens ?? 0;
  const part = (label, tokens, rate) => ({ label, tokens, rate, sats: (tokens * rate) / 1e6 });
  const parts = [part("Input", row.input_tokens - cached, offer.input_rate)];
  if (cached > 0) parts.push(part("Cached input", cached, offer.cached_input_rate));
  parts.push(part("Output", row.output_tokens ?? 0, offer.output_rate));
  if (offer.base_fee > 0) parts.push({ label: "Fee per request", tokens: undefined, rate: null, sats: offer.base_fee });
  const sum = parts.reduce((so_far, each) => so_far + each.sats, 0);
  return Math.abs(sum - row.cost_sats) <= 1e-9 * Math.max(1, sum) ? parts : null;
}

function attemptsCard(row) {
  const attempts = row.attempts ?? [];
  const end = Math.max(1, row.duration_ms ?? 0, ...attempts.map((each) => each.started_ms + (each.duration_ms ?? 0)));
  const items = attempts.map((each, at) => {
    const won = row.success && at === attempts.length - 1;
    const underway = each.outcome === "in_progress";
    const bar = el("span", { class: `span-bar ${won ? "good" : underway || (each.status !== null && each.status < 400) ? "warn" : "bad"}` });
    bar.style.left = `${(each.started_ms / end) * 100}%`;
    bar.style.width = `${Math.max(0.6, ((each.duration_ms ?? 0) / end) * 100)}%`;
    return el("li", {},
      el("span", { class: "who" }, name(each.provider), el("span", { class: "sub" }, name(attemptEnd(each.outcome)), each.cost_sats !== null && ` · cost ${exact(each.cost_sats)} sats`)),
      el("span", { class: "track", "aria-hidden": "true" }, bar),
      el("span", { class: "took" }, underway ? "…" : duration(each.duration_ms), el("span", { class: "sub" }, `from ${each.started_ms === 0 ? "0" : duration(each.started_ms)}`)));
  });
  const none = row.error_message === "in_progress" ? "Nobody is asked yet." : isUnsent(row) ? "Nobody was asked." : "None is on record.";
  return el("section", { class: "card", "aria-labelledby": "attempts" },
    el("h2", { id: "attempts" }, "Attempts"),
    items.length > 0 ? el("ol", { class: "attempts" }, items) : el("p", { class: "muted" }, none));
}

function planCard(row) {
  const candidates = row.plan?.candidates ?? [];
  const table = new Table({
    caption: "The plan: who could have served this, cheapest first",
    key: (each) => `${each.provider} ${each.model}`,
    look: (each) => (isServer(each, row) ? "chosen" : ""),
    columns: [
      { head: "Provider", kind: "text", cell: (each) => name(each.provider) },
      { head: "Model", kind: "text", cell: (each) => name(each.model) },
      { head: "Expected tokens", label: "Tokens", kind: "num", cell: (each) => [count(each.expected_input_tokens), el("span", { class: "muted" }, " → "), count(each.expected_output_tokens)] },
      { head: "Expected cost, sats", label: "Cost, sats", kind: "num strong", cell: (each, { decimals }) => expected(each, decimals) },
      { head: "Standing", kind: "text", cell: (each) => standing(each, row) },
    ],
  });
  table.show(candidates, { decimals: commonDecimals(candidates.map((each) => each.expected_cost_sats)) });
  return el("section", { class: "card", "aria-labelledby": "plan" },
    el("h2", { id: "plan" }, "Plan"),
    candidates.length > 0 ? table.node : el("p", { class: "muted" }, "There were no candidates."),
    row.plan?.omitted > 0 && el("p", { class: "muted" }, `${plural(row.plan.omitted, "more candidate is", "more candidates are")} not on record.`));
}

/** Why a candidate stands where it stands, and what came of it. */
function standing(each, row) {
  const served = isServer(each, row);
  const failed = served ? [] : triesOf(each, row).filter((tried) => tried.outcome !== "in_progress");
  const skipped = each.skipped !== null && el("span", { class: "warn-text" }, "skipped: ", name(each.skipped));
  if (skipped && failed.length === 0) return skipped;
  const notes = [
    isKnown(each.success_rate) && `${percent(each.success_rate)} succeed`,
    isKnown(each.latency_ms) && `first byte ${duration(each.latency_ms)}`,
  ].filter(Boolean);
  const fate = served ? "served it" : failed.length > 0 && el("span", { class: "bad-text" }, fateOf(failed));
  return [fate || (each.ranked ?? "could serve"), skipped, fate && each.ranked && el("span", { class: "sub" }, name(each.ranked)),
    notes.length > 0 && el("span", { class: "sub" }, notes.join(", "))];
}

/** What came of the attempts at a candidate that did not serve the request. */
function fateOf(failed) {
  const end = ({ outcome }) => (outcome.startsWith("status=2") ? "its answer did not come to its end" : attemptEnd(outcome));
  const ends = [...new Set(failed.map(end))].join(", ");
  return failed.length === 1 ? `tried: ${ends}` : `tried ${count(failed.length)} times: ${ends}`;
}

function triesOf(each, row) {
  return (row.attempts ?? []).filter((tried) => tried.provider === each.provider && tried.model === each.model);
}

function isServer(each, row) {
  return row.success && each.provider === row.provider;
}

function expected(each, decimals) {
  if (each.expected_cost_sats === null) return el("span", { class: "unknown" }, "unknown");
  const failure = each.cost_parts?.failure_sats;
  return [
    el("span", { title: `${exact(each.expected_cost_sats)} sats` }, satsIn(each.expected_cost_sats, decimals)),
    failure > 0 && el("span", { class: "sub" }, `${sats(failure)} for likely failure`),
    isKnown(each.price_age_secs) && el("span", { class: "sub" }, `price ${span(each.price_age_secs)} old`),
  ];
}

function rawCard(row) {
  const text = plainJson(row);
  return el("details", { class: "card" }, el("summary", {}, "The whole record"),
    el("pre", { tabindex: "0", "aria-label": "The record as JSON" }, text), copyButton("Copy", () => text));
}
