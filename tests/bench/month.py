"""A month of samples, packed as the collector's writer packs them, without the seconds that it takes to take them."""

from collections.abc import Iterator

import numpy as np

from monitoring.store.packing import Floats, is_counter, pack
from monitoring.store.retention import HOUR, kept_s
from monitoring.store.rollups import BUCKETS, CHUNK_S, RAW_S, TIERS_S, Buckets

DAY = 24 * HOUR
RETENTION_S = 168 * HOUR


def seconds(kind: int, n: int, random: np.random.Generator) -> Floats:
    """`n` values such as a machine gives: shares, byte counts that wander, rates that burst, slow temperatures."""
    at = np.arange(n)
    if kind == 0:  # share of CPU, in ticks of a hundredth
        share = 20 + 15 * np.sin(at / 4000) + random.normal(0, 6, n)
        return np.clip(share, 0, 100).round(2).astype(np.float64)
    if kind == 1:  # bytes in use
        return 8e9 + np.cumsum(random.normal(0, 2e5, n)).round()
    if kind == 2:  # bursts
        return np.where(random.random(n) < 0.15, random.exponential(4e6, n).round(), 0.0)
    if kind == 3:  # temperature
        return np.round(45 + 8 * np.sin(at / 9000) + random.normal(0, 0.4, n), 0)
    return np.where(random.random(n) < 0.02, random.random(n) * 5, 0.0)  # pressure


def with_gaps(values: Floats, random: np.random.Generator) -> Floats:
    """Without a stretch of up to an hour about every third day: a machine is switched off now and then."""
    found = values.copy()
    for _ in range(len(values) // (3 * DAY)):
        begin = int(random.integers(0, len(values)))
        found[begin : begin + int(random.integers(60, HOUR))] = np.nan
    return found


def rows(name: str, values: Floats, start: int) -> Iterator[tuple[int, int, bytes]]:
    """(tier, start, packed) of every chunk and rollup that is kept of a series whose second `start` + i is values[i]."""
    for tier in (RAW_S, *TIERS_S):
        kept = min(kept_s(tier, RETENTION_S), len(values))
        begin = start + len(values) - kept
        begin += -begin % tier  # whole buckets
        part = values[begin - start :]
        if tier == RAW_S:
            for row, piece in _pieces(part, begin, CHUNK_S):
                yield tier, row, pack(piece, exact=is_counter(name))
            continue
        buckets = Buckets.of(part, tier)
        columns = [_pieces(each, begin // tier, BUCKETS) for each in vars(buckets).values()]
        for pieces in zip(*columns, strict=True):
            low, mean, high, count = (piece for _, piece in pieces)
            yield tier, pieces[0][0] * tier, Buckets(low, mean, high, np.nan_to_num(count)).packed()


def _pieces(values: Floats, begin: int, length: int) -> Iterator[tuple[int, Floats]]:
    """(start, values) of rows that begin at whole multiples of `length`; NaN where they reach beyond `values`."""
    for row in range(begin - begin % length, begin + len(values), length):
        piece = np.full(length, np.nan)
        low, high = max(row, begin), min(row + length, begin + len(values))
        piece[low - row : high - row] = values[low - begin : high - begin]
        yield row, piece


Rows = list[tuple[int, int, bytes]]


def generate(names: list[str], end: int, days: int = 30, seed: int = 7) -> dict[str, Rows]:
    """The rows of the `days` before `end` of each of these series; all of them are missing at the same times."""
    random = np.random.default_rng(seed)
    end -= end % CHUNK_S
    start = end - days * DAY
    off = with_gaps(np.zeros(days * DAY), random)
    return {
        name: list(rows(name, seconds(number % 5, days * DAY, random) + off, start))
        for number, name in enumerate(names)
    }


def store(host: str, found: dict[str, Rows]) -> None:
    """Write what `generate` made into the database."""
    from django.db import transaction

    from monitoring.models import Chunk, Rollup, Series

    for name, packed in found.items():
        series, _ = Series.objects.get_or_create(host=host, name=name)
        chunks = [Chunk(series=series, start=at, data=data) for tier, at, data in packed if tier == RAW_S]
        rollups = [
            Rollup(series=series, tier=tier, start=at, data=data)
            for tier, at, data in packed
            if tier != RAW_S
        ]
        with transaction.atomic():
            Chunk.objects.bulk_create(chunks, batch_size=500)
            Rollup.objects.bulk_create(rollups, batch_size=500)
