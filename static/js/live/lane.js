// What happened, over the time axis of the charts; also the handle of the cursor through all of them, by mouse and by keys.
import { element, keyed, setText } from "./dom.js";
import { clock, duration, minute } from "./format.js";
import { SECONDS } from "./window.js";

const CHARACTER_PX = 6.4;

export class Lane {
  // `onPoint(at)`: the second that the person points at, null for now.
  constructor(root, onPoint) {
    Object.assign(this, { root, onPoint, events: [], span: SECONDS, now: 0, at: null, width: 1 });
    new ResizeObserver(([{ contentRect }]) => { this.width = Math.max(contentRect.width, 1); }).observe(root); // asking costs a layout
    this.marks = element("div");
    this.cursor = element("span", "line");
    this.said = element("span", "said");
    root.replaceChildren(this.marks, this.cursor, this.said);
    root.addEventListener("pointermove", (event) => this.hover(event));
    root.addEventListener("pointerdown", (event) => this.hover(event));
    root.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") this.choose(null); });
    root.addEventListener("blur", () => this.choose(null));
    root.addEventListener("keydown", (event) => this.key(event));
    this.show(null);
  }

  add(events) {
    this.events.push(...events);
  }

  draw(now) {
    this.now = now;
    this.events = this.events.filter((event) => event.at > now - SECONDS);
    keyed(this.marks, this.items(), (item) => item.key, () => element("span"), (node, item) => {
      if (node.className !== item.className) node.className = item.className;
      node.style.left = `${item.left.toFixed(3)}%`;
      setText(node, item.text);
      if (item.title && !node.title) node.title = item.title;
    });
    this.show(this.at);
  }

  left(at) {
    return 100 * (1 - (this.now - at) / this.span);
  }

  items() {
    const shown = this.events.filter((event) => event.at > this.now - this.span);
    const step = this.span > 300 ? 300 : this.span > 60 ? 60 : 15;
    const items = [];
    for (let at = Math.ceil((this.now - this.span) / step) * step; at <= this.now; at += step) {
      items.push({ key: `t${at}`, className: "tick", left: this.left(at), text: this.left(at) > 94 ? "" : step < 60 ? clock(at) : minute(at) });
    }
    if (!shown.length) items.push({ key: "none", className: "none", left: 0, text: `no events in the last ${Math.round(this.span / 60)} min` });
    // The newest first: a label stands right of its mark where there is room before the next one, else left of it over
    // older marks, whose labels go then.
    let free = 100; // per cent from the left up to where there is room
    for (const event of [...shown].sort((one, other) => other.at - one.at)) {
      const left = this.left(event.at), needed = ((event.text.length * CHARACTER_PX + 16) / this.width) * 100;
      const covered = left > free, right = !covered && left + needed <= free, flip = !covered && !right && left >= needed;
      items.push({ key: `e${event.at}${event.text}`, className: `mark of-${event.kind}${flip ? " flip" : ""}`, left, text: right || flip ? event.text : "", title: event.text });
      free = Math.min(free, flip ? left - needed : left);
    }
    return items;
  }

  hover(event) {
    const box = this.root.getBoundingClientRect();
    this.choose(this.now - this.span * (1 - (event.clientX - box.left) / box.width));
  }

  key(event) {
    const { key } = event, step = event.shiftKey ? 30 : Math.max(this.span / 180, 1), from = this.at ?? this.now;
    const times = this.events.map((each) => each.at).sort((a, b) => a - b);
    const moves = {
      ArrowLeft: () => from - step, ArrowRight: () => from + step, Home: () => this.now - this.span, End: () => null, Escape: () => null,
      PageUp: () => times.findLast((at) => at < from - 0.5) ?? from, PageDown: () => times.find((at) => at > from + 0.5) ?? null,
    };
    if (!(key in moves)) return;
    event.preventDefault();
    const at = moves[key]();
    this.choose(at === null || at >= this.now ? null : Math.max(at, this.now - this.span));
  }

  choose(at) {
    this.show(at);
    this.onPoint(at);
  }

  // `at`: from here, or from the charts when the mouse is over one of them.
  show(at) {
    this.at = at;
    this.cursor.hidden = this.said.hidden = at === null;
    const near = at === null ? null : this.events.find((event) => Math.abs(event.at - at) < this.span / 150);
    const text = at === null ? "now" : [clock(at), `${duration(this.now - at)} ago`, near?.text].filter(Boolean).join(" · ");
    this.root.ariaValueNow = at === null ? 0 : -Math.round(this.now - at);
    this.root.ariaValueMin = -this.span;
    this.root.ariaValueText = text;
    if (at === null) return;
    const half = ((text.length * CHARACTER_PX + 12) / 2 / this.width) * 100;
    this.cursor.style.left = `${this.left(at)}%`;
    this.said.style.left = `${Math.min(Math.max(this.left(at), half), 100 - half)}%`;
    setText(this.said, text);
  }
}
