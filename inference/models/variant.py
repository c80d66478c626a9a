"""Smaller forms of models, and what they cost in quality."""

from typing import Any

from django.db import models

from inference.models.job import ModelJob
from inference.models.prompt_set import SHIPPED


class Variant(models.Model):
    """A model measured against the one it was made from. What was not measured is empty."""

    engine_kind = models.CharField(max_length=40)
    name = models.CharField(max_length=200)
    digest = models.CharField(max_length=100)
    quantization = models.CharField(max_length=40, blank=True)  # as the engine names it
    size_bytes = models.PositiveBigIntegerField()
    source = models.CharField(max_length=200)
    source_digest = models.CharField(max_length=100)
    source_quantization = models.CharField(max_length=40, blank=True)
    source_size_bytes = models.PositiveBigIntegerField()
    maker = models.CharField(max_length=20, blank=True)  # empty: it existed before it was measured
    job = models.ForeignKey(ModelJob, models.SET_NULL, null=True, blank=True, related_name="variants")
    made_at = models.DateTimeField()
    measured_at = models.DateTimeField(null=True, blank=True)
    # As inference.work says them: speed, quality, score, and `unmeasured`, why one of them is missing.
    measures = models.JSONField(default=dict)

    class Meta:
        ordering = ("source", "-size_bytes", "id")
        constraints = (
            models.UniqueConstraint(
                fields=("engine_kind", "digest", "source_digest"), name="one_variant_per_pair_of_digests"
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} of {self.source}"

    @property
    def size_ratio(self) -> float:
        return self.size_bytes / self.source_size_bytes

    @property
    def form(self) -> str:
        """What sets it apart from other variants of its source: its type, how it was weighed, its layers where some went."""
        kind, pruning = self.quantization or "type unknown", self.measure("pruning")
        if self.measure("importance"):
            kind += ", imatrix"
        if distillation := self.measure("distillation"):
            return f"{kind}, {len(distillation['kept'])} layers, distilled"
        return f"{kind}, {pruning['n_layers'] - len(pruning['dropped'])} layers" if pruning else kind

    @property
    def same_top(self) -> str:
        """Share of positions with the same most likely token, in words of a table."""
        value = self.measure("quality", "same_top", "value")
        return "–" if value is None else f"{value:.1%}"

    @property
    def kl(self) -> str:
        value = self.measure("quality", "kl", "value")
        return "–" if value is None else f"{value:.2g}"

    @property
    def prompts(self) -> str:
        """Which sets KL and right answers are of; empty where it is the shipped one, which needs no word."""
        found = (self.measure(name, "prompts", "name") for name in ("quality", "score"))
        return ", ".join(sorted({each for each in found if each and each != SHIPPED}))

    def measure(self, *path: str) -> Any:
        """`variant.measure("quality", "kl", "value")`; None where it was not measured."""
        found: Any = self.measures
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found
