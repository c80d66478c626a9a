"""Evaluates rules over samples: one window and one memory per rule and series. Nothing is stored here, no Django."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from monitoring.alerts.machine import Change, Memory, State, Terms, step
from monitoring.alerts.series import Selector, fingerprint, labels_of, split_series
from monitoring.alerts.windows import Aggregate, ShareWindow, Window

MAX_SERIES = 200  # of one rule
Values = Mapping[str, float | None]


@dataclass(frozen=True)
class RuleSpec:
    """What evaluating a rule needs. `divisor`: the metric whose sum the share is of, with the same labels."""

    id: int
    selector: Selector
    terms: Terms
    aggregate: Aggregate = Aggregate.LAST
    window_s: int = 1
    divisor: str = ""
    min_count: float = 0.0


@dataclass
class Watched:
    """One rule on one series. `seq` counts the memories that are stored; `peak` is the worst value of the open episode."""

    rule: RuleSpec
    host: str
    series: str
    fingerprint: str
    memory: Memory = field(default_factory=Memory)
    seq: int = 0
    peak: float | None = None

    def take(self, value: float | None, at: float) -> "Step | None":
        """The step that this value makes, None when nothing changed."""
        before = self.memory
        self.memory, changes = step(self.rule.terms, before, value, at)
        if self.memory.open and value is not None:
            worse = max if self.rule.terms.above else min
            known = self.peak if before.open and self.peak is not None else value
            self.peak = worse(known, value)
        if self.memory is before:
            return None
        self.seq += 1
        return Step(self, self.seq, self.memory, tuple(changes), value, self.peak, at)


@dataclass(frozen=True)
class Step:
    """A new memory to store, with what changed: stored as number `seq` of its fingerprint or not at all."""

    watched: Watched
    seq: int
    memory: Memory
    changes: tuple[Change, ...]
    value: float | None
    peak: float | None
    at: float


class Evaluator:
    """All rules on one host's samples."""

    def __init__(self, host: str, rules: Iterable[RuleSpec]) -> None:
        self.host, self.rules = host, list(rules)
        self.watched: dict[str, Watched] = {}
        self._windows: dict[str, Window | ShareWindow] = {}
        self._known: set[str] = set()

    def add(self, rule: RuleSpec, series: str) -> Watched:
        """Watch `series` by `rule`, from now on whether or not it is in the samples."""
        mark = fingerprint(rule.id, labels_of(self.host, series))
        if mark not in self.watched:
            self.watched[mark] = Watched(rule, self.host, series, mark)
            self._windows[mark] = (
                ShareWindow(rule.window_s, rule.min_count)
                if rule.aggregate is Aggregate.SHARE
                else Window(rule.window_s, rule.aggregate)
            )
        return self.watched[mark]

    def fill(self, second: int, values: Values) -> None:
        """Put a sample into the windows without judging it: what was before the start."""
        self._look_for_new(values)
        for watched in self.watched.values():
            self._push(watched, second, values)

    def evaluate(self, at: float, values: Values) -> list[Step]:
        """Take one sample; the steps it makes, at most one a fingerprint."""
        self._look_for_new(values)
        second, steps = int(at), []
        for watched in self.watched.values():
            made = watched.take(self._push(watched, second, values), at)
            if made is not None:
                steps.append(made)
        return steps

    def miss(self, at: float) -> list[Step]:
        """Nothing was sampled from `at` until now: told to those series whose clocks run."""
        running = (State.PENDING, State.RECOVERING)
        made = [each.take(None, at) for each in self.watched.values() if each.memory.state in running]
        return [each for each in made if each is not None]

    def wanted(self, names: Iterable[str]) -> set[str]:
        """Those of `names` that a rule reads."""
        known, found = set(names), {each.series for each in self.watched.values()}
        for rule in self.rules:
            selected = {name for name in known if rule.selector.fits(name)}
            found |= selected
            if rule.aggregate is Aggregate.SHARE:
                found |= {divisor_of(rule, name) for name in selected}
        return found

    def _push(self, watched: Watched, second: int, values: Values) -> float | None:
        window = self._windows[watched.fingerprint]
        if isinstance(window, ShareWindow):
            window.push(
                second, values.get(watched.series), values.get(divisor_of(watched.rule, watched.series))
            )
        else:
            window.push(second, values.get(watched.series))
        return window.value()

    def _look_for_new(self, values: Values) -> None:
        new = [name for name in values if name not in self._known]
        for name in new:
            self._known.add(name)
            for rule in self.rules:
                if rule.selector.fits(name) and self._has_room(rule):
                    self.add(rule, name)

    def _has_room(self, rule: RuleSpec) -> bool:
        return sum(each.rule.id == rule.id for each in self.watched.values()) < MAX_SERIES


def divisor_of(rule: RuleSpec, series: str) -> str:
    """Name of the series that the share is of: the same labels."""
    metric, _ = split_series(series)
    return rule.divisor + series.removeprefix(metric)
