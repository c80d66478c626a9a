"""What people do with escalation policies. Open alerts keep the steps that they had when they fired."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction

from monitoring.alerts.machine import Severity
from monitoring.models import ChannelConfig, EscalationPolicy, EscalationStep


@dataclass(frozen=True)
class StepValues:
    after_min: int
    least_severity: Severity
    channels: list[ChannelConfig]


@transaction.atomic
def save_policy(policy: EscalationPolicy, steps: Sequence[StepValues]) -> None:
    """Store it with these steps in place of those it had; there is one default policy at most."""
    if policy.is_default:
        EscalationPolicy.objects.filter(is_default=True).exclude(pk=policy.pk).update(is_default=False)
    policy.save()
    policy.steps.all().delete()
    for number, each in enumerate(steps, 1):
        step = EscalationStep.objects.create(
            policy=policy, number=number, after_min=each.after_min, least_severity=each.least_severity
        )
        step.channels.set(each.channels)
