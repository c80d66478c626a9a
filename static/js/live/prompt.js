// Try a prompt: streams the gateway's answer and shows what it took.
import { milliseconds, number } from "./format.js";

export function startPrompt() {
  const form = document.getElementById("prompt-form"), models = document.getElementById("prompt-model");
  const answer = document.getElementById("prompt-answer"), figures = document.getElementById("prompt-figures");
  const stop = document.getElementById("prompt-stop"), send = form.querySelector("[type=submit]");
  let aborting = null;
  stop.addEventListener("click", () => aborting?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    aborting = new AbortController();
    send.disabled = true;
    stop.hidden = answer.hidden = false;
    answer.textContent = "";
    figures.textContent = "waiting for the first token";
    try {
      await stream(form, aborting.signal, answer, figures);
    } catch (error) {
      figures.textContent = error.name === "AbortError" ? "stopped" : `Failed: ${error.message}`;
    } finally {
      send.disabled = false;
      stop.hidden = true;
    }
  });
  loadModels(form.dataset.models, models, figures);
}

async function loadModels(url, models, figures) {
  try {
    const found = await (await fetch(url)).json();
    models.replaceChildren(...found.models.map((name) => new Option(name, name)));
    if (found.error || !found.models.length) figures.textContent = found.error ?? "The engine offers no model yet.";
    if (!found.models.length) setTimeout(() => loadModels(url, models, figures), 3000);
  } catch {
    setTimeout(() => loadModels(url, models, figures), 3000);
  }
}

async function stream(form, signal, answer, figures) {
  const started = performance.now();
  const response = await fetch(form.action, { method: "POST", body: new FormData(form), signal });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({ error: `HTTP ${response.status}` }));
    throw new Error(problem.error);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", first = null, via = {};
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop(); // an error of the engine is one line without an end
    for (const line of lines.filter(Boolean)) {
      const part = JSON.parse(line);
      if (part.error) throw new Error(part.error.message ?? part.error);
      if (part.via) { via = part.via; continue; }
      if (first === null && (part.response || part.thinking)) first = performance.now();
      answer.textContent += part.thinking ?? "";
      answer.textContent += part.response ?? "";
      answer.scrollTop = answer.scrollHeight;
      if (part.done) figures.textContent = summary(part, first === null ? null : first - started, via);
    }
    if (done) break;
  }
  if (!figures.textContent.startsWith("TTFT")) throw new Error("the answer ended before it was done");
}

function summary(last, ttft, via) {
  const speed = last.eval_duration ? (last.eval_count / last.eval_duration) * 1e9 : null;
  const cache = via["x-aicleaner-cache"] === "bypass" ? "no cache" : `cache ${via["x-aicleaner-cache"] ?? "unknown"}`;
  return `TTFT ${milliseconds(ttft)} · ${number(last.eval_count, 0)} tokens · ${number(speed)} tok/s · ${cache} · ${via["x-aicleaner-engine"] ?? "engine unknown"}`;
}
