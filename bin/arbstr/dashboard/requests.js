// The list of requests: filtered, paged, and following new ones while its first page is shown.

import { get, isReached, link } from "./api.js";
import { blank, el, fill, name, Status } from "./dom.js";
import { clock, commonDecimals, count, date, duration, exact, isToday, plural, satsIn } from "./format.js";
import { Poll } from "./poll.js";
import { Table } from "./table.js";
import { failure } from "./words.js";

/** Shows the list in `root`; returns what ends it. */
export function requests(root, parameters) {
  const filter = Object.fromEntries(FILTERS.map((key) => [key, parameters.get(key) ?? ""]));
  let following = true;
  let cursors = [];
  let page = null;
  const status = new Status();
  const table = requestTable("Requests");
  const empty = el("div", { hidden: true });
  const follow = el("button", { type: "button", class: "follow", on: { click: toggle } });
  const place = el("span", { class: "muted" });
  const newer = el("button", { type: "button", on: { click: () => { cursors.pop(); poll.now(); } } }, "Newer");
  const older = el("button", { type: "button", on: { click: () => { cursors.push(page.next_cursor); poll.now(); } } }, "Older");
  const host = el("section", { class: "card", "aria-label": "Requests", hidden: true }, table.node);
  const pager = el("nav", { class: "pager", "aria-label": "Pages of the list", hidden: true }, newer, place, older);
  root.append(
    el("div", { class: "head" }, el("h1", {}, "Requests"), follow),
    filters(filter, () => { remember(filter); cursors = []; poll.now(); }),
    status.node, empty, host, pager);

  const poll = new Poll(2, async (signal) => {
    if (page !== null && !isLive() && page.asked === ask()) return;
    const asked = ask();
    const first = page === null || page.asked !== asked;
    const found = await get("v1/requests", { limit: PAGE, ...filter, cursor: cursors.at(-1) }, signal);
    page = { ...found, asked };
    status.ok();
    show(first);
  }, (error) => status.fail(error)).start();

  function show(first) {
    const none = page.data.length === 0;
    host.hidden = none;
    empty.hidden = !none;
    if (none) fill(empty, nothing(filter));
    const fresh = table.show(page.data, { decimals: commonDecimals(page.data.map((row) => row.cost_sats)) });
    if (!first && fresh.length <= FEW) for (const key of fresh) table.row(key).classList.add("fresh");
    pager.hidden = cursors.length === 0 && page.next_cursor === null;
    newer.disabled = cursors.length === 0;
    older.disabled = page.next_cursor === null;
    place.textContent = `Page ${count(cursors.length + 1)}`;
    describe();
  }

  function describe() {
    const can = cursors.length === 0 && filter.sort === "";
    follow.hidden = !can;
    follow.classList.toggle("live", isLive() && isReached());
    follow.setAttribute("aria-pressed", String(following));
    const [word, title] = !following ? ["Paused", "Press to follow new requests"]
      : isReached() ? ["Live", "New requests appear as they come. Press to hold the list still"]
        : ["Waiting", "arbstr does not answer. New requests appear as soon as it does. Press to hold the list still"];
    follow.textContent = word;
    follow.title = title;
  }

  function toggle() {
    following = !following;
    describe();
    poll.now();
  }

  function isLive() {
    return following && cursors.length === 0 && filter.sort === "";
  }

  function ask() {
    return JSON.stringify([filter, cursors]);
  }

  describe();
  for (const change of CHANGES) link.addEventListener(change, describe);
  return () => {
    poll.stop();
    for (const change of CHANGES) link.removeEventListener(change, describe);
  };
}

/** A table of requests; its rows' context is `{ decimals }`. */
export function requestTable(caption) {
  return new Table({
    caption,
    key: (row) => row.correlation_id,
    look: (row) => outcome(row)[0],
    columns: [
      { head: "Time", kind: "time", cell: time },
      { head: "Outcome", kind: "text outcome", cell: (row) => badge(row) },
      { head: "Model", kind: "text grow", cell: (row) => name(row.model) },
      { head: "Provider", kind: "text", cell: (row) => (row.provider === null ? el("span", { class: "muted" }, row.error_message === "in_progress" ? "…" : "none") : [name(row.provider), retried(row)]) },
      { head: "Tokens", kind: "num", cell: tokens },
      { head: "Cost, sats", kind: "num strong", cell: cost },
      { head: "First byte", kind: "num", cell: (row) => duration(row.latency_ms) },
      { head: "Duration", kind: "num", cell: (row) => duration(row.duration_ms) },
    ],
  });
}

/** How a request went: a class, a word, and what is to be said about it. */
export function outcome(row) {
  if (row.success) return ["good", "Answered", null];
  switch (row.error_message) {
    case "in_progress": return ["running", "Under way", "It is not over yet."];
    case "client_disconnected": return ["warn", "Client left", "The client went before the end."];
    case "interrupted": return ["bad", "Interrupted", "arbstr ended while it was under way."];
    case "stream_incomplete": return ["bad", "Incomplete", "The provider ended the stream without [DONE]."];
    default: return ["bad", row.error_status ? `Failed ${row.error_status}` : "Failed", failure(row)];
  }
}

/** The outcome as a mark with its word. */
export function badge(row) {
  const [look, word, note] = outcome(row);
  return el("span", { class: `badge ${look}`, title: note }, word);
}

/** A cost for reading: exact, by estimate, or unknown. */
export function cost(row, { decimals }) {
  if (row.cost_sats !== null) return el("span", { title: `${exact(row.cost_sats)} sats` }, satsIn(row.cost_sats, decimals));
  if (row.estimated_cost_sats !== null) {
    return el("span", { class: "estimate", title: `an estimate: ${exact(row.estimated_cost_sats)} sats` }, `≈ ${satsIn(row.estimated_cost_sats, decimals)}`);
  }
  return missing(row);
}

/** In place of a figure that is not there: to come, none because nobody was asked, or unknown for ever. */
export function missing(row) {
  if (row.error_message === "in_progress") return el("span", { class: "muted" }, "…");
  if (isUnsent(row)) return el("span", { class: "muted", title: "nobody was asked" }, "–");
  return el("span", { class: "unknown" }, "unknown");
}

/** Whether the request reached no provider; of one that was interrupted nobody knows. */
export function isUnsent(row) {
  const tried = row.attempts?.length ?? row.attempts;
  return tried === 0 && row.error_message !== "interrupted" && row.error_message !== "in_progress";
}

function time(row) {
  const at = row.timestamp;
  return el("a", { href: `#/requests/${encodeURIComponent(row.correlation_id)}`, title: new Date(at).toISOString() },
    !isToday(at) && [el("span", { class: "day" }, date(at)), " "], el("time", { datetime: new Date(at).toISOString() }, clock(at)));
}

function tokens(row) {
  if (row.input_tokens === null && row.output_tokens === null) return missing(row);
  const part = (amount) => (amount === null ? "?" : count(amount));
  return [part(row.input_tokens), el("span", { class: "muted" }, " → "), part(row.output_tokens)];
}

function retried(row) {
  const tried = typeof row.attempts === "number" ? row.attempts : row.attempts?.length ?? 0;
  return tried > 1 && el("span", { class: "sub", title: "attempts before the last one" }, `after ${plural(tried - 1, "failed try", "failed tries")}`);
}

function filters(filter, changed) {
  const pick = (key, label, choices) => {
    const select = el("select", { id: `filter-${key}`, on: { change: () => { filter[key] = select.value; changed(); } } }, choices.map(option));
    select.value = filter[key];
    return [el("label", { for: `filter-${key}` }, label, select), select];
  };
  const [model, models] = pick("model", "Model", [["", "All models"], ...present(filter.model)]);
  const [provider, providers] = pick("provider", "Provider", [["", "All providers"], ...present(filter.provider)]);
  const rest = [
    ["success", "Outcome", [["", "All outcomes"], ["true", "Answered"], ["false", "Not answered"]]],
    ["streaming", "Kind", [["", "All kinds"], ["true", "Streams"], ["false", "Not streams"]]],
    ["range", "Range", [["", "Any time"], ["1h", "Last hour"], ["24h", "Last 24 hours"], ["7d", "Last 7 days"], ["30d", "Last 30 days"]]],
    ["sort", "Order", [["", "Newest first"], ["timestamp", "Oldest first"], ["-cost_sats", "Dearest first"], ["-duration_ms", "Longest first"], ["-latency_ms", "Slowest first byte"], ["-output_tokens", "Most output"]]],
  ].map(([key, label, choices]) => pick(key, label, choices)[0]);
  extend(models, "model", "v1/models", (each) => each.id);
  extend(providers, "provider", "providers", (each) => each.name);
  return el("form", { class: "filters", "aria-label": "Filters", on: { submit: (event) => event.preventDefault() } }, model, provider, rest);
}

/** Adds the names that are on record, and those that can be asked for now. */
async function extend(select, group, path, pick) {
  const [stats, listed] = await Promise.allSettled([get("v1/stats", { group_by: group }), get(path)]);
  const names = new Set([
    ...(stats.value?.groups ?? []).map((each) => each.key).filter((key) => key !== null),
    ...(listed.value?.data ?? []).map(pick),
  ]);
  for (const { value } of select.options) names.delete(value);
  select.append(...[...names].sort().slice(0, MOST_NAMES).map((each) => option([each, each])));
}

function option([value, text]) {
  return el("option", { value }, text);
}

function present(value) {
  return value === "" ? [] : [[value, value]];
}

function remember(filter) {
  const set = Object.entries(filter).filter(([, value]) => value !== "");
  history.replaceState(null, "", set.length > 0 ? `#/requests?${new URLSearchParams(set)}` : "#/requests");
}

function nothing(filter) {
  const narrow = FILTERS.some((key) => filter[key] !== "" && key !== "sort");
  return narrow
    ? blank("No request matches", el("p", {}, "Widen the filters, or ", el("a", { href: "#/requests" }, "show all requests"), "."))
    : blank("No requests yet", el("p", {}, "The first one appears here as soon as it arrives."));
}

const FILTERS = ["model", "provider", "success", "streaming", "range", "sort"];
const CHANGES = ["gone", "back"];
const PAGE = 50;
const FEW = 12;
const MOST_NAMES = 500;
