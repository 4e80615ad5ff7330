// The page's frame: which view the address asks for, how arbstr is, and the token.

import { get, hasToken, keepToken, link } from "./api.js";
import { blank, el, fill, setText } from "./dom.js";
import { count, plural, span } from "./format.js";
import { overview } from "./overview.js";
import { Poll, pollAll } from "./poll.js";
import { providers } from "./providers.js";
import { request } from "./request.js";
import { requests } from "./requests.js";

const main = document.getElementById("main");
const pill = document.getElementById("health");
const notices = document.getElementById("notices");
const signOut = document.getElementById("sign-out");

let leave = () => {};
let locked = false;
let gone = false;
let health = null;

/** Shows the view of the address; a view returns what ends it. */
function route() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const parts = path.split("/").filter(Boolean);
  const parameters = new URLSearchParams(query);
  leave();
  leave = () => {};
  main.replaceChildren(); // at first what stands there for a page whose scripts did not come
  mark(parts[0] ?? "overview");
  if (locked) return askToken();
  leave = view(parts, parameters);
}

function view([page, id, ...rest], parameters) {
  if (rest.length === 0 && page === "requests" && id !== undefined) return request(main, unescaped(id));
  if (id === undefined) {
    if (page === undefined) return overview(main, parameters);
    if (page === "requests") return requests(main, parameters);
    if (page === "providers") return providers(main);
  }
  fill(main, blank("There is no such page", el("p", {}, el("a", { href: "#/" }, "Go to the overview"))));
  return () => {};
}

function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function mark(page) {
  for (const anchor of document.querySelectorAll("nav [data-page]")) {
    if (anchor.dataset.page === page) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  const title = { overview: "Overview", requests: "Requests", providers: "Providers" }[page];
  document.title = title ? `${title} · arbstr` : "arbstr";
}

/** Asks for the token in place of the view. */
function askToken(refused = false) {
  const input = el("input", {
    type: "password", id: "token", name: "token", autocomplete: "current-password", required: true,
    "aria-describedby": "token-note", "aria-invalid": refused ? "true" : null,
  });
  const form = el("form", { class: "card sign-in" },
    el("h1", {}, "This arbstr asks for its token"),
    el("p", { class: "muted", id: "token-note" }, "It is server.auth_token of the config. It stays in this tab and is forgotten when the tab is closed."),
    el("label", { for: "token" }, "Token"), input,
    refused && el("p", { class: "bad-text", role: "alert" }, "arbstr does not accept this token."),
    el("button", { type: "submit", class: "main" }, "Sign in"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(input.value.trim());
  });
  fill(main, form);
  input.focus();
}

function signIn(token) {
  // Anything else cannot stand in a header.
  if (!/^[\x21-\x7e]+$/.test(token)) return askToken(true);
  keepToken(token);
  locked = false;
  signOut.hidden = false;
  route();
  pollAll();
}

function lock() {
  if (locked) return;
  locked = true;
  const refused = hasToken();
  keepToken(null);
  signOut.hidden = true;
  leave();
  leave = () => {};
  askToken(refused);
}

async function checkHealth(signal) {
  health = await get("health", {}, signal);
  showHealth();
}

function showHealth() {
  const [look, text] = gone ? ["bad", "No answer"] : WORDS[health?.status] ?? ["", "…"];
  pill.className = `pill ${look}`;
  setPill(text, gone ? "" : reasons(health));
  const lines = gone ? [goneNotice()] : storeNotices(health?.store);
  // Drawn anew only when it says something new, or screen readers would repeat it.
  const said = lines.map((line) => line.textContent).join("\n");
  if (notices.dataset.said !== said) {
    notices.dataset.said = said;
    fill(notices, lines);
  }
}

/** The word, leading to the providers and saying why where there is something to say. */
function setPill(text, why) {
  const said = [text, why].join("\n");
  if (pill.dataset.said === said) return;
  pill.dataset.said = said;
  fill(pill, why === "" ? text : el("a", { href: "#/providers", title: why }, text));
}

/** Why it is not healthy; what is wrong with the records stands in the notices. */
function reasons(told) {
  const circuits = (told?.open_circuits ?? []).map(({ provider, model, state }) =>
    `${provider}${model === null ? "" : ` for ${model}`}: ${state === "open" ? "circuit open" : "being tried again"}`);
  const more = circuits.length - MOST_REASONS;
  const lines = more > 0 ? [...circuits.slice(0, MOST_REASONS), `and ${count(more)} more`] : circuits;
  if (circuits.length === 0 && told?.status === "unavailable") lines.push("no provider can be asked for any model");
  return lines.join("\n");
}

function goneNotice() {
  return el("p", { class: "notice bad" },
    "arbstr does not answer; it is asked again every few seconds. ",
    el("button", { type: "button", class: "quiet", on: { click: pollAll } }, "Try now"));
}

function storeNotices(store) {
  if (!store) return [];
  const said = store.last_error ? ` (${store.last_error})` : "";
  const lines = [];
  if (!store.database_ready) lines.push(`Records cannot be written to the database now${said}. ${plural(store.depth, "record")} ${store.depth === 1 ? "waits" : "wait"}; figures below may be old.`);
  else if (store.lag_ms > BEHIND_MS) lines.push(`Records are ${span(store.lag_ms / 1000)} behind: ${plural(store.depth, "record")} ${store.depth === 1 ? "waits" : "wait"}${said}. Figures below may be old.`);
  if (!store.journal_ready) lines.push("The journal cannot be written: a crash now would lose records.");
  if (store.memory_only > 0) lines.push(`${plural(store.memory_only, "record")} held in memory only.`);
  if (store.dropped > 0) lines.push(`${plural(store.dropped, "record")} lost since the start; the log says why.`);
  return lines.map((line) => el("p", { class: "notice warn" }, line));
}

link.addEventListener("unauthorized", lock);
link.addEventListener("gone", () => { gone = true; showHealth(); });
link.addEventListener("back", () => { gone = false; showHealth(); pollAll(); });
window.addEventListener("hashchange", () => {
  route();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
signOut.addEventListener("click", () => {
  keepToken(null);
  locked = true;
  signOut.hidden = true;
  route();
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which view is shown, and stays
  main.focus();
});

const WORDS = { ok: ["good", "Healthy"], degraded: ["warn", "Degraded"], unavailable: ["bad", "Unavailable"] };
const BEHIND_MS = 5000;
const MOST_REASONS = 8;

signOut.hidden = !hasToken();
showHealth();
route();
new Poll(5, checkHealth, () => {}).start();
