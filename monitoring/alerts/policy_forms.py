"""The form of an escalation policy: its name and its steps, each mistake beside its field."""

from typing import Any, ClassVar

from django import forms

from monitoring.alerts.forms import Chosen
from monitoring.alerts.machine import Severity
from monitoring.alerts.policy_services import StepValues
from monitoring.models import ChannelConfig, EscalationPolicy
from monitoring.models.escalation import MOST_MIN, MOST_STEPS
from monitoring.models.rule import SEVERITIES


class PolicyForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = EscalationPolicy
        fields = ("name", "group_wait_s", "is_default")
        error_messages: ClassVar = {
            "name": {"unique": "Another policy has this name already: choose another."}
        }

    def _get_validation_exclusions(self) -> set[str]:
        """The service lets this one take the place of the default one so far."""
        return {*super()._get_validation_exclusions(), "is_default"}  # type: ignore[misc]


class StepForm(forms.Form):
    after_min = forms.IntegerField(
        label="Minutes after it fired",
        min_value=0,
        max_value=MOST_MIN,
        help_text="0: at once",
        error_messages={"required": "Give the minutes; 0 is at once."},
    )
    least_severity = forms.TypedChoiceField(
        label="Least severity", choices=SEVERITIES, coerce=int, initial=int(Severity.INFO)
    )
    channels = Chosen(
        queryset=ChannelConfig.objects.none(),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose a channel, or remove the step."},
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        channels: Any = self.fields["channels"]
        channels.queryset = ChannelConfig.objects.all()
        channels.label_from_instance = lambda each: each.name if each.enabled else f"{each.name} (off)"


class Steps(forms.BaseFormSet):  # type: ignore[type-arg]
    def clean(self) -> None:
        """Steps stand in their order, so that the number of one says what comes before it."""
        before = -1
        for form in self.forms:
            after = form.cleaned_data.get("after_min")
            if after is None:
                continue
            if after < before:
                form.add_error("after_min", f"The step before comes after {before} min: give no less.")
            before = max(before, after)

    def get_form_kwargs(self, index: int | None) -> dict[str, Any]:
        return {
            **super().get_form_kwargs(index),
            "empty_permitted": False,
        }  # what is not filled in is a mistake

    def values(self) -> list[StepValues]:
        return [
            StepValues(
                form.cleaned_data["after_min"],
                Severity(form.cleaned_data["least_severity"]),
                list(form.cleaned_data["channels"]),
            )
            for form in self.forms
        ]


StepFormSet: type[Steps] = forms.formset_factory(  # type: ignore[assignment]
    StepForm,
    formset=Steps,
    extra=0,
    min_num=1,
    validate_min=True,
    max_num=MOST_STEPS,
    validate_max=True,
)
