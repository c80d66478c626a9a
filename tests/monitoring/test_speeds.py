"""Whether a model is slower than usual, and what else was otherwise then: no word where nothing is, the right one where
something is. Cards are recordings of real ones, fed second by second through the reader."""

import json
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from monitoring.analysis import services
from monitoring.analysis.causes import FACTORS, METRICS, SPEED, Explanation, Times, explain
from monitoring.analysis.speed import compare, load_classes, mean_of, slow_part, student
from monitoring.analysis.study import Candidate, Kind
from monitoring.models import Finding
from monitoring.readers.base import Roots
from monitoring.readers.nvidia import Driver
from monitoring.services import record_event
from monitoring.store.packing import Floats
from tests.monitoring.replay import Replay
from tests.monitoring.stored import store_rolled

HOST = settings.HOST_NAME
MODEL = "m:latest"
BEFORE = "in the 7 days before"
HELD = "gpu_held_power_cap_percent{gpu=0}"
DAY = 86_400
END = int(time.time()) // DAY * DAY - DAY
seeds = st.integers(0, 2**31)


def speeds(n: int, level: float, seed: int = 1, sd: float = 0.03) -> Floats:
    return level * (1 + np.random.default_rng(seed).normal(0, sd, n))


def times(speed: Floats, loads_per_h: float | None = None, /, **others: Floats) -> Times:
    named = {_name(key): value for key, value in others.items()}
    return Times(speed, load_classes(np.ones(len(speed))), named, loads_per_h)


def _name(key: str) -> str:
    if key.startswith("gpu_"):
        return f"{key}{{gpu=0}}"
    return f"{key}{{model={MODEL}}}" if key.startswith("model_") else key


def flat(n: int, level: float) -> Floats:
    return np.full(n, level)


@given(st.floats(1, 500), st.floats(0.3, 3.0), seeds)
@hypothesis_settings(max_examples=50)
def test_a_change_of_speed_is_found_within_its_interval(level: float, ratio: float, seed: int) -> None:
    now, before = speeds(60, level * ratio, seed), speeds(600, level, seed + 1)
    loads = load_classes(np.ones(60)), load_classes(np.ones(600))
    found = compare(now, loads[0], before, loads[1])
    assert found is not None
    assert found.change == pytest.approx(ratio - 1, abs=0.03 * ratio)
    assert found.low < found.change < found.high
    assert found.share == 1


@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_the_interval_of_a_difference_that_is_none_holds_zero_in_about_nineteen_of_twenty_cases(
    alike: float,
) -> None:
    held = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        both = []
        for n in (60, 600):
            noise = random.normal(0, 1, n)
            for place in range(1, n):
                noise[place] = alike * noise[place - 1] + math.sqrt(1 - alike**2) * noise[place]
            both.append(50 + noise)
        found = compare(both[0], load_classes(np.ones(60)), both[1], load_classes(np.ones(600)))
        assert found is not None
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / 400 <= 0.99


def test_speeds_are_compared_at_the_same_load_only() -> None:
    running = np.array([1.0] * 40 + [4.0] * 40)
    before = np.where(running < 2, 50.0, 20.0)
    now = np.full(20, 20.0)  # slower than the mean before, but as ever with four at once
    found = compare(now, load_classes(np.full(20, 4.0)), before, load_classes(running))
    assert found is not None
    assert found.change == pytest.approx(0)
    mixed = compare(
        np.concatenate([now, np.full(20, 9.0)]),
        load_classes(np.array([4.0] * 20 + [16.0] * 20)),
        before,
        load_classes(running),
    )
    assert mixed is not None
    assert (mixed.share, mixed.n_now) == (0.5, 20)
    assert compare(now, load_classes(np.full(20, 16.0)), before, load_classes(running)) is None
    assert load_classes(np.array([np.nan, 0, 1, 2, 3, 4, 5, 9])).tolist() == [0, 0, 0, 1, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("freedom", "point"), [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (1e9, 1.95996)]
)
def test_student_s_points_are_those_of_the_tables(freedom: float, point: float) -> None:
    assert student(freedom) == pytest.approx(point, rel=0.011)


@given(st.lists(st.floats(0, 1e6) | st.just(math.nan), max_size=40))
def test_a_mean_is_of_what_is_known_and_never_surer_than_its_points(values: list[float]) -> None:
    found = mean_of(np.array(values))
    known = [each for each in values if not math.isnan(each)]
    assert (found is None) == (len(known) < 2)
    if found is not None:
        assert found.value == pytest.approx(sum(known) / len(known))
        assert 2 <= max(found.n_alone, 2) <= max(found.n, 2)
        assert found.variance >= 0


@given(seeds)
@hypothesis_settings(max_examples=30)
def test_as_fast_as_usual_has_no_cause_whatever_else_changed(seed: int) -> None:
    found = explain(
        MODEL,
        times(speeds(60, 50, seed), gpu_held_power_cap_percent=flat(60, 90.0)),
        times(speeds(900, 50, seed + 1), gpu_held_power_cap_percent=flat(900, 1.0)),
        BEFORE,
    )
    if not found.is_slower:  # by chance it may be, by 3 % hardly ever
        assert found.causes == ()
        assert found.sentence.startswith(("as fast as usual", "3 % more"))


def test_a_power_cap_is_told_with_its_share_and_its_past_from_a_recorded_card(tmp_path: Path) -> None:
    """The card's own counters run on: 62 % of each second now, 3 % before."""
    replay = Replay("rtx-3080")
    card = Driver(Roots(proc=tmp_path / "proc", sys=tmp_path / "sys"), replay)
    card.read(0.0)

    def seconds(n: int, first: int, share: float) -> Floats:
        found = []
        for second in range(first, first + n):
            replay.fields["NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP"] += int(share * 1e9)
            found.append(card.read(float(second)).values[HELD])
        return np.array(found, np.float64)

    before = seconds(900, 1, 0.03).reshape(-1, 60).mean(1)
    now = seconds(600, 901, 0.62).reshape(-1, 60).mean(1)
    found = explain(
        MODEL,
        times(speeds(10, 41), gpu_held_power_cap_percent=now, gpu_clock_mhz=flat(10, 1500)),
        times(speeds(15, 50), gpu_held_power_cap_percent=before, gpu_clock_mhz=flat(15, 1950)),
        BEFORE,
    )
    assert found.is_slower
    assert found.sentence == "18 % fewer tokens/s: power-capped 62 % of the interval (3.0 % before)"
    assert [each.name for each in found.causes] == ["power cap"]  # the lower clock is its consequence
    assert "model on the CPU" in found.unknown
    assert "41" in found.measured
    assert "(95 %)" in found.measured


def test_heat_is_told_of_a_card_that_only_has_bits(tmp_path: Path) -> None:
    replay = Replay("a100-mig", nvmlDeviceGetCurrentClocksEventReasons=0x20)
    card = Driver(Roots(proc=tmp_path / "proc", sys=tmp_path / "sys"), replay)
    name = "gpu_held_software_thermal_percent{gpu=0}"
    card.read(0.0)
    hot = np.array([card.read(float(second)).values[name] for second in range(1, 31)], np.float64)
    replay.calls["nvmlDeviceGetCurrentClocksEventReasons"] = 0
    cool = np.array([card.read(float(second)).values[name] for second in range(31, 91)], np.float64)
    now, before = times(speeds(30, 30)), times(speeds(60, 60))
    found = explain(
        MODEL,
        Times(now.speed, now.loads, {name: hot}),
        Times(before.speed, before.loads, {name: cool}),
        BEFORE,
    )
    assert found.why == "slowed by heat 100 % of the interval (0 % before)"


CASES: list[tuple[str, float, float, str]] = [
    ("gpu_held_hardware_slowdown_percent", 40, 0, "slowed by the hardware 40 % of the interval (0 % before)"),
    ("gpu_power_limit_w", 200, 320, "power limit 200 W (was 320 W)"),
    ("gpu_clock_mhz", 1200, 1950, "GPU clock 1,200 MHz (was 1,950 MHz)"),
    ("model_cpu_share_percent", 38, 0, "38 % of the model on the CPU (was 0 %)"),
    ("cpu_others_percent", 71, 4, "other processes took 71 % of the CPU (was 4.0 %)"),
    ("cpu_frequency_mhz", 1200, 3400, "CPU clock 1,200 MHz (was 3,400 MHz)"),
    ("pressure_memory_full_percent", 12, 0, "everything waited for memory 12 % of the interval (0 % before)"),
    ("swap_in_bytes_per_s", 24 * 2**20, 0, "24.00 MiB/s came back from swap (was 0 B/s)"),
    ("model_prompt_tokens", 3100, 240, "prompts of 3,100 tokens (were 240)"),
    ("model_context_tokens", 8192, 2048, "a context of 8,192 tokens (was 2,048)"),
]  # fmt: skip


@pytest.mark.parametrize(("metric", "now", "before", "text"), CASES)
def test_each_cause_is_told_with_its_numbers_and_only_when_it_is_there(
    metric: str, now: float, before: float, text: str
) -> None:
    slow, usual = speeds(30, 30), speeds(300, 60)
    found = explain(
        MODEL,
        times(slow, None, **{metric: flat(30, now)}),
        times(usual, None, **{metric: flat(300, before)}),
        BEFORE,
    )
    assert found.why == text
    (cause,) = found.causes
    assert cause.now == pytest.approx(now)
    assert cause.before == pytest.approx(before)
    same = explain(
        MODEL,
        times(slow, None, **{metric: flat(30, before)}),
        times(usual, None, **{metric: flat(300, before)}),
        BEFORE,
    )
    assert same.causes == ()
    assert same.why == f"no cause seen among: {cause.name}"
    turned = explain(
        MODEL,
        times(slow, None, **{metric: flat(30, before)}),
        times(usual, None, **{metric: flat(300, now)}),
        BEFORE,
    )
    assert turned.causes == ()  # it moved to the better


def test_every_factor_has_a_case_or_a_test() -> None:
    tested = {metric for metric, *_ in CASES} | {
        "gpu_held_power_cap_percent", "gpu_held_software_thermal_percent", "loads_per_h",
        # the same words as those of another
        "gpu_held_hardware_thermal_percent", "gpu_held_power_brake_percent", "cpu_steal_percent",
    }  # fmt: skip
    assert tested == METRICS
    assert len({factor.name for factor in FACTORS}) == len(FACTORS)


def test_a_wide_interval_is_not_called_usual() -> None:
    wild = explain(MODEL, times(np.array([900.0, 30, 100, 950])), times(speeds(30, 1000)), BEFORE)
    assert wild.sentence.startswith("too little was generated to tell whether it is slower: 495 tokens/s")
    calm = explain(MODEL, times(speeds(40, 50)), times(speeds(300, 50)), BEFORE)
    assert calm.sentence.startswith("as fast as usual: ")


def test_reloads_are_told_by_the_hour_of_work() -> None:
    found = explain(MODEL, times(speeds(30, 30), 12.0), times(speeds(300, 60), 0.2), BEFORE)
    assert found.why == "loaded 12 times an hour of work (was 0.2)"
    assert explain(MODEL, times(speeds(30, 30), 0.2), times(speeds(300, 60), 0.2), BEFORE).causes == ()


def test_a_change_that_may_be_chance_is_no_cause() -> None:
    wild = np.random.default_rng(3).normal(20, 60, 30)
    found = explain(
        MODEL,
        times(speeds(30, 30), cpu_others_percent=wild + 12 - wild.mean() + 20),
        times(speeds(300, 60), cpu_others_percent=flat(300, 20.0)),
        BEFORE,
    )
    assert found.causes == ()


@given(st.integers(0, 260), st.integers(15, 200), seeds)
@hypothesis_settings(max_examples=40)
def test_a_slow_part_of_the_time_shown_is_placed(start: int, length: int, seed: int) -> None:
    stop = min(start + length, 300)
    places = np.arange(300)
    found = slow_part(speeds(300, 1, seed) * np.where((places >= start) & (places < stop), 40, 50))
    assert found is not None
    assert abs(found.start - start) <= 1
    assert abs(found.stop - stop) <= 1


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_an_even_speed_has_no_slow_part(alike: float) -> None:
    n_found = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        noise = random.normal(0, 1, 360)
        for place in range(1, 360):
            noise[place] = alike * noise[place - 1] + math.sqrt(1 - alike**2) * noise[place]
        n_found += slow_part(50 + 3 * noise) is not None
    assert n_found <= 1


def test_gaps_long_times_and_few_points_are_no_matter_to_a_slow_part() -> None:
    assert slow_part(speeds(12, 50)) is None
    assert slow_part(np.full(100, np.nan)) is None
    assert slow_part(np.full(100, 50.0)) is None
    gaps = speeds(4000, 1) * np.where(np.arange(4000) < 3000, 50, 40)
    gaps[np.arange(4000) % 3 > 0] = np.nan
    found = slow_part(gaps)
    assert found is not None
    assert abs(found.start - 3000) <= 12
    assert found.stop <= 4000


def test_another_model_s_series_and_an_unknown_past_say_nothing() -> None:
    slow, usual = times(speeds(30, 30)), times(speeds(300, 60))
    others = {"model_cpu_share_percent{model=other}": flat(30, 90.0), "cpu_others_percent": flat(30, 90.0)}
    found = explain(MODEL, Times(slow.speed, slow.loads, others), usual, BEFORE)
    assert found.causes == ()
    held = Times(slow.speed, slow.loads, {HELD: flat(30, 62.0)})
    assert explain(MODEL, held, usual, BEFORE).why == "power-capped 62 % of the interval (unknown before)"


def test_of_several_cards_the_one_that_was_held_most_is_named() -> None:
    slow, usual = times(speeds(30, 30)), times(speeds(300, 60))
    cards = "gpu_held_power_cap_percent{gpu=0}", "gpu_held_power_cap_percent{gpu=1}"
    now = Times(slow.speed, slow.loads, {cards[0]: flat(30, 2.0), cards[1]: flat(30, 80.0)})
    before = Times(usual.speed, usual.loads, dict.fromkeys(cards, flat(300, 2.0)))
    assert explain(MODEL, now, before, BEFORE).why.startswith("GPU 1: power-capped 80 %")


def test_an_explanation_is_kept_as_json_and_read_again() -> None:
    found = explain(
        MODEL,
        times(speeds(30, 30), cpu_others_percent=flat(30, 70.0)),
        times(speeds(300, 60), cpu_others_percent=flat(300, 7.0)),
        BEFORE,
    )
    assert Explanation.of_json(json.loads(json.dumps(found.as_json()))) == found
    bare = explain(MODEL, times(speeds(30, 30)), times(speeds(3, 60)), BEFORE)
    assert bare.sentence.startswith("nothing to compare with")
    assert Explanation.of_json(json.loads(json.dumps(bare.as_json()))) == bare


def record_slow_hour() -> int:
    """Two days at 60 tokens/s, then an hour at 45 while other processes use the CPU; the hour's beginning."""
    n, start = 2 * DAY, END - 2 * DAY
    whole = n + 3600
    slow = np.arange(whole) >= n
    random = np.random.default_rng(5)
    store_rolled(
        HOST,
        start,
        {
            f"{SPEED}{{model={MODEL}}}": np.where(slow, 45.0, 60.0) * (1 + random.normal(0, 0.02, whole)),
            "cpu_others_percent": np.where(slow, 70.0, 5.0) + random.normal(0, 1, whole),
            "gateway_running": np.ones(whole),
        },
    )
    return END


@pytest.fixture
def person(client: Client) -> Client:
    client.force_login(User.objects.create_user("anna"))
    return client


@pytest.mark.django_db
def test_the_history_page_says_why_a_model_was_slow_in_the_time_shown(person: Client) -> None:
    begin = record_slow_hour()
    record_event(host=HOST, at=begin + 60, kind="model", text=f"{MODEL} loaded")
    address = reverse("history-speeds")
    ask = {"from": stamp(begin), "to": stamp(begin + 3600)}
    page = person.get(address, ask).content.decode()
    assert "25 % fewer tokens/s: other processes took 70 % of the CPU (was 5.0 %)" in page
    assert "Not known here: power cap" in page
    wide = {"from": stamp(begin - 5 * 3600), "to": stamp(begin + 3600)}
    page = person.get(address, wide).content.decode()
    assert "25 % fewer tokens/s: other processes" in page  # of the last hour, which the whole hides
    assert stamp(begin).replace("Z", "+00:00") in page
    alone = {**ask, "from": stamp(begin - 2 * 3600), "compare": "week"}  # nothing is known of a week earlier
    page = person.get(address, alone).content.decode()
    assert "25 % fewer tokens/s: other processes took 70 % of the CPU (was 5.0 %)" in page
    assert "in the rest of this time" in page
    calm = {"from": stamp(begin - 7200), "to": stamp(begin - 3600)}
    assert "as fast as usual" in person.get(address, calm).content.decode()
    day = person.get(address, {**ask, "compare": "day"}).content.decode()
    assert "24 h earlier" in day
    assert (
        person.get(address, {"from": stamp(begin - 9 * DAY), "to": stamp(begin - 8 * DAY)}).content.strip()
        == b""
    )
    assert person.get(address, {"range": "nonsense"}).status_code == 400


@pytest.mark.django_db
def test_a_finding_of_a_slow_model_keeps_what_else_was_otherwise(person: Client) -> None:
    begin = record_slow_hour()
    series = f"{SPEED}{{model={MODEL}}}"
    facts: dict[str, Any] = {
        "value": 45.0, "expected": 60.0, "z": -9.0, "state": 1, "by_hour": 0, "alone": True, "n": 900, "weeks": 0.3,
        "low": 58.0, "high": 62.0, "is_usual": False,
    }  # fmt: skip
    candidate = Candidate(Kind.ANOMALY, series, 1e-9, True, -15.0, begin, facts)
    at = datetime.fromtimestamp(begin + 3600, UTC)
    services._keep([candidate], HOST, at)
    finding = Finding.objects.get()
    (found,) = finding.explanations
    assert found.why == "other processes took 70 % of the CPU (was 5.0 %)"
    listed = person.get(reverse("insights")).content.decode()
    assert "25 % fewer tokens/s: other processes took 70 %" in listed
    page = person.get(reverse("finding", args=[finding.pk])).content.decode()
    assert "What else was otherwise" in page
    assert "What was true at the same time need not be the cause" in page
    faster = Candidate(Kind.CHANGE, series, 1e-9, True, 15.0, begin, {"before": 45.0, "after": 60.0, "n": 99})
    services._keep([faster], HOST, at)
    assert Finding.objects.get(kind=Kind.CHANGE).explanations == []


def stamp(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"
