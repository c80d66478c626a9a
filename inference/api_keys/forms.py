"""What the pages and the command send: a key's name and its limits."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django import forms
from django.core.exceptions import ValidationError
from django.utils.timezone import make_aware

from inference.gateway.frames import MAX_DISTANCE
from inference.models import ApiKey
from inference.models.api_key import LIMITS

MOST_MODELS, MODEL_LENGTH = 50, 200
WALL = "%Y-%m-%dT%H:%M"
LABELS = {
    "name": "Name",
    "requests_per_minute": "Requests a minute",
    "tokens_per_minute": "Tokens a minute",
    "tokens_per_month": "Tokens a month",
    "usd_per_month": "USD a month",
    "manages": "May pull, create, copy and delete models",
    "frame_distance": "Distance of pictures",
}
HELP = {
    "name": "Whose it is: it stands in each record of its requests.",
    "requests_per_minute": "As many at once, then evenly. Empty: no limit.",
    "tokens_per_minute": "Of prompts and answers. Empty: no limit.",
    "tokens_per_month": "Of the calendar month in UTC. Empty: no limit.",
    "usd_per_month": "Counts requests to clouds whose price is known. Empty: no limit.",
    "frame_distance": f"0 to {MAX_DISTANCE} of 64 bits: its pictures that look alike share answers. Empty: off.",
}


class LimitsForm(forms.ModelForm):  # type: ignore[type-arg]
    """`expires` is the wall clock of `zone`, which the page fills in; an instant with an offset says its own."""

    expires = forms.CharField(required=False, label="Expires", help_text="Empty: never.")
    allowed = forms.CharField(
        required=False,
        label="Models",
        widget=forms.Textarea(
            attrs={"rows": 3, "spellcheck": "false", "placeholder": "llama3*\nqwen2.5:0.5b"}
        ),
        help_text="One a line, * stands for anything. Empty: all models.",
    )
    zone = forms.CharField(required=False, max_length=60, widget=forms.HiddenInput)

    class Meta:
        model = ApiKey
        fields: tuple[str, ...] = tuple(
            name for name in LIMITS if name not in {"expires_at", "allowed_models"}
        )
        labels: ClassVar = LABELS
        help_texts: ClassVar = HELP

    def __init__(self, *args: Any, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.now = now
        attributes = {"type": "datetime-local"}
        if self.instance.expires_at and not self.is_bound:
            attributes["data-instant"] = self.instance.expires_at.isoformat()
            self.initial["expires"] = f"{self.instance.expires_at.astimezone(UTC):{WALL}}"
        self.fields["expires"].widget = forms.DateTimeInput(attrs=attributes)
        self._expires_now: datetime | None = self.instance.expires_at
        self.initial["allowed"] = "\n".join(self.instance.allowed_models)

    def clean_expires(self) -> datetime | None:
        text = str(self.cleaned_data["expires"] or "").strip()
        if not text:
            return None
        try:
            wall = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValidationError("Give date and time, such as 2027-01-31T18:30.") from error
        found = wall if wall.tzinfo else make_aware(wall, self._zone())
        before = self._expires_now
        if before is not None and abs(found - before) < timedelta(minutes=1):  # sent back as it was shown
            return before
        if found <= self.now or found.year >= 2200:
            raise ValidationError("Give a time to come, before the year 2200.")
        return found

    def clean_allowed(self) -> list[str]:
        found = list(dict.fromkeys(str(self.cleaned_data["allowed"]).split()))
        if len(found) > MOST_MODELS:
            raise ValidationError(f"Give {MOST_MODELS} at most; * stands for anything.")
        if long := next((each for each in found if len(each) > MODEL_LENGTH), None):
            raise ValidationError(f"{long[:40]}… is longer than {MODEL_LENGTH} characters.")
        return found

    def clean(self) -> dict[str, Any]:
        found = super().clean() or self.cleaned_data
        self.instance.expires_at = found.get("expires")
        self.instance.allowed_models = found.get("allowed") or []
        return found

    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(str(self.data.get("zone") or "UTC"))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return ZoneInfo("UTC")


class KeyForm(LimitsForm):
    class Meta(LimitsForm.Meta):
        fields = ("name", *LimitsForm.Meta.fields)
