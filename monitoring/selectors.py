"""Questions to the series store; answers are numpy arrays."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from django.conf import settings

from monitoring.models import Chunk, Event, Journal, Rollup, Series
from monitoring.services import split_row
from monitoring.store.packing import Floats, unpack_many
from monitoring.store.retention import HOUR, kept_s
from monitoring.store.rollups import BUCKETS, CHUNK_S, RAW_S, TIERS_S, Buckets

POINTS = 500
DAY = 24 * HOUR


@dataclass(frozen=True)
class Answer:
    """`start` + i * `step` (s) is the beginning of bucket i; all arrays of one length, NaN where nothing is known."""

    start: int
    step: int
    series: dict[str, Buckets]

    def merged(self, factor: int) -> "Answer":
        """With every `factor` neighbouring buckets as one."""
        if factor == 1:
            return self
        merged = {name: buckets.merged(factor) for name, buckets in self.series.items()}
        return Answer(self.start, self.step * factor, merged)


def pick_tier(span_s: float, points: int = POINTS, *, age_s: float = 0) -> int:
    """The coarsest stored tier that still gives `points`, or a coarser one where that is not kept for `age_s`."""
    wanted = max((tier for tier in (RAW_S, *TIERS_S) if span_s / tier >= points), default=RAW_S)
    retention_s = settings.METRICS_RETENTION_HOURS * HOUR
    kept = (tier for tier in (RAW_S, *TIERS_S) if tier >= wanted and kept_s(tier, retention_s) >= age_s)
    return next(kept, TIERS_S[-1])


def merged_buckets(span_s: int, tier: int, points: int = POINTS) -> int:
    """How many buckets of `tier` are one point, of which there are `points` to twice as many: a number that cuts days
    evenly (12 hours, not 17), so that a daily rhythm is not drawn as a slow one."""
    most = min(max(span_s // tier // points, 1), DAY // tier)
    return next(each for each in range(most, 0, -1) if DAY % (tier * each) == 0)


def query(
    host: str,
    names: list[str],
    start: int,
    end: int,
    *,
    points: int = POINTS,
    tier: int | None = None,
    now: float | None = None,
) -> Answer:
    """About `points` buckets of each series over [start, end). Unknown names give empty buckets. The first bucket begins
    at a whole multiple of its length, at `start` or before, so that a moved question cuts time at the same places."""
    tier = tier or pick_tier(end - start, points, age_s=(time.time() if now is None else now) - start)
    factor = merged_buckets(end - start, tier, points)
    return read(host, names, start - start % (tier * factor), end, tier).merged(factor)


def read(host: str, names: list[str], start: int, end: int, tier: int) -> Answer:
    """Every bucket of `tier` over [start, end), the newest seconds included. Unknown names give empty buckets."""
    start -= start % tier
    n = max(-(-(end - start) // tier), 1)
    ids = dict(Series.objects.filter(host=host, name__in=names).values_list("id", "name"))
    if tier == RAW_S:
        raw = {series_id: np.full(n, np.nan) for series_id in ids}
        _read_chunks(raw, start, start + n)
        _read_journal(host, raw, start, start + n)
        stored = {series_id: Buckets.of(values) for series_id, values in raw.items()}
    else:
        stored = {series_id: Buckets.empty(n) for series_id in ids}
        _read_rollups(stored, tier, start, n)
        _add_journal(host, stored, tier, start, n)
    found = {ids[series_id]: buckets for series_id, buckets in stored.items()}
    return Answer(start, tier, {name: found.get(name) or Buckets.empty(n) for name in names})


def recent_samples(host: str, names: list[str], now: float, seconds: int = 900) -> Answer:
    """Every second of the last `seconds`: what the live page fills its charts with."""
    end = int(now) + 1
    return query(host, names, end - seconds, end, points=seconds, tier=RAW_S)


def recent_events(host: str, now: float, seconds: int = 900) -> list[Event]:
    """Oldest first."""
    since = datetime.fromtimestamp(now - seconds, UTC)
    return list(Event.objects.filter(host=host, at__gte=since).order_by("at"))


def series_names(host: str) -> list[str]:
    return list(Series.objects.filter(host=host).order_by("name").values_list("name", flat=True))


def _read_chunks(raw: dict[int, Floats], start: int, end: int) -> None:
    found = list(
        Chunk.objects.filter(series_id__in=list(raw), start__gt=start - CHUNK_S, start__lt=end).values_list(
            "series_id", "start", "data"
        )
    )
    for (series_id, at, _), values in zip(found, unpack_many([row[2] for row in found]), strict=True):
        low, high = max(at, start), min(at + CHUNK_S, end)
        raw[series_id][low - start : high - start] = values[low - at : high - at]


def _read_journal(host: str, raw: dict[int, Floats], start: int, end: int) -> None:
    rows = Journal.objects.filter(host=host, at__gte=start, at__lt=end)
    alike: dict[bytes, tuple[list[int], list[bytes]]] = {}  # rows of the same series are read together
    for at, data in rows.values_list("at", "data"):
        packed, values = split_row(data)
        seconds, numbers = alike.setdefault(packed, ([], []))
        seconds.append(at - start)
        numbers.append(values)
    for packed, (seconds, numbers) in alike.items():
        ids = np.frombuffer(packed, np.uint32)
        table = np.frombuffer(b"".join(numbers), np.float64).reshape(len(seconds), len(ids))
        for position, series_id in enumerate(ids.tolist()):
            if series_id in raw:
                raw[series_id][seconds] = table[:, position]


def _read_rollups(found: dict[int, Buckets], tier: int, start: int, n: int) -> None:
    span = tier * BUCKETS
    rows = Rollup.objects.filter(
        series_id__in=list(found), tier=tier, start__gt=start - span, start__lt=start + n * tier
    )
    packed = list(rows.values_list("series_id", "start", "data"))
    for (series_id, at, _), values in zip(packed, unpack_many([row[2] for row in packed]), strict=True):
        low, high = max(at, start), min(at + span, start + n * tier)
        part = slice((low - at) // tier, (high - at) // tier)
        found[series_id].put((low - start) // tier, Buckets(*values.reshape(4, BUCKETS)[:, part]))


def _add_journal(host: str, found: dict[int, Buckets], tier: int, start: int, n: int) -> None:
    """The last minutes, which are in no rollup yet."""
    end = start + n * tier
    rows = Journal.objects.filter(host=host, at__gte=start, at__lt=end)
    first = rows.order_by("at").values_list("at", flat=True).first()
    if first is None:
        return
    begin = first - (first - start) % tier
    raw = {series_id: np.full(end - begin, np.nan) for series_id in found}
    _read_journal(host, raw, begin, end)
    for series_id, values in raw.items():
        found[series_id].add((begin - start) // tier, Buckets.of(values, tier))
