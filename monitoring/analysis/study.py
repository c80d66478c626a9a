"""What is tried on each series, and what of it is said. No Django in here.

A look judges the newest minutes by what is usual; a study looks over the last week. Each gives one candidate per question,
with its p; what is believed is decided over all of them together."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from monitoring.analysis.catalogue import matters
from monitoring.analysis.changes import scatter_of, shift_of
from monitoring.analysis.families import believed
from monitoring.analysis.heading import Heading, Places, arrival_at, heading_of, without_hours
from monitoring.analysis.usual import (
    BLOCK_S,
    BUCKET_S,
    DAY_S,
    HOUR_S,
    IN_WINDOW,
    MINUTE_S,
    WEEK_S,
    States,
    Usual,
    usual_of,
)
from monitoring.analysis.wall_clock import DEFAULT, wall
from monitoring.store.packing import Floats

# A look a minute and a study an hour, for ever: how often either may say something where there is nothing. LOOK_P: the p that a
# single series needs at least, for about 3,360 windows a week that do not overlap.
LOOK_Q, LOOK_P = 3e-4, 1e-4
STUDY_Q = 0.01
LEAST_DAYS = 3  # of a week, for trends and changes
SCATTERS = 2.0  # times as much, or as little, is worth a word
WEEK_MINUTES, WEEK_HOURS = WEEK_S // MINUTE_S, WEEK_S // HOUR_S


class Kind(StrEnum):
    ANOMALY = "anomaly"
    FORECAST = "forecast"
    TREND = "trend"
    CHANGE = "change"
    VOLATILITY = "volatility"


@dataclass(frozen=True)
class Candidate:
    """`said`: it is large enough, and everything but its p speaks for it. `size`: how much, with a sign, for telling whether it
    became another one. `began`: s since 1970. `facts`: JSON, for words and charts."""

    kind: Kind
    series: str
    p: float
    said: bool
    size: float = 0.0
    began: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def look(name: str, usual: Usual, start: int, means: Floats, states: States) -> Candidate | None:
    """The window of IN_WINDOW buckets from `start` on; None where nothing can be said of it."""
    found = usual.judge(start, means, states)
    if found is None:
        return None
    low, high = usual.populations[found.state].range_at(start + BLOCK_S / 2)
    facts = {
        "value": found.value, "expected": found.expected, "z": found.z, "state": found.state, "low": low, "high": high,
        "n": usual.populations[found.state].n, "weeks": usual.weeks, "since": usual.since,
        "by_hour": len(usual.populations[found.state].profile), "alone": len(usual.populations) == 1,
        "is_usual": found.is_usual,
    }  # fmt: skip
    said = found.agrees and matters(name, found.away, found.expected)
    return Candidate(Kind.ANOMALY, name, found.p, said, found.away, start, facts)


@dataclass(frozen=True)
class Studied:
    """`usual` is None while too little is known."""

    usual: Usual | None
    candidates: list[Candidate]


def study(
    name: str, start: int, minutes: Floats, states: States, limit: float | None, zone: str = DEFAULT
) -> Studied:
    """`minutes`: means up to now, from `start` on, a multiple of an hour; NaN where nothing is known. `zone`: whose hours of the
    day and of the week count."""
    n = len(minutes) - len(minutes) % 60
    end = start + n * MINUTE_S
    week = minutes[max(n - WEEK_MINUTES, 0) : n]
    hours = hourly(week)
    first = int(np.argmax(np.isfinite(hours))) if np.isfinite(hours).any() else len(hours)
    hours = hours[first:]  # a host that is new has a shorter week
    candidates = []
    if len(hours) >= LEAST_DAYS * 24:
        places = hours_of_day(end, len(hours), zone)
        trend = heading_of(hours, 1.0, per_day=24, places=places)
        if trend is not None:
            candidates.append(_of_trend(name, trend, limit, end))
        candidates += _of_shift(name, hours, end, trend, places)
    if limit is not None:
        day = coarser(minutes[max(n - DAY_S // MINUTE_S, 0) : n], 10)
        if len(day) == 144 and (recent := heading_of(day, 1 / 6)) is not None:
            candidates.append(_of_trend(name, recent, limit, end))
    week_ago = WEEK_MINUTES - int(wall(end, zone) - wall(end - WEEK_S, zone) - WEEK_S) // MINUTE_S
    scatter = scatter_of(minutes[:n], week_ago)
    if scatter is not None:
        large = max(scatter.ratio, 1 / scatter.ratio) >= SCATTERS
        spread = float(np.nanmedian(np.abs(minutes[n - 1440 : n] - np.nanmedian(minutes[n - 1440 : n]))))
        level = float(np.nanmedian(np.abs(minutes[n - 1440 : n])))
        facts = {
            "n": scatter.n, "now": scatter.now_percent, "before": scatter.before_percent, "ratio": scatter.ratio,
            "until": end,
        }  # fmt: skip
        said = large and matters(name, 4 * spread, level)
        candidates.append(
            Candidate(
                Kind.VOLATILITY, name, scatter.p, said, float(np.log2(scatter.ratio)), end - DAY_S, facts
            )
        )
    return Studied(usual_of(start, minutes[:n], states[:n], zone), candidates)


def hours_of_day(end: int, n: int, zone: str) -> Places:
    """By the wall clock, of each of the `n` hours up to `end`."""
    middles = end + HOUR_S * (np.arange(n, dtype=np.float64) + 0.5 - n)
    return (wall(middles, zone) // HOUR_S % 24).astype(np.intp)


def hourly(minutes: Floats) -> Floats:
    return coarser(minutes, 60)


def coarser(values: Floats, factor: int) -> Floats:
    """Means of every `factor` values, where 80 % of them are there; NaN elsewhere."""
    shaped = values[: len(values) // factor * factor].reshape(-1, factor)
    known = np.isfinite(shaped)
    total = np.where(known, shaped, 0.0).sum(1)
    count = known.sum(1)
    return np.where(count >= 0.8 * factor, total / np.maximum(count, 1), np.nan)


def _of_trend(name: str, found: Heading, limit: float | None, end: int) -> Candidate:
    facts: dict[str, Any] = {
        "n": found.n, "slope": found.slope, "low": found.low, "high": found.high, "level": found.level,
        "scale": found.scale, "change": found.change, "hours": found.hours, "until": end, "limit": limit,
    }  # fmt: skip
    said = found.is_sure and matters(name, found.change, found.level)
    began = end - int(found.hours * HOUR_S)
    arrival = arrival_at(limit, found) if limit is not None else None
    if arrival is not None:
        facts |= {"in_h": arrival.hours, "soonest_h": arrival.soonest, "latest_h": arrival.latest}
        # Its size is its nearness: one that was dismissed a month ahead is another one a week ahead.
        return Candidate(Kind.FORECAST, name, found.p, True, 1 / max(arrival.hours, 1.0), began, facts)
    # A day alone is enough for a forecast, not for a trend: it may be any day's.
    said = said and found.hours >= LEAST_DAYS * 24
    return Candidate(Kind.TREND, name, found.p, said, found.slope, began, facts)


def _of_shift(name: str, hours: Floats, end: int, trend: Heading | None, places: Places) -> list[Candidate]:
    found = shift_of(without_hours(hours, 24, places))
    if found is None:
        return []
    change = found.after - found.before
    at = end - (len(hours) - found.at) * HOUR_S
    facts = {
        "n": found.n, "before": found.before, "after": found.after, "until": end, "since": end - len(hours) * HOUR_S,
    }  # fmt: skip
    # What goes up evenly has two levels as well, but no step.
    said = matters(name, change, found.before) and not (trend is not None and trend.is_sure)
    return [Candidate(Kind.CHANGE, name, found.p, said, change, at, facts)]


def believed_of_look(candidates: list[Candidate]) -> list[Candidate]:
    return _believed(candidates, LOOK_Q, LOOK_P)


def believed_of_study(candidates: list[Candidate]) -> list[Candidate]:
    """Of two forecasts of one series the surer one."""
    best: dict[tuple[Kind, str], Candidate] = {}
    for each in sorted(_believed(candidates, STUDY_Q, STUDY_Q), key=lambda one: one.p):
        best.setdefault((each.kind, each.series), each)
    return list(best.values())


def _believed(candidates: Iterable[Candidate], q: float, most: float) -> list[Candidate]:
    tried = list(candidates)
    passed = believed([each.p for each in tried], q, most)
    return [each for each, ok in zip(tried, passed, strict=True) if ok and each.said]


__all__ = [
    "BUCKET_S", "IN_WINDOW", "Candidate", "Kind", "Studied", "believed_of_look", "believed_of_study", "look", "study",
]  # fmt: skip
