"""What time alone brings about, looked after by the worker every few seconds: repeats, ends of acknowledgements and
silences, what nobody was told yet, and the silence of a host."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from monitoring import news
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
from monitoring.alerts.series import fingerprint, labels_of
from monitoring.models import Alert, Delivery, Rule, RuleState, Silence
from monitoring.models.rule import SAMPLE_AGE

KEPT = timedelta(days=400)


def tend(now: datetime) -> None:
    """One look at everything that is open."""
    for alert_id in Alert.objects.filter(resolved_at=None).values_list("pk", flat=True):
        _tend_alert(alert_id, now)
    for silence in Silence.objects.filter(closed=False, start__lte=now):
        end = silence.last_end(now)
        if end is not None and (silence.told_to is None or silence.told_to < end):
            _close_window(silence.pk, end, now)
        elif silence.end <= now:  # it ended between two windows
            Silence.objects.filter(pk=silence.pk).update(closed=True)


@transaction.atomic
def _tend_alert(alert_id: int, now: datetime) -> None:
    alert = _open_alert(alert_id)
    if alert is None:
        return
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
        return
    news.tell("alert", alert.pk)


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


def watch_host(host: str, age_s: float | None, now: datetime) -> None:
    """Judge the age of a host's newest sample (None: it never had one) by the rules on SAMPLE_AGE."""
    for rule in Rule.objects.filter(series=SAMPLE_AGE, enabled=True):
        mark = fingerprint(rule.pk, labels_of(host, SAMPLE_AGE))
        state = RuleState.objects.filter(pk=mark).select_related("alert").first()
        watched = Watched(rule.spec(), host, SAMPLE_AGE, mark)
        if state is not None:
            watched.memory, watched.seq = Memory.from_json(state.memory), state.seq
            watched.peak = state.alert.peak if state.alert is not None else None
        step = watched.take(age_s, now.timestamp())
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
