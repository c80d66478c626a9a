// The summary under the charts, and the list of what happened.
import { element } from "../live/dom.js";
import { exactly, formatOf } from "./scale.js";
import { colourOf } from "./traces.js";
import { iso } from "./state.js";

const share = (value) => (value >= 0.9995 ? "100 %" : value > 0 && value < 0.001 ? "< 0.1 %" : `${(value * 100).toFixed(1)} %`);

export function drawSummary(root, answer) {
  const { compared } = answer;
  for (const head of root.querySelectorAll("th.compared")) head.hidden = !compared;
  root.querySelector("#p95").textContent = answer.p95;
  root.querySelector("tbody").replaceChildren(...answer.charts.flatMap((chart) => chart.lines.map((line, i) => row(chart, line, i, compared))));
  root.hidden = !answer.charts.length;
}

function row({ title, unit }, { host, name, label, summary, then_mean: then }, i, compared) {
  const format = formatOf(unit), made = element("tr"), first = element("td"), dash = element("i"), n = (text, hint = "") => Object.assign(element("td", "n", text), { title: hint });
  dash.style.background = `var(${colourOf(i)})`;
  first.append(dash, `${title}, ${label}`);
  first.title = `${name} on ${host}`;
  const change = compared && then && summary.mean !== null ? `${summary.mean >= then ? "+" : "−"}${Math.abs((100 * (summary.mean - then)) / then).toFixed(1)} %` : "–";
  made.append(
    first, n(format(summary.low)), n(format(summary.mean)), ...(compared ? [n(format(then)), n(change)] : []), n(format(summary.p95)), n(format(summary.high)),
    n(format(summary.last), summary.last_at ? exactly(summary.last_at, 0) : ""), n(share(summary.present)),
  );
  return made;
}

export function drawEvents(root, { n, marks, alerts }, span) {
  const all = [
    ...marks.map(({ at, kind, text, host }) => ({ at, kind, text, host })),
    ...alerts.map(({ from, severity, text, url }) => ({ at: from, kind: severity, text: `Alert: ${text}`, url })),
  ].sort((one, other) => other.at - one.at);
  root.hidden = !all.length;
  root.querySelector("#events-note").textContent = n > marks.length ? `the newest ${marks.length} of ${n.toLocaleString()}: zoom in for the others` : `${all.length}`;
  root.querySelector("ol").replaceChildren(...all.map(({ at, kind, text, url }) => {
    const item = element("li"), time = element("time", "", exactly(at, span)), what = url ? element("a", "", text) : element("span", "", text);
    time.dateTime = iso(at);
    if (url) what.href = url;
    item.append(time, element("span", "kind", kind), what);
    return item;
  }));
}
