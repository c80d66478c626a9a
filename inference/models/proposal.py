"""What the product would do with a model, for a person to start or to dismiss, or done by itself where a setting says so."""

from django.db import models
from django.db.models import Q

from inference.models.job import ModelJob


class ProposalKind(models.TextChoices):
    QUANTIZE = "quantize"
    PRUNE = "prune"
    MEASURE = "measure"
    USE = "use"
    ARCHIVE = "archive"


class ProposalState(models.TextChoices):
    """open -> started -> done or failed; open -> dismissed; open -> withdrawn (its reason is gone) -> open."""

    OPEN = "open"
    STARTED = "started"
    DONE = "done"
    FAILED = "failed"
    DISMISSED = "dismissed"
    WITHDRAWN = "withdrawn"


class Proposal(models.Model):
    """One step for one model as it is now (its digest): one row for ever, so that what was dismissed is not said again."""

    engine_kind = models.CharField(max_length=40)
    model = models.CharField(max_length=200)
    digest = models.CharField(max_length=100)
    kind = models.CharField(max_length=12, choices=ProposalKind)
    what = models.CharField(max_length=200)  # the type, the variant, the packing
    reason = models.CharField(max_length=300)
    size_bytes = models.PositiveBigIntegerField(null=True)  # of the model
    expected_bytes = models.PositiveBigIntegerField(null=True)  # about; None: unknown
    max_loss = models.FloatField(null=True)  # that a variant may cost
    state = models.CharField(max_length=10, choices=ProposalState, default=ProposalState.OPEN)
    by_itself = models.BooleanField(default=False)  # started by the product, not by a person
    who = models.CharField(max_length=150, blank=True)  # started or dismissed it
    job = models.ForeignKey(ModelJob, models.SET_NULL, null=True, blank=True, related_name="proposals")
    result = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = (
            models.UniqueConstraint(
                fields=("engine_kind", "model", "digest", "kind", "what"), name="one_proposal_per_step"
            ),
            models.UniqueConstraint(
                fields=("by_itself",),
                condition=Q(state="started", by_itself=True),
                name="one_step_by_itself_at_a_time",
            ),
        )
        indexes = (models.Index(fields=("state", "-created_at"), name="proposal_state_newest"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.model}: {self.what}"

    @property
    def badge(self) -> str:
        return {"open": "accent", "started": "accent", "done": "ok", "failed": "crit"}.get(self.state, "")

    @property
    def step(self) -> str:
        """What would be done, in words."""
        if self.kind == ProposalKind.USE:
            return f"let {self.what} answer for it"
        if self.kind == ProposalKind.MEASURE:
            return f"measure {self.what} against it"
        if self.kind == ProposalKind.PRUNE:
            return f"drop layers, at most {self.max_loss:g} of loss"
        if self.kind == ProposalKind.ARCHIVE:
            return f"pack it with {self.what}; the model stays"
        return f"quantize it to {self.what} and measure that"
