"""How far a series is from what is usual for it: a robust z-score against its own past. No Django in here.

The past is kept as means of BUCKET_S seconds, in three populations by what a second series (the load) did in them: idle, busy,
changing. Usual is their median; the scale is 1.4826 x the median absolute deviation, the standard deviation of a normal
distribution. Both stay put while less than half of the past is strange."""

import math
from collections import deque
from enum import StrEnum

import numpy as np

from monitoring.store.rollups import Buckets

BUCKET_S = 10
LEAST_PAST = 360  # buckets of a population, an hour, before anything is called strange
ANEW_EVERY = 30  # buckets: how often median and scale are computed
AGREES = 0.8  # so much of the window has to be as far away
UNKNOWN, IDLE, BUSY, CHANGING = -1, 0, 1, 2


class Side(StrEnum):
    ABOVE = "above"
    BELOW = "below"
    EITHER = "either"


class Deviation:
    """The z-score that AGREES of the last `seconds` reach, positive on the side that is watched.

    `busy_at`: from that load on it is busy; None: one population. `least`: nearer than that to the median is no
    deviation, however steady the series is."""

    def __init__(
        self, seconds: int, past_s: int, side: Side, *, busy_at: float | None = None, least: float = 0.0
    ) -> None:
        self.side, self.busy_at, self.least = side, busy_at, least
        self.n_window, n = max(seconds // BUCKET_S, 1), max(past_s // BUCKET_S, LEAST_PAST)
        self.history = (n * BUCKET_S, BUCKET_S)
        self._means, self._loads = np.full(n, np.nan), np.full(n, UNKNOWN, np.int8)
        self._usual: dict[int, tuple[float, float]] = {}
        self._zs: deque[tuple[int, float]] = deque()
        self._bucket, self._computed_at = -1, -1
        self._sum = self._count = self._n_busy = self._n_load = 0.0
        self._value: float | None = None

    def push(self, second: int, value: float | None, other: float | None = None) -> None:
        bucket = second // BUCKET_S
        if bucket != self._bucket:
            self._turn_to(bucket)
        if value is not None:
            self._sum += value
            self._count += 1
        if self.busy_at is not None and other is not None:
            self._n_load += 1
            self._n_busy += other >= self.busy_at

    def prime(self, start: int, step: int, main: Buckets, other: Buckets | None) -> None:
        first, n = start // BUCKET_S, len(self._means)
        loads = self._loads_of(main, other)
        known = main.count > 0
        places = (first + np.arange(len(main))) % n
        self._means[places] = np.where(known, main.mean, np.nan)
        self._loads[places] = np.where(known, loads, UNKNOWN)
        if not known.any():
            return
        last = int(np.flatnonzero(known)[-1])
        self._find_usual(first + last)
        for position in range(max(last - self.n_window, 0), last):
            self._judge(first + position)
        # The newest one may be unfinished: what comes next goes on with it.
        self._bucket, count = first + last, float(main.count[last])
        self._sum, self._count = float(main.mean[last]) * count, count
        self._n_load = count if loads[last] != UNKNOWN else 0.0
        self._n_busy = self._n_load * {IDLE: 0.0, BUSY: 1.0, CHANGING: 0.5}.get(int(loads[last]), 0.0)
        self._value = self._agreed()

    def value(self) -> float | None:
        """None while the past is too short, or 80 % of the window are not there."""
        return self._value

    def _loads_of(self, main: Buckets, other: Buckets | None) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
        if self.busy_at is None:
            return np.full(len(main), IDLE, np.int8)
        if other is None:
            return np.full(len(main), UNKNOWN, np.int8)
        mixed = np.where(other.high < self.busy_at, IDLE, CHANGING)
        found = np.where(other.low >= self.busy_at, BUSY, mixed)
        return np.where(other.count > 0, found, UNKNOWN).astype(np.int8)

    def _turn_to(self, bucket: int) -> None:
        n = len(self._means)
        if 0 <= self._bucket < bucket:
            self._close()
            gap = np.arange(self._bucket + 1, min(bucket, self._bucket + 1 + n)) % n
            self._means[gap], self._loads[gap] = np.nan, UNKNOWN
        while self._zs and self._zs[-1][0] >= bucket:  # the clock was set back
            self._zs.pop()
        while self._zs and self._zs[0][0] < bucket - self.n_window:
            self._zs.popleft()
        self._bucket = bucket
        self._sum = self._count = self._n_busy = self._n_load = 0.0
        self._value = self._agreed()

    def _close(self) -> None:
        place = self._bucket % len(self._means)
        self._means[place] = self._sum / self._count if self._count else np.nan
        self._loads[place] = self._load() if self._count else UNKNOWN
        if not 0 <= self._bucket - self._computed_at < ANEW_EVERY:
            self._find_usual(self._bucket)
        self._judge(self._bucket)

    def _load(self) -> int:
        if self.busy_at is None:
            return IDLE
        if not self._n_load:
            return UNKNOWN
        return BUSY if self._n_busy == self._n_load else CHANGING if self._n_busy else IDLE

    def _find_usual(self, bucket: int) -> None:
        self._computed_at, self._usual = bucket, {}
        for load in (IDLE, BUSY, CHANGING):
            past = self._means[(self._loads == load) & np.isfinite(self._means)]
            if len(past) < LEAST_PAST:
                continue
            middle = float(np.median(past))
            scale = 1.4826 * float(np.median(np.abs(past - middle)))
            # A series that hardly ever moves: a hundredth of its size counts as one deviation.
            self._usual[load] = middle, max(scale, 0.01 * abs(middle), 1e-9)

    def _judge(self, bucket: int) -> None:
        place = bucket % len(self._means)
        usual, mean = self._usual.get(int(self._loads[place])), float(self._means[place])
        if usual is None or math.isnan(mean):
            return
        away = mean - usual[0]
        self._zs.append((bucket, away / usual[1] if abs(away) >= self.least else 0.0))

    def _agreed(self) -> float | None:
        if len(self._zs) < -(-self.n_window * 8 // 10):
            return None
        found = sorted(z for _, z in self._zs)
        n_beyond = int(len(found) * (1 - AGREES))
        above, below = found[n_beyond], -found[-1 - n_beyond]
        return {Side.ABOVE: above, Side.BELOW: below, Side.EITHER: max(above, below)}[self.side]
