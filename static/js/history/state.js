// What a view is, and its address: everything is in the query string, so a link and the browser's back show the same again.
export const LEAST_S = 300, MOST_S = 366 * 86400;
export const iso = (at) => `${new Date(at * 1000).toISOString().slice(0, 19)}Z`;

// state: {range} or {from, to} (s since 1970), hosts, series (names, or metrics for all their devices), compare, band
export function query(state) {
  const found = new URLSearchParams();
  if (state.range) found.set("range", state.range);
  else { found.set("from", iso(state.from)); found.set("to", iso(state.to)); }
  for (const host of state.hosts) found.append("host", host);
  for (const name of state.series.length ? state.series : [""]) found.append("series", name);
  if (state.compare) found.set("compare", state.compare);
  if (!state.band) found.set("band", "off");
  return found.toString();
}

// A time shown that can be asked for: five minutes to a year, to `now` at most; whole seconds.
export function bounded(from, to, now) {
  const middle = (from + to) / 2, span = Math.min(Math.max(to - from, LEAST_S), MOST_S);
  const end = Math.round(Math.min(middle + span / 2, now));
  return [end - Math.round(span), end];
}
export const zoomed = ([from, to], factor, around, now) => bounded(around - (around - from) * factor, around + (to - around) * factor, now);
