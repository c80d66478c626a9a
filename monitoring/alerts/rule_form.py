"""The form of a rule: each mistake beside its field, and only what its condition needs is asked for."""

from typing import Any, ClassVar

from django import forms

from monitoring.alerts.baselines import Side
from monitoring.alerts.conditions import Kind
from monitoring.alerts.forms import Chosen
from monitoring.models import EscalationPolicy, Rule
from monitoring.models.rule import HOUR_S

COMPARES = "threshold rate deviation forecast"
# Which conditions a field belongs to; those that are not named belong to all.
FIELD_KINDS = {
    "series": f"{COMPARES} no_data",
    "aggregate": "threshold",
    "divisor": "threshold",
    "min_count": "threshold",
    "window_s": COMPARES,
    "per_s": "rate",
    "past_h": "deviation",
    "load": "deviation",
    "busy_at": "deviation",
    "least": "deviation",
    "limit": "forecast",
    "members": "composite",
    "all_of": "composite",
    **dict.fromkeys(("side", "fire_at", "clear_at", "critical_at", "no_data"), COMPARES),
    "for_s": f"{COMPARES} composite",
    "no_data_for_s": f"{COMPARES} no_data",
}
# A window that suits the condition, for the page to fill in.
WINDOWS = {Kind.THRESHOLD: 10, Kind.RATE: 300, Kind.DEVIATION: 120, Kind.FORECAST: 6 * HOUR_S}
SECTIONS = (
    ("What", ("name", "kind", "severity", "enabled", "advice")),
    (
        "What is looked at",
        *(
            (
                "series",
                "aggregate",
                "window_s",
                "divisor",
                "min_count",
                "per_s",
                "past_h",
                "load",
                "busy_at",
                "least",
            ),
        ),
    ),
    ("The rules it joins", ("members", "all_of")),
    (
        "When it fires and clears",
        ("side", "limit", "fire_at", "clear_at", "critical_at", "for_s", "keep_firing_for_s"),
    ),
    ("Missing data", ("no_data", "no_data_for_s")),
    ("Notices", ("policy", "cooldown_s", "repeat_s")),
)


NO_POLICY = "none"


def _policies() -> list[tuple[object, str]]:
    return [
        ("", "the default policy; without one all channels at once"),
        (NO_POLICY, "none: all channels at once"),
        *EscalationPolicy.objects.values_list("pk", "name"),
    ]


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]
    side = forms.ChoiceField(
        label="Side",
        choices=[
            (Side.ABOVE.value, "above, or rising"),
            (Side.BELOW.value, "below, or falling"),
            (Side.EITHER.value, "either side (deviation only)"),
        ],
        initial=Side.ABOVE.value,
        required=False,
        help_text="Where the harm is; of a forecast, whether the series rises or falls towards the limit",
    )

    policy = forms.ChoiceField(
        label="Escalation",
        required=False,
        help_text="Whom it tells, and whom later while nobody acknowledges it",
        error_messages={"invalid_choice": "There is no such policy any more: choose another."},
    )

    class Meta:
        model = Rule
        fields: ClassVar = [name for _, names in SECTIONS for name in names if name != "side"]
        widgets: ClassVar = {
            "series": forms.TextInput(
                attrs={"list": "series-names", "autocomplete": "off", "spellcheck": "false"}
            ),
            "divisor": forms.TextInput(attrs={"list": "metric-names", "autocomplete": "off"}),
            "load": forms.TextInput(attrs={"list": "metric-names", "autocomplete": "off"}),
            "members": forms.CheckboxSelectMultiple,
        }
        field_classes: ClassVar = {"members": Chosen}
        help_texts: ClassVar = {
            "fire_at": "It fires when this value is reached: hours of a forecast, σ of a deviation, else in the series' unit"
        }
        error_messages: ClassVar = {"name": {"unique": "Another rule has this name already: choose another."}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        side = Side.EITHER if self.instance.either else Side.ABOVE if self.instance.above else Side.BELOW
        self.initial.setdefault("side", side.value)
        for name in ("fire_at", "clear_at"):
            self.fields[name].required = False
        others = Rule.objects.exclude(pk=self.instance.pk).exclude(kind=Kind.COMPOSITE.value)
        if self.instance.no_policy:
            self.initial["policy"] = NO_POLICY
        policy: Any = self.fields["policy"]
        policy.choices = _policies
        members: Any = self.fields["members"]
        members.queryset = others
        kind = self.fields["kind"].widget
        kind.attrs["data-windows"] = " ".join(f"{each}={seconds}" for each, seconds in WINDOWS.items())

    def clean_policy(self) -> EscalationPolicy | None:
        chosen = self.cleaned_data["policy"]
        self.instance.no_policy = chosen == NO_POLICY
        return EscalationPolicy.objects.get(pk=chosen) if chosen and chosen != NO_POLICY else None

    def clean(self) -> dict[str, Any]:
        found = super().clean() or self.cleaned_data
        kind, side = found.get("kind"), found.get("side") or Side.ABOVE
        if kind in (Kind.NO_DATA, Kind.COMPOSITE):
            # They have no thresholds; what stands in hidden fields says nothing.
            found.update(fire_at=1.0, clear_at=0.0, critical_at=None, divisor="", load="", limit=None)
            side = Side.ABOVE
            for name in ("fire_at", "clear_at", "critical_at", "divisor", "load", "limit", "window_s"):
                self.errors.pop(name, None)
            found.setdefault("window_s", 10)
        else:
            for name in ("fire_at", "clear_at"):
                if found.get(name) is None and name not in self.errors:
                    self.add_error(name, "Give a number.")
        if kind == Kind.COMPOSITE and len(found.get("members") or ()) < 2:
            self.add_error("members", "Choose two rules or more; a composite joins them.")
        if kind == Kind.COMPOSITE and self.instance.pk and self.instance.rule_set.exists():
            self.add_error("kind", "Another composite joins this rule; a composite can't join composites.")
        if kind != Kind.DEVIATION and side == Side.EITHER:
            self.add_error("side", "Only a deviation has either side.")
        self.instance.above, self.instance.either = side != Side.BELOW, side == Side.EITHER
        return found

    def sections(self) -> list[tuple[str, str, list[tuple[forms.BoundField, str]]]]:
        """(title, conditions it belongs to, [(field, conditions)]); '' belongs to all."""
        found = []
        for title, names in SECTIONS:
            kinds = {FIELD_KINDS.get(name, "") for name in names}
            joined = (
                "" if "" in kinds else " ".join(sorted({word for each in kinds for word in each.split()}))
            )
            found.append((title, joined, [(self[name], FIELD_KINDS.get(name, "")) for name in names]))
        return found

    def member_rules(self) -> list[Rule]:
        return list(self.cleaned_data.get("members") or ())
