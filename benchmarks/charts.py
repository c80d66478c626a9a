"""Charts of a run for static/js/plots.js: distributions per model, and what happened when."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.models import Run
from benchmarks.outcome import Outcome
from benchmarks.statistics.metrics import SAMPLES
from benchmarks.statistics.summary import Summary
from monitoring.selectors import query, series_names

DISTRIBUTIONS = ("ttft_ms", "total_ms", "gap_ms", "tpot_ms")
COLOURS = ("--s1", "--s2", "--s3", "--s4", "--s5")
HOST_SERIES = (
    ("cpu_percent", "CPU", "%"),
    ("gpu_util_percent", "GPU", "%"),
    ("gpu_power_w", "GPU power", "W"),
)
STRIP_PX, SPACE = 105, 0.045

Trace = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    name: str
    title: str
    note: str
    alternative: str  # for who doesn't see the chart
    plot: dict[str, Any]

    @property
    def script_id(self) -> str:
        return f"plot-{self.name}"


@dataclass(frozen=True)
class Strip:
    """One of several charts over the same time axis."""

    title: str
    unit: str
    traces: list[Trace]


@dataclass(frozen=True)
class Charts:
    distributions: list[Chart]
    timeline: Chart | None
    left_out: list[str]


def run_charts(run: Run, outcome: Outcome) -> Charts:
    found = (_distribution(run, key, outcome.summaries) for key in DISTRIBUTIONS)
    timeline, left_out = _timeline(run, outcome.summaries)
    return Charts([chart for chart in found if chart], timeline, left_out)


def _distribution(run: Run, key: str, summaries: dict[str, Summary]) -> Chart | None:
    """Share of requests (or gaps) that took no longer than x, one line per model."""
    sample = SAMPLES[key]
    found = {model: each.distributions[key] for model, each in summaries.items() if key in each.distributions}
    if not any(each.n > 1 for each in found.values()):
        return None
    traces = [
        {
            "x": [float(f"{value:.5g}") for value in each.values],
            "y": [round(100 * q, 2) for q in each.q],
            "name": model,
            "mode": "lines",
            "line": {"color": COLOURS[number % len(COLOURS)], "width": 2},
            "hovertemplate": f"%{{y:.0f}} % within %{{x}} {sample.unit}",
        }
        for number, (model, each) in enumerate(found.items())
    ]
    said = [
        f"{model}: half within {np.interp(0.5, each.q, each.values):.3g}, all within {each.values[-1]:.3g} {sample.unit}"
        for model, each in found.items()
    ]
    layout = {
        "xaxis": {"rangemode": "tozero", "ticksuffix": f" {sample.unit}"},
        "yaxis": {"title": {"text": "share within (%)"}, "range": [0, 102]},
        "hovermode": "closest",
        "showlegend": len(found) > 1,
    }
    return Chart(
        name=key.removesuffix("_ms"),
        title=sample.label,
        note=f"{sum(each.n for each in found.values()):,} values",
        alternative=f"Distribution of {sample.label}. {'; '.join(said)}.",
        plot={"data": traces, "layout": layout, "name": f"benchmark-{run.pk}-{key.removesuffix('_ms')}"},
    )


def _timeline(run: Run, summaries: dict[str, Summary]) -> tuple[Chart | None, list[str]]:
    """Strips over one time axis: what the load did, and what the machine did meanwhile. With what is left out, and why."""
    ends = [summary.timeline.at[-1] for summary in summaries.values() if summary.timeline.at]
    if run.started_at is None or not ends:
        return None, []
    start = run.started_at.timestamp()
    strips = [
        Strip(
            "Output", "tok/s", [_trace(*each, "tokens_per_s", start) for each in enumerate(summaries.items())]
        ),
        Strip(
            "Running", "requests", [_trace(*each, "running", start) for each in enumerate(summaries.items())]
        ),
    ]
    hosted, left_out = _host_strips(run, start, max(ends) + 1)
    strips += hosted
    titles = ", ".join(strip.title for strip in strips)
    return Chart(
        name="timeline",
        title="Timeline",
        note="second by second",
        alternative=f"Over the time of the run: {titles}.",
        plot={
            "data": _stacked(strips),
            "layout": _stacked_layout(strips, n_models=len(summaries)),
            "name": f"benchmark-{run.pk}-timeline",
        },
    ), left_out


def _trace(number: int, item: tuple[str, Summary], key: str, start: float) -> Trace:
    """A line of one model, broken where another model had its turn."""
    model, summary = item
    x: list[float | None] = []
    y: list[float | None] = []
    for at, value in zip(summary.timeline.at, getattr(summary.timeline, key), strict=True):
        middle = round(at - start + 0.5, 2)
        if x and x[-1] is not None and middle - x[-1] > 1.01:
            x.append(None)
            y.append(None)
        x.append(middle)
        y.append(round(value, 2))
    return {
        "x": x, "y": y, "name": model, "legendgroup": model, "showlegend": key == "tokens_per_s",
        # steps: a value belongs to its whole second; markers: a round of one second has no line
        "line": {"color": COLOURS[number % len(COLOURS)], "width": 1.5, "shape": "hvh"},
        "mode": "lines+markers", "marker": {"size": 4},
    }  # fmt: skip


def _host_strips(run: Run, start: float, end: float) -> tuple[list[Strip], list[str]]:
    metrics = {metric for metric, _, _ in HOST_SERIES}
    names = [name for name in series_names(run.host) if name.partition("{")[0] in metrics]
    answer = query(run.host, names, int(start), int(end) + 1)
    strips, left_out = [], []
    for metric, title, unit in HOST_SERIES:
        traces: list[Trace] = []
        for name in (each for each in names if each.partition("{")[0] == metric):
            mean = answer.series[name].mean
            if np.isnan(mean).all():
                continue
            x = answer.start - start + answer.step * (np.arange(len(mean)) + 0.5)
            y = [None if np.isnan(value) else round(float(value), 2) for value in mean]
            label = name.partition("{")[2].rstrip("}").replace("=", " ") or title
            colour = COLOURS[(len(traces) + 3) % len(COLOURS)]
            traces.append(
                {
                    "x": x.round(2).tolist(),
                    "y": y,
                    "name": label,
                    "showlegend": False,
                    "line": {"color": colour, "width": 1.5},
                }
            )
        if traces:
            strips.append(Strip(title, unit, traces))
        else:
            left_out.append(f"{title} is not shown: {_why_missing(run, metric)}.")
    return strips, left_out


def _why_missing(run: Run, metric: str) -> str:
    reason = (run.fingerprint.get("host") or {}).get("gpu_reason")
    if metric.startswith("gpu") and reason:
        return str(reason)
    return "the collector recorded nothing in that time"


def _stacked(strips: list[Strip]) -> list[Trace]:
    return [
        {"mode": "lines", **trace, "yaxis": f"y{number if number > 1 else ''}"}
        for number, strip in enumerate(strips, 1)
        for trace in strip.traces
    ]


def _stacked_layout(strips: list[Strip], *, n_models: int) -> dict[str, Any]:
    height = 1 / len(strips)
    last = f"y{len(strips)}" if len(strips) > 1 else "y"
    layout: dict[str, Any] = {
        "height": STRIP_PX * len(strips) + 80,
        "xaxis": {"title": {"text": "seconds since the start of the run"}, "anchor": last},
        "legend": {"y": 1.06},
        "showlegend": n_models > 1,
    }
    for number, strip in enumerate(strips, 1):
        top = 1 - (number - 1) * height
        layout[f"yaxis{number if number > 1 else ''}"] = {
            "domain": [round(top - height + (SPACE if number < len(strips) else 0), 4), round(top, 4)],
            "title": {"text": f"{strip.title}<br>{strip.unit}", "font": {"size": 11}},
            "rangemode": "tozero",
            "nticks": 4,
        }
    return layout
