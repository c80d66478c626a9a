// What is not as it should be: pills, banners, the page's title. Nothing here guesses: each sentence has its reading.
import { element, keyed, setText } from "./dom.js";
import { clock, duration } from "./format.js";

const $ = (id) => document.getElementById(id);
const TITLE = document.title;

export class Health {
  constructor() {
    this.connection = "connecting";
    this.sample = null;
    this.heard = null; // of performance.now(): the viewer's clock may be wrong, its passing is not
    this.trouble = "";
    setInterval(() => { if (this.connection !== "open") this.draw(); }, 1000);
  }

  // `age`: seconds since it was taken.
  hear(sample, age = 0) {
    this.sample = sample;
    this.heard = performance.now() - age * 1000;
  }

  age() {
    return this.heard === null ? null : (performance.now() - this.heard) / 1000;
  }

  draw() {
    this.drawConnection();
    this.drawEngine();
    const troubles = this.troubles();
    keyed($("troubles"), troubles, (each) => each.what, () => this.banner(), (node, { what, why, level }) => {
      node.className = `banner ${level}`;
      setText(node.children[0], what);
      setText(node.children[1], why);
    });
    const title = troubles.length ? `(!) ${troubles[0].what} - ${TITLE}` : TITLE;
    if (document.title !== title) document.title = title;
    setText($("last"), this.sample ? `last sample ${clock(this.sample.at)}` : "no sample yet");
  }

  banner() {
    const box = element("p", "banner");
    box.append(element("b"), element("span"));
    return box;
  }

  drawConnection() {
    document.body.dataset.connection = this.connection;
    const age = this.age(), since = age === null ? "" : ` ${duration(age)}`;
    const [dot, text] = { open: ["", "live"], silent: ["warn", `no samples${since}`], lost: ["bad", `lost${since}`], connecting: ["off", "connecting"] }[this.connection];
    pill($("connection"), dot, text);
  }

  drawEngine() {
    const { gateway, engine } = this.sample?.state ?? {};
    if (!this.sample) return pill($("engine"), "off", "engine unknown");
    if (!gateway) return pill($("engine"), "bad", "gateway down");
    if (!engine?.up) return pill($("engine"), "bad", "engine down");
    pill($("engine"), "", engine.kind === "ollama" ? "Ollama" : "Embedded", engine.kind === "ollama" ? ` ${engine.version}` : ` engine ${engine.version}`);
  }

  troubles() {
    const found = [], { gateway, engine, missing = [] } = this.sample?.state ?? {}, { sample } = this;
    if (this.connection === "lost") found.push({ what: "Connection lost", level: "crit", why: "The console does not answer this browser; it is tried again. What is shown is the last that came; what is missed meanwhile is filled in afterwards." });
    if (this.connection === "silent") found.push({ what: `No samples from ${sample?.host ?? "the host"}`, level: "warn", why: "The connection is open, but nothing comes through it: does the collector run, is the machine overloaded?" });
    if (this.connection === "open" && sample && !gateway) found.push({ what: "Gateway down", level: "crit", why: "It does not report. Clients of its port get no answer until it is back; the supervisor restarts it when it ends." });
    if (this.connection === "open" && gateway && !engine?.up) found.push({ what: "Engine down", level: "crit", why: `${engine?.url ?? "No engine"} does not answer${engine?.error ? ` (${engine.error})` : ""}. Requests to the gateway get 502 until it is back.` });
    if (missing.length) found.push({ what: "Readings missing", level: "warn", why: `These readers fail: ${missing.join(", ")}. The collector's log says why.` });
    if (this.trouble) found.push({ what: "History not loaded", level: "warn", why: this.trouble });
    return found;
  }
}

function pill(box, dot, text, more = "") {
  box.children[0].className = `dot ${dot}`;
  setText(box.children[1], text);
  if (box.children[2]) setText(box.children[2], more);
}
