"""Evaluates rules over samples: one signal and one memory per rule and series. Nothing is stored here, no Django."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from monitoring.alerts.conditions import (
    Kind,
    RuleSpec,
    Signal,
    companions_of,
    series_of_composite,
    signal_of,
)
from monitoring.alerts.machine import Change, Memory, State, step
from monitoring.alerts.series import fingerprint, labels_of
from monitoring.store.rollups import Buckets

MAX_SERIES = 200  # of one rule
Values = Mapping[str, float | None]


@dataclass
class Watched:
    """One rule on one series. `value` is what was compared last; `seq` counts the memories that are stored; `peak` is the
    worst value of the open episode."""

    rule: RuleSpec
    host: str
    series: str
    fingerprint: str
    memory: Memory = field(default_factory=Memory)
    seq: int = 0
    peak: float | None = None
    value: float | None = None

    def take(self, value: float | None, at: float) -> "Step | None":
        """The step that this value makes, None when nothing changed."""
        before, self.value = self.memory, value
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
        self._signals: list[tuple[Watched, Signal, tuple[str, ...]]] = []  # with the names of its companion
        self._composites: list[Watched] = []
        self._by_rule: dict[int, list[Watched]] = {rule.id: [] for rule in self.rules}
        self._known: set[str] = set()
        for rule in self.rules:
            if rule.kind is Kind.COMPOSITE:
                self.add(rule, series_of_composite(rule))

    def add(self, rule: RuleSpec, series: str) -> Watched:
        """Watch `series` by `rule`, from now on whether or not it is in the samples."""
        mark = fingerprint(rule.id, labels_of(self.host, series))
        found = self.watched.get(mark)
        if found is None:
            found = self.watched[mark] = Watched(rule, self.host, series, mark)
            self._by_rule.setdefault(rule.id, []).append(found)
            if rule.kind is Kind.COMPOSITE:
                self._composites.append(found)
            else:
                self._signals.append((found, signal_of(rule), companions_of(rule, series)))
        return found

    def evaluate(self, at: float, values: Values) -> list[Step]:
        """Take one sample; the steps it makes, at most one a fingerprint."""
        self._look_for_new(values)
        second, steps = int(at), []
        for watched, signal, companions in self._signals:
            signal.push(second, values.get(watched.series), _first(values, companions))
            made = watched.take(signal.value(), at)
            if made is not None:
                steps.append(made)
        for watched in self._composites:
            made = watched.take(self._joined(watched.rule), at)
            if made is not None:
                steps.append(made)
        return steps

    def miss(self, at: float) -> list[Step]:
        """Nothing was sampled from `at` until now: told to those series whose clocks run."""
        running = (State.PENDING, State.RECOVERING)
        made = [each.take(None, at) for each in self.watched.values() if each.memory.state in running]
        return [each for each in made if each is not None]

    def histories(self, names: Iterable[str]) -> dict[int, tuple[int, set[str]]]:
        """What `prime` wants of the store that knows `names`: tier (s) -> (seconds, names)."""
        known, found = set(names), dict[int, tuple[int, set[str]]]()
        for rule in self.rules:
            if rule.kind is Kind.COMPOSITE:
                continue
            seconds, tier = signal_of(rule).history
            selected = {name for name in known if rule.selector.fits(name, self.host)}
            selected |= {each.series for each in self._by_rule[rule.id]}
            companions = {name for series in selected for name in companions_of(rule, series)} & known
            before = found.get(tier, (0, set()))
            found[tier] = max(before[0], seconds), before[1] | selected | companions
        return found

    def prime(self, tier: int, start: int, end: int, columns: Mapping[str, Buckets]) -> None:
        """Fill the signals of `tier` from the store without judging: buckets of `tier` seconds from `start` to `end`, of
        which each signal takes its own last seconds. Whoever has a value in there is watched."""
        for rule in self.rules:
            if rule.kind is Kind.COMPOSITE:
                continue
            seconds, wanted = signal_of(rule).history
            if wanted == tier:
                skipped = max(end - seconds - start, 0) // tier
                for name, buckets in columns.items():
                    if (
                        rule.selector.fits(name, self.host)
                        and buckets.count[skipped:].any()
                        and self._has_room(rule)
                    ):
                        self.add(rule, name)
        for watched, signal, companions in self._signals:
            seconds, wanted = signal.history
            main = columns.get(watched.series)
            if wanted == tier and main is not None:
                skipped = max(end - seconds - start, 0) // tier
                other = next((columns[name] for name in companions if name in columns), None)
                signal.prime(
                    start + skipped * tier,
                    tier,
                    main.since(skipped),
                    None if other is None else other.since(skipped),
                )

    def watched_by(self, rule: RuleSpec) -> list[Watched]:
        return self._by_rule[rule.id]

    def holding(self, rule: RuleSpec) -> list[bool | None]:
        """Of each member of a composite whether it holds on this host; None: nothing is known of it."""
        return [self._holds(member) for member in rule.members]

    def _joined(self, rule: RuleSpec) -> float | None:
        """How many members hold; None when those that are unknown would decide."""
        found = self.holding(rule)
        n = found.count(True)
        decided = False in found if rule.all_of else n > 0
        return None if None in found and not decided else float(n)

    def _holds(self, rule_id: int) -> bool | None:
        watched = self._by_rule.get(rule_id, [])
        if any(each.memory.open for each in watched):
            return True
        known = any(each.value is not None for each in watched)
        return False if known else None

    def _look_for_new(self, values: Values) -> None:
        # Who never had a value is not missed.
        new = [name for name, value in values.items() if value is not None and name not in self._known]
        for name in new:
            self._known.add(name)
            for rule in self.rules:
                if (
                    rule.kind is not Kind.COMPOSITE
                    and rule.selector.fits(name, self.host)
                    and self._has_room(rule)
                ):
                    self.add(rule, name)

    def _has_room(self, rule: RuleSpec) -> bool:
        return len(self._by_rule[rule.id]) < MAX_SERIES


def _first(values: Values, names: tuple[str, ...]) -> float | None:
    """The value under the first of `names` that has one."""
    for name in names:
        value = values.get(name)
        if value is not None:
            return value
    return None
