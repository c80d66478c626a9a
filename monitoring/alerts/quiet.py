"""Quiet hours: a time of day in a zone, right over a change of its clock."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo


def quiet_until(now: datetime, start: time, end: time, zone: ZoneInfo) -> datetime | None:
    """When the quiet hours that `now` lies in end; None outside of them. Past midnight when `end` is before `start`.

    A wall time that the clock skips is read with the offset from before, one that it has twice is the first (RFC 5545)."""
    today = now.astimezone(zone).date()
    over_midnight = timedelta(days=end <= start)
    for day in (today - timedelta(days=1), today):
        begins = datetime.combine(day, start, zone).astimezone(UTC)
        ends = datetime.combine(day + over_midnight, end, zone).astimezone(UTC)
        if begins <= now < ends:
            return ends
    return None
