"""Which loaded model goes, and why; by a clock that the test moves."""

from typing import Any

import pytest

from inference.gateway.eviction import Limits, Loaded, Room, Rules, choose

GIB, URL, NOW = 2**30, "http://engine", 10_000.0
PLENTY = Room(50 * GIB, 100 * GIB)
SHORT, VERY_SHORT = Room(15 * GIB, 100 * GIB), Room(5 * GIB, 100 * GIB)


def model(name: str, memory: int = GIB, vram: int = 0, **more: Any) -> Loaded:
    return Loaded(URL, "ollama", name, "d", memory, vram, "", **more)


def goes(*models: Loaded, idle: dict[str, float], **more: Any) -> tuple[str, str] | None:
    """(name, reason); `idle`: seconds since each was used. `busy` and `kept` by name."""
    given: dict[str, Any] = {"rules": Rules(), "limits": Limits(), "memory": PLENTY, "vram": None, **more}
    for name in ("busy", "kept"):
        given[name] = {(URL, each) for each in given.get(name, ())}
    used = {(URL, name): NOW - seconds for name, seconds in idle.items()}
    found = choose(models, used, NOW, **given)
    return (found.model.name, found.reason) if found else None


A, B, C = model("a"), model("b"), model("c")
IDLE = {"a": 10.0, "b": 300.0, "c": 100.0}


def test_without_a_rule_nothing_goes() -> None:
    assert goes(A, B, C, idle={"a": 1e6, "b": 1e6, "c": 1e6}, memory=VERY_SHORT) is None


def test_a_model_goes_when_it_was_idle_for_the_time() -> None:
    rules = Rules(idle_s=1800)
    assert goes(A, B, idle={"a": 1799, "b": 1799}, rules=rules) is None
    found = goes(A, B, idle={"a": 1799, "b": 1800}, rules=rules)
    assert found == ("b", "idle for 30 min, and unload_timeout_minutes is 30")
    assert goes(A, B, idle={"a": 1799, "b": 1800}, rules=rules, kept=["b"]) is None
    assert goes(A, B, idle={"a": 1799, "b": 1800}, rules=rules, busy=["b"]) is None


def test_beyond_the_number_of_models_the_least_recently_used_goes() -> None:
    rules = Rules(max_loaded=2)
    assert goes(A, B, idle=IDLE, rules=rules) is None
    assert goes(A, B, C, idle=IDLE, rules=rules) == ("b", "3 models were loaded, and model_cache_size is 2")
    assert goes(A, B, C, idle=IDLE, rules=rules, busy=["b"]) == (
        "c",
        "3 models were loaded, and model_cache_size is 2",
    )
    assert goes(A, B, C, idle=IDLE, rules=rules, busy=["a", "b", "c"]) is None
    kept = goes(A, B, C, idle=IDLE, rules=rules, kept=["b", "c"])
    assert kept is not None
    assert kept[0] == "a"  # what a person keeps goes last
    assert goes(A, B, C, idle=IDLE, rules=rules, kept=["a", "b", "c"]) is not None


def test_what_has_just_been_loaded_is_not_chosen_and_nothing_kept_goes_in_its_stead() -> None:
    rules, idle = Rules(max_loaded=1), {"a": 50.0, "b": 0.0}
    assert goes(A, B, idle=idle, rules=rules, kept=["a"]) is None
    assert goes(A, B, idle=idle, limits=Limits(memory_bytes=1), kept=["a"]) is None
    found = goes(A, B, idle={"a": 51.0, "b": 1.0}, rules=rules, kept=["a"])
    assert found is not None
    assert found[0] == "b"


def test_above_a_limit_the_least_recently_used_that_takes_of_it_goes() -> None:
    on_gpu = model("b", memory=0, vram=GIB)
    limits = Limits(memory_bytes=GIB)
    found = goes(A, on_gpu, C, idle=IDLE, limits=limits)
    assert found == ("c", "the loaded models took 2.00 GiB of memory, memory_limit_mb allows 1.00 GiB")
    assert goes(A, on_gpu, idle=IDLE, limits=limits) is None
    found = goes(A, on_gpu, idle=IDLE, limits=Limits(vram_bytes=GIB // 2, profile="tight"))
    assert found == ("b", "the loaded models took 1.00 GiB of GPU memory, profile tight allows 512 MiB")
    assert goes(A, idle=IDLE, limits=Limits(memory_bytes=1)) is None  # one alone stays


@pytest.mark.parametrize(
    ("room", "level"),
    [(Room(20, 100), "none"), (Room(19, 100), "some"), (Room(10, 100), "some"), (Room(9, 100), "high"), (Room(0, 0), "none")],
)  # fmt: skip
def test_levels_of_pressure(room: Room, level: str) -> None:
    assert room.level == level


def test_under_pressure_idle_models_go_sooner_the_higher_it_is() -> None:
    rules = Rules(relieves=True)
    assert goes(A, idle={"a": 1e6}, rules=rules) is None
    assert goes(A, idle={"a": 299}, rules=rules, memory=SHORT) is None
    found = goes(A, idle={"a": 300}, rules=rules, memory=SHORT)
    assert found == ("a", "pressure on memory was some (15% of 100 GiB free), idle for 5 min")
    assert goes(A, idle={"a": 29}, rules=rules, memory=VERY_SHORT) is None
    found = goes(A, idle={"a": 30}, rules=rules, memory=VERY_SHORT)
    assert found == ("a", "pressure on memory was high (5% of 100 GiB free), idle for 30 s")
    assert goes(A, idle={"a": 300}, rules=rules, memory=VERY_SHORT, busy=["a"]) is None


def test_what_a_person_keeps_goes_only_under_high_pressure() -> None:
    rules = Rules(relieves=True)
    assert goes(A, idle={"a": 1e4}, rules=rules, memory=SHORT, kept=["a"]) is None
    assert goes(A, idle={"a": 1e4}, rules=rules, memory=VERY_SHORT, kept=["a"]) is not None


def test_pressure_unloads_only_what_takes_of_the_memory_that_is_short() -> None:
    rules, on_gpu = Rules(relieves=True), model("b", memory=0, vram=GIB)
    found = goes(A, on_gpu, idle={"a": 1e4, "b": 100}, rules=rules, vram=VERY_SHORT)
    assert found is not None
    assert found[0] == "b"
    assert goes(on_gpu, idle={"b": 1e4}, rules=rules, memory=VERY_SHORT) is None
    elsewhere = model("a", is_here=False)  # an engine on another machine: the room here is not its own
    assert goes(elsewhere, idle={"a": 1e4}, rules=rules, memory=VERY_SHORT) is None
