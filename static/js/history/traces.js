// Plotly's traces of a chart: mean, the band from least to greatest around it, and the dashed one of the earlier time.
const COLOURS = 8;
export const colourOf = (i) => `--s${(i % COLOURS) + 1}`;

// The middles of `n` buckets of `step` s.
export const middles = (start, step, n) => Array.from({ length: n }, (_, i) => start + (i + 0.5) * step);

// Pairs [first, last] of the stretches in which every value is known.
export function stretches(values) {
  const found = [];
  values.forEach((value, i) => {
    if (value === null) return;
    if (i && values[i - 1] !== null) found.at(-1)[1] = i;
    else found.push([i, i]);
  });
  return found;
}

// A closed shape for each stretch, a gap between two: Plotly's own band would lead across gaps.
function band(x, low, high) {
  const xs = [], ys = [];
  for (const [first, last] of stretches(low)) {
    if (xs.length) { xs.push(null); ys.push(null); }
    const along = x.slice(first, last + 1);
    xs.push(...along, ...along.toReversed(), along[0]);
    ys.push(...high.slice(first, last + 1), ...low.slice(first, last + 1).toReversed(), high[first]);
  }
  return { x: xs, y: ys };
}

function line(x, y, colour, more = {}) {
  const alone = new Set(stretches(y).filter(([first, last]) => first === last).map(([first]) => first));
  const points = alone.size ? { mode: "lines+markers", marker: { color: colour, size: y.map((_, i) => (alone.has(i) ? 4 : 0)), line: { width: 0 }, opacity: 1 } } : { mode: "lines" };
  return { type: "scatter", x, y, line: { color: colour, width: 1.5, ...more }, connectgaps: false, hoverinfo: "skip", ...points };
}

export function traces(chart, answer) {
  const x = middles(answer.start, answer.step, chart.lines[0].mean.length);
  const bands = chart.lines.flatMap((each, i) => (each.low
    ? [{ type: "scatter", mode: "lines", ...band(x, each.low, each.high), fill: "toself", fillcolor: colourOf(i), opacity: 0.16, line: { width: 0 }, hoverinfo: "skip", showlegend: false }] : []));
  const then = answer.compared
    ? chart.lines.map((each, i) => ({ ...line(middles(answer.compared.start, answer.compared.step, each.then.length), each.then, colourOf(i), { dash: "4px,3px", width: 1.2 }), opacity: 0.75, name: `${each.label}, ${answer.compared.label}` })) : [];
  return [...bands, ...then, ...chart.lines.map((each, i) => ({ ...line(x, each.mean, colourOf(i)), name: each.label }))];
}

// [least, greatest] of what is drawn of a chart between two times; undefined values where nothing is known.
export function extent(chart, answer, [from, to]) {
  let low = Infinity, high = -Infinity;
  const take = (values, start, step) => {
    const first = Math.max(Math.floor((from - start) / step), 0), last = Math.min(Math.ceil((to - start) / step), values.length);
    for (let i = first; i < last; i += 1) {
      if (values[i] === null) continue;
      low = Math.min(low, values[i]);
      high = Math.max(high, values[i]);
    }
  };
  for (const each of chart.lines) {
    for (const values of [each.mean, each.low, each.high]) if (values) take(values, answer.start, answer.step);
    if (each.then) take(each.then, answer.compared.start, answer.compared.step);
  }
  return low <= high ? [low, high] : [undefined, undefined];
}

// The value of the bucket in which `at` lies.
export const valueAt = (values, start, step, at) => values[Math.floor((at - start) / step)] ?? null;
