"""Seconds in the store as if a collector had written them, many at once."""

import numpy as np

from monitoring.models import Series
from monitoring.services import _roll_up, _store_chunks
from monitoring.store.packing import Floats
from monitoring.store.rollups import CHUNK_S, TIERS_S


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
