// The strips drawn: one cursor through all of them, events as lines, gaps as gaps. This module owns uPlot.
import { element, setText } from "./dom.js";
import { clock, minute } from "./format.js";
import { forgetColours, lonely, paintBar, paintEvents, roundUp, token } from "./paint.js";
import { strips } from "./strips.js";
import { latest, largest } from "./window.js";

const COLOURS = ["--s1", "--s2", "--s3", "--s4", "--s5", "--s6", "--s7", "--s8"];
const HEIGHT = 148, AXIS = 62, RIGHT = 8, TIME_STEPS = [5, 10, 15, 30, 60, 120, 300];

export class Charts {
  // `onPoint(at)`: the second under the mouse, null when it left.
  constructor(root, window_, { events = () => [], onPoint = () => {} } = {}) {
    Object.assign(this, { root, window: window_, events, onPoint, span: 900, pinned: null, over: null, shape: "", plots: [] });
    this.seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const plot = this.plots.find((each) => each.box === target);
        if (plot) { plot.visible = isIntersecting; if (isIntersecting) this.drawOne(plot); }
      }
    });
    this.resize = new ResizeObserver((entries) => {
      for (const { target, contentRect } of entries) {
        const plot = this.plots.find((each) => each.box === target), width = Math.floor(contentRect.width);
        if (plot && width && width !== plot.uplot.width) plot.uplot.setSize({ width, height: HEIGHT });
      }
    });
  }

  draw() {
    const wanted = strips(this.window), shape = wanted.map((strip) => `${strip.id}${strip.lines.length}`).join();
    if (shape !== this.shape) this.build(wanted);
    this.shape = shape;
    const all = (this.window.times.at(-1) ?? 0) % 10 === 0; // those out of sight keep their text and their last look
    this.plots.forEach((plot, i) => { plot.strip = wanted[i]; if (all || plot.visible || !plot.drawn) this.drawOne(plot); });
  }

  build(wanted) {
    this.seen.disconnect();
    this.resize.disconnect();
    for (const { uplot } of this.plots) uplot.destroy();
    this.plots = wanted.map((strip) => this.create(strip));
    this.root.replaceChildren(...this.plots.map((plot) => plot.card));
    for (const plot of this.plots) { this.seen.observe(plot.box); this.resize.observe(plot.box); }
  }

  // Colours have changed.
  rebuild() {
    forgetColours();
    this.shape = "";
    this.draw();
  }

  create(strip) {
    const card = element("article", "card chart"), title = element("h2", "", strip.title), box = element("div", "plot"), legend = element("div", "legend");
    const colours = strip.lines.map(({ colour }, i) => colour ?? COLOURS[i % COLOURS.length]);
    title.append(element("em", "", strip.unit));
    box.setAttribute("role", "img");
    legend.append(...strip.lines.map(({ label }, i) => {
      const one = element("span", "", label), dash = element("i");
      dash.style.background = `var(${colours[i]})`;
      one.prepend(dash);
      one.append(element("b"));
      return one;
    }));
    card.append(title, box, legend);
    const plot = { strip, card, box, legend, visible: false, drawn: false, bar: [] };
    box.addEventListener("mouseenter", () => { this.over = plot; this.pinned = null; });
    box.addEventListener("mouseleave", () => { this.over = null; this.onPoint(null); });
    box.addEventListener("pointerdown", (event) => { if (event.pointerType !== "mouse") this.touch(plot, event); });
    plot.uplot = new window.uPlot(this.options(plot, colours), undefined, box);
    return plot;
  }

  options(plot, colours) {
    const axis = { stroke: token("--muted"), grid: { stroke: token("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const { format, incrs, least = 1 } = plot.strip;
    const top = (u, _, high) => (typeof plot.strip.top === "function" ? plot.strip.top(this.window) : plot.strip.top ?? roundUp(Math.max(high ?? 0, least)));
    return {
      width: Math.max(Math.floor(plot.box.clientWidth), 240), height: HEIGHT, padding: [8, RIGHT, 0, 0], legend: { show: false },
      cursor: { sync: { key: "live", scales: ["x", null] }, y: false, drag: { x: false, y: false }, points: { size: 5 } },
      scales: { x: { range: () => this.range() }, y: { range: (u, low, high) => [0, top(u, low, high)] } },
      axes: [{ ...axis, size: 22, gap: 4, space: 64, incrs: TIME_STEPS, values: (_, ticks, __, ___, step) => ticks.map(step < 60 ? clock : minute) },
        { ...axis, size: AXIS, gap: 6, space: 28, ...(incrs ? { incrs } : {}), values: (_, ticks) => ticks.map((tick) => format(tick, false)) }],
      series: [{}, ...colours.map((colour, i) => ({
        stroke: token(colour), width: 1.5, fill: i === 0 && colours.length < 5 ? token(colour, 0.1) : undefined,
        points: { show: true, size: 4, fill: token(colour), filter: (u, k) => lonely(u.data[k]) },
      }))],
      hooks: {
        drawClear: [(u) => paintEvents(u, this.events())],
        draw: [(u) => paintBar(u, this.window.times, plot.bar)],
        setCursor: [(u) => this.pointed(u, plot)],
      },
    };
  }

  range() {
    const end = this.window.times.at(-1) ?? 0;
    return [end - this.span, end];
  }

  drawOne(plot) {
    const { uplot, strip } = plot, values = strip.lines.map((line) => line.values(this.window));
    if (!this.window.times.length) return;
    plot.drawn = true;
    plot.bar = strip.bar?.() ?? [];
    uplot.setData([this.window.times, ...values]);
    if (this.pinned !== null) uplot.setCursor({ left: uplot.valToPos(this.pinned, "x"), top: 10 }, true, false);
    this.say(plot);
    if (!plot.box.ariaLabel || this.window.times.at(-1) % 10 === 0) this.describe(plot, values);
  }

  pointed(u, plot) {
    this.say(plot);
    if (this.over === plot) this.onPoint(u.cursor.left < 0 ? null : this.window.times[u.cursor.idx] ?? null);
  }

  // A finger hovers over nothing: where it taps the cursor stays.
  touch({ uplot }, event) {
    const at = uplot.posToVal(event.clientX - uplot.over.getBoundingClientRect().left, "x"), [start, end] = this.range();
    this.point(Math.min(Math.max(at, start), end));
    this.onPoint(this.pinned);
  }

  // The legend: values under the cursor, else of now.
  say({ uplot, strip, legend }) {
    const at = uplot.cursor.left < 0 ? null : uplot.cursor.idx;
    strip.lines.forEach((_, i) => {
      const values = uplot.data?.[i + 1] ?? [];
      const shown = legend.children[i].lastElementChild, text = strip.format(at === null || at === undefined ? latest(values) : values[at]);
      setText(shown, text);
      const room = Math.max(Number(shown.dataset.room ?? 0), text.length); // grows only: no legend that dances
      if (String(room) !== shown.dataset.room) shown.style.minWidth = `${(shown.dataset.room = room)}ch`;
    });
  }

  // Put the cursor of every strip at a second of the host's clock; null takes it away.
  point(at) {
    this.pinned = at;
    for (const { uplot } of this.plots) uplot.setCursor(at === null ? { left: -10, top: -10 } : { left: uplot.valToPos(at, "x"), top: 10 }, true, false);
  }

  // The text alternative: what a look at the strip would tell.
  describe({ box, strip }, values) {
    const parts = strip.lines.map(({ label }, i) => `${label} ${strip.format(latest(values[i]))}, at most ${strip.format(largest(values[i]))}`);
    box.ariaLabel = `${strip.title}, last 15 minutes. Now: ${parts.join("; ")}.`;
  }
}
