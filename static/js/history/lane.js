// What happened, over the time axis of the charts: marks of events, below them bars of alerts while they were open. By keys it
// is the handle of the cursor through all charts and of the time shown.
import { element, setText } from "../live/dom.js";
import { attach, moved } from "./pointer.js";
import { LEFT, RIGHT, exactly, pixelOf } from "./scale.js";
import { zoomed } from "./state.js";

const CHARACTER_PX = 6.2, NEAR_PX = 7;

export class Lane {
  constructor(root, view) {
    Object.assign(this, { root, view, events: { marks: [], alerts: [] }, at: null, width: 1 });
    this.marks = element("div");
    this.line = element("span", "line");
    this.said = element("span", "said");
    root.replaceChildren(this.marks, this.line, this.said);
    attach(root, view);
    root.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(([{ contentRect }]) => { this.width = Math.max(contentRect.width, 1); this.draw(); }).observe(root);
    this.point(null);
  }

  show(events) {
    this.events = events;
    this.draw();
  }

  pixel(at) {
    return pixelOf(at, this.width, this.view.window);
  }

  draw() {
    const [from, to] = this.view.window;
    const marks = this.marksShown();
    const bars = this.events.alerts.filter((alert) => alert.from < to && (alert.to ?? Infinity) > from).map((alert) => {
      const bar = element("a", `open ${alert.severity}`), left = Math.max(this.pixel(alert.from), LEFT);
      bar.href = alert.url;
      bar.title = `${alert.text} (${alert.severity}${alert.to ? "" : ", still open"})`;
      bar.ariaLabel = bar.title;
      bar.tabIndex = -1; // the list below has them by keyboard
      Object.assign(bar.style, { left: `${left}px`, width: `${Math.max(Math.min(this.pixel(alert.to ?? to), this.width - RIGHT) - left, 4)}px` });
      return bar;
    });
    const nothing = marks.length || bars.length ? [] : [element("span", "quietly", "no events in this time")];
    this.marks.replaceChildren(...bars, ...marks, ...nothing);
    this.point(this.at);
  }

  // Events closer than NEAR_PX are one mark with their number; a text stands where there is room before the next mark.
  marksShown() {
    const groups = [];
    for (const event of this.events.marks) {
      const left = this.pixel(event.at);
      if (left < LEFT - 1 || left > this.width - RIGHT + 1) continue;
      if (groups.length && left - groups.at(-1).left < NEAR_PX) groups.at(-1).events.push(event);
      else groups.push({ left, events: [event] });
    }
    return groups.map(({ left, events }, i) => {
      const room = (groups[i + 1]?.left ?? this.width - RIGHT) - left - 4;
      const text = events.length > 1 ? `${events.length} events` : events[0].text, few = events.length > 1 ? `${events.length}` : "";
      const mark = element("span", `mark of-${events.at(-1).kind}`, text.length * CHARACTER_PX + 12 <= room ? text : few.length * CHARACTER_PX + 14 <= room ? few : "");
      Object.assign(mark.style, { left: `${left}px`, maxWidth: `${Math.max(room, 4)}px` });
      return mark;
    });
  }

  point(at) {
    const [from, to] = this.view.window, shown = at !== null && at >= from && at <= to;
    this.at = at;
    this.line.hidden = this.said.hidden = !shown;
    const near = shown ? this.events.marks.filter((event) => Math.abs(this.pixel(event.at) - this.pixel(at)) <= NEAR_PX) : [];
    const what = near.length > 1 ? `${near.length} events: ${near[0].text}; ${near.at(-1).text}` : near[0]?.text;
    const open = shown ? this.events.alerts.filter((alert) => alert.from <= at && (alert.to ?? Infinity) > at).map(({ text }) => text) : [];
    const text = shown ? [exactly(at, to - from), what, ...open.slice(0, 2)].filter(Boolean).join(" · ") : "no time is pointed at";
    Object.assign(this.root, { ariaValueMin: Math.round(from), ariaValueMax: Math.round(to), ariaValueNow: Math.round(shown ? at : to), ariaValueText: text });
    if (!shown) return;
    const half = Math.min((text.length * CHARACTER_PX + 12) / 2, this.width / 2), x = this.pixel(at);
    this.line.style.left = `${x}px`;
    this.said.style.left = `${Math.min(Math.max(x, half), this.width - half)}px`;
    setText(this.said, text);
  }

  key(event) {
    const { view } = this, [from, to] = view.window, span = to - from, at = this.at ?? to, times = this.events.marks.map((each) => each.at);
    const go = (window_) => { view.move(window_); view.settle(); };
    const points = {
      ArrowLeft: () => Math.max(at - span / 120, from), ArrowRight: () => Math.min(at + span / 120, to), Home: () => from, End: () => to, Escape: () => null,
      PageUp: () => times.findLast((each) => each < at - 0.5 && each >= from) ?? at, PageDown: () => times.find((each) => each > at + 0.5 && each <= to) ?? at,
    };
    const moves = { "+": () => go(zoomed(view.window, 0.5, at, view.now())), "-": () => go(zoomed(view.window, 2, at, view.now())) };
    if (event.shiftKey && event.key.startsWith("Arrow")) go(moved(view.window, (event.key === "ArrowLeft" ? -span : span) / 4, view.now()));
    else if (event.key in points) view.point(points[event.key]());
    else if (event.key in moves) moves[event.key]();
    else return;
    event.preventDefault();
  }
}
