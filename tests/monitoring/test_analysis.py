"""The statistics of series: silent where there is nothing, quick where there is something, right about where things go."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.alerts.baselines import BUSY, CHANGING, IDLE, UNKNOWN
from monitoring.analysis import words
from monitoring.analysis.catalogue import chosen, limit_of, matters
from monitoring.analysis.changes import scatter_of, shift_of
from monitoring.analysis.families import believed
from monitoring.analysis.heading import arrival_at, heading_of, kendall_p, without_hours
from monitoring.analysis.study import Candidate, Kind, believed_of_study, look, study
from monitoring.analysis.usual import (
    BLOCK_S,
    BUCKET_S,
    DAY_S,
    HOUR_S,
    IN_WINDOW,
    MINUTE_S,
    WEEK_S,
    Tail,
    Usual,
    load_states,
    tail_of,
    usual_of,
)
from monitoring.store.rollups import Buckets
from tests.monitoring.generated import (
    SHIFTING,
    STATIONARY,
    false_anomalies,
    false_of_studies,
    idle,
    means,
    resembling,
    seconds_to_find,
    white,
)

NIGHT = 1_800_000_000 - 1_800_000_000 % WEEK_S
probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@pytest.mark.parametrize("name", STATIONARY)
def test_a_week_of_stationary_noise_gives_at_most_one_finding(name: str) -> None:
    random = np.random.default_rng(11)
    assert false_anomalies(STATIONARY[name](random, 2 * WEEK_S)) <= 1
    assert false_of_studies(STATIONARY[name](random, 3 * WEEK_S), every_h=12) <= 1


@pytest.mark.parametrize("name", SHIFTING)
@pytest.mark.parametrize("by", [0.2, -0.2])
def test_a_shift_by_a_fifth_is_found_within_five_minutes(name: str, by: float) -> None:
    took = sorted(seconds_to_find(SHIFTING[name], np.random.default_rng(5), 20, by))
    assert took[17] <= 300  # 9 of 10
    assert took[0] >= 60  # nothing is called unlike its past before it could be


@given(probabilities, st.floats(0.001, 0.2))
def test_what_is_believed_follows_benjamini_and_hochberg(ps: list[float], q: float) -> None:
    found = believed(ps, q)
    n = len(ps)
    k = max((k for k in range(1, n + 1) if sorted(ps)[k - 1] <= q * k / n), default=0)
    assert sum(found) >= k  # more only where values are equal
    assert all(p <= sorted(ps)[k - 1] for p, ok in zip(ps, found, strict=True) if ok)
    assert not any(ok for p, ok in zip(ps, believed(ps, q, most=0.0), strict=True) if ok and p > 0)


def test_a_single_small_p_among_many_is_not_believed() -> None:
    assert believed([0.005], 0.01) == [True]
    assert believed([0.005] + [0.5] * 99, 0.01) == [False] * 100


@given(st.floats(-1e6, 1e6), st.floats(0.01, 1e6), st.floats(0, 0.4), st.floats(0, 50), st.floats(0, 50))
def test_a_greater_height_is_never_likelier(
    start: float, spread: float, shape: float, one: float, other: float
) -> None:
    tail = Tail(start, spread, shape)
    low, high = sorted((one, other))
    assert 0 <= tail.p(start + high * spread) <= tail.p(start + low * spread) <= 0.05


def test_the_tail_of_a_known_distribution_is_extrapolated() -> None:
    heights = np.random.default_rng(2).exponential(3.0, 5000)
    tail = tail_of(heights, 1e-9)
    truth = math.exp(-30 / 3)
    assert truth / 5 < tail.p(30.0) < truth * 5


def usual(values: np.ndarray, states: np.ndarray | None = None) -> Usual:
    minutes = means(values, MINUTE_S)
    found = usual_of(NIGHT, minutes, idle(len(minutes)) if states is None else states)
    assert found is not None
    return found


def test_a_spike_is_no_anomaly_however_high() -> None:
    found = usual(white(np.random.default_rng(1), WEEK_S))
    window = np.full(IN_WINDOW, 50.0)
    window[4] = 50_000.0
    judged = look("x_percent", found, NIGHT + WEEK_S, window, idle(IN_WINDOW))
    assert judged is not None
    assert judged.p < 1e-9
    assert not judged.said


def test_what_is_usual_depends_on_the_load() -> None:
    random = np.random.default_rng(3)
    busy = np.repeat(random.random(WEEK_S // HOUR_S) < 0.5, HOUR_S)
    values = np.where(busy, 90.0, 10.0) + random.normal(0, 1, WEEK_S)
    states = np.where(busy[::MINUTE_S], BUSY, IDLE).astype(np.int8)
    found = usual(values, states)
    at = NIGHT + WEEK_S
    while_busy = look("x_percent", found, at, np.full(IN_WINDOW, 90.0), np.full(IN_WINDOW, BUSY, np.int8))
    while_idle = look("x_percent", found, at, np.full(IN_WINDOW, 90.0), idle(IN_WINDOW))
    assert while_busy is not None
    assert while_idle is not None
    assert (while_busy.facts["is_usual"], while_busy.said) == (True, False)
    assert while_idle.said
    assert while_idle.p < 1e-9
    # Nobody knows what is usual while the load changes: it never did for long enough.
    assert (
        look("x_percent", found, at, np.full(IN_WINDOW, 50.0), np.full(IN_WINDOW, CHANGING, np.int8)) is None
    )


def test_a_daily_cycle_becomes_known_and_its_hours_are_told_apart() -> None:
    seconds = np.arange(4 * DAY_S)
    cycle = (
        50 + 15 * np.sin(2 * np.pi * seconds / DAY_S) + np.random.default_rng(1).normal(0, 2, len(seconds))
    )
    short, long = usual(cycle[: 2 * DAY_S]), usual(cycle)
    assert [len(each.populations[IDLE].profile) for each in (short, long)] == [0, 24]
    middles = long.populations[IDLE].expected(NIGHT + np.array([6.0, 18.0]) * HOUR_S)
    assert middles == pytest.approx([65, 35], abs=1)
    # The evening's usual value in the morning is unlike the past for who knows the hours.
    window = np.full(IN_WINDOW, 35.0)
    at = NIGHT + 4 * DAY_S + 6 * HOUR_S
    known, unknown = (look("x_percent", each, at, window, idle(IN_WINDOW)) for each in (long, short))
    assert known is not None
    assert unknown is not None
    assert known.p < 1e-6
    assert unknown.p > 1e-3


def test_three_weeks_tell_the_hours_of_the_week_apart() -> None:
    values = white(np.random.default_rng(1), 3 * WEEK_S)
    assert len(usual(values).populations[IDLE].profile) == 168
    assert usual(values).weeks == 3


def test_too_short_a_past_and_too_few_samples_give_no_judgement() -> None:
    values = white(np.random.default_rng(1), 23 * HOUR_S)
    assert usual_of(NIGHT, means(values, MINUTE_S), idle(23 * 60)) is None
    assert usual_of(NIGHT, np.full(1440, np.nan), idle(1440)) is None
    found = usual(white(np.random.default_rng(1), 2 * DAY_S))
    window = np.full(IN_WINDOW, 99.0)
    window[:4] = np.nan
    assert look("x_percent", found, NIGHT, window, idle(IN_WINDOW)) is None


def test_what_is_usual_survives_its_way_through_json() -> None:
    import json

    found = usual(resembling(np.random.default_rng(1), 4 * DAY_S))
    assert Usual.of_json(json.loads(json.dumps(found.as_json()))) == found


def test_a_constant_series_that_moves_a_little_is_no_news() -> None:
    found = usual(np.full(2 * DAY_S, 40.0))
    judged = look("x_percent", found, NIGHT, np.full(IN_WINDOW, 41.0), idle(IN_WINDOW))
    assert judged is not None
    assert not judged.said


def test_the_load_of_a_bucket_is_known_changing_or_unknown() -> None:
    load = Buckets(
        np.array([0.0, 0, 1, np.nan]), np.zeros(4), np.array([0.0, 3, 3, np.nan]), np.array([60.0, 60, 60, 0])
    )
    assert load_states(load, 4, 1.0).tolist() == [IDLE, CHANGING, BUSY, UNKNOWN]
    assert load_states(None, 2, 1.0).tolist() == [IDLE, IDLE]


slopes = st.floats(0.02, 5).flatmap(lambda size: st.sampled_from([size, -size]))


@given(slopes, st.integers(0, 2**31))
@settings(max_examples=25)
def test_a_slope_is_found_with_its_sign_and_within_its_interval(slope: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    hours = np.arange(168.0)
    values = 100 + slope * hours + abs(slope) * random.normal(0, 3, 168)
    found = heading_of(values, 1.0, per_day=24)
    assert found is not None
    assert found.slope == pytest.approx(slope, rel=0.1)
    assert found.low < found.slope < found.high
    assert found.is_sure
    assert found.p < 1e-6


@given(st.integers(20, 148), st.integers(0, 2**31))
@settings(max_examples=25)
def test_a_step_is_no_trend_but_a_change_at_its_place(at: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = np.where(np.arange(168) < at, 40.0, 60.0) + random.normal(0, 1, 168)
    found, shift = heading_of(values, 1.0), shift_of(values)
    assert found is not None
    assert not found.is_sure
    assert shift is not None
    assert abs(shift.at - at) <= 1
    assert [shift.before, shift.after] == pytest.approx([40, 60], abs=1)


def test_a_daily_cycle_hides_no_trend_and_makes_none() -> None:
    hours = np.arange(168.0)
    cycle = 20 * np.sin(2 * np.pi * hours / 24) + np.random.default_rng(4).normal(0, 1, 168)
    rising = heading_of(50 + cycle + 0.1 * hours, 1.0, per_day=24)
    level = heading_of(50 + cycle, 1.0, per_day=24)
    assert rising is not None
    assert level is not None
    assert rising.is_sure
    assert rising.slope == pytest.approx(0.1, rel=0.15)
    assert not level.is_sure
    assert np.ptp(without_hours(50 + cycle, 24)) < 12


def test_a_forecast_holds_what_comes_in_nine_of_ten_cases() -> None:
    inside = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        hours = np.arange(168.0)
        found = heading_of(
            60 + 0.1 * hours + resembling(random, 168, alike=0.5, sd=1.0) - 50, 1.0, per_day=24
        )
        assert found is not None
        arrival = arrival_at(100.0, found)
        assert arrival is not None
        assert arrival.soonest < arrival.hours < arrival.latest
        inside += arrival.soonest <= (100 - 60 - 16.8) / 0.1 <= arrival.latest
    assert inside >= 54


def test_no_forecast_where_nothing_rises_or_far_beyond_the_window() -> None:
    hours = np.arange(168.0)
    noise = np.random.default_rng(1).normal(0, 0.2, 168)
    for values in (50 + noise, 50 - 0.05 * hours + noise, 10 + 0.02 * hours + noise * 0.1):
        found = heading_of(values, 1.0)
        assert found is not None
        assert arrival_at(100.0, found) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=15, max_size=40))
def test_p_of_kendall_knows_neither_unit_nor_direction(values: list[float]) -> None:
    times, heights = np.arange(float(len(values))), np.round(np.array(values))
    assert 0 <= kendall_p(times, heights, 0.0) <= 1
    assert kendall_p(times, heights, 0.0) == pytest.approx(kendall_p(times, -heights, 0.0))
    assert kendall_p(times, heights, 0.0) == pytest.approx(kendall_p(times, 8 * heights, 0.0))


def test_twice_the_scatter_is_found_and_the_same_is_not() -> None:
    random = np.random.default_rng(6)
    before, now = (random.normal(50, sd, 24 * 60) for sd in (1, 2.5))
    week = np.concatenate([before, random.normal(50, 1, 6 * 24 * 60), now])
    found = scatter_of(week, 7 * 24 * 60)
    assert found is not None
    assert found.p < 1e-6
    assert found.ratio == pytest.approx(2.5, rel=0.15)
    assert found.before_percent == pytest.approx(2, rel=0.15)
    assert found.now_percent == pytest.approx(5, rel=0.15)
    same = scatter_of(np.concatenate([before, week[1440:-1440], random.normal(50, 1, 1440)]), 7 * 24 * 60)
    assert same is not None
    assert same.p > 0.01
    assert scatter_of(week[1:], 7 * 24 * 60) is None


def test_a_study_says_where_a_disk_goes_and_in_words() -> None:
    minutes = np.arange(8 * 24 * 60)
    values = 60 + 2 * minutes / 1440 + np.random.default_rng(1).normal(0, 0.05, len(minutes))
    name = "disk_used_percent{mount=/}"
    found = believed_of_study(study(name, NIGHT, values, idle(len(values)), 100.0).candidates)
    (forecast,) = (each for each in found if each.kind is Kind.FORECAST)
    assert forecast.facts["in_h"] == pytest.approx(12 * 24, rel=0.05)
    said = words.sentence(forecast.kind, name, forecast.facts)
    assert said == "reaches 100 % in 12 d"
    assert words.advice(forecast.kind, name, forecast.size).startswith("Delete models")
    assert "168 points" in words.method(forecast.kind, forecast.facts)
    assert {each.kind for each in found} == {Kind.FORECAST}


def test_a_study_of_a_leak_of_one_day_says_when_memory_is_full() -> None:
    minutes = np.arange(26 * 60)
    values = 40 + 1.0 * minutes / 60 + np.random.default_rng(1).normal(0, 0.5, len(minutes))
    found = believed_of_study(
        study("memory_used_percent", NIGHT, values, idle(len(values)), 100.0).candidates
    )
    assert [each.kind for each in found] == [Kind.FORECAST]
    assert found[0].facts["in_h"] == pytest.approx(34, abs=2)


def test_a_study_says_that_a_level_changed() -> None:
    random = np.random.default_rng(1)
    values = 20 + 5 * np.sin(2 * np.pi * np.arange(7 * 1440) / 1440) + random.normal(0, 2, 7 * 1440)
    values[-30 * 60 :] += 15
    found = believed_of_study(study("cpu_percent", NIGHT, values, idle(len(values)), None).candidates)
    assert [each.kind for each in found] == [Kind.CHANGE]
    assert found[0].began == pytest.approx(NIGHT + 7 * DAY_S - 30 * HOUR_S, abs=HOUR_S)
    assert found[0].facts["after"] - found[0].facts["before"] == pytest.approx(15, abs=2)


def test_of_two_forecasts_of_a_series_the_surer_one_is_kept() -> None:
    pair = [Candidate(Kind.FORECAST, "m", p, True, began=n) for n, p in enumerate((1e-9, 1e-20))]
    assert [each.began for each in believed_of_study(pair)] == [1]


def test_series_that_repeat_others_are_left_out_and_limits_are_those_of_the_same_device() -> None:
    names = [
        "cpu_percent",
        "cpu_core_percent{core=1}",
        "gateway_records_lost_total",
        "gateway_running",
        "gpu_memory_used_bytes{gpu=1}",
    ]
    assert chosen(names) == ["cpu_percent", "gpu_memory_used_bytes{gpu=1}"]
    assert limit_of("gpu_memory_used_bytes{gpu=1}") == "gpu_memory_total_bytes{gpu=1}"
    assert limit_of("disk_used_percent{mount=/}") == 100.0
    assert limit_of("cpu_percent") is None


def test_what_is_small_does_not_matter() -> None:
    assert not matters("cpu_percent", 1.0, 2.0)
    assert not matters("cpu_percent", 4.0, 50.0)
    assert matters("cpu_percent", 6.0, 50.0)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_its_sentence_method_and_advice(kind: Kind) -> None:
    facts = {
        "value": 9.0, "expected": 5.0, "z": -3.0, "state": BUSY, "n": 500, "weeks": 2.0, "by_hour": 24, "alone": False,
        "limit": 100.0, "in_h": 30.0, "soonest_h": 20.0, "latest_h": 50.0, "slope": -1.0, "low": -2.0, "high": -0.5,
        "change": -24.0, "hours": 24.0, "before": 4.0, "after": 8.0, "now": 5.0, "ratio": 0.5,
    }  # fmt: skip
    for size in (-1.0, 1.0):
        assert words.advice(kind, "unheard_of_percent", size).endswith(".")
    said = words.sentence(kind, "cpu_percent", facts)
    assert "None" not in said + words.method(kind, facts)
    expected = {
        Kind.ANOMALY: "9 % over 3 min, below the 5 % that are usual at this hour while requests ran (z -3.0)",
        Kind.FORECAST: "reaches 100 % in 1 d 6 h, between 20 h and 2 d 2 h",
        Kind.TREND: "falls by 24 % a day (between 12 % and 48 %), 24 % over 1 d",
        Kind.CHANGE: "rose from 4 % to 8 % and stayed there",
        Kind.VOLATILITY: "scatters 2.0 times less within the hour than a week earlier: 5.0 % of its level, 4.0 % then",
    }
    assert said == expected[kind]
    assert BLOCK_S // BUCKET_S == IN_WINDOW
