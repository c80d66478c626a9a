"""Ratio of two models' speeds from pairs measured one right after the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """`ratio` of b to a, the geometric mean over pairs; interval at 95 % by Student's t of the logarithms (None: one pair,
    or two that happen to be equal)."""

    a: float
    b: float
    ratio: float
    interval: tuple[float, float] | None
    n_pairs: int


def ratio(a: Sequence[float], b: Sequence[float]) -> Ratio | None:
    """`a`, `b`: one value > 0 of each pair, in the same unit. None without a pair."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x > 0 and y > 0]
    if not pairs:
        return None
    logs = np.array([math.log(y / x) for x, y in pairs])
    mean, interval = float(logs.mean()), None
    if len(logs) > 1 and np.ptp(logs) > 0:
        half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, len(logs) - 1) * scipy.stats.sem(logs))
        interval = (math.exp(mean - half), math.exp(mean + half))
    return Ratio(
        a=float(np.median([x for x, _ in pairs])),
        b=float(np.median([y for _, y in pairs])),
        ratio=math.exp(mean),
        interval=interval,
        n_pairs=len(pairs),
    )


@dataclass(frozen=True)
class Difference:
    """Mean of b - a over prompts, with the interval of the paired bootstrap at 95 % (None: fewer than three)."""

    a: float
    b: float
    value: float
    interval: tuple[float, float] | None
    n: int


def difference(a: Sequence[float], b: Sequence[float]) -> Difference | None:
    """`a`, `b`: one value of each prompt. None without a pair."""
    changes = np.array([y - x for x, y in zip(a, b, strict=True)])
    if not len(changes):
        return None
    interval = None
    if len(changes) >= 3:
        if np.ptp(changes) == 0:
            interval = (float(changes[0]), float(changes[0]))
        else:
            found = scipy.stats.bootstrap(
                (changes,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(7)
            ).confidence_interval
            interval = (float(found.low), float(found.high))
    return Difference(float(np.mean(a)), float(np.mean(b)), float(changes.mean()), interval, len(changes))
