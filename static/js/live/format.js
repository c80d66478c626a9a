// Numbers as people read them. Unknown is "–", never 0.
const UNKNOWN = "–";

export function number(value, digits = 1) {
  if (value === null || value === undefined || Number.isNaN(value)) return UNKNOWN;
  const size = Math.abs(value);
  return value.toLocaleString(undefined, { maximumFractionDigits: size >= 100 ? 0 : size >= 10 ? Math.min(digits, 1) : digits });
}

// Sizes in steps of 1024, as memory is counted; rates in steps of 1000, as disks and networks are.
function scaled(value, step, per) {
  if (value === null || value === undefined || Number.isNaN(value)) return UNKNOWN;
  const units = ["B", "KB", "MB", "GB", "TB"];
  let n = value, unit = 0;
  while (Math.abs(n) >= step && unit < units.length - 1) { n /= step; unit += 1; }
  return `${number(n, unit ? 1 : 0)} ${units[unit]}${per}`;
}
export const bytes = (value) => scaled(value, 1024, "");
export const byteRate = (value) => scaled(value, 1000, "/s");

export const percent = (value) => (value === null || value === undefined ? UNKNOWN : `${number(value, 1)} %`);

export function milliseconds(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return value >= 10000 ? `${number(value / 1000, 1)} s` : `${number(value, value < 10 ? 1 : 0)} ms`;
}

export function until(instant, now) {
  const seconds = Math.round((Date.parse(instant) - now) / 1000);
  if (Number.isNaN(seconds)) return "expiry unknown";
  if (seconds > 10 * 365 * 86400) return "kept";
  if (seconds <= 0) return "unloads now";
  const minutes = Math.floor(seconds / 60);
  if (minutes >= 60) return `unloads in ${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `unloads in ${minutes}:${String(seconds % 60).padStart(2, "0")}`;
}

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString(undefined, { hour12: false });
export const minute = (seconds) => new Date(seconds * 1000).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
