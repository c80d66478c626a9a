"""Where a series is heading: robust slopes over a window, and when a limit is reached. No Django in here.

Slope: Theil-Sen, the median of the slopes of all pairs; a single outlier, and up to 29 % of them, move it little. Its interval:
Sen (1968), from the ranks of the same slopes and the variance of Kendall's S, widened by (1 + r) / (1 - r) for
neighbours that resemble each other (r: lag-1 autocorrelation of the residuals), since seconds of a machine do."""

import math
from collections import deque
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from monitoring.store.packing import Floats
from monitoring.store.rollups import RAW_S, TIERS_S, Buckets

# A rate is computed anew every few seconds, a forecast needs enough points for an interval.
BUCKETS_OF_RATE, BUCKETS_OF_FORECAST = 30, 60
STEPS_S = (1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 10800)
Z_95 = 1.96
NEVER_H = 8760.0  # a year: what lies beyond is no forecast


@lru_cache(maxsize=128)
def _pairs(n: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    first, second = np.triu_indices(n, 1)
    return first, second


def slopes(times: Floats, values: Floats) -> Floats:
    """Of all n (n - 1) / 2 pairs; `times` (n,) ascending, without doubles."""
    first, second = _pairs(len(times))
    found: Floats = (values[second] - values[first]) / (times[second] - times[first])
    return found


def slope_interval(times: Floats, values: Floats) -> tuple[float, float, float]:
    """(slope, its 95 % interval), per unit of `times`; (-inf, inf) as the interval where there are too few points."""
    found = np.sort(slopes(times, values))
    slope, n, n_pairs = float(np.median(found)), len(times), len(found)
    residuals = values - slope * times
    residuals = residuals - np.median(residuals)
    whole = float(residuals @ residuals)
    alike = float(residuals[1:] @ residuals[:-1]) / whole if whole > 0 else 0.0
    alike = min(max(alike, 0.0), 0.95)
    spread = Z_95 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18 * (1 + alike) / (1 - alike))
    low, high = math.floor((n_pairs - spread) / 2), math.ceil((n_pairs + spread) / 2)
    if low < 0 or high >= n_pairs:
        return slope, -math.inf, math.inf
    return slope, float(found[low]), float(found[high])


class Trend:
    """Means of the buckets of the last `seconds`, at most `most`; what they say is computed when one is finished."""

    def __init__(self, seconds: int, most: int) -> None:
        self.step = next((each for each in STEPS_S if seconds / each <= most), STEPS_S[-1])
        self.n = max(seconds // self.step, 2)
        tier = max(each for each in (RAW_S, *TIERS_S) if self.step % each == 0)
        self.history = (self.n * self.step + self.step, tier)
        self._least = -(-self.n * 8 // 10)
        self._kept: deque[tuple[int, float]] = deque()
        self._bucket, self._sum, self._count = -1, 0.0, 0.0
        self._value: float | None = None

    def push(self, second: int, value: float | None, other: float | None = None) -> None:
        bucket = second // self.step
        if bucket != self._bucket:
            self._turn_to(bucket)
        if value is not None:
            self._sum += value
            self._count += 1

    def prime(self, start: int, step: int, main: Buckets, other: Buckets | None) -> None:
        for position, (mean, count) in enumerate(zip(main.mean.tolist(), main.count.tolist(), strict=True)):
            if count:
                bucket = (start + position * step) // self.step
                if bucket != self._bucket:
                    self._turn_to(bucket)
                self._sum += mean * count
                self._count += count

    def value(self) -> float | None:
        """None while fewer than 80 % of the buckets are there."""
        return self._value

    def _turn_to(self, bucket: int) -> None:
        if self._count and self._bucket < bucket:
            self._kept.append((self._bucket, self._sum / self._count))
        while self._kept and self._kept[-1][0] >= bucket:  # the clock was set back
            self._kept.pop()
        while self._kept and self._kept[0][0] < bucket - self.n:
            self._kept.popleft()
        self._bucket, self._sum, self._count = bucket, 0.0, 0.0
        self._value = self._computed() if len(self._kept) >= self._least else None

    def _computed(self) -> float | None:
        raise NotImplementedError

    def _points(self) -> tuple[Floats, Floats]:
        """(seconds before the end of the newest bucket, as negative numbers; values)."""
        found = np.array(self._kept, np.float64)
        return (found[:, 0] + 0.5 - self._bucket) * self.step, found[:, 1]


class Rate(Trend):
    """Change a `per_s` seconds."""

    def __init__(self, seconds: int, per_s: int) -> None:
        super().__init__(seconds, BUCKETS_OF_RATE)
        self.per_s = per_s

    def _computed(self) -> float:
        return float(np.median(slopes(*self._points()))) * self.per_s


class Forecast(Trend):
    """Hours until `limit` is reached at the slowest pace that the window still supports: small only if the whole interval
    agrees. 0: it is reached; NEVER_H: it isn't heading there, or not for sure."""

    def __init__(self, seconds: int, limit: float, *, rising: bool) -> None:
        super().__init__(seconds, BUCKETS_OF_FORECAST)
        self.limit, self.sign = limit, 1.0 if rising else -1.0

    def _computed(self) -> float:
        times, values = self._points()
        hours, heights = times / 3600, self.sign * values
        slope, slowest, _ = slope_interval(hours, heights)
        level = float(np.median(heights - slope * hours))
        left = self.sign * self.limit - level
        if left <= 0:
            return 0.0
        return min(left / slowest, NEVER_H) if slowest > 0 else NEVER_H
