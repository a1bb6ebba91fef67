// Figures and names as people read them. Everything comes in as data and goes out as text.

const UNKNOWN = "unknown";

// Control characters, direction overrides, zero-width signs: spelled out, so that they show and do nothing.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;

function safe(value) {
  return String(value)
    .replace(/[\n\t\r]+/g, " ")
    .replace(HIDDEN, (sign) => {
      const code = sign.codePointAt(0);
      return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
    });
}

function shortened(value, most = 60) {
  const signs = Array.from(safe(value));
  return signs.length > most ? `${signs.slice(0, most - 1).join("")}\u2026` : signs.join("");
}

const grouped = (digits) => digits.replace(/\B(?=(\d{3})+(?!\d))/g, ",");

// Whole numbers, exact.
function count(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return value < 0 ? `\u2212${grouped(String(-value))}` : grouped(String(value));
}

const plural = (value, what) => `${count(value)} ${what}${value === 1 ? "" : "s"}`;

// Three digits and a unit, for axes and tiles; the exact number stands in the title.
function brief(value) {
  if (value === null || value === undefined) return UNKNOWN;
  for (const [size, unit] of [
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
  }
  return Number.isInteger(value) ? count(value) : String(Number(value.toPrecision(3)));
}

// Cents from a dollar on, below it up to three significant digits.
function money(text) {
  if (text === null || text === undefined) return UNKNOWN;
  const value = Number(text);
  const size = Math.abs(value);
  const sign = value < 0 ? "\u2212" : "";
  if (size >= 1 || size === 0) {
    const [whole, part] = size.toFixed(2).split(".");
    return `${sign}$${grouped(whole)}.${part}`;
  }
  const [whole, part] = size.toFixed(Math.min(12, 2 - Math.floor(Math.log10(size)))).split(".");
  return `${sign}$${whole}.${part.replace(/0+$/, "").padEnd(2, "0")}`;
}

// The decimal text itself, with separators: nothing is rounded.
function exactMoney(text) {
  if (text === null || text === undefined) return UNKNOWN;
  const [, sign, whole, part] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(text)) ?? [];
  if (whole === undefined) return money(text);
  const cents = (part ?? "").replace(/0+$/, "").padEnd(2, "0");
  return `${sign ? "\u2212" : ""}$${grouped(whole)}.${cents}`;
}

function percent(share) {
  if (share === null || share === undefined) return UNKNOWN;
  const value = share * 100;
  return `${Math.abs(value) < 10 && value !== 0 ? value.toFixed(1) : value.toFixed(0)}%`;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds === 0) return "0 ms";
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} \u00b5s`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(1)} ms`;
  return seconds < 120 ? `${seconds.toFixed(2)} s` : `${(seconds / 60).toFixed(1)} min`;
}

// A time span in whole units, rounded down.
function age(seconds) {
  for (const [unit, length] of [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
  ]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const MINUTE = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const BIG = 8.64e12; // seconds; beyond it there are no dates

function moment(at, { seconds = true } = {}) {
  if (!Number.isFinite(at) || Math.abs(at) > BIG) return UNKNOWN;
  const date = new Date(at * 1000);
  return `${DAY.format(date)} ${(seconds ? CLOCK : MINUTE).format(date)}`;
}

function utc(at) {
  if (!Number.isFinite(at) || Math.abs(at) > BIG) return UNKNOWN;
  return `${new Date(at * 1000).toISOString().replace("T", " ").replace("Z", "")} UTC`;
}
