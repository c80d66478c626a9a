// Progress of runs, as the news tell it: bars and figures move at once; a change of state fetches the HTML anew.
// Elements: [data-run=ID] with a <progress> and [data-show-as=count|rate|errors|eta|now].
const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

function left(seconds) {
  if (seconds == null) return "–";
  const whole = Math.max(Math.round(seconds), 0);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

const SHOWN = {
  count: (data) => `${data.done} of ${data.total}`,
  rate: (data) => `${number.format(data.tokens_per_s)} tok/s`,
  errors: (data) => String(data.errors),
  eta: (data) => left(data.eta_s),
  now: (data) => `${data.model}, round ${data.round} of ${data.n_rounds}`,
};

document.addEventListener("news-run", ({ detail: { id, data } }) => {
  if (!("done" in data)) {
    document.dispatchEvent(new CustomEvent("run-changed"));
    document.dispatchEvent(new CustomEvent(`run-changed-${id}`));
    return;
  }
  for (const box of document.querySelectorAll(`[data-run="${id}"]`)) {
    const bar = box.querySelector("progress");
    if (bar) Object.assign(bar, { max: data.total, value: data.done });
    for (const element of box.querySelectorAll("[data-show-as]")) element.textContent = SHOWN[element.dataset.showAs](data);
  }
});
