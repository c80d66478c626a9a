"""Windows that come again: an RRULE (RFC 5545) in the wall-clock time of a zone. No Django in here.

A window begins and ends at the same time on the clock all year: over a change of the clock it is an hour longer or
shorter. A time that the clock leaps over counts as the moment of the leap; of one that comes twice, the first counts."""

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dateutil.rrule import rrule, rruleset, rrulestr

# Finer ones make no maintenance window, and cost without end.
FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
DAY = timedelta(days=1)
LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days of each month


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
    if (
        "BYMONTHDAY" in parts
        and "BYMONTH" in parts
        and not _has_such_days(parts["BYMONTH"], parts["BYMONTHDAY"])
    ):
        raise RecurrenceError(
            "it never happens: none of these months has such a day."
        )  # it would be looked for to the year 9999
    if parts.get("FREQ") == "DAILY" and "BYSETPOS" in parts:
        raise RecurrenceError(
            "BYSETPOS picks of a week, a month or a year: take FREQ=WEEKLY, MONTHLY or YEARLY."
        )
    if parts.get("UNTIL", "").endswith("Z"):
        raise RecurrenceError("UNTIL is wall-clock time: write it without Z.")
    if {"COUNT", "UNTIL"} <= set(parts):
        raise RecurrenceError("COUNT or UNTIL, not both.")
    if not parts.get("INTERVAL", "1").isdecimal() or int(parts.get("INTERVAL", "1")) < 1:
        raise RecurrenceError("INTERVAL is a whole number from 1 on.")
    try:
        found = rrulestr(";".join(f"{key}={value}" for key, value in parts.items()), dtstart=start)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise RecurrenceError(f"no RRULE: {error}.") from error
    if isinstance(found, rruleset):
        raise RecurrenceError("one RRULE, not a set of them.")
    return found


def _has_such_days(months: str, days: str) -> bool:
    """Also where they can't be read: then the library says what is wrong."""
    try:
        longest = max(LONGEST[int(each) - 1] for each in months.split(","))
        return any(1 <= abs(int(each)) <= longest for each in days.split(","))
    except (ValueError, IndexError):
        return True


def windows(
    text: str, zone: ZoneInfo, start: datetime, length_s: float, since: datetime, until: datetime, most: int
) -> list[tuple[datetime, datetime]]:
    """(begin, end) of the first `most` windows that overlap [since, until), as instants; the first is at `start` at the
    earliest. What comes after them is not reckoned: a rule may go on for a thousand years."""
    rule, length = parse_rule(text, _wall(start, zone)), timedelta(seconds=length_s)
    # A day of room on either side: clocks differ from instants by less.
    first, last = _wall(since, zone) - length - DAY, _wall(until, zone) + DAY
    walls = takewhile(lambda wall: wall <= last, rule.xafter(first, inc=True))
    instants = ((_instant(wall, zone), _instant(wall + length, zone)) for wall in walls)
    found = ((begin, end) for begin, end in instants if begin < until and end > since and begin < end)
    return list(islice(found, most))


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
