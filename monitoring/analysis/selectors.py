"""Questions of the analysis: to the store, and about findings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import Q, QuerySet

from monitoring import selectors
from monitoring.alerts.series import format_value, split_series, unit_of
from monitoring.analysis.catalogue import BUSY_AT, LOAD, chosen, limit_of
from monitoring.analysis.usual import (
    BLOCK_S,
    BUCKET_S,
    DAY_S,
    HOUR_S,
    IN_WINDOW,
    MINUTE_S,
    States,
    Usual,
    load_states,
)
from monitoring.analysis.words import STATES
from monitoring.models import Analysis, Baseline, Finding, Group
from monitoring.models.finding import GROUP_OF
from monitoring.store.packing import Floats
from monitoring.store.rollups import Buckets

PAST_S = 28 * DAY_S  # as long as minutes are kept, in whole weeks
AT_ONCE = 10  # series in memory
LIMIT_AGE_S = 3600


@dataclass(frozen=True)
class Past:
    """Minutes of one series from `start` on, up to the newest whole hour; NaN and UNKNOWN where nothing is known."""

    name: str
    start: int
    minutes: Floats
    states: States
    limit: float | None


def pasts(host: str, names: list[str], now: int) -> Iterator[Past]:
    """Of `names`, AT_ONCE of them in memory."""
    end = now - now % HOUR_S
    start = end - PAST_S
    n = PAST_S // MINUTE_S
    load = selectors.read(host, [LOAD], start, end, MINUTE_S).series[LOAD]
    states = load_states(load if load.count.any() else None, n, BUSY_AT)
    limits = _limits(host, names, now)
    for first in range(0, len(names), AT_ONCE):
        part = names[first : first + AT_ONCE]
        answer = selectors.read(host, part, start, end, MINUTE_S)
        for name in part:
            if answer.series[name].count.any():
                yield Past(name, start, answer.series[name].mean, states, limits.get(name))


def _limits(host: str, names: list[str], now: int) -> dict[str, float]:
    asked = {name: limit for name in names if (limit := limit_of(name)) is not None}
    others = [limit for limit in asked.values() if isinstance(limit, str)]
    found = {name: limit for name, limit in asked.items() if isinstance(limit, float)}
    if others:
        answer = selectors.read(host, others, now - LIMIT_AGE_S, now, MINUTE_S)
        newest = {name: _newest(buckets) for name, buckets in answer.series.items()}
        for name, limit in asked.items():
            value = newest.get(limit) if isinstance(limit, str) else None
            if value:
                found[name] = value
    return found


def _newest(buckets: Buckets) -> float | None:
    place = buckets.newest()
    return float(buckets.mean[place]) if place >= 0 else None


@dataclass(frozen=True)
class Windows:
    """The newest IN_WINDOW buckets of BUCKET_S, from `start` on."""

    start: int
    means: dict[str, Floats]
    states: States


def newest_windows(host: str, names: list[str], now: int) -> Windows:
    end = now - now % BUCKET_S
    start = end - BLOCK_S
    answer = selectors.read(host, [*names, LOAD], start, end, BUCKET_S)
    load = answer.series[LOAD]
    states = load_states(load if load.count.any() else None, IN_WINDOW, BUSY_AT)
    means = {
        name: np.where(answer.series[name].count > 0, answer.series[name].mean, np.nan) for name in names
    }
    return Windows(answer.start, means, states)


def baselines(host: str) -> dict[str, Usual]:
    rows = Baseline.objects.filter(series__host=host).values_list("series__name", "usual")
    return {name: Usual.of_json(usual) for name, usual in rows}


def open_findings(host: str) -> QuerySet[Finding]:
    return Finding.objects.filter(host=host, ended_at=None)


def incident_of(finding: Finding) -> list[Finding]:
    """Those that began with it and itself, the leading one first."""
    leader = finding.leader or finding
    return [leader, *leader.members.order_by("began_at", "pk")]


def filtered_findings(host: str, asked: dict[str, Any]) -> QuerySet[Finding]:
    """One of each incident, the leading one. `show`: open, dismissed or ended; and where they are given `group` and `series`, a
    part of the name of one of them."""
    of_host = Finding.objects.filter(host=host, leader=None).prefetch_related("members")
    found = {
        "open": of_host.filter(ended_at=None, dismissed_at=None),
        "dismissed": of_host.filter(ended_at=None).exclude(dismissed_at=None),
        "ended": of_host.exclude(ended_at=None).order_by("-ended_at"),
    }[asked.get("show") or "open"]
    if group := asked.get("group"):
        found = found.filter(kind__in=[kind for kind, of in GROUP_OF.items() if of == group])
    if text := asked.get("series"):
        named = Q(series__icontains=text) | Q(members__series__icontains=text)
        found = found.filter(named).distinct()
    return found


def grouped(findings: list[Finding]) -> list[tuple[Group, list[Finding]]]:
    """In the order of the page; groups with nothing in them are left out."""
    found = [(group, [each for each in findings if each.group is group]) for group in Group]
    return [(group, members) for group, members in found if members]


@dataclass(frozen=True)
class UsualRow:
    """Of one series, at one instant: by load state (in words, empty with one population) the range of 90 % of its past."""

    series: str
    weeks: float
    hours: str
    ranges: list[tuple[str, str, str, str]]  # state, from, middle, to


def usual_now(host: str, now: int) -> list[UsualRow]:
    found = []
    for name, usual in sorted(baselines(host).items()):
        unit = unit_of(split_series(name)[0])
        alone = len(usual.populations) == 1
        ranges = []
        for state, population in usual.populations.items():
            low, high = population.range_at(now)
            middle = float(population.expected(now))
            shown = [format_value(value, unit) for value in (low, middle, high)]
            ranges.append(("" if alone else STATES[state], *shown))
        n_hours = max(len(each.profile) for each in usual.populations.values())
        hours = {0: "one for all hours", 24: "by hour of day", 168: "by hour of week"}[n_hours]
        found.append(UsualRow(name, usual.weeks, hours, ranges))  # type: ignore[arg-type]
    return found


def analysis_of(host: str) -> Analysis | None:
    return Analysis.objects.filter(host=host).first()


def series_to_study(host: str) -> tuple[list[str], int]:
    """(those that are looked at, how many are left out)."""
    names = selectors.series_names(host)
    found = chosen(names)
    return found, len(names) - len(found)
