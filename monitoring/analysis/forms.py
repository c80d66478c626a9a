"""Forms of the insights page."""

from typing import Any

from django import forms

from monitoring.models import Group


class FindingsForm(forms.Form):
    show = forms.ChoiceField(
        choices=[("open", "open"), ("dismissed", "dismissed"), ("ended", "ended")],
        required=False,
        label="Show",
    )
    group = forms.ChoiceField(choices=[("", "all"), *Group.choices], required=False, label="Kind")
    series = forms.CharField(
        required=False,
        max_length=200,
        label="Series",
        widget=forms.TextInput(attrs={"placeholder": "part of its name", "autocomplete": "off"}),
    )

    def asked(self) -> dict[str, Any]:
        """What was asked and is valid; open findings where nothing was."""
        found = self.cleaned_data if self.is_valid() else {}
        return {**found, "show": found.get("show") or "open"}


class DismissForm(forms.Form):
    why = forms.CharField(
        max_length=300,
        label="Why it is all right",
        error_messages={
            "required": "Say why, for the one who looks next: 'the nightly backup', 'a new model'."
        },
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
