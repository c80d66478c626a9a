"""Each kind of condition against series whose truth is known."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.alerts.baselines import Side
from monitoring.alerts.conditions import Kind, RuleSpec, companions_of, signal_of
from monitoring.alerts.evaluator import Evaluator
from monitoring.alerts.machine import Change, NoData, Terms
from monitoring.alerts.series import parse_selector
from monitoring.alerts.trends import NEVER_H, Forecast, Rate, slope_interval
from monitoring.store.packing import Floats
from monitoring.store.rollups import Buckets

T0 = 1_800_000_000
HOUR, DAY = 3600, 24 * 3600
TERMS = Terms(fire_at=4, clear_at=2, for_s=60, keep_firing_for_s=60, no_data_for_s=120)


def spec(kind: Kind, selector: str = "x", terms: Terms = TERMS, **values: Any) -> RuleSpec:
    return RuleSpec(values.pop("id", 1), parse_selector(selector), terms, kind, **values)


def run(rules: Iterable[RuleSpec], **columns: Floats) -> list[tuple[int, int, Change]]:
    """(second, rule, change) of a sample a second; NaN: none."""
    evaluator, found = Evaluator("box", rules), []
    lists = {name: values.tolist() for name, values in columns.items()}
    for second in range(len(next(iter(lists.values())))):
        values = {
            name: each[second] if each[second] == each[second] else None for name, each in lists.items()
        }
        for step in evaluator.evaluate(T0 + second, values):
            found += [(second, step.watched.rule.id, change) for change in step.changes]
    return found


def fired(changes: list[tuple[int, int, Change]], rule: int = 1) -> list[int]:
    return [second for second, each, change in changes if change is Change.FIRED and each == rule]


def noise(kind: str, n: int, rng: np.random.Generator) -> Floats:
    """Stationary, mean 0, deviation 1: independent, alike for minutes, or with heavy tails."""
    if kind == "alike":
        values = np.empty(n)
        steps, last = rng.normal(0, np.sqrt(1 - 0.95**2), n), 0.0
        for place in range(n):
            last = values[place] = 0.95 * last + steps[place]
        return values
    return rng.laplace(0, 2**-0.5, n) if kind == "heavy" else rng.normal(0, 1, n)


KINDS_OF_NOISE = ("independent", "alike", "heavy")


@settings(max_examples=12)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(KINDS_OF_NOISE),
    st.sampled_from([1, -1]),
    st.sampled_from([10.0, 100.0, 4e9]),
)
def test_a_level_shift_of_a_fifth_is_found_within_five_minutes(
    seed: int, kind: str, sign: int, level: float
) -> None:
    values = level * (1 + 0.03 * noise(kind, 3 * HOUR, np.random.default_rng(seed)))
    values[2 * HOUR :] += sign * 0.2 * level
    rule = spec(Kind.DEVIATION, window_s=120, side=Side.EITHER)
    found = fired(run([rule], x=values))
    assert len(found) == 1
    assert 2 * HOUR <= found[0] <= 2 * HOUR + 300


@pytest.mark.parametrize("kind", KINDS_OF_NOISE)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_week_of_stationary_noise_gives_one_false_alarm_at_most(kind: str, seed: int) -> None:
    values = 50 + 5 * noise(kind, 7 * DAY, np.random.default_rng(seed))
    evaluator = Evaluator("box", [spec(Kind.DEVIATION, window_s=120, side=Side.EITHER)])
    n = 0
    for second, value in enumerate(values.tolist()):
        for step in evaluator.evaluate(T0 + second, {"x": value}):
            n += Change.FIRED in step.changes
    assert n <= 1


def test_idle_and_busy_are_judged_by_their_own_past() -> None:
    rng = np.random.default_rng(5)
    busy = (np.arange(8 * HOUR) // 1800) % 2 == 1
    heat = np.where(busy, 80.0, 40.0) + rng.normal(0, 1, len(busy))
    apart = spec(Kind.DEVIATION, window_s=120, companion="load", busy_at=1.0)
    assert fired(run([apart], x=heat, load=busy * 2.0)) == []
    heat[6 * HOUR : 6 * HOUR + 1200] += 20  # idle then, and still cooler than when busy
    assert not busy[6 * HOUR : 6 * HOUR + 1200].any()
    found = fired(run([apart], x=heat, load=busy * 2.0))
    assert len(found) == 1
    assert 6 * HOUR < found[0] < 6 * HOUR + 300
    # In one population each busy half-hour is strange.
    assert len(fired(run([spec(Kind.DEVIATION, window_s=120)], x=heat))) > 1


def test_a_spike_or_a_small_difference_is_no_deviation() -> None:
    values = 50 + np.random.default_rng(3).normal(0, 1, 2 * HOUR)
    values[6000:6020] = 500  # two of the window's twelve buckets
    assert fired(run([spec(Kind.DEVIATION, window_s=120)], x=values)) == []
    steady = np.full(2 * HOUR, 50.0)
    steady[5000:] = 53
    assert len(fired(run([spec(Kind.DEVIATION, window_s=120)], x=steady))) == 1
    assert fired(run([spec(Kind.DEVIATION, window_s=120, least=5.0)], x=steady)) == []


def test_without_an_hour_of_past_nothing_is_strange() -> None:
    values = np.full(5000, 50.0)
    values[3000:] = 500
    assert fired(run([spec(Kind.DEVIATION, window_s=120)], x=values[:3500])) == []


@settings(max_examples=50)
@given(
    st.floats(-5, 5),
    st.sampled_from([30, 60, 300, 3600]),
    st.sampled_from([1, 60, 3600]),
    st.floats(-1e6, 1e6),
    st.floats(0.1, 0.9),
)
def test_a_rate_is_the_slope_whatever_one_outlier_says(
    slope: float, window_s: int, per_s: int, outlier: float, where: float
) -> None:
    signal = Rate(window_s, per_s)
    for second in range(2 * window_s):
        value = 100 + slope * second
        signal.push(T0 + second, outlier if second == int((1 + where) * window_s) else value)
    found = signal.value()
    assert found is not None
    assert found / per_s == pytest.approx(slope, abs=1e-6 + abs(slope) * 0.05)


def test_a_rate_needs_most_of_its_window_and_forgets_the_future() -> None:
    signal = Rate(60, 1)
    for second in range(40):
        signal.push(T0 + second, float(second))
    assert signal.value() is None
    for second in range(40, 80):
        signal.push(T0 + second, float(second))
    assert signal.value() == pytest.approx(1)
    for second in range(80, 140):
        signal.push(T0 + second, None)
    assert signal.value() is None
    signal.push(T0, 1.0)  # the clock was set back
    for second in range(1, 80):
        signal.push(T0 + second, 5.0 - second)
    assert signal.value() == pytest.approx(-1)


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.floats(-2, 2), st.sampled_from([0.0, 0.5]))
def test_the_interval_of_a_slope_holds_the_truth(seed: int, slope: float, alike: float) -> None:
    """Of one series it may miss, once in twenty; three intervals wide it may not."""
    rng = np.random.default_rng(seed)
    errors = rng.normal(0, 1, 60)
    for place in range(1, 60):
        errors[place] += alike * errors[place - 1]
    times = np.arange(60.0)
    middle, low, high = slope_interval(times, slope * times + errors)
    assert low <= middle <= high
    assert middle - 3 * (middle - low) <= slope <= middle + 3 * (high - middle)


@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_the_interval_of_a_slope_misses_seldom(alike: float) -> None:
    rng, times, missed = np.random.default_rng(7), np.arange(60.0), 0
    for _ in range(400):
        errors = rng.normal(0, 1, 60)
        for place in range(1, 60):
            errors[place] += alike * errors[place - 1]
        _, low, high = slope_interval(times, errors)
        missed += not low <= 0 <= high
    assert missed <= (400 * 0.08 if alike == 0 else 400 * 0.12)


def forecast(values: Floats, limit: float, *, rising: bool, every_s: int = 60) -> float | None:
    signal = Forecast(6 * HOUR, limit, rising=rising)
    for place, value in enumerate(values.tolist()):
        signal.push(T0 + place * every_s, value)
    return signal.value()


@given(st.floats(0.5, 10), st.integers(0, 2**32 - 1))
def test_a_forecast_is_late_rather_than_early_and_near_the_truth(per_h: float, seed: int) -> None:
    hours = np.arange(7 * 60) / 60
    values = 20 + per_h * hours + np.random.default_rng(seed).normal(0, 0.05, len(hours))
    truth = (100 - values[-1]) / per_h
    for found in (forecast(values, 100, rising=True), forecast(100 - values, 0, rising=False)):
        assert found is not None
        assert truth * 0.97 - 0.3 <= found <= truth * 1.1 + 0.3


def test_what_is_not_heading_for_the_limit_has_no_date() -> None:
    rng = np.random.default_rng(2)
    flat = 70 + rng.normal(0, 1, 7 * 60)
    falling = 70 - np.arange(7 * 60) / 60
    sawtooth = 60 + (np.arange(7 * 60) % 60) / 3  # grows, and is emptied each hour
    for values in (flat, falling, sawtooth, np.full(7 * 60, 70.0)):
        assert forecast(values, 100, rising=True) == NEVER_H
    assert forecast(np.full(7 * 60, 100.0), 100, rising=True) == 0
    assert forecast(flat[:100], 100, rising=True) is None


def test_missing_samples_fire_for_a_series_that_was_there() -> None:
    rule = spec(Kind.NO_DATA, terms=Terms(1, 1, no_data=NoData.FIRE, no_data_for_s=60))
    values = np.full(400, 1.0)
    values[100:300] = np.nan
    found = [(second, change) for second, _, change in run([rule], x=values)]
    assert found == [(160, Change.FIRED), (300, Change.BACK), (300, Change.RESOLVED)]
    assert run([rule], x=np.full(400, np.nan)) == []


def test_a_composite_joins_what_other_rules_say_of_the_host() -> None:
    hot = spec(Kind.THRESHOLD, "heat", Terms(90, 80), id=1)
    slow = spec(Kind.THRESHOLD, "wait", Terms(5, 4), id=2, part=True)
    both = spec(
        Kind.COMPOSITE, terms=Terms(2, 2, no_data=NoData.KEEP_LAST), id=3, members=(1, 2), all_of=True
    )
    any_ = spec(
        Kind.COMPOSITE, terms=Terms(1, 1, no_data=NoData.KEEP_LAST), id=4, members=(1, 2), all_of=False
    )
    heat = np.array([50.0, 95, 95, 95, 50, 50])
    wait = np.array([1.0, 1, 9, 9, 9, 1])
    found = [
        (second, rule, change)
        for second, rule, change in run([both, any_, hot, slow], heat=heat, wait=wait)
        if rule > 2
    ]
    assert found == [
        (1, 4, Change.FIRED),
        (2, 3, Change.FIRED),
        (4, 3, Change.RESOLVED),
        (5, 4, Change.RESOLVED),
    ]


def test_a_composite_knows_nothing_while_the_unknown_would_decide() -> None:
    evaluator = Evaluator(
        "box",
        [
            spec(Kind.THRESHOLD, "heat", Terms(90, 80), id=1),
            spec(Kind.THRESHOLD, "wait", Terms(5, 4), id=2),
            spec(Kind.COMPOSITE, terms=Terms(2, 2), id=3, members=(1, 2), all_of=True),
            spec(Kind.COMPOSITE, terms=Terms(1, 1), id=4, members=(1, 2), all_of=False),
        ],
    )
    both, any_ = (evaluator.watched_by(rule)[0] for rule in evaluator.rules[2:])
    for heat, wait, wanted in (
        (95.0, None, (None, 1)),
        (50.0, None, (0, None)),
        (50.0, 1.0, (0, 0)),
        (95.0, 9.0, (2, 2)),
    ):
        evaluator.evaluate(T0, {"heat": heat, "wait": wait})
        assert (both.value, any_.value) == wanted


def test_a_companion_has_the_labels_of_the_series() -> None:
    rule = spec(Kind.DEVIATION, "gpu_w", companion="gpu_busy_percent")
    assert companions_of(rule, "gpu_w{gpu=0}") == ("gpu_busy_percent{gpu=0}", "gpu_busy_percent")
    share = spec(Kind.THRESHOLD, "used", companion="total")
    assert companions_of(share, "used{gpu=0}") == ("total{gpu=0}",)
    whole = spec(Kind.DEVIATION, "gpu_w", companion="gpu_busy_percent{gpu=1}")
    assert companions_of(whole, "gpu_w{gpu=0}") == ("gpu_busy_percent{gpu=1}",)


@settings(max_examples=30)
@given(
    st.sampled_from([(Kind.RATE, 60), (Kind.RATE, 300), (Kind.DEVIATION, 120), (Kind.FORECAST, 3600)]),
    st.integers(1, 9999),
    st.integers(0, 2**32 - 1),
)
def test_primed_from_the_store_it_says_what_it_would_have_said(
    what: tuple[Kind, int], cut: int, seed: int
) -> None:
    """A restart at second `cut`: whole buckets before it come from the store, and nothing is judged otherwise for it."""
    kind, window_s = what
    rng = np.random.default_rng(seed)
    values, load = 50 + np.cumsum(rng.normal(0, 0.2, 10000)), (np.arange(10000) // 700 % 2).astype(float)
    rule = spec(
        kind, window_s=window_s, limit=200.0, companion="load" if kind is Kind.DEVIATION else "", busy_at=1.0
    )
    whole, restarted = signal_of(rule), signal_of(rule)
    seconds, tier = restarted.history
    first = max(cut - seconds, 0) // tier * tier
    start = T0 // tier * tier
    for second in range(cut):
        whole.push(start + second, values[second], load[second])
    restarted.prime(
        start + first, tier, Buckets.of(values[first:cut], tier), Buckets.of(load[first:cut], tier)
    )
    for second in range(cut, min(cut + 700, 10000)):
        whole.push(start + second, values[second], load[second])
        restarted.push(start + second, values[second], load[second])
        if kind is Kind.DEVIATION and second < cut + 310:
            continue  # median and scale are those of the start, or up to five minutes old
        a, b = whole.value(), restarted.value()
        assert (a is None) == (b is None)
        if a is not None and b is not None and kind is not Kind.DEVIATION:
            assert a == pytest.approx(b, rel=1e-9, abs=1e-9)
