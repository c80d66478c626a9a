"""Places of cameras whose frames may share an answer."""

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models

from inference.gateway.frames import MAX_DISTANCE


class CacheZone(models.Model):
    """A zone that no row names compares no pictures."""

    name = models.CharField(max_length=64, unique=True)
    distance = models.PositiveSmallIntegerField(validators=[MaxValueValidator(MAX_DISTANCE)])
    who = models.CharField(max_length=150)  # stays readable when the account goes
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return f"{self.name}: {self.distance}"
