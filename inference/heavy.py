"""Heavy work: one piece at a time on a host, model jobs and what upper apps measure. Two would fight for memory, and each would
spoil what the other measures."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

LOCK = 4_711_001  # any number of our own


@dataclass(frozen=True)
class Elsewhere:
    """Of one kind of work on a host: what runs, as a sentence ("": nothing), and since when the next one waits."""

    running: str = ""
    waiting_since: datetime | None = None

    def comes_first(self, created_at: datetime) -> bool:
        """Whether what was asked for then has to wait for it."""
        return bool(self.running) or (self.waiting_since is not None and self.waiting_since < created_at)


upper: list[Callable[[str], Elsewhere]] = []  # upper apps add theirs: by host


def hold() -> None:
    """Within a transaction: until its end nobody else starts anything heavy."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    # SQLite's transactions begin as IMMEDIATE: there is one at a time anyway.


def other_work(host: str) -> list[Elsewhere]:
    """Beside model jobs."""
    return [each(host) for each in upper]
