// The machine: cores, memory, disks, load; and its busiest processes.
import { element, fill, keyed, meter, setMeter, setText } from "./dom.js";
import { byteRate, bytes, bytesOf, celsius, number, percent } from "./format.js";

function labelled(values, metric) {
  return Object.entries(values).filter(([name]) => name.startsWith(`${metric}{`)).map(([name, value]) => [name.slice(name.indexOf("=") + 1, -1), value]);
}

function all(values, metric, how) {
  const known = labelled(values, metric).map(([, value]) => value).filter((value) => value !== null);
  return known.length ? how(known) : null;
}
const sum = (numbers) => numbers.reduce((total, each) => total + each, 0), most = (numbers) => Math.max(...numbers);

export function drawHost(root, note, sample) {
  const v = sample?.v ?? {}, cpu = sample?.state.cpu ?? {}, [model, row, meters, facts] = root.children, cores = row.children[1];
  setText(note, sample?.host ?? "");
  const speed = v.cpu_frequency_mhz == null ? "" : ` · ${number(v.cpu_frequency_mhz / 1000, 2)} GHz`;
  setText(model, sample ? `${cpu.model || "CPU model unknown"} · ${cpu.n_cores ?? "–"} cores, ${cpu.n_threads ?? "–"} threads${speed}` : "waiting for the first sample");
  const busy = labelled(v, "cpu_core_percent");
  keyed(cores, busy, ([name]) => name, () => element("i"), (node, [name, value]) => {
    node.style.setProperty("--busy", `${(value ?? 0).toFixed(0)}%`);
    node.title = `core ${name}: ${percent(value)}`;
  });
  setText(row.children[2], percent(v.cpu_percent));
  cores.ariaLabel = `Busy per core: ${busy.map(([name, value]) => `${name} ${percent(value)}`).join(", ")}`;
  const swap = v.swap_total_bytes ? (100 * v.swap_used_bytes) / v.swap_total_bytes : null;
  const free = new Map(labelled(v, "disk_free_bytes"));
  keyed(meters, sample ? [
    { label: "Memory", value: bytesOf(v.memory_used_bytes, v.memory_total_bytes), parts: fill(v.memory_used_percent) },
    { label: "Swap", value: v.swap_total_bytes == null ? "–" : v.swap_total_bytes ? bytesOf(v.swap_used_bytes, v.swap_total_bytes) : "none", parts: fill(swap) },
    ...labelled(v, "disk_used_percent").map(([mount, value]) => ({ label: `Disk ${mount}`, value: `${bytes(free.get(mount))} free`, parts: fill(value), title: `${mount}: ${percent(value)} full` })),
  ] : [], (row) => row.label, meter, setMeter);
  const rates = (first, second) => [first, second].map((metric) => byteRate(all(v, metric, sum)).padStart(9)).join("  ");
  keyed(facts, sample ? [
    ["Load 1, 5, 15 min", [v.load1, v.load5, v.load15].map((load) => number(load, 2).padStart(4)).join("  ")],
    ["iowait, steal", [v.cpu_iowait_percent, v.cpu_steal_percent].map((each) => percent(each).padStart(6)).join("  ")],
    ["Disks read, write", rates("disk_read_bytes_per_s", "disk_write_bytes_per_s")],
    ["Network in, out", [v.network_total_receive_bytes_per_s, v.network_total_transmit_bytes_per_s].map((rate) => byteRate(rate ?? null).padStart(9)).join("  ")],
    ["Hottest sensor", all(v, "temperature_celsius", () => 1) === null ? "none read" : celsius(all(v, "temperature_celsius", most))],
  ] : [], ([label]) => label, () => { const box = element("div"); box.append(element("span"), element("b")); return box; }, (node, [label, value]) => {
    setText(node.children[0], label);
    setText(node.children[1], value);
  });
}

export function drawProcesses(body, sample) {
  const top = sample?.state.top ?? [];
  keyed(body, top, (_, i) => i, () => {
    const line = element("tr");
    line.append(element("td"), element("td", "n"), element("td", "n"), element("td", "n"));
    return line;
  }, (line, each) => {
    [each.name, String(each.pid), percent(each.cpu_percent), bytes(each.memory_bytes)].forEach((text, i) => setText(line.children[i], text));
  });
}
