// Asks arbstr's API, beside which this page lies. Keeps the token for as long as the tab lives, and tells the page when
// arbstr is gone, back, or wants a token.

/** arbstr answered, and refused. */
export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `arbstr answered ${status}`);
    this.status = status;
    this.code = error?.code ?? null;
  }
}

/** No answer came. */
export class Gone extends Error {}

const KEY = "arbstr-token";
const PATIENCE_MS = 20_000;

/** Events `gone`, `back` and `unauthorized`. */
export const link = new EventTarget();

let token = recall();
let reached = true;

/** Whether arbstr answered when it was asked last. */
export function isReached() {
  return reached;
}

/** Whether a token is kept. */
export function hasToken() {
  return token !== null;
}

/** Keeps the token for this tab; `null` forgets it. */
export function keepToken(given) {
  token = given;
  try {
    if (given === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, given);
  } catch {
    // Storage is switched off: the token holds until the page is left.
  }
}

/** The address of `path` under the page's own. */
export function address(path) {
  return new URL(path, document.baseURI);
}

/**
 * GETs JSON from `path` with the parameters that have a value.
 * Throws `Refused`, `Gone`, or an AbortError.
 */
export async function get(path, parameters = {}, signal = undefined) {
  const url = address(path);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const used = token;
  const [response, body] = await ask(url, signal);
  if (response.ok || (path === "health" && body?.status)) return body;
  // A late answer to an old token says nothing about the new one.
  if (response.status === 401 && used === token) link.dispatchEvent(new Event("unauthorized"));
  throw new Refused(response.status, body?.error);
}

/** GETs text from `path`; null where it cannot be had: what stands in front of arbstr may keep a path to itself. */
export async function getText(path, signal) {
  try {
    const [response, text] = await fetchText(address(path), signal);
    return response.ok ? text : null;
  } catch {
    return null;
  }
}

async function ask(url, signal) {
  try {
    const [response, text] = await fetchText(url, signal);
    const body = parse(text);
    // A gateway in front of arbstr that cannot reach it answers in its place, and not in JSON.
    if (body === undefined) throw new Gone(`${response.status} from a server that is not arbstr`);
    note(true);
    return [response, body];
  } catch (error) {
    if (signal?.aborted) throw error;
    note(false);
    throw error instanceof Gone ? error : new Gone("arbstr does not answer");
  }
}

async function fetchText(url, signal) {
  const abort = new AbortController();
  const late = setTimeout(() => abort.abort(), PATIENCE_MS);
  signal?.addEventListener("abort", () => abort.abort(), { once: true });
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  try {
    const response = await fetch(url, { headers, cache: "no-store", signal: abort.signal });
    return [response, await response.text()];
  } finally {
    clearTimeout(late);
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function note(reachable) {
  if (reachable === reached) return;
  reached = reachable;
  link.dispatchEvent(new Event(reachable ? "back" : "gone"));
}

function recall() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}
