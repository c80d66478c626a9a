// Figures and cards from the newest sample's values and state. Text goes in as text, never as HTML.
import { bytes, milliseconds, number, percent, until } from "./format.js";

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (className) made.className = className;
  return made;
}

function sum(values, metric) {
  const found = Object.entries(values).filter(([name, value]) => name.split("{")[0] === metric && value !== null);
  return found.length ? found.reduce((total, [, value]) => total + value, 0) : null;
}

function figures(sample) {
  const v = sample.v, gateway = sample.state.gateway, cpu = sample.state.cpu ?? {};
  const vram = sum(v, "gpu_memory_used_bytes"), allVram = sum(v, "gpu_memory_total_bytes");
  return [
    ["Tokens/s", number(v.gateway_tokens_per_s), gateway ? `${number(gateway.tokens_total, 0)} since the gateway's start` : "gateway does not answer"],
    ["Time to first token", milliseconds(v.gateway_ttft_p50_ms), v.gateway_ttft_p95_ms == null ? "no stream in the last minute" : `p95 ${milliseconds(v.gateway_ttft_p95_ms)}, last minute`],
    ["Answering / waiting", `${number(v.gateway_running, 0)} / ${number(v.gateway_queued, 0)}`, gateway ? `${number(gateway.requests_total, 0)} requests, ${number(gateway.errors_total, 0)} errors` : "gateway does not answer"],
    vram === null ? ["Model memory", bytes(v.engine_memory_bytes), `${number(v.engine_models_loaded, 0)} loaded`] : ["VRAM", bytes(vram), `of ${bytes(allVram)}`],
    ["CPU", percent(v.cpu_percent), `load ${number(v.load1, 2)}${cpu.n_threads ? ` on ${cpu.n_threads} threads` : ""}`],
    ["Memory", percent(v.memory_used_percent), `${bytes(v.memory_used_bytes)} of ${bytes(v.memory_total_bytes)}`],
  ];
}

export function drawFigures(root, sample) {
  const found = figures(sample);
  if (root.children.length !== found.length) {
    root.replaceChildren(...found.map(() => {
      const box = element("div", "", "kpi");
      box.append(element("span"), element("strong"), element("small"));
      return box;
    }));
  }
  found.forEach((texts, i) => texts.forEach((text, k) => set(root.children[i].children[k], text)));
}

const set = (node, text) => { if (node.textContent !== text) { node.textContent = text; node.title = text; } };

export function drawModels(root, note, sample) {
  const { models, models_on_disk: onDisk, engine } = sample.state;
  set(note, engine?.up ? `${models.length} loaded · ${onDisk ?? "–"} on disk` : "");
  if (!engine) return root.replaceChildren(element("p", "No engine: neither the gateway nor Ollama answers.", "why"));
  if (!engine.up) return root.replaceChildren(element("p", `The engine at ${engine.url} does not answer: ${engine.error}`, "why"));
  if (!models.length) return root.replaceChildren(element("p", "No model is loaded. The first request loads one.", "why"));
  root.replaceChildren(...models.map((model) => {
    const box = element("div", "", "model"), name = element("span", `${model.name} `);
    if (model.quantization) name.append(element("span", model.quantization, "tag"));
    const share = model.gpu_share === null ? "" : model.gpu_share === 0 ? "CPU" : `${Math.round(model.gpu_share * 100)} % GPU`;
    const context = model.context_length ? `ctx ${model.context_length.toLocaleString()}` : "";
    const facts = [share, context, model.expires_at ? until(model.expires_at, Date.now()) : ""].filter(Boolean);
    box.append(name, element("b", bytes(model.size_bytes)), element("small", facts.join(" · ")), element("small", model.parameters ?? ""));
    return box;
  }));
}

function row(label, share, text) {
  const made = element("div", "", "row"), bar = element("div", "", "bar"), fill = element("i");
  fill.style.width = `${Math.min(Math.max(share ?? 0, 0), 100)}%`;
  bar.append(fill);
  made.append(element("span", label), bar, element("b", text));
  return made;
}

export function drawGpus(root, note, sample) {
  const { gpus, gpu_reason: reason } = sample.state;
  set(note, gpus?.length ? gpus.map((gpu) => gpu.driver).filter(Boolean)[0] ?? "" : "none found");
  if (!gpus?.length) return root.replaceChildren(element("p", `No GPU found: ${reason || "no reader looked"}. Models run on the CPU.`, "why"));
  root.replaceChildren(...gpus.flatMap((gpu) => {
    const of = (metric) => sample.v[`gpu_${metric}{gpu=${gpu.index}}`] ?? null;
    const used = of("memory_used_bytes"), all = of("memory_total_bytes"), power = of("power_w"), limit = of("power_limit_w");
    const slow = gpu.throttle?.length ? [element("p", `Clocks held back: ${gpu.throttle.join(", ")}`, "why")] : [];
    return [element("b", gpu.name ?? `GPU ${gpu.index}`), row("Utilisation", of("util_percent"), percent(of("util_percent"))),
      row("VRAM", used !== null && all ? (100 * used) / all : null, `${bytes(used)} / ${bytes(all)}`),
      row("Power", power !== null && limit ? (100 * power) / limit : null, `${number(power)} / ${number(limit)} W`),
      row("Temperature", of("temperature_celsius"), `${number(of("temperature_celsius"))} °C`), ...slow];
  }));
}

export function drawHost(root, note, sample) {
  const v = sample.v, cpu = sample.state.cpu ?? {};
  set(note, sample.host);
  const cores = Object.entries(v).filter(([name]) => name.startsWith("cpu_core_percent")).slice(0, 16);
  const fills = Object.entries(v).filter(([name]) => name.startsWith("disk_used_percent"));
  root.replaceChildren(
    element("p", `${cpu.model ?? "CPU model unknown"}${v.cpu_frequency_mhz == null ? "" : ` · ${number(v.cpu_frequency_mhz / 1000, 2)} GHz`}`, "why"),
    ...cores.map(([name, value]) => row(`core ${name.slice(22, -1)}`, value, percent(value))),
    ...fills.map(([name, value]) => row(name.slice(24, -1), value, `${percent(value)} full`)),
    row("swap", v.swap_total_bytes ? (100 * v.swap_used_bytes) / v.swap_total_bytes : null, v.swap_total_bytes ? bytes(v.swap_used_bytes) : "none"),
  );
}

export function drawProcesses(root, sample) {
  const table = element("table"), head = element("tr");
  head.append(element("th", "name"), element("th", "pid", "n"), element("th", "CPU", "n"), element("th", "memory", "n"));
  table.append(head, ...(sample.state.top ?? []).map((each) => {
    const line = element("tr");
    line.append(element("td", each.name), element("td", String(each.pid), "n"), element("td", percent(each.cpu_percent), "n"), element("td", bytes(each.memory_bytes), "n"));
    return line;
  }));
  root.replaceChildren(table);
}
