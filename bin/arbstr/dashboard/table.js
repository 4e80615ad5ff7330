// Tables that follow their data: a row that did not change keeps its element, so that focus, selection and the place on the
// page stay while new rows come in. On a phone each row becomes a card (see the style sheet), hence the roles and labels.

import { el } from "./dom.js";

/** A table of keyed rows. */
export class Table {
  #columns;
  #key;
  #look;
  #body = el("tbody", { role: "rowgroup" });
  #shown = new Map();
  #context = "";

  /**
   * `columns`: `{ head, label, kind, cell(row, context) }`, where `label` is a shorter head for a card and `kind` a class;
   * `key(row)` names a row; `look(row)` gives a row's class.
   */
  constructor({ caption, columns, key, look = () => "" }) {
    this.#columns = columns;
    this.#key = key;
    this.#look = look;
    const heads = columns.map(({ head, kind }) => el("th", { scope: "col", role: "columnheader", class: kind ?? null }, head));
    this.node = el("table", { class: "rows", role: "table" },
      el("caption", {}, caption),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads)),
      this.#body);
  }

  /** Shows `rows` in their order; `context` goes to the cells. Returns the keys that were not there before. */
  show(rows, context = {}) {
    const contextText = JSON.stringify(context);
    if (contextText !== this.#context) this.#forget();
    this.#context = contextText;
    const fresh = [];
    const kept = new Map();
    let place = this.#body.firstChild;
    for (const row of rows) {
      const key = this.#key(row);
      const text = JSON.stringify(row);
      const old = this.#shown.get(key);
      if (old === undefined) fresh.push(key);
      const node = old?.text === text ? old.node : this.#draw(row, context, old?.node);
      kept.set(key, { text, node });
      if (node === place) place = place.nextSibling;
      else this.#body.insertBefore(node, place);
    }
    for (const node of [...this.#body.children].slice(kept.size)) node.remove();
    this.#shown = kept;
    return fresh;
  }

  /** The element of a row that is shown. */
  row(key) {
    return this.#shown.get(key)?.node;
  }

  #draw(row, context, old) {
    const cells = this.#columns.map(({ head, label = head, kind, cell }, index) => {
      const attributes = { class: kind ?? null, "data-label": label };
      return index === 0
        ? el("th", { ...attributes, scope: "row", role: "rowheader" }, cell(row, context))
        : el("td", { ...attributes, role: "cell" }, cell(row, context));
    });
    const node = old ?? el("tr", { role: "row" });
    const focused = node.contains(document.activeElement);
    node.replaceChildren(...cells);
    node.className = this.#look(row);
    if (focused) node.querySelector("a")?.focus();
    return node;
  }

  #forget() {
    for (const shown of this.#shown.values()) shown.text = null;
  }
}
