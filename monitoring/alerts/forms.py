"""What people fill in on the pages of alerts."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django import forms
from django.core.exceptions import ValidationError
from django.utils.timezone import make_aware

from monitoring.alerts.machine import Severity
from monitoring.models import Silence
from monitoring.models.silence import FIRST_YEAR, LAST_YEAR, WRONG_YEAR

HOUR = 3600
MOST_DIGITS = 18  # of a key: less than 2^63
EXPIRIES = (
    ("", "until it is resolved"),
    ("3600", "1 hour"),
    ("14400", "4 hours"),
    ("86400", "1 day"),
    ("604800", "1 week"),
)
LENGTHS = (
    ("1800", "30 minutes"),
    ("3600", "1 hour"),
    ("14400", "4 hours"),
    ("86400", "1 day"),
    ("604800", "1 week"),
)
OFTEN = (
    ("", "once"),
    ("FREQ=DAILY", "every day"),
    ("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", "from Monday to Friday"),
    ("FREQ=WEEKLY;BYDAY=SA,SU", "Saturdays and Sundays"),
    ("FREQ=WEEKLY", "every week"),
    ("FREQ=MONTHLY", "every month"),
    ("own", "by an RRULE of my own"),
)
YEAR = timedelta(days=365)
STATES = (
    ("open", "open"),
    ("unseen", "open, not acknowledged"),
    ("acknowledged", "acknowledged"),
    ("resolved", "past"),
    ("all", "all"),
)
SEVERITIES = (("", "any severity"), *((str(each.value), each.name.lower()) for each in reversed(Severity)))


SPANS = (
    ("", "at any time"),
    ("3600", "in the last hour"),
    ("86400", "in the last 24 h"),
    ("604800", "in the last 7 days"),
    ("2592000", "in the last 30 days"),
)


class FilterForm(forms.Form):
    """What the list shows; rules and hosts are those that alerts name."""

    state = forms.ChoiceField(choices=STATES, required=False, initial="open")
    severity = forms.ChoiceField(choices=SEVERITIES, required=False)
    rule = forms.CharField(
        required=False, max_length=100, widget=forms.TextInput(attrs={"list": "rule-names"})
    )
    host = forms.CharField(
        required=False, max_length=100, widget=forms.TextInput(attrs={"list": "host-names"})
    )
    fired = forms.ChoiceField(choices=SPANS, required=False)
    text = forms.CharField(
        required=False,
        max_length=100,
        label="Text",
        widget=forms.TextInput(attrs={"placeholder": "rule, series, labels"}),
    )


class Chosen(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    """Rows by their keys. A number that no database could hold is none of them, and no error of the page."""

    def clean(self, value: Any) -> Any:
        for each in value or ():
            if len(str(each)) > MOST_DIGITS:
                said = self.error_messages["invalid_choice"]
                raise ValidationError(said, code="invalid_choice", params={"value": str(each)[:20]})
        return super().clean(value)


class BulkForm(forms.Form):
    """Acknowledging several at once."""

    ids = forms.TypedMultipleChoiceField(
        coerce=int,
        error_messages={"required": "Choose the alerts first.", "invalid_choice": "That is no open alert."},
    )
    note = forms.CharField(
        max_length=1000, error_messages={"required": "Say what you found or what you will do."}
    )

    def __init__(self, *args: Any, open_ids: Iterable[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ids: Any = self.fields["ids"]
        ids.choices = [(each, each) for each in open_ids]


class AcknowledgeForm(forms.Form):
    note = forms.CharField(
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 2}),
        error_messages={"required": "Say what you found or what you will do."},
    )
    lasts = forms.ChoiceField(choices=EXPIRIES, required=False, label="Holds")

    def until(self, now: datetime) -> datetime | None:
        lasts = self.cleaned_data["lasts"]
        return now + timedelta(seconds=int(lasts)) if lasts else None


class NoteForm(forms.Form):
    text = forms.CharField(
        max_length=1000,
        label="Note",
        widget=forms.Textarea(attrs={"rows": 2}),
        error_messages={"required": "Write something, or leave it."},
    )


class ResolveForm(forms.Form):
    why = forms.CharField(max_length=1000, required=False, label="Why (optional)")


class SilenceForm(forms.ModelForm):  # type: ignore[type-arg]
    """Times are the wall clock of `zone`, which the page fills in."""

    start = forms.CharField(required=False, label="From", help_text="Empty: now")
    lasts = forms.ChoiceField(choices=LENGTHS, initial="3600", required=False, label="Lasts")
    often = forms.ChoiceField(choices=OFTEN, required=False, label="Repeats")
    rrule = forms.CharField(
        required=False, max_length=200, label="RRULE", help_text="RFC 5545, such as FREQ=MONTHLY;BYDAY=1SU"
    )
    end = forms.CharField(
        required=False,
        label="Until",
        help_text="Once: instead of 'lasts'. Repeating: its last day; empty: for a year",
    )
    zone = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = Silence
        fields = ("matchers", "reason")
        widgets: ClassVar = {"matchers": forms.Textarea(attrs={"rows": 3, "spellcheck": "false"})}
        help_texts: ClassVar = {
            "matchers": "One a line: label=value, with = != =~ (regular expression) or !~. All have to fit."
        }
        error_messages: ClassVar = {
            "reason": {"required": "Say why: others will see notices missing."},
            "matchers": {"required": "Give at least one, such as rule=Memory."},
        }

    def __init__(self, *args: Any, now: datetime, author: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.now, self.author = now, author
        for name in ("start", "end"):
            self.fields[name].widget = forms.DateTimeInput(attrs={"type": "datetime-local"})

    def clean_start(self) -> datetime:
        return self._instant("start") or self.now

    def clean_end(self) -> datetime | None:
        return self._instant("end")

    def clean(self) -> dict[str, Any]:
        found = super().clean() or self.cleaned_data
        start, end = found.get("start"), found.get("end")
        if start is None or "end" not in found:
            return found
        often, length_s = found.get("often") or "", int(found.get("lasts") or HOUR)
        silence = self.instance
        silence.rrule = str(found.get("rrule") or "") if often == "own" else often
        if often == "own" and not silence.rrule:
            self.add_error("rrule", "Give an RRULE, or choose how often above.")
        if end is None:
            end = start + (YEAR if silence.rrule else timedelta(seconds=length_s))
        if end <= self.now:
            self.add_error("end", "That is over already: give a time to come.")
        silence.start, silence.end, silence.author = start, end, self.author
        silence.told_to = self.now  # what ended before is nobody's news
        silence.zone, silence.length_s = self._zone().key, length_s if silence.rrule else None
        if end <= start:
            self.add_error("end", "It ends before it begins.")
        return found

    def _instant(self, name: str) -> datetime | None:
        text = str(self.cleaned_data.get(name) or "").strip()
        if not text:
            return None
        try:
            wall = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValidationError("Give date and time, such as 2026-01-31T18:30.") from error
        if not FIRST_YEAR <= wall.year <= LAST_YEAR:
            raise ValidationError(WRONG_YEAR)
        return wall if wall.tzinfo is not None else make_aware(wall, self._zone())

    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(str(self.data.get("zone") or "UTC"))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return ZoneInfo("UTC")
