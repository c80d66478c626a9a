"""Writes of the monitoring app."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from monitoring.models import Chunk, Event, Journal, Rollup, Series
from monitoring.store.packing import Floats, is_counter, pack, unpack
from monitoring.store.retention import HOUR, HOURS_KEPT_S, kept_s
from monitoring.store.rollups import BUCKETS, CHUNK_S, RAW_S, TIERS_S, Buckets

MAX_NAME = 200  # characters of a series' name
# Nothing is deleted until the clock has run evenly for so long: a clock that leaps ahead must not cost the history.
STEADY_S = 600
# A host that wrote nothing for so long is tended by the others that share its database.
SILENT_S = 24 * HOUR
# Once a second for ever: building this statement through the ORM costs three times what it does.
WRITE_ROW = """
    INSERT INTO monitoring_journal (host, at, data) VALUES (%s, %s, %s)
    ON CONFLICT (host, at) DO UPDATE SET data = EXCLUDED.data
"""


class SampleWriter:
    """Writes one host's samples: a journal row a second, chunks and rollups every CHUNK_S.

    The wall clock may leap either way: whatever is not in the block of the newest sample is packed, and a second
    that is stored already counts once."""

    def __init__(self, host: str, retention_hours: float) -> None:
        self.host, self.retention_s = host, int(retention_hours * HOUR)
        self.ids = dict(Series.objects.filter(host=host).values_list("name", "id"))
        self._block: int | None = None
        self._last, self._n_steady = 0, 0

    def write(self, at: float, values: dict[str, float | None]) -> None:
        """Store one sample; whatever is a finished chunk by then is packed.

        Raises DatabaseError; after a rollback around it this writer's knowledge of series is void: make a new one."""
        second = int(at)
        known = {name[:MAX_NAME]: value for name, value in values.items() if value is not None}
        self._know(known)
        ids = np.fromiter((self.ids[name] for name in known), np.uint32, len(known))
        numbers = np.fromiter(known.values(), np.float64, len(known))
        with connection.cursor() as cursor:
            cursor.execute(WRITE_ROW, (self.host, second, ids.tobytes() + numbers.tobytes()))
        even = 0 <= second - self._last <= CHUNK_S
        self._n_steady, self._last = self._n_steady + 1 if even else 0, second
        block = second - second % CHUNK_S
        if block != self._block:
            pack_journal(host=self.host, open_block=block)
            if self._n_steady >= STEADY_S:
                delete_old_samples(host=self.host, now=second, retention_s=self.retention_s)
                if block % HOUR == 0:
                    self._tidy(second)
            self._block = block

    def _tidy(self, now: int) -> None:
        delete_empty_series(host=self.host)
        self.ids = dict(Series.objects.filter(host=self.host).values_list("name", "id"))
        writing = Journal.objects.filter(at__gte=now - SILENT_S).values("host")
        gone = Series.objects.exclude(host=self.host).exclude(host__in=writing)
        for host in gone.values_list("host", flat=True).distinct():
            pack_journal(host=host, open_block=now - now % CHUNK_S)
            delete_old_samples(host=host, now=now, retention_s=self.retention_s)
            delete_empty_series(host=host)

    def _know(self, names: Iterable[str]) -> None:
        new = [name for name in names if name not in self.ids]
        if new:
            Series.objects.bulk_create(
                [Series(host=self.host, name=name) for name in new], ignore_conflicts=True
            )
            self.ids |= dict(Series.objects.filter(host=self.host, name__in=new).values_list("name", "id"))


def split_row(data: bytes | memoryview) -> tuple[bytes, bytes]:
    """The series ids (uint32) and the values (float64) of a journal row, as they are packed."""
    data = bytes(data)
    n = len(data) // 12
    return data[: 4 * n], data[4 * n : 12 * n]


def unpack_row(data: bytes | memoryview) -> tuple[np.ndarray, Floats]:
    """(series ids, values) of a journal row."""
    ids, values = split_row(data)
    return np.frombuffer(ids, np.uint32), np.frombuffer(values, np.float64)


@transaction.atomic
def pack_journal(*, host: str, open_block: int) -> int:
    """Turn the host's journal, but for the block that is still being written, into packed chunks and rollups; returns how
    many journal rows went.

    One transaction: a crash in the middle leaves the journal as it was."""
    finished = Journal.objects.filter(host=host).exclude(at__gte=open_block, at__lt=open_block + CHUNK_S)
    blocks: dict[int, list[Journal]] = defaultdict(list)
    for row in finished.order_by("at"):
        blocks[row.at - row.at % CHUNK_S].append(row)
    if not blocks:
        return 0
    names = dict(Series.objects.filter(host=host).values_list("id", "name"))
    for start, members in blocks.items():
        columns: dict[int, Floats] = {}
        for row in members:
            for series_id, value in zip(*unpack_row(row.data), strict=True):
                column = columns.get(int(series_id))
                if column is None:
                    column = columns[int(series_id)] = np.full(CHUNK_S, np.nan)
                column[row.at - start] = value
        columns = {series_id: column for series_id, column in columns.items() if series_id in names}
        fresh = _store_chunks(columns, start, names)
        for tier in TIERS_S:
            _roll_up(fresh, start, tier)
    finished.delete()
    return sum(map(len, blocks.values()))


def _store_chunks(columns: dict[int, Floats], start: int, names: dict[int, str]) -> dict[int, Floats]:
    """Store what is not stored yet; returns the columns with just that. A chunk is there already when the clock went back:
    its seconds stay as they are, else the rollups would count them twice."""
    stored = {row.series_id: row for row in Chunk.objects.filter(series_id__in=list(columns), start=start)}
    new, changed, fresh = [], [], {}
    for series_id, column in columns.items():
        row = stored.get(series_id)
        if row is None:
            row = Chunk(series_id=series_id, start=start)
            new.append(row)
            fresh[series_id] = whole = column
        else:
            before = unpack(row.data)
            fresh[series_id] = np.where(np.isnan(before), column, np.nan)
            whole = np.where(np.isnan(before), column, before)
            changed.append(row)
        row.data = pack(whole, exact=is_counter(names[series_id]))
    Chunk.objects.bulk_create(new)
    Chunk.objects.bulk_update(changed, ["data"], batch_size=100)
    return fresh


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
        buckets.add((start - row_start) // tier, Buckets.of(column, min(tier, CHUNK_S)))
        if row:
            row.data = buckets.packed()
            changed.append(row)
        else:
            new.append(Rollup(series_id=series_id, tier=tier, start=row_start, data=buckets.packed()))
    Rollup.objects.bulk_create(new)
    Rollup.objects.bulk_update(changed, ["data"], batch_size=100)


def delete_old_samples(*, host: str, now: int, retention_s: int) -> None:
    """Delete what is older than its tier is kept for; each host by its own clock."""
    before = now - kept_s(RAW_S, retention_s) - CHUNK_S
    Chunk.objects.filter(series__host=host, start__lt=before).delete()
    for tier in TIERS_S:
        before = now - kept_s(tier, retention_s) - tier * BUCKETS
        Rollup.objects.filter(series__host=host, tier=tier, start__lt=before).delete()
    Event.objects.filter(host=host, at__lt=datetime.fromtimestamp(now - HOURS_KEPT_S, UTC)).delete()


def delete_empty_series(*, host: str) -> None:
    """Delete series of which nothing is stored any more: interfaces, disks and sensors come and go."""
    waiting = {
        int(series_id)
        for data in Journal.objects.filter(host=host).values_list("data", flat=True)
        for series_id in unpack_row(data)[0]
    }
    stored = [Exists(table.objects.filter(series=OuterRef("pk"))) for table in (Chunk, Rollup)]
    empty = Series.objects.filter(~stored[0], ~stored[1], host=host).values_list("id", flat=True)
    Series.objects.filter(id__in=set(empty) - waiting).delete()


def record_event(*, host: str, at: float, kind: str, text: str) -> Event:
    return Event.objects.create(host=host, at=datetime.fromtimestamp(at, UTC), kind=kind, text=text[:300])
