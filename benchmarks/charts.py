"""Charts of a run for static/js/plots.js: distributions per model, and what happened when."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import selectors
from benchmarks.load.result import Result
from benchmarks.models import Run
from benchmarks.statistics.metrics import SAMPLES
from benchmarks.statistics.summary import samples
from monitoring.selectors import query, series_names

Floats = NDArray[np.float64]
DISTRIBUTIONS = ("ttft_ms", "total_ms", "gap_ms")
COLOURS = ("--s1", "--s2", "--s3", "--s4", "--s5")
POINTS = 300
HOST_SERIES = (
    ("cpu_percent", "CPU", "%"),
    ("gpu_util_percent", "GPU", "%"),
    ("gpu_power_w", "GPU power", "W"),
)


@dataclass(frozen=True)
class Chart:
    name: str
    title: str
    note: str
    alternative: str  # what a person hears who doesn't see the chart
    plot: dict[str, Any]

    @property
    def script_id(self) -> str:
        return f"plot-{self.name}"


@dataclass(frozen=True)
class Charts:
    distributions: list[Chart]
    timeline: list[Chart]
    left_out: list[str]


def run_charts(run: Run) -> Charts:
    pooled: dict[str, dict[str, list[Floats]]] = {name: {} for name in DISTRIBUTIONS}
    flows: list[tuple[str, Flow]] = []
    start = run.started_at.timestamp() if run.started_at else 0.0
    for row, raw in selectors.raw_results(run):
        result = Result.model_validate(raw)
        found = samples(result)
        for name in DISTRIBUTIONS:
            pooled[name].setdefault(row.model, []).append(found[name])
        flows.append((row.model, Flow.of(result, start)))
    distributions = [chart for name in DISTRIBUTIONS if (chart := _distribution(run, name, pooled[name]))]
    timeline, left_out = _timeline(run, flows, start)
    return Charts(distributions, timeline, left_out)


def _distribution(run: Run, name: str, pooled: dict[str, list[Floats]]) -> Chart | None:
    """Share of requests (or gaps) that took no longer than x, one line per model."""
    values = {model: np.sort(np.concatenate(parts)) for model, parts in pooled.items()}
    values = {model: each for model, each in values.items() if len(each) > 1}
    if not values:
        return None
    sample = SAMPLES[name]
    traces, said = [], []
    for (model, each), colour in zip(values.items(), COLOURS * 2, strict=False):
        shares = np.linspace(0, 1, min(POINTS, len(each)))
        x = np.quantile(each, shares, method="inverted_cdf")
        traces.append(
            {
                "x": [float(f"{value:.5g}") for value in x],
                "y": [round(float(share) * 100, 2) for share in shares],
                "name": model,
                "mode": "lines",
                "line": {"shape": "hv", "color": colour, "width": 2},
                "hovertemplate": f"%{{y:.0f}} % within %{{x}} {sample.unit}",
            }
        )
        said.append(f"{model}: median {np.median(each):.3g}, longest {each[-1]:.3g} {sample.unit}")
    layout = {
        "xaxis": {"title": {"text": f"{sample.label} ({sample.unit})"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "share within (%)"}, "range": [0, 101]},
        "hovermode": "closest",
        "showlegend": len(values) > 1,
    }
    return Chart(
        name=name.removesuffix("_ms"),
        title=sample.label,
        note=f"{sum(map(len, values.values()))} values, all rounds together",
        alternative=f"Distribution of {sample.label}. " + "; ".join(said),
        plot={"data": traces, "layout": layout, "name": f"benchmark-{run.pk}-{name}"},
    )


@dataclass(frozen=True)
class Flow:
    """Tokens per second and requests being answered over time; `at`: s since the run's start, middle of each bucket."""

    at: Floats
    tokens_per_s: Floats
    running: Floats

    @classmethod
    def of(cls, result: Result, start: float) -> "Flow":
        requests = result.requests
        sent = np.array([np.nan if at is None else at for at in requests.sent_ms]) / 1000
        done = np.array([np.nan if at is None else at for at in requests.done_ms]) / 1000
        first = np.array([np.nan if at is None else at for at in requests.first_ms]) / 1000
        last = np.array([np.nan if at is None else at for at in requests.last_ms]) / 1000
        n = np.array([n or 0 for n in requests.n_tokens], float)
        known = ~np.isnan(sent)
        end = float(np.nanmax(np.concatenate([done[known], sent[known]]), initial=0.0))
        step = max(0.5, end / POINTS)
        edges = np.arange(0, end + step, step)
        offset = result.started_at.timestamp() - start
        if len(edges) < 2:
            return cls(np.empty(0), np.empty(0), np.empty(0))
        flowing = ~np.isnan(first) & ~np.isnan(last) & (n > 0)
        # Tokens that had arrived by each edge: those of a request spread evenly from its first chunk to its last.
        arrived = np.zeros(len(edges))
        for a, b, tokens in zip(first[flowing], last[flowing], n[flowing], strict=True):
            arrived += tokens * (np.clip((edges - a) / (b - a), 0, 1) if b > a else (edges >= a))
        done = np.where(np.isnan(done), end, done)
        busy = np.zeros(len(edges))
        for a, b in zip(sent[known], done[known], strict=True):
            busy += np.clip(edges, a, b) - a  # seconds of answering up to each edge
        return cls(edges[:-1] + step / 2 + offset, np.diff(arrived) / step, np.diff(busy) / step)


def _timeline(run: Run, flows: list[tuple[str, Flow]], start: float) -> tuple[list[Chart], list[str]]:
    """Strips over one time axis: what the load did, and what the machine did meanwhile."""
    if not any(len(flow.at) for _, flow in flows):
        return [], []
    strips: list[tuple[str, str, list[dict[str, Any]]]] = []
    for title, unit, pick in (("Output rate", "tok/s", "tokens_per_s"), ("Running", "requests", "running")):
        traces = []
        for model, colour in zip(run.model_names, COLOURS * 2, strict=False):
            parts = [flow for name, flow in flows if name == model and len(flow.at)]
            x = [value for flow in parts for value in (*flow.at.round(2).tolist(), None)]
            y = [value for flow in parts for value in (*getattr(flow, pick).round(2).tolist(), None)]
            line = {"color": colour, "width": 1.5}
            traces.append(
                {
                    "x": x,
                    "y": y,
                    "name": model,
                    "legendgroup": model,
                    "showlegend": pick == "tokens_per_s",
                    "line": line,
                }
            )
        strips.append((title, unit, traces))
    end = start + max(float(flow.at[-1]) for _, flow in flows if len(flow.at)) + 1
    hosted, left_out = _host_strips(run, start, end)
    strips += hosted
    return [_strips(run, strips)], left_out


def _host_strips(
    run: Run, start: float, end: float
) -> tuple[list[tuple[str, str, list[dict[str, Any]]]], list[str]]:
    metrics = [metric for metric, _, _ in HOST_SERIES]
    names = [name for name in series_names(run.host) if name.partition("{")[0] in metrics]
    answer = query(run.host, names, int(start), int(end) + 1, points=2 * POINTS)
    strips, left_out = [], []
    for metric, title, unit in HOST_SERIES:
        traces = []
        for name in (each for each in names if each.partition("{")[0] == metric):
            mean = answer.series[name].mean
            if np.isnan(mean).all():
                continue
            x = answer.start - start + answer.step * (np.arange(len(mean)) + 0.5)
            label = name.partition("{")[2].rstrip("}").replace("=", " ") or title
            y = [None if np.isnan(value) else round(float(value), 2) for value in mean]
            traces.append(
                {
                    "x": x.round(2).tolist(),
                    "y": y,
                    "name": label,
                    "showlegend": False,
                    "line": {"color": "--muted", "width": 1.5},
                }
            )
        if traces:
            strips.append((title, unit, traces))
        elif metric == "cpu_percent":
            left_out.append("CPU: nothing is recorded for that time; is the collector running?")
        else:
            gpu_reason = (run.fingerprint.get("host") or {}).get("gpu_reason")
            left_out.append(f"{title}: {gpu_reason or 'nothing is recorded for that time'}.")
    return strips, left_out


def _strips(run: Run, strips: list[tuple[str, str, list[dict[str, Any]]]]) -> Chart:
    height, space = 1 / len(strips), 0.05
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "height": 110 * len(strips) + 90,
        "xaxis": {
            "title": {"text": "seconds since the start of the run"},
            "anchor": f"y{len(strips) if len(strips) > 1 else ''}",
        },
        "legend": {"y": 1.08},
        "showlegend": len(run.model_names) > 1,
    }
    for number, (title, unit, traces) in enumerate(strips, 1):
        suffix = str(number) if number > 1 else ""
        top = 1 - (number - 1) * height
        layout[f"yaxis{suffix}"] = {
            "domain": [round(top - height + (space if number < len(strips) else 0), 4), round(top, 4)],
            "title": {"text": f"{title}<br>{unit}", "font": {"size": 11}},
            "rangemode": "tozero",
            "nticks": 4,
        }
        data += [{**trace, "mode": "lines", "yaxis": f"y{suffix}"} for trace in traces]
    return Chart(
        name="timeline",
        title="Timeline",
        note=f"{', '.join(title for title, _, _ in strips)} on one time axis",
        alternative=f"Over the time of the run: {', '.join(title for title, _, _ in strips)}.",
        plot={"data": data, "layout": layout, "name": f"benchmark-{run.pk}-timeline"},
    )
