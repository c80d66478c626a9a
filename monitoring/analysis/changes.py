"""Whether a series changed its level, or how much it scatters. No Django in here.

Level: Pettitt's test (1979), a rank test for one change at an unknown time; its variance is widened as that of trends. It is
preferred to a segmentation by penalties (as in the library ruptures) for the p-value: a penalty promises no rate of
false alarms, and no two series want the same one. Scatter: the spread of each hour of a day against the same hour a week
earlier, by the sign test, which is exact and asks nothing of the distribution."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.store.packing import Floats

LEAST_SIDE = 12  # points on either side of a change
LEAST_SHARE = 0.8
LEAST_PAIRS = 18  # of 24 hours
P_WORTH_PLACING = 0.05


@dataclass(frozen=True)
class Shift:
    """The newer level begins at point `at` of those given."""

    n: int
    p: float
    at: int
    before: float
    after: float


def shift_of(values: Floats) -> Shift | None:
    """The likeliest change of level among evenly spaced points (NaN: unknown); None with too few of them."""
    places = np.flatnonzero(np.isfinite(values))
    n = len(places)
    if n < max(2 * LEAST_SIDE, LEAST_SHARE * len(values)):
        return None
    known = values[places]
    sizes = np.arange(LEAST_SIDE, n - LEAST_SIDE + 1)
    u = np.abs(2 * np.cumsum(_ranks(known))[sizes - 1] - sizes * (n + 1))
    greatest = float(u.max())
    split = int(sizes[np.argmax(u)])
    if _pettitt_p(greatest, n, 0.0) <= P_WORTH_PLACING:
        split = _place(known, sizes)
    before, after = float(np.median(known[:split])), float(np.median(known[split:]))
    residuals = np.concatenate([known[:split] - before, known[split:] - after])
    whole = float(residuals @ residuals)
    alike = float(residuals[1:] @ residuals[:-1]) / whole if whole > 0 else 0.0
    p = _pettitt_p(greatest, n, min(max(alike, 0.0), 0.95))
    return Shift(n, p, int(places[split]), before, after)


def _pettitt_p(greatest: float, n: int, alike: float) -> float:
    """`alike`: the lag-1 autocorrelation beside both levels."""
    return min(2 * math.exp(-6 * greatest**2 / ((n**3 + n**2) * (1 + alike) / (1 - alike))), 1.0)


def _place(values: Floats, sizes: npt.NDArray[np.intp]) -> int:
    """Of the splits the one beside whose two medians least is left: the greatest |U| may lie beside the change, the more the
    nearer it is to an end."""
    left = [
        np.abs(part - np.median(part)).sum() + np.abs(rest - np.median(rest)).sum()
        for part, rest in ((values[:size], values[size:]) for size in sizes)
    ]
    return int(sizes[np.argmin(left)])


def _ranks(values: Floats) -> Floats:
    """From 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: Floats = (last - (counts - 1) / 2)[places]
    return found


@dataclass(frozen=True)
class Scatter:
    """Robust coefficients of variation in percent (100 x 1.4826 x MAD / |median|): the median hour of the day, and the same a
    week earlier; `ratio` of the spreads themselves."""

    n: int
    p: float
    now_percent: float | None
    before_percent: float | None
    ratio: float


def scatter_of(minutes: Floats, week: int) -> Scatter | None:
    """Of the last day of `minutes`, against the day that ended `week` minutes earlier; None: too little is known."""
    day = 24 * 60
    if len(minutes) < week + day:
        return None
    now = minutes[-day:].reshape(24, 60)
    before = minutes[-day - week : -week].reshape(24, 60)
    pairs = [
        (_spread(one), _spread(other), float(np.nanmedian(one)), float(np.nanmedian(other)))
        for one, other in zip(now, before, strict=True)
        if np.isfinite(one).sum() >= 48 and np.isfinite(other).sum() >= 48
    ]
    pairs = [each for each in pairs if each[0] > 0 and each[1] > 0]
    n = len(pairs)
    if n < LEAST_PAIRS:
        return None
    more = sum(one > other for one, other, _, _ in pairs)
    fewest = min(more, n - more)
    p = min(2 * sum(math.comb(n, k) for k in range(fewest + 1)) / 2**n, 1.0)
    ratio = float(np.median([one / other for one, other, _, _ in pairs]))
    return Scatter(
        n, p, _percent([(s, m) for s, _, m, _ in pairs]), _percent([(s, m) for _, s, _, m in pairs]), ratio
    )


def _spread(hour: Floats) -> float:
    known = hour[np.isfinite(hour)]
    return 1.4826 * float(np.median(np.abs(known - np.median(known))))


def _percent(found: list[tuple[float, float]]) -> float | None:
    """None around zero, where a share of the level means nothing."""
    shares = [100 * spread / abs(middle) for spread, middle in found if abs(middle) > spread / 10]
    return float(np.median(shares)) if len(shares) == len(found) else None
