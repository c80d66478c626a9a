"""What is decided for each model, without a database or an engine."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from inference.levels import DYNAMIC, FP16, INT4, INT8, Form, is_of, of_level, share_of
from tuning.steps import Line, Model, Wish, lines

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)
GIB = 2**30
Q4 = Form("m:q4_K_M", "Q4_K_M", 0.01)
ASKED = Wish(by="profile p", max_loss=0.05, level=INT4, every=True)
LARGE = Wish(by="config.yaml", max_loss=0.05, level=INT4, large_bytes=2 * GIB)


def model(**changes: Any) -> Model:
    values: dict[str, Any] = {
        "engine_kind": "ollama",
        "name": "m:latest",
        "digest": "d",
        "quantization": "F16",
        "size_bytes": GIB,
        "modified_at": LONG_AGO,
    }
    return Model(**{**values, **changes})


def decide(one: Model, wish: Wish, *forms: Form, pressed: str = "", **more: list[Form]) -> Line:
    """`more`: forms of the first variant, by its name in words of Python."""
    found = {("ollama", "m:latest"): list(forms)}
    found |= {("ollama", name.replace("__", ":")): each for name, each in more.items()}
    return lines([one], found, wish, pressed=pressed, now=NOW)[0]


def done(line: Line) -> list[tuple[str, str, str]]:
    return [(each.kind, each.model, each.what) for each in line.steps]


# --- levels -----------------------------------------------------------------------------------------------


def test_the_best_of_a_level_is_ollama_s_type_then_the_least_loss() -> None:
    forms = [
        Form("a", "Q4_0", 0.001),
        Form("b", "Q4_K_M", None),
        Form("c", "Q4_K_M", 0.3),
        Form("d", "IQ4_NL", 0.1),
        Form("e", "Q4_K_M", 0.0001, pruned=True),
        Form("f", "Q4_K_M", 0.0001, searched=True),
        Form("i", "Q4_K_M", 0.0001, distilled=True),
        Form("g", "Q8_0", 0.0001),
        Form("h", "F16", 0.0),
    ]
    assert [each.name for each in of_level(INT4, forms)] == ["c", "b", "a", "d"]
    assert [each.name for each in of_level(DYNAMIC, forms)] == ["f"]
    assert [each.name for each in of_level(INT8, forms)] == ["g"]
    assert [each.name for each in of_level(FP16, forms)] == ["h"]


def test_what_a_model_is_already_is_known() -> None:
    assert is_of(INT4, "q4_K_M")
    assert is_of(FP16, "BF16")
    assert not is_of(INT8, "Q5_K_M")
    assert not is_of(DYNAMIC, "Q4_K_M")  # a type alone doesn't tell that one was searched
    assert share_of(INT8, "F16") == pytest.approx(0.53, abs=0.01)
    assert share_of(INT4, "F32") == pytest.approx(0.15, abs=0.01)
    assert share_of(INT4, "") is None


# --- what a profile asks of every model -------------------------------------------------------------------


def test_a_measured_variant_answers() -> None:
    line = decide(model(), ASKED, Q4)
    assert (line.state, line.target, line.steps, line.every) == ("fits", "m:q4_K_M", (), True)
    assert "loses 0.01 nats" in line.words


def test_a_missing_one_is_to_be_made_and_its_size_is_told() -> None:
    line = decide(model(), ASKED)
    assert (line.state, line.target) == ("missing", "")
    assert done(line) == [("quantize", "m:latest", "q4_K_M")]
    assert line.steps[0].reason == "profile p says INT4"
    assert line.steps[0].expected_bytes == int(GIB * 4.85 / 16)
    assert decide(model(quantization=""), ASKED).steps[0].expected_bytes is None


def test_one_that_loses_too_much_is_not_used_and_not_made_again() -> None:
    line = decide(model(), ASKED, Form("m:q4", "Q4_K_M", 0.06))
    assert (line.state, line.target, line.steps) == ("over", "", ())
    assert "more than 0.05" in line.words
    better = decide(model(), ASKED, Form("m:q4", "Q4_K_M", 0.06), Form("m:q4_1", "Q4_1", 0.05))
    assert better.target == "m:q4_1"


def test_an_unmeasured_one_is_to_be_measured() -> None:
    line = decide(model(), ASKED, Form("m:q4", "Q4_K_M", None))
    assert (line.state, done(line)) == ("unmeasured", [("measure", "m:latest", "m:q4")])


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"quantization": "Q4_0"}, "so", "is INT4 itself"),
        ({"quantization": "Q5_K_M"}, "impossible", "is Q5_K_M already: INT4 is made from"),
        ({"is_made": True}, "so", "made here"),
        ({"writes": False}, "so", "only embeds"),
    ],
)
def test_what_can_t_or_needn_t_be_made_is_left(changes: dict[str, Any], state: str, words: str) -> None:
    line = decide(model(**changes), ASKED)
    assert (line.state, line.target, line.steps) == (state, "", ())
    assert words in line.words


def test_fewer_layers_and_a_level_come_together() -> None:
    wish = Wish(by="profile p", max_loss=0.05, level=INT4, every=True, prunes=True)
    assert done(decide(model(), wish)) == [
        ("prune", "m:latest", "fewer layers"),
        ("quantize", "m:latest", "q4_K_M"),
    ]
    short = Form("m:pruned", "F16", 0.02, pruned=True)
    line = decide(model(), wish, short, Q4)
    assert (line.target, done(line)) == ("m:pruned", [("quantize", "m:pruned", "q4_K_M")])
    both = decide(model(), wish, short, m__pruned=[Form("m:pruned-q4", "Q4_K_M", 0.01)])
    assert (both.target, both.steps) == ("m:pruned-q4", ())


# --- what is large, or short of memory --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size_bytes": 2 * GIB}, ""),
        ({"size_bytes": 2 * GIB + 1}, "it takes 2048 MiB on the disk, and memory_threshold_mb is 2048"),
        ({"loaded_bytes": 3 * GIB}, "it takes 3072 MiB of memory, and memory_threshold_mb is 2048"),
    ],
)
def test_without_a_profile_only_large_models_are_asked(changes: dict[str, Any], reason: str) -> None:
    line = decide(model(**changes), LARGE)
    assert [each.reason for each in line.steps] == ([reason] if reason else [])
    assert not line.every


def test_pressure_asks_the_loaded_ones_whatever_their_size() -> None:
    pressed = "memory was short at 3 looks within 30 minutes"
    assert decide(model(), LARGE, pressed=pressed).steps == ()
    line = decide(model(loaded_bytes=GIB), LARGE, pressed=pressed)
    assert line.steps[0].reason == f"{pressed}, and it takes 1024 MiB of memory"
    assert decide(model(loaded_bytes=GIB), LARGE).steps == ()


def test_nothing_wished_is_nothing_done() -> None:
    quiet = Wish(by="profile p", max_loss=0.05, every=True)
    line = decide(model(size_bytes=99 * GIB, loaded_bytes=99 * GIB), quiet, Q4, pressed="short")
    assert (line.state, line.target, line.steps) == ("so", "", ())


# --- cold models ------------------------------------------------------------------------------------------

PACK = Wish(by="profile p", max_loss=0.05, packing="zstd", cold_after=timedelta(days=7))


@pytest.mark.parametrize(
    ("changes", "cold"),
    [
        ({}, True),
        ({"used_at": NOW - timedelta(days=6)}, False),
        ({"used_at": NOW - timedelta(days=7)}, True),
        ({"modified_at": NOW - timedelta(days=1)}, False),
        ({"modified_at": None}, False),  # nobody knows since when it is there
        ({"loaded_bytes": 1}, False),
        ({"is_archived": True}, False),
        ({"is_made": True}, True),
        ({"writes": False}, True),
    ],
)
def test_a_model_that_nobody_asks_for_is_cold(changes: dict[str, Any], cold: bool) -> None:
    line = decide(model(**changes), PACK)
    assert done(line) == ([("archive", "m:latest", "zstd")] if cold else [])


def test_without_a_profile_only_large_cold_models_are_packed() -> None:
    wish = Wish(by="config.yaml", max_loss=0.05, packing="gzip", pack_above_bytes=2e9)
    assert decide(model(), wish).steps == ()
    large = Wish(**{**vars(wish), "level": INT4, "large_bytes": GIB})
    line = decide(model(size_bytes=3 * GIB), large)
    assert done(line) == [("archive", "m:latest", "gzip")]  # rather than made smaller
    assert line.steps[0].reason == (
        "nobody asked for it in 30 days, and it has 3.2 GB; config.yaml says gzip"
    )
