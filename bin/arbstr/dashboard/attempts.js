// What came of the attempts at each provider since arbstr started. Records count a request for the one that ended it alone;
// of those that were tried before, /metrics tells.

import { getText } from "./api.js";
import { count } from "./format.js";
import { answered, ended } from "./words.js";

/** Attempts at one provider. */
export class Attempts {
  all = 0;
  good = 0;
  /** Failures that were not the request's own fault. */
  faults = 0;
  #failures = [];

  add(outcome, status, times) {
    this.all += times;
    if (outcome === "good") {
      this.good += times;
      return;
    }
    if (!NOT_ITS_FAULT.has(outcome === "status" ? status : outcome)) this.faults += times;
    this.#failures.push([times, outcome === "status" ? answered(status) : ended(outcome)]);
  }

  /** How many failed in which way, the most usual first: 3 × answered 401 (key refused). */
  get failures() {
    return this.#failures.toSorted(([one], [other]) => other - one).map(([times, end]) => `${count(times)} × ${end}`).join(", ");
  }
}

/** Each provider's attempts by its name; null where nobody tells. */
export async function attempts(signal) {
  const text = await getText("metrics", signal);
  if (text === null || !text.startsWith("#")) return null;
  const found = new Map();
  for (const [, labels, times] of text.matchAll(SAMPLE)) {
    const { provider, outcome, status } = Object.fromEntries([...labels.matchAll(LABEL)].map(([, label, value]) => [label, unescaped(value)]));
    if (!found.has(provider)) found.set(provider, new Attempts());
    found.get(provider).add(outcome, status, Number(times));
  }
  return found;
}

function unescaped(value) {
  return value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
}

const SAMPLE = /^arbstr_attempts_total\{(.*)\} (\S+)$/gm;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
/** The request was at fault, its client left, or this machine had nothing left. */
const NOT_ITS_FAULT = new Set(["400", "413", "415", "422", "cancelled", "no_socket"]);
