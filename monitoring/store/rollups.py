"""Minimum, mean, maximum and count of buckets."""

from dataclasses import dataclass

import numpy as np

from monitoring.store.packing import Floats, pack, unpack

RAW_S = 1
CHUNK_S = 300
TIERS_S = (10, 60, 3600)
BUCKETS = 360  # of one stored row, whatever the tier


@dataclass
class Buckets:
    """Four arrays of one length; an empty bucket is NaN with count 0."""

    low: Floats
    mean: Floats
    high: Floats
    count: Floats

    @classmethod
    def empty(cls, n: int) -> "Buckets":
        return cls(np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan), np.zeros(n))

    @classmethod
    def of(cls, values: Floats, factor: int = 1) -> "Buckets":
        """Every `factor` neighbouring values as one bucket; the last may hold fewer."""
        if factor == 1:
            return cls(
                values, values, values, np.isfinite(values).astype(np.float64)
            )  # to read, not to add to
        n = -(-len(values) // factor)
        if n * factor != len(values):
            values = np.concatenate([values, np.full(n * factor - len(values), np.nan)])
        shaped = values.reshape(n, factor)
        known = np.isfinite(shaped)
        count = known.sum(1).astype(np.float64)
        total = np.where(known, shaped, 0.0).sum(1)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return cls(np.fmin.reduce(shaped, 1), mean, np.fmax.reduce(shaped, 1), count)

    def __len__(self) -> int:
        return len(self.mean)

    def merged(self, factor: int) -> "Buckets":
        """Every `factor` neighbours as one; the last group may be smaller. Means are weighted by count."""
        n = -(-len(self) // factor)
        missing = n * factor - len(self)

        def grouped(values: Floats, filled: float = np.nan) -> Floats:
            if missing:
                values = np.concatenate([values, np.full(missing, filled)])
            return values.reshape(n, factor)

        count = grouped(self.count, 0)
        total = count.sum(1)
        weighted = np.where(count > 0, grouped(self.mean) * count, 0.0).sum(1)
        mean = np.where(total > 0, weighted / np.maximum(total, 1), np.nan)
        return Buckets(
            np.fmin.reduce(grouped(self.low), 1), mean, np.fmax.reduce(grouped(self.high), 1), total
        )

    def newest(self) -> int:
        """Position of the last bucket that holds something; -1: none does."""
        known = np.flatnonzero(self.count)
        return int(known[-1]) if len(known) else -1

    def since(self, position: int) -> "Buckets":
        return Buckets(self.low[position:], self.mean[position:], self.high[position:], self.count[position:])

    def put(self, position: int, other: "Buckets") -> None:
        """Write the non-empty buckets of `other` from `position` on."""
        part = slice(position, position + len(other))
        known = other.count > 0
        for name in ("low", "mean", "high", "count"):
            target = getattr(self, name)[part]
            target[known] = getattr(other, name)[known]

    def add(self, position: int, other: "Buckets") -> None:
        """Merge the buckets of `other` into those that are there already."""
        part = slice(position, position + len(other))
        mine = self.count[part]
        known = np.isfinite(other.mean) & (other.count > 0)
        total = mine + np.where(known, other.count, 0)
        share = np.where(known, other.count, 0) / np.maximum(total, 1)
        mean = np.where(mine > 0, self.mean[part], other.mean)
        self.low[part] = np.where(known, np.fmin(self.low[part], other.low), self.low[part])
        self.high[part] = np.where(known, np.fmax(self.high[part], other.high), self.high[part])
        self.mean[part] = np.where(known, mean + (other.mean - mean) * share, self.mean[part])
        self.count[part] = total

    def packed(self) -> bytes:
        return pack(np.concatenate([self.low, self.mean, self.high, self.count]), exact=False)

    @classmethod
    def unpacked(cls, data: bytes | memoryview) -> "Buckets":
        low, mean, high, count = np.split(unpack(data), 4)
        return cls(low, mean, high, count)
