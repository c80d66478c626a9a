"""Channels that a person has set up."""

from datetime import datetime
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db import models

from monitoring.alerts.machine import Severity
from monitoring.alerts.quiet import quiet_until
from monitoring.models.rule import SEVERITIES


class ChannelKind(models.TextChoices):
    WEBHOOK = "webhook", "Webhook"
    HOME_ASSISTANT = "home_assistant", "Home Assistant"
    MAIL = "mail", "E-mail"
    MQTT = "mqtt", "MQTT"
    APPRISE = "apprise", "Apprise"


class ChannelConfig(models.Model):
    """Where notices go, and which: `settings` and the sealed secrets are the fields of the kind's class in
    monitoring.channels."""

    kind = models.CharField(max_length=20, choices=ChannelKind.choices)
    name = models.CharField(max_length=60, unique=True)
    enabled = models.BooleanField(default=True)
    settings = models.JSONField(default=dict)
    sealed = models.TextField(blank=True, editable=False)  # safeguards.sealing
    least_severity = models.PositiveSmallIntegerField(
        choices=SEVERITIES, default=Severity.INFO, help_text="Lesser notices don't go here"
    )
    quiet_from = models.TimeField("quiet from", null=True, blank=True)
    quiet_to = models.TimeField(
        "quiet to",
        null=True,
        blank=True,
        help_text="What comes in these hours is sent at their end, as one summary an alert",
    )
    zone = models.CharField("time zone", max_length=64, default="UTC")
    critical_passes = models.BooleanField("critical alerts pass the quiet hours", default=True)
    # the last test that was asked for, and what came of it
    test_asked_at = models.DateTimeField(null=True, editable=False)
    tested_at = models.DateTimeField(null=True, editable=False)
    test_error = models.CharField(max_length=500, blank=True, editable=False)

    class Meta:
        ordering = ("name",)
        verbose_name = "channel"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if (self.quiet_from is None) != (self.quiet_to is None):
            missing = "quiet_from" if self.quiet_from is None else "quiet_to"
            raise ValidationError({missing: "Give both ends of the quiet hours, or neither."})
        if self.quiet_from is not None and self.quiet_from == self.quiet_to:
            raise ValidationError(
                {"quiet_to": "That would be quiet all day: switch the channel off instead."}
            )

    @property
    def key(self) -> str:
        """How the outbox names it: the name may change."""
        return f"{self.kind}-{self.pk}"

    def quiet_until(self, severity: int, now: datetime) -> datetime | None:
        """Until when a notice of this severity waits; None: it goes now."""
        if self.quiet_from is None or self.quiet_to is None:
            return None
        if severity >= Severity.CRITICAL and self.critical_passes:
            return None
        return quiet_until(now, self.quiet_from, self.quiet_to, ZoneInfo(self.zone))
