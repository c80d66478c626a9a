"""What is trained on and tested with, as tokens; which examples a step takes follows from the seed alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Example(NamedTuple):
    """`tokens` of a prompt and its answer, which begins at `start`."""

    tokens: list[int]
    start: int

    @property
    def n_answer(self) -> int:
        return len(self.tokens) - self.start


def batch_of(examples: Sequence[Example], step: int, size: int, seed: int) -> list[Example]:
    """Those of step `step` (from 0): every pass through all examples has an order of its own. No state, so that training
    that goes on takes what it would have taken."""
    found = []
    for place in range(step * size, (step + 1) * size):
        order = np.random.default_rng([seed, place // len(examples)]).permutation(len(examples))
        found.append(examples[int(order[place % len(examples)])])
    return found


def points(n_steps: int) -> list[int]:
    """Steps after which the losses are told, 0 (before the first) and the last among them: each costs some steps' time."""
    n_points = max(min(20, n_steps // 5), 1)
    return sorted({round(n_steps * number / n_points) for number in range(n_points + 1)})
