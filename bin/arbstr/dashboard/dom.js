// Building blocks of the page. Text from data enters as text nodes only, so that no name can become markup, and through
// `plain`, so that none can turn the text around.

import { Gone, Refused } from "./api.js";
import { plain } from "./format.js";

/** An element with attributes, listeners (`on`) and children; empty children are left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") listen(node, value);
    else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : SAID.has(name) ? plain(String(value)) : value);
    }
  }
  node.append(...present(children));
  return node;
}

/** Replaces what is in `node`. */
export function fill(node, ...children) {
  node.replaceChildren(...present(children));
  return node;
}

/** Sets the text, touching the page only when it differs. */
export function setText(node, text) {
  const said = plain(text);
  if (node.textContent !== said) node.textContent = said;
}

/** A name from outside, kept from reordering the text around it. */
export function name(text) {
  return el("bdi", { class: "name" }, String(text));
}

/** Buttons of which one is pressed; `choices` are [value, label]. */
export function segmented(label, choices, chosen, choose) {
  const buttons = choices.map(([value, text]) =>
    el("button", {
      type: "button",
      "aria-pressed": String(value === chosen),
      on: {
        click: (event) => {
          for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.currentTarget));
          choose(value);
        },
      },
    }, text));
  return el("div", { class: "segmented", role: "group", "aria-label": label }, buttons);
}

/** A button that copies `text()` and says so. */
export function copyButton(label, text) {
  const button = el("button", { type: "button", class: "quiet" }, label);
  button.addEventListener("click", async () => {
    const copied = await copy(text());
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
  return button;
}

/** A block in place of figures: nothing there yet, or something is wrong. */
export function blank(title, ...children) {
  return el("section", { class: "blank" }, el("h2", {}, title), children);
}

/** How a view's figures are: on their way, there, or not to be had. */
export class Status {
  node = el("p", { class: "status", role: "status" }, "Loading…");
  #filled = false;

  /** The figures are there. */
  ok() {
    this.#filled = true;
    this.#say("", "status");
  }

  /** They could not be fetched; old ones stay, said to be old, and the page's own notice tells when arbstr is gone. */
  fail(error) {
    if (!(error instanceof Gone || error instanceof Refused)) console.error(error);
    if (!(error instanceof Gone)) return this.#say(error.message, "status notice bad");
    if (this.#filled) this.#say("What you see is what arbstr said last.", "status notice");
    else this.#say("Nothing to show until arbstr answers.", "status");
  }

  #say(text, look) {
    this.node.className = look;
    setText(this.node, text);
  }
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // the clipboard is for secure pages: https, or this machine
  }
}

function listen(node, listeners) {
  for (const [event, listener] of Object.entries(listeners)) node.addEventListener(event, listener);
}

function present(children) {
  return children.flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : plain(String(child))));
}

/** Attributes that people read. */
const SAID = new Set(["title", "aria-label"]);
