// The last 15 minutes, a row a second, in arrays that never grow. A second without a sample is null in all of them.
export const SECONDS = 900;
const SWEEP_S = 60, LEAP_S = 30;
const metricOf = (name) => name.split("{", 1)[0];

export class Window {
  // `metrics`: what is held, with all its labels; the rest of a sample passes by.
  constructor(metrics) {
    this.metrics = new Set(metrics);
    this.times = [];
    this.series = new Map();
  }

  fill(first) {
    this.times = Array.from({ length: SECONDS }, (_, i) => first.start + i);
    this.series.clear();
    for (const [name, values] of Object.entries(first.series)) if (this.metrics.has(metricOf(name))) this.series.set(name, values);
  }

  push(sample) {
    const second = Math.floor(sample.at);
    const ahead = second - (this.times.at(-1) ?? -Infinity);
    if (ahead > SECONDS || ahead < -LEAP_S) this.reset(second); // the host's clock was set: what is drawn is of another time
    while (this.times.at(-1) < second) this.advance();
    const row = second - this.times[0];
    if (row < 0) return;
    for (const [name, value] of Object.entries(sample.v)) {
      if (this.metrics.has(metricOf(name))) this.get(name)[row] = value;
    }
  }

  get(name) {
    let values = this.series.get(name);
    if (!values) this.series.set(name, (values = new Array(this.times.length).fill(null)));
    return values;
  }

  // Series of a metric, those of numbered things in the order of their numbers.
  names(metric) {
    const found = [...this.series.keys()].filter((name) => metricOf(name) === metric);
    return found.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  }

  // Sum (or largest) of all series of a metric, second by second; null where none is known.
  combined(metric, how = "sum") {
    const all = this.names(metric).map((name) => this.series.get(name));
    if (all.length < 2) return all[0] ?? this.get(metric);
    return this.times.map((_, i) => {
      let found = null;
      for (const values of all) {
        const value = values[i];
        if (value === null || value === undefined) continue;
        found = found === null ? value : how === "max" ? Math.max(found, value) : found + value;
      }
      return found;
    });
  }

  advance() {
    this.times.push(this.times.at(-1) + 1);
    this.times.shift();
    for (const values of this.series.values()) { values.push(null); values.shift(); }
    if (this.times.at(-1) % SWEEP_S === 0) this.sweep();
  }

  // What went away (an interface, a disk) is let go when nothing of it is left to see.
  sweep() {
    for (const [name, values] of this.series) if (values.every((value) => value === null)) this.series.delete(name);
  }

  reset(second) {
    this.times = Array.from({ length: SECONDS }, (_, i) => second - SECONDS + 1 + i);
    this.series.clear();
  }
}

// The newest known value; one that is older than a few seconds is not now.
export function latest(values) {
  for (let i = values.length - 1; i >= Math.max(values.length - 5, 0); i -= 1) {
    if (values[i] !== null && values[i] !== undefined) return values[i];
  }
  return null;
}

export const largest = (values) => values.reduce((top, value) => (value !== null && value > top ? value : top), 0);
