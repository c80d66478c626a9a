// A card a GPU; without one, why.
import { element, keyed, meter, sayWhy, setMeter, setText } from "./dom.js";
import { bytes, bytesOf, celsius, number, percent } from "./format.js";

function makeCard() {
  const card = element("article", "card gpu"), title = element("h2");
  title.append(element("span"), element("em"));
  card.append(title, element("div"), element("p", "why held"), element("p", "why"));
  return card;
}

const share = (part, whole) => (part !== null && whole ? (100 * part) / whole : null);

// What fills the VRAM can be told only where all of it lies on one card.
function vramParts(used, all, models) {
  if (used === null || !all) return { parts: [], text: "" };
  const known = models.filter((model) => model.vram_bytes > 0).slice(0, 5);
  const rest = used - known.reduce((sum, model) => sum + model.vram_bytes, 0);
  if (!known.length || rest < 0) return { parts: [[share(used, all), "vram"]], text: "" };
  return {
    parts: [...known.map((model) => [share(model.vram_bytes, all), "vram", model.name]), [share(rest, all), "other", "other"]],
    text: `VRAM: ${known.map((model) => `${model.name} ${bytes(model.vram_bytes)}`).join(", ")}, other ${bytes(rest)}, free ${bytes(all - used)}.`,
  };
}

function drawCard(card, gpu, ordinal, sample, models, alone) {
  const of = (metric) => sample.v[`gpu_${metric}{gpu=${gpu.index}}`] ?? null;
  const [title, rows, held, note] = card.children;
  const used = of("memory_used_bytes"), all = of("memory_total_bytes"), power = of("power_w"), limit = of("power_limit_w"), heat = of("temperature_celsius");
  const vram = vramParts(used, all, alone ? models : []);
  title.title = [gpu.name, gpu.driver && `driver ${gpu.driver}`].filter(Boolean).join(", ");
  setText(title.firstChild, `GPU ${ordinal} · ${gpu.name ?? "name unknown"}`);
  setText(title.lastChild, gpu.driver ? `driver ${gpu.driver}` : "");
  keyed(rows, [
    { label: alone ? "Utilisation" : "Util.", value: percent(of("util_percent")), parts: [[of("util_percent"), "util"]] },
    { label: "VRAM", value: bytesOf(used, all), parts: vram.parts },
    { label: "Power", value: limit === null ? `${number(power, 0)} W` : `${number(power, 0)} / ${number(limit, 0)} W`, parts: [[share(power, limit), "power"]] },
    { label: "Temp.", value: celsius(heat), parts: [[heat, "heat"]] },
  ], (row) => row.label, meter, setMeter);
  const missing = Object.entries(gpu.missing ?? {});
  const unread = missing.length ? `Not read: ${missing.map(([name]) => name.replaceAll("_", " ")).join(", ")} (${missing[0][1]}).` : "";
  setText(held, gpu.throttle?.length ? `Clocks held back: ${gpu.throttle.join(", ")}.` : "");
  setText(note, [vram.text, unread].filter(Boolean).join(" "));
  for (const each of [held, note]) each.hidden = !each.textContent;
}

export function drawGpus(root, columns, sample) {
  const { gpus = [], gpu_reason: reason, models = [] } = sample?.state ?? {};
  columns.classList.toggle("one-gpu", gpus.length === 1);
  columns.classList.toggle("many-gpus", gpus.length > 1);
  if (!gpus.length) {
    keyed(root, ["none"], (key) => key, makeCard, (card) => {
      setText(card.children[0].firstChild, "GPU");
      setText(card.children[0].lastChild, sample ? "none found" : "");
      sayWhy(card.children[1], sample ? `${reasonOf(reason)} Models run on the CPU.` : "waiting for the first sample");
      card.children[2].hidden = card.children[3].hidden = true;
    });
    return;
  }
  const ordinals = new Map(gpus.map((gpu, i) => [gpu, i]));
  keyed(root, gpus, (gpu) => gpu.index, makeCard, (card, gpu) => drawCard(card, gpu, ordinals.get(gpu), sample, models, gpus.length === 1));
}

const reasonOf = (reason) => `No GPU found: ${reason || "no reader looked for one"}.`;
