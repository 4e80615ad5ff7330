// Figures over time, drawn by uPlot: stacked bars or lines, a legend that reads out what is under the pointer, and the same
// figures as a table for whoever does not see the drawing.

import { el, fill, setText } from "./dom.js";
import { clock, date, isKnown } from "./format.js";

/** One drawing with its legend and table. */
export class Chart {
  #series;
  #kind;
  #format;
  #axis;
  #host = el("div", { class: "plot", "aria-hidden": "true" });
  #when = el("span", { class: "when" });
  #values;
  #table = el("table", { class: "figures" });
  #details;
  #plot = null;
  #data = null;
  #watcher = new ResizeObserver(() => this.#fit());
  #themed = () => this.#redraw();

  /** `series`: `{ label, color }` with a custom property's name; `kind`: "bars" or "lines"; `format`, `axis`: figures to text. */
  constructor({ title, series, kind, format, axis = format }) {
    this.#series = series;
    this.#kind = kind;
    this.#format = format;
    this.#axis = axis;
    this.#values = series.map(() => el("b"));
    const legend = series.map(({ label, color }, index) =>
      el("li", {}, el("i", { class: `swatch ${color}`, "aria-hidden": "true" }), label, " ", this.#values[index]));
    this.#details = el("details", { on: { toggle: () => this.#tabulate() } },
      el("summary", {}, "Figures"), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}: figures` }, this.#table));
    this.node = el("figure", { class: "chart card" },
      el("figcaption", {}, el("h2", {}, title), this.#when, el("ul", { class: "legend" }, legend)),
      this.#host, this.#details);
    this.#watcher.observe(this.#host);
    window.addEventListener("arbstr-theme", this.#themed);
  }

  /**
   * Shows one value or null of each series at each of `times` (seconds, `step` apart); `sums` is what the legend says at rest;
   * `utc`: times are days in UTC.
   */
  show({ times, step, columns, sums, utc = false }) {
    const shape = [times.length, step, utc].join();
    const same = this.#plot !== null && this.#data?.shape === shape;
    this.#data = { shape, times, step, columns, sums, utc };
    if (same) this.#plot.setData(this.#drawn());
    else this.#redraw();
    this.#tabulate();
    this.#read(null);
  }

  destroy() {
    this.#watcher.disconnect();
    window.removeEventListener("arbstr-theme", this.#themed);
    this.#plot?.destroy();
  }

  #fit() {
    const width = this.#host.clientWidth;
    if (width === 0 || this.#data === null) return;
    if (this.#plot === null) this.#redraw();
    else if (this.#plot.width !== width) this.#plot.setSize({ width, height: HEIGHT });
  }

  #redraw() {
    const width = this.#host.clientWidth;
    this.#plot?.destroy();
    this.#plot = null;
    if (width === 0 || this.#data === null) return;
    if (!window.uPlot) {
      fill(this.#host, el("p", { class: "muted" }, "The library that draws this could not be loaded. Its figures are below."));
      return;
    }
    this.#plot = new window.uPlot(this.#options(width), this.#drawn(), this.#host);
  }

  /** The first series is drawn last, in front. Bars stand on one another: the first lowest, each drawn up to the sum so far. */
  #drawn() {
    const { columns } = this.#data;
    const middles = this.#middles();
    if (this.#kind === "lines") return [middles, ...columns.toReversed()];
    const sums = columns[0].map(() => 0);
    const stacked = columns.map((column) => column.map((value, at) => (sums[at] += Math.max(value ?? 0, 0))));
    return [middles, ...stacked.reverse()];
  }

  /**
   * Where each step is drawn: in its middle, so that it fills the time between two ticks of the axis. A day stands on the
   * tick with its date instead, which is its name rather than a moment.
   */
  #middles() {
    const { times, step, utc } = this.#data;
    return utc ? times : times.map((at) => at + step / 2);
  }

  #options(width) {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { font, stroke: color("muted"), ticks: { show: false }, grid: { stroke: color("line"), width: 1 } };
    return {
      width,
      height: HEIGHT,
      legend: { show: false },
      padding: [10, 18, 0, 0],
      tzDate: (seconds) => (this.#data.utc ? window.uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
      scales: { x: { range: () => this.#reach() }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
      axes: [
        { ...axis, grid: { show: false }, space: 64, gap: 10, values: TIMES, incrs: () => TICKS.filter((seconds) => seconds >= this.#data.step) },
        { ...axis, size: (_, labels) => widest(labels), values: (_, ticks) => ticks.map((tick) => this.#axis(tick)), space: 36 },
      ],
      cursor: { y: false, drag: { x: false, y: false }, points: { show: this.#kind === "lines" } },
      series: [{}, ...this.#strokes(color)],
      hooks: { setCursor: [(plot) => this.#read(plot.cursor.idx)] },
    };
  }

  #strokes(color) {
    if (this.#kind === "lines") {
      // Those behind are wider, so that both are seen where they are equal.
      return this.#series
        .map(({ label, color: name }, at) => ({
          label, stroke: color(name), width: 2 + 1.5 * at, spanGaps: false, points: { size: 4 + 5 * at, fill: color(name), show: sparse },
        }))
        .reverse();
    }
    const paths = window.uPlot.paths.bars({ size: [0.76, 44], radius: 0.12 });
    return this.#series
      .map(({ label, color: name }) => ({ label, fill: color(name), stroke: color(name), width: 0, paths, points: { show: false } }))
      .reverse();
  }

  /** From half a step before the middle of the first to half a step after that of the last. */
  #reach() {
    const { step } = this.#data;
    const middles = this.#middles();
    return [middles[0] - step / 2, middles[middles.length - 1] + step / 2];
  }

  #read(at) {
    if (this.#data === null) return;
    const { times, columns, sums } = this.#data;
    const inside = typeof at === "number" && at < times.length;
    setText(this.#when, inside ? this.#moment(at) : "");
    this.#values.forEach((value, index) => {
      const figure = inside ? columns[index][at] : sums[index];
      setText(value, isKnown(figure) ? this.#format(figure) : "–");
      value.parentElement.hidden = !isKnown(sums[index]);
    });
  }

  #tabulate() {
    if (!this.#details.open || this.#data === null) return;
    const { times, columns } = this.#data;
    const head = el("tr", {}, el("th", { scope: "col" }, "From"), this.#series.map(({ label }) => el("th", { scope: "col" }, label)));
    const figure = (value) => (isKnown(value) ? this.#format(value) : "–");
    const rows = times.map((_, at) =>
      el("tr", {}, el("th", { scope: "row" }, this.#moment(at)), columns.map((column) => el("td", {}, figure(column[at])))));
    fill(this.#table, el("thead", {}, head), el("tbody", {}, rows.reverse()));
  }

  #moment(at) {
    const { times, step, utc } = this.#data;
    const ms = times[at] * 1000;
    if (utc) return `${new Date(ms).toISOString().slice(0, 10)} UTC`;
    const until = clock(ms + step * 1000).slice(0, 5);
    return `${date(ms)} ${clock(ms).slice(0, 5)}–${until}`;
  }
}

/** Points only where a line would not show: beside gaps. */
function sparse(plot, index) {
  const known = plot.data[index].filter(isKnown).length;
  return known < 30;
}

function widest(labels) {
  const longest = Math.max(0, ...(labels ?? []).map((label) => label.length));
  return 14 + longest * 6.6;
}

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;
/** uPlot's rows: least step, text, then the text that is added where a year, month, day or hour begins. */
const TIMES = [
  [DAY * 365, "{YYYY}", null, null, null, null, null, null, 1],
  [DAY * 28, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [DAY, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [HOUR, "{HH}:00", null, null, "\n{D} {MMM}", null, null, null, 1],
  [MINUTE, "{HH}:{mm}", null, null, "\n{D} {MMM}", null, null, null, 1],
];
/** Seconds there may be between two ticks: those that uPlot chooses from, without what is shorter than a step. */
const TICKS = [
  ...[1, 5, 10, 15, 30].map((each) => each * MINUTE), ...[1, 2, 3, 4, 6, 8, 12].map((each) => each * HOUR),
  ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 30, 60, 90, 120, 180].map((each) => each * DAY),
  ...[1, 2, 5, 10, 25].map((each) => each * 365 * DAY),
];
const HEIGHT = 200;
