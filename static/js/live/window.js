// The last 15 minutes, a row a second, in arrays that never grow.
export const SECONDS = 900;

export class Window {
  constructor() {
    this.times = [];
    this.series = new Map();
  }

  fill(first) {
    const n = Math.max(...Object.values(first.series).map((each) => each.length), 0) || SECONDS;
    this.times = Array.from({ length: n }, (_, i) => first.start + i);
    this.series = new Map(Object.entries(first.series));
  }

  push(sample) {
    const second = Math.floor(sample.at);
    if (!this.times.length) this.times = Array.from({ length: SECONDS }, (_, i) => second - SECONDS + i);
    if (second - this.times.at(-1) > SECONDS) this.reset(second - 1);
    while (this.times.at(-1) < second) this.advance();
    const row = this.times.length - 1 - (this.times.at(-1) - second);
    if (row < 0) return;
    for (const [name, value] of Object.entries(sample.v)) {
      if (this.series.has(name)) this.series.get(name)[row] = value;
    }
  }

  // A series is held once a chart asks for it.
  get(name) {
    let values = this.series.get(name);
    if (!values) this.series.set(name, (values = new Array(this.times.length).fill(null)));
    while (values.length < this.times.length) values.unshift(null);
    return values;
  }

  names(metric) {
    return [...this.series.keys()].filter((name) => name === metric || name.startsWith(`${metric}{`));
  }

  advance() {
    this.times.push(this.times.at(-1) + 1);
    for (const values of this.series.values()) values.push(null);
    if (this.times.length > SECONDS) {
      this.times.shift();
      for (const values of this.series.values()) values.shift();
    }
  }

  reset(second) {
    this.times = Array.from({ length: SECONDS }, (_, i) => second - SECONDS + 1 + i);
    for (const values of this.series.values()) values.fill(null);
  }
}
