"""What was done to models, by a person or by the product itself."""

from django.db import models


class ModelAction(models.TextChoices):
    PULL = "pull"
    COPY = "copy"
    DELETE = "delete"
    LOAD = "load"
    UNLOAD = "unload"
    KEEP = "keep-alive"
    PROPOSE = "propose"
    START = "start"
    DISMISS = "dismiss"
    USE = "use"


class ActionState(models.TextChoices):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class ModelEvent(models.Model):
    """One action; written by services only."""

    at = models.DateTimeField()
    who = models.CharField(max_length=150)  # stays readable when the account goes
    by_itself = models.BooleanField(default=False)  # no person asked: `who` names the part that did it
    engine_kind = models.CharField("engine", max_length=40)
    model = models.CharField(max_length=200)
    action = models.CharField(max_length=12, choices=ModelAction)
    detail = models.CharField(max_length=300, blank=True)  # the reason, or to what
    state = models.CharField(max_length=8, choices=ActionState, default=ActionState.DONE)
    result = models.CharField(max_length=500, blank=True)  # what went wrong, or what came of it
    # Of the gateway's news that told it: read twice it counts once.
    news_id = models.CharField(max_length=40, null=True, blank=True, unique=True, editable=False)

    class Meta:
        ordering = ("-at", "-id")
        indexes = (
            models.Index(fields=("-at", "-id"), name="model_event_newest"),  # the log
            models.Index(fields=("model", "-at"), name="model_event_of_model"),  # the page of a model
        )

    def __str__(self) -> str:
        return f"{self.who}: {self.action} {self.model} ({self.state})"

    @property
    def badge(self) -> str:
        return {"done": "ok", "running": "accent"}.get(self.state, "crit")
