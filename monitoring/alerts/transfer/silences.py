"""Silences in the file."""

from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.dateparse import parse_datetime

from monitoring.alerts import services
from monitoring.alerts.transfer.entries import Entry, File, said, shown
from monitoring.models import Silence

KEYS = ("matchers", "from", "to", "repeats", "zone", "lasts_s", "reason", "author")
FIELDS = {"start": "from", "end": "to", "rrule": "repeats", "length_s": "lasts_s"}


def rows(now: datetime) -> list[dict[str, Any]]:
    """Those that are not over."""
    return [_row(each) for each in Silence.objects.filter(end__gt=now).order_by("start", "pk")]


def entries(file: File, who: str, now: datetime) -> list[Entry]:
    found = [_entry(file, where, row, who, now) for where, row in file.rows("silences")]
    return [each for each in found if each is not None]


def _row(silence: Silence) -> dict[str, Any]:
    repeats = {"repeats": silence.rrule, "zone": silence.zone, "lasts_s": silence.length_s}
    return {
        "matchers": silence.matchers,
        "from": _instant(silence.start),
        "to": _instant(silence.end),
        **(repeats if silence.rrule else {}),
        "reason": silence.reason,
        "author": silence.author,
    }


def _entry(file: File, where: str, row: Any, who: str, now: datetime) -> Entry | None:
    if not isinstance(row, dict):
        file.problems.append(f"{where}: must be a mapping.")
        return None
    right = file.knows_fields(where, row, {}, KEYS)
    silence = Silence(
        matchers=str(row.get("matchers") or "").strip(),
        reason=str(row.get("reason") or ""),
        author=str(row.get("author") or who)[:150],
        rrule=str(row.get("repeats") or ""),
        zone=str(row.get("zone") or "UTC"),
        told_to=now,
    )
    length = row.get("lasts_s")
    if length is not None and (not isinstance(length, int) or length <= 0):
        file.say(where, "lasts_s", "give whole seconds.")
        right = False
    else:
        silence.length_s = length
    for name in ("start", "end"):
        try:
            setattr(silence, name, _read_instant(row.get(FIELDS[name])))
        except ValueError as error:
            file.say(where, FIELDS[name], error)
            right = False
    if not right:
        return None
    try:
        silence.full_clean()
    except ValidationError as error:
        for each, errors in error.message_dict.items():
            file.say(where, FIELDS.get(each, each), said(errors))
        return None
    return _compared(silence, row, now)


def _compared(silence: Silence, row: dict[str, Any], now: datetime) -> Entry:
    def store(who: str, now: datetime) -> None:
        services.create_silence(silence)

    values = {each.name: getattr(silence, each.name) for each in Silence._meta.concrete_fields}
    same = {name: value for name, value in values.items() if name not in ("id", "closed", "told_to")}
    status = "same" if Silence.objects.filter(**same).exists() else "over" if silence.end <= now else "new"
    changes = [(key, "", shown(row.get(key))) for key in KEYS if row.get(key)] if status == "new" else []
    return Entry("silence", silence.matchers.replace("\n", ", "), store, status, changes)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read_instant(value: Any) -> datetime:
    """A YAML timestamp or text; without a zone it is UTC."""
    try:
        found = value if isinstance(value, datetime) else parse_datetime(str(value))
    except ValueError:
        found = None
    if found is None:
        raise ValueError("give date and time, such as 2026-01-31T18:30:00Z.")
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
