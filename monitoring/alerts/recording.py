"""Stores what the evaluators found: state, episode and outbox rows of a step in one transaction."""

from datetime import UTC, datetime

from django.db import transaction
from django.db.models import F

from monitoring import news
from monitoring.alerts import escalation
from monitoring.alerts.conditions import Kind
from monitoring.alerts.evaluator import Step
from monitoring.alerts.machine import FLAP_S, Change, Memory, State, closed_by_hand
from monitoring.alerts.notices import NoticeEvent, tell
from monitoring.alerts.series import duration, labels_of
from monitoring.models import Alert, AlertEntry, Rule, RulesRevision, RuleState
from monitoring.models.alert import AlertState
from monitoring.services import record_event

STATES = {
    Change.FIRED: AlertState.FIRING,
    Change.RECOVERING: AlertState.RECOVERING,
    Change.RELAPSED: AlertState.FIRING,
    Change.LOST: AlertState.NO_DATA,
    Change.BACK: AlertState.FIRING,
}
WORDS = {
    Change.RECOVERING: "clear; resolved if it stays so",
    Change.RELAPSED: "not clear any more",
    Change.LOST: "no data any more; it stays open",
    Change.BACK: "data again",
    Change.CALM: "quiet for long enough: no longer flapping",
}


class StaleStepError(Exception):
    """The stored state went on without this evaluator (ended by hand, rule changed, a second one): read it anew."""


@transaction.atomic
def record_step(step: Step) -> None:
    """Store `step`; storing it again changes nothing. Raises StaleStepError when it doesn't follow what is stored."""
    watched = step.watched
    state = RuleState.objects.select_for_update().filter(pk=watched.fingerprint).first()
    if state is not None and state.seq == step.seq and Memory.from_json(state.memory) == step.memory:
        return  # the commit had succeeded, its answer was lost
    if (state.seq if state is not None else 0) != step.seq - 1:
        raise StaleStepError
    rule = Rule.objects.filter(pk=watched.rule.id, enabled=not watched.rule.part).first()
    if rule is None:
        raise StaleStepError
    if state is None:
        state = RuleState(pk=watched.fingerprint, rule=rule, host=watched.host, series=watched.series)
    state.seq, state.memory = step.seq, step.memory.to_json()
    state.save()
    if step.changes and not watched.rule.part:
        _apply(step, state, rule, datetime.fromtimestamp(step.at, UTC))


def _apply(step: Step, state: RuleState, rule: Rule, at: datetime) -> None:
    alert = Alert.objects.select_for_update(of=("self",)).filter(rulestate=state.pk).first()
    for change in step.changes:
        if change is Change.FIRED:
            alert = _open(step, state, rule, at)
        elif change is Change.CALM:
            _calm(alert, step, at)
        elif alert is None:
            continue
        elif change is Change.RISEN:
            _rise(alert, step, at)
        elif change is Change.RESOLVED:
            alert.peak = step.peak
            close(alert, at)
            state.alert = None
            state.save(update_fields=["alert"])
        elif change is Change.FLAPPING:
            write_entry(alert, at, change, "flaps: notices are held back until it is quiet")
            tell(alert, NoticeEvent.FLAPPING, at)
        else:
            alert.state = STATES.get(change, alert.state)
            alert.peak = step.peak
            alert.save(update_fields=["state", "peak"])
            write_entry(alert, at, change, WORDS[change])
    if alert is not None:
        news.tell("alert", alert.pk)


def _calm(alert: Alert | None, step: Step, at: datetime) -> None:
    """Who heard that it flaps hears how it ended: it still fires, or is over. What was not told yet is told by the worker."""
    if alert is not None:
        write_entry(alert, at, Change.CALM, WORDS[Change.CALM])
        if alert.told_at is not None and alert.acknowledged_at is None:
            tell(alert, NoticeEvent.REPEAT, at)
        return
    flapped = Alert.objects.select_for_update(of=("self",)).filter(
        fingerprint=step.watched.fingerprint, deliveries__event=NoticeEvent.FLAPPING
    )
    if Change.FIRED not in step.changes and (last := flapped.order_by("-pk").first()) is not None:
        write_entry(last, at, Change.CALM, WORDS[Change.CALM])
        tell(last, NoticeEvent.RESOLVED, at, text=f"quiet for {duration(FLAP_S)}: resolved")


def _open(step: Step, state: RuleState, rule: Rule, at: datetime) -> Alert:
    watched = step.watched
    alert = Alert.objects.create(
        rule=rule,
        rule_name=rule.name,
        fingerprint=watched.fingerprint,
        host=watched.host,
        series=watched.series,
        labels={**labels_of(watched.host, watched.series), "rule": rule.name},
        severity=step.memory.severity,
        state=AlertState.NO_DATA if step.memory.state is State.NO_DATA else AlertState.FIRING,
        kind=rule.kind,
        unit=rule.unit,
        above=rule.higher_is_worse,
        fire_at=watched.rule.terms.fire_at,
        clear_at=watched.rule.terms.clear_at,
        value=step.value,
        peak=step.peak,
        advice=rule.advice,
        fired_at=at,
    )
    state.alert = alert
    state.save(update_fields=["alert"])
    write_entry(alert, at, Change.FIRED, f"{alert.summary}{_members_of(rule, alert.host)}")
    escalation.begin(alert, rule)
    tell(alert, NoticeEvent.FIRED, at)
    _tell_event(alert, at, f"{alert}: {alert.summary}")
    return alert


def _members_of(rule: Rule, host: str) -> str:
    """Which conditions hold, of a composite."""
    if rule.kind != Kind.COMPOSITE:
        return ""
    states = RuleState.objects.filter(rule__in=rule.members.all(), host=host, memory__open=True)
    names = sorted(set(states.values_list("rule__name", flat=True)))
    return f": {', '.join(names)}" if names else ""


def _rise(alert: Alert, step: Step, at: datetime) -> None:
    alert.severity, alert.peak = step.memory.severity, step.peak
    forget_acknowledgement(alert)
    alert.save(update_fields=["severity", "peak", *ACKNOWLEDGEMENT])
    write_entry(alert, at, Change.RISEN, f"now {alert.severity_name}: {alert.shown(step.value)}")
    tell(alert, NoticeEvent.RISEN, at)


ACKNOWLEDGEMENT = ("acknowledged_at", "acknowledged_by", "acknowledged_until")


def forget_acknowledgement(alert: Alert) -> None:
    """Not saved here."""
    alert.acknowledged_at = alert.acknowledged_until = None
    alert.acknowledged_by = ""


def close(alert: Alert, at: datetime, who: str = "", why: str = "") -> None:
    """End the episode and tell; the acknowledgement ends with it. The state of its series is the caller's."""
    alert.state, alert.resolved_at, alert.resolved_by = AlertState.RESOLVED, at, who
    alert.repeat_at = None
    alert.acknowledged_at = alert.acknowledged_until = None  # who it was stays: the list of past ones says it
    alert.save()
    write_entry(alert, at, Change.RESOLVED, why, who)
    escalation.stop(alert, "the alert was resolved before", at)
    tell(alert, NoticeEvent.RESOLVED, at)
    _tell_event(alert, at, f"{alert}: resolved{f' by {who}' if who else ''}")
    news.tell("alert", alert.pk)


def close_by_hand(alert_id: int, at: datetime, who: str, why: str) -> bool:
    """End an episode whatever its condition is, and let the series start anew. False: it was not open."""
    with transaction.atomic():
        state = RuleState.objects.select_for_update().filter(alert_id=alert_id).first()
        alert = Alert.objects.select_for_update(of=("self",)).filter(pk=alert_id, resolved_at=None).first()
        if alert is None:
            return False
        close(alert, at, who, why)
        if state is not None:
            state.memory = closed_by_hand(Memory.from_json(state.memory), at.timestamp()).to_json()
            state.seq, state.alert = state.seq + 1, None
            state.save()
        bump_revision()
    return True


def bump_revision() -> None:
    """Let every evaluator read rules and states anew, within seconds."""
    row, _ = RulesRevision.objects.get_or_create(pk=RulesRevision.ROW)
    RulesRevision.objects.filter(pk=row.pk).update(number=F("number") + 1)


def write_entry(alert: Alert, at: datetime, kind: str, text: str = "", who: str = "") -> None:
    AlertEntry.objects.create(alert=alert, at=at, kind=kind, text=text[:1000], who=who)


def _tell_event(alert: Alert, at: datetime, text: str) -> None:
    event = record_event(host=alert.host, at=at.timestamp(), kind="alert", text=text)
    news.tell("event", event.pk, event={"at": at.timestamp(), "kind": event.kind, "text": event.text})
