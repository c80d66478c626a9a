"""Silences: what is not told for a while."""

from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import models

from monitoring.alerts.recurrence import RecurrenceError, windows, zone_of
from monitoring.alerts.series import Matcher, SelectorError, parse_matchers

# Beyond these there is no reckoning with zones and lengths.
FIRST_YEAR, LAST_YEAR = 2000, 2999
WRONG_YEAR = f"Give a year from {FIRST_YEAR} to {LAST_YEAR}."


class Silence(models.Model):
    """Notices of alerts whose labels fit all matchers are held back from `start` to `end`. Evaluation goes on.

    One with an `rrule` comes again between them, `length_s` at a time, by the clock of `zone`."""

    matchers = models.TextField(max_length=1000)
    start = models.DateTimeField()
    end = models.DateTimeField()
    author = models.CharField(max_length=150)
    reason = models.CharField(max_length=300)
    rrule = models.CharField("repeats", max_length=200, blank=True)
    zone = models.CharField(max_length=64, default="UTC")
    length_s = models.PositiveIntegerField(null=True, blank=True)  # of a window of a repeating one
    told_to = models.DateTimeField(null=True, editable=False)  # until then, ends of windows are dealt with
    closed = models.BooleanField(
        default=False, editable=False
    )  # its end is dealt with: what still fires was told

    class Meta:
        ordering = ("-end",)
        indexes = (models.Index(fields=("end",), name="silence_end"),)

    def __str__(self) -> str:
        return self.matchers

    def clean(self) -> None:
        try:
            if not parse_matchers(self.matchers, typed=True):
                raise ValidationError(
                    {"matchers": "Give at least one, such as rule=Memory: none would silence everything."}
                )
        except SelectorError as error:
            raise ValidationError({"matchers": str(error)}) from error
        for name, at in (("start", self.start), ("end", self.end)):
            if at is not None and not FIRST_YEAR <= at.year <= LAST_YEAR:
                raise ValidationError({name: WRONG_YEAR})
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValidationError({"end": "It ends before it begins."})
        if self.rrule:
            self._check_windows()

    def _check_windows(self) -> None:
        if not self.length_s:
            raise ValidationError({"length_s": "Say how long each of them lasts."})
        try:
            zone_of(self.zone)
        except RecurrenceError as error:
            raise ValidationError({"zone": str(error)}) from error
        try:
            if self.start is not None and self.end is not None and not self.windows(self.start, self.end, 1):
                raise ValidationError({"rrule": "It never happens between its begin and its end."})
        except RecurrenceError as error:
            raise ValidationError({"rrule": str(error)}) from error

    def parsed(self) -> tuple[Matcher, ...]:
        return parse_matchers(self.matchers)

    def fits(self, labels: dict[str, str]) -> bool:
        return all(each.fits(labels) for each in self.parsed())

    def windows(self, since: datetime, until: datetime, most: int = 50) -> list[tuple[datetime, datetime]]:
        """(begin, end) of the first `most` windows that overlap [since, until)."""
        since, until = max(since, self.start), min(until, self.end)
        if since >= until:
            return []
        if not self.rrule:
            return [(self.start, self.end)]
        zone = zone_of(self.zone)
        found = windows(self.rrule, zone, self.start, self.length_s or 0, since, until, most)
        return [(begin, min(end, self.end)) for begin, end in found]

    def is_active(self, now: datetime) -> bool:
        return bool(self.windows(now, now + timedelta(microseconds=1), 1))

    def last_end(self, now: datetime) -> datetime | None:
        """The end of the last window that is over."""
        if not self.rrule:
            return self.end if self.end <= now else None
        back = timedelta(seconds=self.length_s or 0) + timedelta(days=32)
        ends = [end for _, end in self.windows(now - back, now, 500) if end <= now]
        return max(ends, default=None)
