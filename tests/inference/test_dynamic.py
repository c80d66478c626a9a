"""A type per tensor: the solver, the budget, the search on the real kernels and llama.cpp, the verdict."""

import itertools
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given
from hypothesis import strategies as st

from inference.gguf_tools.container import read_header
from inference.gguf_tools.quantize import planned_bytes, planned_types
from inference.quality.allocation import Choice, NoAllocationError, allocate
from inference.quality.paired import difference
from inference.sample_model.evaluate import FILE
from inference.work.budget import read_budget
from inference.work.dynamic import Dynamic, groups_of
from inference.work.prompts import ChatTemplate

choices = st.lists(
    st.tuples(st.integers(-50, 50), st.floats(-1, 1, allow_nan=False)), min_size=1, max_size=4
).map(lambda found: [Choice("same", 0, 0.0), *(Choice(str(n), *each) for n, each in enumerate(found))])


@given(st.lists(choices, min_size=1, max_size=4), st.integers(0, 80))
def test_the_allocation_is_the_best_of_all_that_fit(groups: list[list[Choice]], room: int) -> None:
    named = {f"g{number}": each for number, each in enumerate(groups)}
    found = allocate(named, max_bytes=room)
    taken = [next(c for c in named[name] if c.type == kind) for name, kind in found.items()]
    assert sum(each.n_bytes for each in taken) <= room
    every = itertools.product(*named.values())
    best = min(sum(c.loss for c in combo) for combo in every if sum(c.n_bytes for c in combo) <= room)
    assert sum(each.loss for each in taken) == pytest.approx(best, abs=1e-6)


def test_a_budget_of_loss_gives_the_smallest_and_none_at_all_is_said() -> None:
    groups = {
        "a": [Choice("x", 10, 0.0), Choice("y", 2, 0.4)],
        "b": [Choice("x", 10, 0.0), Choice("y", 3, 0.2)],
    }
    assert allocate(groups, max_loss=0.3) == {"a": "x", "b": "y"}
    assert allocate(groups, max_loss=0.6) == {"a": "y", "b": "y"}
    with pytest.raises(NoAllocationError):
        allocate(groups, max_bytes=4)


def test_budgets_are_read_and_refused_with_a_sentence() -> None:
    header = read_header(FILE)
    assert read_budget("q4_K_M").of(header) == planned_bytes(header, planned_types(header, "q4_K_M"))
    assert read_budget("1.5GiB").of(header) == int(1.5 * 2**30)
    assert read_budget("1500 MB").of(header) == 1_500_000_000
    assert read_budget("40%").of(header) == pytest.approx(0.4 * FILE.stat().st_size, rel=0.02)
    for text in ("", "q9", "40", "-1MB", "0%", "many MB", "9" * 400 + "MB", "1" * 13 + "GB"):
        with pytest.raises(ValueError, match="is no budget: give a type"):
            read_budget(text)


def test_large_models_are_searched_in_stretches_of_layers() -> None:
    header = read_header(FILE)
    assert len(groups_of(header)) == 43  # each tensor of the sample by itself
    names = {name for members in groups_of(header).values() for name in members}
    planned = planned_types(header, "q4_0")
    assert names == {
        name for name, kind in planned.items() if kind == Type.Q4_0 or name == "token_embd.weight"
    }


def test_the_difference_of_pairs_has_an_interval_from_three_on() -> None:
    assert difference([], []) is None
    two = difference([1.0, 2.0], [2.0, 4.0])
    assert two is not None
    assert (two.value, two.interval) == (1.5, None)
    alike = difference([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    assert alike is not None
    assert alike.interval == (1.0, 1.0)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Dynamic:
    """Few prompts, and few groups, so that a search takes seconds: a test of the way, not of its result."""
    template = ChatTemplate(FILE)
    rooms = [f"Room: kitchen. Seen: {thing} on the floor." for thing in ("milk", "crumbs", "mud", "honey")]
    prompts = [template.render(each) for each in rooms]
    found = Dynamic(FILE, tmp_path_factory.mktemp("dynamic"), prompts[:2], prompts[2:], 6, 256)
    found.groups = {
        "attn_v": [name for name in found.shapes if "attn_v.weight" in name],
        "ffn_down": [name for name in found.shapes if "ffn_down.weight" in name],
    }
    return found


def test_a_search_keeps_to_its_budget_and_leaves_no_file(search: Dynamic) -> None:
    budget = read_budget("q4_K_S").of(search.header)
    outcome = search.search(budget_bytes=budget)
    assert outcome.level == "Q4_K_S"
    assert search.size(outcome.level, outcome.types) <= budget
    assert outcome.record["n_probes"] == search.n_probes >= 5
    assert set(outcome.record["sensitivity"]) == {"attn_v", "ffn_down"}
    assert outcome.record["chosen"] == ("dynamic" if outcome.types else "Q4_K_S")
    assert list(search.folder.iterdir()) == []


def test_uniform_wins_a_tie(search: Dynamic) -> None:
    """Two test prompts give no interval: nothing can be shown, so the uniform file is made."""
    outcome = search.search(budget_bytes=read_budget("q5_K_S").of(search.header))
    assert outcome.types == {}
    assert "not shown to be better" in outcome.record["why"] or "no change" in outcome.record["why"]


def test_what_fits_nowhere_is_said(search: Dynamic) -> None:
    with pytest.raises(NoAllocationError, match="Not even Q2_K fits 1,000 bytes"):
        search.search(budget_bytes=1000)
    with pytest.raises(NoAllocationError, match="No type keeps to a loss of 1e-15"):
        search.search(max_loss=1e-15)


def test_a_search_by_loss_ends_with_a_file_that_keeps_to_it(search: Dynamic, tmp_path: Path) -> None:
    outcome = search.search(max_loss=0.05)
    assert outcome.record["max_loss"] == 0.05
    if outcome.types:
        assert search.size(outcome.level, outcome.types) < outcome.record["uniform_bytes"]
