// The providers: what each charges, whether it serves now, and what was learned about it.

import { get } from "./api.js";
import { attempts } from "./attempts.js";
import { blank, el, fill, name, setText, Status } from "./dom.js";
import { commonDecimals, count, duration, exact, isKnown, percent, plural, span } from "./format.js";
import { spent } from "./overview.js";
import { Poll } from "./poll.js";
import { Table } from "./table.js";

/** Shows the cards in `root`; returns what ends it. */
export function providers(root) {
  const status = new Status();
  const grid = el("div", { class: "cards" });
  const cards = new Map();
  const dollar = el("p", { class: "muted" });
  let tried = { at: -Infinity, found: null };
  root.append(el("div", { class: "head" }, el("h1", {}, "Providers"), dollar), status.node, grid);

  const poll = new Poll(3, async (signal) => {
    const [{ data, btc_price: price }, day] = await Promise.all([get("providers", {}, signal), dayOf(signal), tries(signal)]);
    status.ok();
    setText(dollar, worth(price));
    if (data.length === 0) return fill(grid, blank("No providers", el("p", {}, "Add a [[providers]] section to the config.")));
    for (const each of data) {
      if (!cards.has(each.name)) cards.set(each.name, new Card(each.name));
      cards.get(each.name).show(each, day.get(each.name), tried.found?.get(each.name));
    }
    const nodes = data.map((each) => cards.get(each.name).node);
    if (nodes.some((node, at) => grid.children[at] !== node) || grid.children.length !== nodes.length) fill(grid, nodes);
  }, (error) => status.fail(error)).start();
  return () => poll.stop();

  /** Attempts are asked for less often: everything that is measured comes with them. */
  async function tries(signal) {
    if (performance.now() - tried.at < TRIES_MS) return;
    const found = await attempts(signal);
    if (!signal.aborted) tried = { at: performance.now(), found };
  }
}

/** What dollars are worth, where prices are in dollars. */
function worth(price) {
  if (!price) return "";
  if (!isKnown(price.usd)) return `The price of bitcoin cannot be read${price.error ? `: ${price.error}` : ""}`;
  const age = isKnown(price.age_secs) ? `read ${span(price.age_secs)} ago` : "as configured";
  const trouble = isKnown(price.failing_secs) ? `, not to be read for ${span(price.failing_secs)}` : "";
  return `1 bitcoin = ${exact(price.usd)} USD, ${age}${trouble}`;
}

/** Each provider's last 24 hours; cards do without when records cannot be read. */
async function dayOf(signal) {
  try {
    const stats = await get("v1/stats", { range: "24h", group_by: "provider" }, signal);
    return new Map(stats.groups.map((each) => [each.key, each]));
  } catch (error) {
    if (signal.aborted) throw error;
    return new Map();
  }
}

class Card {
  #pill = el("span", { class: "pill" });
  #lines = el("div");
  #day = el("dl", { class: "facts" });
  #models;
  #all = false;
  #offers = [];
  #seen = null;
  #failsNow = false;
  #more = el("button", { type: "button", class: "quiet more", on: { click: () => { this.#all = !this.#all; this.#list(); } } });

  constructor(title) {
    this.#models = modelTable(title);
    this.node = el("section", { class: "card provider", "aria-label": title },
      el("div", { class: "card-head" }, el("h2", {}, name(title)), this.#pill),
      this.#lines, this.#day, this.#models.node, this.#more);
  }

  show(provider, day, tried) {
    this.#watch(tried);
    const isFailing = this.#failsNow || succeedsNever(provider);
    const [look, word] = standing(provider, isFailing);
    this.#pill.className = `pill ${look}`;
    this.#pill.textContent = word;
    const lines = [...troubles(provider), isFailing && failing(word, tried), ...doubts(day)].filter(Boolean);
    fill(this.#lines, about(provider), lines.map((line) => el("p", { class: "notice warn" }, line)));
    fill(this.#day, facts(provider, day, tried, isFailing));
    this.#offers = provider.models;
    this.#list();
  }

  /** Whether several attempts failed since the last that did not, while the page was open; what was learned follows only slowly. */
  #watch(tried) {
    if (!tried) return;
    if (this.#seen === null || tried.good !== this.#seen.good) this.#seen = tried;
    this.#failsNow = tried.faults - this.#seen.faults >= SEVERAL;
  }

  /** The models: those in trouble or in use first where there are too many to show. */
  #list() {
    const many = this.#offers.length > FEW + 2;
    this.#more.hidden = !many;
    this.#more.textContent = this.#all ? "Show fewer models" : `Show all ${count(this.#offers.length)} models`;
    const rank = (row) => (row.circuit !== "closed" || row.suspended_ms !== null ? 0 : row.first_event_ms !== null || row.answer_ms !== null ? 1 : 2);
    const shown = many && !this.#all ? this.#offers.toSorted((a, b) => rank(a) - rank(b)).slice(0, FEW) : this.#offers;
    this.#models.node.classList.toggle("unlearned", !this.#offers.some((row) => isKnown(row.success_rate) || isKnown(row.output_factor)));
    this.#models.show(shown);
  }
}

/** Whether all is lost that is known of its models: not one attempt of late succeeded. */
function succeedsNever(provider) {
  const known = provider.models.map((each) => each.success_rate).filter(isKnown);
  return known.length > 0 && known.every((share) => share === 0);
}

function standing(provider, isFailing) {
  if (provider.circuit === "open") return ["bad", "Circuit open"];
  if (provider.circuit === "half_open") return ["warn", "Trying again"];
  if (provider.suspended_ms !== null) return ["warn", "Set aside"];
  if (provider.cooling_ms !== null) return ["warn", "Cooling down"];
  const broken = provider.models.filter((each) => each.circuit !== "closed").length;
  if (broken > 0 && broken === provider.models.length) return ["bad", "Circuits open"];
  if (broken > 0) return ["warn", `${plural(broken, "circuit")} open`];
  return isFailing ? ["warn", FAILING] : ["good", "Serving"];
}

function about(provider) {
  const parts = [provider.kind, provider.tier, provider.url, provider.key === null ? "no key" : `key ${provider.key}`].filter(Boolean);
  return el("p", { class: "muted about" }, parts.flatMap((part, at) => [at > 0 && " · ", name(part)]));
}

function troubles(provider) {
  const lines = [];
  if (provider.suspended_ms !== null) lines.push(`Left out for ${span(provider.suspended_ms / 1000)} while others can serve: it refused its key, its balance or the model.`);
  if (provider.cooling_ms !== null) lines.push(`Left alone for ${span(provider.cooling_ms / 1000)}, as it asked.`);
  const discovery = provider.discovery;
  if (discovery && discovery.failing_secs !== null) {
    const age = discovery.age_secs === null ? "there is no list yet" : `the list is ${span(discovery.age_secs)} old`;
    lines.push(`Its model list cannot be read for ${span(discovery.failing_secs)}; ${age}${discovery.error ? `: ${discovery.error}` : ""}`);
  }
  for (const flag of provider.flags ?? []) lines.push(String(flag));
  return lines;
}

/** What the provider's answers of the last 24 hours say against its price. */
function doubts(day) {
  const kinds = [
    [day?.cost_disagrees, "it says that it charged something else than its rates give"],
    [day?.uncovered_units, "units were used that no rate covers"],
    [day?.implausible_usage, "the token counts do not fit the text"],
  ];
  return kinds.filter(([found]) => found > 0).map(([found, what]) => `In the last 24 hours, ${plural(found, "answer", "answers")}: ${what}.`);
}

/** That attempts fail, and how; `word`: its standing. */
function failing(word, tried) {
  const again = word === FAILING ? ", and it is asked again" : "";
  return `No attempt at it succeeded of late${again}.${tried?.failures ? ` Since the start of arbstr: ${tried.failures}.` : ""}`;
}

function facts(provider, day, tried, isFailing) {
  const limit = provider.concurrency_limit === null ? "" : ` of ${count(provider.concurrency_limit)}`;
  const discovery = provider.discovery;
  const parts = [
    ["In flight", `${count(provider.in_flight)}${limit}`],
    ["Requests, 24 h", day ? count(day.requests) : "0", "those that it answered, or was the last to be tried for"],
    ["Answered", day ? percent(day.success_rate) : "–", "of the requests that are over"],
    ["Spent, sats", day ? spent(day, commonDecimals([day.cost_sats])) : "–"],
    ["First byte", day ? duration(day.latency_ms?.p50) : "–"],
  ];
  if (tried) {
    const failed = tried.all - tried.good;
    parts.push(["Failed attempts", [`${count(failed)} of ${count(tried.all)}`, !isFailing && failed > 0 && el("span", { class: "sub" }, tried.failures)],
      "since arbstr started, before an answer had begun; also for requests that another provider answered then"]);
  }
  if (discovery && discovery.age_secs !== null) parts.push(["List read", `${span(discovery.age_secs)} ago`]);
  return parts.map(([label, value, title]) => el("div", { title }, el("dt", {}, label), el("dd", {}, value)));
}

function modelTable(title) {
  return new Table({
    caption: `Models of ${title}; rates in sats per 1,000,000 tokens`,
    key: (row) => row.model,
    look: (row) => (row.circuit === "closed" ? "" : "bad"),
    columns: [
      { head: "Model", kind: "text grow", cell: modelName },
      { head: "Input", kind: "num", cell: (row) => rate(row.input_rate) },
      { head: "Cached", kind: "num", cell: (row) => rate(row.cached_input_rate) },
      { head: "Output", kind: "num", cell: (row) => rate(row.output_rate) },
      { head: "Fee", kind: "num", cell: (row) => rate(row.base_fee) },
      { head: "First event", kind: "num", cell: (row) => latency(row, row.first_event_ms) },
      { head: "Answer", kind: "num", cell: (row) => latency(row, row.answer_ms) },
      { head: "Good attempts", label: "Good tries", kind: "num learned", cell: (row) => percent(row.success_rate) },
      { head: "Verbosity", kind: "num learned", cell: verbosity },
    ],
  });
}

function modelName(row) {
  const notes = [];
  if (row.upstream_model !== row.model) notes.push(`as ${row.upstream_model}`);
  if (row.circuit !== "closed") notes.push(row.circuit === "open" ? "circuit open" : "trying again");
  if (isKnown(row.price_age_secs)) notes.push(`price read ${span(row.price_age_secs)} ago`);
  if (row.implausible_usage > 0) notes.push(`${plural(row.implausible_usage, "implausible token count")}`);
  if (row.suspended_ms !== null) notes.push(`left out for ${span(row.suspended_ms / 1000)}`);
  return [name(row.model), notes.length > 0 && el("span", { class: "sub" }, notes.join(", "))];
}

/** How long it usually takes; of one that never answered only arbstr's own limit is known. */
function latency(row, ms) {
  return duration(row.success_rate === 0 ? null : ms);
}

/** The tokens it bills beside what others bill for the same. */
function verbosity(row) {
  if (!isKnown(row.output_factor)) return "–";
  const input = isKnown(row.input_factor) ? `, input × ${row.input_factor.toFixed(2)}` : "";
  return el("span", { title: `bills output × ${row.output_factor.toFixed(2)}${input} of what others bill for the same request` }, `× ${row.output_factor.toFixed(2)}`);
}

function rate(value) {
  return value === null ? el("span", { class: "unknown" }, "unknown") : exact(value);
}

const FAILING = "Failing";
const SEVERAL = 2;
const FEW = 8;
const TRIES_MS = 10_000;
