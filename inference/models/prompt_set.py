"""Labelled prompts that people added, beside the household's that are shipped."""

from django.db import models

SHIPPED = "household"  # the sample model's own set, without the prompts that it was trained on


class PromptSet(models.Model):
    """`text`: JSON lines that inference.quality.labelled.parse has taken."""

    name = models.CharField(max_length=60, unique=True)
    text = models.TextField()
    sha256 = models.CharField(max_length=64)
    n = models.PositiveIntegerField()
    who = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return f"{self.name} ({self.n} prompts)"
