"""Engines that people added to those of the settings, and what the clouds among them cost."""

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models


class EngineKind(models.TextChoices):
    OLLAMA = "ollama", "Ollama"
    OPENAI = "openai", "OpenAI-compatible cloud"


class Engine(models.Model):
    """One that a person added. Those of the settings are no rows: inference.engines.selectors lists both."""

    name = models.CharField(
        max_length=40,
        unique=True,
        validators=[
            RegexValidator(
                r"\A[a-z0-9][a-z0-9-]*\Z", "Small letters, digits and '-', as in 'workstation' or 'groq-2'."
            )
        ],
        help_text="Requests, models and jobs name it by this: it stays as it is.",
    )
    kind = models.CharField(max_length=12, choices=EngineKind)
    url = models.CharField("address", max_length=200)
    enabled = models.BooleanField("in use", default=True)
    priority = models.PositiveSmallIntegerField(
        default=50,
        help_text="Of two engines with a model the one with the lower number answers; Ollama of the settings has 10, the "
        "embedded engine 90. Clouds come after all local ones.",
    )
    sealed = models.TextField(blank=True, editable=False)  # safeguards.sealing: the API key
    # Whose prices count, as genai-prices names them; empty: of whoever has this address, so maybe nobody's.
    prices = models.CharField(max_length=40, blank=True)
    budget_usd = models.DecimalField(
        "budget of a month (USD)",
        max_digits=9,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Empty: no limit. When it is used up, nothing more goes there until the month (UTC) ends.",
    )
    changed_at = models.DateTimeField(editable=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def is_cloud(self) -> bool:
        return self.kind == EngineKind.OPENAI


class CloudMonth(models.Model):
    """What a cloud's requests of a month (UTC) cost: counted as they are stored, as the requests themselves are deleted
    sooner."""

    engine = models.CharField(max_length=40)
    month = models.DateField()  # its first day
    n_requests = models.PositiveIntegerField(default=0)
    n_unpriced = models.PositiveIntegerField(default=0)  # no price or no count of tokens is known
    cost_usd = models.DecimalField(max_digits=14, decimal_places=8, default=0)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("engine", "month"), name="one_month_per_cloud"),)

    def __str__(self) -> str:
        return f"{self.engine} {self.month:%Y-%m}: {self.cost_usd} USD"
