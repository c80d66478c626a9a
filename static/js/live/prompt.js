// Try a prompt: streams the gateway's answer and shows what it took. The text stays, whatever comes of it.
import { setText } from "./dom.js";
import { milliseconds, number, whole } from "./format.js";

const $ = (id) => document.getElementById(id);

// Returns what asks for the models anew; `up`: whether the engine answers (what it offered stays to choose while it doesn't).
export function startPrompt() {
  const form = $("prompt-form"), text = $("prompt-text"), answer = $("prompt-answer"), figures = $("prompt-figures"), stop = $("prompt-stop");
  let aborting = null;
  const say = (words, bad = false) => { setText(figures, words); figures.classList.toggle("bad", bad); };

  async function send(event) {
    event.preventDefault();
    if (aborting || !form.reportValidity()) return;
    aborting = new AbortController();
    $("prompt-send").disabled = true;
    stop.hidden = false;
    answer.textContent = "";
    answer.ariaBusy = "true";
    say("waiting for the first token");
    const so_far = { n: 0 };
    try {
      say(await stream(form, aborting.signal, answer, say, so_far));
    } catch (error) {
      if (error.name === "AbortError") say(`stopped after ${so_far.n} tokens`);
      else say(`Failed: ${error.message}`, true);
    } finally {
      if (document.activeElement === stop) $("prompt-send").focus();
      stop.hidden = true;
      answer.ariaBusy = "false";
      aborting = null;
      $("prompt-send").disabled = !$("prompt-model").value;
    }
  }

  text.value = sessionStorage.getItem("prompt") ?? text.value;
  text.addEventListener("input", () => sessionStorage.setItem("prompt", text.value));
  text.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(event); });
  stop.addEventListener("click", () => aborting?.abort());
  form.addEventListener("submit", send);
  return (up) => {
    if (up || !$("prompt-model").value) loadModels(up ? form.dataset.models : null, say, () => aborting !== null);
  };
}

async function loadModels(url, say, isBusy) {
  const models = $("prompt-model"), chosen = models.value;
  let found = { models: [], error: "The engine does not answer." };
  try {
    if (url) found = await (await fetch(url)).json();
  } catch {
    found.error = "The console does not answer.";
  }
  const names = found.models.length ? found.models : [""];
  models.replaceChildren(...names.map((name) => new Option(name || "no model to choose", name, false, name === chosen)));
  models.disabled = !found.models.length;
  if (isBusy()) return;
  $("prompt-send").disabled = !found.models.length;
  if (!found.models.length) say(found.error ?? "The engine offers no model yet: pull or create one through the gateway.", Boolean(found.error));
  else if (models.dataset.empty === "true") say("");
  models.dataset.empty = String(!found.models.length);
}

async function stream(form, signal, answer, say, so_far) {
  const started = performance.now();
  const response = await fetch(form.action, { method: "POST", body: new FormData(form), signal });
  if (response.redirected) throw new Error("you are logged out; load the page anew");
  if (!response.ok) {
    const problem = await response.json().catch(() => ({ error: `HTTP ${response.status}` }));
    throw new Error(problem.error);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", first = null, via = {}, last = null;
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop(); // an error of the engine is one line without an end
    for (const line of lines.filter(Boolean)) {
      const part = JSON.parse(line);
      if (part.error) throw new Error(part.error.message ?? part.error);
      if (part.via) { via = part.via; continue; }
      if (part.response || part.thinking) { first ??= performance.now(); so_far.n += 1; }
      answer.append((part.thinking ?? "") + (part.response ?? ""));
      if (part.done) last = part;
    }
    answer.scrollTop = answer.scrollHeight;
    if (done) break;
    if (first !== null) say(`TTFT ${milliseconds(first - started)} · ${so_far.n} tokens · ${number((1000 * (so_far.n - 1)) / Math.max(performance.now() - first, 1))} tok/s`);
  }
  if (!last) throw new Error("the answer ended before it was done");
  return summary(last, first === null ? null : first - started, via);
}

function summary(last, ttft, via) {
  const speed = last.eval_duration ? (last.eval_count / last.eval_duration) * 1e9 : null;
  const cache = { bypass: "no cache", hit: "from the cache", miss: "cache miss" }[via["x-aicleaner-cache"]];
  return ["TTFT " + milliseconds(ttft), `${whole(last.eval_count)} tokens`, `${number(speed)} tok/s`, cache, via["x-aicleaner-engine"]].filter(Boolean).join(" · ");
}
