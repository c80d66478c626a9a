// Progress of benchmark runs and model jobs, as the news tell it: bars and figures move at once; a change of state fetches the
// HTML anew. Elements: [data-progress=KIND-ID] with a <progress> and [data-show-as=count|rate|errors|eta|loss|now|step].
const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

function left(seconds) {
  if (seconds == null) return "–";
  const whole = Math.max(Math.round(seconds), 0);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

function count({ done, total, unit }) {
  if (unit === "bytes") return `${number.format(done / 2 ** 20)} of ${number.format(total / 2 ** 20)} MiB`;
  return `${number.format(done)} of ${number.format(total)}${unit ? ` ${unit}` : ""}`;
}

const SHOWN = {
  count,
  rate: (data) => (data.tokens_per_s == null ? "–" : `${number.format(data.tokens_per_s)} tok/s`),
  errors: (data) => String(data.errors),
  eta: (data) => left(data.eta_s),
  loss: (data) => (data.loss == null ? "–" : data.loss.toPrecision(3)),
  now: (data) => `${data.model}, round ${data.round} of ${data.n_rounds}`,
  step: (data) => data.step,
};

function hear(kind, { id, data }) {
  if (!("done" in data)) {
    document.dispatchEvent(new CustomEvent(`${kind}-changed`));
    document.dispatchEvent(new CustomEvent(`${kind}-changed-${id}`));
    return;
  }
  for (const box of document.querySelectorAll(`[data-progress="${kind}-${id}"]`)) {
    const bar = box.querySelector("progress");
    if (bar) Object.assign(bar, { max: data.total, value: data.done });
    for (const element of box.querySelectorAll("[data-show-as]")) element.textContent = SHOWN[element.dataset.showAs](data);
  }
}

for (const kind of ["run", "job"]) document.addEventListener(`news-${kind}`, ({ detail }) => hear(kind, detail));
