"""What a view shows: series of the right tier, their summaries, and what happened meanwhile."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import numpy as np
from django.db.models import Q
from django.urls import reverse

from monitoring.alerts.series import duration
from monitoring.history.groups import Group, group_of, labels_in, rank, words_of
from monitoring.history.parameters import COMPARISONS, Catalogue, View
from monitoring.history.summary import Summary, summarize
from monitoring.models import Alert, Event, Series
from monitoring.selectors import POINTS, merged_buckets, pick_tier, read
from monitoring.store.packing import Floats, is_counter
from monitoring.store.rollups import RAW_S, Buckets

MAX_EVENTS, MAX_ALERTS = 250, 200


@dataclass(frozen=True)
class Stretch:
    """All lines of a view over one time, in buckets of `step` = `tier` x a whole number, from `start` on (s)."""

    tier: int
    wanted_tier: int  # that the length of the time asks for; `tier` is coarser where it is no longer kept
    step: int
    start: int
    lines: dict[tuple[str, str], tuple[Buckets, Summary]]


def catalogue() -> Catalogue:
    """The names of the series of each host."""
    found: dict[str, list[str]] = defaultdict(list)
    for host, name in Series.objects.order_by("host", "name").values_list("host", "name"):
        found[host].append(name)
    return found


def metrics(names: Catalogue) -> list[dict[str, Any]]:
    """The charts that these could fill, in order, with the metrics of each: what the picker lists."""
    every = sorted({name.partition("{")[0] for each in names.values() for name in each}, key=rank)
    charts: dict[Group, list[str]] = defaultdict(list)
    for metric in every:
        charts[group_of(metric)].append(metric)
    return [
        {
            "title": group.title,
            "unit": group.unit,
            "metrics": [{"name": metric, "label": words_of(metric)} for metric in charts[group]],
        }
        for group in sorted(charts)
    ]


def stretch(view: View, now: float, *, earlier_s: int = 0, points: int = POINTS) -> Stretch:
    """The lines of the view, or of the same time `earlier_s` before; about `points` buckets each."""
    start, end = view.start - earlier_s, view.end - earlier_s
    tier = pick_tier(end - start, points=POINTS, age_s=now - start)
    step = tier * merged_buckets(end - start, tier, points)
    begin = start - start % step
    first = (start - start % tier - begin) // tier
    possible = min(end, now) - start
    names: dict[str, list[str]] = defaultdict(list)
    for host, name in view.lines:
        names[host].append(name)
    lines = {}
    for host, of_host in names.items():
        answer = read(host, of_host, begin, end, tier)
        for name, buckets in answer.series.items():
            inner = Buckets(*(each[first:] for each in vars(buckets).values()))
            summary = summarize(inner, begin + first * tier, tier, possible)
            lines[host, name] = (buckets.merged(step // tier), summary)
    ordered = {line: lines[line] for line in view.lines}
    return Stretch(tier, pick_tier(end - start, points=POINTS), step, begin, ordered)


def charts(view: View, now: float) -> dict[str, Any]:
    """Everything that the page draws; times in s since 1970, unknown is None, and NaN in an array."""
    shown = stretch(view, now)
    then = stretch(view, now, earlier_s=view.earlier_s) if view.compare else None
    banded = view.band and shown.step > RAW_S
    drawn = []
    for group, lines in groupby(
        sorted(view.lines, key=_chart_order), key=lambda line: group_of(_metric(line))
    ):
        members = list(lines)
        labels = labels_in([name for _, name in members])
        drawn.append(
            {
                "title": group.title,
                "unit": group.unit,
                "lines": [
                    _line(line, _label(line, labels, view), shown, then, banded=banded) for line in members
                ],
            }
        )
    return {
        "from": view.start,
        "to": view.end,
        "range": view.range,
        "now": now,
        "start": shown.start,
        "step": shown.step,
        "tier": shown.tier,
        "resolution": resolution(shown),
        "p95": p95_note(shown.tier),
        "compared": _compared(view, shown, then),
        "missing": view.missing,
        "charts": drawn,
        "events": events(view),
    }


def _metric(line: tuple[str, str]) -> str:
    return line[1].partition("{")[0]


def _chart_order(line: tuple[str, str]) -> tuple[Group]:
    return (group_of(_metric(line)),)


def _label(line: tuple[str, str], labels: Any, view: View) -> str:
    host, name = line
    return f"{labels[name]} · {host}" if len(view.hosts) > 1 else str(labels[name])


def _line(
    line: tuple[str, str], label: str, shown: Stretch, then: Stretch | None, *, banded: bool
) -> dict[str, Any]:
    host, name = line
    digits = 15 if is_counter(name) else 5
    buckets, summary = shown.lines[line]
    found: dict[str, Any] = {
        "host": host,
        "name": name,
        "label": label,
        "mean": rounded(buckets.mean, digits),
        "summary": asdict(summary),
    }
    if banded:
        found |= {"low": rounded(buckets.low, digits), "high": rounded(buckets.high, digits)}
    if then is not None:
        before, its_summary = then.lines[line]
        found |= {"then": rounded(before.mean, digits), "then_mean": its_summary.mean}
    return found


def rounded(values: Floats, digits: int = 5) -> Floats:
    """To that many significant digits; unknown is NaN."""
    size = np.abs(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.where(size > 0, np.floor(np.log10(size)), 0)
        shift = np.clip(digits - 1 - np.nan_to_num(power), -300, 300)
        up, down = (
            10.0 ** np.maximum(shift, 0),
            10.0 ** np.maximum(-shift, 0),
        )  # whole powers: no digits of rounding
        found = np.rint(values * up / down) * down / up
        found = np.where(np.isfinite(found), found, values)
    return np.where(np.isfinite(values), found, np.nan)


def resolution(shown: Stretch) -> str:
    """What a point of the charts is, in a sentence."""
    if shown.step == RAW_S:
        said = "Every second"
    elif shown.tier == RAW_S:
        said = f"A point is {duration(shown.step)} of 1 s samples"
    elif shown.step == shown.tier:
        said = f"A point is a mean of {duration(shown.tier)}"
    else:
        said = f"A point is {duration(shown.step)}, from means of {duration(shown.tier)}"
    if shown.tier > shown.wanted_tier:
        said += f"; nothing finer is kept for that long ({duration(shown.wanted_tier)} would fit)"
    return f"{said}."


def p95_note(tier: int) -> str:
    if tier == RAW_S:
        return "p95 is of the 1 s samples."
    return f"p95 is of means of {duration(tier)}: shorter peaks are not in it. min and max are of the 1 s samples."


def _compared(view: View, shown: Stretch, then: Stretch | None) -> dict[str, Any] | None:
    if then is None:
        return None
    label = COMPARISONS[view.compare][0]
    return {
        "label": label,
        "start": then.start + view.earlier_s,
        "step": then.step,
        "resolution": f"Dashed: {label}." + ("" if then.step == shown.step else f" {resolution(then)}"),
    }


def events(view: View) -> dict[str, Any]:
    """What happened on the hosts, oldest first, and the alerts that were open; the newest where there are too many."""
    span = datetime.fromtimestamp(view.start, UTC), datetime.fromtimestamp(view.end, UTC)
    marks = Event.objects.filter(host__in=view.hosts, at__gte=span[0], at__lt=span[1]).order_by("-at", "-id")
    rows = list(marks.values_list("at", "kind", "text", "host")[: MAX_EVENTS + 1])
    n = len(rows) if len(rows) <= MAX_EVENTS else marks.count()
    alerts = Alert.objects.filter(
        Q(resolved_at=None) | Q(resolved_at__gt=span[0]), host__in=view.hosts, fired_at__lt=span[1]
    )
    return {
        "n": n,
        "marks": [
            {"at": at.timestamp(), "kind": kind, "text": text, "host": host}
            for at, kind, text, host in reversed(rows[:MAX_EVENTS])
        ],
        "alerts": [
            {
                "from": alert.fired_at.timestamp(),
                "to": alert.resolved_at.timestamp() if alert.resolved_at else None,
                "severity": alert.severity_name,
                "text": str(alert),
                "url": reverse("alert", args=[alert.pk]),
            }
            for alert in alerts.order_by("-fired_at")[:MAX_ALERTS]
        ],
    }
