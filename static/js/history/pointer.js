// A surface that is pointed at, zoomed by dragging, moved with Shift, a finger or a wheel, zoomed with Ctrl and the wheel or two fingers.
import { element } from "../live/dom.js";
import { timeAt, LEFT, RIGHT } from "./scale.js";
import { zoomed } from "./state.js";

const FAR_PX = 6;

// `view`: {window, now, moving (dragging moves instead of zooming), point(at|null), select(from, to), move([from, to]), settle()}
export function attach(surface, view) {
  const chosen = element("div", "chosen"), touches = new Map();
  let down = null;
  chosen.hidden = true;
  surface.append(chosen);
  const place = (event) => event.clientX - surface.getBoundingClientRect().left;
  const time = (x, window_ = view.window) => timeAt(Math.min(Math.max(x, LEFT), surface.clientWidth - RIGHT), surface.clientWidth, window_);

  surface.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("a")) return;
    touches.set(event.pointerId, place(event));
    surface.setPointerCapture(event.pointerId);
    const moves = event.pointerType === "touch" || event.shiftKey !== view.moving;
    down = { x: place(event), moves, far: false, window: view.window, spread: spread() };
  });
  surface.addEventListener("pointermove", (event) => {
    const x = place(event);
    if (touches.has(event.pointerId)) touches.set(event.pointerId, x);
    if (!down) return view.point(time(x));
    if (down.spread && touches.size === 2) {
      const middle = [...touches.values()].reduce((a, b) => a + b) / 2;
      down.far = true;
      return view.move(zoomed(down.window, down.spread / Math.max(spread(), 10), time(middle, down.window), view.now()));
    }
    down.far ||= Math.abs(x - down.x) >= FAR_PX;
    if (!down.far) return undefined;
    if (down.moves) {
      const shift = timeAt(down.x, surface.clientWidth, down.window) - timeAt(x, surface.clientWidth, down.window);
      surface.classList.add("moving");
      return view.move(moved(down.window, shift, view.now()));
    }
    const from = Math.min(Math.max(Math.min(x, down.x), LEFT), surface.clientWidth - RIGHT), to = Math.min(Math.max(x, down.x), surface.clientWidth - RIGHT);
    chosen.hidden = false;
    Object.assign(chosen.style, { left: `${from}px`, width: `${Math.max(to - from, 0)}px` });
    return view.point(time(x));
  });
  const end = (event) => {
    const x = place(event), last = down;
    touches.delete(event.pointerId);
    down = null;
    chosen.hidden = true;
    surface.classList.remove("moving");
    if (!last) return;
    if (last.far && (last.moves || last.spread)) view.settle();
    else if (event.type !== "pointerup") return;
    else if (last.far) view.select(...[time(last.x), time(x)].sort((a, b) => a - b));
    else view.point(time(x));
  };
  surface.addEventListener("pointerup", end);
  surface.addEventListener("pointercancel", end);
  surface.addEventListener("pointerleave", (event) => { if (!down && event.pointerType === "mouse") view.point(null); });
  surface.addEventListener("dblclick", (event) => { view.move(zoomed(view.window, 2, time(place(event)), view.now())); view.settle(); });
  surface.addEventListener("wheel", (event) => {
    const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY), delta = event.deltaX || event.deltaY;
    if (!event.ctrlKey && !event.metaKey && !sideways) return; // the page scrolls
    event.preventDefault();
    const [from, to] = view.window;
    if (sideways) view.move(moved([from, to], (delta / surface.clientWidth) * (to - from), view.now()));
    else view.move(zoomed([from, to], 1.0015 ** Math.max(Math.min(delta, 300), -300), time(place(event)), view.now()));
    view.settle();
  }, { passive: false });

  function spread() {
    const places = [...touches.values()];
    return places.length === 2 ? Math.max(Math.abs(places[0] - places[1]), 10) : 0;
  }
}

export function moved([from, to], seconds, now) {
  const shift = Math.min(seconds, now - to);
  return [from + shift, to + shift];
}
