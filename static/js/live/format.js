// Numbers as people read them, always with the same number of digits so that nothing jumps. Unknown is "–", never 0.
const UNKNOWN = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);
const makers = new Map(); // an Intl formatter is dear to make and cheap to use

function digits(value, least, most) {
  const key = least * 10 + most;
  if (!makers.has(key)) makers.set(key, new Intl.NumberFormat(undefined, { minimumFractionDigits: least, maximumFractionDigits: most }));
  return makers.get(key).format(value);
}

// Three significant digits: 0, 3.84 (`most` 2), 38.4, 384. On an axis (`exact` false) trailing zeros are left out; a number
// as `exact` is how many digits there shall be.
export function number(value, most = 1, exact = true) {
  if (!known(value)) return UNKNOWN;
  if (typeof exact === "number") return digits(value, exact, exact);
  const size = Math.abs(value), fraction = size === 0 || size >= 99.95 ? 0 : size >= 9.995 ? Math.min(most, 1) : most;
  return digits(value, exact ? fraction : 0, fraction);
}
export const whole = (value) => number(value, 0);

// Sizes in steps of 1024, as memory is counted; rates in steps of 1000, as disks and networks are.
const UNITS = ["B", "KB", "MB", "GB", "TB"];
function unitOf(value, step) {
  let unit = 0;
  while (unit < UNITS.length - 1 && Math.abs(value) >= step ** (unit + 1) * 0.9995) unit += 1;
  return unit;
}
function scaled(value, step, per, exact) {
  if (!known(value)) return UNKNOWN;
  const unit = unitOf(value, step);
  return `${number(value / step ** unit, unit ? 2 : 0, exact)} ${UNITS[unit]}${per}`;
}
// "7.65 / 12.0 GB": a part of a whole, in the unit of the whole.
export function bytesOf(part, whole_) {
  if (!known(whole_)) return bytes(part);
  const unit = unitOf(whole_, 1024), one = 1024 ** unit;
  return `${number(known(part) ? part / one : null, 2)} / ${number(whole_ / one, 2)} ${UNITS[unit]}`;
}
export const bytes = (value, exact = true) => scaled(value, 1024, "", exact);
export const byteRate = (value, exact = true) => scaled(value, 1000, "/s", exact);

export const percent = (value, exact = true) => (known(value) ? `${number(value, Math.abs(value) < 9.95 ? 1 : 0, exact)} %` : UNKNOWN);
export const watts = (value, exact = true) => (known(value) ? `${number(value, 0, exact)} W` : UNKNOWN);
export const celsius = (value, exact = true) => (known(value) ? `${number(value, 0, exact)} °C` : UNKNOWN);

export function milliseconds(value, exact = true) {
  if (!known(value)) return UNKNOWN;
  return value >= 1000 ? `${number(value / 1000, 2, exact)} s` : `${number(value, value < 9.95 ? 1 : 0, exact)} ms`;
}

// 75 -> "1:15", 4000 -> "1 h 06 min"; how long, without a sign.
export function duration(seconds) {
  const s = Math.max(Math.round(seconds), 0), two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)} min` : `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
}

// `now` in seconds by the host's clock, whose clock the expiry is by too.
export function until(instant, now) {
  const seconds = Date.parse(instant) / 1000 - now;
  if (Number.isNaN(seconds)) return "expiry unknown";
  if (seconds > 10 * 365 * 86400) return "kept";
  return seconds <= 0 ? "unloads now" : `unloads in ${duration(seconds)}`;
}

const times = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
export const clock = (seconds) => times.format(seconds * 1000);
export const minute = (seconds) => minutes.format(seconds * 1000);
