"""Seconds in the store as if a collector had written them, many at once."""

import numpy as np

from monitoring.models import Rollup, Series
from monitoring.services import _roll_up, _store_chunks
from monitoring.store.packing import Floats
from monitoring.store.rollups import BUCKETS, CHUNK_S, TIERS_S, Buckets


def store(host: str, start: int, columns: dict[str, Floats]) -> None:
    """`columns`: a value a second from `start` on, a multiple of CHUNK_S; NaN: there is none."""
    Series.objects.bulk_create([Series(host=host, name=name) for name in columns], ignore_conflicts=True)
    ids = dict(Series.objects.filter(host=host, name__in=columns).values_list("name", "id"))
    names = {series_id: name for name, series_id in ids.items()}
    n = max(len(values) for values in columns.values())
    assert start % CHUNK_S == 0
    for begin in range(0, n, CHUNK_S):
        block = {}
        for name, values in columns.items():
            part = np.full(CHUNK_S, np.nan)
            found = values[begin : begin + CHUNK_S]
            part[: len(found)] = found
            if np.isfinite(part).any():
                block[ids[name]] = part
        fresh = _store_chunks(block, start + begin, names)
        for tier in TIERS_S:
            _roll_up(fresh, start + begin, tier)


def store_rolled(host: str, start: int, columns: dict[str, Floats]) -> None:
    """Their rollups alone, without the seconds: many days at once in little time."""
    Series.objects.bulk_create([Series(host=host, name=name) for name in columns], ignore_conflicts=True)
    ids = dict(Series.objects.filter(host=host, name__in=columns).values_list("name", "id"))
    for name, values in columns.items():
        for tier in TIERS_S:
            begin, span = start - start % tier, tier * BUCKETS
            whole = Buckets.of(np.concatenate([np.full(start - begin, np.nan), values]), tier)
            for row_start in range(begin - begin % span, begin + len(whole) * tier, span):
                low, high = max(row_start, begin), min(row_start + span, begin + len(whole) * tier)
                row = Rollup.objects.filter(series_id=ids[name], tier=tier, start=row_start).first()
                row = row or Rollup(series_id=ids[name], tier=tier, start=row_start)
                buckets = Buckets.unpacked(row.data) if row.pk else Buckets.empty(BUCKETS)
                part = slice((low - begin) // tier, (high - begin) // tier)
                buckets.add(
                    (low - row_start) // tier,
                    Buckets(whole.low[part], whole.mean[part], whole.high[part], whole.count[part]),
                )
                row.data = buckets.packed()
                row.save()
