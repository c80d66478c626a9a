// Plotly's colours and manners, for what is studied. <div class="plotly" data-plot="ID of a json_script"></div> is drawn by
// itself: {"data": [traces], "layout": {...}}. A trace or shape names a colour by its token ("--s1"); the theme fills it in.
const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const drawn = new Map();

function coloured(value) {
  if (typeof value === "string") return /^--[a-z0-9-]+$/.test(value) ? token(value) : value;
  if (Array.isArray(value)) return value.map(coloured);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each)]));
  return value;
}

function merged(base, over) {
  const result = { ...base };
  for (const [key, value] of Object.entries(over ?? {})) {
    const both = value && typeof value === "object" && !Array.isArray(value) && result[key] && typeof result[key] === "object";
    result[key] = both ? merged(result[key], value) : value;
  }
  return result;
}

function frame(layout) {
  const axis = { gridcolor: "--line", zerolinecolor: "--line", linecolor: "--line", automargin: true, tickfont: { size: 11 } };
  const axes = Object.fromEntries(Object.keys(layout ?? {}).filter((key) => /^[xy]axis/.test(key)).map((key) => [key, axis]));
  return merged({
    autosize: true, height: 300, margin: { l: 52, r: 14, t: 12, b: 40 }, hovermode: "x unified", dragmode: "zoom",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", colorway: ["--s1", "--s2", "--s3", "--s4", "--s5"],
    font: { family: token("--font"), size: 12, color: "--text" }, legend: { orientation: "h", y: -0.2, font: { color: "--muted" } },
    hoverlabel: { bgcolor: "--panel-2", bordercolor: "--line", font: { color: "--text" } }, xaxis: axis, yaxis: axis, ...axes,
  }, layout);
}

// On a date axis, numbers are instants (ms since 1970) and are shown as the viewer's wall clock. As text: numbers Plotly would
// take to the viewer's zone itself in some places and not in others.
const wall = (value) => (typeof value === "number" ? new Date(value - new Date(value).getTimezoneOffset() * 60000).toISOString().slice(0, -1) : value);

function inViewersZone({ data, layout }) {
  if (layout?.xaxis?.type !== "date") return { data, layout };
  const shapes = layout.shapes?.map((each) => (each.xref === "paper" ? each : { ...each, x0: wall(each.x0), x1: wall(each.x1) }));
  const range = layout.xaxis.range?.map(wall);
  return {
    data: data.map((trace) => ({ ...trace, x: trace.x?.map(wall) })),
    layout: { ...layout, ...(shapes && { shapes }), xaxis: { ...layout.xaxis, ...(range && { range }) } },
  };
}

// Draws (or draws anew) `plot` = {data, layout, name, config} into `element`; `name` is the file of the PNG button, `config` what
// differs from the usual.
export function draw(element, plot) {
  drawn.set(element, plot);
  const config = {
    responsive: true, displaylogo: false, displayModeBar: "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], toImageButtonOptions: { format: "png", scale: 2, filename: plot.name ?? "chart" }, ...plot.config,
  };
  const { data, layout } = inViewersZone(plot);
  return window.Plotly.react(element, coloured(data), coloured(frame(layout)), config);
}

// The address (data:) of a PNG of `plot`, `width` x `height` px, on the page's ground.
export function picture({ data, layout }, width, height) {
  const whole = coloured(frame({ ...layout, width, height, paper_bgcolor: "--panel", plot_bgcolor: "--panel" }));
  return window.Plotly.toImage({ data: coloured(data), layout: whole }, { format: "png", width, height, scale: 2 });
}

// <button data-png="ID of a json_script">: the chart as a file, also by keyboard and on a phone, where Plotly's own button is not.
document.addEventListener("click", async ({ target }) => {
  const source = document.getElementById(target.closest("[data-png]")?.dataset.png);
  if (!source) return;
  const plot = JSON.parse(source.textContent), link = document.createElement("a");
  link.href = await picture(inViewersZone(plot), 1200, plot.layout.height ?? 450);
  link.download = `${plot.name}.png`;
  link.click();
});

export function undraw(element) {
  window.Plotly.purge(element);
  drawn.delete(element);
}

function drawAll(root) {
  for (const element of root.querySelectorAll("[data-plot]")) {
    const source = document.getElementById(element.dataset.plot);
    if (source) draw(element, JSON.parse(source.textContent));
  }
}

function forget() {
  for (const element of drawn.keys()) {
    if (!element.isConnected) undraw(element);
  }
}

drawAll(document);
document.addEventListener("htmx:load", (event) => { forget(); drawAll(event.detail.elt.parentElement ?? document); });
new MutationObserver(() => drawn.forEach((plot, element) => draw(element, plot)))
  .observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
