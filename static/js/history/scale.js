// Axes: where the ticks are and what stands there. Time is in s since 1970 and shown in the viewer's zone.
import { byteRate, bytes, celsius, milliseconds, number, percent, watts } from "../live/format.js";

export const LEFT = 60, RIGHT = 14; // px beside the plot in every chart and in the lane, so that one x is one time in all
const FORMATS = { "%": percent, B: bytes, "B/s": byteRate, ms: milliseconds, "°C": celsius, W: watts };
// On an axis (`exact` false) only what people know as part of the number stands with it; the chart's title has the unit.
// There a large number is shortened ("43M"): counters have more digits than the room beside a plot.
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 });
const plain = (value, exact) => (exact === false && Math.abs(value) >= 1e5 ? compact.format(value) : number(value, 2, exact));
export const formatOf = (unit) => FORMATS[unit] ?? ((value, exact = true) => (value === null || value === undefined ? "–" : `${plain(value, exact)}${exact === true ? ` ${unit}` : ""}`.trim()));

const MINUTE = 60, HOUR = 3600, DAY = 86400;
const STEPS = [1, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR];
const DAYS = [1, 2, 7, 14], MONTHS = [1, 2, 3, 6, 12];
const make = (options) => { const made = new Intl.DateTimeFormat(undefined, options); return (at) => made.format(at * 1000); };
const second = make({ hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minute = make({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = make({ month: "short", day: "numeric" }), month = make({ month: "short", year: "numeric" });
const full = make({ weekday: "short", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dated = make({ year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
export const exactly = (at, span) => (span > 60 * DAY ? dated : full)(at);

// [[at, text]] over [from, to) for about `n` ticks. By the calendar, not by adding seconds: a day may have 23 hours.
export function timeTicks(from, to, n) {
  const rough = (to - from) / n, ticks = [], start = new Date(from * 1000);
  const step = STEPS.find((each) => each >= rough);
  if (step) {
    start.setHours(0, 0, 0, 0);
    for (const at = start; at / 1000 <= to; ) {
      const midnight = at / 1000, next = new Date(at);
      next.setDate(next.getDate() + 1);
      for (let s = Math.max(Math.ceil((from - midnight) / step), 0) * step; midnight + s < next / 1000 && midnight + s <= to; s += step) {
        ticks.push([midnight + s, s === 0 ? day(midnight) : (step < MINUTE ? second : minute)(midnight + s)]);
      }
      at.setTime(next);
    }
    return ticks;
  }
  const days = DAYS.find((each) => each * DAY >= rough), months = MONTHS.find((each) => each * 30 * DAY >= rough) ?? 12;
  start.setHours(0, 0, 0, 0);
  if (!days) start.setMonth(Math.floor(start.getMonth() / months) * months, 1);
  else if (days >= 7) start.setDate(start.getDate() - ((start.getDay() + 6) % 7));
  for (const at = start; at / 1000 <= to; days ? at.setDate(at.getDate() + days) : at.setMonth(at.getMonth() + months)) {
    if (at / 1000 >= from) ticks.push([at / 1000, (days ? day : month)(at / 1000)]);
  }
  return ticks;
}

// {range, values} of a value axis that holds low..high; from 0 where that costs little of the height.
export function valueAxis(low, high, unit) {
  if (!(high >= low)) return { range: [0, 1], values: [] };
  const from0 = low >= 0 && low < 0.5 * high, bottom = from0 ? 0 : low;
  const span = high - bottom || Math.abs(high) * 0.1 || 1, rough = span / 3;
  const power = (unit === "B" ? 2 : 10) ** Math.floor(Math.log(rough) / Math.log(unit === "B" ? 2 : 10));
  const step = power * (unit === "B" ? [1, 2] : [1, 2, 5, 10]).find((each) => each * power >= rough * 0.999);
  const start = Math.floor(bottom / step + 1e-9) * step;
  let end = Math.ceil(high / step - 1e-9) * step;
  if (end <= start) end = start + step;
  const values = Array.from({ length: Math.round((end - start) / step) + 1 }, (_, i) => start + i * step);
  const top = unit === "%" && high <= 100 ? Math.min(end, 100) : end;
  return { range: [start, top + (top - start) * 0.04], values: values.filter((value) => value <= top) };
}

// What stands at the values of an axis: as many digits as it takes to tell neighbours apart.
export function axisTexts(values, unit) {
  const format = formatOf(unit), texts = (exact) => values.map((value) => format(value, exact));
  return [false, 0, 1, 2, 3, 4, 5].map(texts).find((each) => new Set(each).size === each.length) ?? texts(6);
}

// The time under `x` px in a strip of `width` px that shows [from, to), and back.
export const timeAt = (x, width, [from, to]) => from + ((x - LEFT) / Math.max(width - LEFT - RIGHT, 1)) * (to - from);
export const pixelOf = (at, width, [from, to]) => LEFT + ((at - from) / (to - from)) * (width - LEFT - RIGHT);
