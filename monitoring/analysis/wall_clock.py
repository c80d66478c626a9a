"""The wall clock of a zone as a number: what an hour of the day or of the week is to people. No Django in here."""

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from monitoring.store.packing import Floats

SLOT_S = 900  # every zone of today changes its offset at such a step
WEEK = 7 * 86_400 // SLOT_S  # whole weeks are kept, so that most questions find theirs
DEFAULT = "UTC"


def wall(at: "Floats | float", zone: str) -> Floats:
    """Instants (s since 1970) as if the wall clock of `zone` were UTC. An hour that the clock repeats in autumn comes twice, one
    that it leaves out in spring not at all."""
    instants = np.asarray(at, np.float64)
    if zone == DEFAULT or not instants.size:
        return instants
    slots = (instants // SLOT_S).astype(np.int64)
    first = int(slots.min()) // WEEK * WEEK
    last = int(slots.max()) // WEEK * WEEK + WEEK - 1
    found: Floats = instants + _offsets(zone, first, last)[slots - first]
    return found


@lru_cache(maxsize=64)
def _offsets(zone: str, first: int, last: int) -> Floats:
    clock = ZoneInfo(zone)
    offsets = (
        datetime.fromtimestamp(slot * SLOT_S, UTC).astimezone(clock).utcoffset()
        for slot in range(first, last + 1)
    )
    return np.array([each.total_seconds() if each is not None else 0.0 for each in offsets])
