// Loaded models: size, where they lie, context, when they leave.
import { element, keyed, sayWhy, setText } from "./dom.js";
import { bytes, percent, until } from "./format.js";

function makeModel() {
  const box = element("div", "model"), name = element("span");
  name.append(element("span"), " ", element("span", "tag"));
  box.append(name, element("b"), element("small"), element("small"), element("small", "wide"));
  return box;
}

// What it takes: weights as in its file, the rest (KV cache, buffers), and what its process really holds.
function memory(model) {
  const rest = model.weights_bytes ? model.size_bytes - model.weights_bytes : null;
  return [
    rest > 0 ? `weights ${bytes(model.weights_bytes)}, KV cache and buffers ${bytes(rest)}` : "",
    model.process_memory_bytes ? `process ${bytes(model.process_memory_bytes)}` : "",
    model.process_vram_bytes ? `${bytes(model.process_vram_bytes)} VRAM` : "",
  ].filter(Boolean).join(" · ");
}

// Where the next model may go.
function room(sample, allVram) {
  const used = sum(sample, "gpu_memory_used_bytes"), free = sample.v.memory_available_bytes;
  return [allVram ? `${bytes(Math.max(allVram - used, 0))} VRAM` : "", free == null ? "" : `${bytes(free)} memory`].filter(Boolean).join(", ");
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
  const { models = [], models_on_disk: onDisk, engine, gateway } = sample?.state ?? {};
  if (!sample) return sayWhy(root, "waiting for the first sample");
  const allVram = sum(sample, "gpu_memory_total_bytes");
  setText(note, engine?.up ? [`${models.length} loaded`, `${onDisk ?? "–"} on disk`, `free ${room(sample, allVram)}`].join(" · ") : "");
  if (!gateway) return sayWhy(root, "Unknown: the gateway, which knows the engine, does not answer.");
  if (!engine?.up) return sayWhy(root, `Unknown: the engine${engine?.url ? ` at ${engine.url}` : ""} does not answer.`);
  if (!models.length) return sayWhy(root, onDisk ? "No model is loaded. The first request loads one." : "No model is loaded, and the engine offers none yet.");
  keyed(root, models, (model) => model.name, makeModel, (node, model) => {
    const [name, size, facts, parameters, held] = node.children, n = reloads(events, model.name);
    const [text, , tag] = name.childNodes;
    setText(text, model.name);
    setText(tag, model.quantization ?? "");
    tag.hidden = !model.quantization;
    setText(size, bytes(model.size_bytes));
    setText(facts, [
      place(model, allVram), model.context_length ? `ctx ${model.context_length.toLocaleString()}` : "",
      model.expires_at ? until(model.expires_at, sample.at) : "", n > 1 ? `loaded ${n}× in 15 min` : "",
    ].filter(Boolean).join(" · "));
    setText(parameters, model.parameters ?? "");
    setText(held, memory(model));
  });
}
