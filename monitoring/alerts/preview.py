"""What a rule would have done: the evaluator itself, over the stored seconds of the last day."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from monitoring import selectors
from monitoring.alerts.conditions import Kind, RuleSpec, companions_of
from monitoring.alerts.evaluator import Evaluator, Watched
from monitoring.alerts.machine import Change, State
from monitoring.alerts.past import prime_from_store
from monitoring.store.packing import Floats
from monitoring.store.rollups import RAW_S

SPAN_S, LEAST_SPAN_S = 24 * 3600, 3600
MOST_SERIES = 20
MOST_STEPS = 600_000  # seconds x series, some seconds of work
MOST_WORK_S = 10.0  # whatever the machine
SLICE_S = 3600
GAP_S = 10  # so long without a sample the collector was away
POINTS = 360
HEARTBEAT = "collector_samples_waiting"  # in every sample


@dataclass
class Firing:
    """From `start` to `end` (None: it would fire now), in seconds since 1970."""

    start: int
    end: int | None = None
    critical: bool = False


@dataclass
class Line:
    """One series: firings, what was compared (the worst of each bucket), the means of the series, and how it stands."""

    series: str
    firings: list[Firing] = field(default_factory=list)
    compared: Floats = field(default_factory=lambda: np.full(POINTS, np.nan))
    sums: Floats = field(default_factory=lambda: np.zeros(POINTS))
    counts: Floats = field(default_factory=lambda: np.zeros(POINTS))
    value: float | None = None
    state: State = State.OK

    @property
    def plain(self) -> Floats:
        means: Floats = np.full(POINTS, np.nan)
        np.divide(self.sums, self.counts, out=means, where=self.counts > 0)
        return means

    @property
    def was_compared(self) -> bool:
        return bool(np.isfinite(self.compared).any())

    def seconds(self, end: int) -> int:
        return sum((each.end if each.end is not None else end) - each.start for each in self.firings)


@dataclass
class Preview:
    """Over [start, end), `step` seconds a bucket. `n_series` fit, `n_known` seconds have a sample."""

    start: int
    end: int
    step: int
    lines: list[Line]
    n_series: int
    n_known: int = 0
    cut_short: bool = False

    @property
    def n_fired(self) -> int:
        return sum(len(line.firings) for line in self.lines)

    @property
    def n_series_fired(self) -> int:
        return sum(bool(line.firings) for line in self.lines)

    @property
    def seconds_fired(self) -> int:
        return sum(line.seconds(self.end) for line in self.lines)

    @property
    def missing_percent(self) -> float:
        return 100 - 100 * self.n_known / max(self.end - self.start, 1)


def preview(rule: RuleSpec, others: Iterable[RuleSpec], host: str, now: int) -> Preview:
    """Run `rule` (a composite: with its members, found in `others`) over the last day of `host`, second by second.

    Bounded: MOST_SERIES series, and so much of the day that MOST_STEPS is kept."""
    members = [each for each in others if each.id in rule.members]
    names = selectors.series_names(host)
    fitting = _fitting([rule], names, host)
    chosen = fitting[:MOST_SERIES] or _fitting(members, names, host)[:MOST_SERIES]
    span = max(min(SPAN_S, MOST_STEPS // max(len(chosen), 1)), LEAST_SPAN_S)
    step = -(-span // POINTS)
    start = now - span
    evaluator = Evaluator(host, [*members, rule])
    wanted = {
        *chosen,
        *(name for each in (rule, *members) for one in chosen for name in companions_of(each, one)),
    }
    read = sorted(wanted & set(names) | {HEARTBEAT} & set(names))
    prime_from_store(evaluator, start, read)
    evaluator.miss(start)
    found = Preview(start, now, step, [], len(fitting))
    _run(evaluator, rule, found, host, read)
    return found


def _fitting(rules: Sequence[RuleSpec], names: list[str], host: str) -> list[str]:
    kept = [each for each in rules if each.kind is not Kind.COMPOSITE]
    return [name for name in names if any(each.selector.fits(name, host) for each in kept)]


def _run(evaluator: Evaluator, rule: RuleSpec, found: Preview, host: str, names: list[str]) -> None:
    lines: dict[str, Line] = {}
    began, last = time.monotonic(), found.start - 1
    worse = max if rule.terms.above else min
    for begin in range(found.start, found.end, SLICE_S):
        end = min(begin + SLICE_S, found.end)
        if time.monotonic() - began > MOST_WORK_S:
            found.end, found.cut_short = begin, True
            break
        answer = selectors.query(host, names, begin, end, points=SLICE_S, tier=RAW_S)
        known = np.zeros(end - begin, bool)
        columns = {}
        for name, buckets in answer.series.items():
            there = np.isfinite(buckets.mean)
            known |= there
            columns[name] = buckets.mean.tolist()
        found.n_known += int(known.sum())
        for position in np.flatnonzero(known).tolist():
            at = begin + position
            if at - last > GAP_S:
                evaluator.miss(last + 1)
            last = at
            values = {
                name: value
                for name, column in columns.items()
                if (value := column[position]) == value  # not NaN
            }
            for step in evaluator.evaluate(at, values):
                if step.watched.rule is rule:
                    _note(lines, step.watched, step.changes, at)
            bucket = (at - found.start) // found.step
            for watched in evaluator.watched_by(rule):
                if watched.value is not None:
                    line = _line(lines, watched)
                    before = line.compared[bucket]
                    line.compared[bucket] = (
                        watched.value if before != before else worse(before, watched.value)
                    )
        buckets_of = (begin - found.start + np.arange(end - begin)) // found.step
        for watched in evaluator.watched_by(rule):
            if (own := answer.series.get(watched.series)) is not None:
                there = np.isfinite(own.mean)
                line = _line(lines, watched)
                line.sums += np.bincount(buckets_of[there], own.mean[there], POINTS)
                line.counts += np.bincount(buckets_of[there], minlength=POINTS)
    for watched in evaluator.watched_by(rule):
        line = _line(lines, watched)
        line.value, line.state = watched.value, watched.memory.state
    found.lines = sorted(lines.values(), key=lambda line: (-len(line.firings), line.series))


def _line(lines: dict[str, Line], watched: Watched) -> Line:
    return lines.setdefault(watched.series, Line(watched.series))


def _note(lines: dict[str, Line], watched: Watched, changes: tuple[Change, ...], at: int) -> None:
    firings = _line(lines, watched).firings
    for change in changes:
        if change is Change.FIRED:
            firings.append(Firing(at))
        elif change is Change.RESOLVED and firings:
            firings[-1].end = at
        if change in (Change.FIRED, Change.RISEN) and firings:
            firings[-1].critical |= watched.memory.severity == 3
