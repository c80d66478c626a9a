"""Runs and what they measured."""

from django.conf import settings
from django.db import models
from django.db.models import Q


class State(models.TextChoices):
    """queued -> running -> done, failed, cancelled or interrupted; queued -> cancelled."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


ENDED = (State.DONE, State.CANCELLED, State.FAILED, State.INTERRUPTED)


class Run(models.Model):
    """One benchmark: `n_rounds` rounds over one or more models. States change by services only, conditionally."""

    host = models.CharField(max_length=100)
    who = models.CharField(max_length=150)  # stays readable when the account goes
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    reason = models.CharField(max_length=500, blank=True)  # why it ended before its end
    kind = models.CharField(max_length=12)
    model_names = models.JSONField()  # in the order of the form
    parameters = models.JSONField()  # benchmarks.parameters.Parameters
    fingerprint = models.JSONField(default=dict)  # taken when it starts; see benchmarks/fingerprint.py
    progress = models.JSONField(default=dict)
    # Both are worked out when the run is over: the headlines for lists, and everything for the result page.
    figures = models.JSONField(default=dict)  # {model: {metric: value}}
    outcome = models.JSONField(default=dict)  # see benchmarks/outcome.py
    is_baseline = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    # The lease: who runs it renews this; past LEASE_S without it the run counts as interrupted.
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    cancel_asked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = (
            # the next one of the queue, the running ones whose lease ran out
            models.Index(fields=("state", "created_at"), name="run_state_created"),
            models.Index(fields=("-created_at", "-id"), name="run_newest_first"),  # the list
        )
        constraints = (
            # Two runs at a time on one machine would measure each other.
            models.UniqueConstraint(
                fields=("host",), condition=Q(state="running"), name="one_running_run_per_host"
            ),
        )

    def __str__(self) -> str:
        return f"run {self.pk} ({self.kind}, {', '.join(self.model_names)})"

    @property
    def took_s(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def badge(self) -> str:
        """Which of the page's badges shows the state."""
        return {State.DONE: "ok", State.RUNNING: "accent", State.QUEUED: ""}.get(State(self.state), "warn")

    @property
    def is_over(self) -> bool:
        return self.state in ENDED


class Measurement(models.Model):
    """What one load process measured: one model in one round."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="measurements")
    model = models.CharField(max_length=200)
    round = models.PositiveIntegerField()  # from 0
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    complete = models.BooleanField()  # False: cancelled or broken off; what there was is kept
    summary = models.JSONField()  # benchmarks.statistics.rounds.RoundSummary
    raw = models.BinaryField()  # the Result as JSON, zlib

    class Meta:
        ordering = ("round", "id")
        constraints = (
            models.UniqueConstraint(fields=("run", "model", "round"), name="one_measurement_per_round"),
        )
        indexes = (models.Index(fields=("model", "-ended_at"), name="measurement_model"),)  # estimates

    def __str__(self) -> str:
        return f"run {self.run_id}, {self.model}, round {self.round + 1}"
