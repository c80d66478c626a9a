"""The query string of the history page: everything that a view is. Errors name the field."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils import timezone

from monitoring.history.groups import DEFAULT

DAY = 86_400
RANGES = {
    "5m": ("5 min", 300), "15m": ("15 min", 900), "1h": ("1 h", 3600), "6h": ("6 h", 6 * 3600), "24h": ("24 h", DAY),
    "7d": ("7 d", 7 * DAY), "30d": ("30 d", 30 * DAY), "90d": ("90 d", 90 * DAY), "1y": ("1 y", 365 * DAY),
}  # fmt: skip
DEFAULT_RANGE = "1h"
COMPARISONS = {"day": ("24 h earlier", DAY), "week": ("7 days earlier", 7 * DAY)}
LEAST_S, MOST_S = 300, 366 * DAY
MAX_HOSTS, MAX_SERIES, MAX_LINES = 8, 60, 60
MAX_CHARACTERS = 200  # of one name
Catalogue = Mapping[str, list[str]]


@dataclass(frozen=True)
class View:
    """`start` to `end` (s since 1970) of `lines` (host, name); `asked_for` nothing is a view with no lines."""

    start: int
    end: int
    range: str  # '' where the times were given
    hosts: tuple[str, ...]
    series: tuple[str, ...]  # as asked: names, or metrics for all their devices
    lines: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]  # of `series`: what no host has
    compare: str
    band: bool

    @property
    def earlier_s(self) -> int:
        """How much earlier the comparison is; 0: none."""
        return COMPARISONS[self.compare][1] if self.compare else 0


class WallClock(forms.DateTimeInput):
    """A browser's field of date and time: what has an offset is shown as the viewer's wall clock."""

    input_type = "datetime-local"

    def format_value(self, value: object) -> str:
        try:
            at = datetime.fromisoformat(str(value or "").strip())
            return (timezone.localtime(at) if at.tzinfo else at).strftime("%Y-%m-%dT%H:%M")
        except (ValueError, OverflowError):
            return ""  # the browser would refuse it


class ListField(forms.Field):
    """A parameter that may come several times; empty ones are left out."""

    widget = forms.SelectMultiple

    def __init__(self, what: str, most: int) -> None:
        super().__init__(required=False)
        self.what, self.most = what, most

    def clean(self, value: list[str] | None) -> list[str]:
        found = list(dict.fromkeys(each for each in value or [] if each))
        if len(found) > self.most:
            raise ValidationError(f"At most {self.most} {self.what}; these are {len(found)}.")
        if any(len(each) > MAX_CHARACTERS for each in found):
            raise ValidationError(f"A name has at most {MAX_CHARACTERS} characters.")
        return found


class ViewForm(forms.Form):
    """`from` and `to` are instants with an offset (`2026-01-31T18:30:00Z`) or the wall clock of `zone`."""

    range = forms.ChoiceField(choices=[(key, label) for key, (label, _) in RANGES.items()], required=False)
    zone = forms.CharField(required=False, max_length=60, widget=forms.HiddenInput)
    host = ListField("hosts", MAX_HOSTS)
    series = ListField("series", MAX_SERIES)
    compare = forms.ChoiceField(
        choices=[("", "nothing"), *((key, label) for key, (label, _) in COMPARISONS.items())],
        required=False,
        label="Compare with",
    )
    band = forms.ChoiceField(choices=[("", "shown"), ("off", "hidden")], required=False)

    def __init__(self, data: QueryDict, *, catalogue: Catalogue, own_host: str, now: float) -> None:
        super().__init__(data)
        self.catalogue, self.own_host, self.now = catalogue, own_host, now
        for name, label in (("from", "From"), ("to", "Until")):
            self.fields[name] = forms.CharField(required=False, label=label, max_length=40, widget=WallClock)

    def clean_host(self) -> list[str]:
        hosts = self.cleaned_data["host"]
        if unknown := [each for each in hosts if each not in self.catalogue]:
            known = ", ".join(list(self.catalogue)[:MAX_HOSTS]) or "none yet"
            raise ValidationError(f"No host is called '{unknown[0]}'. Recorded are: {known}.")
        own = self.own_host if self.own_host in self.catalogue else next(iter(self.catalogue), None)
        return hosts or ([own] if own is not None else [])

    def clean_from(self) -> float | None:
        return self._instant("from")

    def clean_to(self) -> float | None:
        return self._instant("to")

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        self._check_times(found)
        if "host" in found and "series" in found:
            n_lines = len(self._lines(found["host"], self._series())[0])
            if n_lines > MAX_LINES:
                self.add_error(
                    "series", f"At most {MAX_LINES} lines; these are {n_lines}. Take fewer devices or hosts."
                )
        return found

    def _check_times(self, found: dict[str, Any]) -> None:
        if "from" not in found or "to" not in found:
            return
        start, end = found["from"], found["to"]
        if found.get("range") and (start is not None or end is not None):
            self.add_error("range", "Give either a range or times, not both.")
        elif start is None and end is not None:
            self.add_error("from", "Give the beginning too.")
        elif start is not None:
            end = self.now if end is None else end
            if start >= self.now:
                self.add_error("from", "That is still to come: give a time that is past.")
            elif end <= start:
                self.add_error("to", "It ends before it begins: give a later time.")
            elif end - start < LEAST_S:
                self.add_error("to", "Less than 5 minutes: give a later time.")
            elif end - start > MOST_S:
                self.add_error("from", "More than a year: give a later time.")

    def _instant(self, name: str) -> float | None:
        text = self.cleaned_data[name].strip()
        if not text:
            return None
        try:
            wall = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValidationError("Give date and time, such as 2026-01-31T18:30.") from error
        if not 2000 <= wall.year < 2200:
            raise ValidationError("Give a year from 2000 to 2199.")
        return (wall if wall.tzinfo else wall.replace(tzinfo=self._zone())).timestamp()

    def _zone(self) -> tzinfo:
        try:
            return ZoneInfo(self.data["zone"]) if self.data.get("zone") else timezone.get_current_timezone()
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return UTC

    def _series(self) -> list[str]:
        """Those asked for; without the parameter the default, and with an empty one none."""
        return list(self.cleaned_data["series"]) if "series" in self.data else list(DEFAULT)

    def _lines(self, hosts: list[str], series: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
        """(host, name) of each line, and what of `series` no host has."""
        lines: dict[tuple[str, str], None] = {}
        missing = []
        for asked in series:
            found = [
                (host, name)
                for host in hosts
                for name in self.catalogue[host]
                if asked in (name, name.partition("{")[0])
            ]
            lines |= dict.fromkeys(found)
            if not found:
                missing.append(asked)
        return list(lines), missing

    def view(self) -> View:
        """Of a valid form."""
        found = self.cleaned_data
        if found["from"] is None:
            key = found["range"] or DEFAULT_RANGE
            end = int(self.now) + 1
            start = end - RANGES[key][1]
        else:
            key, start = "", int(found["from"])
            end = int(self.now if found["to"] is None else found["to"])
        series = self._series()
        lines, missing = self._lines(found["host"], series)
        if "series" not in self.data:  # of the default what is there
            series, missing = [each for each in series if each not in missing], []
        return View(
            start=start,
            end=max(end, start + LEAST_S),
            range=key,
            hosts=tuple(found["host"]),
            series=tuple(series),
            lines=tuple(lines),
            missing=tuple(missing),
            compare=found["compare"],
            band=found["band"] != "off",
        )


def iso(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
