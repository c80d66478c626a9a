"""Writes of the monitoring app."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
from django.db import transaction

from monitoring.models import Chunk, Event, Journal, Rollup, Series
from monitoring.store.packing import Floats, is_counter, pack
from monitoring.store.rollups import BUCKETS, CHUNK_S, TIERS_S, Buckets

log = logging.getLogger(__name__)
HOUR = 3600
# How long each tier is kept; `metrics_retention_hours` sets that of the 10 s tier.
MINUTES_KEPT_S, HOURS_KEPT_S, RAW_KEPT_S = 30 * 24 * HOUR, 400 * 24 * HOUR, 48 * HOUR


class SampleWriter:
    """Writes one host's samples: a journal row a second, chunks and rollups every CHUNK_S."""

    def __init__(self, host: str, retention_hours: float) -> None:
        self.host, self.retention_s = host, int(retention_hours * HOUR)
        self.ids = dict(Series.objects.filter(host=host).values_list("name", "id"))
        self._packed_until = 0

    def write(self, at: float, values: dict[str, float | None]) -> None:
        """Store one sample; whatever is a finished chunk by then is packed. Raises DatabaseError, leaving all as it was."""
        second = int(at)
        known = {name: value for name, value in values.items() if value is not None}
        self._know(known)
        ids = np.fromiter((self.ids[name] for name in known), np.uint32, len(known))
        numbers = np.fromiter(known.values(), np.float64, len(known))
        block = second - second % CHUNK_S
        row = Journal(at=second, data=ids.tobytes() + numbers.tobytes())
        Journal.objects.bulk_create(
            [row], update_conflicts=True, update_fields=["data"], unique_fields=["at"]
        )
        if block > self._packed_until:
            pack_journal(before=block)
            delete_old_samples(now=second, retention_s=self.retention_s)
            self._packed_until = block

    def _know(self, names: Iterable[str]) -> None:
        new = [name for name in names if name not in self.ids]
        if new:
            Series.objects.bulk_create(
                [Series(host=self.host, name=name[:200]) for name in new], ignore_conflicts=True
            )
            self.ids |= dict(Series.objects.filter(host=self.host, name__in=new).values_list("name", "id"))


def unpack_row(data: bytes | memoryview) -> tuple[np.ndarray, Floats]:
    """(series ids, values) of a journal row."""
    data = bytes(data)
    n = len(data) // 12
    return np.frombuffer(data, np.uint32, n), np.frombuffer(data, np.float64, n, offset=4 * n)


@transaction.atomic
def pack_journal(*, before: int) -> int:
    """Turn the journal's finished chunks into packed rows and rollups; returns how many journal rows went.

    One transaction: a crash in the middle leaves the journal as it was."""
    rows = list(Journal.objects.filter(at__lt=before).order_by("at"))
    blocks: dict[int, list[Journal]] = defaultdict(list)
    for row in rows:
        blocks[row.at - row.at % CHUNK_S].append(row)
    names = dict(Series.objects.values_list("id", "name")) if rows else {}
    for start, members in blocks.items():
        columns: dict[int, Floats] = {}
        for row in members:
            for series_id, value in zip(*unpack_row(row.data), strict=True):
                column = columns.get(int(series_id))
                if column is None:
                    column = columns[int(series_id)] = np.full(CHUNK_S, np.nan)
                column[row.at - start] = value
        columns = {series_id: column for series_id, column in columns.items() if series_id in names}
        Chunk.objects.bulk_create(
            [
                Chunk(series_id=series_id, start=start, data=pack(column, exact=is_counter(names[series_id])))
                for series_id, column in columns.items()
            ],
            ignore_conflicts=True,
        )
        for tier in TIERS_S:
            _roll_up(columns, start, tier)
    Journal.objects.filter(at__lt=before).delete()
    return len(rows)


def _roll_up(columns: dict[int, Floats], start: int, tier: int) -> None:
    span = tier * BUCKETS
    row_start = start - start % span
    found = {
        row.series_id: row
        for row in Rollup.objects.filter(tier=tier, start=row_start, series_id__in=list(columns))
    }
    new, changed = [], []
    for series_id, column in columns.items():
        row = found.get(series_id)
        buckets = Buckets.unpacked(row.data) if row else Buckets.empty(BUCKETS)
        buckets.add((start - row_start) // tier, Buckets.of(column).merged(min(tier, CHUNK_S)))
        if row:
            row.data = buckets.packed()
            changed.append(row)
        else:
            new.append(Rollup(series_id=series_id, tier=tier, start=row_start, data=buckets.packed()))
    Rollup.objects.bulk_create(new)
    Rollup.objects.bulk_update(changed, ["data"], batch_size=100)


def delete_old_samples(*, now: int, retention_s: int) -> None:
    """Delete what is older than its tier is kept for."""
    Chunk.objects.filter(start__lt=now - min(RAW_KEPT_S, retention_s) - CHUNK_S).delete()
    kept = {10: retention_s, 60: max(MINUTES_KEPT_S, retention_s), 3600: max(HOURS_KEPT_S, retention_s)}
    for tier, seconds in kept.items():
        Rollup.objects.filter(tier=tier, start__lt=now - seconds - tier * BUCKETS).delete()
    Event.objects.filter(at__lt=datetime.fromtimestamp(now - HOURS_KEPT_S, UTC)).delete()


def record_event(*, host: str, at: float, kind: str, text: str) -> Event:
    return Event.objects.create(host=host, at=datetime.fromtimestamp(at, UTC), kind=kind, text=text[:300])
