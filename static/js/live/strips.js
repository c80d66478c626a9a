// What each strip shows. A line is a label and where its values come from; GPUs have a line each.
import { byteRate, bytes, celsius, milliseconds, number, percent, watts } from "./format.js";

const BINARY = Array.from({ length: 45 }, (_, i) => 2 ** i);
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
const THROTTLED = 0x4 | 0x8 | 0x20 | 0x40 | 0x80; // power cap, hardware slowdown, thermal, power brake (NVML)
const share = { unit: "%", format: percent, top: 100 };

const line = (label, metric, how) => ({ label, values: (w) => w.combined(metric, how) });
const each = (w, metric) => w.names(metric).map((name, i) => ({ label: `GPU ${i}`, values: () => w.get(name) }));

function inModelMemory(w) {
  const all = w.combined("engine_memory_bytes"), onGpu = w.combined("engine_vram_bytes");
  return all.map((value, i) => (value === null ? null : value - (onGpu[i] ?? 0)));
}

function gpuStrips(w) {
  const n = w.names("gpu_util_percent").length;
  if (!n) return [];
  const held = w.names("gpu_throttle_bits");
  return [
    { id: "gpu", title: n > 1 ? "GPU utilisation" : "GPU", ...share,
      lines: n > 1 ? each(w, "gpu_util_percent") : [line("utilisation", "gpu_util_percent"), line("memory busy", "gpu_memory_busy_percent")] },
    { id: "vram", title: "VRAM", unit: "used", format: bytes, incrs: BINARY, least: 2 ** 30,
      lines: n > 1 ? each(w, "gpu_memory_used_bytes") : [line("used", "gpu_memory_used_bytes"), line("models", "engine_vram_bytes")] },
    { id: "power", title: "GPU power", unit: "W · bar: clocks held back", format: watts, least: 50,
      lines: n > 1 ? each(w, "gpu_power_w") : [line("power", "gpu_power_w")],
      bar: () => w.times.map((_, i) => held.some((name) => (w.get(name)[i] ?? 0) & THROTTLED)) },
  ];
}

function heatStrip(w) {
  const gpus = each(w, "gpu_temperature_celsius"), sensors = w.names("temperature_celsius").length;
  if (!gpus.length && !sensors) return [];
  const lines = sensors ? [...gpus, line("hottest sensor", "temperature_celsius", "max")] : gpus;
  return [{ id: "heat", title: "Temperature", unit: "°C", format: celsius, least: 50, lines }];
}

export const strips = (w) => [
  { id: "inference", title: "Inference", unit: "tokens/s", format: number, least: 10,
    lines: [line("generated", "gateway_tokens_per_s"), line("prompt", "gateway_prompt_tokens_per_s")] },
  { id: "ttft", title: "Time to first token", unit: "of the last minute", format: milliseconds, least: 10,
    lines: [line("p50", "gateway_ttft_p50_ms"), line("p95", "gateway_ttft_p95_ms")] },
  { id: "requests", title: "Requests", unit: "count", format: number, incrs: WHOLE, least: 2,
    lines: [line("done/s", "gateway_requests_per_s"), line("answering", "gateway_running"), line("waiting", "gateway_queued"), { ...line("errors/s", "gateway_errors_per_s"), colour: "--crit" }] },
  ...gpuStrips(w),
  { id: "cpu", title: "CPU", ...share, lines: [line("busy", "cpu_percent"), line("iowait", "cpu_iowait_percent"), line("steal", "cpu_steal_percent")] },
  { id: "memory", title: "Memory", unit: "of the host", format: bytes, incrs: BINARY, top: (w) => latestTotal(w),
    lines: [line("used", "memory_used_bytes"), { label: "models", values: inModelMemory }, line("swap", "swap_used_bytes")] },
  { id: "pressure", title: "Pressure", unit: "% of time stalled", format: percent, least: 5,
    lines: [line("cpu", "pressure_cpu_some_percent"), line("memory", "pressure_memory_full_percent"), line("io", "pressure_io_full_percent")] },
  { id: "disk", title: "Disk traffic", unit: "all disks", format: byteRate, least: 1e5, lines: [line("read", "disk_read_bytes_per_s"), line("write", "disk_write_bytes_per_s")] },
  { id: "disk-busy", title: "Disk busy", unit: "% of time, busiest", format: percent, top: 100, lines: [line("busy", "disk_util_percent", "max")] },
  { id: "network", title: "Network", unit: "of the machine", format: byteRate, least: 1e4, lines: [line("in", "network_total_receive_bytes_per_s"), line("out", "network_total_transmit_bytes_per_s")] },
  ...heatStrip(w),
];

const latestTotal = (w) => w.combined("memory_total_bytes").findLast((value) => value) ?? 2 ** 30;
