"""Which model answers for a name, and who decided it."""

from typing import Any

from django.conf import settings
from django.db import models


class DecidedBy(models.TextChoices):
    PERSON = "person"
    PROFILE = "profile"
    OPTIMIZATION = "optimization"


class Pressure(models.TextChoices):
    """Of memory, or GPU memory, as the gateway reads it; empty: never for that."""

    SOME = "some", "less than 20 % of memory free"
    HIGH = "high", "less than 10 % of memory free"


class AliasChange(models.Model):
    """One decision; the newest of a name is in force. Nothing is ever changed or deleted, so every one can be undone."""

    name = models.CharField(max_length=200)
    before = models.CharField(
        max_length=200, blank=True
    )  # what answered; empty: the model of that name itself
    after = models.CharField(max_length=200, blank=True)
    # What a person decided, the product leaves alone.
    decided_by = models.CharField(max_length=12, choices=DecidedBy, default=DecidedBy.PERSON)
    # Where requests go when the model that answers can't, and when else; a cloud of inference.models.engine by its name.
    cloud = models.CharField(max_length=40, blank=True)
    cloud_model = models.CharField(max_length=200, blank=True)
    on_queue = models.PositiveIntegerField(
        null=True
    )  # when more requests than this wait; null: never for that
    on_pressure = models.CharField(max_length=4, choices=Pressure, blank=True)
    first_byte_s = models.FloatField(null=True)  # when the answer has not begun by then
    who = models.CharField(max_length=150)  # stays readable when the account goes
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=("name", "-id"), name="alias_newest"),)  # what is in force

    def __str__(self) -> str:
        return f"{self.name}: {self.before or 'itself'} -> {self.after or 'itself'}"

    @property
    def conditions(self) -> dict[str, Any]:
        """When the cloud is asked before the local engine has failed."""
        return {
            "on_queue": self.on_queue,
            "on_pressure": self.on_pressure,
            "first_byte_s": self.first_byte_s,
        }
