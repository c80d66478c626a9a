"""Which model answers for a name, and who decided it."""

from django.conf import settings
from django.db import models


class DecidedBy(models.TextChoices):
    PERSON = "person"
    PROFILE = "profile"
    OPTIMIZATION = "optimization"


class AliasChange(models.Model):
    """One decision; the newest of a name is in force. Nothing is ever changed or deleted, so every one can be undone."""

    name = models.CharField(max_length=200)
    before = models.CharField(
        max_length=200, blank=True
    )  # what answered; empty: the model of that name itself
    after = models.CharField(max_length=200, blank=True)
    # What a person decided, the product leaves alone.
    decided_by = models.CharField(max_length=12, choices=DecidedBy, default=DecidedBy.PERSON)
    who = models.CharField(max_length=150)  # stays readable when the account goes
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=("name", "-id"), name="alias_newest"),)  # what is in force

    def __str__(self) -> str:
        return f"{self.name}: {self.before or 'itself'} -> {self.after or 'itself'}"
