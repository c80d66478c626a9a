"""What people and their settings change: rules, acknowledgements, notes, ends by hand, silences."""

from collections.abc import Sequence
from datetime import datetime
from itertools import count

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from monitoring import news
from monitoring.alerts.conditions import Kind, series_of_composite
from monitoring.alerts.defaults import Thresholds, cpu_values, default_rules, memory_values
from monitoring.alerts.recording import (
    ACKNOWLEDGEMENT,
    bump_revision,
    close_by_hand,
    forget_acknowledgement,
    write_entry,
)
from monitoring.models import Alert, Rule, RuleState, Silence
from monitoring.models.rule import SetBy


def configured_thresholds() -> Thresholds:
    found = settings.CONFIG.monitoring.alert_thresholds
    return Thresholds(found.memory, found.cpu, found.response_time_seconds, found.error_rate_percent)


@transaction.atomic
def keep_default_rules() -> None:
    """Create the default rules that are missing and set those anew that nothing but config.yaml has set."""
    stored = {rule.key: rule for rule in Rule.objects.exclude(key=None)}
    taken = set(Rule.objects.values_list("name", flat=True))
    changed = False
    for default in default_rules(configured_thresholds()):
        rule, name = stored.get(default.key), default.values["name"]
        if rule is None:
            name = f"{name} (default)" if name in taken else name
            Rule.objects.create(key=default.key, set_by=SetBy.CONFIG, **{**default.values, "name": name})
            changed = True
        elif rule.set_by == SetBy.CONFIG:
            before = _compared(rule)
            changed |= _set(rule, {**default.values, "name": rule.name})
            _end_uncovered(rule, "", timezone.now(), anew=_compared(rule) != before)
    if changed:
        bump_revision()


@transaction.atomic
def apply_thresholds(
    *, memory_percent: float | None, cpu_percent: float | None, for_s: float | None, note: str
) -> None:
    """Set the default rules for memory and CPU, as an activated profile wants it; `note` says why, for the rule's page.

    None: the profile says nothing of it. Then the rule goes back to config.yaml, unless a person has set it."""
    keep_default_rules()
    configured = configured_thresholds()
    wanted = {
        "memory": (memory_percent, memory_values(memory_percent or configured.memory_percent)),
        "cpu": (cpu_percent, cpu_values(cpu_percent or configured.cpu_percent)),
    }
    for rule in Rule.objects.select_for_update().filter(key__in=wanted):
        percent, values = wanted[str(rule.key)]
        asked = percent is not None or for_s is not None
        if not asked and rule.set_by == SetBy.PERSON:
            continue
        if percent is None and rule.set_by == SetBy.PERSON:
            values = {}
        if for_s is not None:
            values["for_s"] = round(for_s)
        by = SetBy.PROFILE if asked else SetBy.CONFIG
        _set(rule, {**values, "set_by": by, "note": note[:300]})
    bump_revision()


def _set(rule: Rule, values: dict[str, object]) -> bool:
    changed = [name for name, value in values.items() if getattr(rule, name) != value]
    for name in changed:
        setattr(rule, name, values[name])
    if changed:
        rule.save()
    return bool(changed)


@transaction.atomic
def save_rule(rule: Rule, who: str, now: datetime, members: Sequence[Rule] | None = None) -> None:
    """Store a rule that a person has changed; episodes that it no longer covers are resolved, and all of them when it
    compares something else now. `members`: None leaves those of a composite as they are."""
    before = Rule.objects.filter(pk=rule.pk).first()
    anew = before is not None and _compared(before) != _compared(rule)
    rule.set_by, rule.note = SetBy.PERSON, f"set by {who}"[:300]
    rule.save()
    if members is not None:
        rule.members.set(members)
    # What a composite knew of it, while it raised no alerts of its own, is no episode.
    RuleState.objects.filter(rule=rule, alert=None, memory__open=True).delete()
    _end_uncovered(rule, who, now, anew=anew)
    bump_revision()


def _end_uncovered(rule: Rule, who: str, now: datetime, *, anew: bool) -> None:
    """Resolve and forget what the rule no longer covers; all of it when it compares something else (`anew`)."""
    spec = rule.spec()
    for state in RuleState.objects.filter(rule=rule).select_related("alert"):
        own = series_of_composite(spec) if spec.kind is Kind.COMPOSITE else None
        covers = state.series == own if own else spec.selector.fits(state.series, state.host)
        covered = rule.enabled and covers and not anew
        if not covered and state.alert is not None:
            why = "the rule compares something else now" if anew else "the rule no longer covers this series"
            why = why if rule.enabled else "the rule was switched off"
            close_by_hand(state.alert.pk, now, who, why)
        if not covered:
            RuleState.objects.filter(pk=state.pk).delete()


def _compared(rule: Rule) -> tuple[str, str, bool]:
    """Values of an episode are comparable while this stays the same."""
    return rule.kind, "" if rule.kind == Kind.COMPOSITE else rule.unit, rule.higher_is_worse


def copy_of(rule: Rule) -> Rule:
    """Not saved; its members are the caller's."""
    names = set(Rule.objects.values_list("name", flat=True))
    name = next(
        name for n in count(1) if (name := f"{rule.name[:80]} (copy{f' {n}' if n > 1 else ''})") not in names
    )
    values = {field.name: getattr(rule, field.name) for field in Rule._meta.concrete_fields}
    return Rule(**{**values, "id": None, "key": None, "name": name, "set_by": SetBy.PERSON, "note": ""})


@transaction.atomic
def delete_rule(rule: Rule, who: str, now: datetime) -> None:
    """Its open episodes are resolved; past ones stay."""
    for alert in Alert.objects.filter(rule=rule, resolved_at=None):
        close_by_hand(alert.pk, now, who, "the rule was deleted")
    rule.delete()
    bump_revision()


class NotOpenError(Exception):
    """The episode has been resolved meanwhile."""


@transaction.atomic
def acknowledge(alert_id: int, *, who: str, note: str, until: datetime | None, now: datetime) -> None:
    """Stop the repeats of this episode. Raises NotOpenError."""
    alert = _locked(alert_id)
    alert.acknowledged_at, alert.acknowledged_by, alert.acknowledged_until = now, who, until
    alert.save(update_fields=list(ACKNOWLEDGEMENT))
    write_entry(alert, now, "acknowledged", note, who)
    news.tell("alert", alert.pk)


@transaction.atomic
def withdraw_acknowledgement(alert_id: int, *, who: str, now: datetime) -> None:
    """Repeats go on. Raises NotOpenError."""
    alert = _locked(alert_id)
    if alert.acknowledged_at is not None:
        forget_acknowledgement(alert)
        alert.save(update_fields=list(ACKNOWLEDGEMENT))
        write_entry(alert, now, "reopened", "the acknowledgement was withdrawn", who)
        news.tell("alert", alert.pk)


def _locked(alert_id: int) -> Alert:
    alert = Alert.objects.select_for_update(of=("self",)).filter(pk=alert_id, resolved_at=None).first()
    if alert is None:
        raise NotOpenError
    return alert


@transaction.atomic
def add_note(alert: Alert, *, who: str, text: str, now: datetime) -> None:
    write_entry(alert, now, "note", text, who)
    news.tell("alert", alert.pk)


def resolve(alert_id: int, *, who: str, note: str, now: datetime) -> None:
    """End an episode by hand; while its condition lasts the series is pending, then fires anew. Raises NotOpenError."""
    if not close_by_hand(alert_id, now, who, note):
        raise NotOpenError


@transaction.atomic
def create_silence(silence: Silence) -> None:
    silence.save()
    news.tell("alert", f"silence-{silence.pk}")


@transaction.atomic
def end_silence(silence_id: int, *, now: datetime) -> None:
    """From now on it holds nothing back; one that has not begun is deleted."""
    if not Silence.objects.filter(pk=silence_id, start__gt=now).delete()[0]:
        Silence.objects.filter(pk=silence_id, end__gt=now).update(end=now)
    news.tell("alert", f"silence-{silence_id}")


def note_peaks(peaks: dict[str, float]) -> None:
    """Worst values so far of open episodes, by fingerprint."""
    for mark, peak in peaks.items():
        Alert.objects.filter(fingerprint=mark, resolved_at=None).update(peak=peak)
