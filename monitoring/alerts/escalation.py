"""The steps of an alert: which it has, which one is due, and whom the steps so far have drawn in."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from monitoring.models import Alert, AlertStep, ChannelConfig, EscalationPolicy, Rule
from monitoring.models.escalation import StepState


def policy_of(rule: Rule | None) -> EscalationPolicy | None:
    """The one that the rule names, or the default one unless it wants none; None: everybody is told at once."""
    if rule is not None and rule.no_policy:
        return None
    if rule is not None and rule.policy is not None:
        return rule.policy
    return EscalationPolicy.objects.filter(is_default=True).first()


def group_wait(rule: Rule | None) -> timedelta:
    policy = policy_of(rule)
    return timedelta(seconds=policy.group_wait_s if policy is not None else settings.ALERT_GROUP_WAIT_S)


def begin(alert: Alert, rule: Rule) -> None:
    """Write the steps of an alert that fires now, in the transaction of the caller; those without a delay are taken."""
    policy = policy_of(rule)
    if policy is None:
        return
    alert.policy_name = policy.name
    alert.save(update_fields=["policy_name"])
    for step in policy.steps.prefetch_related("channels"):
        at_once = step.after_min == 0 and alert.severity >= step.least_severity
        written = AlertStep.objects.create(
            alert=alert,
            number=step.number,
            due_at=alert.fired_at + timedelta(minutes=step.after_min),
            least_severity=step.least_severity,
            state=StepState.TAKEN if at_once else StepState.WAITING,
            decided_at=alert.fired_at if at_once else None,
        )
        written.channels.set(step.channels.all())


def drawn_in(alert: Alert) -> set[int] | None:
    """Primary keys of the channels that its notices go to by now, besides those that are always there; None: all."""
    if not alert.policy_name:
        return None
    taken = AlertStep.objects.filter(alert=alert, state=StepState.TAKEN, channels__isnull=False)
    return set(taken.values_list("channels", flat=True))


@dataclass(frozen=True)
class Due:
    """The highest overdue step that can be taken, and the lower ones that it takes the place of."""

    step: AlertStep | None
    passed: list[AlertStep]


def due(alert: Alert, now: datetime) -> Due:
    """What is overdue. A step for severities that the alert has not reached is not: it waits for the rise. One whose
    channels are all off or gone is passed over."""
    waiting = AlertStep.objects.select_for_update().filter(
        alert=alert, state=StepState.WAITING, due_at__lte=now, least_severity__lte=alert.severity
    )
    overdue = list(waiting.order_by("-number"))
    if not overdue:
        return Due(None, [])
    there = set(
        ChannelConfig.objects.filter(enabled=True, alert_steps__in=overdue).values_list(
            "alert_steps", flat=True
        )
    )
    step = next((each for each in overdue if each.pk in there), None)
    return Due(step, [each for each in overdue if each is not step])


def decide(step: AlertStep, state: StepState, reason: str, now: datetime) -> None:
    step.state, step.reason, step.decided_at = state, reason[:200], now
    step.save(update_fields=["state", "reason", "decided_at"])


def stop(alert: Alert, reason: str, now: datetime) -> None:
    """The episode is over: what still waits is not taken any more."""
    if alert.policy_name:
        waiting = AlertStep.objects.filter(alert=alert, state=StepState.WAITING)
        waiting.update(state=StepState.SKIPPED, reason=reason[:200], decided_at=now)
