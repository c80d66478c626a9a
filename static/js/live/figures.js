// The figures on top: now, one line of context, and how it went.
import { element, setText } from "./dom.js";
import { bytes, milliseconds, number, percent, whole } from "./format.js";
import { largest } from "./window.js";

const BUCKET_S = 10, WIDTH = 90, HEIGHT = 26;

function total(values, metric) {
  const found = Object.entries(values).filter(([name, value]) => name.split("{")[0] === metric && value !== null);
  return found.length ? found.reduce((sum, [, value]) => sum + value, 0) : null;
}

// What a token costs the GPUs, with the error of their sensors; nothing while nothing is generated.
function energy(v) {
  const joules = v.gpu_joules_per_token;
  return joules == null ? "" : ` · ${number(joules, 2)} ± ${number(v.gpu_joules_per_token_error, 2)} J each`;
}

function loadedIn(v, sample) {
  const elsewhere = sample?.state?.elsewhere?.length;
  return v.engine_models_loaded == null ? "" : `${whole(v.engine_models_loaded)} loaded${elsewhere ? `, ${elsewhere} on other engines` : ""}`;
}

// [label, value, context, values of the window, top of the sparkline (none: its largest value)]
function figures(sample, w) {
  const v = sample?.v ?? {}, { gateway, cpu } = sample?.state ?? {};
  const vram = total(v, "gpu_memory_used_bytes"), allVram = total(v, "gpu_memory_total_bytes");
  const tokens = w.combined("gateway_tokens_per_s");
  const down = sample && !gateway ? "gateway does not answer" : null;
  return [
    ["Tokens/s", number(v.gateway_tokens_per_s), down ?? `peak ${number(largest(tokens))} in 15 min${energy(v)}`, tokens],
    ["Time to first token", milliseconds(v.gateway_ttft_p50_ms), down ?? (v.gateway_ttft_p95_ms == null ? "no stream in 1 min" : `p95 ${milliseconds(v.gateway_ttft_p95_ms)} in 1 min`), w.combined("gateway_ttft_p50_ms")],
    ["Answering / waiting", `${whole(v.gateway_running)} / ${whole(v.gateway_queued)}`, down ?? (gateway ? `${whole(gateway.requests_total)} done, ${whole(gateway.errors_total)} failed` : ""), w.combined("gateway_running")],
    vram === null
      ? ["Model memory", bytes(v.engine_memory_bytes), loadedIn(v, sample), w.combined("engine_memory_bytes")]
      : ["VRAM", bytes(vram), `${percent(allVram ? (100 * vram) / allVram : null)} of ${bytes(allVram)}`, w.combined("gpu_memory_used_bytes"), allVram],
    ["CPU", percent(v.cpu_percent), v.load1 == null ? "" : `load ${number(v.load1, 2)}${cpu?.n_threads ? `, ${cpu.n_threads} threads` : ""}`, w.combined("cpu_percent"), 100],
    ["Memory", percent(v.memory_used_percent), v.memory_total_bytes == null ? "" : `${bytes(v.memory_used_bytes)} of ${bytes(v.memory_total_bytes)}`, w.combined("memory_used_percent"), 100],
  ];
}

export function drawFigures(root, sample, w) {
  const found = figures(sample, w);
  if (!root.children.length) root.append(...found.map(makeFigure));
  found.forEach(([label, value, context, values, top], i) => {
    const [name, strong, small, picture] = root.children[i].children;
    setText(name, label);
    setText(strong, value);
    setText(small, context);
    small.title = context;
    picture.firstElementChild.setAttribute("d", path(w.times, values, top));
  });
}

function makeFigure() {
  const box = element("div", "kpi"), picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("aria-hidden", "true");
  picture.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  box.append(element("span"), element("strong"), element("small"), picture);
  return box;
}

// Means of 10 s that begin at round times, so that the line slides and never shimmers; unknown breaks it.
function path(times, values, top) {
  const buckets = new Map();
  times.forEach((at, i) => {
    const value = values[i];
    if (value === null || value === undefined) return;
    const key = Math.floor(at / BUCKET_S), bucket = buckets.get(key);
    if (bucket) { bucket.sum += value; bucket.n += 1; } else buckets.set(key, { sum: value, n: 1 });
  });
  const first = Math.floor((times[0] ?? 0) / BUCKET_S), means = [...buckets].map(([key, { sum, n }]) => [key, sum / n]);
  const high = top ?? Math.max(...means.map(([, mean]) => mean), 1e-9);
  let before = null;
  return means.map(([key, mean]) => {
    const command = before === key - 1 ? "L" : "M";
    const point = `${(key - first).toFixed(1)} ${(HEIGHT - 1 - Math.min(mean / high, 1) * (HEIGHT - 2)).toFixed(1)}`;
    before = key;
    return command === "M" ? `M${point}h.01` : `L${point}`;
  }).join("");
}
