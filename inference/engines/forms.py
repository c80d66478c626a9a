"""What people say of an engine and of a fallback; each error names its field. A stored key is never filled in."""

from dataclasses import asdict, fields
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator

from inference.aliases.services import Cloud, cloud_of
from inference.catalogue.forms import NameField
from inference.engines.costs import PROVIDERS
from inference.engines.selectors import clouds
from inference.models import AliasChange, Engine, EngineKind
from safeguards.addresses import AddressError, resolve

# They stand for something else: engines of the settings, pages below /models/, what a benchmark may be sent to.
RESERVED = frozenset(
    {
        "ollama",
        "embedded",
        "gateway",
        "cloud",
        "none",
        "jobs",
        "variants",
        "aliases",
        "archives",
        "prompts",
        "log",
        "pull",
    }
    | {"load", "unload", "keep", "copy", "delete", "new"}
)
PRINTABLE = RegexValidator(r"\A[\x21-\x7e]*\Z", "An API key is one word of plain letters, digits and signs.")


class EngineForm(forms.ModelForm):  # type: ignore[type-arg]
    """For another address the key has to be entered anew, lest a changed address draws a stored one out."""

    key = forms.CharField(
        label="API key",
        required=False,
        max_length=500,
        strip=True,
        validators=[PRINTABLE],
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "spellcheck": "false"}),
        help_text="Of a cloud. It is stored encrypted and never shown again.",
    )
    forget_key = forms.BooleanField(label="Remove the stored key", required=False)
    prices = forms.ChoiceField(
        label="Prices of",
        required=False,
        choices=[("", "whoever has this address, if known"), *PROVIDERS.items()],
        help_text="Of a cloud, for what its answers cost. Choose one where the address is not the provider's own.",
    )

    class Meta:
        model = Engine
        fields = ("name", "kind", "url", "key", "forget_key", "priority", "budget_usd", "prices", "enabled")
        widgets: ClassVar = {
            "url": forms.URLInput(attrs={"placeholder": "http://192.168.1.20:11434", "spellcheck": "false"}),
            "name": forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none"}),
            "budget_usd": forms.NumberInput(attrs={"step": "0.01", "min": "0"}),
        }
        help_texts: ClassVar = {
            "url": "An Ollama's as in http://192.168.1.20:11434; of a cloud what stands before /chat/completions, as in https://api.openai.com/v1",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.had_url, self.had_key = self.instance.url, bool(self.instance.sealed)
        if self.instance.pk:
            for name in ("name", "kind"):
                self.fields[name].disabled = True
            self.fields["name"].help_text = "Requests, models and jobs name it by this."
        else:
            self.fields["kind"].choices = EngineKind.choices  # type: ignore[attr-defined]
        if self.had_key:
            self.fields["key"].help_text = "One is stored and never shown. Leave this empty to keep it."
        else:
            del self.fields["forget_key"]

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if name in RESERVED:
            raise ValidationError(f"“{name}” stands for something else here: give another name.")
        return name

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"]).strip().rstrip("/")
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise ValidationError(f"This is no address: {error}.") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValidationError("Give an address that starts with http:// or https://.")
        if parts.username is not None or parts.password is not None:
            raise ValidationError(
                "Leave user name and password out of the address: a cloud takes an API key."
            )
        if parts.query or parts.fragment:
            raise ValidationError("Give the address without '?' and '#'.")
        try:
            resolve(parts.hostname, port)
        except AddressError as error:
            raise ValidationError(str(error)) from error
        if parts.hostname in {"localhost", "127.0.0.1", "::1"} and port in {
            settings.GATEWAY_PORT,
            settings.WEB_PORT,
        }:
            raise ValidationError("This is the product itself, not an engine.")
        return url

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        kind, url = cleaned.get("kind"), cleaned.get("url")
        if kind == EngineKind.OLLAMA and url:
            self._clean_ollama(cleaned, url)
        if kind == EngineKind.OPENAI and url and url.endswith("/chat/completions"):
            self.add_error("url", "Give it without /chat/completions, as in https://api.openai.com/v1.")
        moved = self.had_key and url is not None and url != self.had_url
        if moved and not cleaned.get("key") and not cleaned.get("forget_key"):
            self.add_error(
                "key",
                "The stored key belongs to the old address: enter the one for this address, or remove it.",
            )
        return cleaned

    def _clean_ollama(self, cleaned: dict[str, Any], url: str) -> None:
        for name, words in (("key", "an API key"), ("budget_usd", "a budget")):
            if cleaned.get(name):
                self.add_error(name, f"Only clouds have {words}: leave this empty for an Ollama.")
        others = Engine.objects.filter(url=url).exclude(pk=self.instance.pk)
        if any(each["url"] == url for each in settings.ENGINES) or others.exists():
            self.add_error("url", "There is an engine with this address already.")

    @property
    def new_key(self) -> str | None:
        """As inference.engines.services.save_engine takes it."""
        if self.cleaned_data.get("key"):
            return str(self.cleaned_data["key"])
        return "" if self.cleaned_data.get("forget_key") else None


class FallbackForm(forms.Form):
    """A name that clients ask for, the local model that answers, and the cloud for when it can't."""

    name = NameField(label="Asked for as", help_text="The model that clients name.")
    target = NameField(
        label="Local model",
        required=False,
        help_text="Which answers. Empty: the one of that name.",
    )
    cloud = forms.ChoiceField(label="Cloud")
    cloud_model = forms.CharField(
        label="Its model",
        max_length=200,
        validators=[
            RegexValidator(r"\A[\x21-\x7e]+\Z", "As the cloud calls it, without spaces: gpt-4o-mini.")
        ],
        help_text="As the cloud calls it, e.g. gpt-4o-mini.",
    )
    first_byte_s = forms.FloatField(
        label="When no answer has begun within (s)",
        required=False,
        min_value=0.1,
        max_value=3600,
        help_text="Empty: however long it takes. A model that has to be loaded first needs its time.",
    )
    on_queue = forms.IntegerField(
        label="When more requests wait than",
        required=False,
        min_value=0,
        max_value=100_000,
        help_text="Empty: however many. As the live page counts them.",
    )
    on_pressure = forms.ChoiceField(
        label="Under memory pressure",
        required=False,
        choices=[
            ("", "no matter"),
            ("some", "some: less than 20 % is free"),
            ("high", "high: less than 10 % is free"),
        ],
    )

    def __init__(self, *args: Any, change: AliasChange | None = None, **kwargs: Any) -> None:
        """`change`: the one in force, to be changed."""
        super().__init__(*args, **kwargs)
        names = [each.name for each in clouds()]
        if change is not None:
            self.fields["name"].disabled = True
            self.initial = {"name": change.name, "target": change.after, **asdict(cloud_of(change))}
            names = list(dict.fromkeys([*names, *filter(None, [change.cloud])]))
        self.fields["cloud"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]

    @property
    def value(self) -> Cloud:
        return Cloud(**{each.name: self.cleaned_data[each.name] for each in fields(Cloud)})
