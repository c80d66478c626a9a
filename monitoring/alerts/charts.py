"""The chart of an episode: its series with the thresholds, for static/js/plots.js."""

from datetime import datetime
from typing import Any

import numpy as np

from monitoring import selectors
from monitoring.alerts.conditions import Kind, RuleSpec, companions_of
from monitoring.alerts.preview import Firing, Preview
from monitoring.alerts.series import format_value, unit_of
from monitoring.alerts.windows import Aggregate
from monitoring.models import Alert, Rule
from monitoring.store.packing import Floats

BEFORE_S, AFTER_S = 900, 300
POINTS = 400


def episode_chart(alert: Alert, now: datetime) -> dict[str, Any] | None:
    """Plotly data and layout, times in ms since 1970; None where the store knows nothing of that time."""
    ended = alert.resolved_at or now
    lasted = (ended - alert.fired_at).total_seconds()
    start = int(alert.fired_at.timestamp() - max(BEFORE_S, lasted / 4))
    end = int(min(ended.timestamp() + max(AFTER_S, lasted / 4), now.timestamp())) + 1
    times, values = _values(alert, start, end)
    known = np.isfinite(values)
    if not known.any():
        return None
    line = {"color": "--s1", "width": 1.6}
    trace = {
        "x": [int(each * 1000) for each in times],
        "y": [float(f"{value:.5g}") if ok else None for value, ok in zip(values, known, strict=True)],
        "type": "scatter",
        "mode": "lines",
        "name": alert.series.partition("{")[0],
        "line": line,
        "connectgaps": False,
    }
    name = f"alert-{alert.pk}"
    return {"data": [trace], "layout": _layout(alert, values[known], start, end), "name": name}


def _values(alert: Alert, start: int, end: int) -> tuple[Floats, Floats]:
    rule = alert.rule
    names = [alert.series]
    share = rule is not None and rule.kind == Kind.THRESHOLD and rule.aggregate == Aggregate.SHARE
    if rule is not None and share:
        names += companions_of(rule.spec(), alert.series)
    answer = selectors.query(alert.host, names, start, end, points=POINTS)
    values = answer.series[names[0]].mean
    if share:
        whole = answer.series[names[1]].mean
        values = np.divide(100 * values, whole, out=np.full(len(values), np.nan), where=whole > 0)
    return answer.start + answer.step * np.arange(len(values), dtype=np.float64), values


def _layout(alert: Alert, known: Floats, start: int, end: int) -> dict[str, Any]:
    # What other conditions compare has another unit than the series: their thresholds are no heights of it.
    compared = alert.kind == Kind.THRESHOLD
    unit = (alert.unit if compared else "") or unit_of(alert.series.partition("{")[0])
    limits = [alert.clear_at, alert.fire_at] if compared else []
    if alert.kind == Kind.FORECAST and alert.rule is not None and alert.rule.limit is not None:
        limits = [alert.rule.limit]
    low, high = min([float(known.min()), *limits]), max([float(known.max()), *limits])
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    marks = [(alert.fired_at, "--crit")]
    if alert.resolved_at is not None:
        marks.append((alert.resolved_at, "--ok"))
    shapes, notes = [upright(at, colour) for at, colour in marks], []
    if compared:
        shapes = [across(alert.fire_at, "--crit", "solid"), across(alert.clear_at, "--ok", "dash"), *shapes]
        notes = [
            beside(alert.fire_at, f"fires at {alert.shown(alert.fire_at)}", "--crit", top=alert.above),
            beside(alert.clear_at, f"clears at {alert.shown(alert.clear_at)}", "--ok", top=not alert.above),
        ]
    elif limits:
        shapes.append(across(limits[0], "--crit", "dash"))
        notes = [beside(limits[0], f"limit {format_value(limits[0], unit)}", "--crit", top=False)]
    return {
        "margin": {"b": 36},
        "showlegend": False,
        "shapes": shapes,
        "annotations": notes,
        "xaxis": {"type": "date", "range": [start * 1000, end * 1000]},
        "yaxis": {"range": [low - room, high + room], **_ticks(unit)},
    }


MOST_LINES = 6


def preview_chart(found: Preview, rule: Rule, spec: RuleSpec) -> dict[str, Any]:
    """What was compared with its thresholds, and below it the series where that is something else; firings shaded."""
    compares = spec.kind is not Kind.NO_DATA
    alone = spec.kind in (Kind.THRESHOLD, Kind.COMPOSITE) or not compares
    data = []
    for place, line in enumerate(found.lines[:MOST_LINES]):
        look = {"color": f"--s{place + 1}", "width": 1.4}
        rows = [("y", line.compared)] if compares else [("y", line.plain)]
        if not alone:
            rows.append(("y2", line.plain))
        data += [_trace(found, line.series, values, axis, look) for axis, values in rows]
    terms = spec.terms
    n = sum(bool(line.firings) for line in found.lines[:MOST_LINES])
    shapes = [_shade(each, found.end, n) for line in found.lines[:MOST_LINES] for each in line.firings]
    if compares:
        shapes += [across(terms.fire_at, "--crit", "solid"), across(terms.clear_at, "--ok", "dash")]
        if terms.critical_at is not None:
            shapes.append(across(terms.critical_at, "--crit", "dot"))
    unit = rule.unit if compares else unit_of(rule.metric)
    yaxis: dict[str, Any] = {**_ticks(unit), "rangemode": "normal"}
    if spec.kind is Kind.FORECAST:  # "not within a year" would press the rest to the ground
        yaxis["range"] = [0, 3 * max(terms.clear_at, terms.fire_at)]
    layout: dict[str, Any] = {
        "margin": {"b": 36},
        "showlegend": len(found.lines) > 1,
        "shapes": shapes,
        "xaxis": {"type": "date", "range": [found.start * 1000, found.end * 1000]},
        "yaxis": yaxis,
    }
    if not alone:
        yaxis["domain"] = [0.5, 1]
        own = unit_of(rule.metric)
        layout["yaxis2"] = {"domain": [0, 0.42], **_ticks(own)}
        layout["xaxis"]["anchor"] = "y2"
    return {"data": data, "layout": layout, "name": "preview"}


def _ticks(unit: str) -> dict[str, Any]:
    """How an axis says its unit; bytes with k, M, G in place of Plotly's "B" for a billion."""
    if unit.startswith("B"):
        return {"exponentformat": "SI", "ticksuffix": unit}
    return {"ticksuffix": f" {unit}" if unit else ""}


def _trace(found: Preview, name: str, values: Floats, axis: str, look: dict[str, Any]) -> dict[str, Any]:
    known = np.isfinite(values)
    return {
        "x": [(found.start + (place * found.step)) * 1000 for place in range(len(values))],
        "y": [float(f"{value:.5g}") if ok else None for value, ok in zip(values, known, strict=True)],
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "line": look,
        "connectgaps": False,
        "yaxis": axis,
        "legendgroup": name,
        "showlegend": axis == "y",
    }


def _shade(firing: Firing, end: int, n_series: int) -> dict[str, Any]:
    """The more series fire, the fainter: shades lie over one another."""
    until = firing.end if firing.end is not None else end
    return {
        "type": "rect",
        "yref": "paper",
        "x0": firing.start * 1000,
        "x1": until * 1000,
        "y0": 0,
        "y1": 1,
        "fillcolor": "--crit" if firing.critical else "--warn",
        "opacity": 0.2 / max(n_series, 1) ** 0.5,
        "line": {"width": 0},
        "layer": "below",
    }


def across(value: float, colour: str, dash: str) -> dict[str, Any]:
    line = {"color": colour, "width": 1, "dash": dash}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}


def upright(at: datetime, colour: str) -> dict[str, Any]:
    ms = int(at.timestamp() * 1000)
    line = {"color": colour, "width": 1, "dash": "dot"}
    return {"type": "line", "yref": "paper", "x0": ms, "x1": ms, "y0": 0, "y1": 1, "line": line}


def beside(value: float, text: str, colour: str, *, top: bool) -> dict[str, Any]:
    where = {"xref": "paper", "x": 0, "y": value, "xanchor": "left", "yanchor": "bottom" if top else "top"}
    return {**where, "text": text, "showarrow": False, "font": {"color": colour, "size": 11}}
