// The live page: fetch what was, then follow what is.
import { Charts } from "./charts.js";
import { drawFigures } from "./figures.js";
import { drawGpus } from "./gpus.js";
import { Health } from "./health.js";
import { drawHost, drawProcesses } from "./host.js";
import { Lane } from "./lane.js";
import { drawModels, drawRoom } from "./models.js";
import { startPrompt } from "./prompt.js";
import { listen } from "./socket.js";
import { Window } from "./window.js";

const $ = (id) => document.getElementById(id);
const window_ = new Window(JSON.parse($("metrics").textContent)), health = new Health();
const lane = new Lane($("lane"), (at) => charts.point(at));
const charts = new Charts($("charts"), window_, { events: () => lane.events, onPoint: (at) => lane.show(at) });
const reloadModels = startPrompt();
let newest = null, engineSeen = "", again = 0;

function draw() {
  health.draw(); // its title is read in a tab behind others too
  if (document.hidden) return; // nobody looks: the numbers are kept, the drawing waits
  drawFigures($("kpis"), newest, window_);
  drawModels($("models"), $("models-note"), newest, lane.events);
  drawRoom($("room"), newest);
  drawGpus($("gpus"), $("cols"), newest);
  drawHost($("host"), $("host-note"), newest);
  drawProcesses($("processes"), newest);
  lane.draw(window_.times.at(-1) ?? Date.now() / 1000);
  charts.draw();
}

async function fill() {
  clearTimeout(again);
  try {
    const answer = await fetch("/live/first/");
    if (answer.redirected) return location.assign(`/login/?next=${encodeURIComponent(location.pathname)}`);
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const first = await answer.json();
    window_.fill(first);
    lane.events = first.events;
    if (first.sample) {
      newest = first.sample;
      health.hear(first.sample, Math.max(first.now - first.sample.at, 0));
      window_.push(first.sample);
    }
    health.trouble = "";
    noteEngine();
  } catch (error) {
    if (health.connection !== "lost") health.trouble = `The last 15 minutes could not be read (${error.message}); it is tried again.`;
    again = setTimeout(fill, 5000);
  }
  draw();
}

// The choice of models changes when the engine does.
function noteEngine() {
  const { engine, models_on_disk: onDisk } = newest?.state ?? {}, seen = `${engine?.url} ${engine?.up} ${onDisk}`;
  if (seen !== engineSeen) reloadModels(Boolean(engine?.up));
  engineSeen = seen;
}

function onState(state) {
  const before = health.connection;
  if (state === before) return;
  health.connection = state;
  health.draw();
  if (state === "open" && before === "lost") fill(); // what was missed is in the store
}

function onSample(sample) {
  newest = sample;
  health.hear(sample);
  window_.push(sample);
  lane.add(sample.events);
  noteEngine();
  draw();
}

function showSpan() {
  charts.span = lane.span = Number($("span").value);
  draw();
}

$("span").value = localStorage.getItem("span") ?? "900";
if (!$("span").value) $("span").value = "900";
$("span").addEventListener("change", () => { localStorage.setItem("span", $("span").value); showSpan(); });
new MutationObserver(() => charts.rebuild()).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
document.addEventListener("visibilitychange", draw);
document.addEventListener("news-event", ({ detail }) => lane.add([detail.data.event]));
document.addEventListener("news-back", fill);
document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".plot, .lane")) lane.choose(null); });
showSpan();
fill().finally(() => listen({ onSample, onState }));
