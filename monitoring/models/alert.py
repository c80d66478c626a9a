"""Alerts: a row per episode, what happened in it, and the stored state of each rule on each series."""

from django.db import models
from django.db.models import Q

from monitoring.alerts.conditions import Kind
from monitoring.alerts.machine import Severity, State
from monitoring.alerts.series import duration, format_value
from monitoring.models.rule import KINDS, SEVERITIES, Rule


class AlertState(models.TextChoices):
    FIRING = State.FIRING.value, "firing"
    RECOVERING = State.RECOVERING.value, "recovering"
    NO_DATA = State.NO_DATA.value, "no data"
    RESOLVED = "resolved", "resolved"


class Alert(models.Model):
    """One episode: from firing to resolved. What the rule said then is kept, the rule may change."""

    rule = models.ForeignKey(Rule, models.SET_NULL, null=True, related_name="alerts")
    rule_name = models.CharField(max_length=100)
    fingerprint = models.CharField(max_length=64)
    host = models.CharField(max_length=100)
    series = models.CharField(max_length=200)
    labels = models.JSONField()  # of the series, with host, metric, rule
    severity = models.PositiveSmallIntegerField(choices=SEVERITIES)
    state = models.CharField(max_length=10, choices=AlertState.choices, default=AlertState.FIRING)
    kind = models.CharField(max_length=10, choices=KINDS, default=Kind.THRESHOLD.value)
    unit = models.CharField(max_length=8, blank=True)  # of value, peak, fire_at and clear_at
    above = models.BooleanField()
    fire_at = models.FloatField()
    clear_at = models.FloatField()
    value = models.FloatField(null=True)  # when it fired; None: missing data fired it
    peak = models.FloatField(null=True)
    advice = models.CharField(max_length=300, blank=True)
    fired_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=150, blank=True)  # a person; '': by itself
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)  # once resolved: by whom it was until then
    acknowledged_until = models.DateTimeField(null=True)  # None: to the end
    told_at = models.DateTimeField(null=True)  # the last notice that was not held back
    repeat_at = models.DateTimeField(null=True)
    # a silence or flapping held its end back from those who were told that it fires
    end_untold = models.BooleanField(default=False)
    n_notices = models.PositiveIntegerField(default=0)
    policy_name = models.CharField(max_length=60, blank=True)  # that it follows; '': all channels at once

    class Meta:
        ordering = ("-fired_at", "-id")
        constraints = (
            models.UniqueConstraint(
                fields=("fingerprint",), condition=Q(resolved_at=None), name="one_open_episode"
            ),
        )
        indexes = (
            # the strip, the badge and the list of open ones
            models.Index(fields=("-severity", "-fired_at"), condition=Q(resolved_at=None), name="alert_open"),
            models.Index(fields=("-fired_at", "-id"), name="alert_past"),  # the list of past ones
            models.Index(fields=("fingerprint", "-told_at"), name="alert_cooldown"),
            # what the worker looks for every few seconds
            models.Index(fields=("id",), condition=Q(end_untold=True), name="alert_end_untold"),
        )

    def __str__(self) -> str:
        return f"{self.rule_name} on {self.where}"

    @property
    def where(self) -> str:
        """The labels that tell it from others of its rule: `box, mount /`."""
        own = {k: v for k, v in self.labels.items() if k not in ("host", "metric", "rule")}
        return ", ".join([self.host, *(f"{label} {value}" for label, value in sorted(own.items()))])

    @property
    def matched_labels(self) -> dict[str, str]:
        """What the matchers of a silence see."""
        return {**self.labels, "severity": self.severity_name}

    @property
    def is_open(self) -> bool:
        return self.resolved_at is None

    @property
    def severity_name(self) -> str:
        return Severity(self.severity).name.lower()

    def shown(self, value: float | None) -> str:
        return format_value(value, self.unit)

    @property
    def summary(self) -> str:
        """What is wrong, in one line: `93.2 %, fires at 90 %`."""
        if self.kind == Kind.NO_DATA:
            return "no samples any more"
        if self.kind == Kind.COMPOSITE:
            return f"{self.shown_value} conditions hold"
        side = "" if self.above else " and less"
        limit = f"fires at {self.shown(self.fire_at)}{side}"
        return f"no data, {limit}" if self.value is None else f"{self.shown(self.value)}, {limit}"

    @property
    def compares(self) -> bool:
        """Whether it has thresholds of its own."""
        return self.kind not in (Kind.NO_DATA, Kind.COMPOSITE)

    @property
    def shown_value(self) -> str:
        return "no data" if self.value is None else self.shown(self.value)

    @property
    def shown_peak(self) -> str:
        return self.shown(self.peak)

    @property
    def shown_fire_at(self) -> str:
        return self.shown(self.fire_at)

    @property
    def shown_clear_at(self) -> str:
        return self.shown(self.clear_at)

    @property
    def lasted(self) -> str:
        """How long it was open; '' while it is."""
        if self.resolved_at is None:
            return ""
        return duration((self.resolved_at - self.fired_at).total_seconds())


class AlertEntry(models.Model):
    """Something in the life of an episode: a transition, or what a person did or wrote."""

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="entries")
    at = models.DateTimeField()
    kind = models.CharField(max_length=20)
    who = models.CharField(max_length=150, blank=True)
    text = models.CharField(max_length=1000, blank=True)

    class Meta:
        ordering = ("at", "id")
        verbose_name_plural = "alert entries"

    def __str__(self) -> str:
        return f"{self.kind} {self.text}".strip()


class RuleState(models.Model):
    """Memory of one rule on one series (monitoring.alerts.machine.Memory): a restart goes on from it."""

    fingerprint = models.CharField(max_length=64, primary_key=True)
    rule = models.ForeignKey(Rule, models.CASCADE, related_name="states")
    host = models.CharField(max_length=100)
    series = models.CharField(max_length=200)
    seq = models.PositiveBigIntegerField(default=0)
    memory = models.JSONField()
    alert = models.ForeignKey(Alert, models.SET_NULL, null=True)  # the open episode

    def __str__(self) -> str:
        return f"{self.rule_id} {self.series}"
