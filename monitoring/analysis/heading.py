"""Where a series is heading, and when it gets there. No Django in here.

Slope and interval are those of monitoring/alerts/trends.py (Theil-Sen, Sen 1968), after the hours of the day have been
taken out; p is that of the Kendall test with the same variance. A step is no trend: both halves of the window have to go
the same way by themselves."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.alerts.trends import slope_interval, slopes
from monitoring.store.packing import Floats

P_OF_HALF = 0.05
LEAST_SHARE = 0.8  # of the window's points have to be there
HORIZON = 4  # windows; a forecast reaches no farther


@dataclass(frozen=True)
class Heading:
    """`slope`, `low` and `high` (95 %) per hour. `level`: of the line at the window's end; `scale`: robust, of what is left
    beside it. `steady`: both halves go that way."""

    n: int
    p: float
    slope: float
    low: float
    high: float
    level: float
    scale: float
    hours: float
    steady: bool

    @property
    def change(self) -> float:
        """Over the window."""
        return self.slope * self.hours

    @property
    def is_sure(self) -> bool:
        return self.steady and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Arrival:
    """Hours from the window's end until the limit is reached: by the slope, and by both ends of its interval with the scatter."""

    hours: float
    soonest: float
    latest: float


def kendall_p(times: Floats, values: Floats, slope: float) -> float:
    """Two-sided, that the order of `values` has nothing to do with time; the variance is widened by (1 + r) / (1 - r), r the
    lag-1 autocorrelation beside the line."""
    n = len(times)
    concordance = abs(float(np.sign(slopes(times, values)).sum()))
    residuals = values - slope * times
    residuals = residuals - np.median(residuals)
    whole = float(residuals @ residuals)
    alike = float(residuals[1:] @ residuals[:-1]) / whole if whole > 0 else 0.0
    alike = min(max(alike, 0.0), 0.95)
    spread = math.sqrt(n * (n - 1) * (2 * n + 5) / 18 * (1 + alike) / (1 - alike))
    return math.erfc(max(concordance - 1, 0.0) / spread / math.sqrt(2))


Places = npt.NDArray[np.intp]


def without_hours(values: Floats, per_day: int, places: Places | None = None) -> Floats:
    """With the median of each place of the day taken out, a common slope left in; (n,) with NaN. As it is below 3 days.
    `places`: which of the day each is, 0 to per_day - 1; left out, they follow one another."""
    n_days = len(values) // per_day
    if n_days < 3:
        return values
    daily = values[per_day:] - values[:-per_day]
    daily = daily[np.isfinite(daily)]
    slope = float(np.median(daily)) / per_day if len(daily) else 0.0
    level = values - slope * np.arange(len(values))
    found = values.copy()
    middle = np.nanmedian(level) if np.isfinite(level).any() else 0.0
    if places is None:
        places = np.arange(len(values)) % per_day
    for place in range(per_day):
        there = places == place
        mine = level[there]
        mine = mine[np.isfinite(mine)]
        if len(mine) >= 2:
            found[there] -= np.median(mine) - middle
    return found


def heading_of(
    values: Floats, step_h: float, *, per_day: int = 0, places: Places | None = None
) -> Heading | None:
    """Of evenly spaced points, `step_h` hours apart, NaN where nothing is known; `per_day`: how many make a day whose hours are
    taken out (0: none are), `places` as in `without_hours`. None with too few points."""
    n, known = len(values), np.isfinite(values)
    if n < 12 or known.sum() < LEAST_SHARE * n:
        return None
    bare = without_hours(values, per_day, places) if per_day else values
    times = (np.flatnonzero(known).astype(np.float64) + 0.5 - n) * step_h  # hours before the end
    heights = bare[known]
    if np.ptp(heights) == 0:
        return Heading(len(heights), 1.0, 0.0, 0.0, 0.0, float(heights[0]), 0.0, n * step_h, False)
    slope, low, high = slope_interval(times, heights)
    p = kendall_p(times, heights, slope)
    residuals = heights - slope * times
    level = float(np.median(residuals))
    scale = 1.4826 * float(np.median(np.abs(residuals - level)))
    steady = (low > 0 or high < 0) and all(
        _goes(times[part], heights[part], slope > 0) for part in _halves(len(times))
    )
    return Heading(len(heights), p, slope, low, high, level, scale, n * step_h, steady)


def _halves(n: int) -> tuple[slice, slice]:
    return slice(0, n // 2), slice(n // 2, n)


def _goes(times: Floats, values: Floats, up: bool) -> bool:
    slope = float(np.median(slopes(times, values)))
    return slope != 0 and (slope > 0) is up and kendall_p(times, values, slope) <= P_OF_HALF


def arrival_at(limit: float, found: Heading) -> Arrival | None:
    """When `limit`, above the series, is reached; None where it isn't heading there for sure, or beyond the horizon."""
    if not found.is_sure or found.low <= 0:
        return None
    left, scatter = limit - found.level, 1.96 * found.scale
    hours = max(left, 0.0) / found.slope
    if hours > HORIZON * found.hours:
        return None
    return Arrival(hours, max(left - scatter, 0.0) / found.high, max(left + scatter, 0.0) / found.low)
