// All charts as one picture.
import { picture } from "../plots.js";
import { exactly, formatOf, timeTicks, valueAxis } from "./scale.js";
import { extent, traces } from "./traces.js";

const WIDTH = 1200, EACH = 190, TOP = 56, BOTTOM = 36;

export async function download(answer, window_) {
  const { charts } = answer, n = charts.length, height = TOP + BOTTOM + EACH * n, [from, to] = window_, ticks = timeTicks(from, to, 10);
  const axis = { zeroline: false, tickmode: "array", automargin: false }, data = [], annotations = [];
  const layout = {
    margin: { l: 64, r: 20, t: TOP, b: BOTTOM }, showlegend: false, annotations,
    title: { text: [`${exactly(from, to - from)} to ${exactly(to, to - from)}`, answer.compared && `dashed: ${answer.compared.label}`].filter(Boolean).join(", "), font: { size: 14 }, x: 0.012, xanchor: "left", y: 1 - 18 / height, yanchor: "top" },
    xaxis: { ...axis, range: window_, tickvals: ticks.map(([at]) => at), ticktext: ticks.map(([, text]) => text), anchor: n > 1 ? `y${n}` : "y" },
  };
  charts.forEach((chart, i) => {
    const key = i ? `y${i + 1}` : "y", { range, values } = valueAxis(...extent(chart, answer, window_), chart.unit), format = formatOf(chart.unit);
    const top = 1 - i / n, room = 46 / (EACH * n);
    layout[i ? `yaxis${i + 1}` : "yaxis"] = { ...axis, domain: [1 - (i + 1) / n + 14 / (EACH * n), top - room], range, tickvals: values, ticktext: values.map((value) => format(value, false)) };
    data.push(...traces(chart, answer).map((trace) => ({ ...trace, yaxis: key })));
    const at = { xref: "paper", yref: "paper", x: 0, y: top - 4 / (EACH * n), xanchor: "left", yanchor: "top", showarrow: false, align: "left" };
    annotations.push({ ...at, text: `<b>${escaped(chart.title)}</b>  ${escaped(chart.unit)}` });
    const shown = chart.lines.slice(0, 8).map(({ label }, k) => [label, `--s${(k % 8) + 1}`]);
    let x = 0;
    for (const [label, color] of shown) {
      annotations.push({ ...at, x, y: top - 22 / (EACH * n), text: `— ${escaped(label)}`, font: { size: 11, color } });
      x += (label.length * 6.6 + 34) / (WIDTH - 84);
    }
    if (chart.lines.length > shown.length) annotations.push({ ...at, x, y: top - 22 / (EACH * n), text: `and ${chart.lines.length - shown.length} more`, font: { size: 11 } });
  });
  const link = document.createElement("a");
  link.href = await picture({ data, layout }, WIDTH, height);
  link.download = `history-${new Date(from * 1000).toISOString().slice(0, 16).replaceAll(":", "")}.png`;
  link.click();
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
