"""Windows that come again: an RRULE (RFC 5545) in the wall-clock time of a zone. No Django in here.

A window begins and ends at the same time on the clock all year: over a change of the clock it is an hour longer or
shorter. A time that the clock leaps over counts as the moment of the leap; of one that comes twice, the first counts."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dateutil.rrule import rrule, rruleset, rrulestr

# Finer ones make no maintenance window, and cost without end.
FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
DAY = timedelta(days=1)


class RecurrenceError(ValueError):
    """The text is no RRULE that can be used; the message says why."""


def zone_of(name: str) -> ZoneInfo:
    """Raises RecurrenceError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise RecurrenceError(f"'{name}' is no time zone: give one such as Europe/Berlin.") from error


def parse_rule(text: str, start: datetime) -> rrule:
    """`FREQ=WEEKLY;BYDAY=SA` from the wall-clock time `start` on; raises RecurrenceError."""
    parts = dict(part.partition("=")[::2] for part in text.upper().removeprefix("RRULE:").split(";"))
    if parts.get("FREQ") not in FREQUENCIES:
        raise RecurrenceError(f"it needs FREQ, one of {', '.join(FREQUENCIES)}: FREQ=WEEKLY;BYDAY=SA,SU")
    if set(parts) & {"BYHOUR", "BYMINUTE", "BYSECOND", "BYEASTER"}:
        raise RecurrenceError("the time of day is that of 'from': leave BYHOUR, BYMINUTE and BYSECOND out.")
    if parts.get("UNTIL", "").endswith("Z"):
        raise RecurrenceError("UNTIL is wall-clock time: write it without Z.")
    if not parts.get("INTERVAL", "1").isdecimal() or int(parts.get("INTERVAL", "1")) < 1:
        raise RecurrenceError("INTERVAL is a whole number from 1 on.")
    try:
        found = rrulestr(";".join(f"{key}={value}" for key, value in parts.items()), dtstart=start)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise RecurrenceError(f"no RRULE: {error}.") from error
    if isinstance(found, rruleset):
        raise RecurrenceError("one RRULE, not a set of them.")
    return found


def windows(
    text: str, zone: ZoneInfo, start: datetime, length_s: float, since: datetime, until: datetime
) -> list[tuple[datetime, datetime]]:
    """(begin, end) of every window that overlaps [since, until), as instants; the first is at `start` at the earliest."""
    rule, length = parse_rule(text, _wall(start, zone)), timedelta(seconds=length_s)
    # A day of room on either side: clocks differ from instants by less.
    walls = rule.between(_wall(since, zone) - length - DAY, _wall(until, zone) + DAY, inc=True)
    found = [(_instant(wall, zone), _instant(wall + length, zone)) for wall in walls]
    return [(begin, end) for begin, end in found if begin < until and end > since and begin < end]


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    before, after = (wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    if after <= before:
        return (wall - before).replace(tzinfo=UTC)
    # It does not exist. Between both readings lies the moment of the leap: find it, to the second.
    low, high = (wall - after).replace(tzinfo=UTC), (wall - before).replace(tzinfo=UTC)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high
