"""Aggregates over the last seconds of a series, kept up one sample at a time. No Django in here."""

from collections import deque
from enum import StrEnum

from monitoring.store.rollups import RAW_S, Buckets


class Aggregate(StrEnum):
    LAST = "last"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    SHARE = "share"  # of the divisor's sum, in per cent


class Window:
    """The samples of the last `seconds`, one a second expected: their last, mean, least or greatest."""

    def __init__(self, seconds: int, aggregate: Aggregate) -> None:
        self.seconds, self.aggregate = seconds, aggregate
        self.history = (seconds, RAW_S)
        self._least = -(-seconds * 8 // 10)  # 80 % of the expected samples, rounded up
        self._kept: deque[tuple[int, float]] = deque()
        self._sum, self._n_left = 0.0, 0
        # Of the candidates for the extreme only those that no later sample beats, so that the first one is it.
        self._best: deque[tuple[int, float]] = deque()

    def push(self, second: int, value: float | None, other: float | None = None) -> None:
        """Take the sample of `second` (None: there is none). A clock set back forgets what is in the future now."""
        if self._kept and self._kept[-1][0] >= second:
            past = [sample for sample in self._kept if sample[0] < second]
            self._kept.clear()
            self._best.clear()
            self._sum, self._n_left = 0.0, 0
            for sample in past:
                self.push(*sample)
        if value is not None:
            self._kept.append((second, value))
            self._sum += value
            if self.aggregate in (Aggregate.MIN, Aggregate.MAX):
                sign = 1 if self.aggregate is Aggregate.MAX else -1
                while self._best and sign * self._best[-1][1] <= sign * value:
                    self._best.pop()
                self._best.append((second, value))
        while self._kept and self._kept[0][0] <= second - self.seconds:
            self._forget(self._kept.popleft())

    def _forget(self, sample: tuple[int, float]) -> None:
        second, value = sample
        self._sum -= value
        self._n_left += 1
        if self._n_left >= self.seconds:  # rounding must not add up
            self._sum, self._n_left = sum(each for _, each in self._kept), 0
        if self._best and self._best[0][0] == second:
            self._best.popleft()

    @property
    def full(self) -> bool:
        return len(self._kept) >= self._least

    @property
    def total(self) -> float:
        return self._sum

    def value(self) -> float | None:
        """None while fewer than 80 % of the expected samples are there."""
        if not self.full:
            return None
        if self.aggregate is Aggregate.LAST:
            return self._kept[-1][1]
        if self.aggregate in (Aggregate.MIN, Aggregate.MAX):
            return self._best[0][1]
        return self._sum / len(self._kept)

    def prime(self, start: int, step: int, main: Buckets, other: Buckets | None) -> None:
        for position, value in enumerate(main.mean.tolist()):
            if value == value:  # not NaN
                self.push(start + position * step, value)


class ShareWindow:
    """100 x sum of one series / sum of another over the last `seconds`; None under `min_count` of the other."""

    def __init__(self, seconds: int, min_count: float) -> None:
        self.part, self.whole = Window(seconds, Aggregate.MEAN), Window(seconds, Aggregate.MEAN)
        self.min_count = min_count
        self.history = self.part.history

    def push(self, second: int, value: float | None, other: float | None = None) -> None:
        known = value is not None and other is not None
        self.part.push(second, value if known else None)
        self.whole.push(second, other if known else None)

    def prime(self, start: int, step: int, main: Buckets, other: Buckets | None) -> None:
        if other is None:
            return
        for position, (part, whole) in enumerate(zip(main.mean.tolist(), other.mean.tolist(), strict=True)):
            if part == part and whole == whole:  # not NaN
                self.push(start + position * step, part, whole)

    def value(self) -> float | None:
        # Rates are sums of seconds: 1e-9 is what rounding leaves of nothing.
        if not self.whole.full or self.whole.total < max(self.min_count, 1e-9):
            return None
        return min(100 * max(self.part.total, 0.0) / self.whole.total, 100.0)


class Presence:
    """0 for a series that has a sample now, None for one that has none."""

    # Whoever had a sample within a day is expected to have one.
    history = (24 * 3600, 60)

    def __init__(self) -> None:
        self._present = False

    def push(self, second: int, value: float | None, other: float | None = None) -> None:
        self._present = value is not None

    def value(self) -> float | None:
        return 0.0 if self._present else None

    def prime(self, start: int, step: int, main: Buckets, other: Buckets | None) -> None:
        """That it was there once says nothing of now."""
