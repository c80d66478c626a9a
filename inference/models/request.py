"""What the gateway saw."""

from django.db import models


class InferenceRequest(models.Model):
    """One finished request. No prompt, no answer: those are nobody's business but the user's.

    Times in ms, sizes in bytes; null where the engine does not tell."""

    request_id = models.CharField(max_length=32, unique=True, editable=False)
    at = models.DateTimeField(
        "arrived", db_index=True
    )  # lists are newest first; retention deletes the oldest
    path = models.CharField(max_length=100)
    api = models.CharField("API", max_length=12)
    kind = models.CharField(max_length=12)
    model = models.CharField(max_length=200, blank=True)
    asked = models.CharField("asked as", max_length=200, blank=True)  # an alias of the model
    client = models.CharField(max_length=100, blank=True)
    client_ip = models.CharField("client address", max_length=45, blank=True)
    stream = models.BooleanField("streamed")
    status = models.PositiveSmallIntegerField("HTTP status")
    error = models.CharField(max_length=500, blank=True)
    done_reason = models.CharField(max_length=32, blank=True)
    ttft_ms = models.FloatField("time to first token (ms)", null=True)
    total_ms = models.FloatField("total (ms)")
    load_ms = models.FloatField("load (ms)", null=True)
    prompt_eval_ms = models.FloatField("prompt (ms)", null=True)
    eval_ms = models.FloatField("generation (ms)", null=True)
    queue_ms = models.FloatField("waiting for a slot (ms)", null=True)
    prompt_tokens = models.PositiveIntegerField(null=True)
    output_tokens = models.PositiveIntegerField(null=True)
    engine = models.CharField(max_length=200, blank=True)
    engine_kind = models.CharField(max_length=12, blank=True)
    request_bytes = models.PositiveBigIntegerField()
    response_bytes = models.PositiveBigIntegerField()
    cache = models.CharField(max_length=8)
    profile = models.CharField(max_length=100, null=True)  # noqa: DJ001 - null: no profile was in use

    class Meta:
        ordering = ("-at",)
        # "requests of this model in this span", for the models' statistics
        indexes = (models.Index(fields=("model", "-at"), name="request_model_at"),)

    def __str__(self) -> str:
        return f"{self.path} {self.model} {self.status} at {self.at:%Y-%m-%d %H:%M:%S}"

    @property
    def tokens_per_s(self) -> float | None:
        """Generation speed by the engine's own clock."""
        if not self.output_tokens or not self.eval_ms:
            return None
        return self.output_tokens / self.eval_ms * 1000
