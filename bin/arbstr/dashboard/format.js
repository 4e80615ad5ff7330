// Figures as text. Unknown is null and stays visible as such; a person never reads a 0 that nobody counted.

export const UNKNOWN = "unknown";

/** Whether there is a figure. */
export function isKnown(value) {
  return value !== null && value !== undefined;
}

/** Sats for reading: three significant digits below 1, two decimals below 100, whole from 1,000. */
export function sats(amount) {
  if (!isKnown(amount)) return UNKNOWN;
  return number(amount, decimalsOf(amount));
}

/** Sats with so many decimals, for a column of them. */
export function satsIn(amount, decimals) {
  if (!isKnown(amount)) return UNKNOWN;
  const least = 10 ** -decimals;
  if (amount > 0 && amount < least / 2) return `<${number(least, decimals)}`;
  return number(amount, decimals);
}

/** Decimals at which all `amounts` of a column can be told apart. */
export function commonDecimals(amounts) {
  const sizes = amounts.filter((amount) => typeof amount === "number" && amount !== 0).map(Math.abs);
  if (sizes.length === 0) return 2;
  sizes.sort((a, b) => a - b);
  return Math.min(decimalsOf(sizes[Math.floor(sizes.length / 4)]), 6);
}

/** Every digit there is. */
export function exact(amount) {
  return isKnown(amount) ? number(amount, 0, 9) : UNKNOWN;
}

/** A whole count. */
export function count(amount) {
  return isKnown(amount) ? number(amount, 0) : UNKNOWN;
}

/** A count in few characters: 9,876, 12.3k, 4.56M. */
export function short(amount) {
  if (!isKnown(amount)) return UNKNOWN;
  if (Math.abs(amount) < 9_999.5) return number(amount, 0);
  const [size, unit] = STEPS.find(([step]) => Math.abs(amount) >= step * 0.9995);
  const scaled = amount / size;
  return number(scaled, scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0) + unit;
}

/** A share as a percentage; 100 % and 0 % only when it is all or nothing. */
export function percent(share) {
  if (!isKnown(share)) return "–";
  if (share === 0 || share === 1) return `${share * 100} %`;
  const value = share * 100;
  if (Math.abs(value) < 0.1) return "<0.1 %";
  if (value < 100 && value > 99.9) return ">99.9 %";
  return `${number(value, 1)} %`;
}

/** Milliseconds in the unit that suits them. */
export function duration(ms) {
  if (!isKnown(ms)) return "–";
  if (ms < 1000) return `${number(ms, 0)} ms`;
  if (ms < 10_000) return `${number(ms / 1000, 2)} s`;
  if (ms < 60_000) return `${number(ms / 1000, 1)} s`;
  return span(ms / 1000);
}

/** Seconds as the two largest units: 3 min 20 s, 2 h 5 min. */
export function span(seconds) {
  const whole = Math.round(seconds);
  const units = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => whole >= size);
  if (first < 0) return "0 s";
  let rest = whole;
  const parts = [];
  for (const [unit, size] of units.slice(first, first + 2)) {
    const amount = Math.floor(rest / size);
    rest -= amount * size;
    if (amount > 0) parts.push(`${amount} ${unit}`);
  }
  return parts.join(" ");
}

/** A moment's time of day, here. */
export function clock(ms) {
  const at = new Date(ms);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
}

/** A moment's date, here. */
export function date(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/** Whether a moment is today, here. */
export function isToday(ms) {
  return date(ms) === date(Date.now());
}

/** Text from outside, with what would turn it around or hide in it written out, as the log does: `\\u{202e}`. */
export function plain(text) {
  return text.replace(HIDDEN, (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`);
}

/** JSON for reading, with the same written out as JSON writes it. */
export function plainJson(value) {
  return JSON.stringify(value, null, 2).replace(HIDDEN, (letter) => `\\u${letter.codePointAt(0).toString(16).padStart(4, "0")}`);
}

/** `amount` of a thing, in the right number. */
export function plural(amount, one, many = `${one}s`) {
  return `${count(amount)} ${amount === 1 ? one : many}`;
}

function decimalsOf(amount) {
  const size = Math.abs(amount);
  if (size === 0 || size >= 1000) return 0;
  if (size >= 100) return 1;
  if (size >= 1) return 2;
  return Math.min(9, 2 - Math.floor(Math.log10(size)));
}

function number(amount, least, most = least) {
  return amount.toLocaleString("en", { minimumFractionDigits: least, maximumFractionDigits: Math.max(least, most) });
}

function two(part) {
  return String(part).padStart(2, "0");
}

/** What the log calls hidden (bin/arbstr/log/line.rs), but for the ends of lines and tabs, which are harmless here. */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const STEPS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
