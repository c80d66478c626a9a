"""Escalation policies in the file."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import forms

from monitoring.alerts import policy_services
from monitoring.alerts.machine import Severity
from monitoring.alerts.policy_forms import PolicyForm, StepForm, Steps
from monitoring.alerts.policy_services import StepValues
from monitoring.alerts.transfer.entries import Entry, File, said, sent
from monitoring.models import ChannelConfig, EscalationPolicy
from monitoring.models.escalation import MOST_STEPS

FIELDS = ("is_default", "group_wait_s")
USUAL: dict[str, Any] = {name: getattr(EscalationPolicy(), name) for name in FIELDS}


class FileStepForm(StepForm):
    """The form of the page; channels are names, since the file may bring them itself."""

    def __init__(self, *args: Any, names: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["channels"] = forms.MultipleChoiceField(
            choices=[(name, name) for name in names],
            error_messages={
                "required": "Give a list of channels.",
                "invalid_choice": "There is no channel %(value)s, neither here nor in the file.",
            },
        )


FileSteps: type[Steps] = forms.formset_factory(  # type: ignore[assignment]
    FileStepForm, formset=Steps, extra=0, max_num=MOST_STEPS, validate_max=True
)


def rows() -> list[dict[str, Any]]:
    return [_stored_row(each) for each in EscalationPolicy.objects.prefetch_related("steps__channels")]


def entries(file: File) -> list[Entry]:
    stored = {each.name: each for each in EscalationPolicy.objects.prefetch_related("steps__channels")}
    given = file.named("policies", "policy")
    channels = [*ChannelConfig.objects.values_list("name", flat=True)]
    channels += [str(row.get("name")) for _, row in file.rows("channels") if isinstance(row, dict)]
    found = [
        _entry(file, name, where, row, stored.get(name), channels) for name, (where, row) in given.items()
    ]
    default = [name for name, (_, row) in given.items() if row.get("is_default") is True]
    for name in default[1:]:
        file.say(given[name][0], "is_default", f"{default[0]} is the default policy in this file already.")
    for entry in found:
        for other in stored.values():
            if entry and entry.name in default and other.is_default and other.name not in given:
                entry.notes.append(f"{other.name} is the default policy no more")
    return [each for each in found if each is not None]


def _stored_row(policy: EscalationPolicy) -> dict[str, Any]:
    """A step whose channels were all deleted does nothing, and is left out."""
    steps = [
        _step(each.after_min, Severity(each.least_severity), sorted(one.name for one in each.channels.all()))
        for each in policy.steps.all()
    ]
    return _row(policy, [each for each in steps if each["channels"]])


def _row(policy: EscalationPolicy, steps: list[dict[str, Any]]) -> dict[str, Any]:
    different = {
        name: value for name in FIELDS if (value := getattr(policy, name)) != USUAL[name]
    }  # fmt: skip
    return {"name": policy.name, **different, "steps": steps}


def _step(after_min: int, least: Severity, channels: list[str]) -> dict[str, Any]:
    severity = {} if least is Severity.INFO else {"least_severity": least.name.lower()}
    return {"after_min": after_min, **severity, "channels": channels}


def _entry(
    file: File,
    name: str,
    where: str,
    row: dict[str, Any],
    before: EscalationPolicy | None,
    channels: list[str],
) -> Entry | None:
    steps = row.get("steps")
    right = file.knows_fields(where, row, USUAL, ("name", "steps"))
    if not isinstance(steps, list) or not all(isinstance(each, dict) for each in steps):
        file.say(where, "steps", "give a list of steps, each a mapping with after_min and channels.")
        return None
    data = _sent_steps(file, where, steps)
    if data is None or not right:
        return None
    policy = EscalationPolicy.objects.get(pk=before.pk) if before is not None else EscalationPolicy()
    form = PolicyForm({**sent({**USUAL, **row}), "name": name}, instance=policy)
    formset = FileSteps(data, prefix="steps", form_kwargs={"names": channels})
    if not all([form.is_valid(), formset.is_valid()]):
        for each, errors in form.errors.items():
            file.say(where, each, said(errors))
        for place, step in enumerate(formset.forms):
            for each, errors in step.errors.items():
                file.say(where, f"steps[{place}].{each}", said(errors))
        if formset.non_form_errors():
            file.say(where, "steps", said(formset.non_form_errors()))
        return None
    return _compared(policy, formset.values(), before)


def _sent_steps(file: File, where: str, steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """As the form has them; None where something is wrong already."""
    data: dict[str, Any] = {"steps-TOTAL_FORMS": len(steps), "steps-INITIAL_FORMS": 0}
    right = True
    for place, step in enumerate(steps):
        here = f"{where}: steps[{place}]"
        right &= file.knows_fields(here, step, {}, ("after_min", "least_severity", "channels"))
        severity = file.severity(here, "least_severity", step.get("least_severity", "info"))
        channels = step.get("channels") or []
        data |= {
            f"steps-{place}-after_min": step.get("after_min"),
            f"steps-{place}-least_severity": severity,
            f"steps-{place}-channels": [*map(str, channels)] if isinstance(channels, list) else [channels],
        }
        right &= severity is not None
    return data if right else None


def _compared(policy: EscalationPolicy, steps: list[StepValues], before: EscalationPolicy | None) -> Entry:
    """Channels of the `steps` are names here."""
    named = [_step(each.after_min, each.least_severity, sorted(map(str, each.channels))) for each in steps]

    def store(who: str, now: datetime) -> None:
        wanted = [
            StepValues(
                each.after_min,
                each.least_severity,
                list(ChannelConfig.objects.filter(name__in=[*map(str, each.channels)])),
            )
            for each in steps
        ]
        policy_services.save_policy(policy, wanted)

    entry = Entry("policy", policy.name, store)
    if not steps:
        entry.notes.append(f"{policy.name} has no step: only the log is told")
    old = _stored_row(before) if before is not None else None
    entry.compare(_in_words(old), _in_words(_row(policy, named)) or {}, USUAL)
    return entry


def _in_words(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """With a field a step."""
    if row is None:
        return None
    steps = {
        f"step {number}": f"after {step['after_min']} min: {', '.join(step['channels'])}"
        + (f" ({step['least_severity']} and more)" if "least_severity" in step else "")
        for number, step in enumerate(row["steps"], 1)
    }
    return {**{name: value for name, value in row.items() if name != "steps"}, **steps}
