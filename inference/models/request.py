"""What the gateway saw."""

from typing import Any

from django.db import models
from django.db.models import Q
from django.urls import reverse


class Truncation(models.TextChoices):
    """As inference/truncation.py judges; empty: not enough is known."""

    NO = "no", "not cut"
    POSSIBLE = "possible", "possibly cut"
    LIKELY = "likely", "likely cut"


class InferenceRequest(models.Model):
    """One finished request. No prompt, no answer: those are nobody's business but the user's.

    Times in ms, sizes in bytes; null where the engine does not tell. What begins with `prompt_bytes` came later: null in older
    rows."""

    request_id = models.CharField(max_length=32, unique=True, editable=False)
    at = models.DateTimeField("arrived")
    path = models.CharField(max_length=100)
    api = models.CharField("API", max_length=12)
    kind = models.CharField(max_length=12)
    model = models.CharField(max_length=200, blank=True)
    alias = models.CharField("asked as", max_length=200, blank=True)  # an alias of the model
    client = models.CharField(max_length=100, blank=True)
    api_key = models.CharField(
        "API key", max_length=64, blank=True, default=""
    )  # its name, even after its end
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
    engine_kind = models.CharField("name of the engine", max_length=40, blank=True)
    route = models.CharField("why this engine", max_length=200, blank=True)  # empty: a local one, as usual
    # Of a cloud; null: it cost nothing, or nobody knows.
    cost_usd = models.DecimalField("cost (USD)", max_digits=12, decimal_places=8, null=True)
    request_bytes = models.PositiveBigIntegerField()
    response_bytes = models.PositiveBigIntegerField()
    cache = models.CharField(max_length=8)
    # Bits between the pictures asked about and those that the kept answer was given for; null: the requests were equal.
    cache_distance = models.PositiveSmallIntegerField("distance of the frame", null=True)
    profile = models.CharField(max_length=100, null=True)  # noqa: DJ001 - null: no profile was in use
    prompt_bytes = models.PositiveBigIntegerField("texts of the prompt (bytes)", null=True)
    num_ctx = models.PositiveIntegerField("context in force", null=True)
    load_options = models.JSONField("options of loading", null=True)
    previous_options = models.JSONField("options of loading before", null=True)  # only where they differ
    previous_client = models.CharField("client before", max_length=100, blank=True)
    reloaded = models.BooleanField("changed options made the engine load the model anew", default=False)
    truncated = models.CharField("prompt cut", max_length=8, choices=Truncation, blank=True)
    truncated_why = models.CharField("why it is taken for cut", max_length=400, blank=True)
    failed = models.BooleanField(default=False)

    class Meta:
        ordering = ("-at", "-id")
        # Each is one filter of the request log, newest first; the first is the models' statistics too.
        indexes = (
            models.Index(fields=("model", "-at", "-id"), name="request_model_at"),
            models.Index(fields=("-at", "-id"), name="request_at"),
            models.Index(fields=("client", "-at", "-id"), name="request_client_at"),
            models.Index(fields=("profile", "-at", "-id"), name="request_profile_at"),
            models.Index(fields=("api_key", "-at", "-id"), name="request_key_at"),
            models.Index(fields=("truncated", "-at", "-id"), name="request_truncated_at"),
            models.Index(fields=("-at", "-id"), name="request_failed_at", condition=Q(failed=True)),
            models.Index(fields=("-at", "-id"), name="request_reloaded_at", condition=Q(reloaded=True)),
        )

    def __str__(self) -> str:
        return f"{self.path} {self.model} {self.status} at {self.at:%Y-%m-%d %H:%M:%S}"

    def get_absolute_url(self) -> str:
        return reverse("request", args=[self.request_id])

    @property
    def tokens_per_s(self) -> float | None:
        """Generation speed by the engine's own clock."""
        if not self.output_tokens or not self.eval_ms:
            return None
        return self.output_tokens / self.eval_ms * 1000

    @property
    def is_of_cloud(self) -> bool:
        return self.route.startswith(("cloud", "fallback"))

    @property
    def is_routed(self) -> bool:
        """Whether it is worth a word which engine answered, and why."""
        return self.route not in {"", "local"}

    @property
    def is_cut(self) -> bool:
        return self.truncated in {Truncation.POSSIBLE, Truncation.LIKELY}

    @property
    def changed_options(self) -> list[tuple[str, Any, Any]]:
        """(option, value before, value now) of what the engine had to load the model anew for; None: left open."""
        if self.previous_options is None:
            return []
        before, after = self.previous_options, self.load_options or {}
        names = sorted(before.keys() | after.keys())
        return [
            (name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
        ]


class KeptPrompt(models.Model):
    """The beginning of a request's prompt, where the setting says to keep it: apart from the row, so that no list or export of
    requests can take it along."""

    request = models.OneToOneField(InferenceRequest, models.CASCADE, related_name="kept_prompt")
    at = models.DateTimeField("kept", db_index=True)  # retention deletes the oldest
    text = models.TextField()
    shortened = models.BooleanField()

    def __str__(self) -> str:
        return f"prompt of request {self.request_id}"  # never the text: this is what logs and the admin say
