"""The parts without a database: inheritance, checks, the gateway's form, hardware, YAML."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.gateway.profile import Profile
from tuning import yaml_files
from tuning.fields import BY_NAME, FIELDS, Field, Values, in_range, problem, shown
from tuning.gateway_form import Machine, gateway_form, thread_cap
from tuning.hardware import GIB, Gpu, Hardware, judge
from tuning.inheritance import (
    DEFAULT,
    MAX_DEPTH,
    Effective,
    InheritanceError,
    check_tree,
    differences,
    effective,
    lineage,
)
from tuning.predefined import PREDEFINED
from tuning.yaml_files import ProfileFileError

OPEN: Values = dict.fromkeys(BY_NAME)


def good_values(field: Field) -> st.SearchStrategy[Any]:
    if field.kind == "switch":
        return st.booleans()
    if field.kind == "choice":
        return st.sampled_from([name for name, _ in field.choices])
    if field.kind == "integer":
        return st.integers(int(field.low), int(field.high))
    return st.floats(field.low, field.high)


own_values = st.fixed_dictionaries({field.name: st.none() | good_values(field) for field in FIELDS})


# --- inheritance ------------------------------------------------------------------------------------------


@given(st.lists(own_values, min_size=1, max_size=5), own_values)
def test_a_value_is_the_nearest_that_is_set_and_says_where_from(
    lines: list[Values], defaults: Values
) -> None:
    named = [(f"p{number}", values) for number, values in enumerate(lines)]
    found = effective(named, defaults)
    assert list(found) == list(BY_NAME)
    for name, each in found.items():
        setters = [(level, values[name]) for level, values in named if values[name] is not None]
        expected = (setters[0][1], setters[0][0]) if setters else (defaults[name], DEFAULT)
        assert (each.value, each.source) == expected


@given(st.dictionaries(st.sampled_from("abcdefghijkl"), st.none() | st.sampled_from("abcdefghijkl")))
def test_every_line_ends_or_is_refused(parent_of: dict[str, str | None]) -> None:
    for name in parent_of:
        try:
            line = lineage(name, parent_of)
        except InheritanceError:
            continue
        assert len(line) == len(set(line)) <= MAX_DEPTH
        assert parent_of.get(line[-1]) is None


def test_a_circle_and_too_deep_a_line_are_named() -> None:
    with pytest.raises(InheritanceError, match="a -> b -> a is a circle"):
        lineage("a", {"a": "b", "b": "a"})
    with pytest.raises(InheritanceError, match="a -> a is a circle"):
        check_tree({"a": "a"})
    deep: dict[str, str | None] = {str(number): str(number + 1) for number in range(MAX_DEPTH)}
    with pytest.raises(InheritanceError, match=f"more than {MAX_DEPTH} profiles deep"):
        check_tree(deep)


def test_differences_name_each_key_once() -> None:
    assert differences({"a": 1, "b": 2, "gone": 3}, {"a": 1, "b": 5, "new": 6}) == [
        ("b", 2, 5),
        ("new", None, 6),
        ("gone", 3, None),
    ]


# --- checks -----------------------------------------------------------------------------------------------


@given(st.data())
@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_good_values_pass_and_have_words(field: Field, data: st.DataObject) -> None:
    value = data.draw(st.none() | good_values(field))
    assert problem(field, value) is None
    assert shown(field, value)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_bad_values_are_refused_with_what_to_do(field: Field) -> None:
    bad: list[Any] = ["nonsense", [1]]
    if field.kind in {"integer", "number"}:
        bad += [field.low - 1, field.high + 1, True, float("nan"), float("inf")]
        bad += [field.low + 0.5] if field.kind == "integer" else []
    elif field.kind == "switch":
        bad += [1, "on"]
    for value in bad:
        text = problem(field, value)
        assert text is not None, value
        if field.kind in {"integer", "number"}:
            assert in_range(field) in text


# --- the twelve -------------------------------------------------------------------------------------------

# Written down from the list of features: quantization, memory MB, CPU %, context, parallel, answer, cache minutes.
TABLE = {
    "hardware_low_end": ("int4", 2048, 70, 1024, 1, 256, 10),
    "hardware_medium_end": ("int8", 4096, 80, 2048, 2, 512, 5),
    "hardware_high_end": ("fp16", 8192, 90, 4096, 4, 1024, 2),
    "hardware_server_grade": ("fp16", 32768, 95, 8192, 8, 2048, 2),
    "use_case_real_time": ("int8", 4096, 80, 1024, 1, 256, 1),
    "use_case_batch": ("dynamic", 4096, 80, 2048, 8, 512, None),
    "use_case_interactive": ("dynamic", 4096, 80, 2048, 2, 512, 5),
    "use_case_background": ("dynamic", 2048, 60, 2048, 1, 512, 15),
    "use_case_demo": ("int8", 4096, 80, 2048, 1, 256, 60),
    "performance_maximum": ("none", 16384, 95, 4096, 8, 1024, 1),
    "performance_balanced": ("dynamic", 4096, 80, 2048, 2, 512, 5),
    "resource_efficient": ("int4", 1024, 60, 512, 1, 128, 15),
}


def test_the_shipped_twelve_are_those_of_the_table_and_valid() -> None:
    columns = ("quantization", "memory_mb", "cpu_percent", "context", "batch", "num_predict", "cache_ttl_min")
    assert {each.name: tuple(each.values.get(name) for name in columns) for each in PREDEFINED} == TABLE
    for each in PREDEFINED:
        assert not [text for name, value in each.values.items() if (text := problem(BY_NAME[name], value))]
    by_name = {each.name: each.values for each in PREDEFINED}
    assert by_name["use_case_batch"]["cache"] is False
    assert by_name["use_case_real_time"]["temperature"] == 0.05
    alerts = ("alert_memory_percent", "alert_cpu_percent", "alert_seconds")
    assert [by_name["resource_efficient"][name] for name in alerts] == [80, 70, 90]
    assert [by_name["hardware_high_end"][name] for name in alerts] == [95, 95, 15]


# --- the gateway's form -----------------------------------------------------------------------------------


@given(own_values, st.integers(1, 256), st.integers(1, 128), st.none() | st.integers(0, 2**40))
def test_whatever_is_valid_the_gateway_takes(
    values: Values, threads: int, cores: int, vram: int | None
) -> None:
    form = gateway_form("p", values, Machine(threads, min(cores, threads), vram))
    profile = Profile(**form)
    assert None not in profile.options.values()
    assert profile.max_threads is None or 1 <= profile.max_threads <= threads


def test_limits_in_per_cent_become_threads_and_bytes() -> None:
    values = OPEN | {
        "cpu_percent": 50,
        "memory_optimization": True,
        "memory_mb": 2048,
        "gpu_memory_percent": 50,
    }
    form = gateway_form("p", values, Machine(threads=8, cores=8, gpu_memory_bytes=10 * GIB))
    assert (form["max_threads"], form["options"]) == (4, {"num_thread": 4})
    assert (form["memory_bytes"], form["vram_bytes"]) == (2 * GIB, 5 * GIB)
    # four cores of eight threads use half of the machine by themselves
    assert gateway_form("p", values, Machine(threads=8, cores=4))["options"] == {}
    off = gateway_form("p", values | {"memory_optimization": False}, Machine(8, 8, 10 * GIB))
    assert (off["memory_bytes"], off["vram_bytes"]) == (None, None)
    assert thread_cap(1, 2) == 1


# --- hardware ---------------------------------------------------------------------------------------------


def machine(threads: int, gib: float, *cards: float, **changes: Any) -> Hardware:
    gpus = tuple(Gpu("card", int(size * GIB)) for size in cards)
    return Hardware("CPU", threads, threads, int(gib * GIB), **{"gpus": gpus, **changes})


@pytest.mark.parametrize(
    ("hardware", "grade", "reason"),
    [
        (machine(2, 24), "low_end", "medium asks for 4 threads"),
        (machine(4, 8), "medium_end", "no GPU found"),
        (machine(16, 32), "high_end", "16 CPU threads and 32 GiB"),
        (machine(64, 256), "server_grade", "64 CPU threads"),
        (machine(4, 8, 24), "high_end", "a GPU with 24 GiB"),
        (machine(2, 4, 8), "medium_end", "a GPU with 8 GiB"),
        (machine(16, 64, 24, 24), "server_grade", "2 GPUs with 48 GiB together"),
        (machine(2, 4, gpus=None, gpu_note="the collector does not run"), "low_end", "does not run"),
        (machine(4, 8, gpus=(Gpu("old", None),)), "medium_end", "doesn't tell its memory"),
    ],
)
def test_a_machine_has_a_class_and_the_reason(hardware: Hardware, grade: str, reason: str) -> None:
    verdict = judge(hardware)
    assert verdict.grade == grade
    assert reason in verdict.reason
    assert verdict.profile in TABLE


# --- YAML -------------------------------------------------------------------------------------------------


@given(own_values)
def test_what_is_written_is_read_back(values: Values) -> None:
    about = {"description": "ü: #1", "category": "custom", "target_hardware": "any", "target_use": "any"}
    snapshot = {**about, "tags": ["a"], "parent": "q", **values}
    assert yaml_files.read(yaml_files.write([("p", snapshot)])) == {"p": snapshot}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("profiles: [", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("profiles: [{name: a, tags: [2026-13-45]}]", "not valid YAML"),
        ("- a", "one key 'profiles'"),
        ("profiles: {a: 1}", "one key 'profiles'"),
        ("profiles: []\nmore: 1", "one key 'profiles'"),
        ("profiles: []", "nothing to import"),
        ("profiles: [7]", "profiles[0]: must be a mapping with a 'name'"),
        ("profiles: [{name: a, contxt: 1}]", "profiles[0] (a): contxt: is not a known key"),
        ("profiles: [{name: a, context: 5}]", "context: 5 is out of range: give 512 to 131072 tokens"),
        ("profiles: [{name: a, gpu: maybe}]", "gpu: 'maybe' is neither true nor false"),
        ("profiles: [{name: a, category: x}]", "category: 'x' is none of hardware"),
        ("profiles: [{name: a, parent: [1]}]", "parent: [1] is not text"),
        ("profiles: [{name: a}, {name: a}]", "a stands twice"),
    ],
)
def test_a_bad_file_is_refused_by_key(text: str, named: str) -> None:
    with pytest.raises(ProfileFileError) as error:
        yaml_files.read(text)
    assert named in str(error.value)


def test_all_problems_of_a_file_are_told_at_once() -> None:
    with pytest.raises(ProfileFileError) as error:
        yaml_files.read("profiles: [{name: a, batch: 0, top_p: 7}, {name: b, nope: 1}]")
    assert len(str(error.value).splitlines()) == 3


def test_words_say_unit_and_what_open_means() -> None:
    assert shown(BY_NAME["memory_mb"], 2048) == "2048 MB"
    assert shown(BY_NAME["temperature"], 0.05) == "0.05"
    assert shown(BY_NAME["engine_batch"], None) == "left to the engine"
    assert Effective(1, DEFAULT).source == "default"
