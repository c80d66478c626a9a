"""The life of an alert: examples that read as sentences, and what must hold whatever happens."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.alerts.machine import (
    FLAP_N,
    FLAP_S,
    Change,
    Memory,
    NoData,
    Severity,
    State,
    Terms,
    closed_by_hand,
    step,
)

T0 = 1_800_000_000.0
TERMS = Terms(fire_at=90, clear_at=85, for_s=10, keep_firing_for_s=5, no_data_for_s=20)
Values = Sequence[float | None]


def run(
    terms: Terms, values: Values, memory: Memory | None = None, at: float = T0
) -> tuple[Memory, list[Change]]:
    """One value a second."""
    memory, found = memory or Memory(), list[Change]()
    for second, value in enumerate(values):
        memory, changes = step(terms, memory, value, at + second)
        found += changes
    return memory, found


def test_it_fires_after_the_condition_has_lasted_and_resolves_after_it_was_clear_for_long_enough() -> None:
    memory, changes = run(TERMS, [95] * 10)
    assert (memory.state, changes) == (State.PENDING, [])
    memory, changes = run(TERMS, [95] * 11)
    assert (memory.state, memory.open, changes) == (State.FIRING, True, [Change.FIRED])
    memory, changes = run(TERMS, [95] * 11 + [80] * 5)
    assert (memory.state, memory.open, changes[1:]) == (State.RECOVERING, True, [Change.RECOVERING])
    memory, changes = run(TERMS, [95] * 11 + [80] * 6)
    assert (memory.state, memory.open, changes[1:]) == (State.OK, False, [Change.RECOVERING, Change.RESOLVED])


def test_between_the_thresholds_it_neither_fires_nor_clears() -> None:
    assert run(TERMS, [88] * 60)[1] == []
    memory, changes = run(TERMS, [95] * 11 + [88] * 60)
    assert (memory.state, changes) == (State.FIRING, [Change.FIRED])


def test_a_dip_starts_the_wait_anew_and_a_relapse_the_recovery() -> None:
    assert run(TERMS, [95] * 9 + [89] + [95] * 9)[1] == []
    changes = run(TERMS, [95] * 11 + [80] * 3 + [86] + [80] * 5)[1]
    assert changes == [Change.FIRED, Change.RECOVERING, Change.RELAPSED, Change.RECOVERING]


def test_a_rule_may_fire_below() -> None:
    terms = Terms(fire_at=0, clear_at=0.5, above=False)
    assert run(terms, [1, 0, 1])[1] == [Change.FIRED, Change.RESOLVED]


@pytest.mark.parametrize("mode", list(NoData))
def test_missing_data_never_resolve(mode: NoData) -> None:
    terms = replace(TERMS, no_data=mode)
    memory, changes = run(terms, [95] * 11 + [None] * 500)
    assert memory.open
    assert Change.RESOLVED not in changes


def test_missing_data_mean_what_the_rule_says() -> None:
    long: Values = [None] * 30
    keep, ok, fire = (replace(TERMS, no_data=mode) for mode in (NoData.KEEP_LAST, NoData.OK, NoData.FIRE))
    assert run(ok, [50, *long])[0].state is State.NO_DATA
    assert run(keep, [50, *long])[0].state is State.OK
    memory, changes = run(fire, [50, *long])
    assert (memory.state, memory.open, changes) == (State.NO_DATA, True, [Change.FIRED])
    # the pending one goes on or starts anew
    assert run(keep, [*[95] * 5, *long, 95])[1] == [Change.FIRED]
    assert run(ok, [*[95] * 5, *long, 95])[1] == []
    # what missing data fired is over when data are back and not beyond the threshold
    assert run(fire, [50, *long, *[88] * 7])[1] == [
        Change.FIRED,
        Change.BACK,
        Change.RECOVERING,
        Change.RESOLVED,
    ]


def test_time_without_data_proves_no_recovery() -> None:
    terms = replace(TERMS, no_data=NoData.KEEP_LAST)
    memory, changes = run(terms, [95] * 11 + [80, *[None] * 60, 80])
    assert memory.open
    assert changes == [Change.FIRED, Change.RECOVERING]


def test_the_severity_rises_and_does_not_fall_in_an_episode() -> None:
    terms = replace(TERMS, critical_at=98.0)
    memory, changes = run(terms, [95] * 11 + [99, 92, 99])
    assert (memory.severity, changes) == (Severity.CRITICAL, [Change.FIRED, Change.RISEN])
    risen = replace(terms, severity=Severity.CRITICAL)
    assert run(risen, [95], memory=run(terms, [95] * 11)[0], at=T0 + 11)[1] == [Change.RISEN]


def test_flapping_is_said_once_and_ends_after_a_quiet_while() -> None:
    terms = Terms(fire_at=90, clear_at=85)
    memory, changes = run(terms, [95, 80] * 20)
    assert changes.count(Change.FLAPPING) == 1
    assert changes.index(Change.FLAPPING) == FLAP_N
    memory, changes = step(terms, memory, 80, memory.turns[-1] + FLAP_S - 1)
    assert (memory.flapping, changes) == (True, [])
    memory, changes = step(terms, memory, 80, memory.turns[-1] + FLAP_S)
    assert (memory.flapping, changes) == (False, [Change.CALM])


def test_a_clock_that_is_set_back_fires_late_and_never_early() -> None:
    memory, _ = run(TERMS, [95] * 5)
    memory, changes = run(TERMS, [95] * 10, memory, at=T0 - 3600)
    assert (memory.state, changes) == (State.PENDING, [])
    assert step(TERMS, memory, 95, T0 - 3590)[1] == [Change.FIRED]
    memory, _ = run(TERMS, [95] * 11 + [80])
    assert run(TERMS, [80] * 5, memory, at=T0 - 3600)[1] == []


def test_closed_by_hand_it_starts_anew() -> None:
    memory = closed_by_hand(run(TERMS, [95] * 11)[0], T0 + 11)
    assert run(TERMS, [95] * 11, memory, at=T0 + 12)[1] == [Change.FIRED]


values = st.lists(
    st.one_of(st.none(), st.sampled_from([80.0, 87.0, 95.0, 99.0])).flatmap(
        lambda value: st.integers(1, 30).map(lambda n: [value] * n)
    ),
    max_size=30,
).map(lambda parts: [value for part in parts for value in part])
terms_ = st.builds(
    Terms,
    fire_at=st.just(90.0),
    clear_at=st.just(85.0),
    critical_at=st.sampled_from([None, 98.0]),
    for_s=st.integers(0, 20),
    keep_firing_for_s=st.integers(0, 20),
    no_data=st.sampled_from(list(NoData)),
    no_data_for_s=st.integers(1, 20),
)


@given(terms_, values, st.sets(st.integers(0, 900), max_size=10))
def test_a_restart_anywhere_gives_the_same_as_none(terms: Terms, given_: Values, restarts: set[int]) -> None:
    whole = kept = Memory()
    for second, value in enumerate(given_):
        if second in restarts:
            kept = Memory.from_json(json.loads(json.dumps(kept.to_json())))
        whole, changes = step(terms, whole, value, T0 + second)
        kept, changes_of_kept = step(terms, kept, value, T0 + second)
        assert (kept, changes_of_kept) == (whole, changes)


@given(terms_, values, st.integers(-4000, 4000), st.integers(0, 900))
def test_whatever_comes_episodes_alternate_and_only_data_resolve(
    terms: Terms, given_: Values, leap_s: int, leap_after: int
) -> None:
    memory, turns = Memory(), list[Change]()
    for second, value in enumerate(given_):
        at = T0 + second + (leap_s if second >= leap_after else 0)
        before = memory
        memory, changes = step(terms, memory, value, at)
        turns += [each for each in changes if each in (Change.FIRED, Change.RESOLVED)]
        assert memory.open is (turns[-1:] == [Change.FIRED])
        assert (memory.state in (State.FIRING, State.RECOVERING)) <= memory.open
        if value is None:
            assert Change.RESOLVED not in changes
        if Change.FIRED in changes and value is not None:
            assert value >= terms.fire_at
        if Change.RESOLVED in changes:
            assert value is not None
            assert value < terms.fire_at
        assert memory.since <= at
        if memory == before:
            assert memory is before, "an unchanged memory is not written again"
            assert not changes
    assert all(first != second for first, second in pairwise(turns))
