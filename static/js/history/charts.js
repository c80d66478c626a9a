// The charts under one another: one time axis, one cursor, values of that time in every legend.
import { element, setText } from "../live/dom.js";
import { draw, undraw } from "../plots.js";
import { attach } from "./pointer.js";
import { LEFT, RIGHT, axisTexts, formatOf, pixelOf, timeTicks, valueAxis } from "./scale.js";
import { colourOf, extent, traces, valueAt } from "./traces.js";

const TOP = 6, BOTTOM = 20, TICK_PX = 64;
const STILL = { staticPlot: true, responsive: false };

export class Charts {
  // `view`: see pointer.js
  constructor(root, view) {
    Object.assign(this, { root, view, cards: [], answer: null, shape: "", at: null, width: 0 });
    new ResizeObserver(([{ contentRect }]) => {
      const width = Math.floor(contentRect.width);
      if (!width || width === this.width) return;
      this.width = width;
      if (this.answer) this.draw();
    }).observe(root);
  }

  show(answer) {
    this.answer = answer;
    const shape = JSON.stringify([answer.charts.map(({ title, unit, lines }) => [title, unit, lines.map(({ host, name, label }) => [host, name, label])]), Boolean(answer.compared)]);
    if (shape !== this.shape) {
      for (const { plot } of this.cards) undraw(plot);
      this.cards = answer.charts.map((chart) => this.card(chart));
      this.root.replaceChildren(...this.cards.map(({ root }) => root));
    }
    this.shape = shape;
    this.cards.forEach((card, i) => { card.chart = answer.charts[i]; });
    this.width = Math.floor(this.root.clientWidth);
    this.draw();
  }

  card(chart) {
    const root = element("article", "card"), title = element("h2", "", chart.title), surface = element("div", "surface");
    const plot = element("div", "plot"), at = element("div", "at"), none = element("div", "none", "no samples in this time"), legend = element("div", "legend");
    title.append(element("em", "", chart.unit));
    surface.setAttribute("role", "img");
    at.hidden = true;
    legend.append(...chart.lines.map((line, i) => {
      const one = element("span", "", line.label), dash = element("i");
      dash.style.background = `var(${colourOf(i)})`;
      one.title = `${line.name} on ${line.host}`;
      one.prepend(dash);
      one.append(element("b"), element("small"));
      return one;
    }));
    surface.append(plot, at, none);
    root.append(title, surface, legend);
    attach(surface, this.view);
    return { root, surface, plot, at, none, legend, chart };
  }

  // Those in sight at once, the others after the browser has painted these.
  draw() {
    cancelAnimationFrame(this.later);
    const below = this.cards.filter(({ root }) => root.getBoundingClientRect().top > innerHeight);
    this.paint(this.cards.filter((card) => !below.includes(card)));
    if (below.length) this.later = requestAnimationFrame(() => { this.later = requestAnimationFrame(() => this.paint(below)); });
  }

  paint(cards) {
    for (const card of cards) {
      const { chart, plot, surface } = card, known = extent(chart, this.answer, this.view.window), { range, values } = valueAxis(...known, chart.unit);
      const axis = { zeroline: false, automargin: false, fixedrange: true, tickmode: "array", ticks: "" };
      const layout = {
        height: surface.clientHeight, width: surface.clientWidth, autosize: false, margin: { l: LEFT, r: RIGHT, t: TOP, b: BOTTOM }, showlegend: false, hovermode: false, dragmode: false,
        xaxis: { ...axis, ...this.timeAxis() },
        yaxis: { ...axis, range, tickvals: values, ticktext: axisTexts(values, chart.unit) },
      };
      card.none.hidden = known[0] !== undefined;
      draw(plot, { data: traces(chart, this.answer), layout, config: STILL });
      surface.ariaLabel = this.said(chart);
    }
    this.point(this.at);
  }

  timeAxis() {
    const [from, to] = this.view.window, span = to - from; // with ticks on either side, for when it is moved
    const ticks = timeTicks(from - span / 2, to + span / 2, (2 * (this.width - LEFT - RIGHT)) / TICK_PX);
    return { range: [from, to], tickvals: ticks.map(([at]) => at), ticktext: ticks.map(([, text]) => text) };
  }

  // Another part of the time, with the samples that are there.
  move() {
    const { range, tickvals, ticktext } = this.timeAxis(), change = { "xaxis.range": range, "xaxis.tickvals": tickvals, "xaxis.ticktext": ticktext };
    for (const { plot } of this.cards) if (plot.data) window.Plotly.relayout(plot, change);
    this.point(this.at);
  }

  // The cursor of all charts; null takes it away, and the legends say the last values.
  point(at) {
    this.at = at;
    const shown = at !== null && at >= this.view.window[0] && at <= this.view.window[1];
    const width = this.cards[0]?.surface.clientWidth;
    for (const card of this.cards) {
      const { chart, legend } = card, format = formatOf(chart.unit), { compared } = this.answer;
      card.at.hidden = !shown;
      if (shown) card.at.style.left = `${pixelOf(at, width, this.view.window)}px`;
      chart.lines.forEach((line, i) => {
        const [, value, then] = legend.children[i].children;
        say(value, format(shown ? valueAt(line.mean, this.answer.start, this.answer.step, at) : line.summary.last));
        if (compared) say(then, shown ? `was ${format(valueAt(line.then, compared.start, compared.step, at))}` : "");
      });
    }
  }

  said({ title, unit, lines }) {
    const format = formatOf(unit);
    const each = lines.map(({ label, summary }) => `${label} mean ${format(summary.mean)}, from ${format(summary.low)} to ${format(summary.high)}`);
    return `${title}: ${each.slice(0, 8).join("; ")}${each.length > 8 ? `; ${each.length - 8} more in the table below` : ""}.`;
  }
}

// No legend that dances: the room of a value only grows.
function say(node, text) {
  const room = Math.max(Number(node.dataset.room ?? 0), text.length);
  if (String(room) !== node.dataset.room) node.style.minWidth = `${(node.dataset.room = room)}ch`;
  setText(node, text);
}
