"""Minimum, mean, maximum and count of buckets."""

import warnings
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
    def of(cls, values: Floats) -> "Buckets":
        """Each value as a bucket of its own."""
        return cls(values.copy(), values.copy(), values.copy(), np.isfinite(values).astype(np.float64))

    def __len__(self) -> int:
        return len(self.mean)

    def merged(self, factor: int) -> "Buckets":
        """Every `factor` neighbours as one; the last group may be smaller. Means are weighted by count."""
        n = -(-len(self) // factor)
        padded = Buckets.empty(n * factor)
        padded.put(0, self)
        shape = (n, factor)
        count = padded.count.reshape(shape)
        total = count.sum(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all of a group unknown: NaN is the answer
            weighted = np.nansum(padded.mean.reshape(shape) * count, 1)
            mean = np.where(total > 0, weighted / np.maximum(total, 1), np.nan)
            low = np.nanmin(padded.low.reshape(shape), 1)
            high = np.nanmax(padded.high.reshape(shape), 1)
        return Buckets(low, mean, high, total)

    def put(self, position: int, other: "Buckets") -> None:
        """Write the non-empty buckets of `other` from `position` on."""
        part = slice(position, position + len(other))
        known = other.count > 0
        for name in ("low", "mean", "high", "count"):
            target = getattr(self, name)[part]
            target[known] = getattr(other, name)[known]

    def add(self, position: int, other: "Buckets") -> None:
        """Merge the buckets of `other` into those that are there already."""
        for n in range(len(other)):
            if other.count[n] == 0:
                continue
            i = position + n
            total = self.count[i] + other.count[n]
            if self.count[i] == 0:
                self.low[i], self.mean[i], self.high[i] = other.low[n], other.mean[n], other.high[n]
            else:
                self.low[i] = min(self.low[i], other.low[n])
                self.high[i] = max(self.high[i], other.high[n])
                self.mean[i] += (other.mean[n] - self.mean[i]) * other.count[n] / total
            self.count[i] = total

    def packed(self) -> bytes:
        return pack(np.concatenate([self.low, self.mean, self.high, self.count]), exact=False)

    @classmethod
    def unpacked(cls, data: bytes | memoryview) -> "Buckets":
        low, mean, high, count = np.split(unpack(data), 4)
        return cls(low, mean, high, count)
