"""Who may ask the gateway, and what each has used."""

from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.urls import reverse

from inference.gateway.frames import MAX_DISTANCE

# It stands in filters, logs and records.
NAME = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9 ._@-]*\Z",
    "Use letters, digits, blanks and . _ @ -, beginning with a letter or digit.",
)
AT_LEAST_ONE = MinValueValidator(1, "Give 1 or more, or leave it empty for no limit.")


# What a person may change later.
LIMITS = (
    "expires_at", "requests_per_minute", "tokens_per_minute", "tokens_per_month", "usd_per_month", "allowed_models",
    "manages", "frame_distance",
)  # fmt: skip


class ApiKey(models.Model):
    """The token itself is kept nowhere: `digest` is its keyed hash (inference/gateway/tokens.py), `prefix` how it begins.
    Null: no limit."""

    name = models.CharField(max_length=64, unique=True, validators=[NAME])
    prefix = models.CharField(max_length=16)
    digest = models.CharField(max_length=64, unique=True, editable=False)  # hex
    enabled = models.BooleanField(default=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, validators=[AT_LEAST_ONE])
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True, validators=[AT_LEAST_ONE])
    tokens_per_month = models.PositiveBigIntegerField(null=True, blank=True, validators=[AT_LEAST_ONE])
    usd_per_month = models.DecimalField(
        max_digits=12,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal("0.01"), "Give 0.01 or more, or leave it empty for no limit.")],
    )
    allowed_models = models.JSONField(default=list, blank=True)  # globs; empty: all
    manages = models.BooleanField(default=False)
    frame_distance = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MaxValueValidator(MAX_DISTANCE)]
    )
    created_at = models.DateTimeField()
    rotated_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    who = models.CharField(max_length=150)  # made it; stays readable when the account goes
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def get_absolute_url(self) -> str:
        return reverse("api-key", args=[self.pk])

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


class ApiKeyMonth(models.Model):
    """What a key has used in a calendar month (UTC); grows with each request that is stored, and outlives those."""

    key = models.ForeignKey(ApiKey, models.CASCADE, related_name="months")
    month = models.CharField(max_length=7)  # 2026-11
    n_requests = models.PositiveBigIntegerField(default=0)
    n_errors = models.PositiveBigIntegerField(default=0)
    n_tokens = models.PositiveBigIntegerField(default=0)
    cost_usd = models.FloatField(default=0.0)  # of those requests whose price is known
    n_costed = models.PositiveBigIntegerField(default=0)  # those

    class Meta:
        constraints = (models.UniqueConstraint(fields=("key", "month"), name="api_key_month_once"),)

    def __str__(self) -> str:
        return f"{self.key.name} in {self.month}"
