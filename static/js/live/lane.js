// What happened, over the time axis of the charts.
import { element } from "./cards.js";
import { clock } from "./format.js";
import { SECONDS } from "./window.js";

const KINDS = { model: "model-event", gpu: "gpu", engine: "engine" };

export class Lane {
  constructor(root) {
    this.root = root;
    this.empty = root.firstElementChild;
    this.events = [];
  }

  add(events) {
    this.events.push(...events);
  }

  draw(now) {
    this.events = this.events.filter((event) => event.at > now - SECONDS);
    if (!this.events.length) return this.root.replaceChildren(this.empty);
    let free = 101; // per cent from the left where the next label to the right begins
    const marks = [...this.events].reverse().map((event) => {
      const left = 100 * (1 - (now - event.at) / SECONDS);
      const mark = element("button", "", KINDS[event.kind] ?? "");
      mark.type = "button";
      mark.title = `${clock(event.at)} ${event.text}`;
      mark.setAttribute("aria-label", mark.title);
      mark.style.left = `${left}%`;
      const needed = (event.text.length * 6.6 + 14) / Math.max(this.root.clientWidth, 1) * 100;
      if (left + needed < free) mark.textContent = event.text;
      else if (left > 60 && left - needed > 0 && free > 100) { mark.textContent = event.text; mark.classList.add("flip"); }
      free = Math.min(free, left);
      return mark;
    });
    this.root.replaceChildren(...marks.reverse());
  }
}
