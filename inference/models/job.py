"""Heavy work on models: making a variant, measuring it."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q

LEASE = timedelta(seconds=20)


class JobState(models.TextChoices):
    """queued -> running -> done, failed, cancelled or interrupted; queued -> cancelled."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


ENDED = (JobState.DONE, JobState.CANCELLED, JobState.FAILED, JobState.INTERRUPTED)


class JobKind(models.TextChoices):
    QUANTIZE = "quantize"
    PRUNE = "prune"
    DISTILL = "distill", "Distil"
    MEASURE = "measure"
    ARCHIVE = "archive"
    UNARCHIVE = "unarchive"


class ModelJob(models.Model):
    """One job of the queue. States change by services only, conditionally."""

    host = models.CharField(max_length=100)
    who = models.CharField(max_length=150)  # stays readable when the account goes
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    kind = models.CharField(max_length=12, choices=JobKind)
    source = models.CharField(max_length=200)
    target = models.CharField(max_length=200)
    parameters = models.JSONField()  # inference.jobs.parameters.JobParameters
    state = models.CharField(max_length=12, choices=JobState, default=JobState.QUEUED)
    reason = models.CharField(max_length=500, blank=True)  # why it ended before its end
    progress = models.JSONField(default=dict)  # step, done, total, unit
    steps = models.JSONField(default=list)  # those that are over: [{step, took_s}]
    result = models.JSONField(default=dict)  # of what made neither a variant nor an archive: an unarchive job
    retry_of = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="retries")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    # The lease: who runs it renews this; past LEASE without it the job counts as interrupted.
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    cancel_asked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = (
            # the next one of the queue, the running ones whose lease ran out
            models.Index(fields=("state", "created_at"), name="job_state_created"),
            models.Index(fields=("-created_at", "-id"), name="job_newest_first"),  # the list
        )
        constraints = (
            # Two at a time would fight for memory, and measure each other.
            models.UniqueConstraint(
                fields=("host",), condition=Q(state="running"), name="one_running_job_per_host"
            ),
        )

    def __str__(self) -> str:
        return f"job {self.pk} ({self.kind} {self.source} -> {self.target})"

    @property
    def took_s(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def badge(self) -> str:
        """Which of the page's badges shows the state."""
        shown = {JobState.DONE: "ok", JobState.RUNNING: "accent", JobState.QUEUED: ""}
        return shown.get(JobState(self.state), "warn")

    @property
    def is_over(self) -> bool:
        return self.state in ENDED
