// What the strips need of a canvas: colours from tokens, a calm scale, marks over the lines.
import { element } from "./dom.js";

const EVENT_COLOURS = { model: "--s2", gpu: "--warn", engine: "--s4", alert: "--crit" };

// The colour that a token has now; a canvas can't read variables, and asking each time would cost a layout.
const colours_ = new Map();
export const forgetColours = () => colours_.clear();
export function token(name, alpha = 1) {
  if (!colours_.has(name)) {
    const probe = document.documentElement.appendChild(element("i"));
    probe.style.color = `var(${name})`;
    colours_.set(name, getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).join(", "));
    probe.remove();
  }
  return `rgba(${colours_.get(name)}, ${alpha})`;
}

// 1, 2 or 5 times a power of ten: the scale steps now and then instead of breathing each second.
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => value <= step * power * 1.0001);
}

// A known second between two unknown ones would leave no line: it is drawn as a point.
export function lonely(values) {
  const found = [];
  let before = false, here = (values[0] ?? null) !== null;
  for (let i = 0; i < values.length; i += 1) {
    const after = (values[i + 1] ?? null) !== null;
    if (here && !before && !after) found.push(i);
    before = here;
    here = after;
  }
  return found;
}

// Events of the lane, faint, so that a jump in a line has its reason beside it.
export function paintEvents(u, events) {
  const { left, top, width, height } = u.bbox;
  for (const event of events) {
    const x = u.valToPos(event.at, "x", true);
    if (x < left || x > left + width) continue;
    u.ctx.fillStyle = token(EVENT_COLOURS[event.kind] ?? "--s3", 0.4);
    u.ctx.fillRect(Math.round(x), top, devicePixelRatio, height);
  }
}

// A bar at the bottom over the seconds in which something held.
export function paintBar(u, times, held) {
  if (!held.some(Boolean)) return;
  const high = 5 * devicePixelRatio, wide = u.valToPos(1, "x", true) - u.valToPos(0, "x", true) + 1;
  u.ctx.fillStyle = token("--warn");
  held.forEach((is, i) => {
    const from = u.valToPos(times[i], "x", true);
    if (is && from >= u.bbox.left) u.ctx.fillRect(from, u.bbox.top + u.bbox.height - high, wide, high);
  });
}
