"""What time alone brings about, looked after by the worker every few seconds: repeats, steps of
escalations, ends of acknowledgements and silences, beginnings and ends of alerts that nobody was told of yet, and what
the collector can't judge itself."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from monitoring import news
from monitoring.alerts import escalation
from monitoring.alerts.evaluator import Watched
from monitoring.alerts.machine import Memory
from monitoring.alerts.notices import NoticeEvent, held_back, tell
from monitoring.alerts.recording import (
    ACKNOWLEDGEMENT,
    StaleStepError,
    forget_acknowledgement,
    record_step,
    write_entry,
)
from monitoring.alerts.series import duration, fingerprint, labels_of
from monitoring.models import Alert, AlertStep, Delivery, Rule, RuleState, Silence
from monitoring.models.escalation import StepState
from monitoring.models.rule import EVALUATOR_LAG, SAMPLE_AGE

KEPT = timedelta(days=400)


def tend(now: datetime) -> None:
    """One look at everything that is open: first the ends of silences, so that who was told before hears that it still
    fires before the steps of an escalation draw in others; then the ends of episodes before the beginnings of the next."""
    for silence in Silence.objects.filter(closed=False, start__lte=now):
        end = silence.last_end(now)
        if end is not None and (silence.told_to is None or silence.told_to < end):
            _close_window(silence.pk, end, now)
        elif silence.end <= now:  # it ended between two windows
            Silence.objects.filter(pk=silence.pk).update(closed=True)
    for alert_id in Alert.objects.filter(end_untold=True).values_list("pk", flat=True):
        _tell_end(alert_id, now)
    for alert_id in Alert.objects.filter(resolved_at=None).values_list("pk", flat=True):
        _tend_alert(alert_id, now)


@transaction.atomic
def _tell_end(alert_id: int, now: datetime) -> None:
    """Who was told that it fires must not believe so for ever because it ended while nobody was to be told."""
    alert = Alert.objects.select_for_update(of=("self",)).filter(pk=alert_id, end_untold=True).first()
    if alert is None or alert.resolved_at is None or held_back(alert, NoticeEvent.RESOLVED, now):
        return
    ago = duration((now - alert.resolved_at).total_seconds())
    text = f"resolved {ago} ago, after {alert.lasted}, worst {alert.shown_peak}"
    tell(alert, NoticeEvent.RESOLVED, now, text=text)
    news.tell("alert", alert.pk)


@transaction.atomic
def _tend_alert(alert_id: int, now: datetime) -> None:
    alert = _open_alert(alert_id)
    if alert is None:
        return
    changed = True
    if alert.acknowledged_at is not None:
        if alert.acknowledged_until is None or alert.acknowledged_until > now:
            return
        forget_acknowledgement(alert)
        alert.save(update_fields=list(ACKNOWLEDGEMENT))
        write_entry(alert, now, "reopened", "the acknowledgement ran out")
        tell(alert, NoticeEvent.REOPENED, now)
    elif alert.told_at is None and not held_back(alert, NoticeEvent.FIRED, now):
        tell(alert, NoticeEvent.FIRED, now)  # what held it back is over, and it still fires
    elif alert.repeat_at is not None and alert.repeat_at <= now:
        tell(alert, NoticeEvent.REPEAT, now)
    else:
        changed = False
    if alert.policy_name and alert.told_at is not None:
        changed |= _escalate(alert, now)
    if changed:
        news.tell("alert", alert.pk)


def _escalate(alert: Alert, now: datetime) -> bool:
    """Take the highest overdue step; False: nothing changed. What holds a notice back lets the steps wait."""
    found = escalation.due(alert, now)
    step, passed = found.step, found.passed
    if step is None and not passed:
        return False
    if reason := held_back(alert, NoticeEvent.ESCALATED, now):
        overdue = [each.pk for each in (step, *passed) if each is not None]
        waiting = AlertStep.objects.filter(pk__in=overdue).exclude(reason=reason[:200])
        return bool(waiting.update(reason=reason[:200]))
    for each in passed:
        if step is None or each.number > step.number:
            why = "its channels are off or deleted"
        else:
            why = f"step {step.number} was overdue as well, and was taken instead"
        escalation.decide(each, StepState.SKIPPED, why, now)
    if step is not None:
        escalation.decide(step, StepState.TAKEN, "", now)
        names = ", ".join(step.channels.filter(enabled=True).values_list("name", flat=True))
        write_entry(alert, now, NoticeEvent.ESCALATED, f"step {step.number}: {names}")
        tell(alert, NoticeEvent.ESCALATED, now, step=step)
    return True


@transaction.atomic
def _close_window(silence_id: int, end: datetime, now: datetime) -> None:
    """What still fires at the end of a silence, or of one of its windows, is told once."""
    waiting = Silence.objects.select_for_update().filter(pk=silence_id, closed=False)
    silence = waiting.filter(Q(told_to=None) | Q(told_to__lt=end)).first()
    if silence is None:
        return  # another worker was faster
    silence.told_to, silence.closed = end, silence.end <= now
    silence.save(update_fields=["told_to", "closed"])
    for alert_id in Alert.objects.filter(resolved_at=None, acknowledged_at=None).values_list("pk", flat=True):
        alert = _open_alert(alert_id)
        # Who was not told at all is told by _tend_alert.
        if alert is None or alert.told_at is None or alert.told_at >= end:
            continue
        if silence.fits(alert.matched_labels):
            tell(alert, NoticeEvent.REPEAT, now)
            news.tell("alert", alert.pk)


def _open_alert(alert_id: int) -> Alert | None:
    found = Alert.objects.select_for_update(of=("self",)).select_related("rule")
    return found.filter(pk=alert_id, resolved_at=None).first()


def watch_host(host: str, age_s: float | None, lag_s: float | None, now: datetime) -> None:
    """Judge the age of a host's newest sample (None: it never had one), and how far its evaluator is behind (None:
    nothing is known of it now), by the rules on SAMPLE_AGE and EVALUATOR_LAG."""
    values = {SAMPLE_AGE: age_s, EVALUATOR_LAG: lag_s}
    for rule in Rule.objects.filter(series__in=values, enabled=True):
        mark = fingerprint(rule.pk, labels_of(host, rule.series))
        state = RuleState.objects.filter(pk=mark).select_related("alert").first()
        watched = Watched(rule.spec(), host, rule.series, mark)
        if state is not None:
            watched.memory, watched.seq = Memory.from_json(state.memory), state.seq
            watched.peak = state.alert.peak if state.alert is not None else None
        step = watched.take(values[rule.series], now.timestamp())
        if step is not None:
            try:
                record_step(step)
            except StaleStepError:
                continue  # another worker was faster


def delete_old(now: datetime) -> None:
    """Episodes that ended KEPT ago, with their deliveries; silences that ended then."""
    old = Alert.objects.filter(resolved_at__lt=now - KEPT).values_list("pk", flat=True)
    while ids := list(old[:500]):
        Delivery.objects.filter(alert_id__in=ids).delete()
        Alert.objects.filter(pk__in=ids).delete()
    Silence.objects.filter(end__lt=now - KEPT).delete()
    RuleState.objects.filter(alert=None, memory__missing_since__lt=(now - KEPT).timestamp()).delete()
