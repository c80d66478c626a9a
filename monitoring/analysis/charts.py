"""The chart of a finding: its series with what it is compared to, for static/js/plots.js."""

from datetime import datetime
from typing import Any

import numpy as np

from monitoring import selectors
from monitoring.alerts.charts import across, beside, upright
from monitoring.alerts.series import format_value, unit_of
from monitoring.analysis.study import Kind
from monitoring.analysis.usual import BLOCK_S, DAY_S, HOUR_S, WEEK_S, Usual
from monitoring.models import Baseline, Finding
from monitoring.store.packing import Floats

POINTS = 400
AROUND_S = 6 * HOUR_S
Plot = dict[str, Any]


def span_of(finding: Finding, now: datetime) -> tuple[int, int]:
    """What the chart shows of the past (s since 1970)."""
    facts = finding.facts
    if finding.kind == Kind.ANOMALY:
        ended = (finding.ended_at or now).timestamp()
        return int(finding.began_at.timestamp()) - AROUND_S, int(min(ended + HOUR_S, now.timestamp()))
    if finding.kind == Kind.CHANGE:
        return int(facts["since"]), int(facts["until"])
    if finding.kind == Kind.VOLATILITY:
        return int(facts["until"]) - DAY_S, int(facts["until"])
    return int(facts["until"] - facts["hours"] * HOUR_S), int(facts["until"])


def finding_chart(finding: Finding, now: datetime) -> Plot | None:
    """Plotly data and layout, times in ms since 1970; None where the store knows nothing of that time any more."""
    start, end = span_of(finding, now)
    times, values = _values(finding, start, end)
    if not np.isfinite(values).any():
        return None
    data = [_line(times, values, finding.metric, "--s1")]
    layout: Plot = {
        "margin": {"b": 36},
        "showlegend": True,
        "xaxis": {"type": "date", "range": [start * 1000, end * 1000]},
        "yaxis": {"ticksuffix": f" {unit}" if (unit := unit_of(finding.metric)) else ""},
        "shapes": [],
        "annotations": [],
    }
    draw = {
        Kind.ANOMALY: _unlike, Kind.FORECAST: _heading, Kind.TREND: _heading, Kind.CHANGE: _levels,
        Kind.VOLATILITY: _week_before,
    }  # fmt: skip
    draw[Kind(finding.kind)](finding, times, data, layout)
    return {"data": data, "layout": layout, "name": f"finding-{finding.pk}"}


def _values(finding: Finding, start: int, end: int) -> tuple[Floats, Floats]:
    answer = selectors.query(finding.host, [finding.series], start, end, points=POINTS)
    values = answer.series[finding.series].mean
    times: Floats = answer.start + answer.step * (np.arange(len(values), dtype=np.float64) + 0.5)
    return times, values


def _line(times: Floats, values: Floats, name: str, colour: str, **look: Any) -> Plot:
    known = np.isfinite(values)
    return {
        "x": [int(each * 1000) for each in times],
        "y": [float(f"{value:.5g}") if ok else None for value, ok in zip(values, known, strict=True)],
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "line": {"color": colour, "width": 1.5, **look},
        "connectgaps": False,
    }


def _band(times: Floats, low: Floats, high: Floats, name: str) -> list[Plot]:
    edge = {**_line(times, low, name, "--s2", width=0), "showlegend": False, "hoverinfo": "skip"}
    # Without a fillcolor Plotly takes half of the line's.
    filled = {**_line(times, high, name, "--s2", width=0), "fill": "tonexty", "hoverinfo": "skip"}
    return [edge, filled]


def _unlike(finding: Finding, times: Floats, data: list[Plot], layout: Plot) -> None:
    """The band of what was usual, as far as it is known still: by hour; else that of the moment it was found."""
    row = Baseline.objects.filter(series__host=finding.host, series__name=finding.series).first()
    population = Usual.of_json(row.usual).populations.get(finding.facts["state"]) if row else None
    if population is not None:
        middle = population.expected(times)
        low, high = middle - population.below.start, middle + population.above.start
    else:
        low, high = (np.full(len(times), finding.facts[name]) for name in ("low", "high"))
    data[:0] = _band(times, low, high, f"usual: 90 % of {BLOCK_S // 60} min means")
    layout["shapes"].append(upright(finding.began_at, "--crit"))
    if finding.ended_at is not None:
        layout["shapes"].append(upright(finding.ended_at, "--ok"))


def _heading(finding: Finding, times: Floats, data: list[Plot], layout: Plot) -> None:
    """The line, and the fan of its interval on to the limit."""
    facts = finding.facts
    end, limit = facts["until"], facts["limit"]
    ahead_h = min(facts.get("latest_h", 0.0), 4 * facts["hours"])
    spots = np.linspace(-facts["hours"], ahead_h, 60)
    when = end + spots * HOUR_S
    line = facts["level"] + facts["slope"] * spots
    if ahead_h:
        fan = spots[spots >= 0]
        scatter = 1.96 * facts["scale"]
        low, high = (
            facts["level"] + facts[name] * fan + off for name, off in (("low", -scatter), ("high", scatter))
        )
        data += _band(
            end + fan * HOUR_S, low, np.minimum(high, limit + scatter), "95 % of the slope, and scatter"
        )
        layout["xaxis"]["range"][1] = int((end + ahead_h * HOUR_S) * 1000)
    if limit is not None and "in_h" in facts:
        line = np.minimum(line, limit)
        shown = format_value(limit, unit_of(finding.metric))
        layout["shapes"].append(across(limit, "--crit", "dash"))
        layout["annotations"].append(beside(limit, f"limit {shown}", "--crit", top=False))
    data.append(_line(when, line, "Theil-Sen line", "--s4", dash="dash"))


def _levels(finding: Finding, times: Floats, data: list[Plot], layout: Plot) -> None:
    at = finding.began_at.timestamp()
    ends = ((float(times[0]), at, "before", "--s3"), (at, float(times[-1]), "after", "--s4"))
    for start, end, name, colour in ends:
        level = np.full(2, finding.facts[name])
        data.append(_line(np.array([start, end]), level, f"median {name}", colour, dash="dash"))
    layout["shapes"].append(upright(finding.began_at, "--warn"))


def _week_before(finding: Finding, times: Floats, data: list[Plot], layout: Plot) -> None:
    start, end = span_of(finding, finding.seen_at)
    then, values = _values(finding, start - WEEK_S, end - WEEK_S)
    data.insert(0, _line(then + WEEK_S, values, "a week earlier", "--s3"))
    data[-1]["name"] = "the last day"
