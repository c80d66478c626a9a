// The history page: a view (state.js) is fetched, drawn, moved and kept in the address.
import { setText } from "../live/dom.js";
import { Charts } from "./charts.js";
import { Lane } from "./lane.js";
import { Picker } from "./picker.js";
import { download } from "./picture.js";
import { moved } from "./pointer.js";
import { Speeds } from "./speeds.js";
import { bounded, query, zoomed } from "./state.js";
import { drawEvents, drawSummary } from "./table.js";

const SETTLE_MS = 250, FOLLOW_MS = 10000;
const $ = (id) => document.getElementById(id), read = (id) => JSON.parse($(id).textContent);
// Plotly's script comes after this one: the samples are asked for while it is read.
const plotly = new Promise((done) => { if (window.Plotly) done(); else document.addEventListener("DOMContentLoaded", done); });
const spans = Object.fromEntries([...document.querySelectorAll("[data-range]")].map((link) => [link.dataset.range, Number(link.dataset.seconds)]));
const fields = { from: $("id_from"), to: $("id_to") };

let state = read("state"), answer = null, asking = null, waiting = 0, clockSkew = 0;
const now = () => Math.floor(Date.now() / 1000 + clockSkew); // by the server's clock
const windowOf = ({ range, from, to }) => (range ? [now() - spans[range], now()] : [from, to]);

const view = {
  window: [0, 1], now, moving: false,
  point(at) { charts.point(at); lane.point(at); },
  select: (from, to) => change(times(bounded(from, to, now()))),
  move(window_) { asking?.abort(); view.window = window_; charts.move(); lane.draw(); showTimes(); },
  settle() { clearTimeout(waiting); waiting = setTimeout(() => change(times(view.window.map(Math.round))), SETTLE_MS); },
};
const times = ([from, to]) => ({ range: "", from, to });
let charts = null, lane = null, picker = null;
const speeds = new Speeds($("speeds"));

function change(what, { remember = true } = {}) {
  clearTimeout(waiting);
  state = { ...state, ...what };
  view.window = windowOf(state);
  if (remember) history.pushState(state, "", `?${query(state)}`);
  if (answer) { charts.move(); lane.draw(); }
  showState();
  load();
}

async function load() {
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  $("shown").setAttribute("aria-busy", "true");
  try {
    const response = await fetch(`data/?${query(state)}`, { signal: mine.signal });
    if (response.redirected) return location.reload(); // to the login
    const found = response.status === 400 ? await response.json() : null;
    if (!response.ok && !found) throw new Error(`the server answered ${response.status}`);
    const next = found ? null : await response.json();
    await plotly;
    if (mine.signal.aborted) return undefined;
    if (found) refuse(found.errors);
    else show(next);
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    trouble(`The samples could not be fetched: ${error.message}.`, true);
  }
  $("shown").setAttribute("aria-busy", "false");
  return undefined;
}

function show(found) {
  refuse({});
  answer = found;
  clockSkew = found.now - Date.now() / 1000;
  view.window = [found.from, found.to];
  $("nothing").hidden = found.charts.length > 0;
  $("lane").hidden = false;
  lane.show(found.events);
  charts.show(found);
  drawSummary($("summary"), found);
  drawEvents($("events"), found.events, found.to - found.from);
  speeds.show(query(state));
  const lost = found.missing.length ? ` Not recorded on ${state.hosts.length > 1 ? "these hosts" : "this host"}: ${found.missing.join(", ")}.` : "";
  setText($("resolution"), `${found.resolution}${found.compared ? ` ${found.compared.resolution}` : ""}${lost}`);
  setText($("n-lines"), String(found.charts.reduce((n, { lines }) => n + lines.length, 0)));
  showTimes();
}

function refuse(errors) {
  for (const name of ["from", "to"]) {
    $(`error-${name}`).hidden = !errors[name];
    setText($(`error-${name}`), errors[name]?.[0] ?? "");
    fields[name].closest(".field").classList.toggle("bad", Boolean(errors[name]));
  }
  const others = Object.entries(errors).filter(([name]) => !(name in fields)).map(([name, said]) => `${name}: ${said[0]}`);
  trouble(others.join(" "), false);
  if (Object.keys(errors).length) setText($("resolution"), answer ? "What is shown is the view before." : "Nothing is shown.");
}

function trouble(text, again) {
  $("trouble").hidden = !text;
  $("again").hidden = !again;
  setText($("trouble-text"), text);
}

// What the controls say of the state.
function showState() {
  for (const link of document.querySelectorAll("[data-range]")) {
    link.href = `?${query({ ...state, range: link.dataset.range })}`;
    if (link.dataset.range === state.range) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  }
  $("compare").value = state.compare;
  $("band").setAttribute("aria-pressed", String(state.band));
  for (const kind of ["csv", "json"]) $(`export-${kind}`).href = `export.${kind}?${query(state)}`;
  showTimes();
}

function showTimes() {
  Object.keys(fields).forEach((name, i) => {
    if (document.activeElement === fields[name]) return; // a person is writing there
    const at = view.window[i] * 1000;
    fields[name].value = new Date(at - new Date(at).getTimezoneOffset() * 60000).toISOString().slice(0, 16);
  });
}

function sendTimes(event) {
  event.preventDefault();
  const at = Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value ? Math.round(new Date(field.value) / 1000) : NaN]));
  const empty = Object.keys(at).filter((name) => Number.isNaN(at[name]));
  if (empty.length) return refuse(Object.fromEntries(empty.map((name) => [name, ["Give date and time."]])));
  document.activeElement.blur();
  return change({ range: "", ...at });
}

async function copyLink() {
  const [from, to] = view.window.map(Math.round), address = `${location.origin}${location.pathname}?${query({ ...state, range: "", from, to })}`;
  const button = $("copy-link");
  try {
    await navigator.clipboard.writeText(address);
    setText(button, "Copied");
  } catch { // no secure origin: the address bar has it
    history.replaceState({ ...state, range: "", from, to }, "", address);
    setText(button, "In the address bar");
  }
  setTimeout(() => setText(button, "Copy link"), 2000);
}

function follow() {
  const slow = state.range && spans[state.range] > 6 * 3600 && Date.now() % 60000 > FOLLOW_MS;
  const busy = document.hidden || charts.at !== null || view.window[1] < now() - 120 || $("picker").open;
  if (state.range && !slow && !busy && $("shown").getAttribute("aria-busy") === "false" && $("trouble").hidden) load();
}

function begin() {
  charts = new Charts($("charts"), view);
  lane = new Lane($("lane"), view);
  picker = new Picker($("picker"), read("names"), read("metrics"), (chosen) => change(chosen));
  view.window = windowOf(state);
  history.replaceState(state, "");
  showState();
  load();
  addEventListener("popstate", (event) => { if (event.state) change(event.state, { remember: false }); else location.reload(); });
  for (const link of document.querySelectorAll("[data-range]")) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      change({ range: link.dataset.range });
    });
  }
  $("span").addEventListener("submit", sendTimes);
  $("compare").addEventListener("change", (event) => change({ compare: event.target.value }));
  $("band").addEventListener("click", () => change({ band: !state.band }));
  $("open-picker").addEventListener("click", () => picker.open(state));
  $("choose").addEventListener("click", () => picker.open(state));
  $("again").addEventListener("click", load);
  $("copy-link").addEventListener("click", copyLink);
  $("export-png").addEventListener("click", async () => { if (answer) await download(answer, view.window); $("export").open = false; });
  $("export").addEventListener("focusout", (event) => { if (!$("export").contains(event.relatedTarget)) $("export").open = false; });
  for (const button of document.querySelectorAll("[data-move]")) {
    button.addEventListener("click", () => { const [from, to] = view.window; view.move(moved(view.window, ((to - from) / 2) * Number(button.dataset.move), now())); view.settle(); });
  }
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => { const [from, to] = view.window; view.move(zoomed(view.window, Number(button.dataset.zoom), (from + to) / 2, now())); view.settle(); });
  }
  $("dragging").addEventListener("click", (event) => {
    view.moving = !view.moving;
    event.target.setAttribute("aria-pressed", String(view.moving));
    setText(event.target, view.moving ? "drag: move" : "drag: zoom");
  });
  setInterval(follow, FOLLOW_MS);
}

for (const field of document.querySelectorAll("#span [name=zone]")) field.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (state && $("shown")) begin();
