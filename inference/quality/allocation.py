"""Which type each group of tensors gets, so that the file fits a budget and the loss is least: a multiple-choice knapsack.

Solved exactly as an integer programme by SciPy's HiGHS (`scipy.optimize.milp`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy


@dataclass(frozen=True)
class Choice:
    """One type for a group: what it adds to the file (bytes) and to the loss, both against the starting point."""

    type: str
    n_bytes: int
    loss: float


class NoAllocationError(ValueError):
    """Nothing fits the budget."""


def allocate(
    groups: Mapping[str, Sequence[Choice]], *, max_bytes: int | None = None, max_loss: float | None = None
) -> dict[str, str]:
    """The type of each group. With `max_bytes`, the least loss that fits; with `max_loss` alone, the fewest bytes that keep
    to it. Raises NoAllocationError."""
    flat = [(name, choice) for name, choices in groups.items() for choice in choices]
    n_bytes = np.array([choice.n_bytes for _, choice in flat], float)
    losses = np.array([choice.loss for _, choice in flat], float)
    one_each = np.array([[float(owner == name) for owner, _ in flat] for name in groups])
    constraints = [scipy.optimize.LinearConstraint(one_each, 1, 1)]
    if max_bytes is not None:
        constraints.append(scipy.optimize.LinearConstraint(n_bytes[np.newaxis], -np.inf, max_bytes))
        # Of equal losses the smaller file: a byte weighs less than any difference that was measured.
        objective = losses + n_bytes * 1e-18
    elif max_loss is not None:
        constraints.append(scipy.optimize.LinearConstraint(losses[np.newaxis], -np.inf, max_loss))
        objective = n_bytes
    else:
        raise ValueError("give a budget of bytes or of loss")
    scale = float(np.abs(objective).max()) or 1.0
    found = scipy.optimize.milp(
        objective / scale,
        constraints=constraints,
        integrality=np.ones(len(flat)),
        bounds=scipy.optimize.Bounds(0, 1),
    )
    if found.x is None:
        raise NoAllocationError(str(found.message))
    return {name: choice.type for (name, choice), taken in zip(flat, found.x, strict=True) if taken > 0.5}
