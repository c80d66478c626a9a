// The strips: one definition each, one shared cursor. This module owns uPlot and the colours it gets.
import { byteRate as rate, clock, milliseconds, minute, number, percent } from "./format.js";

// Sum of all labels of a metric, or one series.
const CHARTS = [
  { title: "Inference", format: number, lines: [["tokens/s", "gateway_tokens_per_s"], ["requests/s", "gateway_requests_per_s"]] },
  { title: "Time to first token", format: milliseconds, gaps: true, lines: [["p50", "gateway_ttft_p50_ms"], ["p95", "gateway_ttft_p95_ms"]] },
  { title: "Requests in flight", format: number, lines: [["answering", "gateway_running"], ["waiting", "gateway_queued"], ["errors/s", "gateway_errors_per_s"]] },
  { title: "GPU", needs: "gpu_util_percent", format: percent, top: 100, lines: [["utilisation", "gpu_util_percent", "max"], ["memory busy", "gpu_memory_busy_percent", "max"]] },
  { title: "GPU power", needs: "gpu_power_w", format: (v) => `${number(v)} W`, lines: [["power", "gpu_power_w"]] },
  { title: "CPU", format: percent, top: 100, lines: [["busy", "cpu_percent"], ["iowait", "cpu_iowait_percent"], ["steal", "cpu_steal_percent"]] },
  { title: "Memory", format: percent, top: 100, lines: [["used", "memory_used_percent"]] },
  { title: "Pressure", format: percent, lines: [["cpu", "pressure_cpu_some_percent"], ["memory full", "pressure_memory_full_percent"], ["io full", "pressure_io_full_percent"]] },
  { title: "Disk", format: rate, least: 1000, lines: [["read", "disk_read_bytes_per_s"], ["write", "disk_write_bytes_per_s"]] },
  { title: "Network", format: rate, least: 1000, lines: [["in", "network_receive_bytes_per_s"], ["out", "network_transmit_bytes_per_s"]] },
  { title: "Temperature", needs: "temperature_celsius", format: (v) => `${number(v)} °C`, lines: [["hottest", "temperature_celsius", "max"]] },
];
const HEIGHT = 150;
const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function combined(window_, metric, how) {
  const all = window_.names(metric).map((name) => window_.get(name));
  if (!all.length) return window_.get(metric);
  if (all.length === 1) return all[0];
  return window_.times.map((_, i) => {
    let found = null;
    for (const values of all) {
      if (values[i] === null || values[i] === undefined) continue;
      found = found === null ? values[i] : how === "max" ? Math.max(found, values[i]) : found + values[i];
    }
    return found;
  });
}

export class Charts {
  constructor(root, window_) {
    this.root = root;
    this.window = window_;
    this.plots = new Map();
    this.cards = new Map();
    this.resize = new ResizeObserver((entries) => {
      for (const { target, contentRect } of entries) {
        this.plots.get(target.dataset.title)?.setSize({ width: Math.floor(contentRect.width), height: HEIGHT });
      }
    });
  }

  draw() {
    for (const chart of CHARTS) {
      if (chart.needs && !this.window.names(chart.needs).length) continue;
      const data = [this.window.times, ...chart.lines.map(([, metric, how]) => combined(this.window, metric, how))];
      const plot = this.plots.get(chart.title);
      if (plot) plot.setData(data);
      else this.create(chart, data);
    }
    if (this.window.times.at(-1) % 10 === 0) this.describe();
  }

  create(chart, data) {
    let box = this.cards.get(chart.title);
    if (!box) {
      const card = document.createElement("article");
      card.className = "card chart";
      card.innerHTML = `<h2>${chart.title}</h2><div class="plot" role="img" data-title="${chart.title}"></div>`;
      this.root.append(card);
      box = card.querySelector(".plot");
      this.cards.set(chart.title, box);
      this.resize.observe(box);
    }
    const axis = { stroke: token("--muted"), grid: { stroke: token("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const colours = ["--s1", "--s2", "--s4"];
    const options = {
      padding: [6, 6, 0, 0], width: Math.max(Math.floor(box.clientWidth), 120), height: HEIGHT,
      cursor: { sync: { key: "live" }, drag: { x: false, y: false }, points: { size: 5 } },
      scales: { y: { range: (_, low, high) => [0, chart.top ?? Math.max(high * 1.1 || 0, chart.least ?? 1)] } },
      axes: [{ ...axis, size: 22, space: 70, values: (_, ticks) => ticks.map(minute) }, { ...axis, size: 58, space: 28, values: (_, ticks) => ticks.map((tick) => chart.format(tick)) }],
      series: [{ value: (_, at) => (at === null ? "now" : clock(at)), label: "at" },
        ...chart.lines.map(([label], i) => ({
          label, stroke: token(colours[i]), width: 1.5, spanGaps: Boolean(chart.gaps), points: { show: false },
          fill: i === 0 ? `${token(colours[i])}1a` : undefined,
          value: (plot, value, series, at) => chart.format(at === null ? latest(plot.data[series]) : value),
        }))],
      legend: { live: true, markers: { width: 0, show: true, fill: (plot, i) => plot.series[i].stroke() } },
    };
    this.plots.set(chart.title, new window.uPlot(options, data, box));
  }

  recolour() {
    for (const plot of this.plots.values()) plot.destroy();
    this.plots.clear();
    this.draw();
  }

  // The text alternative: what a look at the strips would tell.
  describe() {
    for (const chart of CHARTS) {
      const box = this.cards.get(chart.title);
      if (!box) continue;
      const parts = chart.lines.map(([label, metric, how]) => `${label} ${chart.format(latest(combined(this.window, metric, how)))}`);
      box.setAttribute("aria-label", `${chart.title}, last 15 minutes. Now: ${parts.join(", ")}`);
    }
  }
}

function latest(values) {
  for (let i = values.length - 1; i >= Math.max(values.length - 5, 0); i -= 1) {
    if (values[i] !== null && values[i] !== undefined) return values[i];
  }
  return null;
}
