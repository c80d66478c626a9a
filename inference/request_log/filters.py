"""The query string of the request log: which requests are meant. Errors name the field."""

from datetime import datetime, timedelta, tzinfo
from typing import Any, ClassVar
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone

from inference.models import InferenceRequest

RANGES = {
    "1h": ("last hour", timedelta(hours=1)),
    "24h": ("last 24 h", timedelta(hours=24)),
    "7d": ("last 7 days", timedelta(days=7)),
    "30d": ("last 30 days", timedelta(days=30)),
    "all": ("all that are kept", None),
}
DEFAULT_RANGE = "24h"
NONE = "none"  # of a profile or an API key: requests without one
MAX_SLOWER_S = 86_400


class RequestFilter(forms.Form):
    """Bound to a query string. `requests()` of a valid one; `from` and `to` are instants with an offset, or the wall clock of
    `zone`, and take the place of `range`."""

    range = forms.ChoiceField(
        choices=[*((key, label) for key, (label, _) in RANGES.items()), ("", "from and until, below")],
        required=False,
        label="Time",
    )
    model = forms.CharField(
        required=False, max_length=200, widget=forms.TextInput(attrs={"list": "request-models"})
    )
    result = forms.CharField(
        required=False,
        max_length=6,
        widget=forms.Select(
            choices=[
                ("", "any result"),
                ("ok", "without error"),
                ("failed", "errors only"),
                *(
                    (str(code), f"HTTP {code}")
                    for code in (200, 400, 401, 403, 404, 413, 429, 500, 502, 503, 504)
                ),
            ]
        ),
    )
    client = forms.CharField(
        required=False, max_length=100, widget=forms.TextInput(attrs={"list": "request-clients"})
    )
    api_key = forms.CharField(
        required=False,
        max_length=64,
        label="API key",
        widget=forms.TextInput(attrs={"list": "request-api-keys"}),
    )
    profile = forms.CharField(
        required=False, max_length=100, widget=forms.TextInput(attrs={"list": "request-profiles"})
    )
    api = forms.ChoiceField(
        choices=[("", "any API"), ("ollama", "Ollama"), ("openai", "OpenAI"), ("anthropic", "Anthropic")],
        required=False,
        label="API",
    )
    kind = forms.ChoiceField(
        choices=[("", "any kind"), ("chat", "chat"), ("generate", "generate"), ("embed", "embed")],
        required=False,
    )
    cache = forms.ChoiceField(
        choices=[("", "any"), ("hit", "hit"), ("miss", "miss"), ("bypass", "bypass")], required=False
    )
    cut = forms.ChoiceField(
        choices=[("", "any"), ("likely", "likely cut"), ("suspect", "likely or possibly cut")],
        required=False,
        label="Prompt",
    )
    reloaded = forms.ChoiceField(
        choices=[("", "any"), ("yes", "reloaded the model")], required=False, label="Loading"
    )
    slower = forms.FloatField(
        widget=forms.TextInput(attrs={"inputmode": "decimal"}),
        required=False,
        min_value=0,
        max_value=MAX_SLOWER_S,
        label="Slower than (s)",
        localize=False,
    )
    zone = forms.CharField(required=False, max_length=60, widget=forms.HiddenInput)

    FOREMOST: ClassVar = ("range", "model", "result")  # the others are behind a fold

    def __init__(self, data: QueryDict, *, now: datetime) -> None:
        shown = data.copy()
        if not any(data.get(name) for name in ("range", "from", "to")):
            shown["range"] = DEFAULT_RANGE
        super().__init__(shown)
        self.given, self.now = data, now
        for name, label in (("from", "From"), ("to", "Until")):
            self.fields[name] = forms.CharField(
                required=False,
                label=label,
                max_length=40,
                widget=forms.TextInput(attrs={"placeholder": "2026-01-31 18:30"}),
            )

    @property
    def foremost(self) -> list[forms.BoundField]:
        return [self[name] for name in self.FOREMOST]

    @property
    def others(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in (*self.FOREMOST, "zone")]

    @property
    def uses_others(self) -> bool:
        return any(self.given.get(field.name) or field.errors for field in self.others)

    def clean_result(self) -> str:
        asked = str(self.cleaned_data["result"])
        if asked and asked not in {"ok", "failed"} and not (asked.isdecimal() and len(asked) == 3):
            raise ValidationError("Give ok, failed, or an HTTP status such as 404.")
        return asked

    def clean_from(self) -> datetime | None:
        return self._instant("from")

    def clean_to(self) -> datetime | None:
        return self._instant("to")

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        start, end = found.get("from"), found.get("to")
        if (start or end) and found.get("range"):
            found["range"] = ""  # times say it more exactly
        if start and start >= self.now:
            self.add_error("from", "That is still to come: give a time that is past.")
        elif start and end and end <= start:
            self.add_error("to", "It ends before it begins: give a later time.")
        return found

    def _instant(self, name: str) -> datetime | None:
        text = self.cleaned_data[name].strip()
        if not text:
            return None
        try:
            wall = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValidationError("Give date and time, such as 2026-01-31 18:30.") from error
        if not 2000 <= wall.year < 2200:
            raise ValidationError("Give a year from 2000 to 2199.")
        return wall if wall.tzinfo else wall.replace(tzinfo=self._zone())

    def _zone(self) -> tzinfo:
        try:
            return ZoneInfo(self.data["zone"]) if self.data.get("zone") else timezone.get_current_timezone()
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return timezone.get_default_timezone()

    def requests(self) -> QuerySet[InferenceRequest]:
        """Of a valid form; the newest come first."""
        asked = self.cleaned_data
        found = InferenceRequest.objects.all()
        span = None if asked["from"] or asked["to"] else RANGES[asked["range"] or DEFAULT_RANGE][1]
        if span is not None:
            found = found.filter(at__gte=self.now - span)
        if asked["from"]:
            found = found.filter(at__gte=asked["from"])
        if asked["to"]:
            found = found.filter(at__lt=asked["to"])
        for name in ("model", "client", "api", "kind", "cache"):
            if asked[name]:
                found = found.filter(**{name: asked[name]})
        if asked["api_key"]:
            found = found.filter(api_key="" if asked["api_key"] == NONE else asked["api_key"])
        if asked["profile"]:
            found = found.filter(profile=None if asked["profile"] == NONE else asked["profile"])
        if asked["result"] in {"ok", "failed"}:
            found = found.filter(failed=asked["result"] == "failed")
        elif asked["result"]:
            found = found.filter(status=int(asked["result"]))
        if asked["cut"]:
            found = found.filter(
                truncated__in=["likely"] if asked["cut"] == "likely" else ["likely", "possible"]
            )
        if asked["reloaded"]:
            found = found.filter(reloaded=True)
        if asked["slower"] is not None:
            found = found.filter(total_ms__gt=asked["slower"] * 1000)
        return found

    @property
    def is_filtered(self) -> bool:
        """By more than the time."""
        names = {"range", "from", "to", "zone"}
        return any(self.given.get(name) for name in self.fields if name not in names)

    @property
    def query(self) -> str:
        """The filters as a query string, without empty ones, pages and what this page does not know."""
        times = {"from", "to"} & {name for name in self.given if self.given[name]}
        without = {"zone"} if not times else {"range"}
        return urlencode(
            [(name, self.given[name]) for name in self.fields if name not in without and self.given.get(name)]
        )

    @property
    def when(self) -> str:
        """The time meant, in words; of a valid form. Empty: `from` and `to` say it."""
        asked = self.cleaned_data
        return "" if asked["from"] or asked["to"] else RANGES[asked["range"] or DEFAULT_RANGE][0]
