"""Models that are fetched from a registry."""

from django.db import models
from django.db.models import Q

from inference.models.job import ENDED, LEASE, JobState

__all__ = ["LEASE", "ModelPull"]


class ModelPull(models.Model):
    """One pull, done by the worker; it survives the page that asked for it. States as those of a job."""

    host = models.CharField(max_length=100)
    who = models.CharField(max_length=150)
    engine_kind = models.CharField(max_length=40)
    model = models.CharField(max_length=200)
    state = models.CharField(max_length=12, choices=JobState, default=JobState.QUEUED)
    reason = models.CharField(
        max_length=500, blank=True
    )  # why it ended before its end, in the registry's words
    step = models.CharField(max_length=200, blank=True)  # as the engine words it
    done_bytes = models.PositiveBigIntegerField(default=0)
    total_bytes = models.PositiveBigIntegerField(default=0)  # of the layers that the engine has named so far
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)  # past LEASE without it, its process is gone
    cancel_asked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = (models.Index(fields=("state", "created_at"), name="pull_state_created"),)
        constraints = (
            models.UniqueConstraint(
                fields=("host",), condition=Q(state="running"), name="one_running_pull_per_host"
            ),
            models.UniqueConstraint(
                fields=("host", "engine_kind", "model"),
                condition=Q(state__in=("queued", "running")),
                name="one_open_pull_per_model",
            ),
        )

    def __str__(self) -> str:
        return f"pull {self.pk} of {self.model} ({self.state})"

    @property
    def badge(self) -> str:
        shown = {JobState.DONE: "ok", JobState.RUNNING: "accent", JobState.QUEUED: ""}
        return shown.get(JobState(self.state), "warn")

    @property
    def is_over(self) -> bool:
        return self.state in ENDED
