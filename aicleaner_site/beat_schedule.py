"""The schedule of celery beat: django-celery-beat's, which bears a clock that was set back."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django_celery_beat.schedulers import DatabaseScheduler

SLACK = timedelta(seconds=5)


class Schedule(DatabaseScheduler):  # type: ignore[misc]
    """An entry says when it ran last by the wall clock. Set back by an hour, that clock would leave everything undone for an
    hour: the entries that claim to have run in the future count as having run just now."""

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        self.forget_the_future(timezone.now())
        return super().tick(*args, **kwargs)

    def forget_the_future(self, now: datetime) -> None:
        entries = self._schedule or {}
        if all(each.model.last_run_at <= now + SLACK for each in entries.values()):
            return
        for each in entries.values():
            each.last_run_at = each.model.last_run_at = min(each.model.last_run_at, now)
        self._dirty.update(entries)  # the table has it, too
        self._heap = None  # made anew by the tick
