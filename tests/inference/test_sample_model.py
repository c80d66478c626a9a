"""The committed sample model: what it can, and that its test pairs were kept out of training."""

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from inference.gguf_tools.metadata import read_metadata
from inference.sample_model import corpus
from inference.sample_model.evaluate import FILE, evaluate


def test_at_least_95_percent_of_unseen_lists_are_exact() -> None:
    assert evaluate(FILE, n_lists=100, seed=4242)["exact_lists"] >= 0.95


def test_the_committed_scores_and_size_keep_the_promise() -> None:
    scores = json.loads(FILE.with_name("scores.json").read_text())
    assert scores["exact_lists"] >= 0.95
    assert scores["lists"] >= 300
    assert FILE.stat().st_size <= 8_000_000
    assert read_metadata(FILE).quantization == "F16"


def test_about_one_pair_in_eight_is_held_out() -> None:
    pairs = [(thing, place) for thing in corpus.THINGS for place in corpus.PLACES]
    share = sum(corpus.held_out(*pair) for pair in pairs) / len(pairs)
    assert 0.10 < share < 0.15


@given(st.integers(0, 10**6), st.integers(1, 4), st.booleans())
def test_an_example_s_own_answer_counts_as_exact_and_a_changed_one_does_not(
    seed: int, n_items: int, unseen: bool
) -> None:
    example = corpus.draw(random.Random(seed), n_items, unseen=unseen)
    assert corpus.is_exact(example, example.answer)
    assert not corpus.is_exact(example, example.answer.replace("[", "(", 1))
    assert not corpus.is_exact(example, example.answer + "\n9. Wash the dog on the floor [low]")
    assert all(corpus.held_out(*pair) == unseen for pair in example.seen)
