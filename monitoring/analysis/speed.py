"""How a mean of one time compares with that of another, under the same load. No Django in here.

Neighbouring minutes resemble each other: the variance of a mean is widened by (1 + r) / (1 - r), r the lag-1 autocorrelation,
as that of trends. Intervals are Student's, of 95 %."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from monitoring.store.packing import Floats

LEAST_NOW, LEAST_BEFORE = 3, 10  # points of a load, to be compared
MOST_ALIKE = 0.95
MATTERS = 0.03  # a smaller change of the speed is not worth a word
LEAST_STRETCH, MOST_POINTS = 4, 720
SURE = 6.0  # standard errors: of a quarter of a million stretches one lies 5.6 low in one of a hundred cases
Loads = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mean:
    """`variance` of the mean itself; `n_alone`: as many points would say as much if they did not resemble each other."""

    n: int
    value: float
    variance: float
    n_alone: float

    @property
    def reach(self) -> float:
        """Half the 95 % interval."""
        return student(self.n_alone - 1) * math.sqrt(self.variance)


def mean_of(values: Floats) -> Mean | None:
    """Of the points that are known; None with less than two of them."""
    known = values[np.isfinite(values)]
    n = len(known)
    if n < 2:
        return None
    level = float(known.mean())
    away = known - level
    whole = float(away @ away)
    alike = float(away[1:] @ away[:-1]) / whole if whole > 0 else 0.0
    alike = min(max(alike, 0.0), MOST_ALIKE)
    n_alone = max(n * (1 - alike) / (1 + alike), 2.0)
    return Mean(n, level, whole / (n - 1) / n_alone, n_alone)


def student(freedom: float) -> float:
    """The 97.5 % point of Student's t, by its expansion about the normal one (Abramowitz & Stegun 26.7.5); exact for 1, where
    that is not good enough, and within 1 % from 2 on."""
    if freedom < 1.5:
        return 12.706
    z, v = NormalDist().inv_cdf(0.975), freedom
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v ** (power + 1) for power, term in enumerate(terms))


def load_classes(running: Floats) -> Loads:
    """Of the most requests that ran at once: 1, 2, 3 to 4, 5 to 8, ... as 0, 1, 2, 3; below one, or unknown: as one."""
    most = np.maximum(np.nan_to_num(running, nan=1.0), 1.0)
    return np.ceil(np.log2(most) - 1e-9).astype(np.int64)


@dataclass(frozen=True)
class Comparison:
    """`change` is now / before - 1, with its 95 % interval. `now` and `before` are means over the loads that both times
    have, each as often as now; `share`: how much of now that is."""

    now: float
    before: float
    change: float
    low: float
    high: float
    n_now: int
    n_before: int
    share: float


def compare(now: Floats, now_loads: Loads, before: Floats, before_loads: Loads) -> Comparison | None:
    """Speeds (NaN: nothing was generated) at their loads; None where too little is known of any load that both have."""
    n_all = int(np.isfinite(now).sum())
    pairs: list[tuple[Mean, Mean]] = []
    for load in np.unique(now_loads):
        one, other = mean_of(now[now_loads == load]), mean_of(before[before_loads == load])
        if one is not None and other is not None and one.n >= LEAST_NOW and other.n >= LEAST_BEFORE:
            pairs.append((one, other))
    n = sum(one.n for one, _ in pairs)
    level = sum(one.n / n * one.value for one, _ in pairs) if n else 0.0
    usual = sum(one.n / n * other.value for one, other in pairs) if n else 0.0
    if level <= 0 or usual <= 0:
        return None
    spread = math.sqrt(
        sum((one.n / n) ** 2 * one.variance for one, _ in pairs) / level**2
        + sum((one.n / n) ** 2 * other.variance for one, other in pairs) / usual**2
    )
    freedom = min(sum(one.n_alone - 1 for one, _ in pairs), sum(other.n_alone - 1 for _, other in pairs))
    reach = student(freedom) * spread
    ratio = level / usual
    return Comparison(
        now=level,
        before=usual,
        change=ratio - 1,
        low=ratio * math.exp(-min(reach, 50.0)) - 1,
        high=ratio * math.exp(min(reach, 50.0)) - 1,
        n_now=n,
        n_before=sum(other.n for _, other in pairs),
        share=n / n_all,
    )


def slow_part(speed: Floats) -> slice | None:
    """The stretch whose mean lies farthest below that of all else, for its length: what the mean of the whole hides. None where
    none lies MATTERS below, or not for sure: among as many stretches as there are some lie low by chance."""
    factor = -(-len(speed) // MOST_POINTS)
    coarse = [mean_of(speed[place : place + factor]) for place in range(0, len(speed), factor)]
    levels = speed if factor == 1 else np.array([np.nan if each is None else each.value for each in coarse])
    places = np.flatnonzero(np.isfinite(levels))
    known = levels[places]
    n = len(known)
    if n < 4 * LEAST_STRETCH:
        return None
    first, last = _lowest(known)
    inside = np.zeros(n, bool)
    inside[first:last] = True
    low, high = float(known[inside].mean()), float(known[~inside].mean())
    left = known - np.where(inside, low, high)
    whole = float(left @ left)
    alike = float(left[1:] @ left[:-1]) / whole if whole > 0 else 0.0
    alike = min(max(alike, 0.0), MOST_ALIKE)
    m = last - first
    spread = math.sqrt(whole / (n - 2) * (1 / m + 1 / (n - m)) * (1 + alike) / (1 - alike))
    if high - low < max(MATTERS * high, SURE * spread):
        return None
    end = int(places[last - 1] + 1) * factor
    return slice(int(places[first]) * factor, min(end, len(speed)))


def _lowest(values: Floats) -> tuple[int, int]:
    """Ends of the stretch, LEAST_STRETCH points at least inside and outside, that lies lowest for its length."""
    n = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    lengths = np.arange(n + 1)[None, :] - np.arange(n + 1)[:, None]
    m = np.clip(lengths, 1, n - 1)
    inside = sums[None, :] - sums[:, None]
    depth = ((sums[-1] - inside) / (n - m) - inside / m) / np.sqrt(1 / m + 1 / (n - m))
    depth[(lengths < LEAST_STRETCH) | (lengths > n - LEAST_STRETCH)] = -np.inf
    first, last = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return int(first), int(last)
