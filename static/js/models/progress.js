// News of models: bars of pulls move at once; everything else fetches the HTML anew, once for all that comes together.
// Elements: [data-pull=ID] with a <progress> and [data-show-as=step|bytes].
let waiting = null;

function changed() {
  clearTimeout(waiting);
  waiting = setTimeout(() => document.dispatchEvent(new CustomEvent("models-changed")), 100);
}

function amount(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (unit < 3 && bytes >= 1024 ** (unit + 1)) unit += 1;
  const value = bytes / 1024 ** unit;
  return `${value.toFixed(unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2)} ${units[unit]}`;
}

const SHOWN = {
  step: (data) => data.step,
  bytes: (data) => `${amount(data.done)} of ${amount(data.total)}`,
};

document.addEventListener("news-models", changed);
document.addEventListener("news-pull", ({ detail: { id, data } }) => {
  const box = document.querySelector(`[data-pull="${id}"]`);
  const bar = box?.querySelector("progress");
  if (!("done" in data) || !bar) {
    changed();
    return;
  }
  if (data.total) Object.assign(bar, { max: data.total, value: data.done });
  for (const element of box.querySelectorAll("[data-show-as]")) element.textContent = SHOWN[element.dataset.showAs](data);
});
