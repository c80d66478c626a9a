"""The life of an alert: a pure state machine. Rule, memory, value and time go in; memory and what changed come out.

    ok -> pending (for) -> firing -> recovering (keep_firing_for) -> ok again, the episode resolved

`no_data` is a state of its own. An episode that is open stays open through it: missing data never resolves. All times
are seconds since 1970; none is read here."""

from dataclasses import dataclass, fields, replace
from enum import IntEnum, StrEnum
from typing import Any

FLAP_N, FLAP_S = 4, 900.0  # so many changes in so long are flapping; so long without one ends it


class State(StrEnum):
    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    RECOVERING = "recovering"
    NO_DATA = "no_data"


class NoData(StrEnum):
    """What missing data mean: the state stays; it is ok (a pending one starts anew); it is a reason to fire."""

    KEEP_LAST = "keep_last"
    OK = "ok"
    FIRE = "fire"


class Severity(IntEnum):
    INFO = 1
    WARNING = 2
    CRITICAL = 3


class Change(StrEnum):
    FIRED = "fired"
    RISEN = "risen"
    RECOVERING = "recovering"
    RELAPSED = "relapsed"
    LOST = "lost"  # no data any more
    BACK = "back"  # data again
    RESOLVED = "resolved"
    FLAPPING = "flapping"
    CALM = "calm"  # no longer flapping


@dataclass(frozen=True)
class Terms:
    """When a rule fires and clears. `above`: it fires at `fire_at` and more, and clears below `clear_at`; else the
    other way round. From `critical_at` on the severity is critical, whatever the rule's own is."""

    fire_at: float
    clear_at: float
    above: bool = True
    critical_at: float | None = None
    severity: Severity = Severity.WARNING
    for_s: float = 0.0
    keep_firing_for_s: float = 0.0
    no_data: NoData = NoData.OK
    no_data_for_s: float = 60.0

    def breached(self, value: float) -> bool:
        return value >= self.fire_at if self.above else value <= self.fire_at

    def cleared(self, value: float) -> bool:
        return value < self.clear_at if self.above else value > self.clear_at

    def severity_of(self, value: float) -> Severity:
        at = self.critical_at
        if at is not None and (value >= at if self.above else value <= at):
            return Severity.CRITICAL
        return self.severity


@dataclass(frozen=True)
class Memory:
    """What is known of one rule on one series. `since`: when `state` began; `open`: an episode is open;
    `by_missing`: missing data opened it; `turns`: when it last fired or resolved."""

    state: State = State.OK
    since: float = 0.0
    open: bool = False
    by_missing: bool = False
    severity: Severity = Severity.INFO
    missing_since: float | None = None
    turns: tuple[float, ...] = ()
    flapping: bool = False

    def to_json(self) -> dict[str, Any]:
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**found, "state": str(self.state), "severity": int(self.severity), "turns": list(self.turns)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Memory":
        return cls(
            **{
                **stored,
                "state": State(stored["state"]),
                "severity": Severity(stored["severity"]),
                "turns": tuple(stored["turns"]),
            }
        )


def step(terms: Terms, before: Memory, value: float | None, at: float) -> tuple[Memory, list[Change]]:
    """The next memory (the same object when nothing changed) and what changed, in order. `value` None: no data."""
    memory, changes = _no_later_than(before, at), list[Change]()
    if memory.flapping and at - memory.turns[-1] >= FLAP_S:
        memory = replace(memory, flapping=False, turns=())
        changes.append(Change.CALM)
    if value is None:
        return _without_data(terms, memory, at, changes), changes
    return _with_data(terms, memory, value, at, changes), changes


def closed_by_hand(memory: Memory, at: float) -> Memory:
    """A person resolved the episode: the series starts anew. While the condition lasts it is pending, then fires again."""
    return replace(memory, state=State.OK, since=at, open=False, by_missing=False)


def _no_later_than(memory: Memory, at: float) -> Memory:
    """After the clock was set back nothing may have begun in the future: what runs, runs from now."""
    latest = max(memory.since, memory.missing_since or 0.0, *memory.turns, 0.0)
    if latest <= at:
        return memory
    return replace(
        memory,
        since=min(memory.since, at),
        missing_since=None if memory.missing_since is None else min(memory.missing_since, at),
        turns=tuple(min(each, at) for each in memory.turns),
    )


def _without_data(terms: Terms, memory: Memory, at: float, changes: list[Change]) -> Memory:
    if memory.missing_since is None:
        memory = replace(memory, missing_since=at)
    assert memory.missing_since is not None
    long_enough = at - memory.missing_since >= terms.no_data_for_s
    if terms.no_data is NoData.KEEP_LAST or memory.state is State.NO_DATA or not long_enough:
        return memory
    if memory.open:
        changes.append(Change.LOST)
        return replace(memory, state=State.NO_DATA, since=at)
    memory = replace(memory, state=State.NO_DATA, since=at)
    if terms.no_data is NoData.FIRE:
        memory = replace(memory, open=True, by_missing=True, severity=terms.severity)
        return _turned(memory, Change.FIRED, at, changes)
    return memory


def _with_data(terms: Terms, memory: Memory, value: float, at: float, changes: list[Change]) -> Memory:
    if memory.missing_since is not None:
        if at - memory.missing_since >= terms.no_data_for_s:
            memory = _after_a_gap(terms, memory, at)
        memory = replace(memory, missing_since=None)
    if memory.state is State.NO_DATA:
        memory = replace(memory, state=State.FIRING if memory.open else State.OK, since=at)
        if memory.open:
            changes.append(Change.BACK)
    if memory.open:
        return _while_open(terms, memory, value, at, changes)
    if not terms.breached(value):
        return memory if memory.state is State.OK else replace(memory, state=State.OK, since=at)
    if memory.state is State.OK:
        memory = replace(memory, state=State.PENDING, since=at)
    if at - memory.since < terms.for_s:
        return memory
    memory = replace(memory, state=State.FIRING, since=at, open=True, severity=terms.severity_of(value))
    return _turned(memory, Change.FIRED, at, changes)


def _after_a_gap(terms: Terms, memory: Memory, at: float) -> Memory:
    """Nobody saw what happened meanwhile: recovery is proven by data only, and so is a condition that lasts."""
    starts_anew = memory.state is State.RECOVERING or (
        memory.state is State.PENDING and terms.no_data is not NoData.KEEP_LAST
    )
    return replace(memory, since=at) if starts_anew else memory


def _while_open(terms: Terms, memory: Memory, value: float, at: float, changes: list[Change]) -> Memory:
    breached = terms.breached(value)
    if memory.by_missing and breached:
        memory = replace(memory, by_missing=False)
    if terms.cleared(value) or (memory.by_missing and not breached):
        recovering = memory.state is State.RECOVERING
        if at - (memory.since if recovering else at) >= terms.keep_firing_for_s:
            memory = replace(memory, state=State.OK, since=at, open=False, by_missing=False)
            return _turned(memory, Change.RESOLVED, at, changes)
        if not recovering:
            memory = replace(memory, state=State.RECOVERING, since=at)
            changes.append(Change.RECOVERING)
        return memory
    if memory.state is State.RECOVERING:
        memory = replace(memory, state=State.FIRING, since=at)
        changes.append(Change.RELAPSED)
    if terms.severity_of(value) > memory.severity:
        memory = replace(memory, severity=terms.severity_of(value))
        changes.append(Change.RISEN)
    return memory


def _turned(memory: Memory, change: Change, at: float, changes: list[Change]) -> Memory:
    changes.append(change)
    turns = (*(each for each in memory.turns if each > at - FLAP_S), at)
    if len(turns) >= FLAP_N and not memory.flapping:
        changes.append(Change.FLAPPING)
        return replace(memory, turns=turns, flapping=True)
    return replace(memory, turns=turns[-FLAP_N:])
