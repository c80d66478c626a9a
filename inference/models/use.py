"""What models are used for, in sums: no page has to read every request for it."""

from django.db import models


class ModelUse(models.Model):
    """What one client asked of a model within an hour (UTC), beside requests that only load or unload. Tokens: null where no
    answer told them."""

    hour = models.DateTimeField()
    engine_kind = models.CharField(max_length=40)
    model = models.CharField(max_length=200)
    client = models.CharField(max_length=100)
    n_requests = models.PositiveIntegerField(default=0)
    n_failed = models.PositiveIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(null=True)
    output_tokens = models.PositiveBigIntegerField(null=True)
    last_at = models.DateTimeField()

    class Meta:
        constraints = (
            # its index is that of the use of a week, of all models
            models.UniqueConstraint(
                fields=("hour", "engine_kind", "model", "client"), name="one_use_per_hour_and_client"
            ),
        )
        indexes = (models.Index(fields=("model", "hour"), name="use_model_hour"),)  # when it was used last

    def __str__(self) -> str:
        return f"{self.client} asked {self.model} {self.n_requests} times from {self.hour:%Y-%m-%d %H:%M} on"
