// The live page: fetch what was, then follow what is.
import { drawFigures, drawGpus, drawHost, drawModels, drawProcesses } from "./cards.js";
import { Charts } from "./charts.js";
import { Lane } from "./lane.js";
import { startPrompt } from "./prompt.js";
import { listen } from "./socket.js";
import { Window } from "./window.js";

const $ = (id) => document.getElementById(id);
const window_ = new Window(), lane = new Lane($("lane"));
const charts = new Charts($("charts"), window_);
let newest = null;

function draw() {
  if (document.hidden) return; // nobody looks: the numbers are kept, the drawing waits
  charts.draw();
  if (!newest) return;
  drawFigures($("kpis"), newest);
  drawModels($("models"), $("models-note"), newest);
  drawGpus($("gpus"), $("gpu-note"), newest);
  drawHost($("host"), $("host-note"), newest);
  drawProcesses($("processes"), newest);
  lane.draw(newest.at);
  drawEngine(newest.state.engine);
}

function pill(box, dot, text) {
  box.firstElementChild.className = `dot ${dot}`;
  if (box.lastElementChild.textContent !== text) box.lastElementChild.textContent = text;
}

function drawEngine(engine) {
  const name = engine?.kind === "ollama" ? "Ollama" : "Embedded engine";
  if (!engine) pill($("engine"), "bad", "no engine");
  else pill($("engine"), engine.up ? "" : "bad", `${name} ${engine.up ? engine.version ?? "" : "does not answer"}`.trim());
}

function showState(state) {
  const texts = {
    open: ["", "live", ""],
    silent: ["warn", "no samples", "Connected, but no sample for 4 seconds: is the collector running?"],
    lost: ["bad", "connection lost", "The connection to the console is lost. It is tried again; the charts stand still meanwhile."],
  };
  const [dot, text, trouble] = texts[state];
  pill($("connection"), dot, text);
  $("trouble").textContent = trouble;
  $("trouble").hidden = !trouble;
}

async function fill() {
  const answer = await fetch("/live/first/");
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  const first = await answer.json();
  window_.fill(first);
  lane.events = first.events;
  newest = first.sample ?? newest;
  if (first.sample) window_.push(first.sample);
  draw();
}

let wasLost = false;
function onState(state) {
  showState(state);
  if (state === "open" && wasLost) fill().catch(() => {}); // what was missed is in the store
  wasLost = state === "lost";
}

function onSample(sample) {
  showState("open");
  newest = sample;
  for (const name of Object.keys(sample.v)) if (/^(gpu|temperature)_/.test(name)) window_.get(name);
  window_.push(sample);
  lane.add(sample.events);
  draw();
}

$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  charts.recolour();
});
document.addEventListener("visibilitychange", draw);
document.addEventListener("news-event", ({ detail }) => lane.add([detail.data.event]));
startPrompt();
fill().catch(() => {}).finally(() => listen({ onSample, onState }));
