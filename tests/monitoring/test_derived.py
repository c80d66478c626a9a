"""Joules per token, and models joined to what the GPU driver says of their processes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.collector import _join_models
from monitoring.derived import JoulesPerToken, LeftToCpu, cpu_of_others

NAMES = ("gpu_joules_per_token", "gpu_joules_per_token_error")


def feed(joules: JoulesPerToken, at: float, energy: float | None, tokens: float | None) -> Any:
    found = joules.of(at, {"gpu_energy_j{gpu=0}": energy}, {"gateway": {"tokens_total": tokens}})
    return tuple(found[name] for name in NAMES)


@given(st.floats(1, 700), st.integers(1, 500))
def test_a_steady_load_costs_its_power_over_its_rate(watts: float, rate: int) -> None:
    joules = JoulesPerToken()
    for second in range(120):
        found = feed(joules, float(second), 1000 + watts * second, rate * second)
    assert found[0] == pytest.approx(watts / rate)
    assert found[1] == pytest.approx(watts / rate * (0.05**2 + (1 / 60) ** 2) ** 0.5)


def test_what_is_not_known_is_not_given() -> None:
    joules = JoulesPerToken()
    assert (
        joules.of(0.0, {}, {"gateway": {"tokens_total": 1}}) == {}
    )  # no GPU that counts energy: no such series
    assert feed(joules, 1.0, 100.0, 10) == (None, None)
    assert feed(joules, 2.0, 200.0, 10) == (None, None)  # nothing generated
    assert feed(joules, 3.0, 300.0, 20) == (20.0, pytest.approx(10.05, abs=0.001))
    assert feed(joules, 4.0, 5.0, 30) == (None, None)  # the driver was loaded anew
    assert feed(joules, 5.0, 10.0, 35)[0] == 1.0
    assert feed(joules, 6.0, None, 40) == (None, None)
    assert feed(joules, 7.0, 20.0, 45) == (None, None)


def test_a_model_s_process_is_found_on_every_card() -> None:
    state: dict[str, Any] = {
        "models": [
            {"name": "a:7b", "pid": 7, "gpu_share": 0.75},
            {"name": "b", "pid": 8, "gpu_share": 1.0},
            {"name": "c", "pid": None, "gpu_share": None},
        ],
        "gpus": [
            {"processes": [{"pid": 7, "memory_bytes": 100}, {"pid": 8, "memory_bytes": None}]},
            {"processes": [{"pid": 7, "memory_bytes": 50}, {"pid": 8, "memory_bytes": 1}]},
        ],
    }
    assert _join_models(state) == {
        "model_process_vram_bytes{model=a:7b}": 150,
        "model_process_vram_bytes{model=b}": None,
        "model_process_vram_bytes{model=c}": None,
    }
    assert _join_models({**state, "gpus": []}) == {}
    _join_models(state)
    assert [each["process_vram_bytes"] for each in state["models"]] == [150, None, None]


def left(seen: LeftToCpu, now: float, share: float | None, **state: Any) -> Any:
    models = [] if share is None else [{"name": "a:7b", "gpu_share": share}]
    found = seen.of(now, {"engine": {"up": True}, "gpus": [{}], "models": models, **state})
    return tuple(found.values())


def test_what_is_left_to_the_cpu_is_compared_with_what_was_before() -> None:
    seen = LeftToCpu()
    assert left(seen, 0.0, 1.0, gpus=[]) == ()  # there is nowhere else to be
    assert left(seen, 1.0, 0.75) == (25.0, 0.0)
    assert left(seen, 2.0, None) == ()
    assert left(seen, 50.0, 0.5) == (50.0, 25.0)  # of its last load
    assert left(seen, 100.0, 0.25) == (75.0, 50.0)  # one change after the other is one
    assert left(seen, 699.0, 0.25) == (75.0, 50.0)
    assert left(seen, 700.0, 0.25) == (75.0, 0.0)
    assert left(seen, 800.0, 1.0) == (0.0, -75.0)
    assert left(seen, 801.0, 1.0, engine={"up": False}) == ()


def test_a_model_that_is_gone_for_long_is_on_no_cpu_and_then_no_series() -> None:
    seen = LeftToCpu()
    assert left(seen, 1.0, 0.5) == (50.0, 0.0)
    assert left(seen, 2.0, None) == left(seen, 601.0, None) == ()
    assert left(seen, 602.0, None) == left(seen, 901.0, None) == (0.0, 0.0)
    assert left(seen, 902.0, None) == ()
    assert left(seen, 5000.0, 0.25) == (75.0, 25.0)


def test_other_processes_have_what_the_models_do_not() -> None:
    up: dict[str, Any] = {"engine": {"up": True}, "models": [{"process_cpu_percent": 30.0}]}
    assert cpu_of_others({"cpu_percent": 80.0}, up) == {"cpu_others_percent": 50.0}
    assert cpu_of_others({"cpu_percent": 20.0}, up) == {"cpu_others_percent": 0.0}
    assert cpu_of_others({"cpu_percent": 20.0}, {**up, "models": []}) == {"cpu_others_percent": 20.0}
    unknown = {**up, "models": [{"process_cpu_percent": None}, *up["models"]]}
    assert cpu_of_others({"cpu_percent": 80.0}, unknown) == {"cpu_others_percent": None}
    assert cpu_of_others({"cpu_percent": 80.0}, {"engine": {"up": False}}) == {}
