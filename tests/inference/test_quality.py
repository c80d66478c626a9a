"""The distance of two models, the score on labelled prompts, the ratio of speeds."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.quality.divergence import Position, kl, measure, top
from inference.quality.labelled import HOUSEHOLD, LabelError, Labelled, parse, score
from inference.quality.paired import ratio
from inference.sample_model import corpus, labelled


def distributions(n_tokens: int) -> st.SearchStrategy[list[float]]:
    """Whole distributions over `n_tokens` tokens."""
    weights = st.lists(st.floats(1e-4, 1), min_size=n_tokens, max_size=n_tokens)
    return weights.map(lambda found: [each / sum(found) for each in found])


def most_likely(p: list[float], n: int) -> dict[bytes, float]:
    order = sorted(range(len(p)), key=lambda token: -p[token])[:n]
    return {str(token).encode(): math.log(p[token]) for token in order}


@given(distributions(12), distributions(12), st.integers(1, 12))
def test_what_the_lists_show_is_never_more_than_the_true_divergence(
    p: list[float], q: list[float], n: int
) -> None:
    true = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    shown = kl(most_likely(p, n), most_likely(q, n))
    assert -1e-9 <= shown <= true + 1e-6
    if n == 12:
        assert shown == pytest.approx(true, abs=1e-6)


@given(distributions(8), st.integers(1, 8))
def test_a_model_has_no_distance_from_itself(p: list[float], n: int) -> None:
    assert kl(most_likely(p, n), most_likely(p, n)) == pytest.approx(0, abs=1e-6)


def test_of_equally_likely_tokens_both_models_choose_the_same() -> None:
    assert top({b"b": -1.0, b"a": -1.0}) == top({b"a": -1.0, b"b": -1.0}) == b"a"


def position(p: float, q: float) -> Position:
    """Two tokens; the reference chose the first."""
    return Position(
        b"x", {b"x": math.log(p), b"y": math.log(1 - p)}, {b"x": math.log(q), b"y": math.log(1 - q)}
    )


def test_the_figures_of_a_known_pair() -> None:
    found = measure([[position(0.8, 0.8), position(0.8, 0.4)]] * 60)
    assert found.n_positions == 120
    assert found.same_top.value == 0.5
    assert found.n_flips == 60
    assert found.rms_delta_p.value == pytest.approx(math.sqrt(0.4**2 / 2))
    expected = (0.8 * math.log(2) + 0.2 * math.log(0.2 / 0.6)) / 2
    assert found.kl.value == pytest.approx(expected)
    assert found.kl.interval == pytest.approx((expected, expected))  # every prompt is alike
    assert found.kl_p99 is not None


def test_few_prompts_have_no_interval_and_few_positions_no_p99() -> None:
    found = measure([[position(0.8, 0.7)], [position(0.8, 0.6)]])
    assert (found.kl.interval, found.kl_p99) == (None, None)
    with pytest.raises(ValueError, match="no position"):
        measure([[], []])


def test_the_interval_covers_the_mean_of_all_prompts_at_the_rate_it_says() -> None:
    """Prompts differ, and positions of one resemble each other: an interval over positions would be too narrow."""
    random = np.random.default_rng(3)
    covered = 0
    levels = np.linspace(0.2, 0.6, 2001)
    true = np.mean([kl(each.reference, each.candidate) for each in (position(0.8, q) for q in levels)])
    for _ in range(60):
        prompts = [[position(0.8, float(level))] * 10 for level in random.uniform(0.2, 0.6, 30)]
        found = measure(prompts).kl
        assert found.interval is not None
        covered += bool(found.interval[0] <= true <= found.interval[1])
    assert covered >= 51  # of 60 at 95 %: fewer come by chance once in 10,000


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "Line 1 is no JSON"),
        ('{"prompt": "a"}', "exactly one of answer, answers, lines"),
        ('{"prompt": "a", "answer": "b", "answers": ["c"]}', "exactly one"),
        ('{"prompt": "", "answer": "b"}', "Line 1, prompt"),
        ('{"prompt": "a", "answer": ""}', "the right answer is empty"),
        ('{"prompt": "a", "answr": "b"}', "Line 1, answr"),
        ("[1]", "Line 1"),
        ("\n", "has no prompt"),
    ],
)
def test_a_bad_line_is_named(line: str, sentence: str) -> None:
    with pytest.raises(LabelError, match=sentence):
        parse(line)


def test_answers_are_compared_without_the_space_around_their_lines() -> None:
    one = Labelled(prompt="p", answers=("Yes.", "Yes"))
    assert one.is_right("  Yes. \n")
    assert not one.is_right("Yes, but")
    lines = Labelled(prompt="p", lines=(("1. a", "1. b"), ("2. c",)))
    assert lines.is_right("1. b\n2.  c")
    assert not lines.is_right("1. b")
    assert not lines.is_right("1. b\n2. c\n3. d")


def test_the_shipped_prompts_are_those_that_the_sample_model_never_saw(
    tmp_path: Any, monkeypatch: Any
) -> None:
    shipped = parse(HOUSEHOLD.read_text())
    monkeypatch.setattr(labelled, "HOUSEHOLD", tmp_path / "again.jsonl")
    labelled.main()
    assert (tmp_path / "again.jsonl").read_text() == HOUSEHOLD.read_text()
    for each in shipped[:50]:
        seen = each.prompt.partition("Seen: ")[2].rstrip(".").split("; ")
        for item in seen:
            thing = max((t for t in corpus.THINGS if item.startswith(t + " ")), key=len)
            assert corpus.held_out(thing, item.removeprefix(thing + " "))


def test_flips_are_judged_by_those_that_changed() -> None:
    found = score([True] * 90 + [False] * 10, [True] * 80 + [False] * 20)
    assert (found.n_lost, found.n_won) == (10, 0)
    assert found.p == pytest.approx(2 * 0.5**10)
    assert score([True, False], [True, False]).p == 1
    with pytest.raises(ValueError, match="no prompt"):
        score([], [])


@given(st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)), min_size=1, max_size=12), st.floats(0.1, 10))
def test_a_ratio_scales_with_its_second_side(pairs: list[tuple[float, float]], factor: float) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    before, after = ratio(a, b), ratio(a, [y * factor for y in b])
    assert before is not None
    assert after is not None
    assert after.ratio == pytest.approx(before.ratio * factor, rel=1e-6)
    if before.interval:
        assert before.interval[0] <= before.ratio <= before.interval[1]


def test_a_pair_without_a_figure_does_not_count() -> None:
    assert ratio([0.0, 10.0], [5.0, 20.0]) == ratio([10.0], [20.0])
    assert ratio([0.0], [1.0]) is None
