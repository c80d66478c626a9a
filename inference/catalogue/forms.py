"""What the pages of models take; each error names its field."""

from typing import Any

from django import forms

from inference.catalogue.services import FOR_EVER
from inference.engines.selectors import addresses
from inference.jobs.parameters import NAME
from inference.names import full_name

KEEP = {
    "5m": (300.0, "5 minutes"),
    "30m": (1800.0, "30 minutes"),
    "2h": (7200.0, "2 hours"),
    "8h": (28800.0, "8 hours"),
    "24h": (86400.0, "24 hours"),
    "forever": (FOR_EVER, "until it is unloaded by hand"),
}
SORTS = {
    "": "loaded first",
    "name": "name",
    "size": "size",
    "used": "last used",
    "requests": "requests",
    "modified": "changed",
}


def _engine_choices() -> list[tuple[str, str]]:
    return [(each.name, each.label) for each in addresses()]


class NameField(forms.CharField):
    """A model's name, written out with its tag."""

    def __init__(self, **more: Any) -> None:
        super().__init__(max_length=200, **more)

    def clean(self, value: Any) -> str:
        name = str(super().clean(value))
        if name and not NAME.fullmatch(name):
            raise forms.ValidationError(
                f"“{name}” is no model name: letters, digits, . _ - and / , then : and a tag, as in gemma3:4b."
            )
        return full_name(name) if name else ""


class ModelForm(forms.Form):
    """Which model an action is for."""

    engine = forms.ChoiceField(choices=_engine_choices)
    model = NameField()


class PullForm(forms.Form):
    engine = forms.ChoiceField(
        choices=lambda: [(each.name, each.label) for each in addresses() if each.pulls], label="Engine"
    )
    model = NameField(label="Model")


class CopyForm(ModelForm):
    target = NameField(label="Name of the copy")

    def clean(self) -> dict[str, Any] | None:
        found = super().clean()
        if found and found.get("target") and found.get("target") == found.get("model"):
            self.add_error("target", "Choose another name than the model's own.")
        return found


class KeepForm(ModelForm):
    keep = forms.ChoiceField(
        choices=[(name, words) for name, (_, words) in KEEP.items()], label="Keep it loaded for"
    )


class DeleteForm(ModelForm):
    typed = forms.CharField(max_length=200, label="Type the name of the model", strip=True)

    def clean_typed(self) -> str:
        typed = str(self.cleaned_data["typed"])
        if full_name(typed) != self.cleaned_data.get("model"):
            raise forms.ValidationError(f"This is not its name: type {self.cleaned_data.get('model')}.")
        return typed


class FilterForm(forms.Form):
    """Anything unknown filters nothing."""

    q = forms.CharField(max_length=200, required=False, label="Name")
    engine = forms.ChoiceField(
        required=False, choices=lambda: [("", "any"), *_engine_choices()], label="Engine"
    )
    state = forms.ChoiceField(
        required=False,
        choices=[
            ("", "any"),
            ("loaded", "loaded"),
            ("idle", "not loaded"),
            ("unused", "not used for 7 days"),
        ],
        label="State",
    )
    sort = forms.ChoiceField(required=False, choices=list(SORTS.items()), label="Order")
