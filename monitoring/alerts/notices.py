"""Who is told what: decides whether a notice goes out or is held back, and writes its outbox rows."""

import logging
from datetime import datetime, timedelta
from enum import StrEnum

from celery import current_app
from django.db import transaction
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from monitoring.alerts.escalation import drawn_in, group_wait
from monitoring.alerts.machine import FLAP_N, FLAP_S, Severity
from monitoring.alerts.series import duration
from monitoring.channels import CHANNELS
from monitoring.models import Alert, AlertStep, ChannelConfig, Delivery, RuleState, Silence
from monitoring.models.delivery import GIVE_UP_AFTER, DeliveryStatus
from monitoring.models.rule import SAMPLE_AGE

NOT_TOLD = "this channel was not told that it fired"
log = logging.getLogger(__name__)


class NoticeEvent(StrEnum):
    FIRED = "fired"
    RISEN = "risen"
    REPEAT = "repeat"
    REOPENED = "reopened"
    ESCALATED = "escalated"
    FLAPPING = "flapping"
    RESOLVED = "resolved"
    UNDELIVERED = "undelivered"  # another channel gave up


def tell(
    alert: Alert, event: NoticeEvent, now: datetime, text: str = "", step: AlertStep | None = None
) -> None:
    """Write the outbox rows of a notice, in the transaction of the caller; saves `alert`'s counters and times.

    It goes to what is always there and to all channels, or under a policy to those that the steps so far have drawn
    in; that of a `step` to the channels of the step."""
    reason = held_back(alert, event, now)
    alert.n_notices += 1
    channels: dict[str, ChannelConfig | None] = dict.fromkeys(CHANNELS)
    channels |= {config.key: config for config in _configured(alert, step)}
    told = _channels_told(alert) if event is NoticeEvent.RESOLVED else set(channels)
    wait = group_wait(alert.rule) if event is NoticeEvent.FIRED else timedelta(0)
    # Who is told of a critical alert is told at once, and of what waits for its group as well.
    due_at = now if alert.severity >= Severity.CRITICAL else now + wait
    rows = [
        Delivery(
            alert=alert,
            key=f"{alert.pk}:{event}:{alert.n_notices}:{channel}",
            channel=channel,
            config=config,
            event=event,
            text=f"{alert}: {text or words(alert, event, now)}"[:1000],
            may_group=config is not None and bool(wait),
            created_at=now,
            due_at=due_at if config is not None else now,
            give_up_at=now + GIVE_UP_AFTER,
        )
        for channel, config in channels.items()
    ]
    for row in rows:
        why = NOT_TOLD if row.channel not in told else reason
        why = why or _too_slight(alert, row.config)
        if why:
            row.status, row.reason = DeliveryStatus.SUPPRESSED, why[:200]
    Delivery.objects.bulk_create(rows)
    if not reason and told and step is None:  # those of a step are not all who are told
        alert.told_at = now
    repeat_s = alert.rule.repeat_s if alert.rule is not None and step is None else 0
    if alert.is_open and repeat_s and (not reason or alert.repeat_at):
        alert.repeat_at = now + timedelta(seconds=repeat_s)
    alert.end_untold = event is NoticeEvent.RESOLVED and bool(reason and told)
    alert.save(update_fields=["n_notices", "told_at", "repeat_at", "end_untold"])
    transaction.on_commit(wake_worker)


def held_back(alert: Alert, event: NoticeEvent, now: datetime) -> str:
    """Why this notice is not told now; '' when it is."""
    return (
        _silenced(alert, now)
        or ("" if event is NoticeEvent.RESOLVED else _inhibited(alert))
        or ("" if event is NoticeEvent.FLAPPING else _flapping(alert))
        or (_cooling(alert, now) if event is NoticeEvent.FIRED else "")
    )


def words(alert: Alert, event: NoticeEvent, now: datetime) -> str:
    """What a notice says after the alert's name."""
    lasted = duration((now - alert.fired_at).total_seconds())
    advice = f". {alert.advice}" if alert.advice else ""
    return {
        NoticeEvent.FIRED: f"{alert.summary}{advice}",
        NoticeEvent.RISEN: f"now {alert.severity_name}: {alert.summary}{advice}",
        NoticeEvent.REPEAT: f"still firing after {lasted}, worst {alert.shown_peak}{advice}",
        NoticeEvent.REOPENED: f"the acknowledgement ran out, still firing after {lasted}, worst {alert.shown_peak}{advice}",
        NoticeEvent.ESCALATED: f"still firing after {lasted} and not acknowledged, worst {alert.shown_peak}{advice}",
        NoticeEvent.FLAPPING: f"flaps, {FLAP_N} changes in {duration(FLAP_S)}: no more notices until it is quiet so long",
        NoticeEvent.RESOLVED: f"resolved after {lasted}, worst {alert.shown_peak}",
        NoticeEvent.UNDELIVERED: "a notice could not be delivered",
    }[event]


def wake_worker() -> None:
    """Ask for the deliveries at once. Without a broker the next beat does it."""
    try:
        current_app.send_task("monitoring.tasks.deliver_notices", retry=False, expires=60)
    except (KombuError, OperationalError, RedisError, OSError) as error:
        log.warning("the worker could not be woken (%s); notices go with its next beat", error)


def _configured(alert: Alert, step: AlertStep | None) -> list[ChannelConfig]:
    found = ChannelConfig.objects.filter(enabled=True)
    if step is not None:
        return list(found.filter(alert_steps=step))
    keys = drawn_in(alert)
    return list(found if keys is None else found.filter(pk__in=keys))


def _too_slight(alert: Alert, config: ChannelConfig | None) -> str:
    if config is None or alert.severity >= config.least_severity:
        return ""
    return f"this channel takes nothing below {config.get_least_severity_display()}"


def _channels_told(alert: Alert) -> set[str]:
    told = alert.deliveries.filter(status__in=(DeliveryStatus.WAITING, DeliveryStatus.SENT))
    return set(told.exclude(event=NoticeEvent.UNDELIVERED).values_list("channel", flat=True))


def _silenced(alert: Alert, now: datetime) -> str:
    for silence in Silence.objects.filter(start__lte=now, end__gt=now):
        if silence.is_active(now) and silence.fits(alert.matched_labels):
            return f"silence {silence.pk} of {silence.author}: {silence.reason}"
    return ""


def _inhibited(alert: Alert) -> str:
    others = Alert.objects.filter(resolved_at=None, host=alert.host).exclude(pk=alert.pk)
    if alert.series != SAMPLE_AGE and (parent := others.filter(series=SAMPLE_AGE).first()):
        return f"inhibited by alert {parent.pk}: the host is silent"
    if alert.severity < Severity.CRITICAL:
        worse = others.filter(series=alert.series, severity=Severity.CRITICAL).first()
        if worse is not None:
            return f"inhibited by the critical alert {worse.pk}"
    return ""


def _flapping(alert: Alert) -> str:
    state = RuleState.objects.filter(fingerprint=alert.fingerprint).first()
    return "it flaps" if state is not None and state.memory.get("flapping") else ""


def _cooling(alert: Alert, now: datetime) -> str:
    """Not for one that is more severe than what was told last: a rise passes, within an episode and from one to the next."""
    if alert.rule is None:
        return ""
    told = Alert.objects.filter(fingerprint=alert.fingerprint).exclude(told_at=None)
    last = told.order_by("-told_at").values_list("told_at", "severity").first()
    if last is None or last[0] is None or alert.severity > last[1]:
        return ""
    ago = (now - last[0]).total_seconds()
    return f"cooldown: the last notice was {duration(ago)} ago" if 0 <= ago < alert.rule.cooldown_s else ""
