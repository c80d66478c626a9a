// Loaded models: size, where they lie, context, when they leave.
import { element, keyed, sayWhy, setText } from "./dom.js";
import { bytes, percent, until } from "./format.js";

function makeModel() {
  const box = element("div", "model"), name = element("span");
  name.append(element("span"), " ", element("span", "tag"));
  box.append(name, element("b"), element("small"), element("small"), element("small", "wide"));
  return box;
}

// What it takes: weights as in its file, KV cache where its type is known, the rest; and what its process really holds.
function memory(model) {
  const { weights_bytes: weights, kv_cache_bytes: cache, buffers_bytes: buffers } = model, rest = weights ? model.size_bytes - weights : null;
  const parts = cache ? [
    weights ? `weights ${bytes(weights)}` : "", `KV cache ${bytes(cache)}`, buffers === null ? "" : `buffers ${bytes(buffers)}`,
  ].filter(Boolean).join(", ") : rest > 0 ? `weights ${bytes(weights)}, KV cache and buffers ${bytes(rest)}` : "";
  return [
    parts,
    model.process_memory_bytes ? `process ${bytes(model.process_memory_bytes)}` : "",
    model.process_vram_bytes ? `${bytes(model.process_vram_bytes)} VRAM` : "",
  ].filter(Boolean).join(" · ");
}

// Whether each model that is on the disk would fit beside what is loaded.
const PLACES = {
  gpu: () => "fits on the GPU",
  split: ({ gpu_share: share }) => `fits in part: ${percent(100 * share)} on the GPU`,
  memory: () => "fits in memory",
  none: ({ short_bytes: short }) => `does not fit: ${bytes(short)} short`,
  unknown: () => "unknown",
};
const BASES = {
  measured: ({ context }) => `measured when it was loaded${context ? ` with ${context.toLocaleString()} tokens` : ""}`,
  computed: ({ context }) => `weights and KV cache of ${context.toLocaleString()} tokens; buffers come to that`,
  weights: () => "its file alone; KV cache and buffers come to that",
};

function makeRoom() {
  const line = element("div", "room");
  line.append(element("span"), element("small"), element("b"));
  return line;
}

export function drawRoom(box, sample) {
  const room = sample?.state?.room, [summary, list, note] = box.children;
  box.hidden = !room?.models.length;
  if (box.hidden) return;
  const { free_vram_bytes: vram, free_memory_bytes: free, models, n_more: more } = room;
  setText(summary, `Room for the next model: ${[vram == null ? "" : `${bytes(vram)} VRAM`, `${bytes(free)} memory`].filter(Boolean).join(", ")} free`);
  keyed(list, models, (model) => model.name, makeRoom, (node, model) => {
    const [name, need, verdict] = node.children;
    setText(name, model.name);
    setText(need, model.n_bytes ? `${model.basis === "measured" ? "" : "at least "}${bytes(model.n_bytes)}` : "");
    need.title = model.basis ? BASES[model.basis](model) : "";
    setText(verdict, PLACES[model.place](model));
    verdict.className = model.place === "none" ? "short" : "";
  });
  setText(note, `Nothing is unloaded for it in this reckoning.${more ? ` ${more} more models are not shown.` : ""}`);
}

const sum = (sample, metric) => Object.entries(sample.v).filter(([name]) => name.startsWith(metric)).reduce((all, [, value]) => all + (value ?? 0), 0);

function place(model, allVram) {
  if (model.gpu_share === null) return "place unknown";
  if (model.gpu_share === 0) return "CPU";
  const ofCard = allVram ? ` (${bytes(model.vram_bytes)}, ${percent((100 * model.vram_bytes) / allVram)} of VRAM)` : "";
  return `${percent(model.gpu_share * 100)} GPU${ofCard}`;
}

// A model that was loaded more than once within the window is told: somebody pays for each load.
function reloads(events, name) {
  return events.filter((event) => event.kind === "model" && (event.text === `${name} loaded` || event.text.startsWith(`${name} reloaded`))).length;
}

export function drawModels(root, note, sample, events) {
  const { models: here = [], elsewhere = [], models_on_disk: onDisk, engine, gateway } = sample?.state ?? {}, models = [...here, ...elsewhere];
  if (!sample) return sayWhy(root, "waiting for the first sample");
  const allVram = sum(sample, "gpu_memory_total_bytes");
  setText(note, engine?.up ? [`${here.length} loaded`, elsewhere.length ? `${elsewhere.length} on other engines` : "", `${onDisk ?? "–"} on disk`].filter(Boolean).join(" · ") : "");
  if (!gateway) return sayWhy(root, "Unknown: the gateway, which knows the engine, does not answer.");
  if (!engine?.up) return sayWhy(root, `Unknown: the engine${engine?.url ? ` at ${engine.url}` : ""} does not answer.`);
  if (!models.length) return sayWhy(root, onDisk ? "No model is loaded. The first request loads one." : "No model is loaded, and the engine offers none yet.");
  keyed(root, models, (model) => `${model.engine ?? ""} ${model.name}`, makeModel, (node, model) => {
    const [name, size, facts, parameters, held] = node.children, n = model.engine ? 0 : reloads(events, model.name);
    const [text, , tag] = name.childNodes, mark = model.engine ? `on ${model.engine}` : model.quantization ?? "";
    setText(text, model.name);
    setText(tag, mark);
    tag.hidden = !mark;
    setText(size, bytes(model.size_bytes));
    setText(facts, [
      place(model, allVram), model.context_length ? `ctx ${model.context_length.toLocaleString()}` : "",
      model.expires_at ? until(model.expires_at, sample.at) : "", n > 1 ? `loaded ${n}× in 15 min` : "",
    ].filter(Boolean).join(" · "));
    setText(parameters, model.parameters ?? "");
    setText(held, memory(model));
  });
}
