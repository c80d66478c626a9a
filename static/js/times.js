// <time datetime="2026-01-02T03:04:05Z" data-show="ago|at|second">: shown in the viewer's zone, `ago` kept fresh; the title says it exactly.
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const short = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const withYear = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function ago(at) {
  const away = (at - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, each]) => Math.abs(away) >= each) ?? UNITS.at(-1);
  return relative.format(Math.trunc(away / size), unit);
}

function show(element) {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.getTime())) return;
  if (!element.title) element.title = exact.format(at);
  const brief = element.dataset.show === "second" ? seconds : short;
  const text = element.dataset.show === "ago" ? ago(at) : (at.getFullYear() === new Date().getFullYear() ? brief : withYear).format(at);
  if (element.textContent !== text) element.textContent = text;
}

const showAll = (root) => root.querySelectorAll("time[datetime]").forEach(show);
showAll(document);
document.addEventListener("htmx:load", (event) => showAll(event.detail.elt.parentElement ?? document));
setInterval(() => document.querySelectorAll("time[data-show=ago]").forEach(show), 5000);
