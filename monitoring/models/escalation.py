"""Escalation policies, and the steps of an open alert."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from monitoring.alerts.machine import Severity
from monitoring.models.alert import Alert
from monitoring.models.channel import ChannelConfig
from monitoring.models.rule import SEVERITIES

MOST_STEPS, MOST_MIN, MOST_WAIT_S = 10, 7 * 24 * 60, 600


class EscalationPolicy(models.Model):
    """Whom an alert is told, and whom later while nobody acknowledges it. A rule names one, or the default one counts."""

    name = models.CharField(max_length=60, unique=True)
    is_default = models.BooleanField(
        "for all rules that name none", default=False, help_text="Takes the place of the default one so far"
    )
    group_wait_s = models.PositiveSmallIntegerField(
        "group wait (s)",
        default=30,
        validators=[MaxValueValidator(MOST_WAIT_S)],
        help_text="So long a fire waits for others of its host and channel, to be told in one message; 0: never",
    )

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "escalation policies"
        constraints = (
            models.UniqueConstraint(
                fields=("is_default",), condition=Q(is_default=True), name="one_default_policy"
            ),
        )

    def __str__(self) -> str:
        return self.name


class EscalationStep(models.Model):
    """From `after_min` minutes after it fired on, an alert of `least_severity` and more is told on `channels`."""

    policy = models.ForeignKey(EscalationPolicy, models.CASCADE, related_name="steps")
    number = models.PositiveSmallIntegerField()  # from 1, in the order of after_min
    after_min = models.PositiveIntegerField(validators=[MinValueValidator(0), MaxValueValidator(MOST_MIN)])
    least_severity = models.PositiveSmallIntegerField(choices=SEVERITIES, default=Severity.INFO)
    channels = models.ManyToManyField(ChannelConfig, related_name="escalation_steps")

    class Meta:
        ordering = ("number",)
        constraints = (models.UniqueConstraint(fields=("policy", "number"), name="one_step_a_number"),)

    def __str__(self) -> str:
        return f"step {self.number}"


class StepState(models.TextChoices):
    WAITING = "waiting", "waiting"
    TAKEN = "taken", "taken"
    SKIPPED = "skipped", "skipped"  # with the reason


class AlertStep(models.Model):
    """A step of one alert, as its policy was when it fired: written with the episode, taken by whoever tends it."""

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="steps")
    number = models.PositiveSmallIntegerField()
    due_at = models.DateTimeField()
    least_severity = models.PositiveSmallIntegerField(choices=SEVERITIES)
    channels = models.ManyToManyField(ChannelConfig, related_name="alert_steps")
    state = models.CharField(max_length=10, choices=StepState.choices, default=StepState.WAITING)
    reason = models.CharField(max_length=200, blank=True)  # why it was skipped, or what it waits for
    decided_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("number",)
        constraints = (models.UniqueConstraint(fields=("alert", "number"), name="one_alert_step_a_number"),)

    def __str__(self) -> str:
        return f"step {self.number} of alert {self.alert_id}"
