"""Shares and percentiles of requests. Pure mathematics; sample sizes and formulas are those of docs/measurement.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

# Percentile -> requests below which it is not given: a tail of fewer is the luck of a handful.
LEAST = {50: 1, 95: 100, 99: 1000}
Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Share:
    """`k` of `n` with its interval at 95 %; without requests there is none."""

    k: int
    n: int

    @property
    def value(self) -> float | None:
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson (1927), without correction for continuity."""
        if not self.n:
            return None
        p, z2 = self.k / self.n, Z * Z
        middle = (p + z2 / (2 * self.n)) / (1 + z2 / self.n)
        half = Z * sqrt(p * (1 - p) / self.n + z2 / (4 * self.n**2)) / (1 + z2 / self.n)
        return max(middle - half, 0.0), min(middle + half, 1.0)


@dataclass(frozen=True)
class Percentiles:
    """`values`: by percentile, 50 first and the tail after it; None where there are too few. Of what is better when it is
    high, the tail is the low one: 5 and 1 in the place of 95 and 99."""

    n: int
    values: tuple[tuple[int, float | None], ...]


def percentiles(values: Sequence[float], *, high_is_good: bool = False) -> Percentiles:
    found: list[tuple[int, float | None]] = []
    for each, least in LEAST.items():
        place = 100 - each if high_is_good else each
        enough = len(values) >= least
        found.append((place, float(np.percentile(values, place)) if enough else None))
    return Percentiles(len(values), tuple(found))
